// Chips and dots: how a task stands, and the small facts about it.

import { el } from './dom.js';
import { line } from './text.js';

const MOODS = { running: 'run', started: 'run', created: 'wait', queued: 'wait', pending: 'wait', completed: 'ok', failed: 'bad', cancelled: 'wait' };

/** `run`, `wait`, `ok` or `bad`. */
export function mood(status) {
  return MOODS[status] ?? 'wait';
}

/** A dot that a screen reader reads as the status. */
export function dot(status) {
  return el('span', { class: `dot dot-${mood(status)}`, role: 'img', 'aria-label': status ?? 'unknown', title: status ?? 'unknown' });
}

/** The status in words. */
export function statusChip(status) {
  return el('span', { class: `chip chip-${mood(status)}` }, el('span', { class: `dot dot-${mood(status)}`, 'aria-hidden': 'true' }), line(status ?? 'unknown', 30));
}

/** A small fact. */
export function chip(text, title) {
  return el('span', { class: 'chip', title: `${title}: ${line(String(text), 200)}`, text: line(String(text), 40) });
}
