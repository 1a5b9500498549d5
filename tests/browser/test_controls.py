"""Each control of a page does what it says, by what is then seen; and every figure that is seen is the record's."""

import csv
import gzip
import io
import re
import time
from pathlib import Path
from statistics import median

import pytest
import shown
from browsing import MAIN, Browser, Table, Written

from bertprof import schema
from bertprof.components import GROUPS, Component
from bertprof.record import Breakdown, Cost

pytest_plugins = ("browser_fixtures",)
pytestmark = pytest.mark.slow

SURVEY = ("table1", "table2", "methods")
SIZES = {"table1": "size_percent", "table2": "printed_size_percent", "methods": "size_percent"}
COUNTED = ("parameters", "parameter_bytes", "macs", "flops")
PREFIXES = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


def read(text: str) -> tuple[float, float] | None:
    """A figure as it is seen, and half a unit of its last digit; None for a dash."""
    if text in ("–", ""):
        return None
    found = re.fullmatch(r"([+-]?[\d,]*\d(?:\.(\d+))?)\s?([kMGT]?)(?:B| %| ×|x)?", text)
    assert found, text
    factor = PREFIXES[found[3]]
    return float(found[1].replace(",", "")) * factor, 0.5001 * factor * 10.0 ** -len(found[2] or "")


def selected(breakdown: Breakdown, by: str) -> dict[str, list[Cost]]:
    """The costs of each row of a view, from the record alone."""
    if by == "unit":
        found = {
            "outside the units" if unit is None else f"unit {unit}": [c for c in breakdown.costs if c.unit == unit]
            for unit in (*range(breakdown.units), None)
        }
    elif by == "group":
        found = {group: breakdown.of(*members) for group, members in GROUPS.items()}
    else:
        found = {str(component): breakdown.of(component) for component in Component}
    return {**{label: costs for label, costs in found.items() if costs}, "total": list(breakdown.costs)}


def figures(breakdown: Breakdown, by: str) -> dict[str, dict[str, float]]:
    """Label → column → its figure in the record, shares in percent.

    A time is the part of all samples that are of these costs × the median of the forwards with marks.
    """
    found = {}
    whole = selected(breakdown, by)["total"]
    for label, costs in selected(breakdown, by).items():
        own = {name: sum(getattr(c, name) for c in costs) for name in COUNTED}
        all_of_it = {name: sum(getattr(c, name) for c in whole) for name in own}
        found[label] = {**own, **{f"{name}_share": 100 * own[name] / all_of_it[name] for name in own}}
        if breakdown.instrumented_ms is not None:
            share = sum(sum(cost.time_ms or []) for cost in costs) / sum(breakdown.instrumented_ms)
            found[label] |= {"time_ms": share * median(breakdown.instrumented_ms), "time_share": 100 * share}
            estimate = breakdown.instrumented_time_ms if label == "total" else breakdown.time_of(costs)
            assert estimate is not None
            found[label]["time_half_width_ms"] = estimate.half_width
    return found


def check(table: Table, breakdown: Breakdown, by: str) -> set[str]:
    """Makes sure that what is seen is what the record says; which columns were looked at."""
    wanted = figures(breakdown, by)
    # A row that costs nothing is left out.
    assert {label for label, own in wanted.items() if any(own[name] for name in COUNTED)} <= set(table.labels)
    assert set(table.labels) <= set(wanted)
    known = [name for name in table.names[1:] if name in wanted["total"]]
    for name in known:
        for label, text in table.column(name).items():
            seen = read(text)
            if seen is not None and name in wanted[label]:
                assert abs(seen[0] - wanted[label][name]) <= seen[1], (by, name, label, text)
    return set(known)


