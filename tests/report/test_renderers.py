"""Every renderer on a real record and on hostile ones."""

import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import pytest

import bertprof
from bertprof import record
from bertprof.components import Component
from bertprof.errors import UsageError
from bertprof.record import Breakdown, Caveat
from bertprof.report import RENDERERS, figure, markdown, page, palette, render, rows, terminal
from bertprof.survey import claims
from test_record import cost, made

REAL = Path(__file__).parents[1] / "data" / "bert-base-uncased.json"
HOSTILE = "<img src=x onerror=alert(1)>|`$x$`\n# [a](b)\x1b[31m</script>"


@pytest.fixture
def real() -> Breakdown:
    return bertprof.load(REAL)


@pytest.fixture
def untimed() -> Breakdown:
    breakdown = bertprof.load(REAL)
    breakdown.instrumented_ms = breakdown.end_to_end_ms = None
    for each in breakdown.costs:
        each.time_ms = None
    return breakdown


@pytest.fixture
def hostile(real: Breakdown) -> Breakdown:
    real.label = HOSTILE
    real.caveats = [Caveat(code="x", text=HOSTILE)]
    real.host.cpu = HOSTILE
    real.workload.clock = HOSTILE
    return real


@pytest.mark.parametrize("suffix", RENDERERS)
@pytest.mark.parametrize("by", rows.VIEWS)
def test_every_renderer_takes_every_record(suffix: str, by: str, real: Breakdown, untimed: Breakdown):
    for breakdown in (real, untimed):
        content = render(breakdown, Path(f"x{suffix}"), by)
        assert len(content) > 500


@pytest.mark.parametrize("suffix", RENDERERS)
def test_the_same_record_gives_the_same_bytes(suffix: str, real: Breakdown):
    assert render(real, Path(f"x{suffix}")) == render(real, Path(f"x{suffix}"))


@pytest.mark.parametrize("name", ["x.pdf", "x", "x.JSONL"])
def test_an_unknown_suffix(name: str, real: Breakdown):
    with pytest.raises(UsageError, match=r"use one of \.json, \.html"):
        render(real, Path(name))


def test_json_is_the_record(real: Breakdown):
    assert record.decode(render(real, Path("x.JSON")), "x") == real


def test_csv_has_every_cost_with_all_digits(real: Breakdown):
    found = list(csv.DictReader(io.StringIO(render(real, Path("x.csv")).decode())))
    assert len(found) == len(real.costs)
    assert sum(int(row["parameters"]) for row in found) == 109_482_240
    assert sum(int(row["macs"]) for row in found) == 11_174_215_680
    assert sum(float(row["time_share"]) for row in found) == pytest.approx(1, abs=1e-4)
    assert {row["unit"] for row in found} == {"", *map(str, range(12))}


def test_csv_without_time_leaves_the_fields_empty(untimed: Breakdown):
    assert {row["time_ms"] for row in csv.DictReader(io.StringIO(render(untimed, Path("x.csv")).decode()))} == {""}


def test_csv_names_are_no_formulas(real: Breakdown):
    real.label = "=HYPERLINK(1)"
    assert "'=HYPERLINK(1)" in render(real, Path("x.csv")).decode()


def test_markdown_table(real: Breakdown):
    text = markdown.render(real)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {11}
    assert "| embedding | 23,835,648 | 21.8 | 95.34 | 0 | 0.0 | 196,608 | 0.0 |" in text
    assert "| **total** | **109,482,240** | **100.0** | **437.93** | **11,174,215,680** |" in text
    assert "7,247,757,312" in text


def test_markdown_by_module_claims_no_certainty_and_no_bytes(real: Breakdown):
    text = markdown.render(real, by="module")
    assert "±" not in text.split("| **total**")[0].split("| --- |")[1]
    assert "MB" not in text


