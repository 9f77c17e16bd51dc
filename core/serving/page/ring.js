// Samples put down at absolute places, each to be read at its place or never. What is not there is NaN inside.

export class PlacedRing {
  /** Holds the places from `past` up to past + capacity. */
  constructor(capacity, past = 0) {
    this.samples = new Float32Array(capacity).fill(NaN)
    this.past = past // all before this has been read, or missed
    this.written = 0 // the place after the last sample that was put down
  }

  /** Put samples down from `place` on; those of the past and those beyond the ring are left out. How many were not kept. */
  write(place, samples) {
    const begin = Math.min(Math.max(place, this.past), place + samples.length)
    const end = Math.max(begin, Math.min(place + samples.length, this.past + this.samples.length))
    for (let at = begin, slot = begin % this.samples.length; at < end; at++) {
      const sample = samples[at - place]
      this.samples[slot] = Number.isFinite(sample) ? sample : 0
      if (++slot === this.samples.length) slot = 0
    }
    if (place + samples.length > this.written) this.written = place + samples.length
    return samples.length - (end - begin)
  }

  /** Copy to `out` what is there from `place` on without a gap; how many samples. All before place + out.length is past. */
  read(place, out) {
    this.forget(place)
    let slot = place % this.samples.length
    let there = 0
    let whole = true
    for (let i = 0; i < out.length; i++) {
      const sample = this.samples[slot]
      whole = whole && sample === sample
      if (whole) out[there++] = sample
      this.samples[slot] = NaN
      if (++slot === this.samples.length) slot = 0
    }
    this.past = place + out.length
    return there
  }

  /** What lies before `place` will not be read any more; a place before the past only makes room anew. */
  forget(place) {
    const count = Math.min(place - this.past, this.samples.length)
    for (let i = 0; i < count; i++) this.samples[(this.past + i) % this.samples.length] = NaN
    // Going back leaves samples at the far end that are now beyond the ring.
    for (let i = 0; i < Math.min(this.past - place, this.samples.length); i++)
      this.samples[(place + i) % this.samples.length] = NaN
    this.past = place
  }
}
