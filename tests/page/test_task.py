"""A task as a conversation: what is shown, and what one can do with it."""

import json
import re
import urllib.parse

import pytest
from playwright.sync_api import expect

from conftest import row, settled
from tasks import LARGE_RECORDS

ORDINARY = "/?task=task-ordinary"


@pytest.fixture
def page(open_page):
    opened = open_page(ORDINARY)
    settled(opened)
    return opened


def shown(page) -> list[str]:
    return page.locator("article.row").evaluate_all("(rows) => rows.map((row) => /kind-(\\w+)/.exec(row.className)[1])")


def test_everything_stands_where_it_happened(page):
    assert shown(page)[:7] == ["prompt", "webhook", "knowledge", "thinking", "text", "tool", "tool"]
    page.keyboard.press("G")
    expect(row(page, "Result")).to_be_visible()
    kinds = shown(page)
    assert kinds[-1] == "result" and "user" in kinds and "gap" in kinds
    assert kinds.index("user") < kinds.index("gap")
    expect(row(page, "Yes, but keep the limit")).to_contain_text("approval")


def test_thinking_is_folded_and_opens(page):
    thinking = page.locator("article.kind-thinking").first
    expect(thinking.locator(".detail")).to_have_count(0)
    expect(thinking).to_contain_text("The retry loop must be in the HTTP client.")
    thinking.get_by_role("button", name=re.compile("Thinking")).click()
    expect(thinking.locator(".detail")).to_contain_text("I look for it first")
    page.reload()
    expect(page.locator("article.kind-thinking .detail").first).to_be_visible()


def test_a_call_is_paired_with_its_result(page):
    call = row(page, "cat .env && npm test")
    expect(call.locator(".tool-name")).to_have_text("Bash")
    expect(call.locator(".took")).to_have_text("3.4 s")
    expect(call.locator(".state-ok")).to_be_visible()
    expect(call.locator(".detail")).to_have_count(0)
    call.locator(".fold").click()
    expect(call.locator(".result")).to_contain_text("test/client.test.ts (14 tests)")
    expect(call.locator(".result .fg-2")).to_have_text(re.compile("PASS"))
    expect(call.locator(".result .redacted").first).to_have_text("[REDACTED:aws_access_key]")
    assert page.locator("article.row").filter(has_text="14 tests").count() == 1


def test_failures_are_open_and_red(page):
    failure = row(page, "npm run lint")
    expect(failure).to_have_class(re.compile("failed"))
    expect(failure.locator(".state-failed")).to_have_text("exit 1")
    expect(failure.locator(".result-failed")).to_contain_text("Unexpected continue")
    expect(failure.locator(".result .fg-1").first).to_be_visible()


def test_an_edit_shows_what_it_takes_out_and_puts_in(page):
    edit = page.locator("article.kind-tool").filter(has_text="Edit").first
    edit.scroll_into_view_if_needed()
    edit.locator(".fold").click()
    expect(edit.locator(".diff .out")).to_contain_text("continue;")
    expect(edit.locator(".diff .in").nth(1)).to_contain_text("pause(backoff(attempt))")


def test_a_gap_is_seen_with_its_reason(page):
    gap = page.locator("article.kind-gap")
    gap.scroll_into_view_if_needed()
    expect(gap).to_contain_text("task:output is missing here: bad json")


def test_the_webhook_is_a_strip_with_latencies(page):
    strip = page.locator("article.kind-webhook")
    expect(strip.locator(".step-name")).to_have_text(["received", "validated", "matched", "task created"])
    expect(strip.locator(".step-wait")).to_have_text(["20 ms", "310 ms", "50 ms"])
    strip.get_by_role("button", name="Details").click()
    expect(strip.locator(".detail")).to_contain_text("github-issue-handler")


def test_long_silences_and_sub_agents_are_marked(page):
    page.keyboard.press("G")
    expect(page.locator(".pause", has_text="5m 00s later")).to_be_visible()
    expect(page.locator("article.row.nested")).to_contain_text("no upper bound")


