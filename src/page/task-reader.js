// Where the reader is in a conversation, and how to get on: by item, by failure, by tool, to a marked record.

import { failed } from './conversation.js';
import { toast } from './dom.js';
import { fragment, marked, note } from './route.js';

const WHAT = {
  error: { is: failed, params: { level: 'error' }, name: 'failure' },
  tool: { is: (item) => item.kind === 'tool', params: { type: 'tool_call' }, name: 'tool call' },
  user: { is: (item) => item.kind === 'user', params: { type: ['user_response', 'user_input', 'user'] }, name: 'user message' },
};

/** The key of the record that a cursor stands behind. */
export function keyOf(cursor) {
  return cursor.split(',', 1)[0].split(':').slice(0, 2).join(':');
}

export class TaskReader {
  current = null;
  #marks = null;
  #facts;
  #list;
  #window;
  #margin;
  #moved;
  #show;

  /** `window()` is the loaded part, `margin()` the height of what lies above the list, `moved()` hears of a move, `show(cursor)`
   * loads and shows a record. */
  constructor({ facts, list, window, margin, moved, show }) {
    [this.#facts, this.#list, this.#window, this.#margin, this.#moved, this.#show] = [facts, list, window, margin, moved, show];
  }

  forget() {
    [this.current, this.#marks] = [null, null];
  }

  get #items() {
    return this.#window()?.conversation.items ?? [];
  }

  /** The first item that is seen. */
  get firstSeen() {
    const [from, to] = this.#list.seen();
    for (let at = from; at < to; at += 1) {
      const item = this.#list.itemAt(at);
      if (item?.records.length > 0) return item;
    }
    return this.#items[0] ?? null;
  }

  /** Goes to an item. */
  go(item, where = 'near') {
    const before = this.current;
    this.current = item;
    this.#list.following = false;
    this.#list.scrollTo(item, where, this.#margin());
    for (const each of [before, item]) {
      const shown = each && this.#list.rowOf(each);
      if (shown) shown.classList.toggle('current', each === item);
    }
    requestAnimationFrame(() => requestAnimationFrame(() => this.#list.rowOf(item)?.focus({ preventScroll: true })));
    this.#moved();
  }

  /** To the item after or before the present one. */
  move(by) {
    const items = this.#items;
    if (items.length === 0) return;
    const at = items.indexOf(this.current);
    this.go(at < 0 ? this.firstSeen : items[Math.min(items.length - 1, Math.max(0, at + by))]);
  }

  /** To the next item of a kind, loaded or not: `error`, `tool` or `user`. */
  async seek(what, by) {
    const { is, params, name } = WHAT[what];
    const items = this.#items;
    const here = items.indexOf(this.current ?? this.firstSeen);
    for (let at = this.current ? here + by : here; at >= 0 && at < items.length; at += by) if (is(items[at])) return this.go(items[at], 'middle');
    const nothing = () => toast(`No ${by > 0 ? 'further' : 'earlier'} ${name}`);
    if (by > 0 ? this.#window().atEnd : this.#window().atStart) return nothing();
    const edge = by > 0 ? items.at(-1)?.records.at(-1) : items[0]?.records[0];
    try {
      const page = await this.#facts.ask('logs', { format: 'json', ...this.#facts.params(), ...params, limit: 1, clip: 1, after: edge?.cursor, order: by > 0 ? 'asc' : 'desc' });
      if (page.records.length > 0) await this.#show(page.records[0].cursor);
      else nothing();
    } catch (error) {
      if (error.name !== 'AbortError') toast(error.message);
    }
  }

  // === Marks: what the fragment names

  /** Marks an item, or all from the marked one to it. */
  mark(item, isRange) {
    const { cursor } = item.records[0];
    const from = isRange && this.#marks ? this.#marks.from : cursor;
    const place = (cursor) => this.#items.indexOf(this.#window().conversation.byKey.get(keyOf(cursor)));
    this.#marks = place(from) <= place(cursor) ? { from, to: cursor } : { from: cursor, to: from };
    note(location.pathname + location.search + fragment(this.#marks.from, this.#marks.to));
    this.go(item);
    this.#list.refresh();
  }

  /** Takes the marks from the URL. */
  readMarks() {
    this.#marks = marked();
  }

  isMarked(item) {
    if (!this.#marks || item.records.length === 0) return false;
    const { byKey } = this.#window().conversation;
    const [from, to] = [byKey.get(keyOf(this.#marks.from)), byKey.get(keyOf(this.#marks.to))];
    if (item === from || item === to) return true;
    if (!from || !to || from === to) return false;
    const at = this.#list.indexOf(item);
    return at > this.#list.indexOf(from) && at < this.#list.indexOf(to);
  }
}