def test_hostile_names_are_inert_in_markdown(hostile: Breakdown):
    text = markdown.render(hostile)
    assert "<img" not in text
    assert "</script" not in text
    heading = text.splitlines()[0]
    assert heading.startswith("## &lt;img src\\=x" if "\\=" in heading else "## &lt;img src=x")
    for special in ("|", "`", "[", "#"):
        assert f"\\{special}" in heading
    assert {line.count("|") for line in text.splitlines() if line.startswith("|")} == {11}


def test_terminal_fits_and_shows_more_when_wide(real: Breakdown):
    narrow, wide = (terminal.render(real, width=width) for width in (80, 120))
    assert max(len(line) for line in narrow.splitlines()) <= 80
    assert max(len(line) for line in wide.splitlines()) <= 120
    assert "bytes" not in narrow
    assert "MACs" in wide
    ffn = next(line for line in wide.splitlines() if line.startswith(" ffn"))
    assert ffn.split()[1:9] == ["56.67M", "51.8", "226.7", "MB", "7.248G", "64.9", "14.54G", "64.8"]
    total = next(line for line in wide.splitlines() if line.startswith(" total"))
    assert total.split()[1:9] == ["109.5M", "100.0", "437.9", "MB", "11.17G", "100.0", "22.43G", "100.0"]
    assert "\x1b" not in wide


@pytest.mark.parametrize("by", rows.VIEWS)
@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_terminal_stays_within_its_width(by: str, width: int, real: Breakdown, untimed: Breakdown):
    for breakdown in (real, untimed):
        text = terminal.render(breakdown, by=by, width=width)
        assert max(len(line) for line in text.splitlines()) <= width
        # The name of a row is never what is given up.
        for name in {"module": ["word_embeddings"], "unit": ["unit 11"]}.get(by, ["softmax-attention", "ffn"]):
            assert name in text


def test_colour_only_when_asked(real: Breakdown):
    assert "\x1b[" in terminal.render(real, color=True)


def test_terminal_is_not_obeyed(hostile: Breakdown):
    assert "\x1b" not in terminal.render(hostile)


def test_caveats_are_shown_everywhere(real: Breakdown):
    real.caveats = [Caveat(code="x", text="something to know")]
    for content in (terminal.render(real), markdown.render(real), page.render(real), page.fragment(real)):
        assert "something to know" in content


