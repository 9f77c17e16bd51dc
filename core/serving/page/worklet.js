// Hears and plays, on the browser's audio thread. A place is a sample's number in the page's AudioContext (currentFrame);
// output place n is heard while input place n - first is heard, `first` being what sound takes from here to here.

import { AUDIO, BROKEN, LAST, emptyFrame, opened, samplesOf, stamp } from './frames.js'
import { FADE, Schedule } from './schedule.js'

const TOLD = 0.05 // seconds between two reports to the page
const CLIPPED = 0.999

class Duplex extends AudioWorkletProcessor {
  constructor() {
    super()
    this.pipe = null
    this.kind = 0 // of the frames that are sent; 0: none are
    this.size = Math.round(sampleRate / 100)
    this.frame = null
    this.filled = this.number = 0
    this.expected = -1 // the place of the next block
    this.hadInput = true
    this.flags = 0
    this.plan = null // the session that will play, from start on
    this.schedule = null
    this.closing = false
    this.first = 0
    this.gain = this.wantedGain = 1
    this.peakIn = this.peakOut = this.clipped = this.breaks = 0
    this.next = 0
    this.port.onmessage = ({ data }) => this.obey(data)
  }

  obey(order) {
    if (order.pipe) this.join(order.pipe)
    if ('send' in order) this.send(order.send)
    if ('gain' in order) this.wantedGain = order.gain
    if (order.plan) this.prepare(order.plan)
    if ('first' in order) this.move(Math.round(order.first))
    if (order.over) this.fadeAway()
  }

  join(pipe) {
    this.pipe = pipe
    pipe.onmessage = ({ data }) => (data instanceof ArrayBuffer ? this.take(data) : this.begin(data.begin))
  }

  /** {kind, size}: send what is heard as frames of so many samples; null: no more. */
  send(wanted) {
    this.kind = wanted ? wanted.kind : 0
    if (wanted) this.size = wanted.size
    this.filled = 0
    this.flags = BROKEN
  }

  /** {chunk, first}: what will be played is made in chunks of so many samples. */
  prepare(plan) {
    this.plan = plan
    this.schedule = null
    this.closing = false
    this.gain = this.wantedGain
    this.first = plan.first
    this.breaks = 0
  }

  /** Sound is expected from this place on. */
  begin(place) {
    if (!this.plan || this.schedule) return
    const first = currentFrame + this.first
    this.schedule = new Schedule({ rate: sampleRate, chunk: this.plan.chunk, delay: -place, first, from: place })
    this.port.postMessage({ begun: place })
  }

  /** The session is over: its sound fades, then there is none. */
  fadeAway() {
    this.wantedGain = 0
    this.closing = true
  }

  move(first) {
    if (this.schedule && first !== this.first) this.schedule.shift(first - this.first)
    this.first = first
  }

  take(data) {
    if (!this.schedule) return
    const { kind, flags, place, samples } = opened(data)
    if (kind !== AUDIO) return
    this.schedule.putDown(place, samples)
    if (flags & LAST) this.schedule.endAt(place + samples.length)
  }

  process([[heard]], [[out]]) {
    if (this.expected >= 0 && currentFrame !== this.expected) this.jumped()
    this.hear(heard, out.length)
    if (this.schedule) this.schedule.exchange(out)
    this.turnDown(out)
    if (this.closing && this.gain === 0) this.schedule = this.plan = null
    this.expected = currentFrame + out.length
    if (currentFrame >= this.next) this.tell()
    return true
  }

  /** The browser has left blocks out. */
  jumped() {
    if (this.schedule) this.schedule.shift(currentFrame - this.expected)
    this.broke()
  }

  broke() {
    this.filled = 0
    this.flags = BROKEN
    this.breaks += 1
  }

  hear(heard, count) {
    if (!heard && this.hadInput && this.kind) this.breaks += 1
    this.hadInput = Boolean(heard)
    for (let i = 0; i < count; i++) {
      const sample = heard ? heard[i] : 0
      const size = Math.abs(sample)
      if (size > this.peakIn) this.peakIn = size
      if (size >= CLIPPED) this.clipped += 1
      if (this.kind) this.fill(sample, currentFrame + i)
    }
  }

  fill(sample, place) {
    if (this.filled === 0) {
      this.frame = emptyFrame(this.size)
      this.samples = samplesOf(this.frame)
      stamp(this.frame, this.kind, this.flags, this.number++, place)
      this.flags = 0
    }
    this.samples[this.filled++] = sample
    if (this.filled < this.size) return
    this.pipe.postMessage(this.frame, [this.frame])
    this.filled = 0
  }

  turnDown(out) {
    const step = 1 / (FADE * sampleRate)
    for (let i = 0; i < out.length; i++) {
      if (this.gain < this.wantedGain) this.gain = Math.min(this.wantedGain, this.gain + step)
      else if (this.gain > this.wantedGain) this.gain = Math.max(this.wantedGain, this.gain - step)
      if (this.gain !== 1) out[i] *= this.gain
      if (Math.abs(out[i]) > this.peakOut) this.peakOut = Math.abs(out[i])
    }
  }

  tell() {
    this.next = currentFrame + TOLD * sampleRate
    const { peakIn, peakOut, clipped, breaks, hadInput, schedule } = this
    const counts = schedule && { ...schedule.counts(), ...schedule.news() }
    this.port.postMessage({ place: currentFrame, peakIn, peakOut, clipped, breaks, hadInput, counts })
    this.peakIn = this.peakOut = this.clipped = 0
  }
}

registerProcessor('duplex', Duplex)
