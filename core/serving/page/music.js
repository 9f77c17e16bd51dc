// Tempo and chords: what the model is told of them, typed, tapped, followed, or by a MIDI clock.

import { Taps, sameGrid } from './beats.js'
import { at, choose, chosen, show, write } from './dom.js'
import { MidiClock } from './midi.js'
import { firstSamples, live } from './store.js'
import { WORDS } from './words.js'

export class Music {
  constructor({ store, engine, link, controls }) {
    Object.assign(this, { store, engine, controls, taps: new Taps() })
    this.midi = new MidiClock(pulse => this.clock(pulse))
    link.addEventListener('said', ({ detail }) => detail.clock && this.serverClock(detail.clock))
    this.wire()
    store.show(values => this.draw(values))
  }

  wire() {
    at('tap').addEventListener('click', () => this.tap())
    for (const id of ['bpm', 'per-bar']) at(id).addEventListener('change', () => this.tempoChanged())
    for (const radio of document.querySelectorAll('input[name="metronome"]')) radio.addEventListener('change', () => this.sourceChanged())
    for (const radio of document.querySelectorAll('input[name="chart"]')) radio.addEventListener('change', () => this.chartChanged())
    at('chart').addEventListener('change', () => this.typed())
  }

  // tempo

  get tempo() {
    const bpm = Math.min(300, Math.max(30, Number(at('bpm').value) || 100))
    const bar = Math.min(16, Math.max(1, Math.round(Number(at('per-bar').value)) || 4))
    return { bpm, beats_per_bar: bar }
  }

  get metronome() {
    const source = chosen('metronome')
    if (source === 'clock' && this.clockOfServer) return { clock: true, beats_per_bar: this.tempo.beats_per_bar }
    return source === 'bpm' || source === 'clock' ? this.tempo : source
  }

  /** A MIDI clock of the server's machine, where it plays through a device of that machine. */
  get clockOfServer() {
    return this.store.values.device?.clock
  }

  tap(time = performance.now() / 1000) {
    const bpm = this.taps.tap(time)
    if (bpm === null) return
    at('bpm').value = bpm
    if (live(this.store.values.phase)) this.controls.metronome({ ...this.tempo, place: this.tappedPlace() })
    choose('metronome', 'bpm')
    this.note()
  }

  /** Tell the page where the beat comes from. */
  note() {
    this.store.set({ beat: chosen('metronome') })
  }

  /** The place of what is heard at this moment. */
  tappedPlace() {
    const { place, rate, outputMs } = this.engine
    return place + firstSamples(this.store.values, rate) - (outputMs / 1000) * rate
  }

  tempoChanged() {
    Object.assign(at('bpm'), { value: this.tempo.bpm })
    Object.assign(at('per-bar'), { value: this.tempo.beats_per_bar })
    const { metronome } = this
    if (metronome.bpm || metronome.clock) this.controls.metronome(metronome)
  }

  async sourceChanged() {
    this.say('')
    this.note()
    if (chosen('metronome') === 'clock') this.say(WORDS.midiWaiting)
    if (chosen('metronome') === 'clock' && !this.clockOfServer) return this.startClock()
    this.controls.metronome(this.metronome)
  }

  async startClock() {
    await this.midi.open().catch(() => this.say(WORDS.midiRefused))
  }

  /** Follow the clock of the server's machine, whose sender counts in. */
  useClock() {
    choose('metronome', 'clock')
    at('count-in').checked = false
    this.say(WORDS.midiWaiting)
    this.note()
  }

  /** The browser's MIDI clock tells a beat, or null: it stands. */
  clock(pulse) {
    if (chosen('metronome') !== 'clock' || this.clockOfServer) return
    this.showClock(pulse?.bpm)
    if (!live(this.store.values.phase)) return
    if (pulse) return this.takeBeat(pulse)
    if (this.typedChart) this.controls.tell({ type: 'chart', value: 'off' }) // first: it needs the beat
    this.controls.metronome('off')
  }

  /** Beat `beat` of the song was `ago` seconds ago. */
  takeBeat({ bpm, ago, beat }) {
    const { rate } = this.engine
    const place = Math.round(this.tappedPlace() - (ago + (beat * 60) / bpm) * rate)
    if (!this.moved({ bpm, place })) return
    const stood = !this.store.values.grid
    this.controls.metronome({ ...this.tempo, bpm, place })
    if (stood && this.typedChart) this.controls.tell({ type: 'chart', value: this.chart, ...(place < 0 ? {} : { place }) })
  }

