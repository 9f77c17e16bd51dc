// The page's state: what is so at present. Panels draw themselves from it whenever it changes.

export class Store {
  constructor(initial) {
    this.values = initial
    this.panels = []
    this.asked = false
  }

  /** Change some values; all panels draw soon after. */
  set(changes) {
    Object.assign(this.values, changes)
    if (this.asked) return
    this.asked = true
    queueMicrotask(() => this.draw())
  }

  draw() {
    this.asked = false
    for (const panel of this.panels) panel(this.values)
  }

  /** draw(values) is called now and after every change. */
  show(draw) {
    this.panels.push(draw)
    draw(this.values)
  }
}

/** What a fresh page knows. */
export const initial = () => ({
  phase: 'loading',
  notice: null, // {tone, text, label, act}
  models: [],
  model: null, // the chosen one, as the server tells it
  mode: '',
  mayRecord: true,
  source: null, // 'microphone', 'song', 'machine': a sound device of the server's machine
  song: null, // {name, buffer, bpm, perBar, chart}
  device: null, // {name, kept: [names of processing that stayed on]}
  first: 0, // ms
  drag: 0, // ms by which the accompaniment is let come behind the musician, so that it is there in time
  measured: null, // the server's answer
  muted: false,
  frozen: false,
  asleep: false, // the browser has paused the sound
  grid: null, // {place of a downbeat, bpm, perBar}
  origin: 0, // the place at which the music begins
  countInEnd: 0,
  counts: null,
  server: null, // its last state message
  health: { tone: 'quiet', cause: '' },
  applied: null,
  problem: null, // with the chart or the metronome, as the server tells it
  chart: 'off',
  beat: 'off', // where the model takes it from
  files: null, // of the last session
  ended: '',
})

const LIVE = new Set(['countin', 'playing', 'reconnecting'])

/** A session is going on. */
export const live = phase => LIVE.has(phase)

/** The page waits for something and takes no new wish. */
export const busy = phase => ['loading', 'preparing', 'opening', 'measuring', 'starting', 'stopping', 'blocked'].includes(phase)

/** The time of sound (ms) that is made up for; a song does not go through the air. */
export const firstMs = ({ source, first, drag }) => (source === 'song' ? 0 : first - drag)

/** The same in samples. */
export const firstSamples = (values, rate) => Math.round((firstMs(values) / 1000) * rate)
