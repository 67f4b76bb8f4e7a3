// A task in the list.

import { el, icon } from './dom.js';
import { ago, duration, money, number, short, stamp, time } from './format.js';
import { url } from './route.js';
import { chip, dot, mood } from './status.js';
import { line, nodes } from './text.js';

/** A row; `tick()` of it brings its times up to date. */
export function taskRow(task, isNew = false) {
  const { task_id: id, status, source, agent, model } = task;
  const [created, started, completed] = [time(task.created_at), time(task.started_at), time(task.completed_at)];
  const begun = Number.isFinite(started) ? started : created;
  const tokens = (task.input_tokens ?? 0) + (task.output_tokens ?? 0);
  const when = el('time', { class: 'cell when-cell', title: stamp(begun), datetime: Number.isFinite(begun) ? new Date(begun).toISOString() : null });
  const took = el('span', { class: 'cell number took-cell' });
  const row = el('li', { class: `task-row task-${mood(status)}${isNew ? ' is-new' : ''}`, data: { id } },
    el('span', { class: 'cell dot-cell' }, dot(status)),
    el('span', { class: 'cell title-cell' },
      el('a', { class: 'task-link', href: url({ task: id }), dir: 'auto' }, nodes(line(task.title || id, 200))),
      el('span', { class: 'sub' }, el('span', { class: 'mono', text: line(id, 60) }), source ? chip(source, 'Source') : null, model ? el('span', { class: 'model', text: line(model, 40) }) : null)),
    el('span', { class: 'cell agent-cell' }, agent ? chip(agent, 'Agent') : null),
    when,
    took,
    el('span', { class: 'cell number tokens-cell', title: tokens ? `${number(task.input_tokens ?? 0)} in, ${number(task.output_tokens ?? 0)} out` : null, text: tokens ? short(tokens) : '' }),
    el('span', { class: 'cell number cost-cell', text: money(task.cost_usd) }),
    el('span', { class: 'cell number redacted-cell', text: task.redactions > 0 ? short(task.redactions) : '' }),
    el('span', { class: 'cell number errors-cell' },
      task.errors > 0 ? el('span', { class: 'errors', title: `${number(task.errors)} failed` }, icon('cross'), number(task.errors), el('span', { class: 'off-screen', text: ' errors' })) : null));
  const isRunning = mood(status) === 'run' && !Number.isFinite(completed);
  row.tick = () => {
    when.textContent = ago(begun);
    const seconds = Number.isFinite(task.duration_seconds) ? task.duration_seconds : Number.isFinite(completed) && Number.isFinite(begun) ? (completed - begun) / 1000 : isRunning && Number.isFinite(begun) ? (Date.now() - begun) / 1000 : NaN;
    took.textContent = duration(seconds);
  };
  row.tick();
  return row;
}
