// A task's course as a bar: what happened when, with silences made short. A click goes to the record; what is not loaded is
// hatched, and a click there goes to that time.

import { begins, failed } from './conversation.js';
import { el } from './dom.js';
import { duration, since } from './format.js';
import { line } from './text.js';

/** What is not loaded takes the share of its records, but leaves room for what is. */
const UNLOADED_MAX = 0.5;
/** A silence longer than this share of the rest is drawn short. */
const SILENCE_SHARE = 0.03;
const SILENCE_MIN = 4000;
const SHORT = 0.012;
const LANES = { text: 0, thinking: 0, user: 0, webhook: 0, knowledge: 0, gap: 0, other: 0, tool: 1 };

export class Timeline {
  element;
  #canvas;
  #tip;
  #window;
  #items = [];
  #errors = [];
  #span = null;
  #start = NaN;
  #axis = null;
  #view = null;
  #frame = 0;
  #sizes;
  #unloadedShare = 0;
  #go;

  /** `go({item})` or `go({time})` hears where a click wants to go. */
  constructor(go) {
    this.#go = go;
    this.#canvas = el('canvas', { 'aria-hidden': 'true' });
    this.#tip = el('div', { class: 'timeline-tip', 'aria-hidden': 'true' });
    this.#window = el('div', { class: 'timeline-window', 'aria-hidden': 'true' });
    this.element = el('div', {
      class: 'timeline', role: 'slider', tabindex: 0, 'aria-label': 'Timeline: position in the task',
      'aria-valuemin': 0, 'aria-valuemax': 100, 'aria-valuenow': 0, 'aria-valuetext': 'beginning',
    }, this.#canvas, this.#window, this.#tip);
    this.element.addEventListener('click', (event) => this.#click(event));
    this.element.addEventListener('pointermove', (event) => this.#hover(event));
    this.element.addEventListener('pointerleave', () => this.#tip.classList.remove('shown'));
    this.element.addEventListener('keydown', (event) => this.#key(event));
    this.#sizes = new ResizeObserver(() => this.draw());
    this.#sizes.observe(this.element);
  }

  stop() {
    this.#sizes.disconnect();
    clearTimeout(this.#frame);
  }

  /** `span`: first and last time of the whole task; `errors`: times of failures, loaded or not. */
  set({ items, span, errors, start, unloadedShare }) {
    this.#unloadedShare = unloadedShare;
    [this.#items, this.#span, this.#errors, this.#start] = [items, span, errors, start];
    this.#axis = null;
    this.draw();
  }

  /** Shows which times are on the screen. */
  seen(from, to) {
    this.#view = Number.isFinite(from) && Number.isFinite(to) ? [from, to] : null;
    if (this.#view && this.#axis) {
      const value = Math.round(this.#axis.place(from) * 100);
      this.element.setAttribute('aria-valuenow', String(value));
      this.element.setAttribute('aria-valuetext', since(from, this.#start) || 'no time');
    }
    this.#place();
  }

  #place() {
    this.#window.hidden = !this.#view || !this.#axis;
    if (this.#window.hidden) return;
    const [left, right] = this.#view.map((time) => this.#axis.place(time) * 100);
    this.#window.style.left = `${left}%`;
    this.#window.style.width = `max(4px, ${right - left}%)`;
  }

  /** Paints soon; a large bar less often than a small one. */
  draw() {
    this.#frame ||= setTimeout(() => {
      this.#frame = 0;
      this.#paint();
    }, this.#items.length > 3000 ? 300 : 16);
  }

  #scale() {
    if (this.#axis) return this.#axis;
    const times = this.#items.map(begins).filter(Number.isFinite);
    const loaded = times.length > 0 ? [times.reduce((a, b) => Math.min(a, b)), times.reduce((a, b) => Math.max(a, b))] : null;
    const known = [...(this.#span ?? []).filter(Number.isFinite), ...(loaded ?? [])];
    if (known.length === 0) return null;
    const [from, to] = [known.reduce((a, b) => Math.min(a, b)), known.reduce((a, b) => Math.max(a, b))];
    this.#axis = new Axis(from, Math.max(to, from + 1), times.sort((a, b) => a - b), loaded, this.#unloadedShare);
    return this.#axis;
  }

  #paint() {
    const { clientWidth: width, clientHeight: height } = this.element;
    if (width === 0) return;
    const ratio = devicePixelRatio || 1;
    if (this.#canvas.width !== Math.round(width * ratio) || this.#canvas.height !== Math.round(height * ratio)) {
      this.#canvas.width = Math.round(width * ratio);
      this.#canvas.height = Math.round(height * ratio);
    }
    const pen = this.#canvas.getContext('2d');
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const axis = this.#scale();
    if (!axis) return;
    // A canvas does not know the themes' colours: an element says what they are now.
    const known = new Map();
    const style = getComputedStyle(this.#tip);
    const colour = (name) => {
      if (!known.has(name)) {
        this.#tip.style.outlineColor = `var(--${name})`;
        known.set(name, style.outlineColor);
      }
      return known.get(name);
    };
    const x = (time) => axis.place(time) * width;
    this.#hatch(pen, axis, x, width, height, colour('line-strong'));
    for (const [from, to] of axis.silences) {
      const middle = (x(from) + x(to)) / 2;
      pen.fillStyle = colour('line-strong');
      for (const by of [-2, 2]) pen.fillRect(middle + by - 0.5, 4, 1, height - 8);
    }
    const lane = (height - 8) / 2;
    for (const item of this.#items) {
      if (!(item.kind in LANES)) continue;
      const at = begins(item);
      if (!Number.isFinite(at)) continue;
      const left = x(at);
      const until = item.kind === 'tool' && item.result && Number.isFinite(item.result.time) ? x(item.result.time) : left;
      const isFailed = failed(item);
      pen.fillStyle = colour(isFailed ? 'bad' : `kind-${item.kind}`);
      pen.fillRect(left, 5 + LANES[item.kind] * lane, Math.max(1.6, until - left), lane - 2);
      if (isFailed) pen.fillRect(Math.max(left, until - 2.5), 2, 2.5, height - 4);
    }
    pen.fillStyle = colour('bad');
    for (const time of this.#errors) if (Number.isFinite(time) && axis.isUnloaded(time)) pen.fillRect(x(time) - 1, 2, 2, height - 4);
    this.#place();
  }

  #hatch(pen, axis, x, width, height, colour) {
    pen.strokeStyle = colour;
    for (const [from, to] of axis.unloaded) {
      const [left, right] = [x(from), x(to)];
      if (right - left < 2) continue;
      pen.save();
      pen.beginPath();
      pen.rect(left, 4, right - left, height - 8);
      pen.clip();
      pen.beginPath();
      for (let at = left - height; at < right; at += 6) {
        pen.moveTo(at, height);
        pen.lineTo(at + height, 0);
      }
      pen.stroke();
      pen.restore();
    }
  }

  #under(event) {
    const axis = this.#scale();
    if (!axis) return null;
    const box = this.element.getBoundingClientRect();
    const time = axis.time(Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
    if (axis.isUnloaded(time)) return { time };
    let [best, distance] = [null, Infinity];
    const upper = event.clientY < box.top + box.height / 2;
    for (const item of this.#items) {
      const at = begins(item);
      if (!Number.isFinite(at) || !(item.kind in LANES)) continue;
      const far = Math.abs(axis.place(at) - axis.place(time)) * box.width;
      const cost = far + ((LANES[item.kind] === 0) === upper || failed(item) ? 0 : 6) - (failed(item) ? 4 : 0);
      if (cost < distance) [best, distance] = [item, cost];
    }
    return best ? { item: best, time: begins(best) } : { time };
  }

  #click(event) {
    const target = this.#under(event);
    if (target) this.#go(target);
  }

  #hover(event) {
    const target = this.#under(event);
    if (!target) return;
    const { item, time } = target;
    const what = !item ? 'not loaded' : item.kind === 'tool' ? line((item.call ?? item.result).tool || 'tool', 40) : item.kind;
    this.#tip.textContent = `${since(time, this.#start)} · ${what}${item && failed(item) ? ' · failed' : ''}`;
    const box = this.element.getBoundingClientRect();
    const left = event.clientX - box.left;
    this.#tip.style.left = `${Math.min(Math.max(left, 60), box.width - 60)}px`;
    this.#tip.classList.add('shown');
  }

  #key(event) {
    const axis = this.#scale();
    const by = { ArrowLeft: -0.02, ArrowRight: 0.02, PageUp: -0.1, PageDown: 0.1, Home: -2, End: 2 }[event.key];
    if (!axis || by === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const now = this.#view ? axis.place(this.#view[0]) : 0;
    const time = axis.time(Math.min(1, Math.max(0, now + by)));
    if (axis.isUnloaded(time)) return this.#go({ time });
    const later = this.#items.filter((item) => item.kind in LANES && Number.isFinite(begins(item)));
    const item = by > 0 ? later.find((item) => begins(item) >= time) ?? later.at(-1) : later.findLast((item) => begins(item) <= time) ?? later[0];
    if (item) this.#go({ item, time: begins(item) });
  }

  /** What the bar says of the whole: for a person who cannot see it. */
  describe() {
    const axis = this.#scale();
    return axis ? `${duration((axis.to - axis.from) / 1000)}, ${axis.silences.length} silences shortened` : '';
  }
}

/** Times to places between 0 and 1, with long silences of what is loaded made short. */
class Axis {
  constructor(from, to, times, loaded, unloadedShare) {
    [this.from, this.to] = [from, to];
    this.silences = [];
    this.unloaded = [];
    if (loaded && loaded[0] - from > 1000) this.unloaded.push([from, loaded[0]]);
    if (loaded && to - loaded[1] > 1000) this.unloaded.push([loaded[1], to]);
    this.#findSilences(times, loaded ? loaded[1] - loaded[0] : 0);
    // Pieces of the axis: [begin, end, weight].
    const pieces = [];
    const within = loaded ?? [from, to];
    const busy = Math.max(1, this.silences.reduce((sum, [begin, end]) => sum - (end - begin), within[1] - within[0]));
    let at = within[0];
    for (const [begin, end] of this.silences) {
      pieces.push([at, begin, begin - at], [begin, end, busy * SHORT]);
      at = end;
    }
    pieces.push([at, within[1], Math.max(1, within[1] - at)]);
    const weight = pieces.reduce((sum, [, , each]) => sum + each, 0);
    const share = Math.min(UNLOADED_MAX, Math.max(0.04, unloadedShare));
    const unloaded = this.unloaded.reduce((sum, [begin, end]) => sum + end - begin, 0);
    for (const [begin, end] of this.unloaded) {
      const piece = [begin, end, (weight * share) / (1 - share) * ((end - begin) / unloaded)];
      if (begin < within[0]) pieces.unshift(piece);
      else pieces.push(piece);
    }
    // What lies between the loaded part and an end that is as good as loaded.
    if (pieces[0][0] > from) pieces[0][0] = from;
    if (pieces.at(-1)[1] < to) pieces.at(-1)[1] = to;
    const whole = pieces.reduce((sum, [, , weight]) => sum + weight, 0) || 1;
    let place = 0;
    this.pieces = pieces.map(([begin, end, weight]) => {
      const piece = { begin, end, left: place, right: place + weight / whole };
      place = piece.right;
      return piece;
    });
  }

  /** The longest first, as long as they take more than their share of what is left without them. */
  #findSilences(times, span) {
    const gaps = [];
    for (let at = 1; at < times.length; at += 1) if (times[at] - times[at - 1] > SILENCE_MIN) gaps.push([times[at - 1], times[at]]);
    gaps.sort((a, b) => b[1] - b[0] - (a[1] - a[0]));
    let rest = span;
    for (const [from, to] of gaps) {
      if (to - from < rest * SILENCE_SHARE) break;
      rest -= to - from;
      this.silences.push([from, to]);
    }
    this.silences.sort((a, b) => a[0] - b[0]);
  }

  place(time) {
    const piece = this.pieces.find(({ end }) => time <= end) ?? this.pieces.at(-1);
    const share = piece.end > piece.begin ? (time - piece.begin) / (piece.end - piece.begin) : 0;
    return piece.left + (piece.right - piece.left) * Math.min(1, Math.max(0, share));
  }

  time(place) {
    const piece = this.pieces.find(({ right }) => place <= right) ?? this.pieces.at(-1);
    const share = piece.right > piece.left ? (place - piece.left) / (piece.right - piece.left) : 0;
    return piece.begin + (piece.end - piece.begin) * share;
  }

  isUnloaded(time) {
    return this.unloaded.some(([from, to]) => time > from && time < to);
  }
}
