// Tempo and chords: what the model is told of them, typed, tapped, followed, or by a MIDI clock.

import { Taps } from './beats.js'
import { at, choose, chosen, show, write } from './dom.js'
import { MidiClock } from './midi.js'
import { live } from './store.js'
import { WORDS } from './words.js'

export class Music {
  constructor({ store, engine }) {
    Object.assign(this, { store, engine, taps: new Taps(), course: null })
    this.midi = new MidiClock(tempo => this.clock(tempo))
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
    return source === 'bpm' || source === 'clock' ? this.tempo : source
  }

  tap(time = performance.now() / 1000) {
    const bpm = this.taps.tap(time)
    if (bpm === null) return
    at('bpm').value = bpm
    if (live(this.store.values.phase)) this.course.metronome({ ...this.tempo, place: this.tappedPlace() })
    choose('metronome', 'bpm')
    this.note()
  }

  /** Tell the page where the beat comes from. */
  note() {
    this.store.set({ beat: chosen('metronome') })
  }

  /** The place of what is heard at this moment. */
  tappedPlace() {
    return this.engine.place + this.course.first - (this.engine.outputMs / 1000) * this.engine.rate
  }

  tempoChanged() {
    Object.assign(at('bpm'), { value: this.tempo.bpm })
    Object.assign(at('per-bar'), { value: this.tempo.beats_per_bar })
    if (this.metronome.bpm) this.course.metronome(this.tempo)
  }

  async sourceChanged() {
    this.say('')
    this.note()
    if (chosen('metronome') === 'clock') return this.startClock()
    this.course.metronome(this.metronome)
  }

  async startClock() {
    this.say(WORDS.midiWaiting)
    await this.midi.open().catch(() => this.say(WORDS.midiRefused))
  }

  /** A MIDI clock tells {bpm, downbeat: seconds ago or null}. */
  clock({ bpm, ago }) {
    if (chosen('metronome') !== 'clock') return
    at('bpm').value = bpm
    this.say(WORDS.midiTempo(bpm))
    if (live(this.store.values.phase)) this.course.metronome({ ...this.tempo, place: this.tappedPlace() - ago * this.engine.rate })
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

  typed() {
    choose('chart', 'text')
    this.chartChanged()
  }

  chartChanged() {
    this.store.set({ problem: null, chart: this.chart })
    this.course.dial({ type: 'chart', value: this.chart })
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
    const can = what => Boolean(model?.[what] && model.followers?.[what])
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
    show(at('beat-hint'), Boolean(source && model?.metronome && beat === 'off'))
    this.allow('metronome', { bpm: model?.metronome, follow: model?.metronome && model.followers?.metronome, clock: model?.metronome && MidiClock.there, off: true })
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

  name(name, value) {
    return WORDS[name + value[0].toUpperCase() + value.slice(1)]
  }

  lack(name, value) {
    const { model } = this.store.values
    if (model && !model[name]) return WORDS.untold(this.name(name, value))
    return value === 'clock' ? WORDS.noMidi(this.name(name, value)) : WORDS.lacking(this.name(name, value))
  }
}

