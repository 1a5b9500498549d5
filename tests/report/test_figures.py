"""Figures: what they show is what the record says, their size is what was asked for, their bytes are the same."""

import io
import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from compared import REAL, distilled, hostile, real, slower, untimed
from matplotlib.colors import to_rgb
from PIL import Image
from seen import full, lightness, texts

from bertprof import documents, roofline
from bertprof.comparison import Comparison
from bertprof.components import Component
from bertprof.difference import Change, Diff, Verdict
from bertprof.errors import UsageError
from bertprof.record import Breakdown
from bertprof.report import (
    changes,
    figure,
    figure2,
    figures,
    page,
    palette,
    render,
    render_several,
    roof_points,
    rows,
    stacks,
    survey_methods,
)
from bertprof.report.figure import units
from bertprof.report.figure.drawing import name_lines, width_pt, wrapped
from bertprof.report.page.drawn import inline_svg
from bertprof.report.palette import DARK, LIGHT, ink_on
from bertprof.survey.methods import Methods
from bertprof.survey.table2 import Table2
from handmade import cost, made
from test_roofline import ATTENTION, LINEAR, record

REPORTS = REAL.parents[2] / "reports"


def smaller() -> Diff:
    return Comparison(untimed(real()), distilled()).diff()


# Files ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width_mm", [60.0, 89.0, 183.0])
def test_a_figure_is_as_wide_as_it_is_to_be(width_mm: float):
    image = Image.open(io.BytesIO(figure.render([real()], "png", "stack", width_mm)))
    assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)
    assert image.width == int(width_mm / 25.4 * 300)
    svg = ElementTree.fromstring(figure.render([real()], "svg", "stack", width_mm))
    assert float(svg.attrib["width"].removesuffix("pt")) == pytest.approx(width_mm / 25.4 * 72, abs=1e-5)


def test_the_usual_figure_and_width():
    usual = figure.draw([real()])
    assert usual.get_size_inches()[0] * 25.4 == pytest.approx(figures.WIDTH_MM)
    assert len(usual.axes) == 3
    assert real().figure("stack", 89).get_size_inches()[0] * 25.4 == pytest.approx(89)


def test_figure2_is_small_and_has_the_colours_of_the_components():
    content = figure.render([real()], "png")
    assert len(content) < 200_000
    colors = {color for _, color in Image.open(io.BytesIO(content)).convert("RGB").getcolors(1 << 24)}
    for component in (Component.FFN, Component.ATTENTION_LINEAR_IN, Component.SOFTMAX_ATTENTION):
        assert tuple(round(255 * part) for part in to_rgb(palette.COLORS[component])) in colors


MAKE = """
import hashlib, sys
from bertprof.report import figure
from compared import real, slower
from seen import full
content = b"".join(
    figure.render([document], suffix, name, 60)
    for document, name, suffix in (
        (real(), "stack", "png"),
        (slower(), "units", "svg"),
        (full(2), "roofline", "svg"),
    )
)
digest = hashlib.sha256(content).hexdigest()
"""


def test_the_same_document_gives_the_same_bytes():
    digests = []
    for _ in range(2):
        found: dict[str, Any] = {}
        exec(MAKE, found)
        digests.append(found["digest"])
    path = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    fresh = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path}\n{MAKE}\nprint(digest)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert digests == [fresh.stdout.strip()] * 2


def test_a_settings_file_of_matplotlib_changes_nothing():
    import matplotlib

    usual = figure.render([real()], "svg", "stack", 60)
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 20, "savefig.transparent": True}):
        assert figure.render([real()], "svg", "stack", 60) == usual


@pytest.mark.parametrize("kind", figures.OF["a diff"])
def test_hostile_names_are_inert(kind: str):
    content = figure.render([hostile()], "svg", kind, 89)
    root = ElementTree.fromstring(content)
    assert {each.tag.rpartition("}")[2] for each in root.iter()} & {"img", "script"} == set()
    assert b"<!--" not in content.replace(b"<!-- ", b"")
    written = [text.get_text() for text in texts(figure.draw([hostile()], kind, 183))]
    assert any("$x$" in text for text in written)  # no formula
    assert not any(character in "".join(written) for character in "\x1b\r")


