// What of the page needs no browser: reading streams, pairing, colours, numbers. Run by `node --test`.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { overwritten, runs } from '../../src/page/ansi.js';
import { Conversation, failed, took } from '../../src/page/conversation.js';
import { parser } from '../../src/page/feed.js';
import * as format from '../../src/page/format.js';
import { groupOf, read, summary, typesOf } from '../../src/page/record.js';
import { position } from '../../src/page/task-find.js';

let seed = 7;
const chance = () => ((seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648), seed / 2_147_483_648);

test('a stream cut at any character reads as the whole', () => {
  const text = 'retry: 1000\n\n: comment\n\nevent: record\nid: a:1:5-1\ndata: {"x":\ndata: 1}\n\nevent: ping\r\ndata: {}\r\n\r\nevent: end\ndata: {"status":"failed"}\n\n';
  const whole = parser()(text);
  assert.deepEqual(whole, [
    { name: 'record', id: 'a:1:5-1', data: '{"x":\n1}' },
    { name: 'ping', id: '', data: '{}' },
    { name: 'end', id: '', data: '{"status":"failed"}' },
  ]);
  for (let cut = 0; cut <= text.length; cut += 1) {
    const parse = parser();
    assert.deepEqual([...parse(text.slice(0, cut)), ...parse(text.slice(cut))], whole, `cut at ${cut}`);
  }
  const parse = parser();
  assert.deepEqual([...text].flatMap((sign) => parse(sign)), whole);
});

/** Records as a session leaves them, some calls side by side, some without ids, some results without calls. */
function session(count) {
  const wires = [];
  let offset = 0;
  let flow = 0;
  const open = [];
  const add = (record) => {
    offset += 100;
    wires.push({ cursor: `03-agent-output.jsonl:${offset}:${offset}-0`, file: '03-agent-output.jsonl', bytes: 100, record: { timestamp: new Date(offset * 1000).toISOString(), ...record } });
  };
  for (let n = 0; wires.length < count; n += 1) {
    const kind = chance();
    if (kind < 0.35) {
      open.push(`t${n}`);
      add({ type: 'tool_call', name: 'Bash', input: { command: `run ${n}` }, _tool_use_id: `t${n}` });
    } else if (kind < 0.65 && open.length > 0) {
      add({ type: 'tool_result', name: 'Bash', content: 'x', is_error: chance() < 0.2, _tool_use_id: open.splice(Math.floor(chance() * open.length), 1)[0] });
    } else if (kind < 0.8) {
      add({ type: 'output', content: ` piece ${n}`, message_id: `m${Math.floor(n / 4)}` });
    } else if (kind < 0.9) {
      add({ type: 'thinking', content: 'x' });
    } else if (kind < 0.95) {
      add({ type: 'tool_result', name: 'Read', content: 'of a call that nobody saw', _tool_use_id: `lost${n}` });
    } else {
      flow += 9;
      wires.push({ cursor: `02-webhook-flow.jsonl:${flow}`, file: '02-webhook-flow.jsonl', bytes: 9, record: { timestamp: 'x', stage: 'received', data: {} } });
    }
  }
  return wires;
}

const shape = ({ items }) => items.map(({ kind, call, result, records }) => [kind, call?.key ?? null, result?.key ?? null, records.map(({ key }) => key).sort()]);

test('a conversation is the same whichever end it grew at', () => {
  for (let round = 0; round < 60; round += 1) {
    const wires = session(200);
    const whole = new Conversation();
    whole.append(wires);
    const grown = new Conversation();
    let [from, to] = [Math.floor(chance() * wires.length), 0];
    to = from;
    while (from > 0 || to < wires.length) {
      const step = 1 + Math.floor(chance() * 40);
      if (chance() < 0.5) {
        grown.append(wires.slice(to, to + step));
        to = Math.min(wires.length, to + step);
      } else {
        grown.prepend(wires.slice(Math.max(0, from - step), from));
        from = Math.max(0, from - step);
      }
    }
    assert.equal(grown.count, wires.length);
    assert.equal(grown.byKey.size, wires.length);
    const paired = (conversation) => conversation.items.filter(({ call, result }) => call && result).map(({ call, result }) => [call.key, result.key]).sort();
    assert.deepEqual(paired(grown), paired(whole));
    const keys = (conversation) => shape(conversation).flatMap(([, , , keys]) => keys).sort();
    assert.deepEqual(keys(grown), keys(whole));
    for (const [key, item] of grown.byKey) assert.ok(grown.items.includes(item) && item.records.some((record) => record.key === key), key);
  }
});

test('a record that comes twice is there once', () => {
  const wires = session(50);
  const conversation = new Conversation();
  conversation.append(wires);
  conversation.append(wires.slice(20));
  conversation.prepend(wires.slice(0, 30));
  assert.equal(conversation.count, 50);
});

