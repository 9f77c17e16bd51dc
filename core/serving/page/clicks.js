// Clicks to be heard at places: the count-in, and the metronome where it is wanted.

const AHEAD = 1.5 // seconds for which clicks are planned

export class Clicks {
  constructor(engine) {
    this.engine = engine
    this.planned = []
    this.next = null
  }

  /** Click so that it belongs to input place `place`, `first` samples being what sound takes. */
  at(place, { strong, first }) {
    const { context, rate } = this.engine
    const when = (place - first) / rate
    if (when < context.currentTime) return
    const tone = new OscillatorNode(context, { frequency: strong ? 1760 : 1320 })
    const gain = new GainNode(context, { gain: 0 })
    gain.gain.setValueAtTime(0.35, when)
    gain.gain.setTargetAtTime(0, when + 0.01, 0.012)
    tone.connect(gain).connect(context.destination)
    tone.start(when)
    tone.stop(when + 0.1)
    this.planned.push(tone)
    tone.onended = () => this.planned.splice(this.planned.indexOf(tone), 1)
  }

  /** The beats of a grid that lie soon ahead, each once: those from place `from` on and before `until`. */
  follow(grid, from, first, until = Infinity) {
    const beat = (60 / grid.bpm) * this.engine.rate
    const soon = this.engine.place + first
    const key = `${grid.place} ${grid.bpm}`
    if (this.next?.key !== key) this.next = { key, beat: Math.ceil((Math.max(from, soon) - grid.place) / beat) }
    const end = Math.min(until, soon + AHEAD * this.engine.rate)
    for (; grid.place + this.next.beat * beat < end; this.next.beat++)
      this.at(grid.place + this.next.beat * beat, { strong: this.next.beat % grid.perBar === 0, first })
  }

  stop() {
    for (const tone of [...this.planned]) tone.stop()
    this.next = null
  }
}
