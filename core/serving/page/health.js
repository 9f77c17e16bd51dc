// How well it goes: counts of the audio thread summed up twice a second, and a verdict in a colour and words.

const WINDOW = 10 // sums that are looked at: 5 s
const NEAR = 0.01 // seconds of margin under which it is only just in time
const BUSY = 0.9 // share of the time that the server computes
const MOST_RANGES = 500 // in one message; the rest comes with the next
const SLOW_NETWORK = 30 // ms of round trip, 99th percentile

export class Health {
  /** rate: Hz of the places; period: ms that the model has for a chunk. */
  begin(rate, period) {
    this.rate = rate
    this.period = period
    this.counts = null
    this.breaks = 0
    this.clear()
    this.ranges = []
    this.past = []
    this.network = this.model = 0
  }

  clear() {
    this.margin = Infinity
    this.peak = 0
  }

  hear({ counts, peakIn, breaks }) {
    if (!this.rate) return
    this.peak = Math.max(this.peak, peakIn ?? 0)
    if (breaks !== undefined) this.breaks = breaks
    if (!counts) return
    this.counts = counts
    this.margin = Math.min(this.margin, counts.leastMargin)
    this.join(counts.ranges)
  }

  join(ranges) {
    for (const [begin, end] of ranges) {
      const last = this.ranges[this.ranges.length - 1]
      if (last && last[1] === begin) last[1] = end
      else this.ranges.push([begin, end])
    }
  }

  /** What came since the last call: for the page, and as the protocol's message. null before anything was played. */
  sum(server, trips) {
    if (!this.counts) return null
    const { place, delivered, missing, gaps, late, dropped, buffered } = this.counts
    const margin = Number.isFinite(this.margin) ? (1000 * this.margin) / this.rate : null
    const counts = { place, delivered, missing, gaps, late, dropped, breaks: this.breaks, margin, buffered: (1000 * buffered) / this.rate, trips }
    counts.message = {
      place, delivered, missing, gaps, late, dropped, margin_min_ms: margin, peak: this.peak,
      discontinuities: this.breaks, rtt_ms: trips,
      ranges: this.ranges.splice(0, MOST_RANGES).map(([begin, end]) => [begin, end - begin]),
    }
    this.past = [...this.past, counts].slice(-WINDOW)
    this.network = trips?.p99 ?? 0
    this.model = Math.max(server?.load ?? 0, (server?.tick_ms?.p99 ?? 0) / this.period)
    this.clear()
    return counts
  }

  /** {tone: "good", "near", "bad" or "quiet", cause: "device", "network", "model" or "" where it is not known, always}. */
  verdict() {
    const [oldest, newest] = [this.past[0], this.past[this.past.length - 1]]
    if (!newest) return { tone: 'quiet', cause: '' }
    if (newest.late > oldest.late || newest.gaps > oldest.gaps) return { tone: 'bad', cause: this.cause(oldest, newest) }
    const margins = this.past.map(({ margin }) => margin).filter(margin => margin !== null)
    const near = margins.length > 0 && Math.min(...margins) < 1000 * NEAR
    return { tone: near ? 'near' : 'good', cause: near ? this.cause(oldest, newest) : '', always: near && Math.max(...margins) < 1000 * NEAR && this.past.length === WINDOW }
  }

  cause(oldest, newest) {
    if (newest.breaks > oldest.breaks) return 'device'
    if (this.model > BUSY) return 'model'
    return this.network > SLOW_NETWORK ? 'network' : ''
  }
}
