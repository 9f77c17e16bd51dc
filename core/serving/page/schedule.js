// What is heard when, and what is counted: the audio side of core/realtime/audio_bridge.py, for a sound card's blocks.
//
// Output sample n belongs to input sample n, whatever happens. A sample that is not there at its place is missing: what is
// there of the block is heard, then the sound fades into silence, and fades in again where samples are in time. A sample
// that comes after its place is dropped, so that those behind it are at theirs.

import { PlacedRing } from './ring.js'
import { Seams } from './seams.js'

export const FADE = 0.005 // seconds
export const CAPACITY = 4 // seconds of sound that may be there ahead

export class Schedule {
  /**
   * Places and lengths in samples, rate in Hz. chunk: what the model makes at a time; chunk c is heard at places
   * c * chunk - delay on. first: the place that is heard first. from: the place from which on sound is expected.
   */
  constructor({ rate, chunk, delay = 0, first = 0, from = first, fade = Math.max(1, Math.round(FADE * rate)) }) {
    this.chunk = chunk
    this.delay = delay
    this.place = first
    this.from = from
    this.ring = new PlacedRing(Math.round(CAPACITY * rate), first)
    this.seams = new Seams(fade)
    this.silent = false
    this.end = Infinity // the place after the last sample of the session
    this.counted = Math.max(first, from) // places before this one are counted
    this.lateUpTo = -Infinity // chunks before this one are counted
    this.delivered = this.missing = this.gaps = this.late = this.dropped = 0
    this.leastMargin = Infinity // since it was last asked for
    this.ranges = [] // [begin, end) of missing places, since they were last asked for
  }

  /** Sound that came in. */
  putDown(place, samples) {
    this.leastMargin = Math.min(this.leastMargin, place - this.place)
    this.dropped += Math.max(0, Math.min(this.place, place + samples.length) - Math.max(place, this.from))
    this.ring.write(place, samples)
  }

  /** The session ends before this place: what is not there from there on is not missing. */
  endAt(place) {
    this.end = place
  }

  /** out becomes what is heard next. */
  exchange(out) {
    const lead = this.from - this.place
    if (lead > 0 && lead < out.length) {
      this.exchange(out.subarray(0, lead))
      return this.exchange(out.subarray(lead))
    }
    const there = this.ring.read(this.place, out)
    const begin = Math.max(this.counted, this.place + there)
    const end = Math.min(this.place + out.length, this.end)
    this.delivered += Math.max(0, this.place + there - Math.max(this.counted, this.place))
    if (begin < end) this.countMissing(begin, end, there > 0 || !this.silent)
    this.seams.fill(out, there)
    this.place += out.length
    this.silent = there < out.length && this.place > this.from // before that nothing is expected
    this.counted = Math.max(this.counted, this.place)
  }

  /** Go on reading so many samples further on; back, where negative. What is passed over is counted as neither. */
  shift(samples) {
    this.place = Math.max(0, this.place + samples)
    this.counted = Math.max(this.counted, this.place)
    this.ring.forget(this.place)
    this.seams.cut()
  }

  /** By how many samples there is sound beyond the present. */
  get buffered() {
    return Math.max(0, this.ring.written - this.place)
  }

  counts() {
    const { place, delivered, missing, gaps, late, dropped, buffered } = this
    return { place, delivered, missing, gaps, late, dropped, buffered }
  }

  /** The missing places since the last call, as [begin, end) each, and the least margin of what came in (samples). */
  news() {
    const { ranges, leastMargin } = this
    this.ranges = []
    this.leastMargin = Infinity
    return { ranges, leastMargin }
  }

  countMissing(begin, end, begins) {
    this.missing += end - begin
    this.gaps += begins ? 1 : 0
    const first = Math.max(this.lateUpTo, Math.floor((begin + this.delay) / this.chunk))
    this.lateUpTo = Math.floor((end - 1 + this.delay) / this.chunk) + 1
    this.late += Math.max(0, this.lateUpTo - first)
    this.note(begin, end)
  }

  note(begin, end) {
    const last = this.ranges[this.ranges.length - 1]
    if (last && last[1] === begin) last[1] = end
    else this.ranges.push([begin, end])
  }
}
