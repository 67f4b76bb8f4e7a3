// The loaded part of a task: one stretch of its records without holes, which grows at both ends. At the task's end it follows
// what comes live.

import { json, taskPath } from './api.js';
import { CLIP } from './bodies.js';
import { Conversation } from './conversation.js';
import { breathe } from './dom.js';
import { Feed } from './feed.js';

/** Records that are asked for at a time. */
export const PAGE = 1000;
/** Records before one that is looked at. */
const AROUND = 200;
/** Items that are kept while a task is followed. */
const ITEMS_MAX = 120_000;
/** A late record can follow a task's end: it is looked for once more so long after it. */
const LATE = 4000;

export class TaskWindow {
  conversation = new Conversation();
  /** Whether nothing lies before, or behind, what is loaded. */
  atStart = false;
  atEnd = false;
  /** `null`, or how the task ended. */
  ended = null;
  /** Whether the history that comes first is through. */
  settled = false;
  #id;
  #filters;
  #hear;
  #feed = null;
  #first = null;
  #last = null;
  /** Whether it is known where it begins. */
  #isBegun = false;
  #expected = 0;
  #loading = { start: null, end: null };
  #stopped = new AbortController();

  /** `hear`: `replaced()`, `appended(from, changed, isHistory)`, `prepended(changed)`, `connection(state, detail)`, `end(status)`. */
  constructor(id, filters, hear) {
    this.#id = id;
    this.#filters = filters;
    this.#hear = hear;
  }

  stop() {
    this.#stopped.abort();
    this.#feed?.stop();
  }

  /** Begins with the last records, then follows; `expected` of them are known to be there. */
  tail(expected) {
    this.#reset();
    this.atEnd = true;
    this.#expected = expected;
    this.settled = expected === 0;
    if (this.settled) this.#hear.replaced();
    this.#follow(null);
  }

  /** Begins at the first record. */
  async head() {
    this.#reset();
    this.atStart = true;
    this.#last = '0';
    this.#hear.replaced();
    await this.later();
  }

  /** Begins around a record. */
  async around(cursor) {
    const before = await this.#page({ order: 'desc', after: cursor, limit: AROUND });
    const earlier = before.records.reverse();
    const from = earlier.at(-1)?.cursor ?? '0';
    const behind = await this.#page({ after: from, limit: PAGE / 2 });
    this.#begin(earlier, behind, !before.more);
  }

  /** Begins at the first record of a time or later. */
  async at(time) {
    const behind = await this.#page({ since: new Date(time).toISOString(), limit: 1 });
    const [found] = behind.records;
    if (!found) return this.tail(PAGE);
    await this.around(found.cursor);
  }

  #begin(earlier, behind, isStart) {
    this.#reset();
    this.atStart = isStart;
    this.conversation.append([...earlier, ...behind.records]);
    this.#first = earlier[0]?.cursor ?? behind.records[0]?.cursor ?? null;
    this.#last = behind.records.at(-1)?.cursor ?? earlier.at(-1)?.cursor ?? behind.next ?? '0';
    this.settled = true;
    this.#hear.replaced();
    if (!behind.more) this.#reached(behind.ended);
  }

  /** Loads earlier records; `false` when there are none. */
  async earlier(limit = PAGE) {
    if (!this.#isBegun || this.atStart || !this.#first) return false;
    this.#loading.start ??= this.#earlier(limit).finally(() => { this.#loading.start = null; });
    return this.#loading.start;
  }

  async #earlier(limit) {
    const conversation = this.conversation;
    const page = await this.#page({ order: 'desc', after: this.#first, limit });
    if (this.conversation !== conversation) return false;
    const records = page.records.reverse();
    if (records.length > 0) this.#first = records[0].cursor;
    this.atStart = !page.more || records.length === 0;
    this.#hear.prepended(conversation.prepend(records));
    return true;
  }

  /** Loads later records, and follows when there are none. */
  async later() {
    if (!this.#isBegun || this.atEnd) return false;
    this.#loading.end ??= this.#later().finally(() => { this.#loading.end = null; });
    return this.#loading.end;
  }

  async #later() {
    const conversation = this.conversation;
    const page = await this.#page({ after: this.#last ?? '0', limit: PAGE });
    if (this.conversation !== conversation) return false;
    this.settled = false;
    this.#append(page.records);
    this.settled = true;
    if (page.next) this.#last = page.next;
    if (!page.more) this.#reached(page.ended);
    return true;
  }

  #reached(ended) {
    this.atEnd = true;
    if (ended) this.#end(ended);
    else this.#follow(this.#last);
    this.#hear.appended(this.conversation.items.length, new Set(), true);
  }

  #append(records) {
    const from = this.conversation.items.length;
    if (records.length > 0) {
      this.#first ??= records[0].cursor;
      this.#last = records.at(-1).cursor;
    }
    const changed = this.conversation.append(records);
    const isHistory = !this.settled;
    if (this.conversation.count >= this.#expected) this.settled = true;
    if (this.conversation.items.length > ITEMS_MAX && this.atEnd) {
      this.conversation.dropFirst(this.conversation.items.length - ITEMS_MAX + 10_000);
      this.#first = this.conversation.items[0].records[0].cursor;
      this.atStart = false;
      this.#hear.replaced();
      return;
    }
    this.#hear.appended(from, changed, isHistory);
  }

  #reset() {
    this.#feed?.stop();
    this.#feed = null;
    this.conversation = new Conversation();
    [this.atStart, this.atEnd, this.ended, this.settled] = [false, false, null, false];
    [this.#first, this.#last] = [null, null];
    this.#isBegun = true;
  }

  #follow(after) {
    const feed = new Feed({
      path: taskPath(this.#id, 'stream'),
      params: { ...this.#filters, clip: CLIP, tail: PAGE },
      events: (events) => {
        if (feed === this.#feed) this.#take(events);
      },
      state: (state, detail) => {
        if (feed !== this.#feed) return;
        this.#hear.connection(state, detail);
      },
    });
    this.#feed = feed;
    feed.start(after);
  }

  #take(events) {
    const records = [];
    for (const { name, data } of events) {
      if (name === 'record') records.push(data);
      else if (name === 'resync') return void this.#resync();
      else if (name === 'ping') this.settled = true;
      else if (name === 'end') {
        this.#append(records.splice(0));
        this.#feed.stop();
        this.#end(data?.status ?? 'completed');
        return;
      }
    }
    if (records.length > 0) this.#append(records);
  }

  /** What was read is no more what stands there: begin anew. */
  #resync() {
    this.#hear.connection('resync');
    this.tail(PAGE);
    this.#hear.replaced();
  }

  async #end(status) {
    this.ended = status;
    this.settled = true;
    this.#hear.connection('ended');
    this.#hear.end(status);
    const conversation = this.conversation;
    await new Promise((done) => { setTimeout(done, LATE); });
    if (this.conversation !== conversation || this.#stopped.signal.aborted) return;
    try {
      const page = await this.#page({ after: this.#last ?? '0', limit: PAGE });
      if (this.conversation === conversation && page.records.length > 0) this.#append(page.records);
    } catch {
      // It was only a second look.
    }
  }

  async #page(params) {
    const page = await json(taskPath(this.#id, 'logs'), { params: { format: 'json', ...this.#filters, clip: CLIP, ...params }, signal: this.#stopped.signal });
    await breathe();
    return page;
  }
}
