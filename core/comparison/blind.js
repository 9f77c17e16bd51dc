// Blind listening. Every pair of entries of a song is asked once, in random order, before any comes again.
(() => {
  const root = document.getElementById('blind')
  if (!root) return
  const at = id => document.getElementById(`blind-${id}`)
  const players = new Map()
  for (const audio of document.querySelectorAll('audio[data-entry]')) {
    const song = audio.dataset.song
    if (!players.has(song)) players.set(song, new Map())
    players.get(song).set(audio.dataset.entry, audio.getAttribute('src'))
  }
  const pairs = []
  for (const [song, entries] of players) {
    const names = [...entries.keys()]
    names.forEach((a, i) => names.slice(i + 1).forEach(b => pairs.push({ song, names: [a, b] })))
  }
  if (!pairs.length) { root.textContent = 'There are no two accompaniments of one song to compare.'; return }
  const random = n => Math.floor(Math.random() * n)
  const shuffle = list => { for (let i = list.length - 1; i > 0; i--) { const j = random(i + 1); [list[i], list[j]] = [list[j], list[i]] } }
  const answers = []
  let queue = [], now = null, saved = 0
  const next = () => {
    if (!queue.length) { queue = pairs.slice(); shuffle(queue) }
    const { song, names } = queue.pop()
    const [a, b] = random(2) ? names : [names[1], names[0]]
    now = { song, a, b }
    at('a').src = players.get(song).get(a)
    at('b').src = players.get(song).get(b)
    at('song').textContent = `Song: ${song}`
    at('progress').textContent = `${answers.length} answers of ${pairs.length} pairs, ${answers.length - saved} not saved`
  }
  const cell = text => /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
  root.addEventListener('click', event => {
    const preferred = event.target.dataset.preferred
    if (!preferred) return
    answers.push({ ...now, preferred, listener: at('listener').value.trim(), time: new Date().toISOString() })
    next()
  })
  at('save').addEventListener('click', () => {
    const columns = ['song', 'a', 'b', 'preferred', 'listener', 'time']
    const lines = [columns, ...answers.map(answer => columns.map(name => cell(answer[name])))].map(row => row.join(','))
    const link = document.createElement('a')
    link.href = URL.createObjectURL(new Blob([lines.join('\n') + '\n'], { type: 'text/csv' }))
    link.download = 'answers.csv'
    link.click()
    saved = answers.length
    at('progress').textContent = `${answers.length} answers saved`
  })
  addEventListener('beforeunload', event => { if (answers.length > saved) event.preventDefault() })
  next()
})()
