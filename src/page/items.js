// The rows of a conversation, one function for each kind.

import { CLIP, difference, fields, jsonBlock, textBlock } from './bodies.js';
import { begins, failed, took } from './conversation.js';
import { button, el, icon } from './dom.js';
import { clock, duration, many, since, stamp } from './format.js';
import { content, input, members, summary } from './record.js';
import { fragment } from './route.js';
import { line, nodes } from './text.js';
import { webhookStrip } from './webhook.js';

/** A silence that is worth a word, in seconds. */
const SILENCE = 30;

const MARKS = { user: 'user', prompt: 'user', text: 'spark', thinking: 'thought', tool: 'tool', webhook: 'hook', knowledge: 'book', gap: 'gap', result: 'flag', other: 'dot' };

/** Pixels that a row will take, about: better guesses make the scrollbar steadier. */
export function estimate(item, view) {
  if (item.kind === 'edge') return 56;
  if (item.kind === 'webhook') return 84;
  const isOpen = view.isOpen(item);
  if (['thinking', 'tool', 'knowledge', 'other', 'gap'].includes(item.kind) && !isOpen) return 34;
  const text = item.records.length > 0 ? item.records.map(content).join('') : item.text ?? '';
  const lines = text.split('\n', 60).reduce((sum, line) => sum + 1 + Math.floor(Math.min(line.length, 4000) / 90), 0);
  return 30 + Math.min(lines, 30) * 21;
}

/** The row of an item. */
export function row(item, before, view) {
  const make = ROWS[item.kind] ?? ROWS.other;
  if (item.kind === 'edge') return make(item, view);
  const isFailed = failed(item);
  const at = begins(item);
  const pause = before ? (at - ends(before)) / 1000 : NaN;
  const article = el('article', {
    class: `row kind-${item.kind}${isFailed ? ' failed' : ''}${item.records[0]?.parent ? ' nested' : ''}${view.isCurrent(item) ? ' current' : ''}${view.isMarked(item) ? ' marked' : ''}`,
    tabindex: -1,
    'aria-label': label(item, at, view),
    data: { key: item.key },
  });
  if (pause >= SILENCE) article.append(el('div', { class: 'pause' }, el('span', { text: `${duration(pause)} later` })));
  const inner = el('div', { class: 'inner' },
    when(item, at, view),
    el('span', { class: 'mark', 'aria-hidden': 'true' }, icon(isFailed && item.kind === 'tool' ? 'cross' : MARKS[item.kind] ?? 'dot')),
    el('div', { class: 'body' }, view.showsJson(item) ? item.records.map((record) => jsonBlock(view.whole(record) ?? record.record)) : make(item, view)));
  article.append(inner);
  if (item.records.length > 0) {
    // Most rows only pass by: what can be done with one is made when somebody turns to it.
    const turn = () => { if (!inner.lastElementChild.classList.contains('actions')) inner.append(actions(item, view)); };
    article.addEventListener('pointerenter', turn);
    article.addEventListener('focusin', turn);
    if (view.isResults || view.isCurrent(item)) turn();
  }
  return article;
}

function ends(item) {
  const time = item.records.reduce((latest, record) => (record.time > latest ? record.time : latest), -Infinity);
  return Number.isFinite(time) ? time : begins(item);
}

function label(item, at, view) {
  const what = { user: 'User', prompt: 'Prompt', text: 'Agent', thinking: 'Thinking', webhook: 'Webhook', knowledge: 'Knowledge', gap: 'Gap', result: 'Result' }[item.kind];
  const name = item.kind === 'tool' ? `Tool ${(item.call ?? item.result).tool}` : what ?? item.records[0]?.type ?? '';
  return `${name}${failed(item) ? ', failed' : ''}, ${since(at, view.start) || 'no time'}`;
}

