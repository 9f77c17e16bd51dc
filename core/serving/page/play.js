// The card "Play": start and stop, silence of three kinds, the count, how well it goes.

import { barsOf, beatAt } from './beats.js'
import { at, calm, make, show, write } from './dom.js'
import { busy, live } from './store.js'
import { WORDS } from './words.js'

const PICTURE = 50 // ms between two pictures: more would take time from a model on the same machine
const SLOW = 250 // the same where motion is not wanted

export class Playing {
  /** parts: {store, engine, course, controls}. */
  constructor(parts) {
    Object.assign(this, parts)
    this.bars = null
    this.lock = null
    this.drawn = 0
    this.wire()
    this.store.show(values => this.draw(values))
    requestAnimationFrame(() => this.turn())
    setInterval(() => document.hidden && this.beat(), 500)
  }

  wire() {
    at('start').addEventListener('click', () => this.toggle())
    at('mute').addEventListener('click', () => this.mute())
    at('freeze').addEventListener('click', () => this.freeze())
    at('panic').addEventListener('click', () => this.controls.panic())
  }

  async toggle() {
    const { phase, source } = this.store.values
    if (live(phase)) return this.course.stop()
    if (busy(phase)) return
    if (!source) return this.askForSource()
    await this.engine.open()
    await this.course.start()
    if (live(this.store.values.phase)) this.comeToSight()
  }

  /** On a narrow screen the other cards are above. */
  comeToSight() {
    const block = matchMedia('(max-width: 56rem)').matches ? 'start' : 'nearest'
    requestAnimationFrame(() => at('play').scrollIntoView({ block }))
  }

  askForSource() {
    this.store.set({ notice: { tone: 'warn', text: WORDS.nothingChosen } })
    at('choose-file').focus()
  }

  mute() {
    if (live(this.store.values.phase)) this.controls.mute(!this.store.values.muted)
  }

  freeze() {
    if (live(this.store.values.phase)) this.controls.freeze(!this.store.values.frozen)
  }

  draw({ phase, muted, frozen, health, counts, server, chart, files }) {
    const on = live(phase)
    write(at('start-label'), on ? WORDS.stop : phase === 'ended' || files ? WORDS.again : WORDS.start)
    at('start').classList.toggle('on', on)
    at('start').disabled = busy(phase)
    for (const [id, pressed] of [['mute', muted], ['freeze', frozen]]) {
      at(id).disabled = !on
      at(id).setAttribute('aria-pressed', pressed && on)
    }
    show(at('now'), on)
    show(at('play-hint'), !on)
    show(at('health'), on && Boolean(counts))
    if (counts) this.drawHealth(health, counts, server)
    this.drawBars(chart)
    this.keepAwake(on)
  }

  drawHealth({ tone, cause }, counts, server) {
    at('health').dataset.tone = tone
    write(at('health-word'), cause ? WORDS.cause(WORDS.health[tone], WORDS.causes[cause]) : WORDS.health[tone])
    write(at('late'), String(counts.late))
    write(at('gaps'), String(counts.gaps))
    write(at('lost'), WORDS.ms(server?.lost_input_ms ?? 0))
    write(at('tick'), server?.tick_ms ? WORDS.ms(server.tick_ms.p99) : '–')
    write(at('ahead-said'), WORDS.ms(counts.buffered))
    if (!calm()) at('ahead').value = counts.buffered
  }

  drawBars(chart) {
    if (chart === this.chart) return
    this.chart = chart
    this.bars = chart && chart !== 'off' && chart !== 'follow' ? barsOf(chart) : null
    show(at('bars'), Boolean(this.bars))
    at('bars').replaceChildren(...(this.bars ?? []).map(bar => make('li', { textContent: bar })))
  }

  async keepAwake(on) {
    if (on === Boolean(this.lock) || !navigator.wakeLock || document.hidden) return
    this.lock = on ? {} : (this.lock?.release?.(), null)
    if (on) this.lock = await navigator.wakeLock.request('screen').catch(() => ({}))
  }

  /** Every picture of the screen. */
  turn() {
    requestAnimationFrame(() => this.turn())
    const now = performance.now()
    if (now - this.drawn < (calm() ? SLOW : PICTURE)) return
    this.drawn = now
    this.beat()
  }

  beat() {
    const { phase, grid, origin, server } = this.store.values
    if (!live(phase)) return
    this.course.tick(at('click').checked)
    const { rate } = this.engine
    const heard = this.engine.place - (this.engine.outputMs / 1000) * rate + this.course.first
    const beat = grid && beatAt(grid, rate, heard)
    const seconds = Math.max(0, (heard - origin) / rate)
    this.count(phase, beat, grid, server)
    write(at('now-said'), this.said(beat, seconds, server))
    this.mark(beat)
  }

  count(phase, beat, grid, server) {
    const counting = phase === 'countin' && beat
    at('big').classList.toggle('counting', Boolean(counting))
    const text = counting ? String(beat.inBar) : server?.chord || (beat ? String(beat.inBar) : '♪')
    if (counting && text !== at('big').textContent) navigator.vibrate?.(30)
    write(at('big'), text)
  }

  said(beat, seconds, server) {
    if (this.store.values.phase === 'countin') return WORDS.getReady
    const parts = [WORDS.playingFor(WORDS.seconds(seconds))]
    if (beat && beat.beat >= 0) parts.push(WORDS.beat(beat.bar, beat.inBar))
    if (server?.bpm) parts.push(WORDS.following(server.bpm))
    if (this.store.values.muted) parts.push(WORDS.silent)
    if (server?.said) parts.push(server.said)
    return parts.join(' · ')
  }

  mark(beat) {
    if (!this.bars) return
    const now = beat && beat.beat >= 0 ? (beat.bar - 1) % this.bars.length : -1
    ;[...at('bars').children].forEach((bar, i) => (i === now ? bar.setAttribute('aria-current', 'true') : bar.removeAttribute('aria-current')))
  }
}
