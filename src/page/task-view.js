// A task: it puts together what stands around the conversation, and answers what the reader does.

import { Problem, curl, download, json, request, taskPath } from './api.js';
import { begins, failed } from './conversation.js';
import { button, copy, el, fill, toast } from './dom.js';
import { duration, many, number, time } from './format.js';
import { estimate, row } from './items.js';
import { fragment, marked, note, params, url } from './route.js';
import { preference, remember } from './preferences.js';
import { TaskBar } from './task-bar.js';
import { Live, fillDetails } from './task-details.js';
import { Hits, highlight } from './task-find.js';
import { TaskHead, titleOf } from './task-head.js';
import { TaskOpen } from './task-open.js';
import { TaskWindow } from './task-window.js';
import { Timeline } from './timeline.js';
import { typesOf } from './record.js';
import { line } from './text.js';
import { VirtualList } from './virtual-list.js';

/** Records whole again are fetched without being asked for up to this size. */
const REFRESH = 10_000;
/** Items this near to an end of what is loaded make more be loaded. */
const NEAR = 40;

export class TaskView {
  element;
  title = '';
  #id;
  #task = null;
  #counts = null;
  #usage = null;
  #errors = [];
  #live = new Live();
  #window = null;
  #list;
  #scroller;
  #host;
  #bar;
  #head = new TaskHead();
  #timeline;
  #details;
  #pill;
  #open;
  #current = null;
  #marks = null;
  #hits = null;
  #fresh = 0;
  #filter;
  #edges = {};
  #message;
  #timer = 0;
  #stop = new AbortController();
  #heard;

