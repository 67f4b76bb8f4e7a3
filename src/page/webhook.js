// A webhook's way to the task as a strip: received, validated, matched, created, with the time from each to the next.

import { fields } from './bodies.js';
import { button, el, icon } from './dom.js';
import { duration } from './format.js';
import { line } from './text.js';

const WORDS = { task_created: 'task created', response_immediate: 'response', notification_ops: 'notified' };

export function webhookStrip(item, view) {
  const isOpen = view.isOpen(item);
  const source = item.records.map(({ record }) => record.data?.source ?? record.data?.provider).find((source) => typeof source === 'string');
  const event = item.records.map(({ record }) => record.data?.event_type).find((event) => typeof event === 'string');
  const total = (item.records.at(-1).time - item.records[0].time) / 1000;
  const steps = item.records.map((record, at) => {
    const wait = at === 0 ? NaN : (record.time - item.records[at - 1].time) / 1000;
    const stage = record.type;
    const isBad = stage === 'skipped' || record.record.data?.signature_valid === false || record.record.data?.valid === false || record.record.data?.matched === false;
    return el('li', { class: `step${isBad ? ' step-bad' : ''}` },
      Number.isFinite(wait) ? el('span', { class: `step-wait${wait > 5 ? ' step-slow' : ''}`, text: duration(wait) }) : null,
      el('span', { class: 'step-name', title: said(record), text: line(WORDS[stage] ?? stage.replaceAll('_', ' '), 40) }));
  });
  const head = el('div', { class: 'speaker' }, 'Webhook',
    el('span', { class: 'muted', text: ` ${[source, event].filter(Boolean).map((text) => line(text, 60)).join(' · ')}` }),
    Number.isFinite(total) && item.records.length > 1 ? el('span', { class: 'took', text: duration(total) }) : null);
  const toggle = button({ class: 'text-button', 'aria-expanded': String(isOpen), data: { focus: 'fold' }, on: { click: () => view.toggle(item) } }, isOpen ? 'Hide details' : 'Details');
  const details = isOpen && el('div', { class: 'detail' }, item.records.map((record) => el('section', { class: 'stage' },
    el('h4', {}, icon('hook'), line(record.type.replaceAll('_', ' '), 60)),
    fields(Object.entries(view.whole(record)?.data ?? record.record.data ?? {})))));
  return [head, el('div', { class: 'strip' }, el('ol', { class: 'steps' }, steps), toggle), details];
}

function said(record) {
  const data = record.record.data;
  if (!data || typeof data !== 'object') return '';
  return Object.entries(data).slice(0, 6).map(([name, value]) => line(`${name}: ${typeof value === 'string' ? value : JSON.stringify(value)}`, 120)).join('\n');
}
