// What stands above a conversation: the task's name, how it stands, and its figures.

import { button, copy, el, fill } from './dom.js';
import { ago, duration, many, money, number, short, stamp, time } from './format.js';
import { chip, statusChip } from './status.js';
import { line, nodes } from './text.js';

/** The head of a task. */
export class TaskHead {
  element;
  #elapsed = null;
  #timer = 0;

  constructor() {
    this.element = el('header', { class: 'task-head' });
  }

  stop() {
    clearInterval(this.#timer);
  }

  /** `task`: what `GET /tasks/{id}` answers; `live`: what the loaded records tell while it runs. */
  set(id, task, live) {
    const row = task?.task ?? {};
    const title = titleOf(id, task);
    const figures = figuresOf(task, live);
    this.#elapsed = el('dd', {});
    const facts = [
      ['Elapsed', this.#elapsed, figures.started ? `from ${stamp(figures.started)}` : ''],
      ['Turns', number(figures.turns)],
      ['Tokens', figures.tokens, figures.tokensTitle],
      ['Cost', money(figures.cost)],
      ['Tool calls', number(figures.calls)],
      ['Errors', number(figures.errors), '', figures.errors > 0 ? 'bad' : ''],
      ['Redactions', number(figures.redactions)],
    ].filter(([, value]) => value !== '' && value !== null);
    fill(this.element,
      el('div', { class: 'task-title' }, el('h1', { dir: 'auto', title: line(title, 600) }, nodes(line(title, 220)))),
      el('div', { class: 'chips' },
        statusChip(row.status ?? (live.ended ?? 'running')),
        row.source ? chip(row.source, 'Source') : null,
        row.agent ? chip(row.agent, 'Agent') : null,
        (figures.models.length > 0 ? figures.models : []).map((model) => chip(model, 'Model')),
        figures.created ? el('time', { class: 'muted', datetime: new Date(figures.created).toISOString(), title: stamp(figures.created), text: ago(figures.created) }) : null,
        button({ class: 'id-button', title: 'Copy the id', 'aria-label': `Copy the id ${id}`, on: { click: () => copy(id, 'Id') } }, line(id, 80))),
      el('dl', { class: 'facts' }, facts.map(([name, value, hint, mood]) => el('div', { class: `fact${mood ? ` fact-${mood}` : ''}`, title: hint || null }, el('dt', { text: name }), value instanceof Node ? value : el('dd', { text: value })))));
    this.#tick(figures);
    clearInterval(this.#timer);
    if (!figures.completed) this.#timer = setInterval(() => this.#tick(figures), 1000);
    return title;
  }

  #tick({ started, completed, seconds }) {
    const elapsed = Number.isFinite(seconds) ? seconds : Number.isFinite(started) ? ((completed || Date.now()) - started) / 1000 : NaN;
    this.#elapsed.textContent = Number.isFinite(elapsed) ? duration(elapsed) : '–';
  }
}

/** What a task is called: its title, else the first line of its prompt, else its id. */
export function titleOf(id, task) {
  const prompt = task?.input?.message ?? task?.metadata?.input_message;
  const told = task?.task?.title || (typeof prompt === 'string' ? prompt.trim().split('\n', 1)[0] : '');
  return told || id;
}

function figuresOf(task, live) {
  const row = task?.task ?? {};
  const usage = task?.metadata?.annotations?.usage ?? {};
  const metrics = task?.final_result?.metrics ?? {};
  const first = (...values) => values.find((value) => typeof value === 'number' && Number.isFinite(value)) ?? NaN;
  const tokensIn = first(row.input_tokens, metrics.input_tokens, usage.input_tokens, live.tokensIn);
  const tokensOut = first(row.output_tokens, metrics.output_tokens, usage.output_tokens, live.tokensOut);
  const cached = first(metrics.cache_read_input_tokens, usage.cache_read_input_tokens);
  const written = first(metrics.cache_creation_input_tokens, usage.cache_creation_input_tokens);
  const known = Number.isFinite(tokensIn) || Number.isFinite(tokensOut);
  const completed = time(row.completed_at);
  const models = Array.isArray(usage.models) ? usage.models.filter((model) => typeof model === 'string') : [];
  if (row.model && !models.includes(row.model)) models.unshift(row.model);
  return {
    created: time(row.created_at) || NaN,
    started: first(time(row.started_at), time(row.created_at), live.first),
    completed: Number.isFinite(completed) ? completed : live.ended ? live.last : NaN,
    seconds: first(row.duration_seconds, metrics.duration_seconds),
    turns: first(row.turns, task?.final_result?.num_turns, usage.num_turns, live.turns || NaN),
    cost: first(row.cost_usd, metrics.cost_usd, usage.cost_usd),
    calls: first(row.tool_calls, usage.tool_calls, live.calls),
    errors: Math.max(first(row.errors, 0), live.errors),
    redactions: Math.max(first(row.redactions, 0), live.redactions),
    tokens: known ? `${short(tokensIn)} in · ${short(tokensOut)} out` : '',
    tokensTitle: [known && `${many(tokensIn, 'token')} in, ${number(tokensOut)} out`, Number.isFinite(cached) && `${number(cached)} read from the cache`, Number.isFinite(written) && `${number(written)} written to the cache`].filter(Boolean).join('\n'),
    models: models.slice(0, 3),
  };
}
