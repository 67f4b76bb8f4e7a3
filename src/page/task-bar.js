// What stays in sight above a conversation: search, filters with counts, the timeline, and what can be done with the view.

import { button, el, fill, icon, settled } from './dom.js';
import { many, number, short } from './format.js';
import { closeMenu, menu } from './menu.js';
import { GROUPS, groupOf } from './record.js';
import { line } from './text.js';

const LEVELS = [['', 'All levels'], ['info', 'Info and above'], ['warn', 'Warnings and errors'], ['error', 'Errors']];

/** The bar. `act` has: `find(text, isRegex)`, `step(by)`, `only()`, `filter({kinds, tools, level})`, `follow()`, `clock()`,
 * `details()`, `download(format)`, `curl()`, `loadAll()`. */
export class TaskBar {
  element;
  input;
  #act;
  #found;
  #chips;
  #tools;
  #level;
  #only;
  #regex;
  #follow;
  #hidden;
  #loaded;
  #steps;
  #connection;

  constructor(act, timeline) {
    this.#act = act;
    const type = settled(() => this.#ask(), 260);
    this.input = el('input', { type: 'search', class: 'find-input', placeholder: 'Search this task', 'aria-label': 'Search this task', autocomplete: 'off', spellcheck: 'false', maxlength: 900, on: { input: type } });
    this.input.addEventListener('keydown', (event) => {
      if (event.key === 'Enter') {
        event.preventDefault();
        act.step(event.shiftKey ? -1 : 1);
      } else if (event.key === 'Escape') {
        event.stopPropagation();
        if (this.input.value === '') this.input.blur();
        this.input.value = '';
        this.#ask();
      }
    });
    this.#found = el('span', { class: 'find-count', 'aria-live': 'polite' });
    this.#regex = button({ class: 'toggle mono', 'aria-pressed': 'false', title: 'Regular expression', 'aria-label': 'Regular expression', text: '.*' });
    this.#regex.addEventListener('click', () => {
      pressed(this.#regex, !isPressed(this.#regex));
      this.#ask();
    });
    this.#only = button({ class: 'toggle', 'aria-pressed': 'false', title: 'Show only the records that match', on: { click: () => act.only() }, text: 'Matches only' });
    this.#steps = el('span', { class: 'find-steps' },
      button({ class: 'icon-button', title: 'Previous hit (N)', 'aria-label': 'Previous hit', on: { click: () => act.step(-1) } }, icon('up')),
      button({ class: 'icon-button', title: 'Next hit (n)', 'aria-label': 'Next hit', on: { click: () => act.step(1) } }, icon('down')),
      this.#only);
    this.#steps.hidden = true;
    this.#chips = el('div', { class: 'kind-chips', role: 'group', 'aria-label': 'Kinds of records' });
    this.#tools = el('select', { 'aria-label': 'Tool' });
    this.#tools.addEventListener('change', () => act.filter({ tools: this.#tools.value ? [this.#tools.value] : [] }));
    this.#level = el('select', { 'aria-label': 'Level' }, LEVELS.map(([value, text]) => el('option', { value, text })));
    this.#level.addEventListener('change', () => act.filter({ level: this.#level.value }));
    this.#hidden = el('span', { class: 'hidden-count' });
    this.#loaded = el('span', { class: 'loaded-count' });
    this.#follow = button({ class: 'toggle follow', 'aria-pressed': 'false', title: 'Follow what comes (f)', on: { click: () => act.follow() } }, el('span', { class: 'follow-dot', 'aria-hidden': 'true' }), el('span', { class: 'follow-text', text: 'Follow' }));
    this.#connection = el('span', { class: 'connection', role: 'status' });
    const choose = (label, action) => button({ class: 'menu-item', on: { click: (event) => { closeMenu(event.currentTarget); action(); } }, text: label });
    this.element = el('div', { class: 'task-bar' },
      el('div', { class: 'bar-line' },
        el('div', { class: 'find', role: 'search' }, icon('search'), this.input, this.#found, this.#regex), this.#steps,
        el('span', { class: 'grow' }), this.#connection, this.#follow,
        button({ class: 'icon-button', title: 'Times: since the start, or of the day', 'aria-label': 'Switch between times since the start and times of the day', on: { click: () => act.clock() } }, icon('clock')),
        menu({ class: 'icon-button', title: 'Download what is shown', 'aria-label': 'Download what is shown, or copy the command' }, icon('download'),
          el('p', { class: 'menu-head', text: 'What the filters show, as' }),
          choose('NDJSON', () => act.download('ndjson')), choose('Text', () => act.download('text')), choose('Markdown', () => act.download('markdown')),
          choose('Archive (tar.gz)', () => act.download('tar.gz')), choose('Archive (zip)', () => act.download('zip')),
          el('hr'), choose('Copy as curl', () => act.curl())),
        button({ class: 'icon-button details-button', title: 'Details (d)', 'aria-label': 'Show or hide details', on: { click: () => act.details() } }, icon('panel'))),
      el('div', { class: 'bar-line bar-filters' }, this.#chips, this.#tools, this.#level, this.#hidden, this.#loaded),
      timeline);
  }

  #ask() {
    this.#act.find(this.input.value.trim(), isPressed(this.#regex));
  }

  /** Shows a search that the URL told. */
  setFind(text, isRegex, only) {
    if (document.activeElement !== this.input) this.input.value = text;
    pressed(this.#regex, isRegex);
    pressed(this.#only, only);
    this.#steps.hidden = text === '';
  }

  /** `hits` of a search, or what is wrong with it. */
  setFound(hits, wrong = '') {
    this.#steps.hidden = this.input.value.trim() === '';
    this.#found.classList.toggle('bad', wrong !== '' || (hits !== null && hits.total === 0));
    if (wrong) this.#found.textContent = wrong;
    else if (!hits) this.#found.textContent = '';
    else if (hits.total === 0) this.#found.textContent = 'no hits';
    else this.#found.textContent = `${hits.at >= 0 ? `${number(hits.at + 1)} of ` : ''}${number(hits.total)}${hits.partial ? '+' : ''}${hits.at >= 0 ? '' : hits.total === 1 ? ' hit' : ' hits'}`;
  }

  /** Chips and choices with what the service counts. */
  setCounts(counts, { kinds, tools, level }) {
    const groups = new Map(GROUPS.map(([group]) => [group, 0]));
    for (const [type, count] of Object.entries(counts?.type ?? {})) groups.set(groupOf(type), groups.get(groupOf(type)) + count);
    const isAll = kinds.length === 0;
    const chip = (group, name, count, on) => button({ class: `kind-chip kind-${group}`, 'aria-pressed': String(on), data: { group }, on: { click: () => this.#choose(group, kinds) } }, el('span', { class: 'kind-dot', 'aria-hidden': 'true' }), name, el('span', { class: 'count', text: short(count) }));
    const focused = this.#chips.contains(document.activeElement) ? document.activeElement.dataset.group : null;
    fill(this.#chips,
      chip('all', 'All', counts?.total ?? 0, isAll),
      GROUPS.filter(([group]) => groups.get(group) > 0 || kinds.includes(group)).map(([group, name]) => chip(group, name, groups.get(group), kinds.includes(group))));
    if (focused) this.#chips.querySelector(`[data-group="${focused}"]`)?.focus();
    const names = Object.entries(counts?.tool ?? {}).sort((a, b) => b[1] - a[1]);
    for (const tool of tools) if (!names.some(([name]) => name === tool)) names.unshift([tool, 0]);
    fill(this.#tools, el('option', { value: '', text: 'All tools' }), names.map(([name, count]) => el('option', { value: name, text: `${line(name, 40)} (${short(count)})` })));
    this.#tools.value = tools[0] ?? '';
    this.#tools.hidden = names.length === 0;
    this.#tools.classList.toggle('chosen', tools.length > 0);
    for (const option of this.#level.options) {
      const [, name] = LEVELS.find(([value]) => value === option.value);
      const own = option.value === 'error' ? counts?.level?.error ?? 0 : option.value === 'warn' ? (counts?.level?.error ?? 0) + (counts?.level?.warn ?? 0) : null;
      option.textContent = own === null ? name : `${name} (${short(own)})`;
    }
    this.#level.value = level;
    this.#level.classList.toggle('chosen', level !== '');
    const hidden = counts ? counts.total - counts.matched : 0;
    fill(this.#hidden, hidden > 0 ? [`${many(hidden, 'record')} hidden `, button({ class: 'text-button', on: { click: () => this.#act.filter({ kinds: [], tools: [], level: '' }) }, text: 'Show all' })] : []);
  }

  /** How much of it is loaded, when that is not all. */
  setLoaded(loaded, total) {
    const text = loaded < total ? `${number(loaded)} of ${number(total)} loaded ` : '';
    if (this.#loaded.dataset.text === text) return;
    this.#loaded.dataset.text = text;
    fill(this.#loaded, text && [text, button({ class: 'text-button', data: { name: 'load-all' }, on: { click: () => this.#act.loadAll() }, text: 'Load all' })]);
  }

  /** A kind alone, then more of them; all when none is left. */
  #choose(group, kinds) {
    if (group === 'all') this.#act.filter({ kinds: [] });
    else this.#act.filter({ kinds: kinds.includes(group) ? kinds.filter((kind) => kind !== group) : [...kinds, group] });
  }

  setFollow({ isOn, isEnded }) {
    pressed(this.#follow, isOn);
    this.#follow.hidden = isEnded;
  }

  /** How the connection is: said only when it is not as it should be. */
  setConnection(state, detail = '') {
    const words = { connecting: '', live: '', ended: '', paused: 'paused while the tab is hidden', waiting: 'reconnecting…', failed: detail || 'cut', resync: 'the log was replaced; read anew' };
    this.#connection.textContent = words[state] ?? '';
    this.#connection.className = `connection connection-${state}`;
    this.#connection.title = detail;
    this.#follow.classList.toggle('is-live', state === 'live');
  }
}

function pressed(toggle, on) {
  toggle.setAttribute('aria-pressed', String(on));
}

function isPressed(toggle) {
  return toggle.getAttribute('aria-pressed') === 'true';
}
