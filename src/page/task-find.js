// Searching a task: the service searches all of it, whatever is loaded here; the count is true, and each hit can be gone to.

import { json, taskPath } from './api.js';

const HITS_PAGE = 500;

/** How far into the task a cursor stands: bytes of all files before it. Grows from record to record. */
export function position(cursor) {
  return String(cursor).split(',').reduce((sum, part) => sum + (Number(part.split(':')[1]) || 0), 0);
}

/** The hits of one search, loaded as they are stepped through. */
export class Hits {
  text;
  isRegex;
  total = 0;
  /** The hit that one stands at, from 0, or -1. */
  at = -1;
  #id;
  #filters;
  #cursors = [];
  #next = '0';
  #more = true;
  #stop = new AbortController();

  constructor(id, filters, text, isRegex) {
    [this.#id, this.#filters, this.text, this.isRegex] = [id, filters, text, isRegex];
  }

  get params() {
    return this.isRegex ? { regex: this.text } : { q: this.text };
  }

  stop() {
    this.#stop.abort();
  }

  /** Counts all hits. */
  async count() {
    const told = await json(taskPath(this.#id, 'counts'), { params: { ...this.#filters, ...this.params }, signal: this.#stop.signal });
    this.total = told.matched;
    this.partial = told.partial === true;
    return this;
  }

  /** The next hit's cursor, or the one before; goes round. `from`: where the reader is, for the first step. */
  async step(by, from) {
    if (this.total === 0) return null;
    if (this.at < 0) {
      await this.#until(() => this.#cursors.length > 0 && position(this.#cursors.at(-1)) >= position(from ?? '0'));
      const found = this.#cursors.findIndex((cursor) => position(cursor) >= position(from ?? '0'));
      this.at = found < 0 ? (by > 0 ? 0 : this.#cursors.length - 1) : by > 0 ? found : found - 1;
    } else {
      this.at += by;
    }
    if (this.at < 0) {
      await this.#until(() => false);
      this.at = this.#cursors.length - 1;
    }
    await this.#until(() => this.#cursors.length > this.at);
    if (this.at >= this.#cursors.length) this.at = 0;
    return this.#cursors[this.at] ?? null;
  }

  /** Stands at the hit of this cursor, when it is one. */
  stand(cursor) {
    const at = this.#cursors.indexOf(cursor);
    if (at >= 0) this.at = at;
  }

  async #until(enough) {
    while (this.#more && !enough()) {
      const params = { format: 'json', ...this.#filters, ...this.params, after: this.#next, limit: HITS_PAGE, clip: 1 };
      const page = await json(taskPath(this.#id, 'logs'), { params, signal: this.#stop.signal });
      this.#cursors.push(...page.records.map(({ cursor }) => cursor));
      this.#next = page.next ?? this.#next;
      this.#more = page.more && page.records.length > 0;
    }
  }
}

/** Marks a text wherever it is seen below an element, without touching the document. */
export function highlight(root, name, text, isRegex = false) {
  if (!globalThis.CSS?.highlights) return;
  const ranges = [];
  const pattern = text ? patternOf(text, isRegex) : null;
  if (pattern) {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node && ranges.length < 2000; node = walker.nextNode()) {
      if (node.data.length > 40_000) continue;
      for (const match of node.data.matchAll(pattern)) {
        if (match[0] === '') break;
        const range = new Range();
        range.setStart(node, match.index);
        range.setEnd(node, match.index + match[0].length);
        ranges.push(range);
      }
    }
  }
  if (ranges.length > 0) CSS.highlights.set(name, new Highlight(...ranges));
  else CSS.highlights.delete(name);
}

function patternOf(text, isRegex) {
  try {
    return new RegExp(isRegex ? text : text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'), isRegex ? 'gu' : 'giu');
  } catch {
    // The service knows more kinds than the browser does, and answers for them.
    return null;
  }
}
