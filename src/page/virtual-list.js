// A list of which only what is seen is in the document. Rows may have any height and change it: what the reader looks at stays
// where it is, whatever happens above or below. With `following` it stays at the end instead.

/** Rows are made this far outside of what is seen, in pixels. */
const OVERSCAN = 350;
/** This close to the end counts as at the end. */
const AT_END = 24;
/** Rows that may stay in the document because the reader's selection begins or ends in them. */
const HELD_MAX = 200;

/** The list. `estimate(item)` answers pixels, `render(item, before)` an element, `scrolled()` hears of each scroll and layout. */
export class VirtualList {
  following = false;
  #scroller;
  #host;
  #estimate;
  #render;
  #scrolled;
  #items = [];
  #index = new Map();
  #heights = new Float64Array(0);
  #sums = new Float64Array(1);
  #shown = new Map();
  #anchor = null;
  /** Whether the anchor is where somebody wants to be, not where the reader was. */
  #hold = false;
  #lastTop = -1;
  #frame = 0;
  #width = 0;
  #sizes;
  #itemOf = new WeakMap();
  #beforeOf = new WeakMap();

  constructor({ scroller, host, estimate, render, scrolled = () => {} }) {
    this.#scroller = scroller;
    this.#host = host;
    this.#estimate = estimate;
    this.#render = render;
    this.#scrolled = scrolled;
    scroller.addEventListener('scroll', this.#onScroll, { passive: true });
    this.#sizes = new ResizeObserver((entries) => {
      const width = scroller.clientWidth;
      if (width !== this.#width) {
        this.#width = width;
        this.#index.forEach((_, item) => { item.measured = false; });
      }
      const isNew = ({ target, borderBoxSize }) => {
        const item = this.#itemOf.get(target);
        return !item || Math.abs(borderBoxSize[0].blockSize - this.#heights[this.#index.get(item)]) > 0.25;
      };
      if (entries.some(isNew)) this.schedule();
    });
    this.#sizes.observe(scroller);
  }

