// The server's HTTP side, asked with the token that the address carries behind its #.

let token = new URLSearchParams(location.hash.slice(1)).get('token') || ''

export const tokenNow = () => token

export function useToken(text) {
  token = text.trim()
}

export const socketAddress = () => `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/v1/live`

/** The answer to a GET with the token. Throws Error with a `status` where it is not 200; 0 where there is no server. */
export async function ask(path) {
  const answer = await fetch(path, { headers: { Authorization: `Bearer ${token}` }, cache: 'no-store' }).catch(() => ({ status: 0 }))
  if (answer.ok) return answer
  throw Object.assign(new Error(`${path}: ${answer.status}`), { status: answer.status })
}

export async function models() {
  const told = await (await ask('/v1/models')).json()
  return Array.isArray(told) ? { models: told } : told
}

/** The calibration sound at a rate (Hz), samples. */
export async function probe(rate) {
  return new Float32Array(await (await ask(`/v1/probe?rate=${rate}`)).arrayBuffer())
}
