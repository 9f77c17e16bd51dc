// A MIDI clock through WebMIDI: 24 ticks a beat; "start" is on a downbeat.

const TICKS = 24
const KEPT = 4 * TICKS // ticks over which the tempo is averaged
const CLOCK = 0xf8
const START = 0xfa

export class MidiClock {
  static there = 'requestMIDIAccess' in navigator

  /** told({bpm, ago}): at every beat; ago: seconds since the tick that is a downbeat or, without a start, any beat. */
  constructor(told) {
    this.told = told
    this.times = []
    this.ticks = 0
    this.access = null
  }

  /** Listen to all inputs. Rejects where the browser refuses. */
  async open() {
    this.access ??= await navigator.requestMIDIAccess()
    const listen = () => this.access.inputs.forEach(input => (input.onmidimessage = event => this.hear(event)))
    this.access.onstatechange = listen
    listen()
  }

  hear({ data, timeStamp }) {
    if (data[0] === START) Object.assign(this, { times: [], ticks: 0 })
    if (data[0] !== CLOCK) return
    this.times = [...this.times, timeStamp].slice(-KEPT - 1)
    const beat = this.ticks % TICKS === 0
    this.ticks += 1
    if (beat && this.times.length > TICKS) this.tell(timeStamp)
  }

  tell(now) {
    const spans = this.times.length - 1
    const bpm = (60000 * spans) / (now - this.times[0]) / TICKS
    this.told({ bpm: Math.round(10 * bpm) / 10, ago: (performance.now() - now) / 1000 })
  }
}
