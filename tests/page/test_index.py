"""The list of tasks, the search over all of them, the plugins."""

import re
import time

from playwright.sync_api import expect

from service import event


def test_the_list_tells_of_each_task_what_one_wants_to_know(open_page):
    page = open_page("/")
    first = page.locator(".task-row").filter(has_text="task-ordinary")
    expect(first.get_by_role("link")).to_have_text("Issue 214: after a 503 the client retries without a pause. Please fix it.")
    expect(first.get_by_role("img", name="completed")).to_be_visible()
    expect(first.locator(".chip", has_text="github")).to_be_visible()
    expect(first.locator(".chip", has_text="brain")).to_be_visible()
    expect(first.locator(".cost-cell")).to_have_text("$0.041")
    expect(first.locator(".took-cell")).to_have_text("6m 21s")
    expect(first.locator(".tokens-cell")).to_have_text("13.8k")
    expect(first.locator(".errors")).to_contain_text("1")
    expect(page.get_by_role("searchbox", name="Search all tasks and logs")).to_be_visible()
    expect(page.locator(".segment", has_text="Running")).to_contain_text("1")


def test_a_running_task_counts_its_seconds(open_page):
    page = open_page("/")
    took = page.locator(".task-row").filter(has_text="task-running").locator(".took-cell")
    before = took.text_content()
    page.wait_for_function("(before) => [...document.querySelectorAll('.task-run .took-cell')].some((cell) => cell.textContent !== before)", arg=before)


def test_filters_stand_in_the_url_and_survive_a_reload(open_page):
    page = open_page("/")
    page.locator(".segment", has_text="Failed").click()
    expect(page).to_have_url(re.compile(r"\?status=failed$"))
    expect(page.locator(".task-row .dot-ok")).to_have_count(0)
    page.get_by_label("Source").select_option("jira")
    expect(page).to_have_url(re.compile(r"status=failed&source=jira"))
    page.get_by_label("Order").select_option("created")
    page.reload()
    expect(page.locator(".segment[aria-pressed=true]")).to_contain_text("Failed")
    expect(page.get_by_label("Source")).to_have_value("jira")
    expect(page.get_by_label("Order")).to_have_value("created")
    expect(page.locator(".task-row .sub .chip").first).to_have_text("jira")
    created = page.locator(".task-row time").evaluate_all("(times) => times.map((time) => time.dateTime)")
    assert created == sorted(created) and len(created) > 1


def test_typing_filters_by_title_and_id_at_once(open_page):
    page = open_page("/")
    page.keyboard.press("/")
    page.keyboard.type("OPS-881")
    expect(page.locator(".task-row")).to_have_count(1)
    expect(page).to_have_url(re.compile(r"q=OPS-881"))
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".task-row")).to_have_count(100)


def test_tasks_with_errors_can_be_had_alone(open_page):
    page = open_page("/")
    page.locator(".segment", has_text="With errors").click()
    expect(page).to_have_url(re.compile("errors=true"))
    expect(page.locator(".task-row")).not_to_have_count(100)
    expect(page.locator(".task-row").filter(has_text="task-ordinary")).to_be_visible()
    assert page.locator(".task-row").count() == page.locator(".task-row .errors").count()


def test_scrolling_loads_all_pages(open_page, service):
    total = service.get("/tasks?limit=1")["total"]
    page = open_page("/")
    expect(page.locator(".task-row")).to_have_count(100)
    deadline = time.monotonic() + 20
    while page.locator(".task-row").count() < total:
        assert time.monotonic() < deadline
        page.locator(".index-scroll").evaluate("(each) => each.scrollTo(0, each.scrollHeight)")
    ids = page.locator(".task-row").evaluate_all("(rows) => rows.map((row) => row.dataset.id)")
    assert len(ids) == len(set(ids)) == total