class Page(HTMLParser):
    """The rows of a page's tables, its tags and what it would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self._cell = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href") and tag != "use"]
        self.fetched += [name for name, _ in attrs if name.startswith("on")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self._cell = True
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.rows[-1][-1] = " ".join(f"{self.rows[-1][-1]} {data}".split())


def parsed(html: str) -> Page:
    found = Page()
    found.feed(html)
    return found


def test_page_carries_the_numbers_and_needs_nothing(real: Breakdown):
    found = parsed(page.render(real))
    body = {row[0].split()[0]: row for row in found.rows[1:]}
    assert body["ffn"][1:8] == ["56,669,184", "51.8", "226.7 MB", "7,247,757,312", "64.9", "14,539,161,600", "64.8"]
    assert body["total"][1] == "109,482,240"
    assert {len(row) for row in found.rows} == {11}
    assert "script" not in found.tags
    assert [target for target in found.fetched if not target.startswith("#")] == []
    assert found.tags.count("svg") == 1


def test_page_without_time(untimed: Breakdown):
    found = parsed(page.render(untimed))
    assert {len(row) for row in found.rows} == {8}


def test_page_shows_claims_when_asked(real: Breakdown):
    text = page.render(real, claims=claims.check(real))
    assert text.count("<td>yes</td>") == 9


def test_hostile_names_are_inert_on_the_page(hostile: Breakdown):
    html = page.render(hostile)
    found = parsed(html)
    assert "img" not in found.tags
    assert "script" not in found.tags
    assert "onerror" not in found.fetched
    assert "\x1b" not in html


def test_figure_has_the_surveys_bars_in_its_order_and_then_the_rest(real: Breakdown):
    drawn = figure.figure2(real)
    memory, flops, time = drawn.axes
    labels = [text.get_text().replace("\n", " ") for text in memory.get_xticklabels()]
    assert labels == [
        "embedding",
        "linear before attention",
        "softmax attention",
        "linear after attention",
        "FFN",
        "rest",
    ]
    heights = [patch.get_height() for patch in memory.patches]
    assert heights == pytest.approx([95.342592, 85.045248, 0, 28.348416, 226.676736, 2.515968])
    assert sum(patch.get_height() for patch in flops.patches) == pytest.approx(real.total("flops") / 1e6)
    whole = real.instrumented_time_ms
    assert whole is not None
    assert sum(patch.get_height() for patch in time.patches) == pytest.approx(whole.value)
    colours = [patch.get_facecolor() for patch in time.patches]
    assert len(set(colours)) == 6


def test_figure_texts_do_not_overlap(real: Breakdown, untimed: Breakdown):
    for breakdown in (real, untimed):
        drawn = figure.figure2(breakdown)
        drawn.canvas.draw()
        for axes in drawn.axes:
            for texts in (axes.get_xticklabels(), axes.texts):
                boxes = [text.get_window_extent() for text in texts]
                assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


def test_figure_without_time_has_the_upper_panels_only(untimed: Breakdown):
    assert len(figure.figure2(untimed).axes) == 2


def test_png_is_an_image_and_svg_is_xml(real: Breakdown, hostile: Breakdown):
    image = matplotlib.image.imread(io.BytesIO(render(real, Path("x.png"))))
    assert image.shape[:2] == (1080, 1440)
    for breakdown in (real, hostile):
        root = ElementTree.fromstring(render(breakdown, Path("x.svg")))
        assert root.tag.endswith("svg")


def test_a_very_long_name_is_cut_in_the_figure(real: Breakdown):
    real.label = "m" * 5000
    assert "m" * 100 not in re.sub(r"\s", "", render(real, Path("x.svg")).decode())


def test_every_component_and_group_has_a_colour():
    assert set(palette.COLORS) == set(Component)
    assert len(set(palette.COLORS.values())) == len(Component)
    assert palette.color_of("attention-linear") == palette.COLORS[Component.ATTENTION_LINEAR_IN]
    assert palette.color_of("rest") == palette.color_of("unit 3") == palette.REST


def test_frames(real: Breakdown, untimed: Breakdown):
    frame = real.frame()
    assert list(frame["component"]) == [row.label for row in rows.table(real, "component")]
    assert frame["parameters"].sum() == 109_482_240
    assert frame["time_share"].sum() == pytest.approx(1)
    assert len(real.frame("group")) == 5
    assert len(real.frame("cost")) == len(real.costs)
    assert real.frame("cost")["unit"].isna().sum() == sum(c.unit is None for c in real.costs)
    assert set(real.frame("module").columns) >= {"module", "component", "calls"}
    assert untimed.frame()["time_ms"].isna().all()
    with pytest.raises(UsageError, match="'colour'"):
        real.frame("colour")


def test_a_breakdown_shows_itself(real: Breakdown):
    assert "<table>" in real._repr_html_()
    assert str(real) == real.text()
    assert real.figure()._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]


def test_claims_as_text_and_markdown(real: Breakdown):
    verdicts = claims.check(real)
    for width in (80, 120):
        text = terminal.render_claims(verdicts, width=width)
        assert max(len(line) for line in text.splitlines()) <= width
        assert len(re.findall(r"\byes\b", text)) == 9
    lines = markdown.render_claims(verdicts).splitlines()
    assert len(lines) == 2 + 9
    assert {line.count("|") - line.count("\\|") for line in lines} == {6}


def test_an_empty_record_is_rendered():
    empty = made([cost(Component.FFN, 0)])
    for suffix in RENDERERS:
        assert json.dumps(render(empty, Path(f"x{suffix}")).decode(errors="replace"))
