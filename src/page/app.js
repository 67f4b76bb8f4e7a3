// The page: its frame, which view is shown, the keys, and the question for the token.

import { onUnauthorized } from './api.js';
import { button, el, fill, icon } from './dom.js';
import { IndexView } from './index-view.js';
import { PluginsView } from './plugins-view.js';
import { nextTheme, setTheme, theme } from './preferences.js';
import { go, onChange, params, url } from './route.js';
import { SearchView } from './search-view.js';
import { dot } from './status.js';
import { TaskView } from './task-view.js';
import { line, nodes } from './text.js';

const main = document.getElementById('main');
const search = document.getElementById('search');
const crumb = document.getElementById('crumb');
const themeButton = document.getElementById('theme');

let view = null;
let shown = null;

// === Views

/** What tells a view from another; the rest of the URL is the view's own. */
function wanted() {
  const query = params();
  if (query.has('task')) return `task ${query.get('task')}`;
  if (query.has('search')) return `search ${query.get('search')} ${query.get('regex') ?? ''} ${query.get('since') ?? ''}`;
  return query.get('view') === 'plugins' ? 'plugins' : 'index';
}

function show() {
  const query = params();
  const name = wanted();
  if (name === shown) return void view.changed();
  view?.stop();
  shown = name;
  fill(crumb);
  if (name.startsWith('task ')) view = new TaskView(query.get('task'), named);
  else if (name.startsWith('search ')) view = new SearchView();
  else view = name === 'plugins' ? new PluginsView() : new IndexView();
  const isSearch = name.startsWith('search ');
  search.value = isSearch ? query.get('search') : name === 'index' ? query.get('q') ?? '' : '';
  for (const link of document.querySelectorAll('nav a[data-view]')) {
    if (link.dataset.view === (name === 'plugins' ? 'plugins' : name === 'index' ? 'index' : '')) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  document.title = `${view.title || 'Task'} · task-logger`;
  fill(main, view.element);
  main.scrollTop = 0;
  view.start();
}

function named({ title, status }) {
  fill(crumb, el('span', { class: 'crumb-mark', 'aria-hidden': 'true', text: '/' }), dot(status), el('span', { class: 'crumb-title', title: line(title, 300) }, nodes(line(title, 90))));
  document.title = `${line(title, 60)} · task-logger`;
}

// === The search box: always there

search.addEventListener('input', () => view.find?.(search.value.trim()));
search.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') search.blur();
  if (event.key !== 'Enter') return;
  event.preventDefault();
  const text = search.value.trim();
  if (text) go(url({ search: text }));
});

// === Theme

function paintTheme() {
  const now = theme();
  fill(themeButton, icon({ auto: 'auto', light: 'sun', dark: 'moon' }[now]));
  themeButton.setAttribute('aria-label', `Colours: ${now === 'auto' ? 'as the system has them' : now}. Switch`);
  themeButton.title = `Colours: ${now === 'auto' ? 'as the system has them' : now}`;
}

themeButton.addEventListener('click', () => {
  setTheme(nextTheme());
  paintTheme();
});

// === Token

function askToken(wasRefused) {
  return new Promise((resolve) => {
    const field = el('input', { id: 'token', type: 'password', autocomplete: 'off', spellcheck: 'false', required: true });
    const dialog = el('dialog', { class: 'dialog', 'aria-labelledby': 'token-title' },
      el('form', { method: 'dialog' },
        el('h2', { id: 'token-title', text: 'API token' }),
        el('p', { class: wasRefused ? 'bad' : 'muted', text: wasRefused ? 'The service refused that token.' : 'This service asks for a token.' }),
        el('label', { for: 'token', text: 'Token' }), field,
        el('p', { class: 'muted small', text: 'Kept in this tab until it is closed.' }),
        el('div', { class: 'button-row' }, el('button', { class: 'primary-button', type: 'submit', value: 'ok' }, 'Continue'), el('button', { class: 'small-button', type: 'submit', value: '', formnovalidate: true }, 'Cancel'))));
    dialog.addEventListener('close', () => {
      const given = dialog.returnValue === 'ok' ? field.value.trim() : null;
      dialog.remove();
      resolve(given || null);
    });
    // The page's policy lets no form be sent: this one only closes its dialog.
    dialog.querySelector('form').addEventListener('submit', (event) => {
      event.preventDefault();
      dialog.close(event.submitter?.value ?? '');
    });
    document.body.append(dialog);
    dialog.showModal();
    field.focus();
  });
}

onUnauthorized(askToken);

// === Keys

const KEYS = [
  ['/', 'Search: in the task, or all'], ['j  k', 'Next, previous item'], ['e  E', 'Next, previous failure'], ['t  T', 'Next, previous tool call'],
  ['u  U', 'Next, previous user message'], ['n  N', 'Next, previous hit of the search'], ['o  Enter', 'Open or close the item'], ['x', 'Expand or collapse all'],
  ['f', 'Follow what comes, or stop'], ['g  G', 'To the start, to the end'], ['d', 'Show or hide details'], ['i', 'List of tasks'], ['?', 'These keys'],
];

const help = el('dialog', { class: 'dialog help', 'aria-labelledby': 'help-title' },
  el('div', { class: 'dialog-head' }, el('h2', { id: 'help-title', text: 'Keys' }), button({ class: 'icon-button', 'aria-label': 'Close', on: { click: () => help.close() } }, icon('cross'))),
  el('dl', { class: 'keys' }, KEYS.map(([keys, what]) => el('div', {}, el('dt', {}, keys.split('  ').map((key) => el('kbd', { text: key }))), el('dd', { text: what })))));
help.addEventListener('click', (event) => { if (event.target === help) help.close(); });
document.body.append(help);
document.getElementById('help').addEventListener('click', () => help.showModal());

const ACTIONS = {
  '/': () => view.focusFind(),
  j: () => view.move(1),
  k: () => view.move(-1),
  e: () => view.seek?.('error', 1),
  E: () => view.seek?.('error', -1),
  t: () => view.seek?.('tool', 1),
  T: () => view.seek?.('tool', -1),
  u: () => view.seek?.('user', 1),
  U: () => view.seek?.('user', -1),
  n: () => view.step?.(1),
  N: () => view.step?.(-1),
  o: () => view.toggle?.(),
  x: () => view.toggleAll?.(),
  f: () => view.toggleFollow?.(),
  g: () => view.toStart?.(),
  G: () => view.toEnd?.(),
  d: () => view.toggleDetails?.(),
  i: () => go('/'),
  '?': () => help.showModal(),
};

addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || document.querySelector('dialog[open]')) return;
  const { target } = event;
  if (target.closest?.('input, textarea, select, [contenteditable]')) return;
  if (event.key === 'Enter' && target.matches?.('article.row')) {
    view.toggle?.();
    event.preventDefault();
    return;
  }
  const action = ACTIONS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

// === Begin

paintTheme();
onChange(show);
show();
