// What stands beside a conversation: redactions by rule, tools, plugins that processed the task, its files, its metadata.

import { curl, download, taskPath, withQuery } from './api.js';
import { jsonBlock } from './bodies.js';
import { button, copy, el, fill, icon } from './dom.js';
import { bytes, duration, number, stamp, time } from './format.js';
import { line } from './text.js';

/** Fills the panel. `live`: what the loaded records tell; `usage`: the file of the usage plugin, when there is one. */
export function fillDetails(panel, { id, task, live, usage, isWhole, highlight }) {
  // What is typed or opened below stays as it is: the panel is filled anew while a task runs.
  const open = new Set([...panel.querySelectorAll('details[open]')].map((each) => each.dataset.name));
  const part = (name, count, ...children) => el('section', {}, el('h2', {}, name, count === null ? null : el('span', { class: 'count', text: number(count) })), ...children);
  fill(panel,
    redactions(part, task, live, isWhole, highlight),
    tools(part, live, usage, isWhole),
    plugins(part, task),
    files(part, id, task),
    task?.metadata ? el('section', {}, el('details', { data: { name: 'metadata' }, open: open.has('metadata') }, el('summary', {}, el('h2', { text: 'Metadata' })), jsonBlock(task.metadata))) : null);
}

function redactions(part, task, live, isWhole, highlight) {
  const told = annotated(task);
  const rules = [...(told ?? live.rules)].sort((a, b) => b[1] - a[1]);
  isWhole ||= told !== null;
  const total = rules.reduce((sum, [, count]) => sum + count, 0);
  if (total === 0) return part('Redactions', null, el('p', { class: 'muted', text: isWhole ? 'Nothing was redacted.' : 'None in what is loaded.' }));
  return part('Redactions', total,
    el('ul', { class: 'plain' }, rules.map(([rule, count]) => el('li', { class: 'pair-line' },
      button({ class: 'redacted rule', title: 'Highlight in the conversation', on: { click: () => highlight(rule) } }, line(rule, 60)),
      el('span', { class: 'number', text: number(count) })))),
    isWhole ? null : el('p', { class: 'muted small', text: 'Counted in what is loaded.' }));
}

/** What plugins say that they redacted, by rule; `null` when none says. */
function annotated(task) {
  const annotations = task?.metadata?.annotations;
  if (!annotations || typeof annotations !== 'object') return null;
  const rules = new Map();
  for (const { redactions: told } of Object.values(annotations).filter(Boolean)) {
    if (!told || typeof told !== 'object') continue;
    for (const [rule, count] of Object.entries(told)) if (count > 0) rules.set(rule, (rules.get(rule) ?? 0) + count);
  }
  return rules.size > 0 ? rules : null;
}

function tools(part, live, usage, isWhole) {
  const told = usage?.tools && typeof usage.tools === 'object' ? Object.entries(usage.tools) : null;
  const list = told
    ? told.map(([name, { calls, errors, seconds }]) => ({ name, calls, errors, seconds }))
    : [...live.tools].map(([name, tool]) => ({ name, ...tool }));
  if (list.length === 0) return null;
  list.sort((a, b) => (b.calls ?? 0) - (a.calls ?? 0));
  return part('Tools', null,
    el('table', { class: 'small-table' },
      el('thead', {}, el('tr', {}, ['Tool', 'Calls', 'Failed', 'Time'].map((head, at) => el('th', { scope: 'col', class: at > 0 ? 'number' : '', text: head })))),
      el('tbody', {}, list.slice(0, 20).map(({ name, calls, errors, seconds }) => el('tr', {},
        el('th', { scope: 'row', class: 'mono', text: line(name, 30) }),
        el('td', { class: 'number', text: number(calls) }),
        el('td', { class: `number${errors > 0 ? ' bad' : ''}`, text: errors > 0 ? number(errors) : '–' }),
        el('td', { class: 'number', text: duration(seconds) }))))),
    told || isWhole ? null : el('p', { class: 'muted small', text: 'Counted in what is loaded.' }));
}

