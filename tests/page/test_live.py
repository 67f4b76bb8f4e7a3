"""Following a task: what comes, what stays where it is, what happens when the connection does not hold."""

import re
import shutil
import time

import pytest
from playwright.sync_api import expect

from conftest import row, settled
from service import Service, event
from tasks import LARGE_RECORDS


@pytest.fixture
def live(service):
    """A task that runs: its id, and a way to make it say something."""
    name = f"live-{time.time_ns()}"
    service.publish(event("task:created", name, source="api", assigned_agent="brain", input_message=f"Count to many, {name}"), event("task:started", name))

    def say(*texts: str, kind: str = "task:output", **data):
        service.publish(*[event(kind, name, content=text, message_id=f"{text}-{time.time_ns()}", **data) for text in texts])

    say("said before anybody looked")
    return name, say


def test_what_is_said_appears_at_once_and_the_end_is_told(open_page, service, live):
    name, say = live
    page = open_page(f"/?task={name}")
    expect(row(page, "said before anybody looked")).to_be_visible()
    began = time.monotonic()
    say("said while somebody looks")
    expect(row(page, "said while somebody looks")).to_be_visible()
    assert time.monotonic() - began < 3
    service.publish(event("task:tool_call", name, name="Bash", input={"command": "sleep 1"}, _tool_use_id="toolu_9"))
    expect(row(page, "sleep 1").locator(".state-running")).to_be_visible()
    service.publish(event("task:tool_result", name, name="Bash", content="slept", is_error=False, _tool_use_id="toolu_9"))
    expect(row(page, "sleep 1").locator(".state-ok")).to_be_visible()
    service.publish(event("task:completed", name, result="counted", cost_usd=0.25, duration_seconds=3, num_turns=2))
    expect(row(page, "counted")).to_be_visible()
    expect(page.locator(".task-head .chip").first).to_have_text("completed")
    expect(page.get_by_role("button", name="Follow")).to_be_hidden()
    service.publish(event("task:response_posted", name, method="mcp"))
    expect(row(page, "response posted")).to_be_visible()


def test_at_the_end_it_follows_elsewhere_it_counts(open_page, live):
    name, say = live
    say(*[f"number {n}\n\nand\n\nmore" for n in range(40)])
    page = open_page(f"/?task={name}")
    settled(page)
    expect(row(page, "number 39")).to_be_in_viewport()
    follow = page.get_by_role("button", name="Follow")
    expect(follow).to_have_attribute("aria-pressed", "true")
    say("number 40")
    expect(row(page, "number 40")).to_be_in_viewport()

    page.locator(".task-scroll").hover()
    page.mouse.wheel(0, -900)
    expect(follow).to_have_attribute("aria-pressed", "false")
    page.evaluate("new Promise((done) => setTimeout(done, 300))")
    seen = "(() => { const row = [...document.querySelectorAll('article.row')].find((row) => row.getBoundingClientRect().top > 250); return [row.dataset.key, Math.round(row.getBoundingClientRect().top)]; })()"
    before = page.evaluate(seen)
    say("number 41", "number 42")
    pill = page.get_by_role("button", name="2 new ↓")
    expect(pill).to_be_visible()
    assert page.evaluate(seen) == before
    pill.click()
    expect(row(page, "number 42")).to_be_in_viewport()
    expect(follow).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("f")
    expect(follow).to_have_attribute("aria-pressed", "false")


def test_nothing_moves_under_a_selection(open_page, live):
    name, say = live
    say(*[f"line {n}\n\nof several" for n in range(30)])
    page = open_page(f"/?task={name}")
    settled(page)
    last = row(page, "line 29").locator(".text p").first
    last.dblclick(position={"x": 8, "y": 8})
    top = last.bounding_box()["y"]
    say("something new")
    expect(page.get_by_role("button", name=re.compile("new ↓"))).to_be_visible()
    assert last.bounding_box()["y"] == top
    assert page.evaluate("getSelection().toString()").strip() != ""


def test_a_large_task_begins_with_its_last_thousand_records(open_page):
    page = open_page("/?task=task-large")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    settled(page)
    expect(row(page, "needle-in-the-haystack")).to_be_in_viewport()
    assert any("/stream?" in url and "tail=1000" in url for url in asked)
    assert not any("order=desc" in url for url in asked)
    # What is read stays where it is while earlier records come in above.
    place = "(() => { const row = [...document.querySelectorAll('article.row')].find((row) => row.getBoundingClientRect().top > 480); return [row.dataset.key, Math.round(row.getBoundingClientRect().top)]; })()"
    held = []
    page.route(re.compile("order=desc"), lambda route: held.append(route))
    with page.expect_request(lambda request: "order=desc" in request.url and "limit=1000" in request.url):
        page.evaluate("document.querySelector('.task-scroll').scrollTo(0, 60)")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    before = page.evaluate(place)
    height = page.evaluate("document.querySelector('.conversation').clientHeight")
    held[0].continue_()
    page.wait_for_function("(height) => document.querySelector('.conversation').clientHeight > height + 5000", arg=height)
    after = page.evaluate("(key) => { const row = document.querySelector(`article.row[data-key='${key}']`); return row && Math.round(row.getBoundingClientRect().top); }", before[0])
    assert after is not None and abs(after - before[1]) <= 1


