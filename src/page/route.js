// Where the page is: everything that tells a view from another stands in the URL, the record that is looked at in its fragment.
//
// `/` the tasks · `/?task=ID` a task · `/?search=TEXT` hits in all tasks · `/?view=plugins` the plugins.

/** The parameters of the present URL. */
export function params() {
  return new URLSearchParams(location.search);
}

/** The cursors of the fragment, `#c=CURSOR` or `#c=CURSOR..CURSOR`, or `null`. */
export function marked() {
  const text = location.hash.startsWith('#c=') ? location.hash.slice(3) : '';
  if (!text) return null;
  let plain = text;
  try {
    plain = decodeURIComponent(text);
  } catch {
    // Not encoded, then.
  }
  const [from, to] = plain.split('..');
  return { from, to: to || from };
}

/** The fragment of a record, or of a range of records. */
export function fragment(from, to = from) {
  const text = from === to ? from : `${from}..${to}`;
  return `#c=${encodeURIComponent(text).replaceAll('%3A', ':').replaceAll('%2C', ',')}`;
}

/** A URL of this page. Values that are empty are left out. */
export function url(values, hash = '') {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    const text = Array.isArray(value) ? value.join(',') : value;
    if (text !== null && text !== undefined && text !== '' && text !== false) query.set(name, String(text));
  }
  const text = query.toString().replaceAll('%2C', ',').replaceAll('%3A', ':');
  return `/${text ? `?${text}` : ''}${hash}`;
}

let changed = () => {};

/** Sets who hears of another URL. */
export function onChange(listener) {
  changed = listener;
  addEventListener('popstate', () => changed());
  // Links stay links: what a click with a modifier opens elsewhere is the browser's business.
  document.addEventListener('click', (event) => {
    const link = event.target.closest?.('a[href^="/"]');
    if (!link || link.hasAttribute('download') || link.target || event.defaultPrevented) return;
    if (event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    if (new URL(link.href).pathname !== '/') return;
    event.preventDefault();
    go(link.getAttribute('href'));
  });
}

/** Goes there. */
export function go(to) {
  if (to !== location.pathname + location.search + location.hash) history.pushState(null, '', to);
  changed();
}

/** Changes the URL of the present view without leaving it. */
export function note(to) {
  if (to !== location.pathname + location.search + location.hash) history.replaceState(null, '', to);
}
