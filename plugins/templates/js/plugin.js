// my-plugin: replaces the words of its configuration in all texts of an event.
// @ts-check
/// <reference path="./types/plugin.d.ts" />

import * as host from "task-logger:plugin/host@1.0.0";

/** @typedef {import("task-logger:plugin/processor@1.0.0").Manifest} Manifest */
/** @typedef {import("task-logger:plugin/processor@1.0.0").Event} Event */
/** @typedef {import("task-logger:plugin/processor@1.0.0").Verdict} Verdict */

const REDACTED = "[REDACTED]";

// Text that comes in pieces: a word may begin in one event and end in the next. `{ tag: "hold" }` for an event and all after it
// says "undecided, nothing of this happened yet": they come again with the task's next events, at the latest after a second and
// then with `flush`, when `hold` is not allowed any more. In `process`:
//
//     const text = events.map((event) => JSON.parse(event.data).content).join("");  // "my pass", "word is hun", "ter2"
//     const start = beginOfAWordAtTheEnd(text);                                     // text.slice(start) === "hun", -1: none
//     if (start >= 0 && !flush) {
//       const held = numberOfTheEventWith(start);                                   // decide those before it, wait for the others
//       return events.map((event, i) => (i < held ? decide(event) : { tag: "hold" }));
//     }
//
// A word that was found is then cut out of every event that has a part of it, with REDACTED in the first one. With `flush`
// redact the begin as if it were the word, and keep in `host.setState` how much of the word was seen (a number, never the
// text), so that the rest of it is redacted when it comes after all.

/** The configured words. @type {RegExp} */
let words;

export const processor = {
  /**
   * Called once, first, with `[config]` of my-plugin.toml as JSON text. The message of an error is shown, unlike that of one in
   * `process`, which may have an event's text in it.
   * @param {string} config
   * @returns {Manifest}
   */
  init(config) {
    const settings = JSON.parse(config);
    for (const key of Object.keys(settings)) {
      if (key !== "words") throw new Error(`config: ${key}: no such key`);
    }
    const list = settings.words;
    if (!Array.isArray(list) || list.length === 0 || !list.every((word) => typeof word === "string" && word !== "")) {
      throw new Error("config: words: expected a list of texts, none of them empty");
    }
    // Longest first, so that of two words that begin at the same place the longer one is taken.
    const longestFirst = list.sort((a, b) => b.length - a.length);
    words = new RegExp(longestFirst.map((word) => word.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")).join("|"), "g");
    return { name: "my-plugin", version: "0.1.0", role: "redactor", kinds: ["*"], files: [], codes: ["word"] };
  },

  /**
   * The next events of one task, in order: one verdict for each. An instance may serve many tasks: keep nothing of a task but
   * in `host.setState`.
   * @param {string | undefined} task
   * @param {Event[]} events
   * @param {boolean} flush
   * @returns {Verdict[]}
   */
  process(task, events, flush) {
    return events.map(decide);
  },
};

/**
 * @param {Event} event
 * @returns {Verdict}
 */
function decide({ data }) {
  // Without escapes a word would stand in the JSON text as it is: many events are settled by looking once.
  if (!data.includes("\\") && data.search(words) < 0) return { tag: "pass" };
  let [redacted, copied, found] = ["", 0, 0];
  // Only strings are touched, names of members too: numbers and spaces stay as the producer wrote them.
  for (let [start, end] = nextString(data, 0); start >= 0; [start, end] = nextString(data, end)) {
    const text = JSON.parse(data.slice(start, end));
    const n = text.match(words)?.length ?? 0;
    if (n > 0) {
      redacted += data.slice(copied, start) + quote(text.replace(words, REDACTED));
      copied = end;
      found += n;
    }
  }
  if (found === 0) return { tag: "pass" };
  host.count("word", found);
  return { tag: "replace", val: redacted + data.slice(copied) };
}

/**
 * Where the next string of a JSON text begins and ends, quotes included; -1 if there is none.
 * @param {string} json
 * @param {number} from
 */
function nextString(json, from) {
  const start = json.indexOf('"', from);
  let end = start;
  let escapes = 0;
  if (start >= 0) {
    do {
      end = json.indexOf('"', end + 1);
      for (escapes = 0; json[end - 1 - escapes] === "\\"; escapes++);
      // Behind an odd number of backslashes a quote is text.
    } while (escapes % 2 === 1);
  }
  return [start, end + 1];
}

/**
 * JSON text of a string. In pieces, because `JSON.stringify` takes up to 64 times the length of a long one for a moment; `u`
 * keeps the two halves of a character together.
 * @param {string} text
 */
function quote(text) {
  let json = '"';
  for (const [piece] of text.matchAll(/[^]{1,10000}/gu)) json += JSON.stringify(piece).slice(1, -1);
  return json + '"';
}
