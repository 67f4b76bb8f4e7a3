// The tasks: a list that is live, filtered by what stands in the URL.

import { json } from './api.js';
import { button, el, fill, icon, settled, toast } from './dom.js';
import { Feed } from './feed.js';
import { many, number, short } from './format.js';
import { taskRow } from './index-row.js';
import { note, params, url } from './route.js';
import { dot } from './status.js';
import { line } from './text.js';

const PAGE = 100;
/** When to ask again while the service is still counting. */
const INCOMPLETE = 1500;
/** Longest text that titles are searched for, in bytes. */
const TEXT_MAX = 200;
const SORTS = [['-created', 'Newest first'], ['created', 'Oldest first'], ['-duration', 'Longest'], ['-cost', 'Most expensive'], ['-tokens', 'Most tokens'], ['-errors', 'Most errors'], ['-completed', 'Last finished'], ['id', 'By id']];
const TIMES = [['', 'Any time'], ['1h', 'Last hour'], ['24h', 'Last 24 hours'], ['168h', 'Last 7 days'], ['720h', 'Last 30 days']];
const FACETS = [['source', 'Source'], ['agent', 'Agent'], ['model', 'Model']];
const STATUSES = ['running', 'completed', 'failed'];

export class IndexView {
  element;
  title = 'Tasks';
  #filter;
  #rows = new Map();
  #order = [];
  #next = null;
  #waiting = new Map();
  #list;
  #status;
  #facets;
  #more;
  #message;
  #pill;
  #scroller;
  #total;
  #feed = null;
  #stop = new AbortController();
  #loading = null;
  #watch;
  #timer;

