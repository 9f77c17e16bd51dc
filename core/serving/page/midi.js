// A MIDI clock through WebMIDI.

import { Clock } from './clock.js'

const SILENT = 1000 // ms without a tick after which the sender has ended without a stop

export class MidiClock {
  static there = 'requestMIDIAccess' in navigator

  /** told({bpm, ago, beat}): at every beat; ago: seconds since the beat of that number, 0 the song's first; told(null): the clock stands. */
  constructor(told) {
    this.told = told
    this.clock = new Clock()
    this.pulse = null
    this.access = null
    this.waiting = null
  }

  /** Listen to all inputs. Rejects where the browser refuses. */
  async open() {
    this.access ??= await navigator.requestMIDIAccess()
    const listen = () => this.access.inputs.forEach(input => (input.onmidimessage = event => this.hear(event)))
    this.access.onstatechange = listen
    listen()
  }

  hear({ data, timeStamp }) {
    this.clock.receive(data, timeStamp / 1000)
    clearTimeout(this.waiting)
    this.waiting = setTimeout(() => this.tell(null), SILENT)
    if (this.clock.pulse !== this.pulse) this.tell(this.clock.pulse)
  }

  tell(pulse) {
    const stands = !pulse && !this.pulse
    this.pulse = pulse
    if (pulse) this.told({ bpm: pulse.bpm, beat: pulse.beat, ago: performance.now() / 1000 - pulse.time })
    else if (!stands) this.told(null)
  }
}
