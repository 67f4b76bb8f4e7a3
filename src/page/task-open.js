// What is open in a conversation, what is shown as JSON, and the records that were fetched whole. What is open is remembered
// for a reload of the tab.

import { request, taskPath } from './api.js';
import { failed } from './conversation.js';
import { copy, toast } from './dom.js';
import { parse } from './parse.js';

/** Opened rows that are remembered, and whole records that are kept. */
const REMEMBERED_MAX = 400;
const WHOLE_MAX = 24;
/** Records up to this size are fetched whole as soon as their row is opened. */
const SMALL = 300_000;

/** How rows are to be shown; the rows' only way to the rest. */
export class TaskOpen {
  start = NaN;
  clock;
  isFiltered = false;
  isResults = false;
  isEnded = false;
  isAllOpen = false;
  isCurrent;
  isMarked;
  mark;
  inContext;
  copyLink;
  itemOf;
  #id;
  #changed;
  #open = new Map();
  #wide = new Set();
  #json = new Set();
  #whole = new Map();

  constructor(id, { clock, changed, ...rest }) {
    this.#id = id;
    this.clock = clock;
    this.#changed = changed;
    Object.assign(this, rest);
    try {
      this.#open = new Map(JSON.parse(sessionStorage.getItem(this.#key) ?? '[]'));
    } catch {
      // Nothing was remembered.
    }
  }

  get #key() {
    return `task-logger.open.${this.#id}`;
  }

  /** Failures are open unless somebody closed them. */
  isOpen(item) {
    return this.#open.get(item.key) ?? (this.isAllOpen || (item.kind === 'tool' && failed(item)));
  }

  set(item, isOpen) {
    this.#open.set(item.key, isOpen);
    this.#remember();
    if (isOpen) this.#fetchSmall(item);
  }

  toggle(item) {
    this.set(item, !this.isOpen(item));
    this.#changed(item);
  }

  toggleAll() {
    this.isAllOpen = !this.isAllOpen;
    this.#open.clear();
    this.#remember();
  }

  #remember() {
    try {
      sessionStorage.setItem(this.#key, JSON.stringify([...this.#open].slice(-REMEMBERED_MAX)));
    } catch {
      // Then it holds until the page is left.
    }
  }

  /** Whether all lines of a text are shown. */
  isWide(record, part) {
    return this.#wide.has(`${record.key} ${part}`);
  }

  widen(record, part, isWide) {
    const name = `${record.key} ${part}`;
    if (isWide) this.#wide.add(name);
    else this.#wide.delete(name);
    this.#changed(record.records ? record : this.itemOf(record));
  }

  /** A record as it stands in its file, when it was fetched. */
  whole(record) {
    return this.#whole.get(record.key) ?? null;
  }

  #fetchSmall(item) {
    for (const record of item.records) if (record.clipped && record.bytes <= SMALL && !this.whole(record)) this.loadWhole(record);
  }

  async loadWhole(record) {
    try {
      await this.#fetchWhole(record);
      this.#wide.add(`${record.key} `).add(`${record.key} result`);
      this.#changed(this.itemOf(record));
    } catch (error) {
      toast(error.message);
    }
  }

  async #fetchWhole(record) {
    if (!record.clipped) return record.record;
    const known = this.whole(record);
    if (known) return known;
    const range = `bytes=${record.end - record.bytes}-${record.end - 1}`;
    const answer = await request(taskPath(this.#id, `files/${encodeURIComponent(record.file)}`), { headers: { Range: range }, cache: 'no-store' });
    if (answer.status !== 206) throw new Error('The service did not answer with the record alone.');
    const text = await answer.text();
    const whole = await parse(text);
    this.#whole.set(record.key, whole);
    for (const key of this.#whole.keys()) {
      if (this.#whole.size <= WHOLE_MAX) break;
      this.#whole.delete(key);
    }
    return whole;
  }

  showsJson(item) {
    return this.#json.has(item.key);
  }

  async toggleJson(item) {
    if (this.#json.has(item.key)) this.#json.delete(item.key);
    else {
      this.#json.add(item.key);
      await Promise.all(item.records.map((record) => this.#fetchWhole(record))).catch((error) => toast(error.message));
    }
    this.#changed(item);
  }

  async copyRecord(item) {
    try {
      const whole = await Promise.all(item.records.map((record) => this.#fetchWhole(record)));
      await copy(whole.map((record) => JSON.stringify(record, null, 2)).join('\n'), item.records.length > 1 ? 'Records' : 'Record');
    } catch (error) {
      toast(error.message);
    }
  }
}
