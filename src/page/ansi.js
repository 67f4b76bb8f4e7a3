// Cuts terminal output into runs of one style. Only colours and weights are understood; everything else that a terminal would
// obey (cursor moves, titles, links, clipboard writes) is left out, and a lone control character is shown, not obeyed.

const PLAIN = Object.freeze({});
// CSI, OSC and the other strings up to their end (or the text's: a string that is never ended must not eat what follows a line).
const SEQUENCE = /[\u001b\u009b\u0090\u009d\u009e\u009f\u0098]/;
const CSI = /^(?:\u001b\[|\u009b)([0-?]*)([ -/]*)([@-~])/;
const STRING = /^(?:\u001b[\]PX^_]|[\u009d\u0090\u0098\u009e\u009f])[^\u0007\u001b\u009c\n]*(?:\u0007|\u001b\\|\u009c|(?=\n)|$|(?=\u001b))/;
const OTHER = /^\u001b(?:[ -/]+[0-~]|[0-Z\\^-~])/;

/** Whether a text holds anything for [`runs`] to do. */
export function isStyled(text) {
  return SEQUENCE.test(text);
}

/** `[{text, style}]`; a style has `fg`, `bg` (0..15, or `#rrggbb`), `bold`, `dim`, `italic`, `underline`, `strike`, `inverse`. */
export function runs(text) {
  const found = [];
  let style = PLAIN;
  let rest = text;
  for (;;) {
    const at = rest.search(SEQUENCE);
    if (at < 0) break;
    if (at > 0) found.push({ text: rest.slice(0, at), style });
    rest = rest.slice(at);
    const csi = CSI.exec(rest.slice(0, 128));
    const other = csi ?? STRING.exec(rest) ?? OTHER.exec(rest.slice(0, 8));
    if (csi && csi[3] === 'm' && csi[2] === '') style = restyled(style, csi[1]);
    rest = rest.slice(other ? other[0].length : 1);
  }
  if (rest) found.push({ text: rest, style });
  return found;
}

function restyled(style, parameters) {
  const codes = parameters.split(/[;:]/).map((code) => (code === '' ? 0 : Number(code)));
  let next = { ...style };
  for (let at = 0; at < codes.length; at += 1) {
    const code = codes[at];
    if (code === 0) next = {};
    else if (code === 1) next.bold = true;
    else if (code === 2) next.dim = true;
    else if (code === 3) next.italic = true;
    else if (code === 4) next.underline = true;
    else if (code === 7) next.inverse = true;
    else if (code === 9) next.strike = true;
    else if (code === 22) delete next.bold, delete next.dim;
    else if (code === 23) delete next.italic;
    else if (code === 24) delete next.underline;
    else if (code === 27) delete next.inverse;
    else if (code === 29) delete next.strike;
    else if (code >= 30 && code <= 37) next.fg = code - 30;
    else if (code === 39) delete next.fg;
    else if (code >= 40 && code <= 47) next.bg = code - 40;
    else if (code === 49) delete next.bg;
    else if (code >= 90 && code <= 97) next.fg = code - 82;
    else if (code >= 100 && code <= 107) next.bg = code - 92;
    else if (code === 38 || code === 48) {
      const [colour, used] = extended(codes, at + 1);
      if (colour !== null) next[code === 38 ? 'fg' : 'bg'] = colour;
      at += used;
    }
  }
  return next;
}

function extended(codes, at) {
  const byte = (value) => Number.isInteger(value) && value >= 0 && value <= 255;
  if (codes[at] === 5 && byte(codes[at + 1])) return [ofPalette(codes[at + 1]), 2];
  const rgb = codes.slice(at + 1, at + 4);
  if (codes[at] === 2 && rgb.length === 3 && rgb.every(byte)) return [hex(rgb), 4];
  return [null, codes.length];
}

function ofPalette(index) {
  if (index < 16) return index;
  if (index >= 232) return hex(Array(3).fill(8 + (index - 232) * 10));
  const level = (value) => (value === 0 ? 0 : 55 + value * 40);
  const cube = index - 16;
  return hex([level(Math.floor(cube / 36)), level(Math.floor(cube / 6) % 6), level(cube % 6)]);
}

function hex(rgb) {
  return `#${rgb.map((value) => value.toString(16).padStart(2, '0')).join('')}`;
}

/** What a terminal shows of lines that were overwritten by carriage returns: progress bars end as their last state. */
export function overwritten(text) {
  if (!text.includes('\r')) return text;
  return text.replaceAll('\r\n', '\n').replace(/[^\n]*\r(?=[^\n])/g, '').replaceAll('\r', '');
}
