// "What should it listen to?": a song file, the built-in song or the microphone, and how loud that is.

import { BPM, CHART, PER_BAR, builtIn } from './built_in.js'
import { at, calm, offer, show, write } from './dom.js'
import { PROCESSING, devices, looksLikeBluetooth } from './microphone.js'
import { decoded } from './song.js'
import { busy, live } from './store.js'
import { WORDS } from './words.js'

const LOUD = 1500 // ms for which a clip is shown
const GUESS = 30 // ms that are added to what a browser says of its latency
const REFUSALS = { NotAllowedError: 'refusedMicrophone', SecurityError: 'refusedMicrophone', NotFoundError: 'noMicrophone', OverconstrainedError: 'noMicrophone' }

const boxes = () => Object.fromEntries(PROCESSING.map(name => [name, at(name).checked]))

export class Listening {
  /** parts: {store, engine, course, song, microphone, music}. */
  constructor(parts) {
    Object.assign(this, parts)
    this.peak = 0
    this.clippedAt = -Infinity
    this.drawn = 0
    this.wire()
    this.store.show(values => this.draw(values))
  }

  wire() {
    at('choose-file').addEventListener('click', () => at('file').click())
    at('file').addEventListener('change', () => this.file(at('file').files[0]))
    at('choose-built-in').addEventListener('click', () => this.useBuiltIn())
    at('choose-microphone').addEventListener('click', () => this.useMicrophone(''))
    at('input').addEventListener('change', () => this.useMicrophone(at('input').value))
    at('output').addEventListener('change', () => this.useOutput(at('output').value))
    for (const name of PROCESSING) at(name).addEventListener('change', () => this.useMicrophone(at('input').value))
    at('song-volume').addEventListener('input', () => this.songVolume())
    this.songVolume()
    this.wireDrop()
    navigator.mediaDevices?.addEventListener('devicechange', () => this.devicesChanged())
  }

  wireDrop() {
    const files = event => event.dataTransfer?.types.includes('Files')
    addEventListener('dragover', event => files(event) && (event.preventDefault(), show(at('drop'), true)))
    addEventListener('dragleave', event => event.relatedTarget ?? show(at('drop'), false))
    addEventListener('drop', event => {
      if (!files(event)) return
      event.preventDefault()
      show(at('drop'), false)
      this.file(event.dataTransfer.files[0])
    })
  }

  get blocked() {
    return Boolean(this.engine.remote) || busy(this.store.values.phase) || live(this.store.values.phase)
  }

  // a song

  async file(file) {
    if (!file || this.blocked) return
    await this.opening(async () => {
      const buffer = await decoded(this.engine, file).catch(() => null)
      at('file').value = ''
      if (!buffer) return this.fail(WORDS.badFile(file.name))
      await this.useSong({ name: file.name, buffer })
    })
  }

  async useBuiltIn() {
    if (this.blocked) return
    await this.opening(async () => {
      const samples = builtIn(this.engine.rate)
      const buffer = this.engine.context.createBuffer(1, samples.length, this.engine.rate)
      buffer.copyToChannel(samples, 0)
      await this.useSong({ name: WORDS.builtIn, buffer, bpm: BPM, perBar: PER_BAR, chart: CHART })
    })
  }

  async useSong(song) {
    this.microphone.close()
    this.store.set({ source: 'song', song, device: null, measured: null })
    this.music.suit('song', song)
    await this.course.assume(this.store.values.first)
    this.ready('start') // so that Space starts
  }

  // the microphone

  async useMicrophone(id) {
    if (this.blocked) return
    const again = this.store.values.source === 'microphone'
    await this.opening(async () => {
      await this.microphone.open(id, boxes()).catch(error => {
        throw Object.assign(new Error(error.message), { told: WORDS[REFUSALS[error.name] ?? 'busyMicrophone'] })
      })
      const device = this.microphone.told(boxes())
      this.microphone.track.onended = () => this.fail(WORDS.changedDevice)
      this.store.set({ source: 'microphone', device, song: null, measured: null })
      await this.listDevices(device.id)
      if (!again) this.music.suit('microphone')
      await this.course.assume(Math.round((this.engine.outputMs + device.ms + GUESS) / 5) * 5)
      this.ready('measure-do')
      if (!this.store.values.notice) this.store.set({ notice: this.warning(device) })
    })
  }

