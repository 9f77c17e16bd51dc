// A song for those who have none at hand: chords of a soft electric piano and a few drums, made when it is asked for.

export const BPM = 100
export const PER_BAR = 4
export const CHART = 'C | Am | F | G'
const CHORDS = [[60, 64, 67], [57, 60, 64], [57, 60, 65], [55, 59, 62]] // MIDI notes
const ROUNDS = 4
const BEAT = 60 / BPM

const hertz = note => 440 * 2 ** ((note - 69) / 12)

/** One AudioBuffer of 16 bars, at this rate (Hz). */
export async function builtIn(rate) {
  const bars = ROUNDS * CHORDS.length
  const context = new OfflineAudioContext(1, Math.ceil((bars * PER_BAR * BEAT + 1) * rate), rate)
  const noise = noiseOf(context)
  for (let bar = 0; bar < bars; bar++) playBar(context, noise, bar)
  return context.startRendering()
}

function playBar(context, noise, bar) {
  const begin = bar * PER_BAR * BEAT
  const chord = CHORDS[bar % CHORDS.length]
  for (const [beat, length] of [[0, 1.4], [1.5, 0.45], [2, 1.4], [3.5, 0.45]])
    chord.forEach((note, i) => piano(context, note, begin + beat * BEAT + 0.006 * i, length * BEAT))
  for (let half = 0; half < 2 * PER_BAR; half++) hat(context, noise, begin + (half * BEAT) / 2, half % 2 ? 0.05 : 0.09)
  for (const beat of [0, 2]) kick(context, begin + beat * BEAT)
  for (const beat of [1, 3]) snare(context, noise, begin + beat * BEAT)
}

function piano(context, note, when, length) {
  const gain = envelope(context, when, 0.11, length)
  for (const [harmonic, level] of [[1, 1], [2, 0.35], [3, 0.12], [7, 0.03]]) {
    const tone = new OscillatorNode(context, { frequency: harmonic * hertz(note) })
    tone.connect(new GainNode(context, { gain: level })).connect(gain)
    tone.start(when)
    tone.stop(when + length + 0.3)
  }
}

function kick(context, when) {
  const tone = new OscillatorNode(context, { frequency: 120 })
  tone.frequency.setValueAtTime(120, when)
  tone.frequency.exponentialRampToValueAtTime(45, when + 0.09)
  tone.connect(envelope(context, when, 0.5, 0.12))
  tone.start(when)
  tone.stop(when + 0.5)
}

function snare(context, noise, when) {
  burst(context, noise, when, 0.16, 0.1, 1800, 'bandpass')
}

function hat(context, noise, when, level) {
  burst(context, noise, when, level, 0.03, 7000, 'highpass')
}

function burst(context, noise, when, level, length, frequency, type) {
  const source = new AudioBufferSourceNode(context, { buffer: noise })
  source.connect(new BiquadFilterNode(context, { type, frequency })).connect(envelope(context, when, level, length))
  source.start(when)
  source.stop(when + 3 * length)
}

function envelope(context, when, level, length) {
  const gain = new GainNode(context, { gain: 0 })
  gain.gain.setValueAtTime(0, when)
  gain.gain.linearRampToValueAtTime(level, when + 0.004)
  gain.gain.setTargetAtTime(0, when + 0.004, length / 2.5)
  gain.connect(context.destination)
  return gain
}

/** A second of noise, the same each time. */
function noiseOf(context) {
  const buffer = context.createBuffer(1, context.sampleRate, context.sampleRate)
  let state = 1
  buffer.copyToChannel(Float32Array.from({ length: buffer.length }, () => {
    state = (state * 48271) % 2147483647
    return (2 * state) / 2147483647 - 1
  }), 0)
  return buffer
}
