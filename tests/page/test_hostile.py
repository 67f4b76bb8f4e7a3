"""Logs that mean harm, and logs that are too large: inert, and no burden."""

import re

from playwright.sync_api import expect

from conftest import row, settled


def inert(page):
    """Nothing of a log became an element, a script, a request or a title."""
    assert page.evaluate("globalThis.pwned") is None
    inside = page.evaluate("""[...document.querySelectorAll('main *, .crumb *')].filter((each) => each.matches('script, iframe, object, embed, form, link, style, base, meta, b, i, u, video, audio')
        || (each.matches('img') && !each.src.startsWith('data:image/'))
        || (each.matches('a') && !/^(\\/|#)/.test(each.getAttribute('href') ?? ''))
        || [...each.attributes].some(({ name }) => /^on/.test(name))).map((each) => each.outerHTML.slice(0, 200))""")
    assert inside == []
    assert "PWNED" not in page.title()


def test_hostile_texts_are_inert_wherever_they_are_shown(open_page):
    page = open_page("/?task=task-hostile")
    settled(page)
    page.keyboard.press("x")
    for key in ("j",) * 24:
        page.keyboard.press(key)
        inert(page)
    page.keyboard.press("g")
    for summary in page.locator(".details summary").all():
        summary.click()
    inert(page)
    for at in range(page.locator("article.row").count()):
        target = page.locator("article.row").nth(at)
        if target.get_by_role("button", name="Show as JSON").count() > 0:
            target.hover()
            target.get_by_role("button", name="Show as JSON").click()
            break
    inert(page)
    page.goto("/")
    page.wait_for_selector(".task-row")
    inert(page)
    page.goto("/?search=window.pwned")
    page.wait_for_selector("a.hit")
    inert(page)


def test_colours_are_shown_and_other_sequences_are_not_obeyed(open_page):
    page = open_page("/?task=task-hostile")
    settled(page)
    text = page.locator("article.kind-text").first
    expect(text.locator(".fg-1").first).to_have_text("red")
    expect(text.locator(".fg-own")).to_have_text("true")
    shown = text.locator(".text").text_content()
    assert "\x1b" not in shown and "\x07" not in shown and "\x9b" not in shown and "\x00" not in shown
    assert "evil.invalid/\x1b" not in shown and "PWNED" not in shown
    assert "click" in shown and "moved" in shown
    page.keyboard.press("G")
    expect(page.locator("article.row").filter(has_text="next line")).to_have_count(1)


def test_characters_that_turn_or_hide_text_become_signs(open_page):
    page = open_page("/?task=task-hostile")
    settled(page)
    text = page.locator("article.kind-text").first
    for name in ("RLO", "LRI", "PDI", "ZWSP", "BOM", "TAG:ignore", "BEL", "NUL"):
        expect(text.locator(".control", has_text=re.compile(f"^{name}$")).first).to_be_visible()
    everything = page.evaluate("document.documentElement.textContent")
    where = page.evaluate("[...document.querySelectorAll('*')].filter((each) => [...each.childNodes].some((node) => node.nodeType === 3 && /[\\u202a-\\u202e\\u2066-\\u2069\\u200b]/.test(node.data))).map((each) => each.outerHTML.slice(0, 300))")
    assert where == []
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b]", everything)


def test_markdown_makes_no_links_and_no_images(open_page):
    page = open_page("/?task=task-hostile")
    settled(page)
    text = row(page, "[link](javascript:alert(1))")
    expect(text.locator("strong")).to_have_text("bold")
    expect(text.locator(".code pre")).to_have_text("<script>window.pwned = 4</script>")
    expect(text).to_contain_text("<u>under</u>")
    inert(page)


def test_a_record_of_megabytes_is_fetched_only_when_asked_for(open_page):
    page = open_page("/?task=task-heavy")
    asked: list[tuple[str, str | None]] = []
    page.on("request", lambda request: asked.append((request.url, request.headers.get("range"))))
    page.reload()
    settled(page)
    large = row(page, "/var/log/large.log")
    large.locator(".fold").click()
    expect(large.locator(".result")).to_contain_text("line 3 of a large file")
    assert all(wanted is None for _, wanted in asked)
    with page.expect_response(lambda answer: answer.status == 206) as whole:
        large.get_by_role("button", name=re.compile("Show all · 1.2 MB")).click()
    assert re.fullmatch(r"bytes=\d+-\d+", whole.value.request.headers["range"])
    expect(large.locator(".large")).to_contain_text("line 19999 of a large file")


def test_ten_megabytes_in_one_line_do_not_freeze_the_page(open_page):
    page = open_page("/?task=task-heavy")
    settled(page)
    line = page.locator("article.kind-text").filter(has_text="zzzzzzzzzz").first
    line.scroll_into_view_if_needed()
    page.evaluate("longTasks.length = 0")
    line.get_by_role("button", name=re.compile("Show all · 10.0 MB")).click()
    page.wait_for_function("() => document.querySelector('.large')?.textContent.length === 10000000", timeout=60_000)
    longest = max((task["duration"] for task in page.evaluate("longTasks")), default=0)
    print(f"ten megabytes: longest task {longest:.0f} ms")
    assert longest < 250
    page.keyboard.press("G")
    expect(row(page, "The end of it.")).to_be_visible()


def test_blobs_are_shown_as_their_size(open_page):
    page = open_page("/?task=task-heavy")
    settled(page)
    expect(row(page, "A blob in a text").locator(".blob-size")).to_have_text(re.compile("base64 · "))
    page.keyboard.press("G")
    expect(row(page, "The end of it.")).to_be_in_viewport()
    page.keyboard.press("T")
    picture = page.locator("article.current")
    expect(picture).to_contain_text("its call is not loaded")
    picture.locator(".fold").click()
    expect(picture.locator(".blob-size")).to_have_text(re.compile("image/png · "))
    expect(picture.locator("img")).to_have_count(0)
    picture.get_by_role("button", name="preview").first.click()
    expect(picture.locator("img.blob-image")).to_be_visible()
    assert picture.locator("img").evaluate("async (image) => { await image.decode(); return image.naturalWidth; }") == 10


def test_no_fault_in_the_policy(open_page):
    page = open_page("/")
    answer = page.request.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert page.evaluate("(async () => { try { await fetch('https://example.com/'); return 'sent'; } catch { return 'refused'; } })()") == "refused"
    open_page.watched.expected += ["example.com", "left the origin"]
    refused = page.evaluate("(() => { try { document.createElement('div').innerHTML = '<b>x</b>'; return 'parsed'; } catch { return 'refused'; } })()")
    assert refused == "refused"
    open_page.watched.expected += ["TrustedHTML", "Trusted"]
