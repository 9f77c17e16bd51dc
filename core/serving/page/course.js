// The course of a session: connect, agree on the time of sound, start, play, end. What happens goes into the store.

import { AUDIO } from './frames.js'
import { Health } from './health.js'
import { assume, measure, measureMachine, quantiles } from './measuring.js'
import { socketAddress, tokenNow } from './server.js'
import { busy, firstMs, firstSamples, live } from './store.js'
import { WORDS } from './words.js'

const COUNTED = 500 // ms between two reports of counts
const FULL = 1013 // the close code
const GRACE = 10 // seconds in which the server ends a session
const KEPT_TRIPS = 200
const RESERVE = 10 // ms more by which an accompaniment that comes behind does so, for what other programs take
const SONG_LEAD = 0.25 // seconds between the server's word and a song's first sample
export const VERSION = 'page 1.0'

export class Course {
  /** parts: {store, engine, link, song, clicks}. wishes(): the start message's part that the dials give. */
  constructor({ store, engine, link, song, clicks, wishes }) {
    Object.assign(this, { store, engine, link, song, clicks, wishes })
    this.trips = []
    this.health = new Health()
    this.dropped = 0
    this.listen()
    setInterval(() => this.tellCounts(), COUNTED)
  }

  get now() {
    return this.store.values
  }

  /** Samples of a frame: 5 ms, the least that is taken, since a sound waits until its frame is whole; 10 for a server of many. */
  get size() {
    return Math.round(this.engine.rate / (this.now.mode === 'serve' ? 100 : 200))
  }

  get first() {
    return firstSamples(this.now, this.engine.rate)
  }

  // connecting

  async connect() {
    if (this.link.welcome) return this.link.welcome
    const { pipe } = this.engine
    this.engine.pipe = null
    const { rate } = this.engine
    const hello = { type: 'hello', protocol: 1, token: tokenNow(), rate, frame: this.size, format: 'f32', client: VERSION }
    const welcome = await this.link.open({ url: socketAddress(), hello, pipe })
    if (this.now.notice?.tone === 'quiet') this.store.set({ notice: null })
    this.session = welcome.session
    const model = welcome.models.find(({ name }) => name === this.now.model?.name) ?? welcome.models[0]
    this.store.set({ models: welcome.models, model, mode: welcome.mode, mayRecord: welcome.record !== false })
    return welcome
  }

  /** Do what needs a connection; what stands in the way becomes a notice. */
  async trying(phase, work) {
    const before = this.now.phase
    this.store.set({ phase, notice: null })
    try {
      return await work()
    } catch (error) {
      if (error.code === undefined) throw error
      this.store.set({ phase: before === phase ? 'ready' : before })
      this.refuse(error)
      return null
    }
  }

  // the time of sound

  async measure(progress, settled) {
    await this.trying('measuring', async () => {
      await this.connect()
      this.trips = []
      const { engine, link, size, trips } = this
      const how = engine.remote ? measureMachine : measure
      this.take(await how({ engine, link, size, trips, progress, settled }))
    })
  }

  /** Take a time that was not measured, and hear what the server makes of it. */
  async assume(ms) {
    const playing = live(this.now.phase)
    this.store.set(playing ? { first: ms } : { first: ms, drag: 0 })
    this.engine.order({ first: this.first })
    if (playing) return
    const { engine, link, size, trips } = this
    await this.trying(this.now.phase, async () => {
      await this.connect()
      const measured = await assume({ engine, link, size, trips, ms: firstMs(this.now) })
      this.store.set({ measured: { ...measured, assumed: true } })
    })
  }

  take(measured) {
    const first = measured.ok === false ? this.now.first : measured.first_ms
    this.store.set({ measured, first, drag: 0, phase: 'ready' })
    this.engine.order({ first: this.first })
  }

  // playing

  async start() {
    if (busy(this.now.phase) || live(this.now.phase)) return
    await this.trying('starting', async () => {
      await this.connect()
      this.prepare()
      this.link.say({ type: 'start', first_ms: firstMs(this.now), ...this.wishes() })
      this.engine.order({ send: { kind: AUDIO, size: this.size } }) // after the start, so that none comes before it
      const answer = await this.link.answer('playing', 'refused')
      if (answer.type === 'refused') this.refusedStart(answer)
      else this.begin(answer)
    })
  }

