"""What every test of the page has: a service with tasks, a browser page that must stay within its origin and without errors."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, sync_playwright

import tasks
from service import ROOT, Service

TARGET = ROOT / "target/page"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
# Tasks longer than 50 ms, as the browser sees them, with their beginning.
LONG_TASKS = """
globalThis.longTasks = [];
new PerformanceObserver((list) => longTasks.push(...list.getEntries().map(({ startTime, duration }) => ({ startTime, duration })))).observe({ type: 'longtask' });
"""


@pytest.fixture(scope="session")
def service():
    running = Service(TARGET / "run")
    tasks.write_all(running.logs)
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def guarded():
    """A service that asks for a token."""
    running = Service(TARGET / "run-guarded", token="s3cret-token")
    tasks.ordinary(running.logs)
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


class Watched:
    """What a page did that it must not do."""

    def __init__(self):
        self.faults: list[str] = []
        self.expected: list[str] = []

    def watch(self, page: Page, base: str):
        def console(message: ConsoleMessage):
            if message.type in ("error", "warning"):
                self.faults.append(f"console {message.type}: {message.text}")

        def request(request: Request):
            if not request.url.startswith((base, "data:", "blob:")):
                self.faults.append(f"left the origin: {request.url}")

        page.on("console", console)
        page.on("pageerror", lambda error: self.faults.append(f"page error: {error}"))
        page.on("request", request)

    def check(self):
        left = [fault for fault in self.faults if not any(text in fault for text in self.expected)]
        assert not left, "\n".join(left)


@pytest.fixture
def open_page(browser, service):
    """Opens a URL of the page in a context of its own; options are the context's, `of` another service."""
    contexts: list[BrowserContext] = []
    watched = Watched()

    def opened(path: str, of: Service | None = None, **options) -> Page:
        base = (of or service).base
        options = {"viewport": {"width": 1360, "height": 860}, "locale": "en-GB", "timezone_id": "UTC"} | options
        context = browser.new_context(base_url=base, **options)
        context.set_default_timeout(15_000)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        context.add_init_script(LONG_TASKS)
        contexts.append(context)
        page = context.new_page()
        watched.watch(page, base)
        page.goto(path)
        return page

    opened.watched = watched
    yield opened
    for context in contexts:
        context.close()
    watched.check()


def screenshot(page: Page, name: str):
    page.screenshot(path=TARGET / f"{name}.png")


def row(page: Page, text: str):
    """The row of a conversation that holds a text."""
    return page.locator("article.row").filter(has_text=text).first


def settled(page: Page):
    """Waits until a task is loaded and laid out."""
    page.wait_for_selector(".conversation[aria-busy=false] article.row")
    page.wait_for_function("() => document.querySelector('.details section') !== null")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
