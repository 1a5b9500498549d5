"""The page of a diff: what is read back from it are the diff's own figures."""

import itertools
from math import fsum, isclose
from pathlib import Path
from typing import Any, get_args

import pytest
from compared import HOSTILE, distilled, gate, hostile, real, slower, untimed
from hypothesis import given, settings
from hypothesis import strategies as st
from large import large_diff
from pages import parsed
from test_diff_renderers import odd_changes
from trees import Node, table_of, tree

from bertprof import difference
from bertprof.comparison import SHARE, Comparison
from bertprof.components import Component
from bertprof.difference import Change, Diff, Times, Verdict
from bertprof.record import Caveat
from bertprof.report import changes, page
from bertprof.report.findings import findings
from bertprof.report.page import diff_bars, diff_grids
from bertprof.report.page.grid import DIGITS
from bertprof.report.waterfall import MACHINE, METRICS, waterfall
from handmade import cost, made

MOST_BYTES = 300_000
"""Of the largest page of a diff that is made for people."""


def smaller() -> Diff:
    """DistilBERT beside BERT, counted: another number of units, a component that is gone."""
    return Comparison(untimed(real()), distilled()).diff()


def apart() -> Diff:
    """The slower record, as if it had run in a process beside which the yardstick took 10 % longer."""
    diff = slower()
    diff.times, diff.yardstick_ratio = "processes", 1.1
    return diff


def two(before: dict[Component, int], after: dict[Component, int]) -> Diff:
    """Of records that have these parameters and nothing else."""
    sides = [made(*(cost(c, 0, parameters=n) for c, n in side.items())) for side in (before, after)]
    return Comparison(*sides).diff()


def near(found: Any, expected: Any) -> bool:
    """Equal; floats to the digits that a page carries."""
    if isinstance(expected, float) and found is not None:
        return isclose(found, expected, rel_tol=10 ** (1 - DIGITS), abs_tol=1e-12)
    return bool(found == expected)


# The tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [slower, smaller, apart, hostile])
@pytest.mark.parametrize("wide", [False, True])
def test_every_figure_is_the_diffs(make, wide: bool):
    diff = make()
    shown = tree(page.render_diff(diff, "unit", wide)).one("section", aria_label="What changed")
    views = {view.attributes["data-by"]: view for view in shown.all("details")}
    assert [*views] == ["unit", "group", "component", "cell"]
    for by, view in views.items():
        assert ("open" in view.attributes) == (by == "unit")
        table = table_of(view)
        rows = [*changes.table(diff, by), diff.row("total")]
        assert [*table.texts] == [" ".join(changes.label(row).split()) for row in rows]
        metrics = {metric for metric in changes.NAMES if f"{_name(metric)}_ratio" in table.texts["total"]}
        assert metrics >= {column.metric for column in changes.columns(diff, by, wide)} - {SHARE}
        for row, (label, texts) in zip(rows, table.texts.items(), strict=True):
            for metric in metrics:
                check(diff, row, metric, texts, table.values[label])


def check(diff: Diff, row: difference.Row, metric: str, texts: dict[str, str], values: dict[str, Any]) -> None:
    name, change = _name(metric), row.metrics.get(metric)
    unit = {"time": "_ms", "device_time": "_ms", "energy": "_mj"}.get(metric, "")
    if change is None:
        assert {texts[name + end] for end in (f"_before{unit}", f"_after{unit}", "_ratio")} == {"–"}
        return
    for side, value in (("before", change.before), ("after", change.after)):
        assert texts[f"{name}_{side}{unit}"] == changes.figure(value, metric)
        assert near(values[f"{name}_{side}{unit}"], value)
    assert texts[f"{name}_ratio"] == changes.relative(change)
    assert near(values[f"{name}_ratio"], change.ratio)
    if f"{name}_share_of_change" in texts:
        assert near(values[f"{name}_share_of_change"], changes.share(diff, row, metric))
    if f"{name}_verdict" in texts:
        assert texts[f"{name}_verdict"] == values[f"{name}_verdict"] == change.verdict


def _name(metric: str) -> str:
    return "time_share" if metric == SHARE else metric


def test_the_figures_of_distilbert():
    values = table_of(tree(page.render_diff(smaller())).one("details", data_by="component")).values
    # One segment table of 2 × 768 less; 6 of 12 units: half of 56,669,184.
    assert (values["embedding"]["parameters_before"], values["embedding"]["parameters_after"]) == (23835648, 23834112)
    assert (values["ffn"]["parameters_after"], values["ffn"]["parameters_ratio"]) == (28334592, 0.5)
    assert values["total"]["parameters_after"] == 66_362_880


