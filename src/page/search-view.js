// Hits in the logs of all tasks, newest first, each with the words around it and a link to its place.

import { json, taskPath } from './api.js';
import { button, el, fill, toast } from './dom.js';
import { ago, bytes, many, stamp, time } from './format.js';
import { go, params, url, fragment } from './route.js';
import { line, nodes } from './text.js';

const TIMES = [['', 'Any time'], ['1h', 'Last hour'], ['24h', 'Last 24 hours'], ['168h', 'Last 7 days'], ['720h', 'Last 30 days']];

export class SearchView {
  element;
  title = 'Search';
  #query;
  #list;
  #state;
  #more;
  #head;
  #shown = 0;
  #next = null;
  #groups = new Map();
  #titles = [];
  #stop = new AbortController();

  constructor() {
    this.#query = queryOf(params());
    this.#head = el('div', { class: 'index-head' });
    this.#state = el('p', { class: 'muted total', role: 'status' });
    this.#list = el('div', { class: 'hits' });
    this.#more = el('div', { class: 'more' });
    this.element = el('div', { class: 'index' }, el('div', { class: 'index-scroll', tabindex: 0, role: 'region', 'aria-label': 'Hits' }, this.#head, this.#list, this.#more));
  }

  async start() {
    const { search, isRegex, since } = this.#query;
    const times = el('select', { 'aria-label': 'Time', class: since ? 'chosen' : '' }, TIMES.map(([value, text]) => el('option', { value, text })));
    times.value = since;
    times.addEventListener('change', () => go(url({ search, regex: isRegex ? 1 : '', since: times.value })));
    fill(this.#head,
      el('div', { class: 'index-title' }, el('h1', {}, 'Search', search ? el('span', { class: 'muted' }, ' for ', el('q', {}, nodes(line(search, 120)))) : null), this.#state),
      el('div', { class: 'facets' }, times, button({ class: 'toggle', 'aria-pressed': String(isRegex), on: { click: () => go(url({ search, regex: isRegex ? '' : 1, since })) } }, 'Regular expression')));
    if (!search) {
      this.#state.textContent = 'Type what to look for into the box above.';
      return;
    }
    this.#state.textContent = 'Searching…';
    await this.#load();
  }

  stop() {
    this.#stop.abort();
  }

  changed() {
    go(location.pathname + location.search);
  }

  focusFind() {
    document.getElementById('search').focus();
    document.getElementById('search').select();
  }

  async #load() {
    const { search, isRegex, since } = this.#query;
    let page;
    try {
      page = await json('/search', { params: { ...(isRegex ? { regex: search } : { q: search }), since, limit: 100, after: this.#next }, signal: this.#stop.signal });
    } catch (error) {
      if (error.name === 'AbortError') return;
      this.#state.textContent = error.message;
      return;
    }
    this.#next = page.next;
    for (const hit of page.hits) this.#show(hit);
    this.#shown += page.hits.length;
    this.#name();
    const searched = [Number.isFinite(page.tasks) && many(page.tasks, 'task'), Number.isFinite(page.bytes) && bytes(page.bytes)].filter(Boolean).join(', ');
    this.#state.textContent = `${this.#shown === 0 ? 'No hits' : many(this.#shown, 'hit')}${this.#next ? ' so far' : ''}${searched ? ` · looked through ${searched}` : ''}${page.partial ? ' · stopped at its limit of time or size' : ''}`;
    fill(this.#more, this.#next ? button({ class: 'small-button', on: { click: (event) => { event.currentTarget.disabled = true; this.#load().catch((error) => toast(error.message)); } } }, page.partial ? 'Go on searching' : 'More hits') : '');
  }

  /** Hits name their task by its id: its title is asked for, one after the other. */
  async #name() {
    for (const [id, link] of this.#titles.splice(0)) {
      try {
        const { task } = await json(taskPath(id), { signal: this.#stop.signal });
        if (task?.title) fill(link, nodes(line(task.title, 160)), ' ', el('span', { class: 'muted mono small', text: line(id, 60) }));
      } catch {
        // The id says enough.
      }
      if (this.#stop.signal.aborted) return;
    }
  }

  #show(hit) {
    const { before, match, after } = hit.snippet ?? {};
    let group = this.#groups.get(hit.task_id);
    if (!group) {
      group = el('ol', { class: 'plain' });
      this.#groups.set(hit.task_id, group);
      const link = el('a', { href: url({ task: hit.task_id, find: this.#query.search, regex: this.#query.isRegex ? 1 : '' }), dir: 'auto' }, line(hit.task_id, 160));
      this.#list.append(el('section', { class: 'hit-group' }, el('h2', {}, link), group));
      this.#titles.push([hit.task_id, link]);
    }
    const at = time(hit.timestamp);
    const target = url({ task: hit.task_id, find: this.#query.search, regex: this.#query.isRegex ? 1 : '' }, fragment(hit.cursor));
    group.append(el('li', {}, el('a', { class: 'hit', href: target },
      el('span', { class: 'hit-meta' }, el('span', { class: 'chip', text: line(String(hit.type ?? 'record').replaceAll('_', ' '), 30) }), el('time', { class: 'muted', title: stamp(at), text: ago(at) })),
      el('span', { class: 'snippet mono' }, nodes(lead(before)), el('mark', {}, nodes(String(match ?? ''))), nodes(trail(after))))));
  }

  move(by) {
    const links = [...this.#list.querySelectorAll('a.hit')];
    const at = links.indexOf(document.activeElement);
    links[at < 0 ? 0 : Math.min(links.length - 1, Math.max(0, at + by))]?.focus();
  }
}

const flat = (text) => String(text ?? '').replace(/\s+/g, ' ');
const lead = (text) => (flat(text).length > 120 ? `…${flat(text).slice(-120)}` : flat(text));
const trail = (text) => (flat(text).length > 200 ? `${flat(text).slice(0, 200)}…` : flat(text));

function queryOf(query) {
  return { search: query.get('search') ?? '', isRegex: query.get('regex') === '1', since: query.get('since') ?? '' };
}