def test_what_is_black_is_as_the_page():
    svg = inline_svg(figure.render([full(2)], "svg", "roofline"), 'a "roof" & <more>')
    assert svg.startswith('<svg role="img" aria-label="a &quot;roof&quot; &amp; &lt;more&gt;" fill="currentColor"')
    assert "#000000" not in svg
    assert "background" not in svg
    assert "<style" not in svg
    assert "<metadata" not in svg
    assert re.search(r"<svg[^>]* (width|height)=", svg) is None
    root = ElementTree.fromstring(svg)
    whole = [float(part) for part in root.attrib["viewBox"].split()]
    paths = [each.attrib.get("d", "") for each in root.iter() if each.tag.endswith("path")]
    assert not any(f"{whole[2]:g}" in path and f"{whole[3]:g}" in path for path in paths)  # nothing behind it all
    ids = re.findall(r' id="([^"]*)"', svg)
    assert all(f"#{each}" in svg for each in ids)
    assert set(re.findall(r'(?:href="|url\()#([^")]*)', svg)) <= set(ids)


# What is refused ------------------------------------------------------------------------------------------------------


def test_what_there_is_not():
    with pytest.raises(UsageError, match=r"--figure waterfall: no such figure of a breakdown; use figure2, stack"):
        figure.draw([real()], "waterfall")
    with pytest.raises(UsageError, match=r"--width-mm 20: a figure is 60 to 400 mm wide"):
        figure.draw([real()], None, 20)
    with pytest.raises(UsageError, match=r"--width-mm 89: the figure methods is at least 160 mm wide"):
        figures.check(None, 89, "the survey's methods")
    with pytest.raises(UsageError, match=r"--width-mm 89: the figure methods is at least 160 mm wide"):
        figures.check("methods", 89)
    table2 = documents.load_any(REAL.parent / "table2-1.0.json")
    assert isinstance(table2, Table2)
    with pytest.raises(UsageError, match="there is no figure of the survey's Table 2"):
        figure.draw([table2])


def test_every_figure_that_is_named_is_drawn():
    assert set(figure._DRAWN) == {(kind, name) for kind, names in figures.OF.items() for name in names}


def test_the_names_of_figures_in_a_phrase():
    assert figures.listed("a breakdown", "several records") == (
        "figure2, stack, units or roofline of a breakdown; stack of several records"
    )


def test_of_several_documents_only_records_are_drawn():
    with pytest.raises(UsageError, match="a figure of several documents is of records only"):
        figure.draw([real(), slower()])


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: distilled(), "the record has no times; measure it again without --no-time"),
        (real, "the record has no peaks of its device; measure it there again with --roofline"),
        (lambda: record(LINEAR, workload={"backend": "onnx"}), "no roofline: the peaks are those of float32 products"),
        (lambda: record(cost(Component.FFN, 0, [1.0])), "no component's bytes, FLOPs and time are all known"),
    ],
)
def test_a_roofline_needs_times_and_peaks(made, says: str):
    with pytest.raises(UsageError, match=rf"^--figure roofline: {says}"):
        figure.draw([made()], "roofline")


# Colours --------------------------------------------------------------------------------------------------------------


def neighbours_in_real_models() -> set[tuple[str, str]]:
    """What stands beside what in a stack: of BERT-base and all methods of the survey, of every metric, by component and
    by the groups of the methods' figure."""
    found: set[tuple[str, str]] = set()
    document = documents.load_any(REPORTS / "methods-cpu" / "methods.html")
    assert isinstance(document, Methods)
    for row in survey_methods.rows(document):
        for metric in ("size", "macs", "time") if row.measured is not None else ():
            assert row.measured is not None
            measured = row.measured
            components = [str(c) for c in Component if measured.percent(metric, measured.of(c))]  # type: ignore[arg-type]
            groups = [
                name
                for name, members in survey_methods.GROUPS.items()
                if measured.percent(metric, measured.of(*members))  # type: ignore[arg-type]
            ]
            for names in (components, groups):
                found |= set(itertools.pairwise(names))
    return found


def test_neighbours_stay_apart_in_grey():
    found = neighbours_in_real_models()
    assert ("attention-linear-in", "attention-linear-out") in found  # of weights, where attention has none
    assert {("bottleneck", "head"), ("embedding", "recurrent"), ("embedding", "convolution")} & found
    for one, other in found:
        apart = abs(lightness(palette.color_of(one)) - lightness(palette.color_of(other)))
        assert apart >= 15, (one, other, apart)