@pytest.mark.parametrize("name", ["breakdown", "untimed"])
def test_every_figure_is_that_of_the_record_whatever_is_chosen(name: str, browser: Browser, written: Written):
    breakdown = shown.document(name)
    assert isinstance(breakdown, Breakdown)
    browser.open(written(name, shown.content(name)))
    for by in ("group", "component", "unit"):
        browser.choose("by", by)
        seen: set[str] = set()
        for metric in browser.choices("metric"):
            for form in browser.choices("as"):
                browser.choose("metric", metric)
                browser.choose("as", form)
                seen |= check(browser.table(), breakdown, by)
        timed = {"time_ms", "time_share", "time_half_width_ms"} if breakdown.timed else set()
        assert seen == {*COUNTED, *(f"{each}_share" for each in COUNTED), *timed}
        browser.choose("metric", "")
        browser.choose("as", "")


def test_figures_of_a_diff_are_those_of_both_records(browser: Browser, written: Written):
    diff = shown.gated()
    browser.open(written("diff", shown.content("diff")))
    for by, level in (("component", "component"), ("unit", "unit")):
        browser.choose("by", by)
        for metric in browser.choices("metric"):
            browser.choose("metric", metric)
            table = browser.table()
            wanted = {row.scope: row for row in diff.rows if row.level in (level, "total")}
            compared = 0
            for column in table.names[1:]:
                found = re.fullmatch(r"(\w+)_(before|after)(?:_ms|_mj)?", column)
                for label, text in table.column(column).items() if found else ():
                    seen, row = read(text), wanted.get(_scope(label, by))
                    assert found is not None
                    if seen is None or row is None or found[1] not in row.metrics:
                        continue
                    value = getattr(row.metrics[found[1]], found[2])
                    assert abs(seen[0] - value) <= seen[1], (by, column, label, text)
                    compared += 1
            assert compared >= len(table.labels)


def _scope(label: str, by: str) -> str:
    unit = re.fullmatch(r"unit (\d+)", label) if by == "unit" else None
    return f"unit[{unit[1]}]" if unit else label


def test_choosing_a_metric_shows_its_columns_alone(browser: Browser, written: Written):
    browser.open(written("breakdown", shown.content("breakdown")))
    every = browser.table()
    browser.choose("metric", "time")
    assert browser.table().names == ["component", *(name for name in every.names if name.startswith("time"))]
    browser.choose("as", "share")
    assert browser.table().names == ["component", "time_share"]
    browser.choose("metric", "")
    assert {name.rpartition("_")[2] for name in browser.table().names[1:]} == {"share"}
    browser.choose("as", "absolute")
    assert not [name for name in browser.table().names if name.endswith("_share")]
    browser.choose("as", "")
    assert browser.table() == every


def test_choosing_a_view_shows_its_table_alone(browser: Browser, written: Written):
    browser.open(written("breakdown", shown.content("breakdown")))
    for by, first in (("component", "embedding"), ("group", "embedding"), ("unit", "unit 0")):
        browser.choose("by", by)
        table = browser.table()
        assert table.names[0] == by
        assert first in table.labels
        assert len(browser.texts(f"{MAIN} table.grid caption")) == 1
    browser.choose("by", "module")
    assert len(browser.table().labels) > 100


def test_choosing_a_side_hides_the_other(browser: Browser, written: Written):
    browser.open(written("diff", shown.content("diff")))
    both = browser.table()
    for chosen, other in (("before", "after"), ("after", "before")):
        browser.choose("side", chosen)
        names = browser.table().names
        assert any(f"_{chosen}" in name for name in names)
        assert not any(f"_{other}" in name for name in names)
    browser.choose("side", "")
    assert browser.table() == both


