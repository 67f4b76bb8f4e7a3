// What a record of the wire is: whose, of which kind, at what time, saying what.

import { time } from './format.js';
import { line } from './text.js';

const WEBHOOK = /^(?:received|validated|payload|matched|skipped|task_created|response_(?!posted)\w+|notification_\w+)$/;

/** The groups that the page filters by, in the order of its chips. */
export const GROUPS = [
  ['user', 'User'],
  ['text', 'Text'],
  ['thinking', 'Thinking'],
  ['tool', 'Tools'],
  ['webhook', 'Webhook'],
  ['knowledge', 'Knowledge'],
  ['gap', 'Gaps'],
  ['other', 'Other'],
];

/** The group of a `type`, or of a webhook record's `stage`. */
export function groupOf(type) {
  switch (type) {
    case 'output': case 'message': case 'text': case 'assistant': return 'text';
    case 'thinking': return 'thinking';
    case 'tool_call': case 'tool_result': return 'tool';
    case 'user_response': case 'user_input': case 'user': return 'user';
    case 'gap': return 'gap';
    default:
      if (type.startsWith('knowledge:')) return 'knowledge';
      return WEBHOOK.test(type) ? 'webhook' : 'other';
  }
}

const text = (value) => (typeof value === 'string' ? value : '');

/** Reads a record of the wire. What has another form than expected is shown as it is. */
export function read(wire) {
  const record = wire.record !== null && typeof wire.record === 'object' && !Array.isArray(wire.record) ? wire.record : { content: wire.record };
  const cursor = String(wire.cursor);
  const [file, offset] = cursor.split(',', 1)[0].split(':');
  const type = text(record.type) || text(record.stage) || 'record';
  const isFlow = wire.file === '02-webhook-flow.jsonl';
  return {
    key: `${file}:${offset}`,
    cursor,
    file: wire.file ?? file,
    end: Number(offset),
    bytes: Number(wire.bytes) || 0,
    clipped: wire.clipped === true,
    record,
    type,
    group: isFlow && type !== 'gap' ? 'webhook' : groupOf(type),
    time: time(record.timestamp),
    level: level(record, type),
    tool: type === 'tool_call' || type === 'tool_result' ? text(record.name) || text(record.tool_name) || text(record.tool) : '',
    call: text(record._tool_use_id) || text(record.tool_use_id) || text(record.tool_call_id),
    parent: text(record.parent_tool_use_id),
    message: text(record.message_id),
  };
}

function level(record, type) {
  const said = text(record.level).toLowerCase();
  if (/^(?:debug|trace)$/.test(said)) return 'debug';
  if (/^(?:info|notice)$/.test(said)) return 'info';
  if (/^(?:warn|warning)$/.test(said)) return 'warn';
  if (/^(?:error|fatal|critical)$/.test(said)) return 'error';
  if (record.is_error === true || type === 'error') return 'error';
  return type === 'gap' ? 'warn' : 'info';
}

/** The text that a record is about. */
export function content(of) {
  const { record } = of;
  if (typeof record.content === 'string' && record.content !== '') return record.content;
  if (typeof record.raw_output === 'string') return record.raw_output;
  if (Array.isArray(record.content)) return record.content.map(part).join('\n');
  const value = record.content ?? record.data;
  if (value === undefined || value === null || value === '') return '';
  return typeof value === 'string' ? value : JSON.stringify(value, null, 2);
}

/** A part of a message that is a list of blocks. */
function part(block) {
  if (typeof block === 'string') return block;
  if (typeof block?.text === 'string') return block.text;
  const source = block?.source;
  if (source?.type === 'base64' && typeof source.data === 'string') return `data:${text(source.media_type) || 'application/octet-stream'};base64,${source.data}`;
  return JSON.stringify(block, null, 2);
}

/** The arguments of a tool call. */
export function input(of) {
  const { record } = of;
  const given = record.input ?? record.params ?? record.tool_input ?? record.arguments;
  if (typeof given !== 'string') return given ?? {};
  try {
    return JSON.parse(given);
  } catch {
    return given;
  }
}

// What of a tool's arguments tells best what it does, the best first.
const TELLING = ['command', 'cmd', 'file_path', 'notebook_path', 'pattern', 'path', 'query', 'url', 'description', 'prompt', 'skill', 'name', 'id'];

/** The arguments of a call in one line. */
export function summary(of) {
  const given = input(of);
  if (given === null || typeof given !== 'object') return line(String(given ?? ''));
  if (Array.isArray(given.todos)) return `${given.todos.length} to-dos`;
  const names = TELLING.filter((name) => typeof given[name] === 'string' && given[name] !== '');
  if (names.length > 0) {
    const place = names[0] === 'pattern' && typeof given.path === 'string' && given.path !== '' ? ` in ${given.path}` : '';
    return line(given[names[0]] + place);
  }
  const members = Object.entries(given).filter(([, value]) => value !== null && value !== '');
  return line(members.slice(0, 4).map(([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`).join('  '));
}

/** Names and values of a record beyond what every record has, in one line. */
export function members(record, without = []) {
  const own = new Set(['id', 'timestamp', 'type', 'stage', 'usage', 'message_id', 'parent_tool_use_id', ...without]);
  const plain = (value) => (typeof value === 'string' ? value : JSON.stringify(value));
  const flat = Object.entries(record).flatMap(([name, value]) => (name === 'data' && value && typeof value === 'object' ? Object.entries(value) : [[name, value]]));
  const shown = flat.filter(([name, value]) => !own.has(name) && value !== null && value !== '' && value !== undefined);
  return shown.map(([name, value]) => [name, line(plain(value), 160)]);
}

const KNOWN = {
  text: ['output', 'message', 'text', 'assistant'],
  thinking: ['thinking'],
  tool: ['tool_call', 'tool_result'],
  user: ['user_response', 'user_input', 'user'],
  gap: ['gap'],
  webhook: ['received', 'validated', 'payload', 'matched', 'skipped', 'task_created', 'response_immediate', 'notification_ops'],
};

/** The types that groups stand for: those that are known, and those that a task has. */
export function typesOf(groups, seen) {
  const types = groups.flatMap((group) => [...(KNOWN[group] ?? []), ...seen.filter((type) => groupOf(type) === group)]);
  // A group that this task has nothing of must not become a filter that wants everything.
  return types.length > 0 ? [...new Set(types)] : ['none'];
}
