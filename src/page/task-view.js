// A task: it puts together what stands around the conversation, and what is loaded of it.

import { Problem, curl, download, taskPath } from './api.js';
import { begins } from './conversation.js';
import { button, copy, el, fill, toast } from './dom.js';
import { number, time } from './format.js';
import { estimate, row } from './items.js';
import { preference, remember } from './preferences.js';
import { fragment, marked, url } from './route.js';
import { TaskBar } from './task-bar.js';
import { Live, fillDetails } from './task-details.js';
import { TaskEdges } from './task-edges.js';
import { TaskFacts } from './task-facts.js';
import { TaskFinder } from './task-finder.js';
import { TaskHead, titleOf } from './task-head.js';
import { TaskOpen } from './task-open.js';
import { TaskReader, keyOf } from './task-reader.js';
import { PAGE, TaskWindow } from './task-window.js';
import { Timeline } from './timeline.js';
import { line } from './text.js';
import { VirtualList } from './virtual-list.js';

/** Between two looks at the figures of a task that runs. */
const REFRESH = 10_000;
/** Items this near to an end of what is loaded make more be loaded. */
const NEAR = 40;
/** Records that `Load all` stops at. */
const ALL_MAX = 110_000;

export class TaskView {
  element;
  title = '';
  #id;
  #facts;
  #live = new Live();
  #window = null;
  #list;
  #scroller;
  #host = el('div', { class: 'conversation', role: 'feed', 'aria-label': 'Conversation', 'aria-busy': 'true' });
  #message = el('div', { class: 'empty' });
  #details = el('aside', { class: 'details', 'aria-label': 'Details of the task' });
  #head = new TaskHead();
  #timeline;
  #bar;
  #pill;
  #open;
  #reader;
  #finder;
  /** Items that came since the reader left the end. */
  #fresh = 0;
  #edges;
  #isLoadingAll = false;
  #timer = 0;
  #soon = 0;
  #heard;

