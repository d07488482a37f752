// Which rows a table shows, and in which order.

// The rows of a table that has all of them: those that match its search, in its order.
export function select({ rows, columns, text, words, sortName, sortOrder }) {
  const terms = words.toLowerCase().split(/\s+/).filter(Boolean);
  const matches = (row) => {
    const all = text(row).toLowerCase();
    return terms.every((term) => all.includes(term));
  };
  const found = terms.length ? rows.filter(matches) : rows;
  const { value } = columns.find(({ name }) => name === sortName);
  const read = typeof value === "function" ? value : (row) => row[value];
  const sign = sortOrder === "ascending" ? 1 : -1;
  const sorted = found
    .map((row, index) => ({ row, by: read(row), index }))
    .sort((a, b) => (a.by < b.by ? -sign : a.by > b.by ? sign : a.index - b.index))
    .map(({ row }) => row);
  return { all: rows.length, matched: sorted.length, offset: 0, rows: sorted };
}

// The rows of `next` in the places that they have in `last`, with new ones in the places that are free.
export function held(last, next, key) {
  const named = new Map(next.also?.map((row) => [key(row), row]));
  const fresh = new Map(next.rows.map((row) => [key(row), row]));
  const kept = last.rows.map((row) => {
    const name = key(row);
    const now = fresh.get(name) ?? named.get(name);
    fresh.delete(name);
    return now;
  });
  const free = fresh.values();
  const rows = next.rows.length === next.matched
    ? [...kept, ...free]
    : next.rows.map((_, index) => kept[next.offset + index - last.offset] ?? free.next().value);
  return { ...next, rows: rows.filter(Boolean) };
}
