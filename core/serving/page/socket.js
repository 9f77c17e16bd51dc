// A Worker with the WebSocket: sound goes between the socket and the audio thread without passing the page's main thread.
// From the page: {open: {url, hello, pipe}}, {say: message}, {pings: {count, every}}, {close: true}. To the page: {said}, {closed}, {trip}, {trying}, {lost}.

import { SendQueue } from './queue.js'

const SUBPROTOCOL = 'accomp.1'
const WAITS = [250, 500, 1000, 2000] // ms before each attempt to come back
const PING = 1000 // ms
const HELD = 0.5 // seconds of sound that may wait to be sent
const TRY_AGAIN = new Set([1001, 1005, 1006, 1012])

let pipe = null
let address = ''
let hello = null
let socket = null
let queue = null
let resume = null
let replica = '' // of several servers behind the address, the one that has the session
let seen = 0 // number of the server's last state message
let attempts = 0
let welcomed = false
let wanted = false // a closed socket is to be opened again
let told = 0 // frames dropped of which the page knows

onmessage = ({ data }) => {
  if (data.open) begin(data.open)
  if (data.say) say(data.say)
  if (data.pings) burst(data.pings)
  if (data.close) end()
}

function begin(order) {
  address = order.url
  hello = order.hello
  if (order.pipe) {
    pipe = order.pipe
    pipe.onmessage = ({ data }) => forward(data)
  }
  resume = null
  replica = ''
  attempts = 0
  wanted = true
  queue = new SendQueue(HELD * 4 * hello.rate)
  connect()
}

function connect() {
  welcomed = false
  seen = 0
  socket = new WebSocket(replica ? `${address}?replica=${encodeURIComponent(replica)}` : address, SUBPROTOCOL)
  socket.binaryType = 'arraybuffer'
  socket.onopen = () => say({ ...hello, resume })
  socket.onmessage = ({ data }) => (data instanceof ArrayBuffer ? pipe?.postMessage(data, [data]) : hear(JSON.parse(data)))
  socket.onclose = closed
}

function hear(message) {
  if (message.type === 'pong') return void postMessage({ trip: performance.now() - message.t })
  if (message.type === 'welcome') {
    welcomed = true
    attempts = 0
    resume = message.resume
    replica = message.replica ?? ''
  }
  if (message.n) seen = message.n
  if (message.type === 'playing') pipe?.postMessage({ begin: message.place })
  if (message.type === 'ended') wanted = false
  postMessage({ said: message })
}

function closed({ code, reason }) {
  socket = null
  const again = wanted && TRY_AGAIN.has(code) && attempts < WAITS.length
  if (!again) return void postMessage({ closed: { code, reason, lost: wanted && TRY_AGAIN.has(code) } })
  postMessage({ trying: attempts + 1 })
  setTimeout(() => wanted && connect(), WAITS[attempts++])
}

function forward(frame) {
  queue?.put(frame, welcomed && socket?.readyState === WebSocket.OPEN ? socket : null)
  if (queue && queue.dropped !== told) postMessage({ dropped: (told = queue.dropped) })
}

function say(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message))
}

function end() {
  wanted = false
  socket?.close(1000)
}

const ping = () => welcomed && say({ type: 'ping', t: performance.now(), ...(seen ? { seen } : {}) })

/** So many round trips, one every so many ms. */
function burst({ count, every }) {
  for (let i = 0; i < count; i++) setTimeout(ping, i * every)
}

setInterval(ping, PING)
