"""Tasks for the page to show, written as the service writes them: an ordinary one, 50,000 records, hostile texts, large records,
one that runs."""

import base64
import json
import random
from datetime import datetime, timedelta, timezone
from pathlib import Path

BEGIN = datetime(2026, 2, 10, 9, 0, 0, tzinfo=timezone.utc)
FLOW, OUTPUT, USER, FINAL, OTHER = (
    "02-webhook-flow.jsonl",
    "03-agent-output.jsonl",
    "03-user-inputs.jsonl",
    "04-final-result.json",
    "05-other-events.jsonl",
)
LARGE_RECORDS = 50_000
MODEL = "claude-sonnet-4-5"

# Nothing of this may do anything: no element, no request, no title, no turned text.
HTML = '<script>window.pwned = 1</script><img src="http://evil.invalid/x.png" onerror="window.pwned = 2"><b>bold</b><a href="javascript:window.pwned=3">x</a>'
ANSI = "\x1b[31mred\x1b[0m \x1b[1;38;2;10;200;30mtrue\x1b[0m \x1b]0;PWNED\x07\x1b]8;;http://evil.invalid/\x07click\x1b]8;;\x07 \x1b[2J\x1b[10;10Hmoved \x9b31mC1\x9b0m \x07bell \x00nul"
BIDI = "access \u202eresu/\u2066 admin\u2069 \u200bzero \ufeffbom tag\U000e0069\U000e0067\U000e006e\U000e006f\U000e0072\U000e0065"
MARKDOWN = "[link](javascript:alert(1)) ![image](http://evil.invalid/y.png) `code` **bold** <u>under</u>\n\n```html\n<script>window.pwned = 4</script>\n```"


class Task:
    """A task's folder, record by record."""

    def __init__(self, root: Path, task_id: str, **metadata):
        self.folder = root / task_id
        self.folder.mkdir(parents=True)
        self.now = metadata.pop("begin", BEGIN)
        self.begin = self.now
        self.task_id = task_id
        self.metadata = metadata
        self.serial = 0
        self.lines: dict[str, list[str]] = {}

    def tick(self, seconds: float) -> "Task":
        self.now += timedelta(seconds=seconds)
        return self

    @property
    def stamp(self) -> str:
        return self.now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{self.now.microsecond // 1000:03}Z"

    def record(self, file: str, **members) -> str:
        self.serial += 1
        entry = f"{int(self.begin.timestamp() * 1000) + self.serial}-0"
        line = {"timestamp": self.stamp, **members, "id": entry}
        self.lines.setdefault(file, []).append(json.dumps(line, ensure_ascii=False, separators=(",", ":")))
        return entry

    def stage(self, stage: str, wait: float = 0.05, **data):
        self.tick(wait).record(FLOW, stage=stage, data=data)

    def say(self, content: str, kind: str = "output", message: str | None = None, wait: float = 1.0, **members):
        self.tick(wait).record(OUTPUT, type=kind, content=content, message_id=message or f"msg_{self.serial}", model=MODEL, **members)

    def tool(self, name: str, arguments: dict, result: str | None, seconds: float = 0.5, is_error: bool = False, **members):
        call = f"toolu_{self.serial}"
        self.tick(0.2).record(OUTPUT, type="tool_call", content="", name=name, input=arguments, _tool_use_id=call, **members)
        if result is not None:
            self.tick(seconds).record(OUTPUT, type="tool_result", content=result, name=name, is_error=is_error, _tool_use_id=call)

    def user(self, content: str, kind: str = "approval"):
        self.tick(20).record(USER, type="user_response", question_type=kind, content=content)

    def write(self, status: str, final: dict | None, prompt: str | None, title_source: dict | None = None):
        document = lambda name, value: (self.folder / name).write_text(json.dumps(value, indent=2, ensure_ascii=False))
        for file, lines in self.lines.items():
            (self.folder / file).write_text("\n".join(lines) + "\n")
        if prompt is not None:
            document("01-input.json", {"message": prompt})
            self.metadata["input_message"] = prompt
        calls = [line for line in self.lines.get(OUTPUT, []) if '"type":"tool_call"' in line]
        failures = sum('"is_error":true' in line for line in self.lines.get(OUTPUT, []))
        self.metadata["annotations"] = {"usage": {"models": [MODEL], "tool_calls": len(calls), "tool_errors": failures}}
        stamp = lambda at: at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03}Z"
        self.metadata.update(task_id=self.task_id, created_at=stamp(self.begin), started_at=stamp(self.begin), status=status)
        self.metadata["plugins"] = [
            {"name": name, "version": "0.1.0", "sha256": sha * 8, "config_hash": "44136fa3" * 8, "chain": "17596f00" * 8}
            for name, sha in (("redact", "1bbf4734"), ("usage", "0be15da0"))
        ]
        if final is not None:
            self.tick(0.5)
            self.metadata["completed_at"] = self.stamp
            seconds = round((self.now - self.begin).total_seconds(), 2)
            metrics = {"cost_usd": 0.0413, "duration_seconds": seconds, "input_tokens": 13313, "output_tokens": 482, "cache_read_input_tokens": 9728}
            document(FINAL, {**final, "metrics": metrics, "completed_at": self.stamp, "status": status, "num_turns": 5})
        document("metadata.json", self.metadata)


