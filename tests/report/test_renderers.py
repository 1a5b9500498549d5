"""Every renderer on a real record and on hostile ones."""

import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib.image
import pytest
from pages import grids, parsed

import bertprof
from bertprof import record
from bertprof.components import Component
from bertprof.errors import UsageError
from bertprof.record import Breakdown, Caveat, Checkpoint, Module
from bertprof.report import RENDERERS, figure, markdown, page, palette, render, rows, terminal
from bertprof.survey import claims
from handmade import cost, made

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
def full(real: Breakdown) -> Breakdown:
    """With all that a record can hold: pruned, padded, with traffic and a checkpoint."""
    real.workload.padding = 0.3
    real.checkpoint = Checkpoint(format="safetensors", files=1, file_bytes=90_868_376, load_time_ms=123.4)
    for each in real.costs:
        each.nonzero_parameters = each.parameters * 2 // 5 if each.component is Component.FFN else each.parameters
        each.useful_macs = each.macs * 7 // 10
        each.bytes_moved = each.parameter_bytes + 1_000_000
        each.activation_bytes = 1_000_000
    return real


@pytest.fixture
def hostile(real: Breakdown) -> Breakdown:
    real.label = HOSTILE
    real.caveats = [Caveat(code="x", text=HOSTILE)]
    real.host.cpu = HOSTILE
    real.workload.clock = HOSTILE
    real.checkpoint = Checkpoint(format=HOSTILE, files=1, file_bytes=1, load_time_ms=1.0)
    assert real.modules is not None
    real.modules[3].path = f"embeddings.{HOSTILE}"
    real.modules[3].type = HOSTILE
    return real


@pytest.mark.parametrize("suffix", RENDERERS)
@pytest.mark.parametrize("by", rows.VIEWS)
@pytest.mark.parametrize("wide", [False, True])
def test_every_renderer_takes_every_record(suffix: str, by: str, wide: bool, real: Breakdown, untimed: Breakdown):
    for breakdown in (real, untimed):
        content = render(breakdown, Path(f"x{suffix}"), by, wide=wide)
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


def csv_rows(breakdown: Breakdown, by: str = "component") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(render(breakdown, Path("x.csv"), by).decode())))


TRAFFIC = ("nonzero_parameters", "useful_macs", "bytes_moved", "activation_bytes", "intensity_flop_per_byte")


def test_csv_always_has_the_columns_of_what_may_not_be_known(real: Breakdown):
    assert {tuple(row[name] for name in TRAFFIC) for row in csv_rows(real)} == {("",) * 5}


def test_csv_of_a_full_record(full: Breakdown):
    found = csv_rows(full)
    assert sum(int(row["nonzero_parameters"]) for row in found) == full.total("nonzero_parameters")
    ffn = next(row for row in found if row["component"] == "ffn")
    flops, moved = int(ffn["flops"]), int(ffn["bytes_moved"])
    assert float(ffn["intensity_flop_per_byte"]) == pytest.approx(flops / moved, abs=1e-6)


def test_csv_by_module_is_the_tree(real: Breakdown):
    found = csv_rows(real, "module")
    assert [row["module"] for row in found] == [row.label for row in rows.table(real, "module")]
    assert found[0]["inclusive_parameters"] == "109482240"
    assert found[0]["type"] == "BertModel"
    assert sum(int(row["parameters"]) for row in found) == 109_482_240
    dense = next(row for row in found if row["module"] == "encoder.layer.0.intermediate.dense")
    assert (dense["time_ms"], dense["inclusive_time_ms"], dense["inclusive_macs"]) == ("", "", "301989888")


def test_csv_names_are_no_formulas(real: Breakdown):
    real.label = "=HYPERLINK(1)"
    assert real.modules is not None
    real.modules[3].type = "@SUM(A1)"
    found = csv_rows(real, "module")
    assert {row["model"] for row in found} == {"'=HYPERLINK(1)"}
    assert "'@SUM(A1)" in {row["type"] for row in found}


def test_markdown_table(real: Breakdown):
    text = markdown.render(real)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {11}
    assert "| embedding | 23,835,648 | 21.8 | 95.34 | 0 | 0.0 | 196,608 | 0.0 |" in text
    assert "| **total** | **109,482,240** | **100.0** | **437.93** | **11,174,215,680** |" in text
    assert "7,247,757,312" in text