def test_the_head_tells_how_it_stands(page):
    head = page.locator(".task-head")
    expect(head.get_by_role("heading", level=1)).to_have_text("Issue 214: after a 503 the client retries without a pause. Please fix it.")
    fact = lambda name: head.locator(".fact").filter(has=page.locator("dt", has_text=re.compile(f"^{name}$"))).locator("dd")
    expect(head.locator(".chip").first).to_have_text("completed")
    expect(fact("Elapsed")).to_have_text("6m 21s")
    expect(fact("Turns")).to_have_text("5")
    expect(fact("Tokens")).to_have_text("13.3k in · 482 out")
    expect(fact("Cost")).to_have_text("$0.041")
    expect(fact("Errors")).to_have_text("1")
    expect(fact("Redactions")).to_have_text("5")


def test_the_panel_tells_redactions_by_rule_tools_and_plugins(page):
    panel = page.get_by_role("complementary", name="Details of the task")
    rules = panel.locator("section").filter(has_text="Redactions").locator("li")
    expect(rules).to_have_text([re.compile("password.*2"), re.compile("aws_access_key.*1"), re.compile("url_password.*1"), re.compile("secret.*1")])
    expect(panel.locator("section").filter(has_text="Processed by").locator("li")).to_have_text([re.compile("redact 0.1.0"), re.compile("usage 0.1.0")])
    expect(panel.get_by_role("row", name=re.compile("Bash 2 1"))).to_be_visible()
    panel.get_by_role("button", name="aws_access_key").click()
    expect(page.locator("article.current")).to_contain_text("[REDACTED:aws_access_key]")


def test_files_can_be_downloaded(page, service):
    with page.expect_download() as download:
        page.get_by_role("link", name="04-final-result.json").click()
    assert download.value.suggested_filename == "04-final-result.json"
    assert json.loads(open(download.value.path()).read())["success"] is True


def test_the_timeline_shortens_silences_and_leads_to_records(page):
    bar = page.get_by_role("slider", name="Timeline: position in the task")
    page.wait_for_selector(".timeline-window:not([hidden])")
    box = bar.bounding_box()
    # Five silent minutes of six take next to nothing: what is at the middle is no silence.
    at = lambda share: bar.click(position={"x": box["width"] * share, "y": box["height"] * 0.75})
    at(0.5)
    first = page.locator("article.current").get_attribute("data-key")
    at(0.97)
    expect(page.locator("article.current")).not_to_have_attribute("data-key", first)
    expect(page.locator("article.current")).to_be_in_viewport()
    bar.focus()
    page.keyboard.press("Home")
    expect(page.locator("article.current")).to_have_class(re.compile("kind-webhook"))


def test_filters_count_what_they_show_and_hide(page):
    chips = page.get_by_role("group", name="Kinds of records")
    expect(chips.get_by_role("button", name=re.compile("^All"))).to_contain_text("25")
    expect(chips.get_by_role("button", name=re.compile("^Tools"))).to_contain_text("12")
    chips.get_by_role("button", name=re.compile("^Thinking")).click()
    expect(page).to_have_url(re.compile("kind=thinking"))
    expect(page.locator(".hidden-count")).to_contain_text("23 records hidden")
    expect(page.locator("article.row")).to_have_count(2)
    chips.get_by_role("button", name=re.compile("^Gaps")).click()
    expect(page.locator("article.row")).to_have_count(3)
    page.get_by_role("button", name="Show all").click()
    expect(page.locator(".hidden-count")).to_be_empty()
    page.get_by_label("Tool", exact=True).select_option("Bash")
    expect(page.locator("article.row")).to_have_count(2)
    page.get_by_label("Level").select_option("error")
    expect(page.locator("article.row")).to_have_count(1)
    page.reload()
    expect(page.locator("article.row")).to_have_count(1)
    expect(page.get_by_label("Level")).to_have_value("error")


