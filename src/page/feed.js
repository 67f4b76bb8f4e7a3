// Follows a stream of server-sent events by fetch(), which, unlike EventSource, can carry a token. It reconnects with growing
// pauses, goes on where it was, and is closed while nobody sees the page.

import { Problem, request } from './api.js';
import { breathe } from './dom.js';

/** The service says something at least every 15 s: what is silent for longer is dead. */
const SILENCE_MAX = 40_000;
const PAUSES = [400, 1000, 2000, 4000, 8000, 15_000];
/** How long events are worked on before the browser may draw again. */
const SLICE = 10;

/** One followed stream. `events(list)` takes `[{name, id, data}]`, `state(name, detail)` hears of the connection. */
export class Feed {
  #path;
  #params;
  #events;
  #state;
  #after = null;
  #stop = null;
  #failures = 0;
  #running = false;

  constructor({ path, params = {}, events, state = () => {} }) {
    this.#path = path;
    this.#params = params;
    this.#events = events;
    this.#state = state;
  }

  /** Begins, behind a cursor or with the stream's own beginning. */
  start(after = null) {
    this.#after = after;
    if (this.#running) return;
    this.#running = true;
    document.addEventListener('visibilitychange', this.#seen);
    this.#run();
  }

  /** Ends for good. */
  stop() {
    this.#running = false;
    document.removeEventListener('visibilitychange', this.#seen);
    this.#stop?.abort();
  }

  /** Where it goes on. */
  get after() {
    return this.#after;
  }

  #seen = () => {
    if (document.hidden) {
      this.#stop?.abort();
    } else {
      this.#failures = 0;
      this.#wake?.();
    }
  };

  #wake = null;

  /** Waits so long, or until the page is seen again. */
  #pause(wait) {
    return new Promise((done) => {
      const timer = wait === null ? 0 : setTimeout(done, wait);
      this.#wake = () => { clearTimeout(timer); done(); };
    }).finally(() => { this.#wake = null; });
  }

  async #run() {
    while (this.#running) {
      if (document.hidden) {
        this.#state('paused');
        await this.#pause(null);
        continue;
      }
      let detail = '';
      try {
        await this.#follow();
        if (!this.#running) return;
        detail = 'The stream was cut.';
      } catch (error) {
        if (!this.#running) return;
        if (document.hidden) continue;
        if (error instanceof Problem && [400, 401, 403, 404, 410].includes(error.status)) {
          this.#running = false;
          this.#state('failed', error.message);
          return;
        }
        detail = error.message;
      }
      const wait = PAUSES[Math.min(this.#failures, PAUSES.length - 1)] * (0.75 + Math.random() / 2);
      this.#failures += 1;
      this.#state('waiting', detail);
      await this.#pause(wait);
    }
  }

  async #follow() {
    this.#stop = new AbortController();
    const stop = this.#stop;
    this.#state('connecting');
    let timer = setTimeout(() => stop.abort(), SILENCE_MAX);
    try {
      const params = this.#after === null ? this.#params : { ...this.#params, tail: null, after: this.#after };
      const headers = { Accept: 'text/event-stream' };
      const answer = await request(this.#path, { params, headers, signal: stop.signal, cache: 'no-store' });
      this.#state('live');
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      const parse = parser();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        clearTimeout(timer);
        timer = setTimeout(() => stop.abort(), SILENCE_MAX);
        await this.#deliver(parse(value));
        this.#failures = 0;
      }
    } finally {
      clearTimeout(timer);
      stop.abort();
    }
  }

  /** Gives events on, and lets the browser draw when there are many. */
  async #deliver(events) {
    let batch = [];
    let began = performance.now();
    const flush = () => {
      if (batch.length > 0 && this.#running) this.#events(batch);
      batch = [];
    };
    for (const event of events) {
      let data;
      try {
        data = JSON.parse(event.data || 'null');
      } catch {
        continue;
      }
      if (event.id) this.#after = event.id;
      batch.push({ name: event.name, id: event.id, data });
      if (performance.now() - began > SLICE) {
        flush();
        await breathe();
        if (!this.#running) return;
        began = performance.now();
      }
    }
    flush();
  }
}

/** A reader of the event stream format that takes text piece by piece. */
export function parser() {
  let rest = [];
  let name = '';
  let id = '';
  let data = [];
  return (piece) => {
    const events = [];
    let from = 0;
    for (;;) {
      const end = piece.indexOf('\n', from);
      if (end < 0) break;
      rest.push(piece.slice(from, end));
      from = end + 1;
      let line = rest.length === 1 ? rest[0] : rest.join('');
      rest = [];
      if (line.endsWith('\r')) line = line.slice(0, -1);
      if (line === '') {
        if (data.length > 0 || name) events.push({ name: name || 'message', id, data: data.join('\n') });
        [name, id, data] = ['', '', []];
        continue;
      }
      const colon = line.indexOf(':');
      if (colon === 0) continue;
      const field = colon < 0 ? line : line.slice(0, colon);
      let value = colon < 0 ? '' : line.slice(colon + 1);
      if (value.startsWith(' ')) value = value.slice(1);
      if (field === 'event') name = value;
      else if (field === 'id') id = value;
      else if (field === 'data') data.push(value);
    }
    if (from < piece.length) rest.push(piece.slice(from));
    return events;
  };
}
