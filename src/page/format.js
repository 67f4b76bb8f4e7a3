// Numbers and times as people read them.

const UNITS = ['B', 'KB', 'MB', 'GB', 'TB'];

/** `1.2 MB`. */
export function bytes(count) {
  if (!Number.isFinite(count)) return '';
  let value = count;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

/** `12,345`. */
export function number(count) {
  return Number.isFinite(count) ? count.toLocaleString('en-US') : '';
}

/** `13.8k`. */
export function short(count) {
  if (!Number.isFinite(count)) return '';
  if (Math.abs(count) < 1000) return String(Math.round(count));
  if (Math.abs(count) < 999_500) return `${trim(count / 1000)}k`;
  return count < 999_500_000 ? `${trim(count / 1e6)}M` : `${trim(count / 1e9)}G`;
}

function trim(value) {
  return value >= 100 ? String(Math.round(value)) : value.toFixed(1).replace(/\.0$/, '');
}

/** `$0.041`, with as many digits as a small amount needs. */
export function money(dollars) {
  if (!Number.isFinite(dollars)) return '';
  if (dollars === 0) return '$0';
  if (dollars >= 100) return `$${number(Math.round(dollars))}`;
  return `$${dollars.toFixed(dollars >= 1 ? 2 : dollars >= 0.0995 ? 2 : dollars >= 0.00095 ? 3 : 5)}`;
}

/** `340 ms`, `4.2 s`, `3m 05s`, `2h 14m`, `3d 4h`. */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return '';
  const value = Math.max(0, seconds);
  if (value < 0.9995) return `${Math.round(value * 1000)} ms`;
  if (value < 59.95) return `${value < 9.95 ? value.toFixed(1) : Math.round(value)} s`;
  const whole = Math.round(value);
  const pad = (part) => String(part).padStart(2, '0');
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${pad(whole % 60)}s`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)}h ${pad(Math.floor((whole % 3600) / 60))}m`;
  return `${Math.floor(whole / 86_400)}d ${Math.floor((whole % 86_400) / 3600)}h`;
}

/** Milliseconds since 1970 of what a record or a row tells; NaN when nobody can read it. */
export function time(text) {
  return typeof text === 'string' ? Date.parse(text) : NaN;
}

const pad2 = (value) => String(value).padStart(2, '0');

/** `09:00:02.1`, local. */
export function clock(ms) {
  if (!Number.isFinite(ms)) return '--:--:--';
  const at = new Date(ms);
  return `${pad2(at.getHours())}:${pad2(at.getMinutes())}:${pad2(at.getSeconds())}.${Math.floor(at.getMilliseconds() / 100)}`;
}

/** `2026-02-10 09:00:02.100 +01:00`, local and whole. */
export function stamp(ms) {
  if (!Number.isFinite(ms)) return 'no time';
  const at = new Date(ms);
  const zone = -at.getTimezoneOffset();
  const offset = `${zone < 0 ? '-' : '+'}${pad2(Math.floor(Math.abs(zone) / 60))}:${pad2(Math.abs(zone) % 60)}`;
  const day = `${at.getFullYear()}-${pad2(at.getMonth() + 1)}-${pad2(at.getDate())}`;
  const of = `${pad2(at.getHours())}:${pad2(at.getMinutes())}:${pad2(at.getSeconds())}.${String(at.getMilliseconds()).padStart(3, '0')}`;
  return `${day} ${of} ${offset}`;
}

/** `+1:05.2`: since the task began. */
export function since(ms, start) {
  if (!Number.isFinite(ms) || !Number.isFinite(start)) return '';
  const off = ms - start;
  const all = Math.abs(off) / 1000;
  const sign = off < 0 ? '−' : '+';
  const tenth = Math.floor((all * 10) % 10);
  const [hours, minutes, seconds] = [Math.floor(all / 3600), Math.floor((all % 3600) / 60), Math.floor(all % 60)];
  if (hours >= 100) return `${sign}${Math.floor(hours / 24)}d ${hours % 24}h`;
  if (hours > 0) return `${sign}${hours}:${pad2(minutes)}:${pad2(seconds)}`;
  return `${sign}${minutes}:${pad2(seconds)}.${tenth}`;
}

/** `just now`, `12 min ago`, `yesterday 14:02`, `Feb 10`, in the reader's own time zone. */
export function ago(ms, now = Date.now()) {
  if (!Number.isFinite(ms)) return '';
  const seconds = (now - ms) / 1000;
  if (seconds < -5) return stamp(ms).slice(0, 16);
  if (seconds < 5) return 'just now';
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  const [at, today] = [new Date(ms), new Date(now)];
  const hour = `${pad2(at.getHours())}:${pad2(at.getMinutes())}`;
  if (at.toDateString() === today.toDateString()) return `today ${hour}`;
  if (seconds < 7 * 86_400) return `${at.toLocaleDateString('en-US', { weekday: 'short' })} ${hour}`;
  const year = at.getFullYear() === today.getFullYear() ? {} : { year: 'numeric' };
  return at.toLocaleDateString('en-US', { month: 'short', day: 'numeric', ...year });
}

/** `1 record`, `2 records`. */
export function many(count, one, more = `${one}s`) {
  return `${number(count)} ${count === 1 ? one : more}`;
}