def test_a_search_counts_steps_and_shows_its_hits_in_context(page):
    page.keyboard.press("/")
    page.keyboard.type("retr")
    expect(page.locator(".find-count")).to_have_text(re.compile(r"\d+ hits"))
    total = int(re.match(r"\d+", page.locator(".find-count").text_content())[0])
    page.keyboard.press("Enter")
    expect(page.locator(".find-count")).to_have_text(f"1 of {total}")
    first = page.locator("article.current").get_attribute("data-key")
    page.locator(".find-input").blur()
    page.keyboard.press("n")
    expect(page.locator(".find-count")).to_have_text(f"2 of {total}")
    expect(page.locator("article.current")).not_to_have_attribute("data-key", first)
    page.keyboard.press("N")
    expect(page.locator("article.current")).to_have_attribute("data-key", first)
    assert page.evaluate("CSS.highlights.get('find').size") > 0
    page.get_by_role("button", name="Matches only").click()
    expect(page).to_have_url(re.compile("find=retr&only=1"))
    page.wait_for_function("(total) => { const rows = document.querySelectorAll('article.row').length; return rows > 0 && rows <= total; }", arg=total)
    hits = page.locator("article.row").count()
    assert 0 < hits <= total
    last = page.locator("article.row").last
    last.hover()
    last.get_by_role("button", name="View in context").click()
    expect(page).to_have_url(re.compile("find=retr#c="))
    expect(page.locator("article.marked")).to_be_in_viewport()
    assert page.locator("article.row").count() > hits


def test_a_search_may_be_a_regular_expression(page, open_page):
    open_page.watched.expected.append("400")
    page.get_by_role("button", name="Regular expression").click()
    page.locator(".find-input").fill("PASS|Exit code \\d")
    expect(page.locator(".find-count")).to_have_text("2 hits")
    page.locator(".find-input").fill("(")
    expect(page.locator(".find-count")).to_have_text("not a valid search")


def test_a_permalink_opens_at_its_record(page, open_page):
    target = row(page, "npm run lint")
    link = target.locator("a.when").get_attribute("href")
    assert re.fullmatch(r"#c=03-agent-output\.jsonl:\d+:\d+-\d+(,[\w.-]+:\d+)*", link), link
    target.locator("a.when").click()
    expect(page).to_have_url(re.compile(re.escape(link)))
    other = open_page(f"{ORDINARY}{link}")
    settled(other)
    marked = other.locator("article.marked")
    expect(marked).to_have_count(1)
    expect(marked).to_contain_text("npm run lint")
    expect(marked).to_be_in_viewport()


def test_a_shift_click_links_a_range(page, open_page):
    links = page.locator("article.row a.when")
    links.nth(1).click()
    links.nth(4).click(modifiers=["Shift"])
    expect(page).to_have_url(re.compile(r"#c=.+\.\..+"))
    expect(page.locator("article.marked")).to_have_count(4)
    other = open_page(page.url)
    settled(other)
    expect(other.locator("article.marked")).to_have_count(4)