def test_a_task_appears_and_changes_without_a_reload(open_page, service):
    page = open_page("/")
    page.wait_for_selector(".task-row")
    name = f"live-{time.time_ns()}"
    service.publish(event("task:created", name, source="api", assigned_agent="brain", input_message=f"Watch {name}"), event("task:started", name))
    shown = page.locator(".task-row").filter(has_text=name)
    expect(shown.get_by_role("img", name="running")).to_be_visible()
    service.publish(event("task:completed", name, result="done", cost_usd=0.5, duration_seconds=2))
    expect(shown.get_by_role("img", name="completed")).to_be_visible()
    expect(shown.locator(".cost-cell")).to_have_text("$0.50")


def test_new_tasks_do_not_move_the_list_under_the_reader(open_page, service):
    page = open_page("/")
    page.wait_for_selector(".task-row")
    page.locator(".index-scroll").evaluate("(each) => each.scrollTo(0, 600)")
    where = lambda: page.locator(".task-row").nth(12).evaluate("(row) => [row.dataset.id, row.getBoundingClientRect().top]")
    before = where()
    name = f"later-{time.time_ns()}"
    service.publish(event("task:created", name, source="api", input_message="Later"), event("task:started", name))
    pill = page.get_by_role("button", name=re.compile(r"\d+ new tasks?"))
    expect(pill).to_be_visible()
    assert where() == before
    pill.click()
    expect(page.locator(".task-row").filter(has_text=name)).to_be_visible()
    expect(pill).to_be_hidden()


def test_search_looks_into_all_logs_and_leads_to_the_record(open_page):
    page = open_page("/")
    page.get_by_role("searchbox", name="Search all tasks and logs").fill("exponential backoff")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"\?search=exponential"))
    hit = page.locator("a.hit").first
    expect(hit.locator("mark")).to_have_text("exponential backoff")
    expect(page.get_by_role("status").filter(has_text="1 hit")).to_be_visible()
    hit.click()
    expect(page).to_have_url(re.compile(r"task=task-ordinary.*#c=03-agent-output\.jsonl:\d+"))
    marked = page.locator("article.row.marked")
    expect(marked).to_have_count(1)
    expect(marked).to_contain_text("exponential backoff")
    expect(marked).to_be_in_viewport()


def test_a_search_that_finds_nothing_says_so(open_page):
    page = open_page("/?search=nothing-of-this-kind-anywhere")
    expect(page.get_by_role("status").filter(has_text="No hits")).to_be_visible()


def test_the_plugins_are_shown_with_chain_generation_and_verdicts(open_page, service):
    name = f"plugins-{time.time_ns()}"
    service.publish(event("task:created", name, input_message="x"), event("task:output", name, content="password=hunter2hunter2"), event("task:completed", name, result="x"))
    report = service.get("/plugins")
    page = open_page("/?view=plugins")
    expect(page.get_by_text(f"Generation {report['generation']}").first).to_be_visible()
    expect(page.locator(".chain-name")).to_have_text(report["chain"])
    card = page.locator(".plugin-card").filter(has_text="redact").first
    expect(card.locator(".chip", has_text="live")).to_be_visible()
    expect(card.locator(".verdict-list")).to_contain_text("passed")
    expect(card.get_by_text("SHA-256")).to_be_visible()


def test_the_last_refusal_of_a_plugin_is_shown(open_page):
    report = {
        "generation": 4, "generations_alive": 1, "chain_digest": "17596f00f676", "chain": ["redact"], "required": ["redact"], "missing": [], "blocked": None, "stopped": {},
        "plugins": [{"file": "redact.wasm", "path": "/plugins/redact.wasm", "state": "live", "name": "redact", "version": "0.1.0", "role": "redactor", "generation": 4, "events": {"pass": 3, "quarantine": 1}, "refused": {"reason": "it imports wasi:sockets <b>x</b>", "effect": "the version before it runs", "seconds_ago": 3, "since": "2026-02-10T09:00:00Z"}}],
    }
    page = open_page("/?view=plugins&refused")
    page.route("**/plugins", lambda route: route.fulfill(json=report))
    page.reload()
    expect(page.locator(".banner-bad")).to_contain_text("it imports wasi:sockets <b>x</b>")
    expect(page.locator(".verdict-list")).to_contain_text("quarantined")