  warning(device) {
    return looksLikeBluetooth(device) ? { tone: 'warn', text: WORDS.bluetooth(device.name) } : null
  }

  async listDevices(id) {
    const { inputs, outputs } = await devices()
    offer(at('input'), inputs, id)
    show(at('output-field'), this.engine.choosesOutput && outputs.length > 0)
    show(at('output-none'), !this.engine.choosesOutput)
    offer(at('output'), outputs.map(([value, text]) => [value === 'default' ? '' : value, text]), at('output').value)
  }

  async useOutput(id) {
    await this.engine.setOutput(id).catch(error => this.fail(error.message))
    this.changed()
  }

  async devicesChanged() {
    if (this.store.values.source !== 'microphone') return
    await this.listDevices(at('input').value)
    this.changed()
  }

  changed() {
    if (this.store.values.source === 'microphone') this.store.set({ notice: { tone: 'warn', text: WORDS.changedDevice } })
  }

  // the sound device of the server's machine

  async useMachine(device) {
    await this.opening(async () => {
      this.store.set({ source: 'machine', device: { ...device, kept: [] }, song: null, measured: null })
      this.music.suit('microphone')
      if (device.clock && this.store.values.model?.metronome) this.music.useClock()
      await this.course.assume(Math.round(device.first_ms))
      this.ready('measure-do')
    })
  }

  // all

  /** Open the sound in the handler of a click, then do the rest; what fails is told. */
  async opening(work) {
    this.store.set({ phase: 'opening', notice: null })
    try {
      await this.engine.open()
      this.engine.setVolume(at('volume').value / 100)
      await work()
    } catch (error) {
      this.fail(error.told ?? error.message)
    }
  }

  /** Unless the server had something against it; the focus goes to what comes next. */
  ready(next) {
    if (this.store.values.phase !== 'opening') return
    this.store.set({ phase: 'ready' })
    this.store.draw()
    at(next).focus()
  }

  fail(text) {
    this.store.set({ phase: this.store.values.source ? 'ready' : 'choose', notice: { tone: 'bad', text } })
  }

  songVolume() {
    const value = at('song-volume').value
    this.song.setVolume(value / 100)
    write(at('song-volume-said'), WORDS.percent(value))
  }

  draw({ source, song, device, phase }) {
    const pressed = { 'choose-file': song && !song.bpm, 'choose-built-in': song?.bpm, 'choose-microphone': source === 'microphone' }
    for (const [id, on] of Object.entries(pressed)) {
      at(id).setAttribute('aria-pressed', Boolean(on))
      show(at(id), Boolean(on) || !live(phase))
      at(id).disabled = this.blocked
    }
    show(at('song'), source === 'song')
    show(at('microphone'), source === 'microphone' || source === 'machine')
    for (const id of ['choices', 'input-field', 'advice', 'sound-more']) show(at(id), !this.engine.remote)
    show(at('machine'), source === 'machine')
    if (source === 'machine') write(at('machine'), WORDS.machine(device.name, device.rate))
    for (const id of ['input', ...PROCESSING]) at(id).disabled = this.blocked
    if (song) {
      write(at('song-name'), song.name)
      write(at('song-length'), WORDS.seconds(song.buffer.duration))
    }
    show(at('boxes-kept'), Boolean(device?.kept.length))
    if (device?.kept.length) write(at('boxes-kept'), WORDS.kept(device.kept.map(name => WORDS[name].toLowerCase()).join(', ')))
    show(at('song-progress'), live(phase) && source === 'song')
  }

  /** A report of the audio thread: the level, some times a second. */
  report({ peakIn, clipped }) {
    if (peakIn === undefined) return
    this.peak = Math.max(this.peak, peakIn)
    const now = performance.now()
    if (clipped) this.clippedAt = now
    if (now - this.drawn < (calm() ? 1000 : 100)) return
    this.drawn = now
    this.level(now)
  }

  level(now) {
    const decibel = Math.max(-60, 20 * Math.log10(this.peak || 1e-9))
    if (!calm()) at('level').value = decibel
    write(at('level-said'), WORDS.decibel(decibel))
    show(at('clip'), now - this.clippedAt < LOUD)
    write(at('clip'), WORDS.clip)
    this.peak = 0
    const { song } = this.store.values
    if (song && this.song.source) at('song-progress').value = this.song.position / song.buffer.duration
  }
}