test('a call knows its result, how long it took, and whether it failed', () => {
  const conversation = new Conversation();
  const wire = (offset, record) => ({ cursor: `a.jsonl:${offset}`, file: 'a.jsonl', bytes: 1, record });
  conversation.append([
    wire(1, { type: 'tool_call', name: 'Bash', timestamp: '2026-01-01T00:00:00Z', input: { command: 'x' } }),
    wire(2, { type: 'tool_call', name: 'Bash', timestamp: '2026-01-01T00:00:01Z', input: { command: 'y' } }),
    wire(3, { type: 'tool_result', name: 'Bash', timestamp: '2026-01-01T00:00:03Z', content: 'x', is_error: true }),
  ]);
  assert.equal(conversation.items.length, 2);
  assert.equal(took(conversation.items[0]), 3);
  assert.equal(failed(conversation.items[0]), true);
  assert.equal(conversation.items[1].result, null);
});

test('whatever a terminal would obey is gone, the words stay', () => {
  const text = (input) => runs(input).map(({ text }) => text).join('');
  assert.equal(text('\u001b]0;title\u0007a\u001b]8;;http://x\u001b\\b\u001b]8;;\u001b\\c\u001b[2J\u001b[1;1Hd\u001b(Be\u009b31mf\u001bPq#\u001b\\g'), 'abcdefg');
  assert.deepEqual(runs('\u001b[1;31mx\u001b[0my'), [{ text: 'x', style: { bold: true, fg: 1 } }, { text: 'y', style: {} }]);
  assert.equal(runs('\u001b[38;5;9mx')[0].style.fg, 9);
  assert.equal(runs('\u001b[48;2;1;2;3mx')[0].style.bg, '#010203');
  assert.equal(text('\u001b]0;never ended\nnext'), '\nnext');
  for (let round = 0; round < 3000; round += 1) {
    const signs = '\u001b\u009b\u009d\u0090[]();:?0123456789mHJKPX_^\\\u0007 ab\n';
    const input = Array.from({ length: 40 }, () => signs[Math.floor(chance() * signs.length)]).join('');
    assert.doesNotMatch(text(input), /[\u001b\u009b\u009d\u0090]/);
    assert.equal(text(input).split('\n').length, input.split('\n').length);
  }
  assert.equal(overwritten('10%\r55%\r100%\nnext\r\nlast'), '100%\nnext\nlast');
});

test('what is not of the expected form is read as something', () => {
  for (const record of [null, 5, 'x', [], {}, { type: 7, content: { a: 1 } }, { type: 'tool_call', name: {}, input: null }, { stage: [], data: 'x' }]) {
    const of = read({ cursor: 'a.jsonl:5', file: 'a.jsonl', bytes: 5, record });
    assert.equal(of.key, 'a.jsonl:5');
    assert.equal(typeof of.type, 'string');
    assert.equal(typeof summary(of), 'string');
  }
});

test('kinds are told by type, stages by their names', () => {
  const groups = { output: 'text', thinking: 'thinking', tool_result: 'tool', user_response: 'user', received: 'webhook', response_immediate: 'webhook', response_posted: 'other', 'knowledge:query': 'knowledge', gap: 'gap', raw_output: 'other' };
  for (const [type, group] of Object.entries(groups)) assert.equal(groupOf(type), group, type);
  assert.deepEqual(typesOf(['other'], ['raw_output', 'output']), ['raw_output']);
  assert.deepEqual(typesOf(['other'], []), ['none']);
});

test('cursors are ordered by how far they stand', () => {
  assert.ok(position('a.jsonl:100:5-1,b.jsonl:20') > position('b.jsonl:20,a.jsonl:99'));
  assert.equal(position('0'), 0);
});

test('numbers and times are short', () => {
  assert.deepEqual([0, 999, 1200, 13_795, 999_400, 2_500_000].map(format.short), ['0', '999', '1.2k', '13.8k', '999k', '2.5M']);
  assert.deepEqual([0, 512, 1234, 12_300_000].map(format.bytes), ['0 B', '512 B', '1.2 KB', '12.3 MB']);
  assert.deepEqual([0.02, 0.34, 4.21, 59.2, 185, 8040, 300_000].map(format.duration), ['20 ms', '340 ms', '4.2 s', '59 s', '3m 05s', '2h 14m', '3d 11h']);
  assert.deepEqual([0, 0.0413, 0.5, 12.3, 1234].map(format.money), ['$0', '$0.041', '$0.50', '$12.30', '$1,234']);
  assert.equal(format.since(65_230, 0), '+1:05.2');
  assert.equal(format.since(-500, 0), '−0:00.5');
  assert.equal(format.ago(NaN), '');
});
