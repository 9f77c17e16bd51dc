// A MIDI clock: tempo and beats, by a straight line through the times of its ticks, as core/realtime/midi_clock.py.

const TICKS = 24 // of a beat
const SIXTEENTH = 6 // ticks of a unit of the song position
const LONGEST = 4 * TICKS // ticks over which the tempo is averaged
const CHANGE = 0.005 // least share by which the last beat differs from the average where the tempo has changed
const CLEAR = 8 // least ratio of that, over a beat, to what ticks are off their line; a stall reaches 6
const [SLOWEST, FASTEST] = [20, 400] // beats a minute
const GAP = 0.25 // seconds between two ticks after which the tempo is measured anew
const [POSITION, CLOCK, START, CONTINUE, STOP] = [0xf2, 0xf8, 0xfa, 0xfb, 0xfc]

export class Clock {
  constructor() {
    this.pulse = null // {bpm, time of a beat (s), beat: its number, 0 the song's first}; null while stopped
    this.last = null // time of the last tick (s)
    this.stopped = false
    this.times = []
    this.position = 0 // of the next tick
  }

  /** A message [status, ...] that came at a time (s). */
  receive([status, low, high], time) {
    if (status === CLOCK) this.tick(time)
    if (status === START) this.begin(0)
    if (status === CONTINUE) this.begin(this.position)
    if (status === POSITION) this.position = SIXTEENTH * (low + 128 * high)
    if (status === STOP) Object.assign(this, { stopped: true, pulse: null })
  }

  /** The next tick is at this position; the grid of ticks may be another. */
  begin(position) {
    Object.assign(this, { stopped: false, pulse: null, times: [], position })
  }

  tick(time) {
    if (this.last !== null && time - this.last > GAP) this.times = []
    this.last = time
    if (this.stopped) return
    this.times = [...this.times, time].slice(-LONGEST - 1)
    const rest = this.position % TICKS
    const beat = (this.position - rest) / TICKS
    this.position += 1
    const { length } = this.times
    if (length === TICKS + 1 || (rest === 0 && length > TICKS)) this.update(beat, rest)
  }

  /** At tick `rest` of a beat. */
  update(beat, rest) {
    const recent = this.times.slice(-TICKS - 1)
    const last = line(recent)
    let found = line(this.times)
    if (Math.abs(last.step - found.step) > Math.max(CHANGE * found.step, (CLEAR * last.off) / TICKS)) {
      this.times = recent
      found = last
    }
    const bpm = 60 / (TICKS * found.step)
    this.pulse = bpm >= SLOWEST && bpm <= FASTEST ? { bpm, time: found.end - rest * found.step, beat } : null
  }
}

/** The straight line through the times of ticks: seconds of a tick, the time of the last one on it, and how far ticks are off. */
function line(times) {
  const middle = (times.length - 1) / 2
  const mean = times.reduce((sum, time) => sum + time, 0) / times.length
  const sum = term => times.reduce((total, time, n) => total + term(n - middle, time - mean), 0)
  const step = sum((n, time) => n * time) / sum(n => n ** 2)
  const off = Math.sqrt(sum((n, time) => (time - step * n) ** 2) / times.length)
  return { step, end: mean + step * middle, off }
}
