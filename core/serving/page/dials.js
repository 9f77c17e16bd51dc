// The dials of the card "Play": what is asked for at the start, and what is changed while playing.

import { at, offer, show, write } from './dom.js'
import { busy, live } from './store.js'
import { WORDS } from './words.js'

const number = id => (at(id).value === '' ? null : Number(at(id).value))

/** What the dials ask for, as the start message says it. */
export function wishes({ store, music }) {
  const { model, mayRecord } = store.values
  return {
    model: model.name,
    instrument: at('instrument').value || null,
    temperature: model.dials?.temperature ? Number(at('temperature').value) : null,
    seed: number('seed'),
    record: at('record').checked && mayRecord,
    force: at('force').checked,
    ...music.wishes(),
  }
}

export class Dials {
  constructor({ store, controls, engine }) {
    Object.assign(this, { store, controls, engine })
    this.known = null
    this.wire()
    store.show(values => this.draw(values))
  }

  wire() {
    const { controls } = this
    at('instrument').addEventListener('change', () => controls.tell({ type: 'instrument', name: at('instrument').value }))
    at('temperature').addEventListener('change', () => controls.tell({ type: 'dial', temperature: Number(at('temperature').value) }))
    at('temperature').addEventListener('input', () => this.write())
    at('volume').addEventListener('input', () => this.write())
    at('model-choice').addEventListener('change', () => this.choose(at('model-choice').value))
    this.write()
  }

  choose(name) {
    this.store.set({ model: this.store.values.models.find(model => model.name === name) })
  }

  write() {
    write(at('temperature-said'), Number(at('temperature').value).toFixed(2))
    write(at('volume-said'), WORDS.percent(at('volume').value))
    this.engine.setVolume(at('volume').value / 100)
  }

  draw({ models, model, phase, mayRecord, mode, applied }) {
    if (model && model.name !== this.known?.name) this.suit(models, model, mode)
    at('temperature').disabled = !model?.dials?.temperature
    at('model-choice').disabled = at('seed').disabled = at('force').disabled = busy(phase) || live(phase)
    at('record').disabled = !mayRecord || busy(phase) || live(phase)
    const [any] = at('instrument').options
    if (any) any.disabled = live(phase) // only from the start on
    show(at('applied'), Boolean(applied))
    if (applied) write(at('applied'), this.toldOf(applied))
  }

  /** Another model has other instruments and ranges. */
  suit(models, model, mode) {
    const first = !this.known
    this.known = model
    offer(at('model-choice'), models.map(({ name }) => [name, name]), model.name)
    show(at('model-field'), models.length > 1)
    const instruments = model.instruments ?? []
    const before = at('instrument').value || (instruments.includes('Bass') ? 'Bass' : '')
    const titled = instruments.map(name => [name, WORDS.instrumentOf(name, model.members?.[name])])
    offer(at('instrument'), [['', WORDS.anyInstrument], ...titled], before)
    const range = model.dials?.temperature
    if (range) Object.assign(at('temperature'), { min: range.min, max: range.max, value: range.default })
    if (first && mode === 'serve') at('record').checked = false
    this.write()
  }

  toldOf({ what, place }) {
    const seconds = place === undefined ? 0 : (place - this.engine.place) / this.engine.rate
    return WORDS.appliedTo(WORDS.what[what] ?? what, seconds)
  }
}

