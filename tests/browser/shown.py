"""The pages that are looked at in a browser: of each kind, of real and of hostile documents."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import compared
from compared import distilled, gate, real, slower, untimed
from harm import NAMES, named

import surveyed
import tabled
from bertprof import report
from bertprof.comparison import Comparison
from bertprof.difference import Diff
from bertprof.record import Breakdown
from bertprof.report import Document

HARM = "</script><script>window.harmed = 1</script><img src=x onerror='window.harmed = 1'>" + " ".join(
    name for kind, name in NAMES.items() if kind != "long"
)
"""A name that means harm in every way."""

LONG = NAMES["long"]
"""A name of 5,000 characters without a place to break."""


def gated() -> Diff:
    diff = slower()
    diff.gates = [gate("failed"), gate("passed", scope="total", metric="parameters")]
    diff.command = "bertprof diff before.json after.json --fail-on ffn.time:+5%"
    return diff


def long_diff() -> Diff:
    diff = gated()
    for side in (diff.before, diff.after):
        side.name = side.workload.model = side.host.cpu = LONG
    diff.command = f"bertprof diff {LONG} {LONG}"
    for each in diff.gates:
        each.text = each.origin = each.reason = LONG
    return diff


def records() -> list[Breakdown]:
    faster = real()
    faster.label = "patched"
    for cost in faster.costs:
        cost.time_ms = [sample / 2 for sample in cost.time_ms or []]
    return [real(), faster, distilled()]


ONE: Mapping[str, Callable[[], Document]] = {
    "breakdown": real,
    "untimed": lambda: untimed(real()),
    "breakdown-hostile": lambda: named(HARM),
    "breakdown-long": lambda: named(LONG),
    "diff": gated,
    "diff-untimed": lambda: Comparison(untimed(real()), distilled()).diff(),
    "diff-hostile": compared.hostile,
    "diff-long": long_diff,
    "table1": lambda: surveyed.by_hand("table1"),
    "table2": tabled.by_hand,
    "methods": surveyed.by_hand,
    "table1-hostile": lambda: surveyed.hostile("table1"),
    "table2-hostile": tabled.hostile,
    "methods-hostile": surveyed.hostile,
}
"""Pages of one document, which they carry."""

SEVERAL: Mapping[str, Callable[[], list[Breakdown]]] = {
    "several": records,
    "several-hostile": lambda: [named(HARM), named(HARM), real()],
    "several-long": lambda: [named(LONG), named(LONG)],
}

PAGES = (*ONE, *SEVERAL)


@functools.cache
def document(name: str) -> Document:
    return ONE[name]()


@functools.cache
def content(name: str) -> str:
    """A page by its name."""
    if name in ONE:
        return report.render(document(name), Path("x.html")).decode()
    return report.render_several(SEVERAL[name](), Path("x.html")).decode()
