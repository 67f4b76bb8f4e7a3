"""The conformance guest in Python: what an event's data says under `do` is what becomes of it (see ../README.md)."""

import json
from typing import Any, List, Optional

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.processor import (
    Event,
    Failure,
    Manifest,
    Role,
    Verdict,
    Verdict_Drop,
    Verdict_Hold,
    Verdict_Pass,
    Verdict_Quarantine,
    Verdict_Replace,
)
from wit_world.imports import host

KEYS = ("name", "role", "version", "fail")
ROLES = {"redactor": Role.REDACTOR, "standard": Role.STANDARD}
LEVELS = {"debug": host.Level.DEBUG, "info": host.Level.INFO, "warn": host.Level.WARN, "error": host.Level.ERROR}


class Processor(exports.Processor):
    """Found by componentize-py by its name."""

    def init(self, config: str) -> Manifest:
        settings = json.loads(config)
        for key, value in settings.items():
            if key not in KEYS or not isinstance(value, str):
                raise failure(f"{key}: no such key, or not a string")
        if "fail" in settings:
            raise failure(settings["fail"])
        role = ROLES.get(settings.get("role", "redactor"))
        if role is None:
            raise failure("role: neither redactor nor standard")
        host.log(host.Level.INFO, "ready")
        host.count("init", 1)
        return Manifest(
            name=settings.get("name", "conformance"),
            version=settings.get("version", "1"),
            role=role,
            kinds=["*"],
            files=["conformance.jsonl", "conformance.txt"],
            codes=["init", "counted", "dropped", "refused"],
        )

    def process(self, task: Optional[str], events: List[Event], flush: bool) -> List[Verdict]:
        asked = [json.loads(event.data) for event in events]
        verdicts: List[Verdict] = []
        for at, (event, data) in enumerate(zip(events, asked)):
            if data.get("do") == "hold":
                if not flush and all(later.get("do") != "release" for later in asked[at + 1 :]):
                    # All after a held one is held too.
                    return verdicts + [Verdict_Hold()] * (len(events) - at)
                verdicts.append(replace(released=True))
            else:
                verdicts.append(decide(task, event, data, flush))
        return verdicts


def decide(task: Optional[str], event: Event, data: dict[str, Any], flush: bool) -> Verdict:
    match data.get("do", "pass"):
        case "pass" | "release":
            pass
        case "replace":
            return replace(
                id=event.id,
                kind=event.kind,
                timestamp_ms=event.timestamp_ms,
                task=task,
                flush=flush,
                text=data.get("text"),
            )
        case "drop":
            return Verdict_Drop("dropped")
        case "quarantine":
            return Verdict_Quarantine("refused")
        case "state":
            count = int(host.get_state() or "0") + 1
            host.set_state(str(count))
            return replace(count=count)
        case "append":
            host.append_file("conformance.jsonl", data["text"])
        case "write":
            host.replace_file("conformance.txt", data["text"])
        case "annotate":
            host.annotate(json.dumps({"last": event.id}))
        case "log":
            host.log(LEVELS[data["level"]], data["text"])
        case "count":
            host.count("counted", data["n"])
        case "count-other":
            host.count("not-in-the-manifest", data["n"])
        case "undeclared":
            host.append_file("undeclared.txt", data["text"])
        case "fail":
            raise failure("told to fail: " + data["text"])
        case "trap":
            # Anything but `Err` ends the instance.
            raise RuntimeError("told to trap")
        case _:
            raise failure("do: nothing that this guest does")
    return Verdict_Pass()


def replace(**data: Any) -> Verdict:
    return Verdict_Replace(json.dumps(data, ensure_ascii=False))


def failure(message: str) -> Err[Failure]:
    return Err(Failure(message))
