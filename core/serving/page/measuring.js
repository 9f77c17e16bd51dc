// The loopback measurement: a known sound goes out, what the microphone hears of it goes to the server with its places.

import { CALIBRATION } from './frames.js'
import { probe } from './server.js'

const SETTLE = 3 // seconds in which streams come to rest
const LEAD = 0.3 // seconds before the probe that are sent, too
const TAIL = 1 // seconds after it
const PROBE = 3.5 // seconds, about
const PINGS = 50
const PING_EVERY = 70 // ms; a server allows 20 messages a second

const wait = seconds => new Promise(done => setTimeout(done, 1000 * seconds))

/** quantiles of round trips (ms): {p50, p99}; null where there is none. */
export function quantiles(trips) {
  if (!trips.length) return null
  const sorted = [...trips].sort((a, b) => a - b)
  const at = q => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]
  return { p50: at(0.5), p99: at(0.99) }
}

/** Play the probe and send what is heard; the server's answer. progress: called with 0 to 1. trips: of the link, filled meanwhile. */
export async function measure({ engine, link, size, trips, progress, settled }) {
  const samples = await probe(engine.rate)
  const ticking = ticker(SETTLE + LEAD + TAIL + samples.length / engine.rate, progress)
  try {
    await wait(SETTLE)
    settled()
    engine.order({ send: { kind: CALIBRATION, size } })
    link.pings(PINGS, PING_EVERY)
    const place = play(engine, samples)
    await wait(LEAD + samples.length / engine.rate + TAIL)
    engine.order({ send: null })
    link.say({ type: 'calibrate', place, ...times({ engine, size, trips }) })
    return await link.answer('measured')
  } finally {
    engine.order({ send: null })
    clearInterval(ticking)
  }
}

/** The server measures its own sound device; its answer. */
export async function measureMachine({ link, engine, size, progress, settled }) {
  const ticking = ticker(SETTLE + LEAD + PROBE + TAIL, progress)
  settled()
  try {
    link.say({ type: 'calibrate', device: true, ...times({ engine, size, trips: [] }) })
    return await link.answer('measured')
  } finally {
    clearInterval(ticking)
  }
}

/** The verdict for a time that was not measured (ms). */
export function assume({ link, ms, engine, size, trips }) {
  link.say({ type: 'calibrate', assumed_ms: ms, ...times({ engine, size, trips }) })
  return link.answer('measured')
}

const times = ({ engine, size, trips }) => ({ frame_ms: (1000 * size) / engine.rate, block_ms: engine.blockMs, rtt_ms: quantiles(trips) })

function play(engine, samples) {
  const buffer = engine.context.createBuffer(1, samples.length, engine.rate)
  buffer.copyToChannel(samples, 0)
  const source = new AudioBufferSourceNode(engine.context, { buffer })
  source.connect(engine.context.destination)
  const place = engine.place + Math.round(LEAD * engine.rate)
  source.start(place / engine.rate)
  return place
}

function ticker(seconds, progress) {
  const began = performance.now()
  return setInterval(() => progress(Math.min(1, (performance.now() - began) / 1000 / seconds)), 100)
}
