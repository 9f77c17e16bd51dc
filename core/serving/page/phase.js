// The title bar and the notice beneath it: how things stand, what is in the way, and its cure.

import { at, show, write } from './dom.js'
import { WORDS } from './words.js'

const PAUSE = 2000 // ms between two things that a screen reader says
const TONES = {
  preparing: 'busy',
  ready: 'good', playing: 'good', countin: 'good', measuring: 'busy', starting: 'busy', opening: 'busy', stopping: 'busy',
  reconnecting: 'near', full: 'near', interrupted: 'near', refused: 'bad', lost: 'bad', blocked: 'bad',
}

/** Says to a screen reader what is new, at most once in two seconds, the last of several. */
export class Speaker {
  constructor(node) {
    this.node = node
    this.last = -Infinity
    this.waiting = null
  }

  say(text) {
    this.text = text
    this.waiting ??= setTimeout(() => this.speak(), Math.max(0, this.last + PAUSE - performance.now()))
  }

  speak() {
    this.waiting = null
    this.last = performance.now()
    write(this.node, this.text)
  }
}

export function showPhase(store) {
  const speaker = new Speaker(at('status'))
  at('notice-do').addEventListener('click', () => store.values.notice?.act())
  store.show(({ phase, notice, model, health }) => {
    write(at('phase'), WORDS.phases[phase])
    at('phase').dataset.tone = TONES[phase] ?? 'quiet'
    write(at('model'), model ? WORDS.model(model.name, -model.t_f_ms) : '')
    const trouble = phase === 'playing' && health.tone === 'bad' ? WORDS.health.bad : ''
    speaker.say([WORDS.phases[phase], notice?.text, trouble].filter(Boolean).join('. '))
    draw(notice)
  })
}

function draw(notice) {
  show(at('notice'), Boolean(notice))
  if (!notice) return
  at('notice').dataset.tone = notice.tone
  write(at('notice-text'), notice.text)
  show(at('notice-do'), Boolean(notice.label))
  write(at('notice-do'), notice.label ?? '')
}
