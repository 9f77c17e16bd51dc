// The card "How long does sound take here?" and the budget.

import { at, make, show, write } from './dom.js'
import { busy, live } from './store.js'
import { WORDS } from './words.js'

export function showMeasure({ store, course }) {
  const progress = value => (at('measure-progress').value = value)
  const settled = () => write(at('measure-said'), WORDS.measuring)
  at('measure-do').addEventListener('click', () => {
    write(at('measure-said'), WORDS.settling)
    course.measure(progress, settled)
  })
  at('first').addEventListener('input', () => write(at('first-said'), WORDS.ms(at('first').value)))
  at('first').addEventListener('change', () => course.assume(Number(at('first').value)))
  store.show(draw)
}

function draw({ source, phase, first, drag, measured }) {
  show(at('measure'), Boolean(source) && source !== 'song')
  show(at('measure-progress'), phase === 'measuring')
  at('measure-do').disabled = busy(phase) || live(phase)
  at('first').disabled = busy(phase)
  at('first').value = Math.round(first / 5) * 5
  write(at('first-said'), WORDS.ms(first))
  if (phase !== 'measuring') write(at('measure-said'), [told(measured), drag ? WORDS.drags(drag) : ''].filter(Boolean).join(' '))
  show(at('budget'), Boolean(measured?.budget?.length))
  at('budget-rows').replaceChildren(...(measured?.budget ?? []).map(row))
}

function told(measured) {
  if (!measured || (measured.assumed && measured.first_ms === undefined)) return WORDS.measureWhy
  if (measured.ok === false) return WORDS.notMeasured(measured.why, measured.try_again)
  return measured.assumed ? `${WORDS.measured(measured)} ${WORDS.measureWhy}` : WORDS.measured(measured)
}

const row = ({ name, ms }) => make('tr', {}, make('th', { scope: 'row', textContent: name }), make('td', { textContent: WORDS.ms(ms) }))
