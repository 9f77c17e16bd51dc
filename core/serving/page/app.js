// Puts the page together.

import { Clicks } from './clicks.js'
import { Controls } from './controls.js'
import { Course } from './course.js'
import { showDetails } from './details.js'
import { Dials, wishes } from './dials.js'
import { at, fillWords, show } from './dom.js'
import { Engine } from './engine.js'
import { wireKeys } from './keys.js'
import { Link } from './link.js'
import { Listening } from './listen.js'
import { showMeasure } from './measure.js'
import { Microphone } from './microphone.js'
import { Music } from './music.js'
import { showPhase } from './phase.js'
import { Playing } from './play.js'
import { RemoteClicks, RemoteEngine } from './remote.js'
import { models, useToken } from './server.js'
import { Song } from './song.js'
import { Store, initial, live } from './store.js'
import { Takes } from './takes.js'
import { WORDS } from './words.js'

const LOOK = 1000 // ms
const REMOTE = Number(document.documentElement.dataset.device ?? 0) // rate (Hz) of the server's sound device, if it plays through one

function build() {
  const store = new Store(initial())
  const parts = { store, link: new Link() }
  const report = told => [parts.course, parts.listening].forEach(part => part?.report(told))
  parts.engine = REMOTE
    ? new RemoteEngine({ link: parts.link, rate: REMOTE, report })
    : new Engine({ report, changed: state => soundChanged(parts, state) })
  parts.song = new Song(parts.engine)
  parts.clicks = REMOTE ? new RemoteClicks(parts.engine) : new Clicks(parts.engine)
  parts.microphone = new Microphone(parts.engine)
  parts.controls = new Controls(parts)
  parts.music = new Music(parts)
  parts.course = new Course({ ...parts, wishes: () => wishes(parts) })
  parts.dials = new Dials(parts)
  parts.listening = new Listening(parts)
  parts.playing = new Playing(parts)
  parts.takes = new Takes(store)
  showPhase(store)
  showMeasure(parts)
  showDetails(parts)
  wireKeys(parts)
  wireTab(parts)
  return parts
}

/** Whatever the state, as long as sound does not run there is one button that wakes it. */
function soundChanged({ store, engine }, state) {
  const { phase } = store.values
  if (state === 'running') {
    if (store.values.asleep) store.set({ asleep: false, notice: null })
  } else if (live(phase) || phase === 'ready') {
    store.set({ asleep: true, notice: { tone: 'warn', text: WORDS.interrupted, label: WORDS.goOn, act: () => engine.open() } })
  }
}

function wireTab({ store, playing }) {
  document.addEventListener('visibilitychange', () => {
    const { phase, notice } = store.values
    if (!live(phase)) return
    if (document.hidden && !notice) store.set({ notice: { tone: 'quiet', text: WORDS.hidden } })
    else if (notice?.text === WORDS.hidden) store.set({ notice: null })
    playing.lock = null
    playing.keepAwake(live(phase))
  })
}

/** What makes live sound impossible here; '' where nothing does. */
function obstacle() {
  if (REMOTE) return ''
  if (!isSecureContext) return WORDS.insecure(location.origin)
  return 'AudioWorkletNode' in window ? '' : WORDS.noWorklet
}

async function meetServer({ store, listening }) {
  try {
    const told = await models()
    show(at('token'), false)
    if (!told.models.length) return waitForModels({ store, listening }, told.preparing)
    store.set({ models: told.models, model: told.models[0], mode: told.mode ?? '', mayRecord: told.record !== false, phase: 'choose', notice: null })
    if (told.device) await listening.useMachine(told.device)
  } catch (error) {
    const refused = error.status === 401 || error.status === 403
    show(at('token'), refused)
    const again = refused ? {} : { label: WORDS.tryAgain, act: () => meetServer({ store, listening }) }
    store.set({ phase: 'blocked', notice: refused ? null : { tone: 'bad', text: WORDS.noServer, ...again } })
  }
}

/** A server that has just been started is still making its models ready. */
function waitForModels(parts, work) {
  parts.store.set({ phase: 'preparing', notice: work ? { tone: 'quiet', text: WORDS.preparing(work) } : null })
  setTimeout(() => meetServer(parts), LOOK)
}

fillWords()
const parts = build()
const blocked = obstacle()
if (blocked) parts.store.set({ phase: 'blocked', notice: { tone: 'bad', text: blocked } })
else await meetServer(parts)
at('token').addEventListener('submit', event => {
  event.preventDefault()
  useToken(at('token-text').value)
  meetServer(parts)
})