def test_sides_metrics_and_views_can_be_chosen():
    shown = tree(page.render_diff(smaller())).one("section", aria_label="What changed")
    options = {
        each.attributes["data-control"]: [option.attributes["value"] for option in each.all("option")]
        for each in shown.all("select")
    }
    assert options == {
        "by": ["component", "group", "unit", "cell"],
        "metric": ["", "parameters", "bytes", "MACs", "FLOPs"],
        "side": ["", "before", "after"],
    }
    for view in shown.all("details"):
        heads = table_of(view).heads
        sides = [head.get("data-side") for head in heads if head["data-metric"] == "parameters"]
        assert sides == ["before", "after", None, None]
        assert {head["data-metric"] for head in heads} == {"parameters", "bytes", "MACs", "FLOPs"}
        # Bytes tell what parameters do here, and MACs what FLOPs do: there where they are chosen.
        assert {head["data-metric"] for head in heads if "data-only" in head} == {"bytes", "MACs"}


def test_what_is_asked_for_whole_shows_whole():
    heads = table_of(tree(page.render_diff(slower(), wide=True)).one("details", data_by="component")).heads
    assert not any("data-only" in head for head in heads)
    assert {"time_share_before", "parameters_before", "macs_before"} <= {head["data-name"] for head in heads}


def test_a_row_tells_all_on_pointing():
    shown = tree(page.render_diff(slower())).one("details", data_by="component")
    tips = {each.text: each.attributes["title"].split("\n") for each in shown.all("span", class_name="tip")}
    assert tips["ffn"] == [
        "the feed-forward sub-unit: its linears and activations",
        "time: 62.1 → 68.3 ms, +10.00 % [+10.00, +10.00], slower (the whole interval is beyond ±2 %, by Holm's "
        "correction no chance hit among all rows), 100 % of the change of the total",
    ]
    counted = tree(page.render_diff(smaller())).one("details", data_by="component")
    tips = {each.text: each.attributes["title"].split("\n") for each in counted.all("span", class_name="tip")}
    assert tips["head"][1].startswith("parameters: 590,592 → 0, removed (only BEFORE has it), ")


@pytest.mark.parametrize("verdict", get_args(Verdict))
def test_every_verdict_of_a_time_is_explained(verdict: Verdict):
    change = Change(before=1.0, after=2.0, change=1.0, ratio=2.0, low=1.9, high=2.1, verdict=verdict)
    said = diff_grids.verdict_means(slower(), change, "time")
    assert said
    change.low = change.high = None
    said = diff_grids.verdict_means(slower(), change, "flops")
    assert bool(said) == (verdict in ("new", "removed", "n/a"))


def test_beyond_by_itself_is_not_yet_sure():
    change = Change(before=1.0, after=2.0, change=1.0, ratio=2.0, low=1.9, high=2.1, verdict="inconclusive")
    said = "beyond ±2 % by itself, but not surely after Holm's correction for all rows; more rounds (--until) may tell"
    assert diff_grids.verdict_means(slower(), change, "time") == said
    change.ratio, change.low, change.high = 0.5, 0.4, 0.6
    assert diff_grids.verdict_means(slower(), change, "time") == said
    change.high = 0.99
    assert "by itself" not in diff_grids.verdict_means(slower(), change, "time")


@pytest.mark.parametrize(("after", "told"), [(0.97, False), (1.15, False), (1.17, True), (0.86, True), (0.56, True)])
def test_medians_that_say_another_change_are_explained(after: float, told: bool):
    # The interval is 0.88 to 1.14, and ±2 % around it 0.863 to 1.163.
    change = Change(before=1.0, after=after, change=after - 1, ratio=0.97, low=0.88, high=1.14, verdict="inconclusive")
    assert diff_grids.medians_differ(slower(), change, "time") == told
    assert not diff_grids.medians_differ(slower(), change, "flops")


def test_at_most_three_metrics_show_at_once():
    timed = slower()
    diff = two({Component.FFN: 100}, {Component.FFN: 50})
    for row, other in zip(diff.rows, timed.rows, strict=False):
        row.metrics["time"] = other.metrics["time"]
        for metric in ("bytes", "macs", "flops"):
            row.metrics[metric] = Change(before=4.0, after=3.0, change=-1.0, ratio=0.75, verdict="smaller")
    heads = table_of(tree(page.render_diff(diff)).one("details", data_by="component")).heads
    assert {head["data-metric"] for head in heads if "data-only" not in head} == {"time", "parameters", "FLOPs"}
    assert {head["data-metric"] for head in heads if "data-only" in head} == {"bytes", "MACs"}


