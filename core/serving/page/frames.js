// Binary frames of the protocol accomp.1: 16 bytes of header, then float32 samples of one channel, all little endian.
//   0 kind   1 flags   2, 3 reserved   4..7 number of the frame, wraps   8..15 place of its first sample   16.. samples

export const HEADER = 16
export const AUDIO = 1
export const CALIBRATION = 2
export const BROKEN = 1 // flag: sound before this frame is missing
export const LAST = 2 // flag: the last frame of the session
const WORD = 2 ** 32

/** Room for a frame of so many samples; the header is still to be stamped. */
export const emptyFrame = samples => new ArrayBuffer(HEADER + 4 * samples)

/** The samples of a frame, to be written or read in place. */
export const samplesOf = frame => new Float32Array(frame, HEADER)

/** Write the header. place: a whole number from 0 to 2 ** 53. */
export function stamp(frame, kind, flags, number, place) {
  const view = new DataView(frame)
  view.setUint8(0, kind)
  view.setUint8(1, flags)
  view.setUint16(2, 0)
  view.setUint32(4, number % WORD, true)
  view.setUint32(8, place % WORD, true)
  view.setUint32(12, Math.floor(place / WORD), true)
}

/** Add flags to a stamped frame. */
export function flag(frame, flags) {
  const view = new DataView(frame)
  view.setUint8(1, view.getUint8(1) | flags)
}

/** {kind, flags, number, place, samples}. Throws RangeError where the bytes are no frame. */
export function opened(frame) {
  const rest = frame.byteLength - HEADER
  if (rest < 0 || rest % 4) throw new RangeError(`a frame of ${frame.byteLength} bytes; expected 16 and 4 for each sample`)
  const view = new DataView(frame)
  return {
    kind: view.getUint8(0),
    flags: view.getUint8(1),
    number: view.getUint32(4, true),
    place: view.getUint32(8, true) + WORD * view.getUint32(12, true),
    samples: samplesOf(frame),
  }
}
