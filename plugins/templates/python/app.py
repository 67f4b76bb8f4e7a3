"""my-plugin: replaces the words of its configuration in all texts of an event."""

import json
import re
from typing import List, Optional

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.processor import (
    Event,
    Failure,
    Manifest,
    Role,
    Verdict,
    Verdict_Pass,
    Verdict_Replace,
)
from wit_world.imports import host

REDACTED = "[REDACTED]"
# A string in JSON text, quotes included. `*+` never goes back, so that long strings cost no memory.
STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"')

# Text that comes in pieces: a word may begin in one event and end in the next. `Verdict_Hold()` for an event and all after it
# says "undecided, nothing of this happened yet": they come again with the task's next events, at the latest after a second and
# then with `flush`, when `Verdict_Hold()` is not allowed any more. In `process`:
#
#     text = "".join(json.loads(event.data)["content"] for event in events)  # "my pass", "word is hun", "ter2"
#     start = begin_of_a_word_at_the_end(text)                               # text[start:] == "hun", None if there is none
#     if start is not None and not flush:
#         held = number_of_the_event_with(start)                             # decide those before it, wait for the others
#         return verdicts[:held] + [Verdict_Hold()] * (len(events) - held)
#
# A word that was found is then cut out of every event that has a part of it, with REDACTED in the first one. With `flush`
# redact the begin as if it were the word, and keep in `host.set_state` how much of the word was seen (a number, never the
# text), so that the rest of it is redacted when it comes after all.


# The configured words: what `init` learns stands here, because every call gets a `Processor` of its own. Keep nothing of a task
# here: an instance may serve many of them, and `host.set_state` is for that.
words: re.Pattern[str]


class Processor(exports.Processor):
    """Found by this name."""

    def init(self, config: str) -> Manifest:
        """Called once, first, with `[config]` of my-plugin.toml as JSON text."""
        global words
        settings = json.loads(config)
        for key in settings:
            if key != "words":
                raise failure(f"config: {key}: no such key")
        listed = settings.get("words")
        if not isinstance(listed, list) or not listed or not all(isinstance(word, str) and word for word in listed):
            raise failure("config: words: expected a list of texts, none of them empty")
        # Longest first, so that of two words that begin at the same place the longer one is taken.
        words = re.compile("|".join(re.escape(word) for word in sorted(listed, key=len, reverse=True)))
        return Manifest(name="my-plugin", version="0.1.0", role=Role.REDACTOR, kinds=["*"], files=[], codes=["word"])

    def process(self, task: Optional[str], events: List[Event], flush: bool) -> List[Verdict]:
        """The next events of one task, in order: one verdict for each."""
        return [decide(event) for event in events]


def decide(event: Event) -> Verdict:
    # Without escapes a word would stand in the JSON text as it is: many events are settled by looking once.
    if "\\" not in event.data and not words.search(event.data):
        return Verdict_Pass()
    found = 0

    def redact(string: re.Match[str]) -> str:
        nonlocal found
        text, n = words.subn(REDACTED, json.loads(string[0]))
        found += n
        return json.dumps(text, ensure_ascii=False) if n else string[0]

    # Only strings are touched, names of members too: numbers and spaces stay as the producer wrote them.
    data = STRING.sub(redact, event.data)
    if not found:
        return Verdict_Pass()
    host.count("word", found)
    return Verdict_Replace(data)


def failure(message: str) -> Err[Failure]:
    """What `init` and `process` may raise; anything else ends the instance. Only a message of `init` is shown: one of `process`
    may have an event's text in it."""
    return Err(Failure(message))
