// What was recorded: fetched with the token, to be heard and to be kept.

import { at, make, show, write } from './dom.js'
import { ask } from './server.js'
import { WORDS } from './words.js'

const PLAYED = ['mix.wav', 'heard.wav', 'input.wav']

export class Takes {
  constructor(store) {
    this.shown = null
    this.addresses = []
    store.show(({ files, ended }) => files !== this.shown && this.draw(files, ended))
  }

  async draw(files, ended) {
    this.shown = files
    this.addresses.splice(0).forEach(address => URL.revokeObjectURL(address))
    at('takes-list').replaceChildren()
    show(at('takes'), Boolean(files && (files.length || ended)))
    if (!files) return
    this.say(files.length ? WORDS.fetching : ended || WORDS.recordedNothing)
    if (!files.length) return
    try {
      const parts = await Promise.all(files.map(file => this.fetched(file)))
      if (this.shown !== files) return
      this.say(ended)
      const order = ({ name }) => (PLAYED.includes(name) ? PLAYED.indexOf(name) : PLAYED.length)
      at('takes-list').replaceChildren(...parts.sort((a, b) => order(a) - order(b)).map(part => this.item(part)))
    } catch (error) {
      this.say(WORDS.notFetched(error.message))
    }
  }

  say(text) {
    show(at('takes-said'), Boolean(text))
    write(at('takes-said'), text)
  }

  async fetched({ name, url, bytes }) {
    const blob = await (await ask(url)).blob()
    const address = URL.createObjectURL(blob)
    this.addresses.push(address)
    return { name, address, bytes: bytes ?? blob.size }
  }

  item({ name, address, bytes }) {
    const told = WORDS.names[name] ?? name
    const link = make('a', { href: address, download: name, className: 'button', textContent: `${name}, ${WORDS.size(bytes)}` })
    link.setAttribute('aria-label', WORDS.download(`${told}: ${name}, ${WORDS.size(bytes)}`))
    if (!PLAYED.includes(name)) return make('p', { className: 'take' }, make('span', { className: 'name', textContent: told }), link)
    const audio = make('audio', { controls: true, preload: 'metadata', src: address })
    audio.setAttribute('aria-label', told)
    return make('figure', { className: 'take' }, make('figcaption', { className: 'name', textContent: told }), audio, link)
  }
}
