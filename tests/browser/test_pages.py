"""Every page in a browser: it loads alone, stands without JavaScript, is narrow enough, legible and accessible."""

from pathlib import Path

import pytest
import shown
from browsing import AXE, NARROW, WIDE, Browser, Mode, Written, missing, script
from harm import NAMES, named_diff

from bertprof import report

pytest_plugins = ("browser_fixtures",)
pytestmark = pytest.mark.slow

MODES: tuple[Mode, ...] = ("light", "dark")
SURVEY = ("table1", "table2", "methods")


@pytest.mark.parametrize("name", shown.PAGES)
def test_it_loads_with_the_network_off_and_nothing_to_complain_of(name: str, browser: Browser, written: Written):
    browser.open(written(name, shown.content(name)))
    assert browser.complaints() == []
    assert browser.requests() == []
    assert browser.run("return window.harmed ?? null") is None
    assert browser.run("return document.querySelectorAll('body img, body iframe, body object, body embed').length") == 0
    assert browser.run("return document.scripts.length") == 1
    assert browser.texts("h1")
    # A screen reader can say of every header what it is of.
    assert browser.run("return [...document.querySelectorAll('th')].filter((e) => !e.scope).length") == 0


def test_a_script_that_is_not_its_own_does_not_run(browser: Browser, written: Written):
    """If a name ever were no longer escaped: the policy of the page would still keep it from running."""
    planted = shown.content("breakdown").replace("</main>", "<script>window.harmed = 1</script></main>")
    browser.open(written("planted", planted))
    assert browser.run("return window.harmed ?? null") is None
    assert "script-src-elem" in browser.complaints()[-1]


def test_names_from_right_to_left_leave_before_before_after(browser: Browser, written: Written):
    content = report.render(named_diff(NAMES["right-to-left"]), Path("x.html")).decode()
    browser.open(written("right-to-left", content))
    before, after = browser.run(
        "return [...document.querySelectorAll('h1 bdi')].map((e) => e.getBoundingClientRect().x)"
    )
    assert before < after


@pytest.mark.parametrize("name", shown.PAGES)
def test_without_javascript_the_tables_stand_in_a_narrow_window(name: str, browser: Browser, written: Written):
    browser.open(written(name, shown.content(name)), NARROW, scripts=False)
    explorers = browser.run("return document.querySelectorAll('.explorer:has(table.grid)').length")
    assert len(browser.texts("table.grid caption")) >= explorers >= 1
    assert browser.texts(".tools, .tools *") == []
    links = browser.run("return [...document.querySelectorAll('a[data-record]')].map((a) => a.href.slice(0, 29))")
    assert set(links) == {"data:application/gzip;base64,"}
    assert len(links) == (1 if name in shown.ONE else len(shown.SEVERAL[name]()))
    assert sideways(browser) == []


@pytest.mark.parametrize("name", shown.PAGES)
def test_a_narrow_window_scrolls_no_page_sideways(name: str, browser: Browser, written: Written):
    browser.open(written(name, shown.content(name)), NARROW)
    assert sideways(browser) == []


PLACED = """
const table = document.querySelector(".explorer .view[open] table.grid");
const scroll = table.closest(".scroll");
scroll.scrollLeft = arguments[0];
const { right } = table.querySelector("tbody th").getBoundingClientRect();
const end = scroll.getBoundingClientRect().right;
return [...table.querySelectorAll("tr.groups th")]
  .filter((th) => th.checkVisibility())
  .map((th) => [th.getBoundingClientRect(), th.firstChild.getBoundingClientRect()])
  .filter(([group, name]) => group.right - name.width - 8 > right && group.left < end)
  .map(([group, name]) => [Math.round(right), Math.round(name.left), Math.round(group.right)]);
"""


def test_in_a_narrow_window_the_name_of_a_group_of_columns_is_beside_the_names_of_rows(
    browser: Browser, written: Written
):
    """As long as there is room in what is seen of the group: it is not below the first column, which stands still."""
    browser.open(written("breakdown", shown.content("breakdown")), NARROW)
    for scrolled in range(0, 400, 50):
        placed = browser.run(PLACED, scrolled)
        assert placed
        for rows_end, left, group_end in placed:
            assert rows_end <= left < group_end, scrolled