def test_a_heat_map_is_monotone_in_grey():
    steps = [lightness(units.HEAT(i / 50)[:3]) for i in range(51)]
    assert all(low < high for high, low in itertools.pairwise(steps))
    for side in (range(25, 51), range(25, -1, -1)):
        away = [lightness(units.CHANGE(i / 50)[:3]) for i in side]
        assert all(low < high for high, low in itertools.pairwise(away))


def test_ink_on_a_colour_is_read():
    assert (ink_on("#FFFFFF"), ink_on("#000000")) == (DARK, LIGHT)
    for color in [*palette.COLORS.values(), palette.REST]:
        luminance = [((lightness(each) + 16) / 116) ** 3 if lightness(each) > 8 else 0.0056 for each in (color, DARK)]
        on_dark, on_light = (luminance[0] + 0.05) / (luminance[1] + 0.05), 1.05 / (luminance[0] + 0.05)
        contrast = on_dark if ink_on(color) == DARK else on_light
        assert contrast >= 4.5, color


# What they show -------------------------------------------------------------------------------------------------------


def test_narrow_bars_of_figure2_lie():
    breakdown = real()
    memory, _, time = figure.draw([breakdown], "figure2", 89).axes
    assert [bar.get_width() for bar in memory.patches] == pytest.approx(
        [95.342592, 85.045248, 0, 28.348416, 226.676736, 2.515968]
    )
    whole = breakdown.instrumented_time_ms
    assert whole is not None
    assert sum(bar.get_width() for bar in time.patches) == pytest.approx(whole.value)
    assert memory.get_yticklabels()[0].get_text() == "embedding"


def quantised() -> Breakdown:
    """Half of the parameters is in the FFN, in one byte each instead of four: 100 of 500 bytes."""
    ffn = cost(Component.FFN, 0, parameters=100, parameter_bytes=100, flops=10)
    return made(ffn, cost(Component.EMBEDDING, None, parameters=100, parameter_bytes=400, flops=0))


def test_memory_has_the_shares_of_bytes():
    """What is quantised has a smaller part of the bytes than of the parameters."""
    memory = figure2.panels(quantised())[0]
    assert [(bar.name, bar.value, bar.share) for bar in memory.bars if bar.value] == [
        ("embedding", 400, 0.8),
        ("FFN", 100, 0.2),
    ]
    drawn = figure.draw([quantised()], "figure2")
    written = [text.get_text() for text in drawn.axes[0].texts]
    assert [text.split("\n")[1] for text in written] == ["80.0 %", "0.0 %", "0.0 %", "0.0 %", "20.0 %", "0.0 %"]


def test_pairs_have_two_bars_a_component():
    diff = smaller()
    memory, flops = figure.draw([diff], "pairs").axes
    shown = [row.scope for row in changes.table(diff, "component")]
    assert [label.get_text() for label in memory.get_yticklabels()] == shown
    widths = [bar.get_width() for bar in memory.patches]
    assert len(widths) == 2 * 7
    # ffn: 226.68 MB before, half of it after
    assert widths[8:10] == pytest.approx([226.676736, 113.338368])
    assert sum(widths) == pytest.approx((437_928_960 + 265_451_520) / 1e6)
    assert [label.get_text() for label in memory.texts] == [
        *("-0.01 %", "-50.0 %", "same", "-50.0 %", "-50.0 %", "-48.0 %", "removed")
    ]
    assert len(flops.patches) == 2 * 7


def test_pairs_of_times_say_the_verdicts():
    *_, time = figure.draw([slower()], "pairs").axes
    written = [label.get_text() for label in time.texts]
    assert (written[0], written[4]) == ("same", "+10.00 %, slower")  # as many digits as the interval earns


def test_each_bar_of_a_stack_is_a_whole():
    breakdown = real()
    shown = [axes for axes in figure.draw([breakdown], "stack").axes if axes.patches]
    assert len(shown) == 3  # bytes, FLOPs, time: no energy is known
    for axes in shown:
        assert sum(bar.get_width() for bar in axes.patches) == pytest.approx(1)
    # ffn: 226.68 of 437.93 MB
    assert [text.get_text() for text in shown[0].texts] == ["21.8 %", "19.4 %", "6.5 %", "51.8 %"]
    names = [text.get_text() for text in texts(figure.draw([breakdown], "stack"))]
    assert {"437.9 MB", "22.43G", "Bytes", "FLOPs", "Time", "ffn"} <= set(names)