def test_markdown_wide(full: Breakdown):
    text = markdown.render(full, wide=True)
    header = "parameters | % | non-zero % | MB | MACs | % | useful MACs | FLOPs | % | moved | FLOP/B | activations"
    assert f"| component | {header} | time (ms) | % |" in text
    assert "| ffn | 56,669,184 | 51.8 | 40.0 | 226.68 | 7,247,757,312 | 64.9 | 5,073,430,116 | " in text
    moved = 226_676_736 + 12_000_000
    assert f" | 238.7 MB | {14_539_161_600 / moved:.1f} | 12.00 MB | " in text
    assert "checkpoint: safetensors, 1 file, 90.87 MB on disk, loaded in 123 ms" in text


def test_markdown_by_module_shows_own_and_inclusive(real: Breakdown):
    lines = markdown.render(real, by="module").splitlines()
    assert "| module | class | component | params, own | params, incl. | MACs, own | MACs, incl. |" in " ".join(lines)
    assert "| --- | --- | --- | ---: |" in " ".join(lines)
    layer = next(line for line in lines if line.startswith(r"| encoder.layer.0 |"))
    assert layer.startswith(r"| encoder.layer.0 | BertLayer | other | 0 | 7,087,872 | 0 | 931,135,488 |")
    assert "| **total** |  |  | **109,482,240** |  | **11,174,215,680** |  |" in lines[-4]
    unmarked = next(line for line in lines if line.startswith(r"| encoder.layer.0.intermediate.dense |"))
    assert unmarked.endswith("| – | – | – |")


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
    for special in ("|", "`"):
        assert f"\\{special}" in heading
    assert {line.count("|") for line in text.splitlines() if line.startswith("|")} == {11}
    tree = markdown.render(hostile, by="module")
    assert "<img" not in tree
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tree.splitlines() if line.startswith("|")} == {13}


def test_terminal_fits_and_shows_more_when_wide(real: Breakdown):
    narrow, wide = (terminal.render(real, width=width) for width in (80, 120))
    assert max(len(line) for line in narrow.splitlines()) <= 80
    assert max(len(line) for line in wide.splitlines()) <= 120
    assert "bytes" in narrow  # what compression is after
    assert "no room for MACs: widen the terminal" in narrow
    assert "MACs" in wide
    ffn = next(line for line in wide.splitlines() if line.startswith(" ffn"))
    assert ffn.split()[1:9] == ["56.67M", "51.8", "226.7", "MB", "7.248G", "64.9", "14.54G", "64.8"]
    total = next(line for line in wide.splitlines() if line.startswith(" total"))
    assert total.split()[1:9] == ["109.5M", "100.0", "437.9", "MB", "11.17G", "100.0", "22.43G", "100.0"]
    assert "\x1b" not in wide


@pytest.mark.parametrize("by", rows.VIEWS)
@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("wide", [False, True])
def test_terminal_stays_within_its_width(by: str, width: int, wide: bool, full: Breakdown, untimed: Breakdown):
    for breakdown in (full, untimed):
        text = terminal.render(breakdown, by=by, width=width, wide=wide)
        assert max(len(line) for line in text.splitlines()) <= width
        # The name of a row is never what is given up.
        for name in {"module": ["word_embeddings"], "unit": ["unit 11"]}.get(by, ["softmax-attention", "ffn"]):
            assert name in text


def header(breakdown: Breakdown, by: str, width: int, wide: bool = False) -> list[str]:
    """The line of a table's headers in a terminal, as words, and that no row is folded."""
    lines = terminal.render(breakdown, by=by, width=width, wide=wide).splitlines()
    rule = next(i for i, line in enumerate(lines) if line.startswith(" ──"))
    end = next(i for i, line in enumerate(lines) if i > rule and not line)
    assert end - rule - 1 == len(rows.table(breakdown, by))
    return lines[rule - 1].split()


ASKED = ["moved", "FLOP/B", "activations"]


