"""How soon the largest page is seen. Wall clock, so only noted; `make bench` runs it."""

import statistics
from pathlib import Path

import pytest
from browsing import Browser, Written
from large import large_diff

from bertprof import report
from conftest import Note

pytest_plugins = ("browser_fixtures",)

RUNS = 5


@pytest.mark.bench
def test_first_paint_of_bert_large_by_unit(browser: Browser, written: Written, note: Note):
    content = report.render(large_diff(), Path("x.html"), "unit").decode()
    page = written("large-diff", content)
    found = []
    for _ in range(RUNS):
        browser.open(page)
        found.append(browser.driver.execute_async_script(_WAIT))
    size = f"{len(content.encode()) / 1e3:.0f} kB"
    note("page: first paint of BERT-large's diff by unit", "< 1 s", f"{statistics.median(found):.0f} ms, {size}")
    assert browser.complaints() == []


_WAIT = """
const done = arguments[0];
new PerformanceObserver((list) => done(list.getEntries()[0].startTime)).observe({ type: "paint", buffered: true });
"""
