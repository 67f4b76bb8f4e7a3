// The conformance guest in JavaScript: what an event's data says under `do` is what becomes of it (see ../README.md).

import * as host from "task-logger:plugin/host@1.0.0";

const KEYS = ["name", "role", "version", "fail"];
const LEVELS = ["debug", "info", "warn", "error"];

export const processor = {
  init(config) {
    const settings = JSON.parse(config);
    for (const [key, value] of Object.entries(settings)) {
      if (!KEYS.includes(key) || typeof value !== "string") throw new Error(`${key}: no such key, or not a string`);
    }
    const { name = "conformance", role = "redactor", version = "1", fail } = settings;
    if (fail !== undefined) throw new Error(fail);
    if (role !== "redactor" && role !== "standard") throw new Error("role: neither redactor nor standard");
    host.log("info", "ready");
    host.count("init", 1);
    return {
      name,
      version,
      role,
      kinds: ["*"],
      files: ["conformance.jsonl", "conformance.txt"],
      codes: ["init", "counted", "dropped", "refused"],
    };
  },

  process(task, events, flush) {
    const asked = events.map((event) => JSON.parse(event.data));
    const verdicts = [];
    for (const [at, data] of asked.entries()) {
      if (data.do !== "hold") {
        verdicts.push(decide(task, events[at], data, flush));
      } else if (flush || asked.slice(at + 1).some((later) => later.do === "release")) {
        verdicts.push(replace({ released: true }));
      } else {
        // All after a held one is held too.
        while (verdicts.length < events.length) verdicts.push({ tag: "hold" });
        break;
      }
    }
    return verdicts;
  },
};

function decide(task, event, data, flush) {
  switch ("do" in data ? data.do : "pass") {
    case "pass":
    case "release":
      break;
    case "replace":
      return replace({
        id: event.id,
        kind: event.kind,
        timestamp_ms: event.timestampMs,
        task: task ?? null,
        flush,
        text: data.text ?? null,
      });
    case "drop":
      return { tag: "drop", val: "dropped" };
    case "quarantine":
      return { tag: "quarantine", val: "refused" };
    case "state": {
      const count = Number(host.getState()) + 1;
      host.setState(String(count));
      return replace({ count });
    }
    case "append":
      host.appendFile("conformance.jsonl", data.text);
      break;
    case "write":
      host.replaceFile("conformance.txt", data.text);
      break;
    case "annotate":
      host.annotate(JSON.stringify({ last: event.id }));
      break;
    case "log":
      if (!LEVELS.includes(data.level)) throw new Error("level: no such level");
      host.log(data.level, data.text);
      break;
    case "count":
      count("counted", data.n);
      break;
    case "count-other":
      count("not-in-the-manifest", data.n);
      break;
    case "undeclared":
      host.appendFile("undeclared.txt", data.text);
      break;
    case "fail":
      throw new Error(`told to fail: ${data.text}`);
    case "trap":
      // An error is a failure, for it has a message. What has none ends the instance.
      throw null;
    default:
      throw new Error("do: nothing that this guest does");
  }
  return { tag: "pass" };
}

// componentize-js passes no number beyond 2^31 - 1 unharmed.
function count(name, n) {
  for (; n > 0x7fffffff; n -= 0x7fffffff) host.count(name, 0x7fffffff);
  host.count(name, n);
}

function replace(data) {
  const members = Object.entries(data).map(([key, value]) => `${JSON.stringify(key)}:${encode(value)}`);
  return { tag: "replace", val: `{${members.join()}}` };
}

// For a moment JSON.stringify takes up to 64 times the length of a long string, so that is written in pieces; `u` keeps the two
// halves of a character together.
function encode(value) {
  if (typeof value !== "string") return JSON.stringify(value);
  let json = '"';
  for (const [piece] of value.matchAll(/[^]{1,10000}/gu)) json += JSON.stringify(piece).slice(1, -1);
  return json + '"';
}
