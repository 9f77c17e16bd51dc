// The page's end of the Worker that holds the WebSocket. Events: said, closed, trying, trip, dropped.

const FAREWELLS = ['refused', 'ended', 'ending']

export class Link extends EventTarget {
  constructor() {
    super()
    this.worker = new Worker(new URL('./socket.js', import.meta.url), { type: 'module' })
    this.worker.onmessage = ({ data }) => this.tell(data)
    this.welcome = null
    this.why = '' // what the server said last before it closed
    this.waiting = []
  }

  /** Connect and say hello; the server's welcome. Rejects with {code, why} where it closes instead. */
  open({ url, hello, pipe }) {
    this.why = ''
    this.retryAfter = undefined
    this.worker.postMessage({ open: { url, hello, pipe } }, pipe ? [pipe] : [])
    return this.answer('welcome')
  }

  say(message) {
    this.worker.postMessage({ say: message })
  }

  pings(count, every) {
    this.worker.postMessage({ pings: { count, every } })
  }

  close() {
    this.worker.postMessage({ close: true })
  }

  /** The next message of one of these types. */
  answer(...types) {
    return new Promise((resolve, reject) => this.waiting.push({ types, resolve, reject }))
  }

  tell(data) {
    const [[name, detail]] = Object.entries(data)
    if (name === 'said') this.hear(detail)
    if (name === 'closed') this.end(detail)
    if (name === 'trying') this.lose()
    this.dispatchEvent(new CustomEvent(name, { detail }))
  }

  hear(message) {
    if (message.type === 'welcome') this.welcome = message
    if (FAREWELLS.includes(message.type)) this.why = message.why
    if (message.retry_after !== undefined) this.retryAfter = message.retry_after
    const answered = this.waiting.filter(({ types }) => types.includes(message.type))
    this.waiting = this.waiting.filter(one => !answered.includes(one))
    for (const { resolve } of answered) resolve(message)
  }

  /** What was asked on a connection that broke is not answered any more. */
  lose() {
    this.reject(({ types }) => !types.includes('welcome'), { code: 0, why: '', lost: true })
  }

  end(closed) {
    this.welcome = null
    Object.assign(closed, { why: this.why || closed.reason, retryAfter: this.retryAfter })
    this.reject(() => true, closed)
  }

  reject(which, reason) {
    const rejected = this.waiting.filter(which)
    this.waiting = this.waiting.filter(one => !rejected.includes(one))
    for (const { reject } of rejected) reject(reason)
  }
}
