// Text of a log as nodes that cannot do anything: control and direction characters become visible signs, redactions become
// badges, encoded blobs become their size, colours become spans.

import { isStyled, overwritten, runs } from './ansi.js';
import { button, el } from './dom.js';
import { bytes } from './format.js';

const C0 = 'NUL SOH STX ETX EOT ENQ ACK BEL BS TAB LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US'.split(' ');
const NAMES = {
  '\u061c': 'ALM', '\u200b': 'ZWSP', '\u200e': 'LRM', '\u200f': 'RLM', '\u202a': 'LRE', '\u202b': 'RLE', '\u202c': 'PDF', '\u202d': 'LRO',
  '\u202e': 'RLO', '\u2060': 'WJ', '\u2066': 'LRI', '\u2067': 'RLI', '\u2068': 'FSI', '\u2069': 'PDI', '\u2028': 'LS', '\u2029': 'PS',
  '\ufeff': 'BOM', '\u007f': 'DEL',
};
// What changes a line's order or is not seen at all: no text of a log may hide or turn what stands around it. Tag characters
// smuggle instructions past people.
const MARKED = /(\[REDACTED(?::[\w.:-]{1,64})?\])|([\u0000-\u0008\u000b-\u001f\u007f-\u009f]|[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\u2028\u2029\ufeff])|((?:\u{e0000}|[\u{e0001}-\u{e007f}])+)/gu;
// Long runs of base64 with or without a data: head. Paths and words are shorter, or have other characters in between.
const BLOB = /data:([\w.+-]+\/[\w.+-]+)(?:;[\w=.+-]+)*;base64,[A-Za-z0-9+/_-]{40,}={0,2}|[A-Za-z0-9+/_-]{240,}={0,2}/g;
const PICTURE = /^image\/(?:png|jpeg|gif|webp)$/;
const PICTURE_BYTES_MAX = 4 << 20;
const HEADS = [['iVBORw0KGgo', 'image/png'], ['/9j/', 'image/jpeg'], ['R0lGOD', 'image/gif'], ['UklGR', 'image/webp'], ['JVBERi', 'application/pdf']];

const HIDDEN = /(?:[\s\u0000-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\u2028\u2029\ufeff]|[\u{e0000}-\u{e007f}])+/gu;

/** Nodes for a text. `ansi`: also its colours. */
export function nodes(text, { ansi = false } = {}) {
  const plain = overwritten(text);
  if (!ansi || !isStyled(plain)) return blobs(plain);
  return runs(plain).flatMap(({ text: run, style }) => {
    const inner = blobs(run);
    return Object.keys(style).length === 0 ? inner : [coloured(style, inner)];
  });
}

/** One line of plain text: what would break it or hide in it is a space. */
export function line(text, length = 240) {
  const cut = text.length > length * 4 ? text.slice(0, length * 4) : text;
  const plain = isStyled(cut) ? runs(cut).map(({ text }) => text).join('') : cut;
  const flat = overwritten(plain).replace(HIDDEN, ' ').trim();
  return flat.length > length ? `${flat.slice(0, length).replace(/[\ud800-\udbff]$/, '')}…` : flat;
}

function coloured({ fg, bg, bold, dim, italic, underline, strike, inverse }, inner) {
  const [front, back] = inverse ? [bg ?? 'back', fg ?? 'front'] : [fg, bg];
  const names = [];
  const named = (colour, prefix) => {
    if (colour === undefined) return;
    if (typeof colour === 'number' || colour === 'back' || colour === 'front') names.push(`${prefix}-${colour}`);
  };
  named(front, 'fg');
  named(back, 'bg');
  for (const [on, name] of [[bold, 'bold'], [dim, 'dim'], [italic, 'italic'], [underline, 'underline'], [strike, 'strike']]) {
    if (on) names.push(`ansi-${name}`);
  }
  const span = el('span', { class: names.join(' ') }, inner);
  const own = (colour) => typeof colour === 'string' && colour.startsWith('#');
  if (own(back)) {
    span.style.backgroundColor = back;
    if (!own(front)) span.style.color = light(back) ? '#111' : '#f5f5f5';
  }
  if (own(front)) {
    // Left as it is on a background of its own, else brought within what is legible.
    if (back === undefined) {
      span.style.setProperty('--ansi', front);
      span.classList.add('fg-own');
    } else {
      span.style.color = front;
    }
  }
  return span;
}