def webhook(task: Task, source: str = "github"):
    task.stage("received", 0, source=source, event_type="issue_comment", payload_size=9128)
    task.stage("validated", 0.02, source=source, signature_valid=True)
    task.stage("matched", 0.31, source=source, event_type="issue_comment", matched_handler="github-issue-handler")
    task.stage("task_created", 0.05, task_id=task.task_id, source=source, input_message="Issue 214")


def ordinary(root: Path):
    """Everything once: each kind of record, a failure, a gap, a redaction, a long silence."""
    task = Task(root, "task-ordinary", source="github", assigned_agent="brain")
    webhook(task)
    task.tick(0.5).record(OTHER, type="knowledge:query", data={"tool_name": "code_search", "query": "retry policy http client", "results_count": 3, "query_time_ms": 41.5})
    task.say("The retry loop must be in the HTTP client. I look for it first, then for its tests.", "thinking", "msg_A1")
    task.say("I will look at how the client retries:\n\n- the **loop** in `src/client.ts`\n- its tests\n- who calls it", message="msg_A1", wait=0.2)
    task.tool("Grep", {"pattern": "retry", "path": "src"}, "src/client.ts:41:  for (let attempt = 0; ; attempt++) {\nsrc/client.ts:47:    if (response.status === 503) continue;", 0.6)
    task.tool("Bash", {"command": "cat .env && npm test", "description": "See the test configuration"}, "AWS_ACCESS_KEY_ID=[REDACTED:aws_access_key]\nDATABASE_URL=postgres://app:[REDACTED:url_password]@db.internal:5432/app\nSMTP_PASSWORD=[REDACTED:password]\n\n\x1b[32m PASS \x1b[0m test/client.test.ts (14 tests)", 3.4)
    task.tool("Bash", {"command": "npm run lint"}, "Error: Exit code 1\n\n/src/client.ts\n  47:5  \x1b[31merror\x1b[0m  Unexpected continue  no-continue\n\n\x1b[31m\x1b[1m✖ 1 problem (1 error, 0 warnings)\x1b[22m\x1b[39m", 6.1, True)
    task.user("Yes, but keep the limit at five tries. My password is [REDACTED:password]")
    task.say("Loop without a bound and without a pause. A capped exponential backoff with full jitter is what the rest of the code base uses.", "thinking", "msg_A3")
    task.tool("Edit", {"file_path": "src/client.ts", "old_string": "if (response.status === 503) continue;", "new_string": "if (response.status === 503 && attempt < RETRIES_MAX) {\n  await pause(backoff(attempt));\n  continue;\n}"}, "The file src/client.ts has been updated.", 0.4)
    task.tick(0.3).record(OUTPUT, type="gap", kind="task:output", reason="bad_json")
    task.tick(300)
    task.tool("Task", {"description": "Review the change", "prompt": "Review src/client.ts"}, "Two remarks, both small.", 42.0)
    task.say("Sub-agent: the pause has no upper bound.", message="msg_S1", parent_tool_use_id="toolu_13")
    task.tool("WebFetch", {"url": "https://ci.example.com/api/runs/latest"}, json.dumps({"run": 88, "state": "green", "config": {"client_secret": "[REDACTED:secret]", "region": "eu-central-1"}}), 0.8)
    task.say("Fixed: a 503 is now retried at most five times, with a growing pause between the tries.\n\n```ts\nawait pause(backoff(attempt));\n```\n\nAll 14 tests pass; commit `3f9c2b7e`.", message="msg_A5")
    task.tick(0.6).record(OUTPUT, type="response_posted", content="", method="mcp", source="github", mcp_detected=True)
    task.write("completed", {"success": True, "result": "A 503 is now retried at most five times, with a growing pause between the tries."}, "Issue 214: after a 503 the client retries without a pause. Please fix it.")


def failed(root: Path):
    task = Task(root, "task-failed", source="jira", assigned_agent="planner", begin=BEGIN - timedelta(hours=2))
    webhook(task, "jira")
    task.say("First the list of jobs, then who depends on them.", "thinking")
    task.tool("Bash", {"command": "crontab -l | grep report"}, "bash: crontab: command not found", 0.7, True)
    task.write("failed", {"success": False, "error": "agent process ended with status 137 (out of memory)"}, "OPS-881: plan the move of the report jobs.")


def running(root: Path):
    task = Task(root, "task-running", source="slack", assigned_agent="brain", begin=datetime.now(timezone.utc) - timedelta(seconds=75))
    task.say("I compare last night's run with the week before.", wait=3)
    task.tool("Bash", {"command": "importctl timings --since 8d"}, None)
    task.write("running", None, "Why is the nightly import slow?")


