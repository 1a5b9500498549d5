"""What a page's script does where a choice, a pointer or a browser is not the usual one."""

import gzip
import json
import re
import time
from typing import Any

import pytest
import shown
from browsing import MAIN, Browser, Written
from harm import NAMES

from bertprof import formatting, schema
from bertprof.components import Component
from bertprof.observations import Energy
from bertprof.record import Breakdown, Module
from bertprof.report import markdown, page
from handmade import cost, made

pytest_plugins = ("browser_fixtures",)
pytestmark = pytest.mark.slow


_FFN: dict[str, Any] = {"type": "T", "unit": 0, "component": Component.FFN}


def on_a_gpu() -> Breakdown:
    """A record with all that can be measured on a GPU, and modules, of which only time is."""
    return made(
        cost(Component.FFN, 0, [1.0] * 6, flops=4, macs=2, device_time_ms=[3.0] * 6, energy_mj=[30.0] * 6),
        cost(Component.HEAD, None, [1.0] * 6, parameters=1, parameter_bytes=4, device_time_ms=[1.0] * 6),
        workload={"device": "cuda:0", "clock": "events"},
        energy=Energy(method="replay", total_mj=[40.0] * 6),
        modules=[Module(path="ffn", calls=1, parameters=1, macs=2, flops=4, time_ms=1.0, **_FFN)],
    )


@pytest.fixture
def gpu_page(browser: Browser, written: Written) -> Browser:
    browser.open(written("on-a-gpu", page.render(on_a_gpu())))
    return browser


def test_a_metric_of_two_words_is_chosen_as_one(gpu_page: Browser):
    gpu_page.choose("metric", "GPU time")
    assert gpu_page.table().names == ["component", "device_time_ms", "device_time_share"]
    gpu_page.choose("metric", "time")
    assert not [name for name in gpu_page.table().names if "device" in name]


OFFERED = """
const control = document.querySelector(`${arguments[0]} select[data-control=${arguments[1]}]`);
return [control.value, [...control.options].filter((o) => !o.disabled).map((o) => o.value)];
"""


def test_only_what_a_view_has_can_be_chosen(gpu_page: Browser):
    every = ["", "parameters", "bytes", "MACs", "FLOPs", "time", "GPU time"]
    assert gpu_page.run(OFFERED, MAIN, "metric")[1][: len(every)] == every
    gpu_page.choose("metric", "bytes")
    gpu_page.choose("by", "module")
    # Modules have no bytes: all that they have shows instead.
    chosen, offered = gpu_page.run(OFFERED, MAIN, "metric")
    assert chosen == ""
    assert offered == ["", "parameters", "MACs", "FLOPs", "time"]
    assert len(gpu_page.table().names) > 5
    gpu_page.choose("by", "component")
    assert gpu_page.run(OFFERED, MAIN, "metric")[1][: len(every)] == every


@pytest.mark.parametrize("name", ["breakdown", "diff", "several"])
def test_whatever_can_be_chosen_shows_figures(name: str, browser: Browser, written: Written):
    browser.open(written(name, shown.content(name)))
    for by in browser.choices("by"):
        browser.choose("by", by)
        for metric in browser.choices("metric") and browser.run(OFFERED, MAIN, "metric")[1]:
            browser.choose("metric", metric)
            assert len(browser.table().names) > 1, (by, metric)
            assert browser.table().labels, (by, metric)


def test_the_tip_of_what_has_the_focus_stands_again_once_the_pointer_is_gone(browser: Browser, written: Written):
    browser.open(written("breakdown", shown.content("breakdown")))
    tips = browser.run(f"return [...document.querySelectorAll('{MAIN} [open] .tip')]")
    browser.run("arguments[0].focus()", tips[0])
    (focused,) = browser.texts("#tip-box")
    browser.point(tips[-1])
    assert browser.texts("#tip-box") != [focused]
    browser.point(browser.run("return document.querySelector('h1')"))
    assert browser.texts("#tip-box") == [focused]
    browser.run("document.activeElement.blur()")
    assert browser.texts("#tip-box") == []


def test_what_was_folded_is_folded_again_after_printing_twice(gpu_page: Browser):
    folded = "return [...document.querySelectorAll('details:not([hidden])')].map((e) => e.open)"
    before = gpu_page.run(folded)
    assert not all(before)
    gpu_page.run("for (let i = 0; i < 2; i++) window.dispatchEvent(new Event('beforeprint'))")
    assert all(gpu_page.run(folded))
    gpu_page.run("window.dispatchEvent(new Event('afterprint'))")
    assert gpu_page.run(folded) == before


def test_a_record_that_cannot_be_unpacked_is_saved_as_it_is(gpu_page: Browser):
    gpu_page.run("window.DecompressionStream = class { constructor() { throw new Error('no'); } }")
    gpu_page.click("a[data-record]", "body")
    until = time.monotonic() + 30
    while not (found := list(gpu_page.downloads.glob("*.json.gz"))) and time.monotonic() < until:
        time.sleep(0.02)
    (path,) = found
    content = path.read_bytes()
    path.unlink()
    assert gzip.decompress(content) == schema.encode(on_a_gpu())
    assert json.loads(gzip.decompress(content))["costs"]
    assert gpu_page.complaints() == []


TEXTS = [*(formatting.line(name, 80) for name in NAMES.values()), "-87.2 % [-90.0, -85.1]", "attention-linear-in"]
TEXTS += [
    "- a",
    "-",
    "1. a",
    "12) a",
    "1.5",
    "+1,536",
    "= b",
    "a #",
    "# 1",
    "[a]: b",
    ":-",
    "a_b",
    "_a_",
    "__a__b",
    "a]b",
]

PUT = """
const rows = [...document.querySelectorAll(`${arguments[0]} [open] tbody tr`)];
rows.slice(0, arguments[1].length).forEach((row, i) => { row.cells[1].textContent = arguments[1][i]; });
"""


def test_texts_are_copied_as_they_are_written_into_files(browser: Browser, written: Written):
    browser.open(written("breakdown", shown.content("breakdown")))
    browser.choose("by", "module")
    browser.run(PUT, MAIN, TEXTS)
    browser.click("[data-copy=markdown]")
    (copied,) = browser.run("return window.copied")
    cells = [re.split(r"(?<!\\) \| ", line)[1] for line in copied.splitlines()[2:]]
    assert cells[: len(TEXTS)] == [markdown.escape(text) for text in TEXTS]


REMEMBER = """
window.seen = [];
const remove = Element.prototype.remove;
HTMLTextAreaElement.prototype.remove = function () {
  window.seen.push([scrollY, getComputedStyle(this).position]);
  remove.call(this);
};
"""


def test_copying_without_a_clipboard_leaves_the_page_where_it_is(gpu_page: Browser):
    gpu_page.run("navigator.clipboard.writeText = async () => { throw new Error('no'); }")
    gpu_page.run("window.scrollTo(0, 0)")
    gpu_page.run(REMEMBER)
    gpu_page.run(f"document.querySelector('{MAIN} [data-copy=csv]').click()")
    ((at, position),) = gpu_page.run("return window.seen")
    assert (at, position) == (0, "fixed")
