// A sound device of the server's machine in the place of this browser's sound: the page is its remote control.

import { Clicks } from './clicks.js'

const EVERY = 100 // ms between two messages of a dial that is being moved

/** As Engine, for what the parts of the page use of it. */
export class RemoteEngine {
  /** rate: Hz of the device. report: called with what the server tells of it, twice a second. */
  constructor({ link, rate, report }) {
    Object.assign(this, { link, rate, report })
    this.remote = true
    this.context = this.pipe = this.node = null
    this.outputMs = this.blockMs = 0 // the server knows its device
    this.known = { place: 0, at: performance.now() }
    this.silent = false
    this.waiting = null
    link.addEventListener('said', ({ detail }) => this.hear(detail))
  }

  async open() {}

  /** The place that is being played, by what the server said last. */
  get place() {
    return Math.round(this.known.place + ((performance.now() - this.known.at) / 1000) * this.rate)
  }

  hear({ device }) {
    if (!device) return
    this.known = { place: device.place, at: performance.now() }
    const { counts } = device
    this.report({ ...device, counts: counts && { ...counts, leastMargin: counts.leastMargin ?? Infinity } })
  }

  order({ first, gain }) {
    if (first !== undefined) this.say({ first_ms: (1000 * first) / this.rate })
    if (gain !== undefined) this.say({ silent: gain === 0 })
  }

  setVolume(volume) {
    this.volume = volume
    this.waiting ??= setTimeout(() => {
      this.waiting = null
      this.say({ volume: this.volume })
    }, EVERY)
  }

  get choosesOutput() {
    return false
  }

  say(wish) {
    if (this.link.welcome) this.link.say({ type: 'device', ...wish })
  }
}

/** Clicks that the device plays. */
export class RemoteClicks extends Clicks {
  at(place, { strong }) {
    this.engine.say({ click: Math.round(place), strong })
  }

  stop() {
    this.next = null
    this.engine.say({ hush: true })
  }
}