  /** The server tells {bpm, place, said} of its machine's clock: tempo and the song's first beat, null where it stands. */
  serverClock({ bpm, place, said }) {
    if (chosen('metronome') !== 'clock' || !this.clockOfServer) return
    this.showClock(bpm, said)
    if (this.store.values.phase !== 'playing') return
    if (!bpm) this.store.set({ grid: null })
    else if (this.moved({ bpm, place })) this.store.set({ grid: this.gridOf({ bpm, place }) })
  }

  gridOf({ bpm, place }) {
    return { place, bpm, perBar: this.tempo.beats_per_bar }
  }

  /** The beat is elsewhere than the page has it. */
  moved(clock) {
    return !sameGrid(this.store.values.grid, this.gridOf(clock), this.engine.rate, this.engine.place)
  }

  showClock(bpm, said) {
    if (bpm) at('bpm').value = Math.round(10 * bpm) / 10
    this.say(said ? WORDS.sentence(said) : bpm ? WORDS.midiTempo(bpm) : WORDS.midiWaiting)
  }

  say(text) {
    show(at('metronome-said'), Boolean(text))
    write(at('metronome-said'), text)
  }

  // chords

  get chart() {
    const source = chosen('chart')
    return source === 'text' ? at('chart').value.trim() || 'off' : source
  }

  get typedChart() {
    return chosen('chart') === 'text' && this.chart !== 'off'
  }

  typed() {
    choose('chart', 'text')
    this.chartChanged()
  }

  chartChanged() {
    this.store.set({ problem: null, chart: this.chart })
    this.controls.tell({ type: 'chart', value: this.chart })
  }

  // both

  wishes() {
    const { metronome, chart } = this
    const counts = at('count-in').checked && !at('count-in').disabled
    const beats = Math.max(1, Math.round(Number(at('count-beats').value)) || 4)
    return { metronome, chart, count_in: counts ? { ...this.tempo, beats } : null }
  }

  /** Choose what suits a source best; song: {bpm, perBar, chart} where they are known. */
  suit(source, song) {
    const { model } = this.store.values
    const can = what => Boolean(model?.[what] && model.followers?.[what] && !this.hears(what))
    const known = source === 'microphone' || song.bpm
    choose('metronome', !model?.metronome ? 'off' : known ? 'bpm' : can('metronome') ? 'follow' : 'off')
    choose('chart', !model?.chart ? 'off' : song?.chart ? 'text' : can('chart') && source === 'song' ? 'follow' : 'off')
    at('count-in').checked = Boolean(known)
    if (song?.bpm) Object.assign(at('bpm'), { value: song.bpm })
    if (song?.bpm) Object.assign(at('per-bar'), { value: song.perBar })
    if (song?.chart) at('chart').value = song.chart
    this.store.set({ chart: this.chart })
    this.note()
  }

  draw({ model, problem, source, beat }) {
    show(at('beat-hint'), Boolean(source && model?.metronome && beat === 'off' && !this.hears('metronome')))
    this.allow('metronome', { bpm: model?.metronome, follow: model?.metronome && model.followers?.metronome, clock: model?.metronome && (this.clockOfServer || MidiClock.there), off: true })
    this.allow('chart', { text: model?.chart, follow: model?.chart && model.followers?.chart, off: true })
    show(at('chart-said'), Boolean(problem))
    write(at('chart-said'), problem ? WORDS.sentence(problem.why) : '')
    at('chart').setAttribute('aria-invalid', problem?.what === 'chart')
    at('chart').disabled = !model?.chart
  }

  /** Options that this model or server lacks cannot be chosen, and say why. */
  allow(name, options) {
    for (const [value, can] of Object.entries(options)) {
      const radio = document.querySelector(`input[name="${name}"][value="${value}"]`)
      radio.disabled = !can
      write(radio.nextElementSibling, can ? this.name(name, value) : this.lack(name, value))
    }
  }

  /** Whether the model hears for itself what it is not told. */
  hears(name) {
    return Boolean(this.store.values.model?.hears?.includes(name))
  }

  name(name, value) {
    if (value === 'off' && this.hears(name)) return WORDS[name + 'Heard']
    return WORDS[name + value[0].toUpperCase() + value.slice(1)]
  }

  lack(name, value) {
    const { model } = this.store.values
    if (model && !model[name]) return WORDS.untold(this.name(name, value))
    return value === 'clock' ? WORDS.noMidi(this.name(name, value)) : WORDS.lacking(this.name(name, value))
  }
}

