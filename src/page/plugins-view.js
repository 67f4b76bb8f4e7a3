// The plugin host: which plugins events pass through, in which order and generation, what they decided, and what was refused.

import { json } from './api.js';
import { el, fill, icon } from './dom.js';
import { ago, bytes, duration, number, short, stamp, time } from './format.js';
import { line } from './text.js';

const EVERY = 5000;
const VERDICTS = [['pass', 'passed'], ['replace', 'changed'], ['drop', 'dropped'], ['hold', 'held'], ['quarantine', 'quarantined'], ['failed', 'failed']];

export class PluginsView {
  element;
  title = 'Plugins';
  #body;
  #timer = 0;
  #stop = new AbortController();

  constructor() {
    this.#body = el('div', { class: 'plugins' });
    this.element = el('div', { class: 'index' }, el('div', { class: 'index-scroll', tabindex: 0, role: 'region', 'aria-label': 'Plugins' }, this.#body));
  }

  async start() {
    await this.#load();
    this.#timer = setInterval(() => { if (!document.hidden) this.#load(); }, EVERY);
  }

  stop() {
    clearInterval(this.#timer);
    this.#stop.abort();
  }

  changed() {}

  focusFind() {
    document.getElementById('search').focus();
  }

  move() {}

  async #load() {
    try {
      const report = await json('/plugins', { signal: this.#stop.signal });
      const text = JSON.stringify(report, (key, value) => (key === 'live_seconds' ? undefined : value));
      // What did not change is not drawn anew: somebody may be reading, or have selected some of it.
      if (text !== this.#last) this.#paint(report);
      this.#last = text;
    } catch (error) {
      if (error.name !== 'AbortError') fill(this.#body, el('div', { class: 'empty' }, el('h2', { text: 'The plugins cannot be shown' }), el('p', { class: 'muted', text: error.message })));
    }
  }

  #last = '';

  #paint(report) {
    const list = Array.isArray(report.plugins) ? report.plugins : [];
    const chain = Array.isArray(report.chain) ? report.chain : list.filter(({ state }) => state === 'live').map(({ name }) => name);
    const missing = report.missing ?? [];
    const stops = [...(report.blocked ? [plain(report.blocked)] : []), ...Object.entries(report.stopped ?? {}).map(([name, why]) => `${name}: ${plain(why)}`), ...missing.map((name) => `${name} is required and missing`)];
    fill(this.#body,
      el('div', { class: 'index-head' }, el('div', { class: 'index-title' }, el('h1', { text: 'Plugins' }),
        el('p', { class: 'muted total' }, `Generation ${number(report.generation)}`, report.generations_alive > 1 ? ` · ${report.generations_alive} alive` : '', report.chain_digest ? el('span', { class: 'mono', title: `Chain digest ${report.chain_digest}`, text: ` · ${String(report.chain_digest).slice(0, 12)}` }) : null))),
      stops.length > 0 ? el('div', { class: 'banner banner-bad', role: 'alert' }, el('strong', { text: 'No events are read. ' }), stops.join(' · ')) : null,
      el('ol', { class: 'chain', 'aria-label': 'Chain of plugins' },
        el('li', { class: 'chain-end', text: 'events' }),
        chain.map((name) => {
          const plugin = list.find((each) => each.name === name) ?? {};
          return el('li', { class: `chain-link${plugin.role === 'redactor' ? ' is-redactor' : ''}` }, el('span', { class: 'chain-name', text: line(String(name), 40) }), el('span', { class: 'muted small', text: plugin.role === 'redactor' ? 'redactor' : '' }));
        }),
        el('li', { class: 'chain-end', text: 'files' })),
      el('div', { class: 'cards' }, list.map((plugin) => card(plugin, report))),
      list.length === 0 ? el('div', { class: 'empty' }, el('h2', { text: 'No plugins' }), el('p', { class: 'muted' }, 'Events are stored as they come. A plugin is a file in one of ', el('span', { class: 'mono', text: (report.folders ?? []).join(', ') || 'PLUGINS_DIR' }), '.')) : null);
  }
}

function card(plugin, report) {
  const events = plugin.events ?? {};
  const seen = VERDICTS.reduce((sum, [name]) => sum + (events[name] ?? 0), 0);
  const counts = Object.entries(plugin.counts ?? {}).sort((a, b) => b[1] - a[1]);
  const failures = Object.entries(plugin.failures ?? {}).filter(([, count]) => count > 0);
  const refusal = refusalOf(plugin);
  const isRequired = (report.required ?? []).includes(plugin.name);
  return el('section', { class: `card plugin-card plugin-${plugin.state === 'live' ? 'live' : 'off'}` },
    el('header', {},
      el('h2', {}, line(String(plugin.name ?? plugin.file ?? 'plugin'), 60), ' ', el('span', { class: 'muted', text: line(String(plugin.version ?? ''), 20) })),
      el('div', { class: 'chips' },
        el('span', { class: `chip chip-${plugin.state === 'live' ? 'ok' : plugin.state === 'refused' ? 'bad' : 'wait'}` }, el('span', { class: `dot dot-${plugin.state === 'live' ? 'ok' : plugin.state === 'refused' ? 'bad' : 'wait'}`, 'aria-hidden': 'true' }), line(String(plugin.state ?? 'unknown'), 40)),
        plugin.role ? el('span', { class: 'chip', text: line(plugin.role, 30) }) : null,
        isRequired ? el('span', { class: 'chip', text: 'required' }) : null,
        Number.isFinite(plugin.generation) ? el('span', { class: 'chip', text: `generation ${plugin.generation}` }) : null,
        plugin.degraded ? el('span', { class: 'chip chip-bad', text: 'last good version' }) : null)),
    refusal ? el('p', { class: 'banner banner-bad' }, icon('cross'), el('span', { text: refusal })) : null,
    seen > 0 ? el('div', { class: 'verdicts' },
      el('div', { class: 'verdict-bar', 'aria-hidden': 'true' }, VERDICTS.filter(([name]) => events[name] > 0).map(([name]) => {
        const part = el('span', { class: `verdict-${name}` });
        part.style.flexGrow = String(events[name]);
        return part;
      })),
      el('dl', { class: 'verdict-list' }, VERDICTS.filter(([name]) => events[name] > 0 || name === 'pass').map(([name, word]) => el('div', {}, el('dt', {}, el('span', { class: `verdict-key verdict-${name}`, 'aria-hidden': 'true' }), word), el('dd', { class: 'number', text: number(events[name] ?? 0) }))))) : null,
    counts.length > 0 ? el('div', { class: 'counters' }, el('h3', { text: 'Counted' }), el('ul', { class: 'plain' }, counts.slice(0, 24).map(([name, count]) => el('li', { class: 'pair-line' }, el('span', { class: 'mono', text: line(name, 40) }), el('span', { class: 'number', text: number(count) }))))) : null,
    failures.length > 0 ? el('div', { class: 'counters' }, el('h3', { text: 'Failed calls' }), el('ul', { class: 'plain' }, failures.map(([name, count]) => el('li', { class: 'pair-line' }, el('span', { class: 'mono', text: line(name, 40) }), el('span', { class: 'number bad', text: number(count) }))))) : null,
    el('dl', { class: 'plugin-facts' }, facts(plugin).map(([name, value, hint]) => el('div', { title: hint ?? null }, el('dt', { text: name }), el('dd', { text: value })))));
}

function facts(plugin) {
  const cost = plugin.cost ?? {};
  const live = time(plugin.live_since);
  return [
    Number.isFinite(live) && ['Live since', ago(live), stamp(live)],
    Number.isFinite(cost.calls) && ['Calls', short(cost.calls)],
    Number.isFinite(cost.mean_us) && cost.calls > 0 && ['Mean call', duration(cost.mean_us / 1e6) === '0 ms' ? `${Math.round(cost.mean_us)} µs` : duration(cost.mean_us / 1e6), `slowest ${Math.round(cost.slowest_us)} µs`],
    Number.isFinite(cost.memory_bytes) && ['Memory', bytes(cost.memory_bytes), `${number(cost.instances)} instances`],
    plugin.kinds && ['Kinds', line(plugin.kinds.join(', '), 60)],
    plugin.files?.length > 0 && ['Writes', line(plugin.files.join(', '), 80)],
    plugin.on_failure && ['On failure', plugin.on_failure],
    plugin.isolation && ['Isolation', plugin.isolation],
    ['File', line(String(plugin.file ?? ''), 60), plugin.path],
    plugin.sha256 && ['SHA-256', String(plugin.sha256).slice(0, 12), plugin.sha256],
    plugin.signed_by && ['Signed by', line(String(plugin.signed_by), 60)],
  ].filter(Boolean);
}

/** Why the newest file of a plugin is not the one that is live. */
function refusalOf(plugin) {
  const told = plugin.last_refusal ?? plugin.refusal ?? plugin.refused ?? plugin.error ?? plugin.reason ?? null;
  return told ? line(plain(told), 600) : '';
}

function plain(value) {
  if (typeof value === 'string') return value;
  if (value && typeof value === 'object') return Object.values(value).filter((each) => typeof each === 'string').join(': ') || JSON.stringify(value);
  return String(value);
}
