// Elements: finding, creating and changing them. Text goes in as text and as titles only; nothing here parses HTML.

export const byId = (id) => document.getElementById(id);

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export function svg(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// Changes the text in place: a new text node would lose the reader's selection.
export function setText(node, text) {
  const { firstChild } = node;
  if (!firstChild) node.append(text);
  else if (firstChild.data !== text) firstChild.data = text;
}

// The same for the element with this id.
export const put = (id, text) => setText(byId(id), text);

// Returns the function that changes the text in the node: for texts that change often, since it reads nothing from the page.
export function textIn(node) {
  const part = node.firstChild ?? node.appendChild(new Text());
  let shown = part.data;
  return (text) => {
    if (text !== shown) part.data = shown = text;
  };
}

export function setTitle(node, title) {
  if (node.title !== title) node.title = title;
}

// Returns the function that takes the item whose title, `titleOf(item)`, is there while the pointer is: in a table, to set
// all titles costs more than the texts.
export function hoverTitle(node, titleOf) {
  let shown;
  let isOver = false;
  node.addEventListener("pointerenter", () => {
    isOver = true;
    if (shown) setTitle(node, titleOf(shown));
  });
  node.addEventListener("pointerleave", () => {
    isOver = false;
    node.removeAttribute("title");
  });
  return (item) => {
    shown = item;
    if (isOver) setTitle(node, titleOf(item));
  };
}

// A figure is what the functions of format.js return: a text and, where it says more, a title.
export function setFigure(node, { text, title = "" }) {
  setText(node, text);
  setTitle(node, title);
}

// The same for figures that change often: returns the function that shows a figure in the node, or in `part` of it.
export function figureIn(node, part = node) {
  const showText = textIn(part);
  const takeTitle = hoverTitle(node, ({ title = "" }) => title);
  return (figure) => {
    showText(figure.text);
    takeTitle(figure);
  };
}

// Keeps one child per item, found again by its key, so that a selection or the focus in it survives.
// `create(item)` returns the child's `node` and `fill(item)`, which shows an item in it.
export function updateChildren(parent, items, key, create) {
  const known = (parent.known ??= new Map());
  const wanted = new Set(items.map(key));
  for (const [name, entry] of known) {
    if (wanted.has(name)) continue;
    entry.node.remove();
    known.delete(name);
  }
  let cursor = parent.firstElementChild;
  for (const item of items) {
    let entry = known.get(key(item));
    if (!entry) known.set(key(item), (entry = create(item)));
    if (entry.node === cursor) cursor = cursor.nextElementSibling;
    else parent.insertBefore(entry.node, cursor);
    entry.fill(item);
  }
}
