// Every number, for those who want them and for bug reports. No token is among them.

import { at, write } from './dom.js'
import { VERSION } from './course.js'
import { WORDS } from './words.js'

const PERIOD = 1000 // ms between two pictures

export function showDetails({ store, engine, course }) {
  const text = () => JSON.stringify(numbers(store.values, engine, course), null, 1)
  setInterval(() => at('details').open && write(at('numbers'), text()), PERIOD)
  at('details').addEventListener('toggle', () => write(at('numbers'), text()))
  at('copy').addEventListener('click', async () => {
    const done = await navigator.clipboard?.writeText(text()).then(() => true, () => false)
    write(at('copied'), done ? WORDS.copied : WORDS.notCopied)
  })
}

function numbers(values, engine, course) {
  const { phase, mode, model, source, song, device, first, measured, counts, server, health, ended, notice } = values
  const { context } = engine
  return {
    page: VERSION, browser: navigator.userAgent, phase, mode, session: course.session, notice: notice?.text, ended,
    model, source, song: song && { seconds: song.buffer.duration, channels: song.buffer.numberOfChannels }, device,
    sound: context && { rate: context.sampleRate, state: context.state, output_ms: engine.outputMs, frame: course.size },
    first_ms: first, measured, counts: counts && { ...counts, message: undefined }, health, server,
  }
}
