// The seams between sound and silence where samples are missing, as core/realtime/concealment.py makes them: none clicks.
//
// Where sound ends, what was heard last is heard once more backwards, under a gain that falls from 1 to 0 in F samples.
// Where it comes back, its gain rises from 0 to 1 in F samples, and what is left of the falling one is heard with it.
// Blocks may be shorter than F here, as those of a browser are (128 samples).

export class Seams {
  /** fade: F samples, at least 1. */
  constructor(fade) {
    this.rise = Float32Array.from({ length: fade }, (_, i) => (i + 1) / fade)
    this.fall = this.rise.map(gain => 1 - gain)
    this.echo = new Float32Array(fade) // what is heard backwards, its gain applied
    this.before = new Float32Array(fade) // the end of what was heard
    this.echoed = this.risen = fade // samples of echo and of rising gain that are over
    this.silent = false
  }

  /** out, of which the first `there` samples are sound, becomes what is heard. */
  fill(out, there) {
    this.raise(out, there)
    out.fill(0, there)
    const ends = there < out.length && (there > 0 || !this.silent)
    this.addEcho(out, 0, ends ? there : out.length)
    if (ends) {
      this.turn(out, there)
      this.addEcho(out, there, out.length)
    }
    this.silent = there < out.length
    if (this.silent) this.risen = 0
    this.remember(out)
  }

  /** The sound that comes next does not go on where the last one ended: cross over. */
  cut() {
    if (!this.silent) this.turn(this.before, 0)
    this.risen = 0
  }

  raise(out, count) {
    for (let i = 0; i < count && this.risen < this.rise.length; i++) out[i] *= this.rise[this.risen++]
  }

  addEcho(out, begin, end) {
    for (let i = begin; i < end && this.echoed < this.echo.length; i++) out[i] += this.echo[this.echoed++]
  }

  /** Begin an echo of what was heard up to the first `there` samples of `out`. */
  turn(out, there) {
    const fade = this.echo.length
    const count = Math.min(fade, there)
    for (let i = 0; i < fade; i++)
      this.echo[i] = (i < count ? out[there - 1 - i] : this.before[fade - 1 - (i - count)]) * this.fall[i]
    this.echoed = 0
  }

  remember(out) {
    const fade = this.before.length
    const kept = Math.max(0, fade - out.length)
    this.before.copyWithin(0, fade - kept)
    for (let i = kept; i < fade; i++) this.before[i] = out[out.length - fade + i]
  }
}