  /** `heard({title, status})` hears what the task is called and how it stands. */
  constructor(id, heard) {
    [this.#id, this.#heard] = [id, heard];
    this.#facts = new TaskFacts(id);
    this.#timeline = new Timeline((target) => this.#goTo(target));
    this.#bar = new TaskBar({
      find: (text, isRegex) => this.#finder.find(text, isRegex),
      step: (by) => this.step(by),
      only: () => this.#filter({ only: !this.#facts.filter.only }),
      filter: (change) => this.#filter(change),
      follow: () => this.toggleFollow(),
      clock: () => this.#setClock(),
      details: () => this.toggleDetails(),
      loadAll: () => this.#loadAll(),
      download: (format) => this.#download(format),
      curl: () => copy(curl(taskPath(id, 'logs'), { format: 'ndjson', ...this.#facts.params() }), 'Command'),
    }, this.#timeline.element);
    this.#scroller = el('div', { class: 'task-scroll', tabindex: -1 }, this.#head.element, this.#bar.element, this.#host, this.#message);
    this.#pill = button({ class: 'pill', on: { click: () => this.toEnd() } });
    this.#pill.hidden = true;
    this.#message.hidden = true;
    this.element = el('div', { class: 'task' }, el('div', { class: 'task-main' }, this.#scroller, this.#pill), this.#details);
    if (preference('details', 'shown') === 'hidden') this.element.classList.add('without-details');
    this.#open = new TaskOpen(id, {
      clock: preference('clock', 'since'),
      changed: (item) => this.#list.changed(item),
      itemOf: (record) => this.#window.conversation.byKey.get(record.key) ?? record,
      mark: (item, isRange) => this.#reader.mark(item, isRange),
      inContext: (item) => this.#finder.inContext(item),
      copyLink: (item) => copy(location.origin + url({ task: id }, fragment(item.records[0].cursor)), 'Link'),
      isCurrent: (item) => item === this.#reader.current,
      isMarked: (item) => this.#reader.isMarked(item),
    });
    this.#list = new VirtualList({
      scroller: this.#scroller,
      host: this.#host,
      estimate: (item) => estimate(item, this.#open),
      render: (item, before) => row(item, before, this.#open),
      scrolled: () => this.#scrolled(),
    });
    this.#reader = new TaskReader({
      facts: this.#facts, list: this.#list, window: () => this.#window,
      margin: () => this.#bar.element.offsetHeight + 12,
      moved: () => this.#paintFollow(),
      show: (cursor) => this.#show(cursor),
    });
    this.#finder = new TaskFinder({
      id, facts: this.#facts, bar: this.#bar, host: this.#host,
      reload: (cursor) => this.#reload(cursor),
      show: (cursor) => this.#show(cursor),
      here: () => this.#reader.current ?? this.#reader.firstSeen,
    });
    this.#edges = new TaskEdges(this.#facts, {
      isWholeEnd: () => this.#window.atEnd,
      loaded: () => this.#window.conversation.count,
      load: () => this.#window.earlier().catch((error) => toast(error.message)),
      start: () => this.toStart(),
    });
  }

  async start() {
    this.#finder.paintBar();
    this.#bar.setCounts(null, this.#facts.filter);
    try {
      await Promise.all([this.#facts.loadTask(), this.#facts.loadCounts()]);
    } catch (error) {
      return this.#fail(error);
    }
    if (this.#facts.isStopped) return;
    this.#paintHead();
    this.#bar.setCounts(this.#facts.counts, this.#facts.filter);
    this.#open.start = this.#facts.start;
    this.#timer = setInterval(() => { if (!document.hidden && !this.#window?.ended) this.#refresh(); }, REFRESH);
    this.#finder.count();
    await this.#load(marked()?.from ?? null);
    await Promise.allSettled([this.#facts.loadErrors(), this.#facts.loadUsage()]);
    if (!this.#facts.isStopped) this.#after();
  }

  stop() {
    this.#facts.stop();
    this.#window?.stop();
    this.#list.stop();
    this.#timeline.stop();
    this.#head.stop();
    this.#finder.stop();
    clearInterval(this.#timer);
    clearTimeout(this.#soon);
  }

  /** The URL changed within the task: another record, or other filters. */
  async changed() {
    const isOther = this.#facts.readUrl();
    const target = marked();
    if (isOther) {
      this.#finder.paintBar();
      this.#finder.count();
      await this.#reload(target?.from ?? null);
    } else if (target) {
      await this.#show(target.from, { isMark: true });
    }
  }

  // === Loading

  async #refresh() {
    try {
      await Promise.all([this.#facts.loadTask(), this.#facts.loadCounts()]);
      await this.#facts.loadUsage();
    } catch {
      // The next time, then.
    }
    if (this.#facts.isStopped) return;
    this.#bar.setCounts(this.#facts.counts, this.#facts.filter);
    this.#after();
  }

  async #filter(change) {
    const wasFollowing = this.#list.following;
    const here = this.#reader.current ?? (wasFollowing ? null : this.#reader.firstSeen);
    this.#facts.set(change);
    this.#finder.paintBar();
    this.#finder.count();
    await this.#reload(this.#facts.isFiltered ? null : here?.records[0]?.cursor ?? null, { isMark: false });
  }

  /** Loads the conversation anew under the present filters. */
  async #reload(cursor, { isMark = true } = {}) {
    this.#bar.setCounts(this.#facts.counts, this.#facts.filter);
    await this.#facts.loadCounts().catch((error) => toast(error.message));
    if (this.#facts.isStopped) return;
    this.#bar.setCounts(this.#facts.counts, this.#facts.filter);
    await this.#load(cursor, { isMark });
  }

  /** Begins at a record, or where one begins: at the start of what ended and fits, else at the end. */
  async #load(cursor, { isMark = true } = {}) {
    this.#window?.stop();
    this.#reader.forget();
    this.#fresh = 0;
    this.#live = new Live();
    this.#open.isFiltered = this.#facts.isFiltered;
    this.#open.isResults = this.#facts.isResults;
    this.#message.hidden = true;
    this.#host.setAttribute('aria-busy', 'true');
    const window = new TaskWindow(this.#id, this.#facts.params(), {
      replaced: () => this.#replaced(),
      appended: (from, changed, isHistory) => this.#appended(from, changed, isHistory),
      prepended: (changed) => this.#prepended(changed),
      connection: (state, detail) => this.#connection(state, detail),
      end: () => this.#ended(),
    });
    this.#window = window;
    this.#list.set([]);
    this.#scroller.scrollTop = 0;
    if (cursor) return this.#show(cursor, { isMark });
    const matched = this.#facts.counts?.matched ?? 0;
    this.#list.following = !this.#facts.task?.task?.completed_at || matched > PAGE;
    window.tail(Math.min(PAGE, matched));
  }

  /** Shows a record in its place. */
  async #show(cursor, { isMark = false } = {}) {
    const key = keyOf(cursor);
    if (!this.#window.conversation.byKey.has(key)) {
      try {
        await this.#window.around(cursor);
      } catch (error) {
        if (this.#facts.isStopped || error.name === 'AbortError') return;
        toast(error instanceof Problem ? 'That record is not there any more' : error.message);
        if (this.#window.conversation.items.length === 0) this.#window.tail(0);
        return;
      }
    }
    const item = this.#window.conversation.byKey.get(key);
    if (!item) return toast('The record is hidden by the filters');
    if (isMark) this.#reader.readMarks();
    if (this.#facts.filter.find && item.kind !== 'text') this.#open.set(item, true);
    this.#reader.go(item, 'middle');
    this.#list.refresh();
  }

  // === What the window tells

  #replaced() {
    this.#live = new Live();
    this.#live.take(this.#window.conversation.items);
    this.#rows();
    this.#after();
  }

  #appended(from, changed, isHistory) {
    const { conversation } = this.#window;
    const added = conversation.items.slice(from);
    this.#live.take(added);
    this.#live.take(changed);
    // Nothing moves away under a selection: it waits at its place until the reader goes on.
    if (this.#list.following && added.length > 0 && this.#holdsSelection) this.#list.following = false;
    if (!isHistory && !this.#list.following) this.#fresh += added.length;
    const isPlain = this.#window.atEnd && !this.#window.ended && from > 0 && !this.#facts.task?.final_result && this.#list.indexOf(this.#edges.later) < 0;
    if (isPlain) this.#list.add(added);
    else this.#rows();
    for (const item of changed) this.#list.changed(item);
    this.#after();
  }

  #prepended(changed) {
    this.#live.take(this.#window.conversation.items);
    this.#rows();
    for (const item of changed) this.#list.changed(item);
    if (!this.#window.atStart) this.#list.changed(this.#edges.earlier);
    this.#after();
  }

  #rows() {
    const { conversation, atEnd, ended } = this.#window;
    if (atEnd && conversation.count >= (this.#facts.counts?.matched ?? Infinity)) this.#window.atStart = true;
    const first = this.#window.atStart ? this.#edges.prompt() : conversation.items.length > 0 ? this.#edges.earlier : null;
    const last = !atEnd ? this.#edges.later : this.#edges.result();
    this.#open.isEnded = Boolean(ended ?? this.#facts.task?.task?.completed_at);
    this.#list.set([first, ...conversation.items, last].filter(Boolean));
  }

  async #loadAll() {
    if (this.#isLoadingAll) return;
    this.#isLoadingAll = true;
    const { conversation } = this.#window;
    const goesOn = () => this.#window.conversation === conversation && conversation.count < ALL_MAX;
    try {
      while (goesOn() && await this.#window.earlier(2 * PAGE));
      while (goesOn() && await this.#window.later());
    } catch (error) {
      if (error.name !== 'AbortError') toast(error.message);
    } finally {
      this.#isLoadingAll = false;
    }
  }

  #connection(state, detail) {
    this.#bar.setConnection(state, detail);
    if (state === 'failed') this.#fail(new Error(detail));
    if (state === 'resync') toast('The log was replaced; it is read anew');
    this.#paintFollow();
  }

  async #ended() {
    this.#live.ended = this.#window.ended;
    await this.#refresh();
    if (this.#facts.isStopped) return;
    this.#rows();
    this.#after();
  }

  #fail(error) {
    if (this.#facts.isStopped) return;
    this.#host.setAttribute('aria-busy', 'false');
    const isGone = error instanceof Problem && error.status === 404;
    fill(this.#message, el('h2', { text: isGone ? 'No such task' : 'The task cannot be shown' }),
      el('p', { class: 'muted', text: isGone ? `Nothing is stored under “${line(this.#id, 80)}”. It may have been removed, or has not begun yet.` : error.message }),
      el('p', {}, el('a', { class: 'small-button', href: '/', text: 'All tasks' })));
    this.#message.hidden = false;
    this.#bar.element.classList.toggle('disabled', isGone);
  }

  // === What follows from a change

  #after() {
    this.#host.setAttribute('aria-busy', 'false');
    const { conversation, atEnd, settled, ended } = this.#window;
    const isEmpty = conversation.items.length === 0 && atEnd && settled;
    this.#message.hidden = !isEmpty;
    if (isEmpty) {
      fill(this.#message, this.#facts.isFiltered
        ? [el('p', { text: 'No record matches the filters.' }), button({ class: 'small-button', on: { click: () => this.#filter({ kinds: [], tools: [], level: '', only: false }) }, text: 'Show all' })]
        : el('p', { class: 'muted', text: ended ? 'Nothing was logged.' : 'Nothing has been logged yet. What comes appears here.' }));
    }
    this.#paintFollow();
    this.#soon ||= setTimeout(() => {
      this.#soon = 0;
      this.#paintHead();
      this.#paintTimeline();
      this.#bar.setLoaded(this.#window.conversation.count, this.#facts.counts?.matched ?? 0);
    }, 150);
  }

  #paintHead() {
    const { task, usage } = this.#facts;
    this.title = this.#head.set(this.#id, task, this.#live);
    this.#heard({ title: titleOf(this.#id, task), status: task?.task?.status ?? this.#live.ended ?? 'running' });
    fillDetails(this.#details, {
      id: this.#id, task, live: this.#live, usage,
      isWhole: Boolean(this.#window?.atStart && this.#window.atEnd && !this.#facts.isFiltered),
      highlight: (rule) => this.#toggleRule(rule),
    });
  }

  #paintTimeline() {
    const { counts, errors, start } = this.#facts;
    const { items, count } = this.#window.conversation;
    this.#open.start = Number.isFinite(start) ? start : this.#live.first;
    this.#timeline.set({
      items, errors, start: this.#open.start,
      span: [time(counts?.first), time(counts?.last)],
      unloadedShare: 1 - count / Math.max(1, counts?.matched ?? 1),
    });
    this.#paintSeen();
  }

  #paintFollow() {
    this.#bar.setFollow({ isOn: this.#list.following, isEnded: Boolean(this.#window?.ended) });
    if (this.#list.following) this.#fresh = 0;
    this.#pill.hidden = !(this.#fresh > 0 && this.#window?.atEnd);
    if (!this.#pill.hidden) this.#pill.textContent = `${number(this.#fresh)} new ↓`;
  }

  #scrolled() {
    if (!this.#window) return;
    const { conversation: { items }, atStart, atEnd, ended, settled } = this.#window;
    if (this.#list.atEnd && atEnd && settled && items.length > 0 && !this.#holdsSelection) {
      if (!ended && !this.#list.isGoing) this.#list.following = true;
      this.#fresh = 0;
    }
    this.#paintFollow();
    const [first, last] = this.#paintSeen();
    const failed = (error) => { if (error.name !== 'AbortError') toast(error.message); };
    if (!atStart && items.length > 0 && first < NEAR && settled && !this.#list.following) this.#window.earlier().catch(failed);
    if (!atEnd && items.length - last < NEAR) this.#window.later().catch(failed);
    this.#finder.paint();
  }

  /** Shows on the timeline what is seen; answers which items that are. */
  #paintSeen() {
    const { items } = this.#window.conversation;
    const shift = items.length > 0 ? Math.max(0, this.#list.indexOf(items[0])) : 0;
    const [from, to] = this.#list.seen();
    const [first, last] = [Math.max(0, from - shift), Math.min(items.length, to - shift)];
    const times = items.slice(first, last).map(begins).filter(Number.isFinite);
    this.#timeline.seen(times[0], times.at(-1));
    return [first, last];
  }

  get #holdsSelection() {
    const selection = document.getSelection();
    return Boolean(selection && !selection.isCollapsed && this.#host.contains(selection.anchorNode));
  }

  // === What the reader does

  #goTo({ item, time: at }) {
    if (item) return this.#reader.go(item, 'middle');
    this.#window.at(at).then(() => {
      const found = this.#window.conversation.items.find((each) => begins(each) >= at);
      if (found) this.#reader.go(found, 'middle');
    }).catch((error) => toast(error.message));
  }

  #toggleRule(rule) {
    const text = this.#finder.toggleRule(rule);
    if (!text) return;
    const holds = (item) => item.records.some(({ record }) => JSON.stringify(record).includes(text));
    const { items } = this.#window.conversation;
    const from = items.indexOf(this.#reader.current) + 1;
    const item = items.slice(from).find(holds) ?? items.find(holds);
    if (!item) return;
    if (item.kind === 'tool' || item.kind === 'thinking') this.#open.set(item, true);
    this.#reader.go(item, 'middle');
    this.#list.refresh();
  }

  #setClock() {
    this.#open.clock = this.#open.clock === 'since' ? 'absolute' : 'since';
    remember('clock', this.#open.clock);
    this.#list.refresh();
  }

  #download(format) {
    const isArchive = format === 'zip' || format === 'tar.gz';
    const extension = { text: 'txt', markdown: 'md' }[format] ?? format;
    download(taskPath(this.#id, isArchive ? 'archive' : 'logs'), { format, ...this.#facts.params() }, `${this.#id}.${extension}`).catch((error) => toast(error.message));
  }

  toggleFollow() {
    if (!this.#list.following) return void this.toEnd();
    this.#list.following = false;
    this.#paintFollow();
  }

  toEnd() {
    if (!this.#window.atEnd) this.#window.tail(PAGE);
    this.#fresh = 0;
    document.getSelection()?.removeAllRanges();
    this.#list.follow();
    this.#paintFollow();
  }

  async toStart() {
    this.#list.following = false;
    this.#reader.current = null;
    if (!this.#window.atStart) await this.#window.head().catch((error) => toast(error.message));
    this.#list.toTop();
  }

  toggleDetails() {
    // Where there is no room beside, the panel lies above for as long as it is wanted.
    if (matchMedia('(max-width: 1060px)').matches) this.element.classList.toggle('with-details');
    else remember('details', this.element.classList.toggle('without-details') ? 'hidden' : 'shown');
  }

  focusFind() {
    this.#bar.input.focus();
    this.#bar.input.select();
  }

  move(by) {
    this.#reader.move(by);
  }

  seek(what, by) {
    if (this.#window) this.#reader.seek(what, by);
  }

  step(by) {
    this.#finder.step(by);
  }

  /** Opens or closes the present item. */
  toggle() {
    if (this.#reader.current) this.#open.toggle(this.#reader.current);
  }

  /** Opens or closes all. */
  toggleAll() {
    this.#open.toggleAll();
    this.#list.remeasure();
    this.#list.refresh();
    toast(this.#open.isAllOpen ? 'All expanded' : 'All collapsed');
  }
}
