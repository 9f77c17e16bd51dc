// A song for those who have none at hand: chords of a soft electric piano and a few drums, computed when asked for.

export const BPM = 100
export const PER_BAR = 4
export const CHART = 'C | Am | F | G'
const CHORDS = [[60, 64, 67], [57, 60, 64], [57, 60, 65], [55, 59, 62]] // MIDI notes
const ROUNDS = 4
const TAIL = 1 // seconds
const BEAT = 60 / BPM
const PIANO = [[1, 0.11], [2, 0.038], [3, 0.013], [7, 0.003]] // harmonics and their levels
const STRUCK = [[0, 1.4], [1.5, 0.45], [2, 1.4], [3.5, 0.45]] // beats, and the length in beats

const hertz = note => 440 * 2 ** ((note - 69) / 12)

/** Samples of 16 bars at this rate (Hz). */
export function builtIn(rate) {
  const round = playRound(rate)
  const length = Math.round(CHORDS.length * PER_BAR * BEAT * rate)
  const out = new Float32Array(ROUNDS * length + Math.round(TAIL * rate))
  for (let n = 0; n < ROUNDS; n++) add(out, round, n * length)
  return out
}

function playRound(rate) {
  const out = new Float32Array(Math.round((CHORDS.length * PER_BAR * BEAT + TAIL) * rate))
  CHORDS.forEach((chord, bar) => {
    const put = (sound, beat, late = 0) => add(out, sound, Math.round(((bar * PER_BAR + beat) * BEAT + late) * rate))
    for (const [beat, length] of STRUCK) chord.forEach((note, i) => put(piano(rate, note, length * BEAT), beat, 0.006 * i))
    for (const beat of [0, 2]) put(kick(rate), beat)
    for (const beat of [1, 3]) put(noise(rate, 0.1, 0.06, 0.55), beat)
    for (let half = 0; half < 2 * PER_BAR; half++) put(noise(rate, half % 2 ? 0.02 : 0.04, 0.02, 0.97), half / 2)
  })
  return out
}

function add(out, sound, at) {
  for (let i = 0; i < sound.length && at + i < out.length; i++) out[at + i] += sound[i]
}

/** A decaying sound of `seconds`, that falls by e in `constant` seconds. wave(time, i): its form. */
function decaying(rate, seconds, constant, wave) {
  const out = new Float32Array(Math.round(seconds * rate))
  for (let i = 0; i < out.length; i++) {
    const time = i / rate
    const edge = Math.min(1, time / 0.004, (seconds - time) / 0.01)
    out[i] = edge * Math.exp(-time / constant) * wave(time, i)
  }
  return out
}

function piano(rate, note, seconds) {
  const turn = 2 * Math.PI * hertz(note)
  return decaying(rate, seconds + 0.1, seconds / 1.6, time => PIANO.reduce((sum, [harmonic, level]) => sum + level * Math.sin(harmonic * turn * time), 0))
}

function kick(rate) {
  return decaying(rate, 0.3, 0.08, time => 0.45 * Math.sin(2 * Math.PI * (48 * time + 2.2 * (1 - Math.exp(-time / 0.025)))))
}

/** Noise, the same each time; high: 0 to 1, how far its lows are taken away. */
function noise(rate, level, constant, high) {
  let state = 1
  let before = 0
  return decaying(rate, 5 * constant, constant, () => {
    state = (state * 48271) % 2147483647
    const now = (2 * state) / 2147483647 - 1
    const value = now - high * before
    before = now
    return level * value
  })
}