def test_wide_columns_by_width(full: Breakdown):
    assert header(full, "component", 140, wide=True) == [
        *("component", "params", "non-zero", "%", "bytes", "MACs", "useful", "MACs", "FLOPs", "%", *ASKED),
        *("ms", "%"),
    ]
    # What was asked for is what stays, and what a lone % is of is said.
    middle = header(full, "component", 100, wide=True)
    assert [word for word in middle if word in ASKED] == ASKED
    assert "parameters" not in middle
    assert header(full, "component", 60, wide=True) == ["component", "non-zero", "%", "moved", "FLOP/B", "time", "%"]
    assert not set(ASKED) & set(header(full, "component", 200))


def test_wide_columns_of_a_record_without_traffic_are_dashes(real: Breakdown):
    lines = terminal.render(real, width=140, wide=True).splitlines()
    assert header(real, "component", 140, wide=True).count("FLOP/B") == 1
    assert next(line for line in lines if line.startswith(" ffn")).split()[9:12] == ["–", "–", "–"]


@pytest.mark.parametrize("width", range(30, 180, 7))
def test_a_share_never_stands_without_what_it_is_of(width: int, full: Breakdown):
    for wide in (False, True):
        words = header(full, "component", width, wide)
        of = {"parameters", "params", "MACs", "FLOPs"} & set(words)
        lone = sum(word == "%" for word in words) - ("non-zero" in words) - 1
        assert lone <= len(of)
        assert "±" not in words or "ms" in words


def test_a_pruned_model_shows_it_unasked(full: Breakdown):
    assert "non-zero" in header(full, "component", 80)
    full.workload.padding = 0.0
    assert "useful" not in header(full, "component", 200)


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (60, ["own", "incl.", "own", "incl."]),
        # From here on the last is that of the bars.
        (100, ["component", "own", "incl.", "incl.", "own", "incl.", "own"]),
        (150, ["class", "component", *["own", "incl."] * 2, "incl.", "own", "incl.", "own", "own"]),
        (170, ["class", "component", *["own", "incl."] * 4, "own", "own"]),
    ],
)
def test_the_tree_by_width(width: int, columns: list[str], real: Breakdown):
    assert header(real, "module", width) == ["module", *columns]


def test_the_tree_in_a_terminal(real: Breakdown):
    assert real.modules is not None
    path, component = "encoder.layer.0.attention.self.core()", Component.SOFTMAX_ATTENTION
    counts = {"calls": 1, "parameters": 0, "macs": 0, "flops": 0}
    real.modules.append(Module(path=path, type="method", unit=0, component=component, time_ms=0.25, **counts))
    lines = terminal.render(real, by="module", width=170).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("       core()"))
    *figures, bar = lines[at].split()
    assert figures == ["core()", "method", "softmax-attention", *["0"] * 6, "0.25", "0.25", "0.2"]
    assert bar.startswith("█")
    assert lines[at - 1].startswith("       value")
    assert lines[at + 1].startswith("      output")
    total = next(line for line in lines if line.startswith(" total"))
    assert total.split() == ["total", "109.5M", "11.17G", "22.43G", "103.0", "100.0"]


def test_colour_only_when_asked(real: Breakdown):
    assert "\x1b[" in terminal.render(real, color=True)


def test_terminal_is_not_obeyed(hostile: Breakdown):
    for by in ("component", "module"):
        assert "\x1b" not in terminal.render(hostile, by=by)


def test_caveats_are_shown_everywhere(real: Breakdown):
    real.caveats = [Caveat(code="x", text="something to know")]
    for content in (terminal.render(real), markdown.render(real), page.render(real), page.fragment(real)):
        assert "something to know" in content


def test_the_checkpoint_is_shown_everywhere_timed_or_not(real: Breakdown, untimed: Breakdown):
    for breakdown in (real, untimed):
        breakdown.checkpoint = Checkpoint(format="safetensors", files=2, file_bytes=10, load_time_ms=None)
        for content in (terminal.render, markdown.render, page.render, page.fragment):
            assert "checkpoint: safetensors, 2 files, 10 B on disk" in content(breakdown)


def test_page_carries_the_numbers_and_needs_nothing(real: Breakdown):
    content = page.render(real)
    table = grids(content)[0]
    body = {label: texts for label, texts, _ in table.rows}
    assert body["ffn"][:8] == ["56.67M", "51.8", "226.7 MB", "51.8", "7.248G", "64.9", "14.54G", "64.8"]
    assert table.column("parameters")["total"] == ("109.5M", 109_482_240)
    assert parsed(content).fetched == []


