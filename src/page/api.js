// Asks the service. The token stays in memory and, for a reload of this tab, in sessionStorage: never in localStorage, never in
// a URL.

const KEY = 'task-logger.token';

/** An answer that is an error. */
export class Problem extends Error {
  constructor(status, code, detail) {
    super(detail || `The service answered ${status}.`);
    this.status = status;
    this.code = code;
  }
}

let token = stored();
/** Asks the person for a token; set by the page. */
let ask = null;
/** The question that is open, so that many refused requests ask once. */
let asking = null;

function stored() {
  try {
    return sessionStorage.getItem(KEY) ?? '';
  } catch {
    return '';
  }
}

/** Sets who asks for a token: `question(refused)` resolves to one, or to `null`. */
export function onUnauthorized(question) {
  ask = question;
}

/** Whether requests carry a token. */
export function hasToken() {
  return token !== '';
}

function keep(given) {
  token = given;
  try {
    sessionStorage.setItem(KEY, given);
  } catch {
    // A browser that keeps nothing asks again after a reload.
  }
}

/** `/tasks/ID/REST`, whatever the id holds. */
export function taskPath(id, rest = '') {
  return `/tasks/${encodeURIComponent(id)}${rest && `/${rest}`}`;
}

/** A path with its parameters; those that are empty are left out, lists are joined by commas. */
export function withQuery(path, params = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    const text = Array.isArray(value) ? value.join(',') : value;
    if (text !== null && text !== undefined && text !== '' && text !== false) query.set(name, String(text));
  }
  const text = query.toString().replaceAll('%2C', ',').replaceAll('%3A', ':');
  return text ? `${path}?${text}` : path;
}

/** Asks, and asks for the token first where the service wants one. Errors are [`Problem`]s, or the network's. */
export async function request(path, { params, headers, signal, method = 'GET', cache } = {}) {
  for (;;) {
    const sent = token;
    const answer = await fetch(withQuery(path, params), {
      method,
      signal,
      cache,
      credentials: 'omit',
      referrerPolicy: 'no-referrer',
      headers: { ...headers, ...(sent && { Authorization: `Bearer ${sent}` }) },
    });
    if (answer.ok) return answer;
    if (answer.status === 401 && ask) {
      await answer.body?.cancel();
      // Another request may have been given the right one meanwhile.
      if (token !== sent) continue;
      asking ??= ask(sent !== '').finally(() => { asking = null; });
      const given = await asking;
      if (given === null) throw new Problem(401, 'unauthorized', 'The service wants a token.');
      keep(given);
      continue;
    }
    throw await problem(answer);
  }
}

async function problem(answer) {
  let told = {};
  try {
    told = await answer.json();
  } catch {
    // A proxy's page, or nothing.
  }
  return new Problem(answer.status, told.code ?? 'unknown', told.detail ?? told.title ?? '');
}

/** The same, read as JSON. */
export async function json(path, options = {}) {
  const headers = { Accept: 'application/json', ...options.headers };
  return (await request(path, { ...options, headers })).json();
}

/** The command that fetches the same; the token stands as a variable's name, never as itself. */
export function curl(path, params) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const auth = token ? ' -H "Authorization: Bearer $API_TOKEN"' : '';
  return `curl -sS${auth} ${quoted(location.origin + withQuery(path, params))}`;
}

/** Saves what a path answers. Without a token the browser's own download does; with one it must be fetched first. */
export async function download(path, params, name) {
  const link = document.createElement('a');
  link.download = name;
  if (!token) {
    link.href = withQuery(path, params);
    link.click();
    return;
  }
  const answer = await request(path, { params });
  const url = URL.createObjectURL(await answer.blob());
  link.href = url;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
