// Tables inside .sortable: a click on a heading sorts by that column, another one turns the order round.
for (const table of document.querySelectorAll('.sortable table')) {
  const body = table.tBodies[0]
  table.querySelectorAll('thead th').forEach((heading, column) => {
    const button = document.createElement('button')
    button.type = 'button'
    button.append(...heading.childNodes.length ? heading.childNodes : ['name'])
    heading.append(button)
    button.addEventListener('click', () => {
      const up = heading.getAttribute('aria-sort') !== 'ascending'
      for (const other of heading.parentNode.children) other.removeAttribute('aria-sort')
      heading.setAttribute('aria-sort', up ? 'ascending' : 'descending')
      const key = row => (row.cells[column]?.textContent ?? '').trim()
      const rank = (a, b) => {
        const [x, y] = [key(a), key(b)]
        if (!x || !y) return x ? -1 : y ? 1 : 0
        const [p, q] = [parseFloat(x), parseFloat(y)]
        const order = isNaN(p) || isNaN(q) ? x.localeCompare(y) : p - q
        return up ? order : -order
      }
      body.append(...[...body.rows].sort(rank))
    })
  })
}