  /** `heard({title, status})` hears what the task is called and how it stands. */
  constructor(id, heard) {
    this.#id = id;
    this.#heard = heard;
    this.#filter = filterOf(params());
    this.#timeline = new Timeline((target) => this.#goTo(target));
    this.#bar = new TaskBar({
      find: (text, isRegex) => this.#find(text, isRegex),
      step: (by) => this.step(by),
      only: () => this.#setFilter({ only: !this.#filter.only }),
      filter: (change) => this.#setFilter(change),
      follow: () => this.toggleFollow(),
      clock: () => this.#setClock(),
      details: () => this.toggleDetails(),
      download: (format) => this.#download(format),
      curl: () => copy(curl(taskPath(id, 'logs'), { format: 'ndjson', ...this.#params() }), 'Command'),
    }, this.#timeline.element);
    this.#host = el('div', { class: 'conversation', role: 'feed', 'aria-label': 'Conversation', 'aria-busy': 'true' });
    this.#message = el('div', { class: 'empty' });
    this.#scroller = el('div', { class: 'task-scroll', tabindex: -1 }, this.#head.element, this.#bar.element, this.#host, this.#message);
    this.#details = el('aside', { class: 'details', 'aria-label': 'Details of the task' });
    this.#pill = button({ class: 'pill', on: { click: () => this.toEnd() } });
    this.#pill.hidden = true;
    this.element = el('div', { class: 'task' }, el('div', { class: 'task-main' }, this.#scroller, this.#pill), this.#details);
    if (preference('details', 'shown') === 'hidden') this.element.classList.add('without-details');
    this.#open = new TaskOpen(id, {
      clock: preference('clock', 'since'),
      changed: (item) => this.#list.changed(item),
      mark: (item, isRange) => this.#mark(item, isRange),
      inContext: (item) => this.#inContext(item),
      copyLink: (item) => copy(location.origin + url({ task: id }, fragment(item.records[0].cursor)), 'Link'),
      isCurrent: (item) => item === this.#current,
      isMarked: (item) => this.#isMarked(item),
    });
    this.#list = new VirtualList({
      scroller: this.#scroller,
      host: this.#host,
      estimate: (item) => estimate(item, this.#open),
      render: (item, before) => row(item, before, this.#open),
      scrolled: () => this.#scrolled(),
    });
    this.#edges.earlier = { kind: 'edge', edge: 'earlier', id: 'earlier', records: [], make: () => this.#earlierEdge() };
    this.#edges.later = { kind: 'edge', edge: 'later', id: 'later', records: [], make: () => el('span', { class: 'muted', text: 'Loading later records…' }) };
  }

  async start() {
    const { find, isRegex, only } = this.#filter;
    this.#bar.setFind(find, isRegex, only);
    this.#bar.setCounts(null, this.#filter);
    try {
      await Promise.all([this.#loadTask(), this.#loadCounts()]);
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      return this.#fail(error);
    }
    if (this.#stop.signal.aborted) return;
    this.#timer = setInterval(() => { if (!document.hidden && !this.#window?.ended) this.#refresh(); }, REFRESH);
    if (find) this.#find(find, isRegex, true);
    await this.#load(marked()?.from ?? null);
    this.#loadErrors();
    this.#loadUsage();
  }

  stop() {
    this.#stop.abort();
    this.#window?.stop();
    this.#list.stop();
    this.#timeline.stop();
    this.#head.stop();
    this.#hits?.stop();
    clearInterval(this.#timer);
    highlight(this.#host, 'find', '');
    highlight(this.#host, 'redaction', '');
  }

  /** The URL changed within the task: another record, or other filters. */
  async changed() {
    const filter = filterOf(params());
    const isOther = JSON.stringify(filter) !== JSON.stringify(this.#filter);
    this.#filter = filter;
    this.#bar.setFind(filter.find, filter.isRegex, filter.only);
    if (isOther) {
      await this.#loadCounts().catch(() => {});
      this.#find(filter.find, filter.isRegex, true);
    }
    const target = marked();
    if (isOther) await this.#load(target?.from ?? null);
    else if (target) await this.#show(target.from);
  }

  // === Loading

  async #loadTask() {
    const task = await json(taskPath(this.#id), { signal: this.#stop.signal });
    this.#task = task;
    this.#headNow();
  }

  async #loadCounts() {
    const { only, ...filter } = this.#filter;
    void only;
    const types = this.#counts?.type;
    this.#counts = await json(taskPath(this.#id, 'counts'), { params: this.#params(), signal: this.#stop.signal });
    // Which types a kind has is known only now.
    if (!types && filter.kinds.length > 0) this.#counts = await json(taskPath(this.#id, 'counts'), { params: this.#params(), signal: this.#stop.signal });
    this.#bar.setCounts(this.#counts, this.#filter);
  }

  /** Failures of the whole task, loaded or not, for the timeline. */
  async #loadErrors() {
    if (!(this.#counts?.level?.error > 0)) return;
    try {
      const page = await json(taskPath(this.#id, 'logs'), { params: { format: 'json', level: 'error', limit: 1000, clip: 1 }, signal: this.#stop.signal });
      this.#errors = page.records.map(({ record }) => time(record?.timestamp));
      this.#paintTimeline();
    } catch {
      // The bar then shows those that are loaded.
    }
  }

  async #loadUsage() {
    if (!this.#task?.files?.some(({ name, size }) => name === 'usage.json' && size < 1e6)) return;
    try {
      this.#usage = await json(taskPath(this.#id, 'files/usage.json'), { signal: this.#stop.signal });
      this.#detailsNow();
    } catch {
      // The panel then tells what is loaded.
    }
  }

  async #refresh() {
    try {
      await Promise.all([this.#loadTask(), this.#loadCounts()]);
      await this.#loadUsage();
    } catch {
      // The next time, then.
    }
  }

  /** Parameters of the present filters. */
  #params() {
    const { kinds, tools, level, find, isRegex, only } = this.#filter;
    return {
      type: kinds.length > 0 ? typesOf(kinds, Object.keys(this.#counts?.type ?? {})) : null,
      tool: tools.length > 0 ? tools : null,
      level,
      ...(only && find ? (isRegex ? { regex: find } : { q: find }) : {}),
    };
  }

  /** Begins anew, at a record or where one begins: at the start of what ended and fits, else at the end. */
  async #load(cursor) {
    this.#window?.stop();
    this.#current = null;
    this.#fresh = 0;
    this.#live = new Live();
    this.#marks = null;
    this.#open.isFiltered = this.#isFiltered;
    this.#open.isResults = this.#filter.only && this.#filter.find !== '';
    this.#host.setAttribute('aria-busy', 'true');
    this.#window = new TaskWindow(this.#id, this.#params(), {
      replaced: () => this.#replaced(),
      appended: (from, changed) => this.#appended(from, changed),
      prepended: (changed) => this.#prepended(changed),
      connection: (state, detail) => this.#connection(state, detail),
      end: (status) => this.#ended(status),
    });
    this.#list.set([]);
    try {
      if (cursor) await this.#show(cursor);
      else {
        const ended = this.#task?.task?.completed_at;
        this.#list.following = !ended || (this.#counts?.matched ?? 0) > 1000;
        await this.#window.tail();
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Shows a record in its place, marked. */
  async #show(cursor, { isMark = true } = {}) {
    const key = cursor.split(',', 1)[0].split(':').slice(0, 2).join(':');
    if (!this.#window.conversation.byKey.has(key)) {
      try {
        await this.#window.around(cursor);
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        toast(error instanceof Problem ? 'That record is not there any more' : error.message);
        if (this.#window.conversation.items.length === 0) await this.#window.tail();
        return;
      }
    }
    const item = this.#window.conversation.byKey.get(key);
    if (!item) {
      toast('The record is hidden by the filters');
      return;
    }
    const target = marked();
    this.#marks = isMark && target ? { from: target.from, to: target.to } : this.#marks;
    if (this.#filter.find && item.kind !== 'text') this.#open.set(item, true);
    this.#list.following = false;
    this.#setCurrent(item, 'middle');
    this.#list.refresh();
  }

  // === What the window tells

  #replaced() {
    this.#live = new Live();
    this.#live.take(this.#window.conversation.items);
    this.#rows();
    this.#after();
  }

  #appended(from, changed) {
    const { conversation } = this.#window;
    const added = conversation.items.slice(from);
    this.#live.take(added);
    this.#live.take(changed);
    if (this.#window.settled && !this.#list.following) this.#fresh += added.length;
    const isHeld = this.#list.following && this.#holdsSelection();
    if (isHeld) {
      this.#list.following = false;
      this.#fresh = Math.max(1, added.length);
    }
    if (this.#window.atEnd && !this.#window.ended && this.#hasStart && this.#list.indexOf(this.#edges.later) < 0) this.#list.add(added);
    else this.#rows();
    for (const item of changed) this.#list.changed(item);
    this.#after();
  }

  #prepended(changed) {
    this.#live.take(this.#window.conversation.items);
    this.#rows();
    for (const item of changed) this.#list.changed(item);
    this.#after();
  }

  #hasStart = false;

  #rows() {
    const { conversation, atStart, atEnd, ended } = this.#window;
    this.#hasStart = conversation.items.length > 0 || atStart;
    const whole = conversation.count >= (this.#counts?.matched ?? Infinity) && atEnd;
    if (whole) this.#window.atStart = true;
    const first = this.#window.atStart ? this.#prompt() : conversation.items.length > 0 ? this.#edges.earlier : null;
    const last = !atEnd ? this.#edges.later : ended || this.#task?.final_result ? this.#result() : null;
    this.#open.isEnded = Boolean(ended ?? this.#task?.task?.completed_at);
    this.#list.set([first, ...conversation.items, last].filter(Boolean));
  }

  #prompt() {
    if (this.#isFiltered) return null;
    const text = this.#task?.input?.message ?? this.#task?.metadata?.input_message;
    if (typeof text !== 'string' || text === '') return null;
    this.#edges.prompt ??= { kind: 'prompt', id: 'prompt', key: 'prompt', records: [] };
    return Object.assign(this.#edges.prompt, { text, time: time(this.#task.task?.created_at), via: this.#task.task?.source });
  }

  #result() {
    if (this.#isFiltered) return null;
    const final = this.#task?.final_result;
    if (!final) return null;
    const isBad = final.success === false || this.#task.task?.status === 'failed';
    const plain = (value) => (typeof value === 'string' ? value : value === null || value === undefined ? '' : JSON.stringify(value, null, 2));
    const text = [plain(final.error), plain(final.result)].filter(Boolean).join('\n\n') || (final.gap ? `The entry that told the end is missing: ${plain(final.gap)}.` : isBad ? 'The task failed.' : 'The task is done.');
    const seconds = this.#task.task?.duration_seconds ?? final.metrics?.duration_seconds;
    this.#edges.result ??= { kind: 'result', id: 'result', key: 'result', records: [] };
    return Object.assign(this.#edges.result, { text, time: time(final.completed_at), failed: isBad, level: isBad ? 'error' : 'info', took: Number.isFinite(seconds) ? duration(seconds) : '' });
  }

  #earlierEdge() {
    const known = (this.#counts?.matched ?? 0) - this.#window.conversation.count;
    const text = this.#window.atEnd && known > 0 ? `${many(known, 'earlier record')}` : 'Earlier records';
    return [
      el('span', { class: 'muted', text }),
      button({ class: 'text-button', on: { click: () => this.#window.earlier().catch((error) => toast(error.message)) }, text: 'Load 1,000' }),
      button({ class: 'text-button', on: { click: (event) => this.#loadAll(event.currentTarget) }, text: 'Load all' }),
      button({ class: 'text-button', on: { click: () => this.toStart() }, text: 'Go to the start' }),
    ];
  }

  async #loadAll(pressed) {
    pressed.disabled = true;
    const { conversation } = this.#window;
    try {
      while (this.#window.conversation === conversation && conversation.items.length < 110_000 && await this.#window.earlier(2000));
    } catch (error) {
      toast(error.message);
    }
  }

  #connection(state, detail) {
    this.#bar.setConnection(state, detail);
    if (state === 'failed') this.#fail(new Error(detail));
    if (state === 'resync') toast('The log was replaced; it is read anew');
    if (state === 'live') setTimeout(() => { if (this.#window) this.#window.settled = true; }, 1500);
    this.#followNow();
  }

  async #ended(status) {
    this.#live.ended = status;
    await this.#refresh();
    if (this.#stop.signal.aborted) return;
    this.#rows();
    this.#after();
  }

  #fail(error) {
    if (this.#stop.signal.aborted) return;
    this.#host.setAttribute('aria-busy', 'false');
    const isGone = error instanceof Problem && error.status === 404;
    fill(this.#message, el('h2', { text: isGone ? 'No such task' : 'The task cannot be shown' }),
      el('p', { class: 'muted', text: isGone ? `Nothing is stored under “${line(this.#id, 80)}”. It may have been removed, or has not begun yet.` : error.message }),
      el('p', {}, el('a', { class: 'small-button', href: '/', text: 'All tasks' })));
    this.#message.hidden = false;
    this.#bar.element.classList.toggle('disabled', isGone);
  }

  // === What follows from a change

  #soon = 0;

  #after() {
    this.#host.setAttribute('aria-busy', 'false');
    const { conversation, atEnd } = this.#window;
    const isEmpty = conversation.items.length === 0 && atEnd && this.#window.settled;
    this.#message.hidden = !isEmpty;
    if (isEmpty) fill(this.#message, this.#isFiltered ? [el('p', { text: 'No record matches the filters.' }), button({ class: 'small-button', on: { click: () => this.#setFilter({ kinds: [], tools: [], level: '', only: false }) }, text: 'Show all' })] : el('p', { class: 'muted', text: this.#window.ended ? 'Nothing was logged.' : 'Nothing has been logged yet. What comes appears here.' }));
    this.#followNow();
    this.#soon ||= setTimeout(() => {
      this.#soon = 0;
      if (this.#stop.signal.aborted) return;
      this.#headNow();
      this.#paintTimeline();
    }, 120);
  }

  #headNow() {
    this.title = this.#head.set(this.#id, this.#task, this.#live);
    this.#heard({ title: titleOf(this.#id, this.#task), status: this.#task?.task?.status ?? this.#live.ended ?? 'running' });
    this.#detailsNow();
  }

  #detailsNow() {
    if (!this.#task) return;
    fillDetails(this.#details, {
      id: this.#id, task: this.#task, live: this.#live, usage: this.#usage,
      isWhole: Boolean(this.#window?.atStart && this.#window.atEnd && !this.#isFiltered),
      highlight: (rule) => this.#highlightRule(rule),
    });
  }

  #paintTimeline() {
    this.#timeline.set({
      items: this.#window?.conversation.items ?? [],
      span: [time(this.#counts?.first), time(this.#counts?.last)],
      errors: this.#errors,
      start: this.#startTime,
    });
    this.#open.start = this.#startTime;
  }

  get #startTime() {
    const row = this.#task?.task ?? {};
    const told = [time(row.created_at), time(row.started_at), time(this.#counts?.first)].filter(Number.isFinite);
    return told.length > 0 ? Math.min(...told) : this.#live.first;
  }

  #followNow() {
    const isEnded = Boolean(this.#window?.ended);
    this.#bar.setFollow({ isOn: this.#list.following, isEnded });
    if (this.#list.following) this.#fresh = 0;
    this.#pill.hidden = !(this.#fresh > 0 && this.#window?.atEnd);
    if (!this.#pill.hidden) this.#pill.textContent = `${number(this.#fresh)} new ↓`;
  }

  #scrolled() {
    if (!this.#window) return;
    if (this.#list.atEnd && this.#window.atEnd && !this.#list.following && !this.#holdsSelection()) {
      if (!this.#window.ended && this.#window.settled && this.#window.conversation.items.length > 0) this.#list.following = true;
      this.#fresh = 0;
    }
    this.#followNow();
    const [from, to] = this.#list.seen();
    const items = this.#window.conversation.items;
    const shift = this.#window.atStart ? (this.#prompt() ? 1 : 0) : 1;
    const [first, last] = [Math.max(0, from - shift), Math.min(items.length, to - shift)];
    if (!this.#window.atStart && items.length > 0 && first < NEAR && this.#window.settled && !this.#list.following) this.#window.earlier().catch((error) => toast(error.message));
    if (!this.#window.atEnd && items.length - last < NEAR) this.#window.later().catch((error) => toast(error.message));
    const times = items.slice(first, last).map(begins).filter(Number.isFinite);
    this.#timeline.seen(times[0], times.at(-1));
    if (this.#filter.find) highlight(this.#host, 'find', this.#filter.find, this.#filter.isRegex);
    if (this.#rule) highlight(this.#host, 'redaction', this.#rule);
  }

  #holdsSelection() {
    const selection = document.getSelection();
    return Boolean(selection && !selection.isCollapsed && this.#host.contains(selection.anchorNode));
  }

  #rule = '';

  #highlightRule(rule) {
    const text = rule === 'redacted' ? '[REDACTED' : `[REDACTED:${rule}]`;
    this.#rule = this.#rule === text ? '' : text;
    highlight(this.#host, 'redaction', this.#rule);
    if (!this.#rule) return;
    const holds = (item) => item.records.some(({ record }) => JSON.stringify(record).includes(text));
    const items = this.#window.conversation.items;
    const from = items.indexOf(this.#current) + 1;
    const item = items.slice(from).find(holds) ?? items.find(holds);
    if (item) this.#goTo({ item });
  }

  // === What the reader does

  get #isFiltered() {
    const { kinds, tools, level, find, only } = this.#filter;
    return kinds.length > 0 || tools.length > 0 || level !== '' || (only && find !== '');
  }

  #url(change = {}) {
    const { kinds, tools, level, find, isRegex, only } = { ...this.#filter, ...change };
    return url({ task: this.#id, kind: kinds, tool: tools, level, find, regex: isRegex && find ? 1 : '', only: only && find ? 1 : '' }, location.hash);
  }

  async #setFilter(change) {
    const wasFollowing = this.#list.following;
    const seen = this.#window?.conversation.items[Math.max(0, this.#list.seen()[0] - 1)];
    this.#filter = { ...this.#filter, ...change };
    note(this.#url());
    this.#bar.setFind(this.#filter.find, this.#filter.isRegex, this.#filter.only);
    this.#bar.setCounts(this.#counts, this.#filter);
    await this.#loadCounts().catch((error) => toast(error.message));
    this.#hits?.stop();
    this.#hits = null;
    if (this.#filter.find) this.#find(this.#filter.find, this.#filter.isRegex, true);
    const cursor = this.#current?.records[0]?.cursor ?? (wasFollowing ? null : seen?.records[0]?.cursor);
    await this.#load(null);
    if (cursor && !this.#isFiltered) await this.#show(cursor, { isMark: false });
  }

  async #find(text, isRegex, isSame = false) {
    if (!isSame && text === this.#filter.find && isRegex === this.#filter.isRegex) return;
    const wasOnly = this.#filter.only && this.#filter.find !== '';
    this.#filter = { ...this.#filter, find: text, isRegex };
    note(this.#url());
    this.#hits?.stop();
    this.#hits = null;
    highlight(this.#host, 'find', text, isRegex);
    if (!text) {
      this.#bar.setFound(null);
      this.#bar.setFind('', isRegex, this.#filter.only);
      if (wasOnly) this.#setFilter({ only: false });
      return;
    }
    const { kinds, tools, level } = this.#filter;
    void [kinds, tools, level];
    const { q, regex, ...others } = this.#params();
    void [q, regex];
    const hits = new Hits(this.#id, others, text, isRegex);
    this.#hits = hits;
    this.#bar.setFound(null);
    try {
      await hits.count();
      if (this.#hits !== hits) return;
      this.#bar.setFound(hits);
      if (wasOnly && !isSame) this.#setFilter({});
    } catch (error) {
      if (this.#hits === hits && error.name !== 'AbortError') this.#bar.setFound(null, error instanceof Problem && error.status === 400 ? 'not a valid search' : 'cannot search');
    }
  }

  /** To the next hit of the search, or the one before. */
  async step(by) {
    const hits = this.#hits;
    if (!hits) return;
    const here = this.#current ?? this.#window.conversation.items[this.#list.seen()[0]];
    try {
      const cursor = await hits.step(by, here?.records[0]?.cursor);
      if (!cursor || this.#hits !== hits) return;
      this.#bar.setFound(hits);
      await this.#show(cursor, { isMark: false });
    } catch (error) {
      if (error.name !== 'AbortError') toast(error.message);
    }
  }

  /** A hit among all records, where it stands. */
  async #inContext(item) {
    const { cursor } = item.records[0];
    this.#filter = { ...this.#filter, kinds: [], tools: [], level: '', only: false };
    note(this.#url());
    note(location.pathname + location.search + fragment(cursor));
    this.#bar.setFind(this.#filter.find, this.#filter.isRegex, false);
    await this.#loadCounts().catch(() => {});
    this.#hits?.stand(cursor);
    await this.#load(cursor);
  }

  #goTo({ item, time: at }) {
    if (item) this.#setCurrent(item, 'middle');
    else this.#window.at(at).then(() => {
      const found = this.#window.conversation.items.find((each) => begins(each) >= at);
      if (found) this.#setCurrent(found, 'middle');
    }).catch((error) => toast(error.message));
  }

  #setCurrent(item, where = 'near') {
    const before = this.#current;
    this.#current = item;
    this.#list.following = false;
    this.#list.scrollTo(item, where, this.#bar.element.offsetHeight + 12);
    for (const each of [before, item]) {
      const shown = each && this.#list.rowOf(each);
      if (shown) shown.classList.toggle('current', each === item);
    }
    requestAnimationFrame(() => requestAnimationFrame(() => this.#list.rowOf(item)?.focus({ preventScroll: true })));
    this.#followNow();
  }

  #mark(item, isRange) {
    const { cursor } = item.records[0];
    const from = isRange && this.#marks ? this.#marks.from : cursor;
    const items = this.#window.conversation.items;
    const of = (cursor) => items.indexOf(this.#window.conversation.byKey.get(cursor.split(',', 1)[0].split(':').slice(0, 2).join(':')));
    this.#marks = of(from) <= of(cursor) ? { from, to: cursor } : { from: cursor, to: from };
    note(location.pathname + location.search + fragment(this.#marks.from, this.#marks.to));
    this.#setCurrent(item);
    this.#list.refresh();
  }

  #isMarked(item) {
    if (!this.#marks || !item.records[0]) return false;
    const { items, byKey } = this.#window.conversation;
    const of = (cursor) => byKey.get(cursor.split(',', 1)[0].split(':').slice(0, 2).join(':'));
    const [from, to] = [of(this.#marks.from), of(this.#marks.to)];
    if (item === from || item === to) return true;
    if (!from || !to || from === to) return false;
    const at = items.indexOf(item);
    return at > items.indexOf(from) && at < items.indexOf(to);
  }

  toggleFollow() {
    if (this.#list.following) {
      this.#list.following = false;
      this.#followNow();
    } else this.toEnd();
  }

  async toEnd() {
    if (!this.#window.atEnd) await this.#window.tail();
    this.#fresh = 0;
    document.getSelection()?.removeAllRanges();
    this.#list.follow();
    this.#followNow();
  }

  async toStart() {
    this.#list.following = false;
    if (!this.#window.atStart) await this.#window.head().catch((error) => toast(error.message));
    this.#scroller.scrollTop = 0;
  }

  toggleDetails() {
    const isHidden = this.element.classList.toggle('without-details');
    this.element.classList.toggle('with-details', !isHidden);
    remember('details', isHidden ? 'hidden' : 'shown');
  }

  #setClock() {
    this.#open.clock = this.#open.clock === 'since' ? 'absolute' : 'since';
    remember('clock', this.#open.clock);
    this.#list.refresh();
  }

  #download(format) {
    const isArchive = format === 'zip' || format === 'tar.gz';
    const extension = { text: 'txt', markdown: 'md' }[format] ?? format;
    download(taskPath(this.#id, isArchive ? 'archive' : 'logs'), { format, ...this.#params() }, `${this.#id}.${extension}`).catch((error) => toast(error.message));
  }

  focusFind() {
    this.#bar.input.focus();
    this.#bar.input.select();
  }

  /** To the item after or before the present one. */
  move(by) {
    const items = this.#window?.conversation.items ?? [];
    if (items.length === 0) return;
    const at = items.indexOf(this.#current);
    const next = at < 0 ? Math.min(items.length - 1, Math.max(0, this.#list.seen()[0] - (this.#window.atStart && !this.#prompt() ? 0 : 1))) : Math.min(items.length - 1, Math.max(0, at + by));
    this.#setCurrent(items[next]);
  }

  /** To the next item of a kind, loaded or not: `error`, `tool` or `user`. */
  async seek(what, by) {
    if (!this.#window) return;
    const { items } = this.#window.conversation;
    const is = { error: failed, tool: (item) => item.kind === 'tool', user: (item) => item.kind === 'user' }[what];
    const from = this.#current ? items.indexOf(this.#current) : by > 0 ? this.#list.seen()[0] - 2 : this.#list.seen()[1];
    for (let at = from + by; at >= 0 && at < items.length; at += by) if (is(items[at])) return this.#setCurrent(items[at], 'middle');
    if (by > 0 ? this.#window.atEnd : this.#window.atStart) return toast(`No ${by > 0 ? 'further' : 'earlier'} ${{ error: 'failure', tool: 'tool call', user: 'user message' }[what]}`);
    const wanted = { error: { level: 'error' }, tool: { type: 'tool_call' }, user: { type: 'user_response' } }[what];
    const edge = by > 0 ? items.at(-1)?.records.at(-1) : items[0]?.records[0];
    try {
      const page = await json(taskPath(this.#id, 'logs'), { params: { format: 'json', ...this.#params(), ...wanted, limit: 1, clip: 1, after: edge?.cursor, order: by > 0 ? 'asc' : 'desc' } });
      if (page.records.length > 0) await this.#show(page.records[0].cursor, { isMark: false });
      else toast('No further one');
    } catch (error) {
      toast(error.message);
    }
  }

  /** Opens or closes the present item, or all. */
  toggle() {
    if (this.#current) this.#open.toggle(this.#current);
  }

  toggleAll() {
    this.#open.toggleAll();
    this.#rows();
    this.#list.refresh();
    toast(this.#open.isAllOpen ? 'All expanded' : 'All collapsed');
  }
}

/** The filters that a URL tells. */
function filterOf(query) {
  const list = (name) => (query.get(name) ?? '').split(',').filter(Boolean);
  return { kinds: list('kind'), tools: list('tool'), level: query.get('level') ?? '', find: query.get('find') ?? '', isRegex: query.get('regex') === '1', only: query.get('only') === '1' };
}
