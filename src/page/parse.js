// Parses JSON: what is large beside the page, so that the page goes on.

/** Shorter texts take no time worth a worker. */
const PARSE_HERE = 400_000;

let worker = null;
let asked = 0;
const waiting = new Map();

export function parse(text) {
  if (text.length <= PARSE_HERE) return JSON.parse(text);
  worker ??= begin();
  asked += 1;
  const id = asked;
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject });
    worker.postMessage({ id, text });
  });
}

function begin() {
  const started = new Worker(address(), { type: 'module' });
  started.onmessage = ({ data: { id, value, isWrong } }) => {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (isWrong) reject(new Error('The record is no JSON.'));
    else resolve(value);
  };
  started.onerror = () => {
    for (const { reject } of waiting.values()) reject(new Error('The record cannot be read.'));
    waiting.clear();
  };
  return started;
}

/** The page's policy takes a script's address from here alone, and here only this one is made. */
function address() {
  const url = new URL('./parse-worker.js', import.meta.url).href;
  const policy = globalThis.trustedTypes?.createPolicy('parse-worker', { createScriptURL: () => url });
  return policy ? policy.createScriptURL('') : url;
}