# Before and after -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [slower, smaller, apart])
def test_bars_are_as_long_as_their_figures(make):
    diff = make()
    figures = tree(page.render_diff(diff)).all("figure", class_name="paired")
    panels = diff_bars.pairs(diff)
    assert [panel.metric for panel in panels] == (["bytes", "FLOPs"] if make is smaller else ["time"])
    for figure, panel in zip(figures, panels, strict=True):
        metric = {"FLOPs": "flops"}.get(panel.metric, panel.metric)
        items = figure.all("li")
        longest = max(
            value or 0
            for row in changes.table(diff, "component")
            for value in (row.metrics[metric].before, row.metrics[metric].after)
        )
        for item, bar in zip(items, panel.bars, strict=True):
            change = diff.row(bar.label).metrics[metric]
            widths = [_percents(each)["width"] for each in item.all("i")]
            # What is nothing, or not known, has no bar.
            expected = [100 * side / longest for side in (change.before, change.after) if side]
            assert widths == pytest.approx(expected, 1e-3)
            assert item.text.startswith(f"{bar.label} {changes.figures(change, metric)}")


def test_what_did_not_change_has_no_bars():
    diff = Comparison(untimed(real()), untimed(real())).diff()
    assert diff_bars.pairs(diff) == diff_bars.waterfalls(diff) == []
    assert tree(page.render_diff(diff)).all("figure") == []


def _percents(node: Node) -> dict[str, float]:
    pairs = (each.split(":") for each in node.attributes["style"].split(";"))
    return {name: float(value.removesuffix("%")) for name, value in pairs}


# The waterfall --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [slower, smaller, apart])
def test_steps_lead_from_before_to_after(make):
    diff = make()
    found = {metric: fall for metric in METRICS if (fall := waterfall(diff, metric)) is not None}
    assert [*found] == (["bytes", "parameters", "macs", "flops"] if make is smaller else ["time"])
    for metric, fall in found.items():
        rows = [row.metrics[metric] for row in diff.at("component")]
        total = diff.row("total").metrics[metric]
        assert fall.steps[0].start == fall.before
        for step, following in itertools.pairwise(fall.steps):
            assert step.end == following.start
        if metric == "time":
            assert fall.before == fsum(change.before or 0 for change in rows)
            assert fall.steps[-1].end == pytest.approx(fall.after, rel=1e-12)
            assert changes.figures(total, "time") in fall.note
        else:
            assert (fall.before, fall.steps[-1].end, fall.after) == (total.before, total.after, total.after)
        amounts = {step.label: step.end - step.start for step in fall.steps}
        for row in diff.at("component"):
            change = row.metrics[metric]
            if diff.yardstick_ratio is None and (change.before or change.after):
                assert amounts.pop(row.scope) == pytest.approx(change.change, rel=1e-9, abs=1e-9)
        assert diff.yardstick_ratio is not None or not amounts


def test_the_machine_is_a_step_of_its_own():
    fall = waterfall(apart(), "time")
    assert fall is not None
    steps = {step.label: step.end - step.start for step in fall.steps}
    assert [*steps][-1] == MACHINE
    ffn = apart().row("ffn").metrics["time"]
    # ffn takes 1.1 times as long, as does the yardstick: it did not change.
    assert ffn.before is not None
    assert ffn.after is not None
    assert steps["ffn"] == pytest.approx(ffn.after / 1.1 - ffn.before)
    assert steps["ffn"] == pytest.approx(0, abs=0.05)
    assert steps[MACHINE] == pytest.approx(fall.after * (1 - 1 / 1.1))


def test_nothing_leads_where_nothing_compares():
    diff = slower()
    for row in diff.rows:
        row.metrics["time"].verdict = "n/a"
    assert waterfall(diff, "time") is None
    assert waterfall(slower(), "flops") is None  # the same in every row
    assert waterfall(slower(), "energy") is None  # not known
    odd = smaller()
    odd.row("total").metrics["flops"].before = 1
    assert waterfall(odd, "flops") is None