function when(item, at, view) {
  const text = view.clock === 'absolute' ? clock(at) : since(at, view.start) || '—';
  if (item.records.length === 0) return el('span', { class: 'when', title: stamp(at), text });
  const link = el('a', { class: 'when', href: fragment(item.records[0].cursor), title: `${stamp(at)}\nLink to this record; with Shift: to the range from the marked one`, text });
  link.addEventListener('click', (event) => {
    if (event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    view.mark(item, event.shiftKey);
  });
  return link;
}

function actions(item, view) {
  const action = (name, label, act, focus) => button({ class: 'icon-button', title: label, 'aria-label': label, data: { focus }, on: { click: act } }, icon(name));
  return el('div', { class: 'actions' },
    view.isResults ? button({ class: 'text-button', data: { focus: 'context' }, on: { click: () => view.inContext(item) } }, 'View in context') : null,
    action('braces', view.showsJson(item) ? 'Show as text' : 'Show as JSON', () => view.toggleJson(item), 'json'),
    action('copy', 'Copy record as JSON', () => view.copyRecord(item), 'copy'),
    action('link', 'Copy link', () => view.copyLink(item), 'link'));
}

/** A head that opens and closes what is below it. */
function fold(item, view, head, body) {
  const isOpen = view.isOpen(item);
  const toggle = button({ class: 'fold', 'aria-expanded': String(isOpen), data: { focus: 'fold' }, on: { click: () => view.toggle(item) } }, el('span', { class: 'chevron', 'aria-hidden': 'true' }, icon('fold')), head);
  return isOpen ? [toggle, el('div', { class: 'detail' }, body())] : [toggle];
}

function block(record, text, format, lines, view, part = '') {
  const whole = view.whole(record);
  const cut = !whole && record.clipped && text.length >= CLIP - 1;
  return textBlock(text, {
    lines, format, cut, size: record.bytes,
    whole: () => view.loadWhole(record),
    wide: view.isWide(record, part),
    widen: (wide) => view.widen(record, part, wide),
  });
}

const said = (record, view) => content({ ...record, record: view.whole(record) ?? record.record });

const ROWS = {
  prompt: (item, view) => [
    el('div', { class: 'speaker' }, 'Prompt', item.via ? el('span', { class: 'muted', text: ` via ${item.via}` }) : null),
    textBlock(item.text, { lines: 24, format: 'markdown', wide: view.isWide(item, ''), widen: (wide) => view.widen(item, '', wide) }),
  ],

  user: (item, view) => item.records.map((record) => [
    el('div', { class: 'speaker' }, 'User', record.record.question_type ? el('span', { class: 'chip', text: line(String(record.record.question_type), 40) }) : null),
    block(record, said(record, view), 'markdown', 30, view),
  ]),

  text: (item, view) => {
    // Pieces of one sentence came as they were said: what begins with a space goes on, the rest are paragraphs.
    const texts = item.records.map((record) => said(record, view));
    if (item.records.length > 1 && item.records.every((record) => !record.clipped)) {
      const joined = texts.reduce((all, text) => (all === '' || /\s$/.test(all) || /^[\s,.;:!?)]/.test(text) ? all + text : `${all}\n\n${text}`), '');
      return block(item.records[0], joined, 'markdown', 60, view);
    }
    return item.records.map((record, at) => block(record, texts[at], 'markdown', 60, view));
  },

  thinking: (item, view) => {
    const texts = () => item.records.map((record) => block(record, said(record, view), 'markdown', 200, view));
    const first = content(item.records[0]);
    return fold(item, view, el('span', { class: 'fold-line' }, el('span', { class: 'fold-name', text: 'Thinking' }), view.isOpen(item) ? null : el('span', { class: 'fold-summary', text: line(first) })), texts);
  },

  tool: (item, view) => {
    const { call, result } = item;
    const name = (call ?? result).tool || 'tool';
    const seconds = took(item);
    const isFailed = failed(item);
    const state = isFailed ? el('span', { class: 'state state-failed' }, icon('cross'), exit(result) ?? 'failed')
      : result ? el('span', { class: 'state state-ok' }, icon('check'), el('span', { class: 'off-screen', text: 'succeeded' }))
        : view.isEnded || view.isFiltered ? el('span', { class: 'state', text: view.isFiltered ? '' : 'no result' })
          : el('span', { class: 'state state-running', text: 'running' });
    const head = el('span', { class: 'fold-line' },
      el('span', { class: 'tool-name', text: line(name, 60) }),
      el('span', { class: 'fold-summary mono' }, call ? nodes(summary(call)) : 'result; its call is not loaded'),
      Number.isFinite(seconds) ? el('span', { class: `took${seconds >= 30 ? ' took-long' : ''}`, text: duration(seconds) }) : null,
      state);
    return fold(item, view, head, () => [
      call ? argumentsOf(call, view) : null,
      result ? resultOf(result, view, isFailed) : null,
    ]);
  },

  webhook: (item, view) => webhookStrip(item, view),

  knowledge: (item, view) => generic(item, view, item.records[0].type.replace('knowledge:', 'knowledge ')),

  gap: (item) => {
    const { record } = item.records[0];
    return el('div', { class: 'gap-line' },
      el('strong', { text: 'Gap' }),
      el('span', {}, nodes(line(` A ${record.kind ?? 'record'} is missing here: ${String(record.reason ?? 'no reason given').replaceAll('_', ' ')}.`))),
      el('span', { class: 'muted', text: ' The entry as it came is in the dead letters, or was dropped by a plugin.' }));
  },

  result: (item, view) => [
    el('div', { class: 'speaker' }, item.failed ? 'Failed' : 'Result', item.took ? el('span', { class: 'muted', text: ` after ${item.took}` }) : null),
    textBlock(item.text, { lines: 40, format: 'markdown', wide: view.isWide(item, ''), widen: (wide) => view.widen(item, '', wide) }),
  ],

  other: (item, view) => (item.records[0].type === 'raw_output' ? raw(item, view) : generic(item, view, item.records[0].type.replaceAll('_', ' '))),

  edge: (item, view) => el('div', { class: `edge edge-${item.edge}` }, item.make(view)),
};