def test_a_cut_connection_is_taken_up_where_it_was(open_page, tmp_path_factory):
    service = Service(tmp_path_factory.mktemp("cut")).start()
    try:
        name = "task-cut"
        service.publish(event("task:created", name, input_message="Go on"), event("task:started", name), event("task:output", name, content="before the cut"))
        open_page.watched.expected.append("ERR_")
        page = open_page(f"/?task={name}", of=service)
        expect(row(page, "before the cut")).to_be_visible()
        service.stop()
        expect(page.locator(".connection")).to_have_text("reconnecting…")
        service.start()
        with page.expect_request(lambda request: "/stream?" in request.url and "after=" in request.url, timeout=40_000):
            pass
        service.publish(event("task:output", name, content="after the cut"))
        expect(row(page, "after the cut")).to_be_visible()
        expect(page.locator(".connection")).to_be_empty()
        assert page.locator("article.row").filter(has_text="before the cut").count() == 1
    finally:
        service.stop()


def test_the_stream_is_closed_while_nobody_sees_the_page(open_page, live):
    name, say = live
    page = open_page(f"/?task={name}")
    expect(row(page, "said before anybody looked")).to_be_visible()
    see = lambda hidden: page.evaluate("(hidden) => { Object.defineProperty(document, 'hidden', { configurable: true, value: hidden }); document.dispatchEvent(new Event('visibilitychange')); }", hidden)
    with page.expect_event("requestfailed", lambda request: "/stream?" in request.url):
        see(True)
    expect(page.locator(".connection")).to_have_text("paused while the tab is hidden")
    say("said while nobody looked")
    assert page.locator("article.row").filter(has_text="said while nobody looked").count() == 0
    with page.expect_request(lambda request: "/stream?" in request.url and "after=" in request.url):
        see(False)
    expect(row(page, "said while nobody looked")).to_be_visible()
    assert page.locator("article.row").filter(has_text="said before anybody looked").count() == 1


def test_a_log_that_was_replaced_is_read_anew(open_page, service):
    folder = service.logs / "task-replaced"
    shutil.copytree(service.logs / "task-running", folder)
    page = open_page("/?task=task-replaced")
    expect(row(page, "I compare last night's run")).to_be_visible()
    output = folder / "03-agent-output.jsonl"
    other = folder / ".new"
    other.write_text('{"timestamp":"2026-02-10T09:00:00.000Z","type":"output","content":"another log altogether","id":"1-0"}\n')
    other.rename(output)
    expect(row(page, "another log altogether")).to_be_visible()
    assert page.locator("article.row").filter(has_text="I compare last night's run").count() == 0


def test_a_token_is_asked_for_and_kept_in_the_tab_alone(open_page, guarded):
    open_page.watched.expected.append("401")
    page = open_page("/?task=task-ordinary", of=guarded)
    dialog = page.get_by_role("dialog", name="API token")
    expect(dialog).to_be_visible()
    dialog.get_by_role("textbox").fill("wrong")
    dialog.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("dialog", name="API token")).to_contain_text("refused that token")
    page.get_by_role("dialog").get_by_role("textbox").fill("s3cret-token")
    page.keyboard.press("Enter")
    settled(page)
    expect(row(page, "I will look at how the client retries")).to_be_visible()
    kept = page.evaluate("({ local: JSON.stringify({ ...localStorage }), session: sessionStorage.getItem('task-logger.token'), cookies: document.cookie })")
    assert "s3cret" not in kept["local"] and kept["session"] == "s3cret-token" and kept["cookies"] == ""
    assert "s3cret" not in page.url
    with page.expect_request(lambda request: "/stream" in request.url) as asked:
        page.reload()
    assert asked.value.header_value("authorization") == "Bearer s3cret-token"
    settled(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="metadata.json").click()
    assert '"task-ordinary"' in open(download.value.path()).read()
    page.locator("summary[title='Download what is shown']").click()
    page.get_by_role("button", name="Copy as curl").click()
    expect(page.locator("#toast")).to_have_text("Command copied")
    command = page.evaluate("navigator.clipboard.readText()")
    assert '"Authorization: Bearer $API_TOKEN"' in command and "s3cret" not in command


def test_all_records_can_be_loaded(open_page):
    page = open_page("/?task=task-large")
    settled(page)
    page.get_by_role("button", name="Load all").click()
    page.wait_for_selector(".loaded-count:empty", state="attached", timeout=180_000)
    page.wait_for_function("() => document.querySelector('article.kind-prompt') || (document.querySelector('.task-scroll').scrollTo(0, 1), false)", timeout=120_000)
    loaded = page.evaluate("document.querySelector('.conversation').getBoundingClientRect().height")
    assert loaded > LARGE_RECORDS * 10