def test_page_without_time(untimed: Breakdown):
    assert grids(page.render(untimed))[0].names[1:] == [
        *("parameters", "parameters_share", "parameter_bytes", "parameter_bytes_share"),
        *("macs", "macs_share", "flops", "flops_share"),
    ]


def test_page_wide(full: Breakdown):
    html = page.render(full, wide=True)
    table = grids(html)[0]
    assert table.headers[11:14] == ["moved", "FLOP/B", "activations"]
    body = {label: texts for label, texts, _ in table.rows}
    assert body["ffn"][:6] == ["56.67M", "51.8", "40.0", "226.7 MB", "51.8", "7.248G"]
    assert body["ffn"][10:13] == ["238.7 MB", f"{14_539_161_600 / 238_676_736:.1f}", "12.00 MB"]
    assert table.column("flops")["ffn"][1] == 14_539_161_600
    assert "bytes that operators read and write" in html
    assert "bytes that operators read and write" not in page.render(full)


def test_page_by_module_is_a_tree(real: Breakdown):
    table = grids(page.render(real, "module"))[0]
    assert table.headers[:4] == ["module", "own", "incl.", "own %"]
    assert (table.rows[0][0], table.rows[0][1][:2]) == ("(model)", ["0", "109.5M"])
    layer = next(texts for label, texts, _ in table.rows if label == "0")
    assert layer[:5] == ["0", "7.088M", "0.0", "0", "931.1M"]


def test_page_shows_claims_when_asked(real: Breakdown):
    text = page.render(real, claims=claims.check(real))
    assert text.count("<td>yes</td>") == 9


def test_hostile_names_are_inert_on_the_page(hostile: Breakdown):
    for by in ("component", "module"):
        html = page.render(hostile, by)
        found = parsed(html)
        assert "img" not in found.tags
        assert found.tags.count("script") == 1
        assert found.fetched == []
        assert "\x1b" not in html


def test_figure_has_the_surveys_bars_in_its_order_and_then_the_rest(real: Breakdown):
    drawn = figure.draw([real])
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


def test_figure_without_time_has_the_upper_panels_only(untimed: Breakdown):
    assert len(figure.draw([untimed]).axes) == 2


def test_png_is_an_image_and_svg_is_xml(real: Breakdown, hostile: Breakdown):
    image = matplotlib.image.imread(io.BytesIO(render(real, Path("x.png"))))
    assert image.shape[1] == 2161  # 183 mm at 300 dots an inch
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
    for by in (*rows.VIEWS, "cost"):
        assert real.frame(by)[list(TRAFFIC)].isna().all(axis=None)
    tree = real.frame("module").set_index("module")
    assert tree.loc["(model)", "inclusive_macs"] == 11_174_215_680
    assert tree.loc["encoder.layer.0", "type"] == "BertLayer"
    assert tree["inclusive_time_ms"].isna().any()
    assert tree["parameter_bytes"].isna().all()
    assert "inclusive_macs" not in frame
    with pytest.raises(UsageError, match="'colour'"):
        real.frame("colour")


def test_frame_of_a_full_record(full: Breakdown):
    frame = full.frame()
    assert frame["nonzero_parameters"].sum() == full.total("nonzero_parameters")
    assert frame["intensity_flop_per_byte"].to_list() == pytest.approx(
        (frame["flops"] / frame["bytes_moved"]).to_list()
    )
    assert full.frame("cost")["useful_macs"].sum() == full.total("useful_macs")
    full.costs[0].bytes_moved = None
    assert full.frame()["bytes_moved"].isna().to_list() == [True] + [False] * (len(frame) - 1)
    assert full.frame()["intensity_flop_per_byte"].dtype == "float64"


def test_a_breakdown_shows_itself(real: Breakdown):
    assert real._repr_html_() == page.fragment(real)
    assert str(real) == real.text()
    assert real.text("module", 90, wide=True) == terminal.render(real, "module", 90, wide=True)
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
    empty = made(cost(Component.FFN, 0))
    for suffix in RENDERERS:
        assert json.dumps(render(empty, Path(f"x{suffix}")).decode(errors="replace"))