@pytest.mark.parametrize("key", ["mouse", "Enter", "Space"])
def test_sorting_has_three_states(key: str, browser: Browser, written: Written):
    browser.open(written("breakdown", shown.content("breakdown")))
    original = browser.table()

    def sort(name: str) -> Table:
        if key == "mouse":
            browser.click(f"th[data-name={name}] .sort")
        else:
            browser.run(f"document.querySelector('{MAIN} [open] th[data-name={name}] .sort').focus()")
            browser.press(key)
        return browser.table()

    def order(table: Table, name: str) -> list[float]:
        assert table.labels[-1] == "total"  # which stays where it is
        found = [read(table.column(name)[label]) for label in table.labels[:-1]]
        return [each[0] for each in found if each is not None]

    for state, back in (("descending", True), ("ascending", False)):
        table = sort("macs")
        assert table.sorts == [state if name == "macs" else None for name in table.names]
        assert order(table, "macs") == sorted(order(table, "macs"), reverse=back)
        assert dict(zip(table.labels, table.rows, strict=True)) == dict(
            zip(original.labels, original.rows, strict=True)
        )
    assert sort("macs") == original
    assert sort("component").labels[:-1] == sorted(original.labels[:-1])
    assert sort("component").labels[:-1] == sorted(original.labels[:-1], reverse=True)
    # Another column begins anew.
    assert sort("macs").sorts[original.names.index("macs")] == "descending"


def test_the_keyboard_chooses(browser: Browser, written: Written):
    browser.open(written("breakdown", shown.content("breakdown")))
    before = browser.choices("by")
    browser.run(f"document.querySelector('{MAIN} select[data-control=by]').focus()")
    browser.press("Arrow_Down")
    assert browser.table().names[0] == before[1]


def test_tips_show_on_pointing_and_on_focus_and_go_away(browser: Browser, written: Written):
    breakdown = shown.document("breakdown")
    assert isinstance(breakdown, Breakdown)
    browser.open(written("breakdown", shown.content("breakdown")))
    exact = f"{sum(c.parameters for c in breakdown.of(Component.FFN)):,}"
    tips = browser.run(f"return [...document.querySelectorAll('{MAIN} .tip')].filter((e) => e.checkVisibility())")
    row = next(tip for tip in tips if tip.text == "ffn")
    assert browser.texts("#tip-box") == []
    browser.point(row)
    (pointed,) = browser.texts("#tip-box")
    assert exact in pointed
    browser.press("Escape")
    assert browser.texts("#tip-box") == []
    browser.run("arguments[0].focus()", row)
    assert browser.texts("#tip-box") == [pointed]
    described = "return document.getElementById(arguments[0].getAttribute('aria-describedby')).innerText.trim()"
    assert browser.run(described, row) == pointed
    left, right, width = browser.run(
        "const b = document.querySelector('#tip-box').getBoundingClientRect(); return [b.left, b.right, innerWidth]"
    )
    assert 0 <= left < right <= width
    browser.press("Tab")
    assert browser.texts("#tip-box") != [pointed]
    browser.run("document.activeElement.blur()")
    assert browser.texts("#tip-box") == []


COPIED = {
    "breakdown": MAIN,
    "diff": MAIN,
    "breakdown-hostile": MAIN,
    "table1": ".explorer:has(table.grid)",
    "table2": ".explorer:has(table.grid)",
    "methods": ".explorer:has(table.grid)",
    "several": ".explorer:has(table.grid)",
}


