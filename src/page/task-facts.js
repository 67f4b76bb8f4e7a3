// What the service tells of a task beside its records: the task itself, counts, where it failed. And the filters, which stand in
// the URL and in every question.

import { json, taskPath } from './api.js';
import { time } from './format.js';
import { typesOf } from './record.js';
import { note, params, url } from './route.js';

const NO_FILTER = { kinds: [], tools: [], level: '', find: '', isRegex: false, only: false };

export class TaskFacts {
  /** What `GET /tasks/{id}` answers. */
  task = null;
  /** What `/counts` answers under the filters. */
  counts = null;
  /** The usage plugin's file, when there is one. */
  usage = null;
  /** Times of all failures, loaded or not. */
  errors = [];
  filter = NO_FILTER;
  #id;
  #stop = new AbortController();

  constructor(id) {
    this.#id = id;
    this.readUrl();
  }

  stop() {
    this.#stop.abort();
  }

  get isStopped() {
    return this.#stop.signal.aborted;
  }

  ask(rest, params) {
    return json(taskPath(this.#id, rest), { params, signal: this.#stop.signal });
  }

  async loadTask() {
    this.task = await this.ask('');
  }

  async loadCounts() {
    const isFirst = this.counts === null;
    this.counts = await this.ask('counts', this.params());
    // Which types a kind stands for in this task is known only now.
    if (isFirst && this.filter.kinds.length > 0) this.counts = await this.ask('counts', this.params());
  }

  async loadErrors() {
    if (!(this.counts?.level?.error > 0)) return;
    const page = await this.ask('logs', { format: 'json', level: 'error', limit: 1000, clip: 1 });
    // Clipped to a character, the time of a record would be none: the cursor's entry tells it, to the millisecond.
    this.errors = page.records.map(({ cursor, record }) => entryTime(cursor) ?? time(record?.timestamp));
  }

  async loadUsage() {
    if (this.task?.files?.some(({ name, size }) => name === 'usage.json' && size < 1e6)) this.usage = await this.ask('files/usage.json');
  }

  /** The first time that is known of the task. */
  get start() {
    const row = this.task?.task ?? {};
    const told = [time(row.created_at), time(row.started_at), time(this.counts?.first)].filter(Number.isFinite);
    return told.length > 0 ? Math.min(...told) : NaN;
  }

  get prompt() {
    const told = this.task?.input?.message ?? this.task?.metadata?.input_message;
    return typeof told === 'string' ? told : '';
  }

  // === Filters

  /** Takes the filters from the URL; whether they are others. */
  readUrl() {
    const query = params();
    const list = (name) => (query.get(name) ?? '').split(',').filter(Boolean);
    const before = JSON.stringify(this.filter);
    this.filter = { kinds: list('kind'), tools: list('tool'), level: query.get('level') ?? '', find: query.get('find') ?? '', isRegex: query.get('regex') === '1', only: query.get('only') === '1' };
    return JSON.stringify(this.filter) !== before;
  }

  /** Changes the filters, and the URL with them. */
  set(change, hash = location.hash) {
    this.filter = { ...this.filter, ...change };
    const { kinds, tools, level, find, isRegex, only } = this.filter;
    note(url({ task: this.#id, kind: kinds, tool: tools, level, find, regex: isRegex && find ? 1 : '', only: only && find ? 1 : '' }, hash));
  }

  get isFiltered() {
    const { kinds, tools, level } = this.filter;
    return kinds.length > 0 || tools.length > 0 || level !== '' || this.isResults;
  }

  /** Whether only the hits of the search are shown. */
  get isResults() {
    return this.filter.only && this.filter.find !== '';
  }

  /** The filters as the service takes them; without the search unless its hits alone are shown. */
  params({ withSearch = this.isResults } = {}) {
    const { kinds, tools, level, find, isRegex } = this.filter;
    return {
      type: kinds.length > 0 ? typesOf(kinds, Object.keys(this.counts?.type ?? {})) : null,
      tool: tools.length > 0 ? tools : null,
      level,
      ...(withSearch && find ? (isRegex ? { regex: find } : { q: find }) : {}),
    };
  }
}

function entryTime(cursor) {
  const id = String(cursor).split(',', 1)[0].split(':')[2];
  const ms = Number(id?.split('-')[0]);
  return ms > 0 ? ms : null;
}