def test_a_permalink_into_a_large_task_loads_only_around_it(open_page, service):
    middle = service.get("/tasks/task-large/logs?format=json&limit=1&clip=10&q=&order=asc&after=" + urllib.parse.quote(cursor_at(service, LARGE_RECORDS // 2)))
    page = open_page(f"/?task=task-large#c={middle['records'][0]['cursor']}")
    settled(page)
    expect(page.locator("article.marked")).to_be_in_viewport()
    page.keyboard.press("k")
    page.keyboard.press("k")
    expect(page.locator("article.current")).to_be_in_viewport()


def cursor_at(service, count: int) -> str:
    cursor = "0"
    while count > 0:
        limit = min(count, 10_000)
        cursor = service.get(f"/tasks/task-large/logs?format=json&clip=1&limit={limit}&after={urllib.parse.quote(cursor)}")["next"]
        count -= limit
    return cursor


def test_keys_lead_through_the_conversation(page):
    current = page.locator("article.current")
    page.keyboard.press("j")
    first = current.get_attribute("data-key")
    page.keyboard.press("j")
    expect(current).not_to_have_attribute("data-key", first)
    page.keyboard.press("k")
    expect(current).to_have_attribute("data-key", first)
    page.keyboard.press("e")
    expect(current).to_contain_text("npm run lint")
    page.keyboard.press("u")
    expect(current).to_contain_text("Yes, but keep the limit")
    page.keyboard.press("t")
    expect(current).to_contain_text("Edit")
    page.keyboard.press("T")
    expect(current).to_contain_text("npm run lint")
    page.keyboard.press("o")
    expect(current.locator(".detail")).to_have_count(0)
    page.keyboard.press("E")
    expect(page.locator("#toast")).to_have_text("No earlier failure")
    page.keyboard.press("x")
    expect(page.locator("article.kind-thinking .detail").first).to_be_visible()
    page.keyboard.press("g")
    expect(page.locator("article.kind-prompt")).to_be_in_viewport()
    page.keyboard.press("G")
    expect(page.locator("article.kind-result")).to_be_in_viewport()
    page.keyboard.press("d")
    expect(page.get_by_role("complementary")).to_be_hidden()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("i")
    expect(page).to_have_url(re.compile("/$"))


def test_keys_reach_what_is_not_loaded(open_page):
    page = open_page("/?task=task-large")
    settled(page)
    page.keyboard.press("g")
    expect(page.locator("article.kind-prompt")).to_be_in_viewport()
    failures = page.locator("article.current.failed")
    page.keyboard.press("e")
    expect(failures).to_have_count(1)
    expect(failures).to_be_in_viewport()
    page.keyboard.press("G")
    expect(row(page, "Done after a long time.")).to_be_in_viewport()


def test_records_can_be_copied_and_shown_as_json(page):
    text = row(page, "I will look at how the client retries")
    text.hover()
    text.get_by_role("button", name="Copy record as JSON").click()
    expect(page.locator("#toast")).to_have_text("Record copied")
    record = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert record["type"] == "output" and record["message_id"] == "msg_A1"
    text.get_by_role("button", name="Show as JSON").click()
    expect(page.locator("article.row .json").first).to_contain_text('"message_id": "msg_A1"')


def test_what_is_filtered_can_be_downloaded_and_asked_for_by_curl(page):
    page.get_by_label("Tool", exact=True).select_option("Bash")
    expect(page.locator("article.row")).to_have_count(2)
    open_menu = lambda: page.locator("summary[title='Download what is shown']").click()
    open_menu()
    with page.expect_download() as download:
        page.get_by_role("button", name="NDJSON").click()
    lines = open(download.value.path()).read().splitlines()
    assert len(lines) == 4 and all('"name":"Bash"' in line for line in lines)
    open_menu()
    page.get_by_role("button", name="Copy as curl").click()
    expect(page.locator("#toast")).to_have_text("Command copied")
    command = page.evaluate("navigator.clipboard.readText()")
    assert re.fullmatch(r"curl -sS 'http://127\.0\.0\.1:\d+/tasks/task-ordinary/logs\?format=ndjson&tool=Bash'", command), command


def test_times_are_those_since_the_start_or_of_the_day(page):
    when = row(page, "npm run lint").locator("a.when")
    expect(when).to_have_text("+0:06.6")
    page.get_by_role("button", name=re.compile("Switch between times")).click()
    expect(when).to_have_text("09:00:06.6")


def test_an_unknown_task_is_said_to_be_none(open_page):
    open_page.watched.expected.append("404")
    page = open_page("/?task=nobody")
    expect(page.get_by_role("heading", name="No such task")).to_be_visible()
