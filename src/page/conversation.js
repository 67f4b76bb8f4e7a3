// Records as a conversation: what belongs together is one item. A tool's result joins its call, the stages of a webhook are one
// strip, pieces of one message are one text. It grows at both ends.

import { read } from './record.js';

/** Records that one item of several may hold: a stream of tiny pieces must not become one giant row. */
const JOINED_MAX = 40;
const JOINED_CHARS = 8000;

let ids = 0;

/** The conversation of the loaded part of a task. */
export class Conversation {
  /** In the order of the task. */
  items = [];
  /** Items by the key of each of their records. */
  byKey = new Map();
  /** Calls by the id that their results name; and results whose call is not loaded. */
  #calls = new Map();
  #orphans = new Map();
  /** Calls of tools without ids that wait for a result, by name. */
  #waiting = new Map();
  count = 0;

  /** Appends wire records; answers the items of before that changed. */
  append(wires) {
    const changed = new Set();
    for (const wire of wires) {
      const record = read(wire);
      if (this.byKey.has(record.key)) continue;
      this.count += 1;
      this.#place(record, changed);
    }
    return changed;
  }

  /** Puts wire records, the earliest first, before all others. */
  prepend(wires) {
    const earlier = new Conversation();
    earlier.append(wires.filter((wire) => !this.byKey.has(read(wire).key)));
    const changed = new Set();
    const gone = new Set();
    for (const [call, item] of earlier.#calls) {
      const orphan = this.#orphans.get(call);
      if (orphan && !item.result) {
        this.#join(item, orphan.result);
        gone.add(orphan);
        this.#orphans.delete(call);
      }
      if (!this.#calls.has(call)) this.#calls.set(call, item);
    }
    for (const [call, item] of earlier.#orphans) if (!this.#orphans.has(call)) this.#orphans.set(call, item);
    for (const [key, item] of earlier.byKey) this.byKey.set(key, item);
    const [last, first] = [earlier.items.at(-1), this.items[0]];
    if (last && first && !gone.has(first) && this.#continues(last, first.records[0], first.records.length)) {
      earlier.items.pop();
      first.records.unshift(...last.records);
      for (const record of last.records) this.byKey.set(record.key, first);
      changed.add(first);
    }
    this.items = [...earlier.items, ...(gone.size > 0 ? this.items.filter((item) => !gone.has(item)) : this.items)];
    this.count += earlier.count;
    return changed;
  }

  /** Drops items from the beginning, so that a task that is followed for days stays small. */
  dropFirst(items) {
    for (const item of this.items.splice(0, items)) {
      for (const record of item.records) this.byKey.delete(record.key);
      if (item.call) this.#calls.delete(item.call.call);
      this.count -= item.records.length;
    }
  }

  #place(record, changed) {
    const last = this.items.at(-1);
    if (record.type === 'tool_result') {
      const call = this.#callOf(record);
      if (call) {
        this.#join(call, record);
        changed.add(call);
        return;
      }
      const item = this.#add('tool', record);
      item.result = record;
      if (record.call) this.#orphans.set(record.call, item);
      return;
    }
    if (last && this.#continues(last, record, 1)) {
      last.records.push(record);
      this.byKey.set(record.key, last);
      changed.add(last);
      return;
    }
    const item = this.#add(record.group, record);
    if (record.type === 'tool_call') {
      item.call = record;
      if (record.call) this.#calls.set(record.call, item);
      else this.#waiting.set(record.tool, [...(this.#waiting.get(record.tool) ?? []), item]);
    }
  }

  #add(kind, record) {
    ids += 1;
    const item = { id: ids, kind, key: record.key, records: [record], call: null, result: null };
    this.items.push(item);
    this.byKey.set(record.key, item);
    return item;
  }

  #callOf(result) {
    if (result.call) {
      const item = this.#calls.get(result.call);
      return item && !item.result ? item : null;
    }
    const waiting = this.#waiting.get(result.tool);
    return waiting?.shift() ?? null;
  }

  #join(item, result) {
    item.result = result;
    item.records.push(result);
    this.byKey.set(result.key, item);
  }

  /** Whether a record goes on with what an item holds. */
  #continues(item, record, more) {
    const last = item.records.at(-1);
    if (item.records.length + more > JOINED_MAX) return false;
    if (item.kind === 'webhook') return record.group === 'webhook';
    if (item.kind !== 'text' || record.type !== last.type || !record.message) return false;
    return record.message === last.message && record.parent === last.parent && chars(item) < JOINED_CHARS;
  }
}

function chars(item) {
  return item.records.reduce((sum, { record }) => sum + (typeof record.content === 'string' ? record.content.length : 1000), 0);
}

/** Whether an item shows a failure. */
export function failed(item) {
  return item.level === 'error' || item.records.some((record) => record.level === 'error');
}

/** When an item begins. */
export function begins(item) {
  return item.records.length > 0 ? item.records[0].time : (item.time ?? NaN);
}

/** Seconds from a call to its result; NaN while there is none. */
export function took(item) {
  return item.call && item.result ? (item.result.time - item.call.time) / 1000 : NaN;
}