function exit(result) {
  const code = result?.record.exit_code ?? /^(?:Error: )?[Ee]xit code (\d+)/.exec(content(result ?? { record: {} }))?.[1];
  return code === undefined ? null : `exit ${code}`;
}

function argumentsOf(call, view) {
  const given = input({ ...call, record: view.whole(call) ?? call.record });
  const more = call.clipped && !view.whole(call) ? button({ class: 'text-button', data: { focus: 'whole' }, on: { click: () => view.loadWhole(call) }, text: 'Show whole arguments' }) : null;
  if (given === null || typeof given !== 'object') return given === '' ? null : el('div', { class: 'arguments' }, fields([['input', String(given)]]), more);
  const rest = { ...given };
  const parts = [];
  const command = given.command ?? given.cmd;
  if (typeof command === 'string') {
    delete rest.command;
    delete rest.cmd;
    parts.push(el('pre', { class: 'command', tabindex: 0, 'aria-label': 'Command' }, el('span', { class: 'sign', 'aria-hidden': 'true', text: '$ ' }), nodes(command, { ansi: true })));
  }
  if (typeof given.new_string === 'string' || typeof given.old_string === 'string') {
    delete rest.old_string;
    delete rest.new_string;
    parts.push(Object.keys(rest).length > 0 ? fields(Object.entries(rest)) : null, difference(String(given.old_string ?? ''), String(given.new_string ?? '')));
  } else if (Object.keys(rest).length > 0) {
    parts.push(fields(Object.entries(rest)));
  }
  return el('div', { class: 'arguments' }, parts, more);
}

function resultOf(result, view, isFailed) {
  let text = said(result, view);
  if (text === '') return el('div', { class: 'muted', text: 'No output.' });
  if (/^\s*[{[]/.test(text) && text.length < 50_000 && !text.includes('\n')) {
    try {
      text = JSON.stringify(JSON.parse(text), null, 2);
    } catch {
      // It only looked like JSON.
    }
  }
  return el('div', { class: `result${isFailed ? ' result-failed' : ''}` }, block(result, text, 'plain', isFailed ? 40 : 24, view, 'result'));
}

function generic(item, view, name) {
  const [first] = item.records;
  const shown = members(first.record);
  const head = el('span', { class: 'fold-line' },
    el('span', { class: 'fold-name', text: line(name, 60) }),
    el('span', { class: 'fold-summary' }, shown.slice(0, 6).map(([key, value]) => el('span', { class: 'pair' }, el('span', { class: 'muted', text: `${line(key, 40)} ` }), nodes(value)))));
  return fold(item, view, head, () => {
    const whole = view.whole(first) ?? first.record;
    const { id, timestamp, type, ...rest } = whole;
    const more = first.clipped && !view.whole(first) ? button({ class: 'text-button', on: { click: () => view.loadWhole(first) }, text: 'Show all' }) : null;
    return [fields(Object.entries(rest).flatMap(([key, value]) => (key === 'data' && value && typeof value === 'object' ? Object.entries(value) : [[key, value]]))), more];
  });
}

function raw(item, view) {
  const [record] = item.records;
  const text = said(record, view);
  const lines = text.split('\n').length;
  const head = el('span', { class: 'fold-line' }, el('span', { class: 'fold-name', text: 'Raw output' }), el('span', { class: 'fold-summary mono', text: line(text) }), el('span', { class: 'took', text: many(lines, 'line') }));
  return fold(item, view, head, () => el('div', { class: 'result' }, block(record, text, 'plain', 40, view)));
}