  prepare() {
    const { engine, now } = this
    this.health.begin(engine.rate, now.model.k_ms)
    this.breaks = 0
    this.store.set({ counts: null, server: null, applied: null, files: null, ended: '', muted: false, frozen: false })
    engine.order({ gain: 1, plan: { chunk: Math.round((now.model.k_ms / 1000) * engine.rate), first: this.first } })
  }

  refusedStart({ why, nearest, spare_ms: spare, reason, retry_after: retryAfter }) {
    if (reason === 'full') return this.refuse({ code: FULL, why, retryAfter })
    this.rest()
    const text = [WORDS.refused(why), nearest ? WORDS.nearest(wordy(nearest)) : ''].filter(Boolean).join(' ')
    this.store.set({ phase: 'refused', notice: this.behind(spare, nearest) ?? { tone: 'bad', text } })
  }

  /** The offer to play late, where only the time of sound is too long; null else. spare (ms): at most 0 then. */
  behind(spare, nearest) {
    const { model, source, first, drag, measured } = this.now
    const behind = drag + Math.ceil(-spare) + RESERVE
    if (source === 'song' || !(spare <= 0) || behind > first || nearest?.k_ms !== model.k_ms) return null
    const act = () => {
      this.store.set({ drag: behind })
      this.start()
    }
    const text = WORDS.wouldDrag({ model: model.name, late: drag - spare, first, guess: measured?.assumed, behind })
    return { tone: 'warn', text, label: WORDS.playBehind(behind), act }
  }

  begin({ place, count_in_end: end, budget, spare_ms: spare }) {
    const wishes = this.wishes()
    const { rate } = this.engine
    const origin = end ?? Math.max(place, this.engine.place + Math.round(SONG_LEAD * rate))
    const tempo = wishes.count_in ?? (wishes.metronome.bpm ? wishes.metronome : null)
    const grid = tempo && { place: origin, bpm: tempo.bpm, perBar: tempo.beats_per_bar }
    if (this.now.source === 'song') this.song.play(this.now.song.buffer, origin, () => this.stop())
    if (this.now.source === 'song' && end === undefined) this.align(wishes, origin)
    const measured = budget ? { ...this.now.measured, budget, spare_ms: spare } : this.now.measured
    this.clicksFrom = end === undefined ? origin : end - (wishes.count_in.beats * 60 * rate) / wishes.count_in.bpm
    this.store.set({ phase: end === undefined ? 'playing' : 'countin', grid, origin, countInEnd: end ?? 0, measured })
  }

  /** Without a count-in a song's first beat is known only now. */
  align({ metronome, chart }, place) {
    if (metronome.bpm) this.link.say({ type: 'metronome', value: { ...metronome, place } })
    if (chart !== 'off' && chart !== 'follow') this.link.say({ type: 'chart', value: chart, place })
  }

  /** Every frame of the screen: the count-in ends, clicks are planned. clicking: they are wanted while playing. */
  tick(clicking) {
    const { phase, grid, countInEnd } = this.now
    const heard = this.engine.place + this.first
    if (phase === 'countin' && heard >= countInEnd) this.store.set({ phase: 'playing' })
    const counting = phase === 'countin'
    if (grid && live(phase) && (clicking || counting)) this.clicks.follow(grid, this.clicksFrom, this.first, clicking ? Infinity : countInEnd)
  }

  async stop() {
    if (!live(this.now.phase)) return
    do this.tellCounts()
    while (this.health.ranges.length)
    this.store.set({ phase: 'stopping' })
    this.rest()
    this.link.say({ type: 'stop' })
    setTimeout(() => this.now.phase === 'stopping' && this.finish({ why: '', files: [] }), 1000 * GRACE)
  }

  /** All that sounds ends. */
  rest() {
    this.song.stop()
    this.clicks.stop()
    this.engine.order({ send: null, over: true })
  }