@pytest.mark.parametrize("make", [slower, smaller, apart])
def test_floating_bars_stand_where_their_steps_do(make):
    diff = make()
    figures = tree(page.render_diff(diff)).all("figure", class_name="waterfall")
    falls = [fall for fall in (waterfall(diff, metric) for metric in METRICS) if fall is not None]
    for figure, fall in zip(figures, falls, strict=True):
        first, *items, last = figure.all("li")
        (origin, most), at = fall.axis, _percents(first.one("i"))["width"]
        assert _percents(first.one("i"))["left"] == _percents(last.one("i"))["left"] == 0
        # Each bar begins where the one above it ends; a step that is none has no bar.
        for item, step in zip(items, fall.steps, strict=True):
            assert item.text.startswith(step.label)
            assert bool(item.all("i")) == (step.start != step.end)
            for span in map(_percents, item.all("i")):
                edges = [span["left"], span["left"] + span["width"]]
                begin, end = edges if step.start < step.end else reversed(edges)
                assert begin == pytest.approx(at, abs=0.02)
                assert end == pytest.approx(100 * (step.end - origin) / (most - origin), abs=0.02)
                at = end
        assert at == pytest.approx(_percents(last.one("i"))["width"], abs=0.02)


def test_a_waterfall_says_its_figures():
    # 80 + 20 → 40 + 20 + 10
    diff = two(
        {Component.FFN: 80, Component.HEAD: 20},
        {Component.FFN: 40, Component.HEAD: 20, Component.EMBEDDING: 10},
    )
    (figure,) = tree(page.render_diff(diff)).all("figure", class_name="waterfall")
    assert figure.one("figcaption").text == "Parameters 100 → 70, -30"
    assert [item.text for item in figure.all("li")] == [
        "before 100",
        "embedding +10, new",
        "ffn -40",
        "head same",
        "after 70",
    ]
    spans = [(_percents(bar)["left"], _percents(bar)["width"]) for item in figure.all("li") for bar in item.all("i")]
    # The highest level is 110: 100 before and 10 more; head did not change.
    expected = [(0, 100), (100, 10), (70, 40), (0, 70)]
    assert spans == [pytest.approx((100 * left / 110, 100 * width / 110), abs=0.02) for left, width in expected]


def test_small_steps_have_an_axis_that_says_where_it_starts():
    # 1,000 → 990: at most 10 apart; the axis starts 2.5 below the lower.
    (panel,) = diff_bars.waterfalls(two({Component.FFN: 1000}, {Component.FFN: 990}))
    assert panel.cut
    assert panel.notes == ["The axis starts at 988, not at zero."]
    assert [bar.spans[0] for bar in panel.bars] == [(0, 100), (pytest.approx(20), 100), (0, pytest.approx(20))]
    (tall,) = diff_bars.waterfalls(two({Component.FFN: 1000}, {Component.FFN: 500}))
    assert not tall.cut
    assert tall.notes == []


def test_what_rounds_to_nothing_has_no_sign():
    diff = slower()
    time = diff.row("head").metrics["time"]
    time.after, time.change, time.ratio, time.verdict = time.before, 0.0, 1.0, "same"
    (panel,) = diff_bars.waterfalls(diff)
    assert next(bar.text for bar in panel.bars if bar.label == "head") == "0 ms"


def test_kernels_are_chosen_by_their_own_name():
    samples = [10.0] * 20
    sides = [
        made(cost(Component.FFN, 0, samples, device_time_ms=[at] * 20), run="r", peak_memory_bytes=None)
        for at in (4.0, 8.0)
    ]
    root = tree(page.render_diff(Comparison(*sides).diff(), wide=True))
    shown = root.one("section", aria_label="What changed")
    metrics = [option.attributes["value"] for select in shown.all("select") for option in select.all("option")]
    assert {"time", "GPU time"} <= set(metrics)
    heads = {head["data-name"]: head["data-metric"] for head in table_of(shown.all("details")[0]).heads}
    assert heads["device_time_before_ms"] == heads["device_time_verdict"] == "GPU time"
    assert heads["time_before_ms"] == heads["time_share_before"] == "time"
    captions = [each.text for each in root.all("figcaption")]
    assert any(caption.startswith("GPU time 4.00 → 8.00 ms") for caption in captions)


# The whole page -------------------------------------------------------------------------------------------------------


def test_the_top_says_what_moved_and_why():
    diff = slower()
    diff.gates = [gate("failed"), gate("passed")]
    header = tree(page.render_diff(diff)).one("header")
    assert [each.text for each in header.inside if isinstance(each, Node)][:3] == [
        "bert-base-uncased → patched",
        "1 of 2 gates failed: ffn.time; 1 passed",
        findings(diff)[0].text.replace(": ", " ", 1),
    ]
    assert [each.text.replace(" :", ":") for each in header.one("ul").all("li")] == [
        finding.text for finding in findings(diff)[1:]
    ]


