// The little of Markdown that agents write: fences, headings, lists, quotes, tables as they stand, code, bold. Made of elements;
// links and images stay text, HTML stays text.

import { el } from './dom.js';
import { nodes } from './text.js';

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]*)/;
const HEADING = /^(#{1,6}) +(.*)$/;
const BULLET = /^(\s*)([-*+]|\d{1,4}[.)]) +(.*)$/;
const QUOTE = /^> ?(.*)$/;
// A mark inside a line: code, or bold. What is longer than a line's worth is none.
const INLINE = /(`+)([^`\n](?:.{0,500}?[^`\n])?)\1(?!`)|\*\*(?=\S)(.{1,400}?\S|\S)\*\*/g;

/** Nodes for a text. */
export function markdown(text) {
  const found = [];
  const lines = text.split('\n');
  let at = 0;
  let paragraph = [];
  const flush = () => {
    while (paragraph.length > 0 && paragraph.at(-1).trim() === '') paragraph.pop();
    if (paragraph.length > 0) found.push(el('p', {}, inline(paragraph.join('\n'))));
    paragraph = [];
  };
  while (at < lines.length) {
    const text = lines[at];
    const fence = FENCE.exec(text);
    if (fence) {
      flush();
      const body = [];
      at += 1;
      while (at < lines.length && !(lines[at].trim().startsWith(fence[1]) && /^[`~\s]+$/.test(lines[at]))) {
        body.push(lines[at]);
        at += 1;
      }
      at += 1;
      const name = fence[2] && el('span', { class: 'code-name', text: fence[2].slice(0, 24) });
      found.push(el('div', { class: 'code' }, name, el('pre', { tabindex: 0, 'aria-label': 'Code' }, nodes(body.join('\n'), { ansi: true }))));
      continue;
    }
    const heading = HEADING.exec(text);
    const bullet = BULLET.exec(text);
    const quote = QUOTE.exec(text);
    if (heading) {
      flush();
      found.push(el('p', { class: `heading heading-${Math.min(heading[1].length, 4)}` }, inline(heading[2])));
    } else if (bullet) {
      flush();
      const item = el('div', { class: 'item' }, el('span', { class: 'item-mark', text: /\d/.test(bullet[2]) ? bullet[2] : '•' }), el('div', {}, inline(bullet[3])));
      item.style.setProperty('--depth', String(Math.min(6, Math.floor(bullet[1].replaceAll('\t', '  ').length / 2))));
      found.push(item);
    } else if (quote) {
      flush();
      found.push(el('p', { class: 'quote' }, inline(quote[1])));
    } else if (text.startsWith('|') && text.trimEnd().endsWith('|')) {
      flush();
      const rows = [];
      while (at < lines.length && lines[at].startsWith('|')) {
        rows.push(lines[at]);
        at += 1;
      }
      found.push(el('div', { class: 'code' }, el('pre', { tabindex: 0, 'aria-label': 'Table' }, nodes(rows.join('\n')))));
      continue;
    } else if (text.trim() === '') {
      flush();
    } else {
      paragraph.push(text);
    }
    at += 1;
  }
  flush();
  return found;
}

function inline(text) {
  const found = [];
  let from = 0;
  for (const match of text.matchAll(INLINE)) {
    found.push(...nodes(text.slice(from, match.index), { ansi: true }));
    if (match[1]) found.push(el('code', {}, nodes(match[2])));
    else found.push(el('strong', {}, nodes(match[3])));
    from = match.index + match[0].length;
  }
  found.push(...nodes(text.slice(from), { ansi: true }));
  return found;
}