def test_a_stack_of_a_diff_has_both_sides():
    drawn = figure.draw([smaller()], "stack")
    names = [text.get_text() for text in texts(drawn)]
    assert (names.count("before"), names.count("after")) == (2, 2)
    assert {"437.9 MB", "265.5 MB"} <= set(names)
    assert len([axes for axes in drawn.axes if axes.patches]) == 4


def test_a_stack_of_energy():
    costs = [
        cost(component, 0, [1.0, 1.0], parameters=1, energy_mj=[mj, mj])
        for component, mj in ((Component.FFN, 3.0), (Component.HEAD, 1.0))
    ]
    block = stacks.of_breakdowns([made(*costs)])[-1]
    assert (block.metric, block.title) == ("energy", "Energy")
    assert [(each.total, each.shares) for each in block.stacks] == [("4.00 mJ", {"ffn": 0.75, "head": 0.25})]
    axes = figure.draw([made(*costs)], "stack", 89).axes[-1]
    assert [bar.get_width() for bar in axes.patches] == [0.75, 0.25]
    assert "energy" not in [block.metric for block in stacks.of_breakdowns([full(1)])]


def test_what_one_record_does_not_know_has_no_bar_beside_another():
    blocks = {block.metric: block.stacks for block in stacks.of_breakdowns([real(), untimed(real())])}
    assert [*blocks] == ["bytes", "flops", "time"]
    with_times, without = blocks["time"]
    assert sum(with_times.shares.values()) == pytest.approx(1)
    assert (without.total, without.shares) == ("–", {})
    one_side = Comparison(untimed(real()), real()).diff()
    assert [stack.name for block in stacks.of_diff(one_side) for stack in block.stacks][:2] == ["before", "after"]


def test_cells_are_shares_of_the_forward():
    # One unit and what is outside of it, each with all components of 0.1 ms, 0.2 ms, ... 1.1 ms: 13.2 ms together.
    drawn = figure.draw([full(1)], "units")
    cells = [text.get_text() for text in drawn.axes[0].texts]
    assert sorted(map(float, cells)) == sorted(2 * [round(100 * 0.1 * (1 + i) / 13.2, 2) for i in range(11)])
    assert cells.count("8.33") == 2  # 1.1 of 13.2 ms
    assert [label.get_text() for label in drawn.axes[0].get_yticklabels()] == ["0", "outside"]


def test_a_heat_map_of_no_times_is_of_flops():
    names = [text.get_text() for text in texts(figure.draw([distilled()], "units"))]
    assert "% of the FLOPs" in names


def test_a_heat_map_of_changes_says_what_is_sure():
    drawn = figure.draw([slower()], "units")
    cells = [text.get_text() for text in drawn.axes[0].texts]
    assert len([cell for cell in cells if re.fullmatch(r"\+0\.5\d|\+0\.4\d", cell)]) == 12  # 12 units of 62 ms + 10 %
    assert cells.count("0") == len(cells) - 12
    inconclusive = Comparison(full(1), full(1, 0.9)).diff()
    shown = [text.get_text() for text in figure.draw([inconclusive], "units").axes[0].texts]
    assert all(cell.endswith("?") for cell in shown)


def test_units_of_one_side_only_are_framed():
    drawn = figure.draw([smaller()], "units")
    names = [text.get_text() for text in texts(drawn)]
    assert {"after 5", "11", "outside", "change in FLOPs"} <= set(names)
    framed = [patch for patch in drawn.axes[0].patches if not patch.get_fill()]
    # 12 units before and 6 after, each of 5 components with FLOPs, and the head.
    assert len(framed) == 18 * 5 + 1