function plugins(part, task) {
  const list = Array.isArray(task?.metadata?.plugins) ? task.metadata.plugins : [];
  if (list.length === 0) return part('Processed by', null, el('p', { class: 'muted', text: 'No plugin.' }));
  return part('Processed by', null, el('ol', { class: 'plain' }, list.map((plugin) => el('li', { class: 'pair-line', title: `sha256 ${plugin.sha256}\nconfiguration ${plugin.config_hash}\nchain ${plugin.chain}` },
    el('span', {}, line(String(plugin.name), 40), ' ', el('span', { class: 'muted', text: line(String(plugin.version ?? ''), 20) })),
    el('span', { class: 'mono muted', text: String(plugin.sha256 ?? '').slice(0, 10) })))));
}

function files(part, id, task) {
  const list = task?.files ?? [];
  if (list.length === 0) return null;
  return part('Files', list.length,
    el('ul', { class: 'plain' }, list.map(({ name, size, modified }) => {
      const path = taskPath(id, `files/${encodeURIComponent(name)}`);
      const link = el('a', { href: withQuery(path), download: name, class: 'mono', title: `Download; changed ${stamp(time(modified))}`, text: line(name, 60) });
      link.addEventListener('click', (event) => {
        event.preventDefault();
        download(path, {}, name).catch(() => {});
      });
      return el('li', { class: 'pair-line' }, link, el('span', { class: 'number muted', text: bytes(size) }));
    })),
    el('div', { class: 'button-row' },
      button({ class: 'small-button', on: { click: () => download(taskPath(id, 'archive'), { format: 'tar.gz' }, `${id}.tar.gz`).catch(() => {}) } }, icon('download'), 'tar.gz'),
      button({ class: 'small-button', on: { click: () => download(taskPath(id, 'archive'), { format: 'zip' }, `${id}.zip`).catch(() => {}) } }, icon('download'), 'zip'),
      button({ class: 'small-button', on: { click: () => copy(curl(taskPath(id, 'logs'), { format: 'ndjson' }), 'Command') } }, icon('copy'), 'curl')));
}

/** What the loaded records tell of the whole: kept up to date record by record. */
export class Live {
  rules = new Map();
  tools = new Map();
  first = NaN;
  last = NaN;
  turns = 0;
  calls = 0;
  errors = 0;
  tokensIn = NaN;
  tokensOut = NaN;
  ended = null;
  #messages = new Set();
  #seen = new WeakSet();

  get redactions() {
    return [...this.rules.values()].reduce((sum, count) => sum + count, 0);
  }

  /** Takes in items that are new or changed. */
  take(items) {
    for (const item of items) for (const record of item.records) this.#record(record, item);
  }

  #record(record, item) {
    if (this.#seen.has(record)) return;
    this.#seen.add(record);
    if (Number.isFinite(record.time)) {
      if (!(record.time >= this.first)) this.first = record.time;
      if (!(record.time <= this.last)) this.last = record.time;
    }
    if (record.level === 'error') this.errors += 1;
    count(record.record, this.rules);
    if (record.tool && (record.type === 'tool_call' || record.type === 'tool_result')) {
      const tool = this.tools.get(record.tool) ?? { calls: 0, errors: 0, seconds: 0 };
      if (record.type === 'tool_call') {
        tool.calls += 1;
        this.calls += 1;
      } else {
        if (record.level === 'error') tool.errors += 1;
        if (item.call && Number.isFinite(record.time - item.call.time)) tool.seconds += Math.max(0, (record.time - item.call.time) / 1000);
      }
      this.tools.set(record.tool, tool);
    }
    // An agent repeats a message's usage on each of its pieces: it counts once.
    if (record.message && !this.#messages.has(record.message)) {
      this.#messages.add(record.message);
      if (!record.parent) this.turns += 1;
      const usage = record.record.usage ?? {};
      const add = (sum, ...values) => values.reduce((all, value) => (Number.isFinite(value) ? (Number.isFinite(all) ? all : 0) + value : all), sum);
      this.tokensIn = add(this.tokensIn, usage.input_tokens);
      this.tokensOut = add(this.tokensOut, usage.output_tokens);
    }
  }
}

function count(value, rules) {
  if (typeof value === 'string') {
    if (!value.includes('[REDACTED')) return;
    for (const match of value.matchAll(/\[REDACTED(?::([\w.:-]{1,64}))?\]/g)) {
      const rule = match[1] ?? 'redacted';
      rules.set(rule, (rules.get(rule) ?? 0) + 1);
    }
  } else if (value && typeof value === 'object') {
    for (const inner of Object.values(value)) count(inner, rules);
  }
}