def sideways(browser: Browser) -> list[str]:
    """What is broader than a narrow window, or that the page is."""
    width = browser.run("return document.documentElement.scrollWidth")
    return [*browser.run(script("too_wide")), *([f"{width} px"] if width > NARROW else [])]


SHORT = [name for name in shown.PAGES if not name.endswith("-long")]


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.parametrize("mode", MODES)
def test_texts_are_told_from_what_is_behind_them(name: str, mode: Mode, browser: Browser, written: Written):
    """WCAG 2.2, 1.4.3: 4.5 to 1, of large texts as well, and on the bars behind figures."""
    browser.open(written(name, shown.content(name)), mode=mode)
    unfold(browser)
    found = browser.run(script("contrasts"))
    assert found["texts"] > 20
    assert found["poor"] == []


@pytest.mark.parametrize("name", SHORT)
def test_nothing_serious_stands_in_the_way_of_anyone(name: str, browser: Browser, written: Written):
    """What axe-core finds: names of controls and regions, headers of tables, order of headings, contrast, focus."""
    assert violations(browser, written(name, shown.content(name)), "light", []) == []


@pytest.mark.parametrize("name", ["breakdown", "diff", "several", *SURVEY])
def test_nor_does_it_in_the_dark(name: str, browser: Browser, written: Written):
    """By its rule on colours: all else is as in the light."""
    assert violations(browser, written(name, shown.content(name)), "dark", ["color-contrast"]) == []


UNFOLD = """
for (const each of document.querySelectorAll("details:not([hidden])")) each.open = true;
const tip = [...document.querySelectorAll(".tip[data-tip]")].find((e) => e.checkVisibility());
tip?.focus();
return !tip || document.querySelector("#tip-box").checkVisibility();
"""


def unfold(browser: Browser) -> None:
    """Opens whatever can be opened, and the first tip."""
    assert browser.run(UNFOLD)


def violations(browser: Browser, page: Path, mode: Mode, rules: list[str]) -> list[list[object]]:
    """The serious and critical ones; by these rules, or by all."""
    if not AXE.is_file():
        missing("no axe-core; `make .venv/axe` fetches it with npm")
    browser.open(page, mode=mode)
    unfold(browser)
    browser.run(AXE.read_text())
    found = browser.driver.execute_async_script(script("violations"), rules)
    return [each for each in found if each[0] not in ("minor", "moderate")]


@pytest.mark.parametrize("name", ["breakdown", "diff", "several", *SURVEY])
def test_on_paper_stand_the_tables_and_no_controls(name: str, browser: Browser, written: Written):
    browser.open(written(name, shown.content(name)), mode="dark", media="print")
    assert browser.run("return [...document.querySelectorAll('table.grid')].some((t) => t.checkVisibility())")
    assert browser.texts(".tools, #tip-box, a.button") == []
    paper, ink = browser.run("const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]")
    assert (paper, ink) == ("rgb(255, 255, 255)", "rgb(0, 0, 0)")
    assert browser.run(
        "return [...document.querySelectorAll('.scroll')].every((e) => getComputedStyle(e).overflowX === 'visible')"
    )
    pdf = browser.tell("Page.printToPDF")["data"]
    assert len(pdf) > 10_000


@pytest.mark.parametrize("name", ["breakdown", "diff", "several", *SURVEY])
def test_the_keyboard_reaches_every_control_in_order(name: str, browser: Browser, written: Written):
    browser.open(written(name, shown.content(name)), WIDE)
    wanted = browser.run(script("focusable"), False)
    reached = []
    for _ in wanted:
        browser.press("Tab")
        reached.append(browser.run(script("focusable"), True))
    assert reached == wanted
    assert browser.run("return getComputedStyle(document.activeElement).outlineStyle") != "none"
