// Drives the page's modules without a browser: a JSON order on each line of stdin, its answer on a line of stdout.
// node page_driver.mjs FOLDER
import { createInterface } from 'node:readline'

const load = name => import(`${process.argv[2]}/${name}`)
const floats = text => new Float32Array(Uint8Array.from(Buffer.from(text, 'base64')).buffer)
const bytes = sound => Buffer.from(sound.buffer, sound.byteOffset, sound.byteLength).toString('base64')

const drivers = {
  async schedule({ settings, sound, steps, end }) {
    const { Schedule } = await load('schedule.js')
    const schedule = new Schedule(settings)
    if (end !== undefined) schedule.endAt(end)
    const made = floats(sound)
    const heard = []
    for (const [what, a, b] of steps) {
      if (what === 'put') schedule.putDown(a, made.subarray(a, b))
      if (what === 'shift') schedule.shift(a)
      if (what === 'take') {
        const out = new Float32Array(a).fill(NaN)
        schedule.exchange(out)
        heard.push(...out)
      }
    }
    return { heard: bytes(Float32Array.from(heard)), counts: schedule.counts(), ...schedule.news() }
  },

  async seams({ fade, sound, there, block }) {
    const { Seams } = await load('seams.js')
    const seams = new Seams(fade)
    const out = floats(sound)
    there.forEach((count, n) => seams.fill(out.subarray(n * block, (n + 1) * block), count))
    return { heard: bytes(out) }
  },

  async frames({ kind, flags, number, place, sound }) {
    const { emptyFrame, flag, opened, samplesOf, stamp } = await load('frames.js')
    const samples = floats(sound)
    const frame = emptyFrame(samples.length)
    samplesOf(frame).set(samples)
    stamp(frame, kind, 0, number, place)
    flag(frame, flags)
    const { samples: back, ...header } = opened(frame)
    let refused = ''
    try { opened(new ArrayBuffer(18)) } catch (error) { refused = error.message }
    return { bytes: bytes(new Uint8Array(frame)), header, back: bytes(back), refused }
  },

  async queue({ most, size, buffered }) {
    const { SendQueue } = await load('queue.js')
    const { emptyFrame, opened, stamp } = await load('frames.js')
    const queue = new SendQueue(most)
    const sent = []
    buffered.forEach((bufferedAmount, number) => {
      const frame = emptyFrame(size)
      stamp(frame, 1, 0, number, number * size)
      const socket = { bufferedAmount, send(taken) { sent.push(opened(taken)); this.bufferedAmount += taken.byteLength } }
      queue.put(frame, bufferedAmount === null ? null : socket)
    })
    return { sent: sent.map(({ number, flags }) => [number, flags]), dropped: queue.dropped, waiting: queue.waiting.length }
  },

  async song({ rate }) {
    const { builtIn } = await load('built_in.js')
    return { sound: bytes(builtIn(rate)) }
  },

  async taps({ times }) {
    const { Taps } = await load('beats.js')
    const taps = new Taps()
    return { told: times.map(time => taps.tap(time)) }
  },

  async clock({ messages }) {
    const { Clock } = await load('clock.js')
    const clock = new Clock()
    return { pulses: messages.map(([time, ...message]) => (clock.receive(message, time), clock.pulse)) }
  },

  async health({ reports, server, trips }) {
    const { Health } = await load('health.js')
    const health = new Health()
    health.begin(48000, 20)
    const messages = reports.map(report => {
      health.hear(report)
      return health.sum(server, trips).message
    })
    return { messages, verdict: health.verdict() }
  },

  async call({ module, name, args }) {
    const found = await load(module)
    return { result: found[name](...args) }
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line)
  const answer = await drivers[order.driver](order).catch(error => ({ error: error.stack }))
  console.log(JSON.stringify(answer))
}
