// What stands at the ends of a conversation: the prompt or a way to earlier records, the result or later ones.

import { button, el } from './dom.js';
import { duration, many, time } from './format.js';

const edge = (kind, make = null) => ({ kind: make ? 'edge' : kind, edge: kind, id: kind, key: kind, records: [], make });
const plain = (value) => (typeof value === 'string' ? value : value === null || value === undefined ? '' : JSON.stringify(value, null, 2));

export class TaskEdges {
  later = edge('later', () => el('span', { class: 'muted', text: 'Loading later records…' }));
  earlier = edge('earlier', () => this.#ways());
  #prompt = edge('prompt');
  #result = edge('result');
  #facts;
  #act;

  /** `act` has `loaded()`, `isWholeEnd()`, `load()`, `start()`. */
  constructor(facts, act) {
    [this.#facts, this.#act] = [facts, act];
  }

  prompt() {
    const { prompt, task, isFiltered } = this.#facts;
    if (isFiltered || prompt === '') return null;
    return Object.assign(this.#prompt, { text: prompt, time: time(task.task?.created_at), via: task.task?.source });
  }

  result() {
    const { task, isFiltered } = this.#facts;
    const final = task?.final_result;
    if (isFiltered || !final) return null;
    const isBad = final.success === false || task.task?.status === 'failed';
    const otherwise = final.gap ? `The entry that told the end is missing: ${plain(final.gap)}.` : isBad ? 'The task failed.' : 'The task is done.';
    const text = [plain(final.error), plain(final.result)].filter(Boolean).join('\n\n') || otherwise;
    const seconds = task.task?.duration_seconds ?? final.metrics?.duration_seconds;
    return Object.assign(this.#result, { text, time: time(final.completed_at), failed: isBad, level: isBad ? 'error' : 'info', took: Number.isFinite(seconds) ? duration(seconds) : '' });
  }

  #ways() {
    const known = (this.#facts.counts?.matched ?? 0) - this.#act.loaded();
    const way = (text, action) => button({
      class: 'text-button',
      on: {
        click: ({ currentTarget }) => {
          currentTarget.disabled = true;
          action();
        },
      },
      text,
    });
    return [
      el('span', { class: 'muted', text: this.#act.isWholeEnd() && known > 0 ? many(known, 'earlier record') : 'Earlier records' }),
      way('Load 1,000', this.#act.load),
      way('Go to the start', this.#act.start),
    ];
  }
}
