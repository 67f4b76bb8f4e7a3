"""How the page looks: themes, narrow screens, accessibility, and pictures for people to look at (target/page/*.png)."""

import re

import pytest
from playwright.sync_api import expect

from conftest import ROOT, row, screenshot, settled

AXE = ROOT / "target/page/axe/node_modules/axe-core/axe.min.js"
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
VIEWS = {
    "index": "/",
    "task": "/?task=task-ordinary",
    "hostile": "/?task=task-hostile",
    "search": "/?search=retry",
    "plugins": "/?view=plugins",
}


def ready(page):
    page.wait_for_selector(".task-row, article.row, a.hit, .plugin-card")
    if "task=" in page.url:
        settled(page)
    page.wait_for_load_state("networkidle") if "view=" in page.url or "search=" in page.url else None
    page.evaluate("document.fonts.ready")
    page.evaluate("new Promise((done) => setTimeout(done, 400))")


def faults(page) -> list[str]:
    """What axe calls serious or critical."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{fault['impact']} {fault['id']}: {node['target']} {node.get('failureSummary', '')}"
        for fault in found["violations"] if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_serious(open_page, view, scheme):
    page = open_page(VIEWS[view], color_scheme=scheme, reduced_motion="reduce", bypass_csp=True)
    ready(page)
    screenshot(page, f"{view}-{scheme}")
    assert faults(page) == []
    if "task=" in VIEWS[view]:
        page.keyboard.press("x")
        page.keyboard.press("j")
        page.evaluate("new Promise((done) => setTimeout(done, 400))")
        screenshot(page, f"{view}-open-{scheme}")
        assert faults(page) == []
        page.keyboard.press("?")
        assert faults(page) == []


@pytest.mark.parametrize("view", VIEWS)
def test_a_phone_shows_all_without_scrolling_sideways(open_page, view):
    page = open_page(VIEWS[view], color_scheme="dark" if view == "index" else "light", bypass_csp=True, reduced_motion="reduce", **PHONE)
    ready(page)
    screenshot(page, f"{view}-phone")
    wide = page.evaluate("[document.documentElement, ...document.querySelectorAll('.index-scroll, .task-scroll')].filter((each) => each.scrollWidth > each.clientWidth + 1).map((each) => `${each.className} ${each.scrollWidth}`)")
    assert wide == []
    assert faults(page) == []
    expect(page.get_by_role("searchbox", name="Search all tasks and logs")).to_be_visible()


def test_the_panel_opens_on_a_phone(open_page):
    page = open_page("/?task=task-ordinary", **PHONE)
    settled(page)
    expect(page.get_by_role("complementary")).to_be_hidden()
    page.get_by_role("button", name="Show or hide details").tap()
    expect(page.get_by_role("complementary")).to_be_visible()


def test_the_theme_follows_the_system_until_one_is_chosen(open_page):
    page = open_page("/", color_scheme="dark")
    ground = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")
    dark = ground()
    page.emulate_media(color_scheme="light")
    light = ground()
    assert dark != light
    button = page.locator("#theme")
    button.click()
    assert ground() == light
    page.emulate_media(color_scheme="dark")
    assert ground() == light
    button.click()
    assert ground() == dark
    page.emulate_media(color_scheme="light")
    page.reload()
    assert ground() == dark
    button.click()
    assert ground() == light


def test_a_keyboard_reaches_everything_in_order(open_page):
    page = open_page("/?task=task-ordinary")
    settled(page)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    order = []
    for _ in range(14):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.textContent.trim().slice(0, 30)"))
    assert order[:4] == ["task-logger", "Tasks", "Plugins", "API"]
    assert order.index("Search all tasks and logs") < order.index("Search this task")
    landmarks = page.evaluate("['header', 'nav', 'main', 'aside'].map((name) => document.querySelectorAll(name).length > 0)")
    assert all(landmarks)


def test_fifty_thousand_records_scroll_without_a_long_task(open_page):
    page = open_page("/?task=task-large")
    settled(page)
    page.get_by_role("button", name="Load all").click()
    page.wait_for_selector(".loaded-count:empty", state="attached", timeout=180_000)
    page.wait_for_function("() => document.querySelector('article.kind-prompt') || (document.querySelector('.task-scroll').scrollTo(0, 1), false)", timeout=180_000)
    loading = max((task["duration"] for task in page.evaluate("longTasks")), default=0)
    page.evaluate("new Promise((done) => setTimeout(done, 1000))")
    page.evaluate("longTasks.length = 0")
    told = page.evaluate("""async () => {
        const scroller = document.querySelector('.task-scroll');
        const frames = [];
        let most = 0;
        let before = performance.now();
        const frame = () => new Promise((done) => requestAnimationFrame(done));
        // Through all of it in large steps, then some of it as a wheel does.
        const end = scroller.scrollHeight;
        for (let top = 0; top < end; top += 7001) {
            scroller.scrollTop = top;
            await frame();
            frames.push(performance.now() - before);
            before = performance.now();
            most = Math.max(most, document.querySelectorAll('article.row').length);
        }
        for (let step = 0; step < 300; step += 1) {
            scroller.scrollTop -= 120;
            await frame();
            frames.push(performance.now() - before);
            before = performance.now();
        }
        return { frames: frames.length, worst: Math.max(...frames), median: frames.sort((a, b) => a - b)[frames.length >> 1], most, height: end };
    }""")
    longest = max((task["duration"] for task in page.evaluate("longTasks")), default=0)
    print(f"50,000 records: {told['frames']} frames, median {told['median']:.1f} ms, worst {told['worst']:.0f} ms, longest task {longest:.0f} ms, at most {told['most']} rows; while loading {loading:.0f} ms")
    assert told["height"] > 500_000
    assert told["most"] < 200
    assert longest <= 100
    screenshot(page, "large-light")
    page.emulate_media(color_scheme="dark")
    page.keyboard.press("e")
    page.evaluate("new Promise((done) => setTimeout(done, 600))")
    screenshot(page, "large-dark")


def test_a_picture_of_a_task_that_runs(open_page, service):
    page = open_page("/?task=task-running", color_scheme="dark")
    settled(page)
    expect(row(page, "importctl timings").locator(".state-running")).to_be_visible()
    screenshot(page, "running-dark")
    assert re.search("running", page.locator(".task-head .chip").first.text_content())
