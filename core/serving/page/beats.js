// Arithmetic of beats: where in the bar a place is, tapped tempi, the bars of a chart.

/** {beat: whole beats since the grid's downbeat, bar and inBar counted from 1, share of the beat that is over}. */
export function beatAt({ place, bpm, perBar }, rate, now) {
  const beats = ((now - place) / rate) * (bpm / 60)
  const beat = Math.floor(beats)
  return { beat, bar: Math.floor(beat / perBar) + 1, inBar: (((beat % perBar) + perBar) % perBar) + 1, share: beats - beat }
}

/** The place of the grid's first downbeat at or after a place. */
export function nextDownbeat({ place, bpm, perBar }, rate, from) {
  const bar = (perBar * 60 * rate) / bpm
  return place + Math.ceil((from - place) / bar) * bar
}

const APART = 0.003 // seconds within which two grids are one
const FASTER = 5e-4 // share of the tempo, likewise

/** Two grids, of which the first may be null, have the same bars about a place. */
export function sameGrid(one, other, rate, now) {
  if (!one || one.perBar !== other.perBar || Math.abs(one.bpm / other.bpm - 1) > FASTER) return false
  const [a, b] = [one, other].map(({ place, bpm }) => ((now - place) * bpm) / (60 * rate)) // beats
  return (Math.abs(a - b) * 60) / other.bpm < APART
}

const PAUSE = 2.5 // seconds after which taps begin anew
const KEPT = 8

export class Taps {
  constructor() {
    this.times = []
  }

  /** A tap at a time (s); beats a minute, the median of the last taps, or null where there are not yet two. */
  tap(time) {
    if (time - this.times[this.times.length - 1] > PAUSE) this.times = []
    this.times = [...this.times, time].slice(-KEPT)
    const steps = this.times.slice(1).map((later, i) => later - this.times[i]).sort((a, b) => a - b)
    if (!steps.length) return null
    const middle = (steps[(steps.length - 1) >> 1] + steps[steps.length >> 1]) / 2
    return Math.min(300, Math.max(30, Math.round(600 / middle) / 10))
  }
}

/** The bars of a chart as typed, for showing: null where it has repeats or signs that only the server reads. */
export function barsOf(chart) {
  if (/\|:|:\||\[|\{/.test(chart)) return null
  const bars = (chart.includes('|') ? chart.split('|') : chart.split(/\s+/)).map(bar => bar.trim()).filter(Boolean)
  return bars.reduce((all, bar) => [...all, bar === '%' && all.length ? all[all.length - 1] : bar], [])
}