  /** Ends it. */
  stop() {
    this.#scroller.removeEventListener('scroll', this.#onScroll);
    this.#sizes.disconnect();
    cancelAnimationFrame(this.#frame);
  }

  /** Replaces all items; those that stay keep their place on the screen. */
  set(items) {
    this.#keep();
    this.#items = [...items];
    this.#index = new Map(items.map((item, at) => [item, at]));
    this.#heights = new Float64Array(Math.max(64, items.length * 2));
    this.#sums = new Float64Array(this.#heights.length + 1);
    for (let at = 0; at < items.length; at += 1) this.#heights[at] = this.#height(items[at]);
    this.#resum();
    this.schedule();
  }

  /** Appends items. */
  add(items) {
    if (this.#items.length + items.length > this.#heights.length) return this.set([...this.#items, ...items]);
    this.#keep();
    for (const item of items) {
      const at = this.#items.push(item) - 1;
      this.#index.set(item, at);
      this.#change(at, this.#height(item));
    }
    this.schedule();
  }

  /** Renders an item anew. */
  changed(item) {
    this.#keep();
    const row = this.#shown.get(item);
    item.measured = false;
    if (row) {
      const fresh = this.#row(item);
      this.#sizes.unobserve(row);
      const focused = row.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
      row.replaceWith(fresh);
      this.#shown.set(item, fresh);
      if (focused) fresh.querySelector(`[data-focus="${focused}"]`)?.focus({ preventScroll: true });
    } else if (this.#index.has(item)) {
      this.#change(this.#index.get(item), this.#height(item));
    }
    this.schedule();
  }

  /** Renders all rows anew. */
  refresh() {
    for (const item of [...this.#shown.keys()]) this.changed(item);
  }

  /** Where an item is, or -1. */
  indexOf(item) {
    return this.#index.get(item) ?? -1;
  }

  /** The element of an item, when it is in the document. */
  rowOf(item) {
    return this.#shown.get(item) ?? null;
  }

  /** The items that are seen at least in part: from the first to the one behind the last. */
  seen() {
    const top = this.#scroller.scrollTop - this.#offset();
    const first = this.#at(Math.max(0, top));
    const last = this.#at(Math.max(0, top + this.#scroller.clientHeight - 1));
    return [first, Math.min(this.#items.length, last + 1)];
  }

  get atEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    return scrollHeight - scrollTop - clientHeight <= AT_END;
  }

  /** Scrolls to an item: `start` of it below the sticky head, or `near` to show it with the least movement. */
  scrollTo(item, where = 'start', margin = 0) {
    const at = this.indexOf(item);
    if (at < 0) return;
    this.following = false;
    const height = this.#scroller.clientHeight;
    const top = this.#offset() + this.#sum(at);
    const { scrollTop } = this.#scroller;
    if (where === 'near') {
      const above = top < scrollTop + margin;
      if (!above && top + this.#heights[at] <= scrollTop + height) return;
      this.#anchor = { item, at: above ? margin : Math.max(margin, height - this.#heights[at] - 8) };
    } else {
      this.#anchor = { item, at: where === 'middle' ? Math.max(margin, height / 3) : margin };
    }
    this.#hold = true;
    this.schedule();
  }

  /** Scrolls to the end and stays there. */
  follow() {
    this.following = true;
    this.schedule();
  }

  /** Scrolls to the very top, above the list. */
  toTop() {
    this.following = false;
    this.#anchor = null;
    this.#scroller.scrollTop = 0;
    this.schedule();
  }

  /** Whether it is on its way to where somebody wants to be. */
  get isGoing() {
    return this.#hold;
  }

  itemAt(at) {
    return this.#items[at] ?? null;
  }

  /** Forgets all heights that are not on the screen. */
  remeasure() {
    for (const item of this.#items) item.measured = false;
    this.set(this.#items);
  }

  /** Lays out in the next frame. */
  schedule() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#layout();
    });
  }

  #onScroll = () => {
    const top = this.#scroller.scrollTop;
    if (Math.abs(top - this.#lastTop) < 1.5) return;
    if (top < this.#lastTop && !this.atEnd) this.following = false;
    this.#lastTop = top;
    this.#anchor = null;
    this.#layout();
  };

  /** Remembers what the reader sees at which place, before anything changes. */
  #keep() {
    if (this.#anchor && (this.#hold || this.#index.has(this.#anchor.item) || this.#index.has(this.#anchor.next))) return;
    const top = this.#scroller.scrollTop - this.#offset();
    // Above the list there is nothing to hold.
    if (top < -this.#scroller.clientHeight || this.#items.length === 0) {
      this.#anchor = null;
      return;
    }
    let at = this.#at(top);
    // What stands at the list's ends is no place in it: what is loaded there comes between it and what is read.
    if (this.#items[at].kind === 'edge' && at + 1 < this.#items.length) at += 1;
    this.#anchor = { item: this.#items[at], at: this.#sum(at) - top, next: this.#items[at + 1], after: this.#sum(at + 1) - top };
  }

  #layout() {
    const { clientHeight } = this.#scroller;
    if (clientHeight === 0) return;
    this.#keep();
    // What is read of the document in between makes the browser lay out again: as little as possible.
    const offset = this.#offset();
    let now = this.#scroller.scrollTop;
    for (let round = 0; round < 4; round += 1) {
      let top = now;
      if (this.following) top = Math.max(0, offset + this.#sum(this.#items.length) + this.#tail() - clientHeight);
      else if (this.#anchor) top = this.#placed(offset) ?? top;
      const first = this.#at(Math.max(0, top - offset - OVERSCAN));
      const last = Math.min(this.#items.length, this.#at(Math.max(0, top - offset + clientHeight + OVERSCAN)) + 1);
      this.#show(...this.#withSelection(first, last));
      if (Math.abs(now - top) > 0.5) this.#scroller.scrollTop = top;
      now = top;
      if (!this.#measure()) break;
    }
    this.#lastTop = this.#scroller.scrollTop;
    if (!this.#hold || this.following) this.#anchor = null;
    this.#hold = false;
    this.#scrolled();
  }

  #placed(offset) {
    const { item, at, next, after } = this.#anchor;
    if (this.#index.has(item)) return Math.max(0, offset + this.#sum(this.#index.get(item)) - at);
    if (next && this.#index.has(next)) return Math.max(0, offset + this.#sum(this.#index.get(next)) - after);
    return null;
  }

  /** These rows, and those that the reader has selected text in: what leaves the document takes its selection along. */
  #withSelection(first, last) {
    const selection = document.getSelection();
    if (!selection || selection.isCollapsed) return [first, last];
    let [from, to] = [first, last];
    for (const node of [selection.anchorNode, selection.focusNode]) {
      let row = node;
      while (row && row.parentNode !== this.#host) row = row.parentNode;
      const at = row ? this.#index.get(this.#itemOf.get(row)) : undefined;
      if (at === undefined) continue;
      if (at < from && from - at < HELD_MAX) from = at;
      if (at >= to && at - to < HELD_MAX) to = at + 1;
    }
    return [from, to];
  }

  /** Puts exactly these rows into the document. */
  #show(first, last) {
    const wanted = new Map();
    for (let at = first; at < last; at += 1) wanted.set(this.#items[at], at);
    for (const [item, row] of this.#shown) {
      if (wanted.has(item) && this.#index.has(item)) continue;
      if (row.contains(document.activeElement)) document.activeElement.blur();
      this.#sizes.unobserve(row);
      row.remove();
      this.#shown.delete(item);
    }
    let place = this.#host.firstElementChild;
    for (const [item] of wanted) {
      let row = this.#shown.get(item);
      if (row && this.#beforeOf.get(row) !== (this.#items[wanted.get(item) - 1] ?? null)) {
        // A row also tells how long after the one before it came.
        const stale = row;
        row = this.#row(item);
        this.#sizes.unobserve(stale);
        if (stale === place) place = row;
        stale.replaceWith(row);
        this.#shown.set(item, row);
      }
      if (row && row === place) {
        place = place.nextElementSibling;
        continue;
      }
      row ??= this.#row(item);
      this.#host.insertBefore(row, place);
      this.#shown.set(item, row);
    }
    this.#host.style.paddingTop = `${this.#sum(first)}px`;
    this.#host.style.paddingBottom = `${this.#sum(this.#items.length) - this.#sum(last)}px`;
  }

  #row(item) {
    const at = this.#index.get(item);
    const before = this.#items[at - 1] ?? null;
    const row = this.#render(item, before);
    this.#beforeOf.set(row, before);
    this.#itemOf.set(row, item);
    this.#sizes.observe(row);
    return row;
  }

  /** Takes the rows' real heights; whether any was another than thought. */
  #measure() {
    let differs = false;
    for (const [item, row] of this.#shown) {
      const height = row.getBoundingClientRect().height;
      const at = this.#index.get(item);
      item.height = height;
      item.measured = true;
      if (Math.abs(height - this.#heights[at]) > 0.25) {
        this.#change(at, height);
        differs = true;
      }
    }
    return differs;
  }

  #height(item) {
    return item.measured && item.height ? item.height : this.#estimate(item);
  }

  /** Where the list begins inside of what scrolls. */
  #offset() {
    return this.#host.offsetTop;
  }

  /** What stands below the list inside of what scrolls. */
  #tail() {
    return Math.max(0, this.#scroller.scrollHeight - this.#host.offsetTop - this.#host.offsetHeight);
  }

  // Sums of heights: a tree over the array, so that one height changes in few steps and any sum is few steps.

  #resum() {
    const { length } = this.#heights;
    this.#sums.fill(0);
    for (let at = 1; at <= length; at += 1) {
      this.#sums[at] += this.#heights[at - 1];
      const parent = at + (at & -at);
      if (parent <= length) this.#sums[parent] += this.#sums[at];
    }
  }

  #change(at, height) {
    const by = height - this.#heights[at];
    this.#heights[at] = height;
    for (let node = at + 1; node <= this.#heights.length; node += node & -node) this.#sums[node] += by;
  }

  /** Height of all rows before this one. */
  #sum(at) {
    let total = 0;
    for (let node = Math.min(at, this.#heights.length); node > 0; node -= node & -node) total += this.#sums[node];
    return total;
  }

  /** The row at so many pixels. */
  #at(pixels) {
    let node = 0;
    let rest = pixels;
    for (let step = 2 ** Math.floor(Math.log2(Math.max(1, this.#heights.length))); step > 0; step >>= 1) {
      const next = node + step;
      if (next <= this.#heights.length && this.#sums[next] <= rest) {
        node = next;
        rest -= this.#sums[next];
      }
    }
    return Math.max(0, Math.min(node, this.#items.length - 1));
  }
}
