// The search within a task, as the reader meets it: typed, counted, stepped through, its hits alone, and one in its context.

import { Problem } from './api.js';
import { toast } from './dom.js';
import { fragment } from './route.js';
import { Hits, highlight } from './task-find.js';

export class TaskFinder {
  #id;
  #facts;
  #bar;
  #host;
  #reload;
  #show;
  #here;
  #hits = null;
  #rule = '';

  /** `reload(cursor)` loads the conversation anew, `show(cursor)` shows a record, `here()` is where the reader is. */
  constructor({ id, facts, bar, host, reload, show, here }) {
    [this.#id, this.#facts, this.#bar, this.#host, this.#reload, this.#show, this.#here] = [id, facts, bar, host, reload, show, here];
  }

  stop() {
    this.#hits?.stop();
    highlight(this.#host, 'find', '');
    highlight(this.#host, 'redaction', '');
  }

  /** Looks for another text. */
  async find(text, isRegex) {
    const { filter } = this.#facts;
    // What was typed just before another view was opened comes too late.
    if (this.#facts.isStopped || (text === filter.find && isRegex === filter.isRegex)) return;
    const wasResults = this.#facts.isResults;
    this.#facts.set({ find: text, isRegex });
    this.paintBar();
    if (wasResults) this.#reload(null);
    await this.count();
  }

  /** Counts the hits of the present search. */
  async count() {
    const { find, isRegex } = this.#facts.filter;
    this.#hits?.stop();
    this.#hits = null;
    this.#bar.setFound(null);
    this.paint();
    if (!find) return;
    const hits = new Hits(this.#id, this.#facts.params({ withSearch: false }), find, isRegex);
    this.#hits = hits;
    try {
      await hits.count();
      if (this.#hits === hits) this.#bar.setFound(hits);
    } catch (error) {
      if (this.#hits === hits && error.name !== 'AbortError') this.#bar.setFound(null, error instanceof Problem && error.status === 400 ? 'not a valid search' : 'cannot search');
    }
  }

  paintBar() {
    const { find, isRegex, only } = this.#facts.filter;
    this.#bar.setFind(find, isRegex, only);
  }

  /** To the next hit, or the one before. */
  async step(by) {
    const hits = this.#hits;
    if (!hits) return;
    try {
      const cursor = await hits.step(by, this.#here()?.records[0]?.cursor);
      if (!cursor || this.#hits !== hits) return;
      this.#bar.setFound(hits);
      await this.#show(cursor);
    } catch (error) {
      if (error.name !== 'AbortError') toast(error.message);
    }
  }

  /** A hit among all records, where it stands. */
  async inContext(item) {
    const { cursor } = item.records[0];
    this.#facts.set({ kinds: [], tools: [], level: '', only: false }, fragment(cursor));
    this.paintBar();
    await this.#reload(cursor);
    await this.count();
    this.#hits?.stand(cursor);
    if (this.#hits) this.#bar.setFound(this.#hits);
  }

  /** Highlights one rule's redactions wherever they are seen; the same rule again ends it. Answers the text to look for. */
  toggleRule(rule) {
    const text = rule === 'redacted' ? '[REDACTED' : `[REDACTED:${rule}]`;
    this.#rule = this.#rule === text ? '' : text;
    this.paint();
    return this.#rule;
  }

  /** Highlights what is seen now. */
  paint() {
    const { find, isRegex } = this.#facts.filter;
    highlight(this.#host, 'find', find, isRegex);
    highlight(this.#host, 'redaction', this.#rule);
  }
}
