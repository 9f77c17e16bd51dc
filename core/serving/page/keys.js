// Shortcuts: Space, M, F, T, Esc. None fires while something is typed, nor where a key belongs to what has the focus.

const TYPED = 'input:not([type=range]):not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable]'
const PRESSED = 'button, a, summary, audio, input' // Space means something there

export function wireKeys({ playing, controls, music }) {
  const acts = { ' ': () => playing.toggle(), m: () => playing.mute(), f: () => playing.freeze(), t: () => music.tap() }
  addEventListener('keydown', event => {
    if (event.key === 'Escape') return void controls.panic()
    const act = acts[event.key.toLowerCase()]
    if (!act || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return
    if (event.target.closest(TYPED) || (event.key === ' ' && event.target.closest(PRESSED))) return
    event.preventDefault()
    act()
  })
}
