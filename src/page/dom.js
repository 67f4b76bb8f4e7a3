// Builds elements. Whatever comes from a log only ever becomes a text node: nothing in this page parses HTML.

const SVG = 'http://www.w3.org/2000/svg';

/**
 * Makes an element. `props`: `class`, `text`, `data` (dataset), `on` (listeners), anything else is an attribute; an attribute
 * that is `null`, `undefined` or `false` is left out, `true` is an empty one.
 */
export function el(tag, props, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === 'class') element.className = value;
    else if (name === 'text') element.textContent = value;
    else if (name === 'data') Object.assign(element.dataset, value);
    else if (name === 'on') for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  put(element, children);
  return element;
}

/** Appends nodes and texts; lists are flattened, nothing is left out but `null`, `undefined` and `false`. */
export function put(parent, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    parent.append(child);
  }
  return parent;
}

/** Replaces everything in an element. */
export function fill(parent, ...children) {
  parent.replaceChildren();
  return put(parent, children);
}

/** A button that is one. */
export function button(props, ...children) {
  return el('button', { type: 'button', ...props }, ...children);
}

// Outlines on a grid of 16: drawn here, so that no image is ever fetched.
const ICONS = {
  search: 'M7 2.5a4.5 4.5 0 1 1 0 9a4.5 4.5 0 0 1 0-9M10.4 10.4L14 14',
  fold: 'M6 4l4 4l-4 4',
  check: 'M3.5 8.5l3 3l6-7',
  cross: 'M4 4l8 8M12 4l-8 8',
  copy: 'M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3',
  link: 'M6.5 9.5l3-3M7 4.6l1.7-1.7a3 3 0 0 1 4.3 4.3L11.4 9M9 11.4l-1.7 1.7A3 3 0 0 1 3 8.8L4.6 7',
  braces: 'M6 2.5c-2 0-1.5 2-1.5 3.5S4 8 2.5 8c1.5 0 2 .5 2 2s-.5 3.5 1.5 3.5M10 2.5c2 0 1.5 2 1.5 3.5S12 8 13.5 8c-1.5 0-2 .5-2 2s.5 3.5-1.5 3.5',
  download: 'M8 2.5v7M5 7l3 3l3-3M3 13h10',
  down: 'M8 3v9.5M4 8.5l4 4l4-4',
  up: 'M8 13V3.5M4 7.5l4-4l4 4',
  sun: 'M8 5a3 3 0 1 1 0 6a3 3 0 0 1 0-6M8 1.5v1M8 13.5v1M1.5 8h1M13.5 8h1M3.4 3.4l.7.7M11.9 11.9l.7.7M3.4 12.6l.7-.7M11.9 4.1l.7-.7',
  moon: 'M13 9.5A5.5 5.5 0 1 1 6.5 3a4.5 4.5 0 0 0 6.5 6.5z',
  auto: 'M8 2.5a5.5 5.5 0 1 1 0 11a5.5 5.5 0 0 1 0-11M8 2.5v11M10 3v10M12 4.5v7',
  keys: 'M2 4.5h12v7.5H2zM4.5 7h.01M7 7h.01M9.5 7h.01M12 7h.01M5 9.6h6',
  user: 'M8 3a2.5 2.5 0 1 1 0 5a2.5 2.5 0 0 1 0-5M3 13.5c.5-3 2.5-4 5-4s4.5 1 5 4',
  spark: 'M8 2l1.5 4.5L14 8l-4.5 1.5L8 14l-1.5-4.5L2 8l4.5-1.5z',
  thought: 'M4.5 11a3 3 0 0 1-.3-6a4 4 0 0 1 7.6.5a2.8 2.8 0 0 1-.3 5.5zM5 13.5h.01',
  tool: 'M10 2.5a3.5 3.5 0 0 0-3.3 4.7L2.5 11.5l2 2l4.3-4.2A3.5 3.5 0 0 0 13.5 6l-2.2 1.2l-1.7-1.7L10.8 3.3z',
  gap: 'M2 8h2M6 8h1M9 8h1M12 8h2M8 3l5.5 10h-11z',
  hook: 'M8 3.5v5M8 8.5a3 3 0 1 1-3 3M6.5 3.5h3',
  book: 'M3 3h4a1 1 0 0 1 1 1v9a1 1 0 0 0-1-1H3zM13 3H9a1 1 0 0 0-1 1v9a1 1 0 0 1 1-1h4z',
  dot: 'M8 6.5a1.5 1.5 0 1 1 0 3a1.5 1.5 0 0 1 0-3',
  flag: 'M4 14V2.5h8l-2 3l2 3H4',
  clock: 'M8 2.5a5.5 5.5 0 1 1 0 11a5.5 5.5 0 0 1 0-11M8 5v3.2l2 1.3',
  wrap: 'M2.5 4h11M2.5 8h8.5a2 2 0 0 1 0 4H8M9.5 10.5L8 12l1.5 1.5M2.5 12h2.5',
  panel: 'M2.5 3h11v10h-11zM10 3v10',
  plug: 'M6 2v3M10 2v3M4.5 5h7v2.5a3.5 3.5 0 0 1-7 0zM8 11v3',
  more: 'M3.5 8h.01M8 8h.01M12.5 8h.01',
  context: 'M2.5 3.5h11M2.5 12.5h11M5 8h6M2.5 8h.01M13.5 8h.01',
};

const drawn = new Map();

/** A drawing that says nothing to a screen reader: what it means stands beside it, or in the label of its button. */
export function icon(name) {
  if (!drawn.has(name)) drawn.set(name, draw(name));
  return drawn.get(name).cloneNode(true);
}

function draw(name) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 16 16');
  svg.setAttribute('class', `icon icon-${name}`);
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', ICONS[name] ?? ICONS.dot);
  svg.append(path);
  return svg;
}

/** Lets the browser draw and take input between two pieces of work. */
export function breathe() {
  if (globalThis.scheduler?.yield) return globalThis.scheduler.yield();
  return new Promise((resume) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => { port1.close(); resume(); };
    port2.postMessage(0);
  });
}

/** Calls `action` once after `wait` milliseconds without a further call. */
export function settled(action, wait) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...given), wait);
  };
}

let toastTimer = 0;

/** Says something for a moment, also to a screen reader. */
export function toast(text) {
  const place = document.getElementById('toast');
  place.textContent = text;
  place.classList.add('shown');
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => place.classList.remove('shown'), 2600);
}

/** Copies a text and says so. */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without a secure context there is no clipboard but this.
    const area = el('textarea', { class: 'off-screen', 'aria-hidden': 'true' });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    if (!done) return toast('The browser does not let this page copy');
  }
  toast(`${what} copied`);
}
