"""The service as it ships, on a free loopback port and folders of its own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BINARY = ROOT / "target/release/task-logger"
PLUGINS = ROOT / "target/plugins"
READY_SECONDS = 120


class Service:
    """A running service; `stop` and `start` again keep its port and its folders."""

    def __init__(self, folder: Path, token: str | None = None):
        shutil.rmtree(folder, ignore_errors=True)
        self.folder = folder
        self.logs = folder / "logs"
        self.logs.mkdir(parents=True)
        self.token = token
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.base = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen | None = None

    def start(self) -> "Service":
        settings = {
            "LOGS_DIR": self.logs,
            "STREAM_DIR": self.folder / "stream",
            "STATE_DIR": self.folder / "state",
            "PLUGINS_DIR": PLUGINS,
            "PORT": self.port,
            "HOST": "127.0.0.1",
        }
        if self.token:
            settings["API_TOKEN"] = self.token
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        with open(self.folder / "service.log", "ab") as log:
            self.process = subprocess.Popen([BINARY, "serve"], env=kept | {name: str(value) for name, value in settings.items()}, cwd=self.folder, stdout=log, stderr=log)
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                if self.get("/ready?write"):
                    return self
            except (urllib.error.URLError, ConnectionError):
                pass
            assert self.process.poll() is None, (self.folder / "service.log").read_text()
            assert time.monotonic() < deadline, "the service is not ready"
            time.sleep(0.1)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)
        self.process = None

    def request(self, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(self.base + path, data=body)
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        if body is not None:
            request.add_header("Content-Type", "application/x-ndjson")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()

    def get(self, path: str):
        return json.loads(self.request(path))

    def publish(self, *events: dict):
        """Events as producers send them: they go through the stream and the plugins."""
        self.request("/events", "\n".join(json.dumps(event) for event in events).encode())


def event(kind: str, task_id: str, **data) -> dict:
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03}Z"
    return {"type": kind, "timestamp": stamp, "task_id": task_id, "data": data}