function light(hex) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  return red * 0.299 + green * 0.587 + blue * 0.114 > 140;
}

function blobs(text) {
  if (text.length < 60) return marked(text);
  const found = [];
  let from = 0;
  for (const match of text.matchAll(BLOB)) {
    if (!isBlob(match[0])) continue;
    found.push(...marked(text.slice(from, match.index)), blob(match[0], match[1]));
    from = match.index + match[0].length;
  }
  found.push(...marked(text.slice(from)));
  return found;
}

/** Long identifiers and rows of one character are no blobs. */
function isBlob(text) {
  if (text.startsWith('data:')) return true;
  const sample = text.slice(0, 400);
  return /[A-Z]/.test(sample) && /[a-z]/.test(sample) && /[0-9]/.test(sample) && new Set(sample).size > 16;
}

/** A blob's size, and on demand its picture or its text. */
function blob(text, type) {
  const data = text.replace(/^data:[^,]*,/, '');
  const size = Math.floor((data.replace(/=+$/, '').length * 3) / 4);
  const kind = type ?? HEADS.find(([head]) => data.startsWith(head))?.[1] ?? '';
  const chip = el('span', { class: 'blob' }, el('span', { class: 'blob-size', text: `${kind || 'base64'} · ${bytes(size)}` }));
  if (PICTURE.test(kind) && size <= PICTURE_BYTES_MAX) {
    const show = button({ class: 'text-button', text: 'preview' });
    show.addEventListener('click', () => {
      const image = el('img', { class: 'blob-image', alt: `Image of ${bytes(size)} from the log`, src: `data:${kind};base64,${data}` });
      image.addEventListener('error', () => image.replaceWith(el('span', { class: 'muted', text: ' (not a whole image)' })));
      show.replaceWith(image);
    });
    chip.append(show);
  }
  const show = button({ class: 'text-button', text: 'text' });
  show.addEventListener('click', () => chip.replaceWith(el('span', { class: 'blob-text', text })));
  chip.append(show);
  return chip;
}

function marked(text) {
  const found = [];
  let from = 0;
  for (const match of text.matchAll(MARKED)) {
    if (match.index > from) found.push(text.slice(from, match.index));
    from = match.index + match[0].length;
    if (match[1]) found.push(redaction(match[1]));
    else if (match[2]) found.push(control(match[2]));
    else found.push(el('span', { class: 'control', title: 'Invisible tag characters, shown as what they spell', text: `TAG:${untagged(match[3])}` }));
  }
  if (from < text.length) found.push(text.slice(from));
  return found;
}

function untagged(text) {
  return [...text].map((sign) => String.fromCharCode(sign.codePointAt(0) - 0xe0000)).join('').replace(/[^ -~]/g, '·');
}

function redaction(text) {
  const rule = /^\[REDACTED(?::(.*))?\]$/.exec(text)?.[1] ?? '';
  return el('span', { class: 'redacted', title: `Redacted before it was stored${rule ? `, rule ${rule}` : ''}`, data: { rule } }, text);
}

function control(sign) {
  const code = sign.codePointAt(0);
  const name = NAMES[sign] ?? (code < 0x20 ? C0[code] : `U+${code.toString(16).toUpperCase().padStart(4, '0')}`);
  return el('span', { class: 'control', title: `Control character U+${code.toString(16).toUpperCase().padStart(4, '0')}`, text: name });
}
