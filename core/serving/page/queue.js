// Frames on their way to the server: what a slow network cannot take is dropped, the oldest first, and marked.

import { BROKEN, flag } from './frames.js'

export class SendQueue {
  /** most: bytes that may wait in the socket; as much again may wait here. */
  constructor(most) {
    this.most = most
    this.waiting = []
    this.bytes = 0
    this.dropped = 0 // frames
    this.broken = false
  }

  /** Hand over a frame, and to `socket` (a WebSocket, or null where there is none) what it can take. */
  put(frame, socket) {
    this.waiting.push(frame)
    this.bytes += frame.byteLength
    while (socket && this.waiting.length && socket.bufferedAmount <= this.most) this.send(socket)
    while (this.waiting.length && (!socket || this.bytes > this.most)) this.drop()
  }

  send(socket) {
    const frame = this.waiting.shift()
    this.bytes -= frame.byteLength
    if (this.broken) flag(frame, BROKEN)
    this.broken = false
    socket.send(frame)
  }

  drop() {
    this.bytes -= this.waiting.shift().byteLength
    this.dropped += 1
    this.broken = true
  }
}