def test_many_gates_that_passed_are_folded():
    diff = slower()
    diff.gates = [gate("passed", scope=f"unit[{i}]") for i in range(11)] + [gate("failed")]
    main = tree(page.render_diff(diff)).one("main")
    first, second = main.all("table", class_name="gates")
    assert [row.one("th").text for row in first.one("tbody").all("tr")] == ["failed"]
    assert len(second.one("tbody").all("tr")) == 11
    folded = next(each for each in main.all("details") if each.one("summary").text == "11 passed")
    assert "open" not in folded.attributes
    diff.gates = diff.gates[-3:]
    (only,) = tree(page.render_diff(diff)).all("table", class_name="gates")
    assert [row.one("th").text for row in only.one("tbody").all("tr")] == ["failed", "passed", "passed"]


def test_times_that_do_not_compare_have_no_bars():
    after = real()
    after.caveats.append(Caveat(code="no-kernel", text="x"))
    for each in after.costs:
        each.parameter_bytes //= 4
    diff = Comparison(real(), after).diff()
    assert diff.times == "not comparable"
    assert [panel.metric for panel in diff_bars.pairs(diff)] == ["bytes"]
    assert [panel.metric for panel in diff_bars.waterfalls(diff)] == ["bytes"]
    values = table_of(tree(page.render_diff(diff)).one("details", data_by="component")).values
    assert values["ffn"]["time_verdict"] == "n/a"


def test_the_page_carries_the_diff(tmp_path: Path):
    diff = slower()
    diff.save(tmp_path / "diff.html")
    assert difference.load(tmp_path / "diff.html") == diff
    link = tree((tmp_path / "diff.html").read_text()).one("a")
    assert link.attributes["download"] == "bert-base-uncased-to-patched.json.gz"


@pytest.fixture(scope="module")
def of_bert_large() -> str:
    return page.render_diff(large_diff(), "unit")


def test_the_page_of_bert_large_by_unit_is_light(of_bert_large: str):
    assert len(of_bert_large.encode()) < MOST_BYTES
    views = tree(of_bert_large).one("section", aria_label="What changed").all("details")
    # 24 units and what is outside; the total.
    assert next(len(table_of(view).texts) for view in views) == 24 + 1 + 1
    assert parsed(of_bert_large).fetched == []
    assert of_bert_large == page.render_diff(difference.decode(of_bert_large.encode(), "x"), "unit")


@pytest.mark.parametrize("by", changes.VIEWS)
def test_what_means_harm_is_text(by: str):
    root = tree(page.render_diff(hostile(), by))
    usual = tree(page.render_diff(_usual(), by))
    assert {node.tag for node in root.all()} <= {node.tag for node in usual.all()} | {"pre", "strong"}
    names = {name for node in root.all() for name in node.attributes}
    assert names <= {name for node in usual.all() for name in node.attributes} | {"title"}
    (script,) = root.all("script")
    assert script.inside == usual.one("script").inside
    assert all(each.attributes["href"].startswith("data:application/gzip;base64,") for each in root.all("a"))
    assert HOSTILE[:28] in root.text


def _usual() -> Diff:
    diff = slower()
    diff.gates, diff.command = [gate("failed")], "bertprof diff a b"
    diff.caveats = [difference.Caveat(code="x", text="x")]
    return diff


@given(st.data())
@settings(max_examples=10)
def test_any_diff_that_a_file_may_hold_has_a_page(data):
    diff = slower()
    rows = [row for row in diff.rows if row.level in ("total", "component")][:4]
    for row in rows:
        row.metrics = data.draw(
            st.dictionaries(st.sampled_from([*row.metrics, "memory", "odd"]), odd_changes(), max_size=4)
        )
    diff.rows = rows
    diff.times = data.draw(st.sampled_from([None, *get_args(Times)]))
    diff.yardstick_ratio = data.draw(st.none() | st.floats(0, 1e18))
    for panel in (*diff_bars.pairs(diff), *diff_bars.waterfalls(diff)):
        for low, high in (span for bar in panel.bars for span in bar.spans):
            assert 0 <= low <= high <= 100
    assert tree(page.render_diff(diff, "unit")).all("table", class_name="grid")