  constructor() {
    this.#filter = filterOf(params());
    this.#status = el('div', { class: 'segments', role: 'group', 'aria-label': 'Status' });
    this.#facets = el('div', { class: 'facets', role: 'group', 'aria-label': 'Filters' });
    this.#total = el('p', { class: 'muted total', 'aria-live': 'polite' });
    this.#list = el('ul', { class: 'task-list', 'aria-label': 'Tasks' });
    this.#message = el('div', { class: 'empty' });
    this.#message.hidden = true;
    this.#more = el('div', { class: 'more' });
    this.#pill = button({ class: 'pill pill-top', on: { click: () => this.#showNew() } });
    this.#pill.hidden = true;
    this.#scroller = el('div', { class: 'index-scroll' },
      el('div', { class: 'index-head' }, el('div', { class: 'index-title' }, el('h1', { text: 'Tasks' }), this.#total), this.#status, this.#facets),
      el('div', { class: 'list-head', 'aria-hidden': 'true' }, ['', 'Task', 'Agent', 'Started', 'Duration', 'Tokens', 'Cost', 'Redacted', 'Errors'].map((name) => el('span', { text: name }))),
      this.#list, this.#message, this.#more);
    this.element = el('div', { class: 'index' }, this.#scroller, this.#pill);
    this.#watch = new IntersectionObserver(([entry]) => { if (entry.isIntersecting) this.#loadMore(); }, { root: this.#scroller, rootMargin: '600px' });
    this.#watch.observe(this.#more);
    this.#timer = setInterval(() => this.#tick(), 1000);
  }

  async start() {
    await this.#load();
    this.#feed = new Feed({
      path: '/tasks/events',
      events: (events) => {
        for (const { name, data } of events) {
          if (name === 'task' && data?.task_id) this.#heard(data);
          else if (name === 'removed') this.#removed(data?.task_id);
          else if (name === 'resync') this.#load({ isQuiet: true });
        }
      },
      state: (state) => {
        this.element.classList.toggle('is-offline', state === 'waiting' || state === 'failed');
        // What happened meanwhile was not heard.
        if (state === 'live' && this.#wasCut) this.#load({ isQuiet: true });
        this.#wasCut = state === 'waiting' || state === 'paused' || (this.#wasCut && state === 'connecting');
      },
    });
    this.#feed.start();
  }

  #wasCut = false;

  stop() {
    this.#stop.abort();
    this.#feed?.stop();
    this.#watch.disconnect();
    clearInterval(this.#timer);
    clearTimeout(this.#again);
  }

  changed() {
    this.#filter = filterOf(params());
    this.#load();
  }

  focusFind() {
    const box = document.getElementById('search');
    box.focus();
    box.select();
  }

  /** A text from the search box above: filters by title and id at once. */
  find = settled((text) => this.#set({ q: text }), 200);

  #set(change) {
    // A text that was typed just before another view was opened.
    if (this.#stop.signal.aborted) return;
    this.#filter = { ...this.#filter, ...change };
    note(url(queryOf(this.#filter)));
    this.#load();
  }

  #params() {
    const { status, source, agent, model, q, errors, sort, since } = this.#filter;
    return { status, source, agent, model, q: fitting(q), errors: errors ? 'true' : '', sort, since };
  }

  async #load({ isQuiet = false } = {}) {
    this.#loading?.abort();
    const loading = new AbortController();
    this.#loading = loading;
    if (!isQuiet) this.#paintFilters(null);
    let page;
    try {
      page = await json('/tasks', { params: { ...this.#params(), limit: PAGE }, signal: AbortSignal.any([loading.signal, this.#stop.signal]) });
    } catch (error) {
      if (error.name === 'AbortError') return;
      fill(this.#message, el('h2', { text: 'The tasks cannot be listed' }), el('p', { class: 'muted', text: error.message }), button({ class: 'small-button', on: { click: () => this.#load() }, text: 'Try again' }));
      this.#message.hidden = false;
      return;
    }
    this.#loading = null;
    this.#waiting.clear();
    this.#pill.hidden = true;
    const top = isQuiet ? this.#scroller.scrollTop : 0;
    this.#rows = new Map();
    this.#order = [];
    fill(this.#list);
    this.#append(page.tasks);
    this.#scroller.scrollTop = top;
    this.#next = page.next;
    this.#counts = page.counts;
    this.#count = page.total;
    this.#paintFilters(page.counts);
    this.#paintEmpty();
    // Right after a start the service has not looked at all tasks yet.
    clearTimeout(this.#again);
    if (page.complete === false) this.#again = setTimeout(() => this.#load({ isQuiet: true }), INCOMPLETE);
  }

  #again = 0;

  #counts = null;
  #count = 0;

  async #loadMore() {
    if (!this.#next || this.#loading) return;
    const loading = new AbortController();
    this.#loading = loading;
    try {
      const page = await json('/tasks', { params: { ...this.#params(), limit: PAGE * 2, after: this.#next }, signal: AbortSignal.any([loading.signal, this.#stop.signal]) });
      this.#next = page.next;
      this.#append(page.tasks);
    } catch (error) {
      if (error.name !== 'AbortError') toast(error.message);
    } finally {
      if (this.#loading === loading) this.#loading = null;
    }
    // Still in sight: there is no further crossing to be told of.
    this.#watch.unobserve(this.#more);
    this.#watch.observe(this.#more);
  }

  #append(tasks) {
    const fresh = tasks.filter((task) => !this.#rows.has(task.task_id));
    for (const task of fresh) {
      const row = taskRow(task);
      this.#rows.set(task.task_id, { task, row });
      this.#order.push(task.task_id);
      this.#list.append(row);
    }
    this.#paintMore();
  }

  #paintMore() {
    fill(this.#more, this.#next ? el('span', { class: 'muted', text: 'Loading more…' }) : this.#order.length > PAGE ? el('span', { class: 'muted', text: `All ${many(this.#order.length, 'task')}` }) : '');
  }

  #paintEmpty() {
    const isEmpty = this.#order.length === 0;
    this.#message.hidden = !isEmpty;
    if (!isEmpty) return;
    const isFiltered = Object.entries(queryOf(this.#filter)).some(([name, value]) => name !== 'sort' && value.length > 0);
    fill(this.#message,
      el('h2', { text: isFiltered ? 'No task matches' : 'No tasks yet' }),
      isFiltered
        ? el('p', {}, this.#filter.q ? el('a', { class: 'small-button', href: url({ search: this.#filter.q }) }, `Search inside all logs for “${line(this.#filter.q, 60)}”`) : null, ' ', button({ class: 'small-button', on: { click: () => this.#set(filterOf(new URLSearchParams())) }, text: 'Clear filters' }))
        : el('p', { class: 'muted', text: 'As soon as an agent’s first event arrives, its task appears here.' }));
  }

  #paintFilters(counts) {
    const known = counts ?? this.#counts ?? {};
    const all = Object.values(known.status ?? {}).reduce((sum, count) => sum + count, 0);
    const names = [...new Set([...STATUSES, ...Object.keys(known.status ?? {}), ...this.#filter.status])].filter((name) => STATUSES.includes(name) || known.status?.[name] > 0 || this.#filter.status.includes(name));
    const focused = this.element.contains(document.activeElement) ? document.activeElement.dataset?.name : null;
    const segment = (name, label, count, on, status) => button({ class: 'segment', 'aria-pressed': String(on), data: { name: `status:${name}` }, on: { click: status } }, name ? dot(name) : null, label, el('span', { class: 'count', text: short(count ?? 0) }));
    fill(this.#status,
      segment('', 'All', all, this.#filter.status.length === 0 && !this.#filter.errors, () => this.#set({ status: [], errors: false })),
      names.map((name) => segment(name, name[0].toUpperCase() + line(name.slice(1), 30), known.status?.[name], this.#filter.status.includes(name), () => this.#set({ status: this.#filter.status.includes(name) ? this.#filter.status.filter((each) => each !== name) : [name] }))),
      button({ class: 'segment', 'aria-pressed': String(this.#filter.errors), data: { name: 'errors' }, on: { click: () => this.#set({ errors: !this.#filter.errors }) } }, icon('cross'), 'With errors'));
    const select = (name, label, options, value) => {
      const box = el('select', { 'aria-label': label, data: { name }, class: value && value !== '-created' ? 'chosen' : '' }, options.map(([value, text]) => el('option', { value, text })));
      box.value = value;
      box.addEventListener('change', () => this.#set({ [name]: FACETS.some(([facet]) => facet === name) ? (box.value ? [box.value] : []) : box.value }));
      return box;
    };
    const facet = ([name, label]) => {
      const told = Object.entries(known[name] ?? {}).sort((a, b) => b[1] - a[1]).slice(0, 100);
      const chosen = this.#filter[name];
      for (const value of chosen) if (!told.some(([each]) => each === value)) told.unshift([value, 0]);
      if (told.length === 0) return null;
      return select(name, label, [['', `${label}: all`], ...told.map(([value, count]) => [value, `${line(value, 40)} (${short(count)})`])], chosen[0] ?? '');
    };
    fill(this.#facets, FACETS.map(facet), select('since', 'Created', TIMES, this.#filter.since), select('sort', 'Order', SORTS, this.#filter.sort || '-created'),
      this.#filter.q ? el('span', { class: 'chip chip-query' }, `“${line(this.#filter.q, 40)}” in title or id`, button({ class: 'chip-close', 'aria-label': 'Clear', on: { click: () => { document.getElementById('search').value = ''; this.#set({ q: '' }); } } }, icon('cross'))) : null,
      this.#filter.q ? el('a', { class: 'text-button', href: url({ search: this.#filter.q }) }, 'Search inside all logs ↵') : null);
    if (focused) this.element.querySelector(`[data-name="${CSS.escape(focused)}"]`)?.focus();
    this.#total.textContent = counts ? (all > 0 && this.#count !== all ? `${number(this.#count)} of ${number(all)}` : this.#count === null ? 'counting…' : many(this.#count, 'task')) : this.#total.textContent;
  }

  // === Live

  #heard(task) {
    const known = this.#rows.get(task.task_id);
    if (known) {
      this.#tally(known.task, task);
      const row = taskRow(task);
      const hadFocus = known.row.contains(document.activeElement);
      known.row.replaceWith(row);
      if (hadFocus) row.querySelector('a').focus({ preventScroll: true });
      this.#rows.set(task.task_id, { task, row });
      return;
    }
    if (!this.#fits(task)) return;
    if (!this.#waiting.has(task.task_id)) this.#tally(null, task);
    this.#waiting.set(task.task_id, task);
    // At the top nothing that is read moves away; elsewhere the reader decides.
    if (this.#scroller.scrollTop < 40 && !this.#list.matches(':hover') && !this.#list.contains(document.activeElement)) this.#showNew();
    else {
      this.#pill.hidden = false;
      this.#pill.textContent = `${many(this.#waiting.size, 'new task')} ↑`;
    }
  }

  #removed(id) {
    this.#waiting.delete(id);
    const known = this.#rows.get(id);
    if (!known) return;
    known.row.remove();
    this.#rows.delete(id);
    this.#order = this.#order.filter((each) => each !== id);
    const status = this.#counts?.status;
    if (status?.[known.task.status] > 0) status[known.task.status] -= 1;
    this.#count = Math.max(0, (this.#count ?? 1) - 1);
    this.#paintFilters(this.#counts);
    this.#paintEmpty();
  }

  #tally(before, after) {
    const status = this.#counts?.status;
    if (!status || before?.status === after.status) return;
    if (before) status[before.status] = Math.max(0, (status[before.status] ?? 0) - 1);
    else this.#count = (this.#count ?? 0) + 1;
    status[after.status] = (status[after.status] ?? 0) + 1;
    this.#paintFilters(this.#counts);
  }

  /** Whether a new task belongs into the list as it is filtered. */
  #fits(task) {
    const { q, errors, status, since } = this.#filter;
    if (status.length > 0 && !status.includes(task.status)) return false;
    if (FACETS.some(([name]) => this.#filter[name].length > 0 && !this.#filter[name].includes(task[name]))) return false;
    if (errors && !(task.errors > 0)) return false;
    if (since && !task.created_at) return false;
    return !q || `${task.title ?? ''}\n${task.task_id}`.toLowerCase().includes(q.toLowerCase());
  }

  #showNew() {
    const fresh = [...this.#waiting.values()];
    this.#waiting.clear();
    this.#pill.hidden = true;
    if ((this.#filter.sort || '-created') !== '-created') return void this.#load({ isQuiet: true });
    fresh.sort((a, b) => String(a.created_at).localeCompare(String(b.created_at)));
    for (const task of fresh) {
      const row = taskRow(task, true);
      this.#rows.set(task.task_id, { task, row });
      this.#order.unshift(task.task_id);
      this.#list.prepend(row);
    }
    this.#paintEmpty();
    if (this.#scroller.scrollTop > 40) this.#scroller.scrollTo({ top: 0 });
  }

  /** Times that go on: of what runs, and how long ago. */
  #tick() {
    if (document.hidden) return;
    for (const { row } of this.#rows.values()) row.tick?.();
  }

  // === Keys

  move(by) {
    const links = [...this.#list.querySelectorAll('a.task-link')];
    const at = links.indexOf(document.activeElement);
    links[at < 0 ? 0 : Math.min(links.length - 1, Math.max(0, at + by))]?.focus();
  }
}

/** The filters that a URL tells. */
function filterOf(query) {
  const list = (name) => (query.get(name) ?? '').split(',').filter(Boolean);
  return { status: list('status'), source: list('source'), agent: list('agent'), model: list('model'), q: query.get('q') ?? '', errors: query.get('errors') === 'true', sort: query.get('sort') ?? '', since: query.get('since') ?? '' };
}

function queryOf({ status, source, agent, model, q, errors, sort, since }) {
  return { status, source, agent, model, q, errors: errors ? 'true' : '', sort: sort === '-created' ? '' : sort, since };
}


/** As much of a text as the service takes. */
function fitting(text) {
  let fits = text;
  while (new TextEncoder().encode(fits).length > TEXT_MAX) fits = [...fits].slice(0, -1).join('');
  return fits;
}