@pytest.mark.parametrize("name", COPIED)
def test_a_table_is_copied_as_markdown_as_it_is_seen(name: str, browser: Browser, written: Written):
    browser.open(written(name, shown.content(name)))
    within = COPIED[name]
    table = browser.table(within)
    browser.click("[data-copy=markdown]", within)
    (copied,) = browser.run("return window.copied")
    lines = copied.splitlines()
    head, rule, *found = [[_plain(c) for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert len(head) == len(rule) == len(table.names)
    assert [set(cell) <= set("-:") for cell in rule] == [True] * len(rule)
    assert found == [[_line(label), *row] for label, row in zip(table.labels, table.rows, strict=True)]
    assert browser.texts(f"{within} .status")[0] == f"Copied as Markdown: {len(found)} rows."


def _plain(cell: str) -> str:
    return re.sub(r"\\(.)", r"\1", cell.strip())


def _line(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("name", COPIED)
def test_a_table_is_copied_as_csv_with_its_values(name: str, browser: Browser, written: Written):
    browser.open(written(name, shown.content(name)))
    within = COPIED[name]
    table = browser.table(within)
    browser.click("[data-copy=csv]", within)
    (copied,) = browser.run("return window.copied")
    head, *found = csv.reader(io.StringIO(copied))
    assert head == table.names
    assert [line[0] for line in found] == [_line(label) for label in table.labels]
    assert not any(cell.startswith(("=", "@", "+")) for line in found for cell in line)
    if name == "breakdown":
        record = shown.document(name)
        assert isinstance(record, Breakdown)
        wanted = figures(record, "component")
        for line in found:
            of = dict(zip(head, line, strict=True))
            assert int(of["macs"]) == wanted[of["component"]]["macs"]
            assert float(of["time_ms"]) == pytest.approx(wanted[of["component"]]["time_ms"], rel=1e-6)


def test_what_is_hidden_is_not_copied(browser: Browser, written: Written):
    browser.open(written("breakdown", shown.content("breakdown")))
    browser.choose("by", "unit")
    browser.choose("metric", "time")
    browser.choose("as", "share")
    browser.click("th[data-name=time_share] .sort")
    browser.click("[data-copy=csv]")
    browser.click("[data-copy=markdown]")
    as_csv, as_markdown = browser.run("return window.copied")
    head, *found = csv.reader(io.StringIO(as_csv))
    assert head == ["unit", "time_share"]
    shares = [float(share) for _, share in found[:-1]]
    assert shares == sorted(shares, reverse=True)
    assert as_markdown.splitlines()[0] == "| unit | time % |"


@pytest.mark.parametrize("name", ["breakdown", "diff", *SURVEY, "breakdown-hostile", "diff-hostile"])
def test_the_saved_record_is_the_document(name: str, browser: Browser, written: Written):
    browser.open(written(name, shown.content(name)))
    browser.click("a[data-record]", "body")
    assert saved(browser, ".json") == schema.encode(shown.document(name))
    assert browser.complaints() == []


def test_without_javascript_the_record_is_saved_compressed(browser: Browser, written: Written):
    browser.open(written("table2", shown.content("table2")), scripts=False)
    browser.click("a[data-record]", "body")
    assert gzip.decompress(saved(browser, ".json.gz")) == schema.encode(shown.document("table2"))


def test_each_of_several_records_can_be_saved(browser: Browser, written: Written):
    browser.open(written("several", shown.content("several")))
    links = browser.run("return [...document.querySelectorAll('a[data-record]')]")
    for link, record in zip(links, shown.records(), strict=True):
        browser.run("arguments[0].click()", link)
        assert saved(browser, ".json") == schema.encode(record)


def saved(browser: Browser, suffix: str) -> bytes:
    """The one file that was saved since this was last asked for."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        files = [path for path in browser.downloads.iterdir() if path.name.endswith(suffix)]
        if files and not _unfinished(browser.downloads):
            (path,) = files
            content = path.read_bytes()
            path.unlink()
            return content
        time.sleep(0.02)
    raise AssertionError("nothing was saved")


def _unfinished(folder: Path) -> bool:
    return any(path.suffix in (".crdownload", ".tmp") or path.name.startswith(".") for path in folder.iterdir())


@pytest.mark.parametrize("name", SURVEY)
def test_tables_of_the_survey_are_sorted(name: str, browser: Browser, written: Written):
    browser.open(written(name, shown.content(name)))
    head = f"th[data-name={SIZES[name]}]"
    within = f".explorer:has({head})"
    original = browser.table(within)
    for reverse in (True, False):
        browser.click(f"{head} .sort", within)
        found = [read(text) for text in browser.table(within).column(SIZES[name]).values()]
        figures = [each[0] for each in found if each is not None]
        assert figures == sorted(figures, reverse=reverse)
        assert found[len(figures) :] == [None] * (len(found) - len(figures))
    browser.click(f"{head} .sort", within)
    assert browser.table(within) == original


def test_the_methods_switch_between_size_macs_and_time(browser: Browser, written: Written):
    browser.open(written("methods", shown.content("methods")))
    within = ".explorer:has(select[data-control=metric])"
    for metric in ("Size", "MACs", "Time"):
        browser.choose("metric", metric, within)
        assert browser.table(within).caption.startswith(f"{metric} by component")
