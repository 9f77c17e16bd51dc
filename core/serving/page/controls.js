// What is changed while playing: heard and shown at once, and told to the server.

import { nextDownbeat } from './beats.js'
import { firstSamples, live } from './store.js'

export class Controls {
  constructor({ store, engine, link, song, clicks }) {
    Object.assign(this, { store, engine, link, song, clicks })
  }

  /** Tell the server, if a session is going on. */
  tell(message) {
    if (live(this.store.values.phase)) this.link.say(message)
  }

  mute(on) {
    this.engine.order({ gain: on ? 0 : 1 })
    if (!on) this.song.silence(false)
    this.store.set({ muted: on })
    this.tell({ type: 'mute', on })
  }

  freeze(on) {
    this.store.set({ frozen: on })
    this.tell({ type: 'freeze', on })
  }

  /** Every sound stops at once; the session goes on, muted. */
  panic() {
    this.clicks.stop()
    this.song.silence(true)
    if (!live(this.store.values.phase)) return
    this.tell({ type: 'panic' })
    this.mute(true)
  }

  /** {bpm, beats_per_bar, place?}, "follow" or "off"; without a place the bars go on as they lie. */
  metronome(value) {
    const { phase, grid } = this.store.values
    if (!live(phase)) return
    if (!value.bpm) {
      this.store.set({ grid: null })
      return this.tell({ type: 'metronome', value })
    }
    const { rate, place: now } = this.engine
    const heard = now + firstSamples(this.store.values, rate)
    const place = Math.round(value.place ?? (grid ? nextDownbeat(grid, rate, heard) : heard))
    this.store.set({ grid: { place, bpm: value.bpm, perBar: value.beats_per_bar } })
    this.tell({ type: 'metronome', value: { ...value, place } })
  }
}