def large(root: Path):
    """50,000 records: what a long session with several sub-agents leaves."""
    chance = random.Random(7)
    words = "the agent reads a file and finds that its retry loop has no bound so it adds one and runs all tests again".split()
    text = lambda count: " ".join(chance.choice(words) for _ in range(count))
    task = Task(root, "task-large", source="dashboard", assigned_agent="brain", begin=BEGIN - timedelta(days=1))
    count = 0
    while count < LARGE_RECORDS:
        kind = chance.random()
        if kind < 0.15:
            task.say(text(chance.randint(8, 60)), "thinking", wait=chance.random() * 2)
            count += 1
        elif kind < 0.35:
            task.say(text(chance.randint(5, 120)), wait=chance.random() * 2)
            count += 1
        else:
            is_error = chance.random() < 0.01
            lines = "\n".join(text(chance.randint(3, 14)) for _ in range(chance.randint(1, 12)))
            task.tool(chance.choice(["Bash", "Read", "Grep", "Edit"]), {"command": text(6)}, f"Error: Exit code 2\n{lines}" if is_error else lines, chance.random() * 3, is_error)
            count += 2
            if count % 9973 < 2:
                task.tick(1800)
    task.say("needle-in-the-haystack near the end")
    task.write("completed", {"success": True, "result": "Done after a long time."}, "Go through the whole repository and bound every retry loop.")


def hostile(root: Path):
    """HTML, scripts, terminal sequences, turned text in every field that the page shows."""
    evil = f"{HTML} {ANSI} {BIDI}"
    task = Task(root, "task-hostile", source=HTML[:90], assigned_agent=f"{BIDI}{HTML}"[:120], begin=BEGIN + timedelta(hours=1))
    task.stage("received", 0, source=evil, event_type=HTML, payload_size=HTML)
    task.stage(HTML, 0.1, **{HTML: evil})
    task.say(evil, "thinking")
    task.say(evil)
    task.say(MARKDOWN)
    task.tool(evil, {"command": evil, HTML: BIDI}, evil, 0.5, True)
    task.tool("Edit", {"file_path": evil, "old_string": evil, "new_string": evil}, HTML)
    task.user(evil, evil)
    task.record(OUTPUT, type=evil, content=evil, nested={"a": [{HTML: evil}]})
    task.record(OUTPUT, type="gap", kind=evil, reason=evil)
    task.record(OTHER, type=f"knowledge:{HTML}", data={HTML: evil})
    task.record(OUTPUT, type="output", content="\x1b]0;" + "never ended " * 50 + "\nnext line")
    task.record(OUTPUT, type="tool_result", content=[{"type": "text", "text": evil}], name=evil)
    task.write("completed", {"success": True, "result": evil, "error": evil}, evil)


def heavy(root: Path):
    """Records of megabytes, one line of a megabyte, a picture, blobs."""
    task = Task(root, "task-heavy", source="api", assigned_agent="brain", begin=BEGIN + timedelta(hours=2))
    task.say("Large records follow.")
    task.tool("Read", {"file_path": "/var/log/large.log"}, "\n".join(f"line {n} of a large file that somebody printed as a whole" for n in range(20_000)), 2)
    task.tool("Bash", {"command": "cat one-line.json"}, "x" * 500_000 + " middle " + "y" * 500_000, 2)
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAoAAAAKCAYAAACNMs+9AAAAFUlEQVR42mNk+M9Qz0AEYBxVSF+FAAhKDveksOjmAAAAAElFTkSuQmCC"
    blob = base64.b64encode(random.Random(3).randbytes(90_000)).decode()
    task.tool("Screenshot", {}, f"data:image/png;base64,{pixel}", 1)
    task.say(f"A blob in a text: {blob} and words after it.")
    task.record(OUTPUT, type="tool_result", name="Screenshot", content=[{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": pixel}}])
    task.say("z" * 10_000_000, wait=1)
    task.say("The end of it.")
    task.write("completed", {"success": True, "result": "Printed."}, "Print the large file.")


def many(root: Path, count: int = 240):
    """Small tasks, so that the list has pages."""
    chance = random.Random(5)
    for n in range(count):
        begin = BEGIN - timedelta(days=2, minutes=7 * n)
        task = Task(root, f"task-{n:05}", source=chance.choice(["github", "jira", "slack", "dashboard"]), assigned_agent=chance.choice(["brain", "planner", "reviewer"]), begin=begin)
        task.say("Looking at it.", wait=chance.random() * 9)
        is_failed = chance.random() < 0.12
        if is_failed:
            task.tool("Bash", {"command": "make"}, "Error: Exit code 2", 3, True)
        subject = chance.choice(["Bump the client to version 3", "Login retries never stop", "Plan the move of the report jobs", "Why is the nightly import slow?", "Rotate the key of the summary service", "Flaky test in the scheduler"])
        task.tick(chance.random() * 400)
        task.write("failed" if is_failed else "completed", {"success": not is_failed, "result": "Done."}, f"{subject} (#{1000 + n})")


def write_all(root: Path):
    for make in (ordinary, failed, running, large, hostile, heavy, many):
        make(root)


if __name__ == "__main__":
    import sys

    write_all(Path(sys.argv[1]))