  finish({ why, files }) {
    this.rest()
    this.store.set({ phase: 'ended', ended: why === 'stopped' ? '' : WORDS.sentence(why), files: files || [], grid: null, applied: null })
  }

  // what the server, the Worker and the audio thread tell

  listen() {
    const on = (name, act) => this.link.addEventListener(name, ({ detail }) => act(detail))
    on('said', message => this.hear(message))
    on('closed', closed => this.closed(closed))
    on('trying', attempt => this.away(attempt))
    on('trip', trip => this.trips.push(trip) > KEPT_TRIPS && this.trips.shift())
    on('dropped', dropped => (this.dropped = dropped))
  }

  hear(message) {
    const known = {
      welcome: () => this.back(message),
      state: () => this.state(message),
      ended: () => this.ended(message),
      ending: () => this.store.set({ notice: { tone: 'warn', text: WORDS.ending(message.why, message.seconds) } }),
      applied: () => this.store.set({ applied: message, ...(message.what === this.now.problem?.what ? { problem: null } : {}) }),
      problem: () => this.problem(message),
    }
    known[message.type]?.()
  }

  /** While the models are still being made ready there are no numbers, only words. */
  state(message) {
    if (message.ready === false) this.store.set({ notice: { tone: 'quiet', text: WORDS.preparing(message.said) } })
    else this.store.set({ server: message })
  }

  ended(message) {
    if (live(this.now.phase) || this.now.phase === 'stopping') this.finish(message)
  }

  problem(message) {
    if (message.what === 'chart' || message.what === 'metronome') this.store.set({ problem: message })
    else this.store.set({ notice: { tone: 'warn', text: WORDS.sentence(message.why) } })
  }

  away(attempt) {
    if (!live(this.now.phase)) return
    this.store.set({ phase: 'reconnecting', notice: { tone: 'warn', text: WORDS.reconnecting(attempt) } })
  }

  back(welcome) {
    if (this.now.phase !== 'reconnecting') return
    if (welcome.session === this.session) this.store.set({ phase: this.engine.place < this.now.countInEnd ? 'countin' : 'playing', notice: null })
    else this.give(welcome.why ? WORDS.sentence(welcome.why) : WORDS.otherSession)
  }

  give(text) {
    this.finish({ why: text, files: [] })
    this.store.set({ phase: 'lost', notice: { tone: 'bad', text, label: WORDS.tryAgain, act: () => this.start() } })
  }

  closed({ code, why, lost }) {
    if (live(this.now.phase)) this.give(lost ? WORDS.lost : WORDS.closed(code, why))
    else if (this.now.phase === 'stopping') this.finish({ why, files: [] })
  }

  refuse({ code, why, retryAfter, lost }) {
    this.rest()
    const again = { label: WORDS.tryAgain, act: () => this.start() }
    const wait = retryAfter && !/try again/i.test(why) ? ` ${WORDS.retry(retryAfter)}` : ''
    if (code === FULL) this.store.set({ phase: 'full', notice: { tone: 'warn', text: `${WORDS.full(why)}${wait}`, ...again } })
    else this.store.set({ phase: 'refused', notice: { tone: 'bad', text: lost ? WORDS.noServer : WORDS.closed(code, why), ...again } })
  }

  /** A report of the audio thread. */
  report(told) {
    this.health.hear(told)
  }

  tellCounts() {
    if (!live(this.now.phase)) return
    const counts = this.health.sum(this.now.server, quantiles(this.trips))
    if (!counts) return
    this.store.set({ counts: { ...counts, framesDropped: this.dropped }, health: this.health.verdict() })
    this.link.say({ type: 'counts', ...counts.message })
    this.warn(counts)
  }

  /** What speaks for measuring again. */
  warn({ breaks }) {
    const broke = breaks > this.breaks && this.now.source !== 'song'
    this.breaks = breaks
    if (this.now.notice || !(broke || this.now.health.always)) return
    this.store.set({ notice: { tone: 'warn', text: broke ? WORDS.broke : WORDS.narrow } })
  }
}

const wordy = nearest => Object.entries(nearest).map(([name, value]) => `${name} = ${value}`).join(', ')
