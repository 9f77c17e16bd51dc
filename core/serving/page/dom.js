// Small helpers for the document.

import { WORDS } from './words.js'

export const at = id => document.getElementById(id)

/** Fill the words into the skeleton: data-say into the text, data-label into aria-label, data-hint into the placeholder. */
export function fillWords(root = document) {
  for (const node of root.querySelectorAll('[data-say]')) node.textContent = WORDS[node.dataset.say]
  for (const node of root.querySelectorAll('[data-label]')) node.setAttribute('aria-label', WORDS[node.dataset.label])
  for (const node of root.querySelectorAll('[data-hint]')) node.placeholder = WORDS[node.dataset.hint]
}

/** Set a text only where it differs, so that nothing is drawn or told anew. */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text
}

export function show(node, visible) {
  if (node.hidden === visible) node.hidden = !visible
}

/** An element with properties and children. */
export function make(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties)
  node.append(...children)
  return node
}

/** Make a select offer these [value, text] pairs, and keep its choice where it is still there. */
export function offer(select, pairs, value = select.value) {
  select.replaceChildren(...pairs.map(([value, text]) => make('option', { value, textContent: text })))
  if (pairs.some(([known]) => known === value)) select.value = value
}

export const chosen = name => document.querySelector(`input[name="${name}"]:checked`).value

export function choose(name, value) {
  document.querySelector(`input[name="${name}"][value="${value}"]`).checked = true
}

export const calm = () => matchMedia('(prefers-reduced-motion: reduce)').matches
