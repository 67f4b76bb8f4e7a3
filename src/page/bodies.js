// The texts inside of a row: cut where they are long, whole on demand, and large ones laid out piece by piece.

import { breathe, button, el } from './dom.js';
import { bytes, many } from './format.js';
import { markdown } from './markdown.js';
import { nodes } from './text.js';

/** Longest string that the service sends within a record. */
export const CLIP = 4000;
/** Larger texts are laid out in pieces of this size, inside a box that scrolls. */
const LARGE = 60_000;
const PIECE = 12_000;

/**
 * A text of a record. `lines`: how many are seen at first. `format`: `markdown` or `plain`. `cut`: the service cut it, `whole()`
 * shows it all. `wide`/`widen`: whether all lines are seen, and how to say so.
 */
export function textBlock(text, { lines, format, cut, size, whole, wide, widen }) {
  const block = el('div', { class: `text text-${format}`, dir: 'auto' });
  const plain = text.replace(/\s+$/, '');
  if (!cut && plain.length > LARGE) {
    block.append(largeText(plain));
    return block;
  }
  const { shown, hidden } = wide ? { shown: plain, hidden: 0 } : firstLines(plain, lines);
  if (format === 'markdown') block.append(...markdown(shown));
  else block.append(el('pre', {}, nodes(shown, { ansi: true })));
  const more = el('div', { class: 'text-more' });
  if (hidden > 0) more.append(button({ class: 'text-button', data: { focus: 'more' }, on: { click: () => widen(true) }, text: `Show ${many(hidden, 'more line')}` }));
  else if (wide && firstLines(plain, lines).hidden > 0) more.append(button({ class: 'text-button', data: { focus: 'more' }, on: { click: () => widen(false) }, text: 'Show less' }));
  if (cut) more.append(button({ class: 'text-button', data: { focus: 'whole' }, on: { click: whole }, text: `Show all · ${bytes(size)}` }));
  if (more.childNodes.length > 0) block.append(more);
  return block;
}

function firstLines(text, lines) {
  let at = -1;
  for (let line = 0; line < lines; line += 1) {
    at = text.indexOf('\n', at + 1);
    if (at < 0) return { shown: text, hidden: 0 };
  }
  let hidden = 1;
  for (let next = text.indexOf('\n', at + 1); next >= 0; next = text.indexOf('\n', next + 1)) hidden += 1;
  // A few lines more take less room than the button.
  return hidden <= 3 ? { shown: text, hidden: 0 } : { shown: text.slice(0, at), hidden };
}

/** A text of any size in a box that scrolls; filled while nobody waits. */
export function largeText(text) {
  const box = el('div', { class: 'large', tabindex: 0, role: 'region', 'aria-label': `Text of ${bytes(text.length)}` });
  (async () => {
    let from = 0;
    while (from < text.length) {
      let to = Math.min(text.length, from + PIECE);
      const line = text.lastIndexOf('\n', to);
      if (to < text.length && line > from) to = line + 1;
      box.append(el('pre', { class: 'piece' }, nodes(text.slice(from, to).replace(/\n$/, ''), { ansi: true })));
      from = to;
      await breathe();
      if (from > PIECE * 4 && !box.isConnected) return;
    }
  })();
  return box;
}

/** Named values, one a line; long or many-lined ones below their name. */
export function fields(entries) {
  return el('dl', { class: 'fields' }, entries.map(([name, value]) => {
    const text = typeof value === 'string' ? value : JSON.stringify(value, null, 2) ?? '';
    const isLong = text.includes('\n') || text.length > 120;
    const shown = text.length > LARGE ? largeText(text) : el('pre', {}, nodes(text, { ansi: true }));
    return [el('dt', {}, nodes(name)), el('dd', { class: isLong ? 'long' : '' }, shown)];
  }));
}

/** What an edit takes out and puts in. */
export function difference(before, after) {
  const lines = (text, name, sign) => text.split('\n').map((line) => el('div', { class: name }, el('span', { class: 'sign', 'aria-hidden': 'true', text: sign }), el('span', {}, nodes(line || ' '))));
  return el('div', { class: 'diff', role: 'group', 'aria-label': 'Edit: lines taken out and put in' }, before ? lines(before, 'out', '−') : [], after ? lines(after, 'in', '+') : []);
}

/** A JSON text as it is, indented. */
export function jsonBlock(record) {
  const text = JSON.stringify(record, null, 2) ?? '';
  return el('div', { class: 'json' }, text.length > LARGE ? largeText(text) : el('pre', { tabindex: 0, 'aria-label': 'The record as JSON' }, nodes(text)));
}
