// A recording that is played as if it were live: into the node that hears, and beside the accompaniment.

export class Song {
  constructor(engine) {
    this.engine = engine
    this.volume = 0.7
    this.source = this.gain = null
    this.begins = 0
  }

  /** Begin so that the song's sample 0 has this place; ended() is called at its end, not after `stop`. */
  play(buffer, place, ended) {
    const { context, node, rate } = this.engine
    this.stop()
    this.begins = place
    this.source = new AudioBufferSourceNode(context, { buffer })
    this.gain = new GainNode(context, { gain: this.volume })
    this.source.connect(node)
    this.source.connect(this.gain).connect(context.destination)
    this.source.onended = ended
    this.source.start(place / rate)
  }

  setVolume(volume) {
    this.volume = volume
    this.gain?.gain.setTargetAtTime(volume, this.engine.context.currentTime, 0.01)
  }

  /** Silent for the ear within 10 ms; the model goes on hearing it. */
  silence(on) {
    this.gain?.gain.setTargetAtTime(on ? 0 : this.volume, this.engine.context.currentTime, 0.003)
  }

  stop() {
    if (!this.source) return
    this.source.onended = null
    this.source.stop()
    this.source.disconnect()
    this.source = null
  }

  /** Seconds of it that have been played. */
  get position() {
    return this.source ? Math.max(0, (this.engine.place - this.begins) / this.engine.rate) : 0
  }
}

/** What a file holds, at the context's rate. Raises where the browser cannot decode it. */
export async function decoded(engine, file) {
  return engine.context.decodeAudioData(await file.arrayBuffer())
}