def test_points_of_a_roofline_are_those_of_the_record():
    # 100 GFLOP/s at most. The linear layer: see test_roofline.py.
    breakdown = record(ATTENTION, LINEAR)
    found, without = roof_points.points(breakdown)
    assert [point.name for point in found] == ["all together", "softmax-attention", "ffn"]
    for point in found[1:]:
        row = next(row for row in rows.table(breakdown, "component") if row.label == point.name)
        assert (point.intensity, point.reached) == (row.intensity, row.flops_per_s)
        assert point.reached / point.allowed == pytest.approx(row.roof_share)
    assert without == []
    names = " ".join(text.get_text() for text in texts(figure.draw([breakdown], "roofline")))
    for point in found:
        assert f"{point.name} {100 * point.line.share:.1f} %" in names  # type: ignore[operator]
    (axes,) = figure.draw([breakdown], "roofline").axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_a_roofline_has_the_highest_and_the_lowest_bandwidth():
    # PEAKS: 70, 130, 60 and 25 GB/s under 400 GFLOP/s; a diagonal has one FLOP/s by FLOP per byte all along.
    (axes,) = figure.draw([full(2)], "roofline").axes
    lines = [line.get_xydata() for line in axes.lines if len(line.get_xydata()) == 2]
    diagonals = [ends for ends in lines if ends[0][0] != ends[1][0] and ends[0][1] != ends[1][1]]
    assert sorted(y / x for ends in diagonals for x, y in ends) == pytest.approx([2.5e10] * 2 + [1.3e11] * 2)


def test_a_page_has_the_roofline_that_can_be_drawn():
    """A component without known traffic: the whole has no roof, but the other component has a point; nor is it an
    error that a record has peaks and no point at all."""
    unknown = cost(Component.HEAD, None, [1.0], parameters=1, flops=10)
    some = record(LINEAR, unknown)
    assert roofline.of(some, some.costs) is None
    assert [point.name for point in roof_points.points(some)[0]] == ["ffn"]
    assert 'class="roofline' in page.render(some)
    figure.draw([some], "roofline")
    nothing = record(cost(Component.FFN, 0, [1.0], parameters=1, flops=0, bytes_moved=10**6))
    assert roofline.of(nothing, nothing.costs) is not None
    assert roof_points.points(nothing)[0] == []
    assert 'class="roofline' not in page.render(nothing)


def test_a_waterfall_of_counts_has_bars_from_step_to_step():
    diff = smaller()
    (axes,) = figure.draw([diff], "waterfall").axes
    bars = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches]
    assert bars[0] == pytest.approx((0, 437.92896))
    assert bars[-1] == pytest.approx((0, 265.45152))
    # Every step makes it smaller: its bar ends to the right where the one above it begins.
    for (begin, _), (_, end) in itertools.pairwise(bars[1:-1]):
        assert end == pytest.approx(begin)
    # ffn: half of 226.68 MB; the bar begins where the one above it ends
    labels = [text.get_text() for text in axes.texts]
    assert "-113.3 MB" in labels
    assert (labels[0], labels[-1]) == ("437.9 MB", "265.5 MB")


def test_several_records_side_by_side():
    content = render_several([real(), distilled()], Path("x.svg"), width_mm=89)
    assert content == figure.render([real(), distilled()], "svg", "stack", 89)
    assert content != render(real(), Path("x.svg"), figure="stack", width_mm=89)


def test_the_line_of_all_runs_through_no_label():
    drawn = figure.draw([documents.load_any(REPORTS / "methods-cpu" / "methods.html")])
    drawn.draw_without_rendering()
    left_out = 0
    for axes in drawn.axes:
        (line,) = axes.collections
        rows = {round(segment[:, 1].mean()) for segment in line.get_segments()}  # type: ignore[attr-defined]
        at = axes.transData.transform((100, 0))[0]
        for row, label in enumerate(axes.texts):
            box = label.get_window_extent()
            assert not (box.x0 < at < box.x1 and row in rows), label.get_text()
            left_out += row not in rows
    assert left_out > 5  # of the times, whose labels are long


def test_what_rounds_to_nothing_has_no_sign():
    def cell(verdict: Verdict) -> units.Cell:
        return units._cell(Change(before=1.0, after=0.999, change=-0.001, ratio=0.999, verdict=verdict), "time")

    assert cell("inconclusive").texts == ("±0?", "?")
    assert cell("faster").texts == ("±0", "±0")


# Texts ----------------------------------------------------------------------------------------------------------------


def test_a_figure_keeps_its_unit():
    assert width_pt("+6.0 %, slower", 7) > 30
    assert wrapped("the change is +6.0 %, slower", width_pt("the change is +6.0", 7) + 1, 7) == [
        "the change is",
        "+6.0 %, slower",
    ]


def test_a_long_name_stands_in_two_lines():
    most = width_pt("attention-", 7) + 12
    assert name_lines("attention-linear", most) == ["attention-", "linear"]
    assert name_lines("ffn", most) == ["ffn"]
    assert name_lines("w" * 100, most)[0].endswith("…")
