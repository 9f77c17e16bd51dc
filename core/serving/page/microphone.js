// The microphone: opened without the browser's processing, which is read back.

export const PROCESSING = ['echoCancellation', 'noiseSuppression', 'autoGainControl']

export class Microphone {
  constructor(engine) {
    this.engine = engine
    this.stream = null
    this.node = null
  }

  /** Open a device ('' is the system's choice). Raises the browser's error. boxes: {name: on} of PROCESSING. */
  async open(id, boxes) {
    const audio = { ...boxes, channelCount: { ideal: 2 } }
    if (id) audio.deviceId = { exact: id }
    this.close()
    this.stream = await navigator.mediaDevices.getUserMedia({ audio })
    this.node = this.engine.context.createMediaStreamSource(this.stream)
    this.node.connect(this.engine.node)
  }

  close() {
    this.node?.disconnect()
    this.stream?.getTracks().forEach(track => track.stop())
    this.stream = this.node = null
  }

  get track() {
    return this.stream?.getAudioTracks()[0]
  }

  /** {id, name, rate, ms: what the browser says that input takes, kept: processing that is on though it was not wanted}. */
  told(boxes) {
    const settings = this.track.getSettings()
    return {
      id: settings.deviceId || '',
      name: this.track.label,
      rate: settings.sampleRate,
      ms: 1000 * (settings.latency || 0),
      kept: PROCESSING.filter(name => settings[name] && !boxes[name]),
    }
  }
}

/** {inputs, outputs} as [id, name] pairs. Names are there once a microphone was allowed. */
export async function devices() {
  const all = await navigator.mediaDevices.enumerateDevices()
  const pairs = kind => all.filter(device => device.kind === kind).map(({ deviceId, label }) => [deviceId, label || kind])
  return { inputs: pairs('audioinput'), outputs: pairs('audiooutput') }
}

/** A name or a rate (Hz) that speaks of a headset by Bluetooth. */
export const looksLikeBluetooth = ({ name, rate }) => /bluetooth|hands-?free|airpods|\bbuds\b/i.test(name) || rate <= 16000
