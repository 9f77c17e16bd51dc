// The AudioContext and what hangs in it: the node that hears and plays, volumes, the output device.
//
//   microphone or song -> duplex node -> volume -> destination        song -> its volume -> destination

export class Engine {
  /** report: called with what the audio thread tells, some 20 times a second. changed: when the context's state does. */
  constructor({ report, changed }) {
    this.report = report
    this.changed = changed
    this.context = null
    this.opening = null
  }

  /** Make the context, or wake it: to be called in the handler of a click. */
  open() {
    this.opening ??= this.make()
    return this.opening.then(() => this.wake())
  }

  async make() {
    this.context = new AudioContext({ latencyHint: 'interactive' })
    this.context.onstatechange = () => this.changed(this.context.state)
    await this.context.audioWorklet.addModule(new URL('./worklet.js', import.meta.url))
    this.node = new AudioWorkletNode(this.context, 'duplex', {
      outputChannelCount: [1], channelCount: 1, channelCountMode: 'explicit',
    })
    this.node.port.onmessage = ({ data }) => this.report(data)
    this.volume = new GainNode(this.context)
    this.node.connect(this.volume).connect(this.context.destination)
    const { port1, port2 } = new MessageChannel()
    this.node.port.postMessage({ pipe: port1 }, [port1])
    this.pipe = port2 // for the Worker, once
  }

  async wake() {
    if (this.context.state !== 'running') await this.context.resume()
  }

  get rate() {
    return this.context.sampleRate
  }

  /** The place that is being played. */
  get place() {
    return Math.round(this.context.currentTime * this.rate)
  }

  /** What is processed at once (ms), as far as the browser says it. */
  get blockMs() {
    return 1000 * (this.context.baseLatency || 0)
  }

  /** What the browser says that output takes (ms); not enough where it matters, see the measurement. */
  get outputMs() {
    return this.blockMs + 1000 * (this.context.outputLatency || 0)
  }

  order(message) {
    this.node?.port.postMessage(message)
  }

  setVolume(volume) {
    this.volume?.gain.setTargetAtTime(volume, this.context.currentTime, 0.01)
  }

  get choosesOutput() {
    return 'setSinkId' in AudioContext.prototype
  }

  setOutput(id) {
    return this.context.setSinkId(id)
  }
}
