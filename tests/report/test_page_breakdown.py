"""The page of a breakdown: its figures are the record's, in every view, with and without its script."""

import re
from html import unescape
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from large import large_breakdown
from markupsafe import Markup
from pages import Grid, grids, parsed

import bertprof
from bertprof import record, schema
from bertprof.components import Component
from bertprof.observations import Energy
from bertprof.record import Breakdown, Host, Operator, Workload
from bertprof.report import lines, page, rows, tabular
from bertprof.report.page import costs
from bertprof.report.page.drawn import inline_svg
from bertprof.report.roof_points import points
from bertprof.survey import claims
from handmade import breakdowns, cost, made

DATA = Path(__file__).parents[1] / "data"
PUBLISHED = Path(__file__).parents[2] / "reports" / "figure2-cpu" / "figure2.html"
HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>&lt;\u202eabc\x1b[31m"


@pytest.fixture
def real() -> Breakdown:
    return bertprof.load(DATA / "bert-base-uncased.json")


@pytest.fixture(scope="module")
def large() -> str:
    return page.render(large_breakdown(), "unit")


def view(content: str, by: str) -> Grid:
    return next(grid for grid in grids(content) if grid.caption.startswith(f"Cost by {by}."))


def records(breakdown: Breakdown, by: str) -> dict[str, dict[str, Any]]:
    """What a program reads of a view, by the names of the rows."""
    labels = [row.label for row in rows.table(breakdown, by)]
    return dict(zip(labels, tabular.records(breakdown, by), strict=True))


def about(value: float | None) -> Any:
    """What a page carries of a value: seven digits of it; nothing of nothing."""
    return None if value is None else pytest.approx(value, rel=1e-6)


def number(text: str) -> float:
    """A figure as it is printed: 14.54G, 226.7 MB, 1,377."""
    found = re.fullmatch(r"(-?[\d,.]+) ?([kMGT]?)B?", text)
    assert found is not None, text
    return float(found[1].replace(",", "")) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[found[2]]


# Figures --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["group", "component", "unit"])
def test_every_view_carries_the_records_figures(by: str, real: Breakdown):
    grid = view(page.render(real), by)
    wanted = records(real, by)
    assert [label for label, _, _ in grid.rows] == [*wanted, "total"]
    for name in ("parameters", "parameter_bytes", "macs", "flops"):
        column = grid.column(name)
        assert {label: value for label, (_, value) in column.items() if label != "total"} == {
            label: found[name] for label, found in wanted.items()
        }
        assert column["total"][1] == sum(value for label, (_, value) in column.items() if label != "total")
    for name in ("parameters_share", "macs_share", "flops_share", "time_share", "time_ms"):
        found = {label: value for label, (_, value) in grid.column(name).items()}
        assert {label: found[label] for label in wanted} == pytest.approx(
            {label: row[name] for label, row in wanted.items()}, rel=1e-6
        )
        assert sum(found[label] for label in wanted) == pytest.approx(found["total"], rel=1e-4)


def test_figures_of_bert_base_in_closed_form(real: Breakdown):
    ffn = {name: view(page.render(real), "component").column(name)["ffn"] for name in ("parameters", "macs", "flops")}
    # 12 units, 768 × 3072 both ways, with biases; 128 tokens; GELU and biases beside the products.
    assert ffn["parameters"] == ("56.67M", 12 * (2 * 768 * 3072 + 3072 + 768))
    assert ffn["macs"] == ("7.248G", 12 * 2 * 128 * 768 * 3072)
    assert ffn["flops"][1] >= 2 * ffn["macs"][1]


@pytest.mark.parametrize("wide", [False, True])
def test_texts_say_what_the_values_are(wide: bool):
    for grid in grids(page.render(large_breakdown(), wide=wide)):
        for label, texts, values in grid.rows:
            for name, text, value in zip(grid.names[1:], texts, values, strict=True):
                if value is None:
                    assert text in ("–", ""), (grid.caption, label, name)
                elif isinstance(value, str):
                    assert text == value
                else:
                    scale = 100 if name.endswith("share") else 1e-9 if name.startswith("achieved") else 1
                    assert number(text) == pytest.approx(scale * value, rel=6e-3, abs=0.051), (label, name)


def test_modules_carry_their_own_and_inclusive_figures(real: Breakdown):
    grid = view(page.render(real), "module")
    wanted = tabular.records(real, "module")
    assert len(grid.rows) == len(wanted) + 1
    for (label, _, values), row in zip(grid.rows, wanted, strict=False):
        found = dict(zip(grid.names[1:], values, strict=True))
        assert str(row["module"]).endswith(label)
        for name in grid.names[1:]:
            assert found[name] == about(row[name]), (label, name)


def test_a_module_whose_parent_is_unknown_keeps_its_path():
    parts = [cost(Component.FFN, 0, parameters=1)]
    tree = made(*parts, modules=[module("a.b.c", 1), module("a.b.c.d", 0, macs=0, flops=1), module("e", 0, flops=1)])
    tree.costs[0].flops = 2
    placed = [(line.depth, line.label) for line in costs.grid(tree, "module").lines]
    assert placed == [(1, "a.b.c"), (2, "d"), (1, "e")]


def module(path: str, parameters: int, **fields: Any) -> record.Module:
    counts = {"macs": 0, "flops": 0, **fields}
    return record.Module(path=path, type="T", unit=0, component=Component.FFN, calls=1, parameters=parameters, **counts)


@settings(max_examples=10)
@given(breakdowns())
def test_any_record_has_a_page_with_its_figures(breakdown: Breakdown):
    content = page.render(breakdown, wide=True)
    for by in ("group", "component", "unit"):
        grid = view(content, by)
        wanted = records(breakdown, by)
        for name in set(grid.names) & {"parameters", "macs", "flops", "bytes_moved", "activation_bytes", "energy_mj"}:
            values = {label: value for label, (_, value) in grid.column(name).items() if label != "total"}
            assert values == {label: about(row[name]) for label, row in wanted.items()}
    carried = schema.head_of(content.encode(), "page")
    assert record.of(carried, "page") == breakdown


# Shares of what only a choice shows -----------------------------------------------------------------------------------


def test_bytes_energy_and_gpu_time_have_shares_that_show_once_chosen():
    drawn = made(
        cost(Component.FFN, 0, [1.0] * 2, parameter_bytes=3, device_time_ms=[3.0] * 2, energy_mj=[30.0] * 2),
        cost(Component.HEAD, None, [1.0] * 2, parameter_bytes=1, device_time_ms=[1.0] * 2, energy_mj=[10.0] * 2),
        workload={"device": "cuda:0", "clock": "events"},
        energy=Energy(method="replay", total_mj=[40.0, 40.0]),
    )
    usual, wide = (view(page.render(drawn, wide=wide), "component") for wide in (False, True))
    extra = ["parameter_bytes_share", "device_time_ms", "device_time_share", "energy_mj", "energy_share"]
    assert usual.hidden == extra
    assert wide.hidden == []
    for grid in (usual, wide):
        assert grid.column("energy_mj")["ffn"] == ("30.0", 30)
        for name in ("parameter_bytes_share", "device_time_share", "energy_share"):
            assert {label: pair[1] for label, pair in grid.column(name).items()} == {
                "ffn": 0.75,
                "head": 0.25,
                "total": 1,
            }


# How figures come about -----------------------------------------------------------------------------------------------


def tips(content: str) -> list[str]:
    return [unescape(found) for found in re.findall(r'<span class="tip" title="([^"]*)"', content)]


def test_tips_reckon_right(large: str):
    found = tips(large)
    whole = large_breakdown()
    assert len(found) == 25 + 7 + 5  # units and what is outside, components, groups
    made_of = [
        tuple(int(part.replace(",", "")) for part in match)
        for text in found
        for match in re.findall(r"FLOPs: ([\d,]+) = 2 × ([\d,]+) MACs \+ ([\d,]+) other", text)
    ]
    assert made_of
    assert all(flops == 2 * macs + other for flops, macs, other in made_of)
    ffn = next(text for text in found if "24 × aten::gelu" in text)
    flops = sum(c.flops for c in whole.of(Component.FFN))
    share = whole.time_share(whole.of(Component.FFN))
    assert share is not None
    assert f"FLOPs: {flops:,} = " in ffn
    assert f"= {100 * share.value:.1f} % of the forward with marks" in ffn
    assert "48 × aten::linear: 25.77G MACs" in ffn


def test_a_tip_names_the_dearest_operators_and_counts_the_others():
    operators = {f"op{i}": Operator(calls=1, macs=0, flops=i) for i in range(9)}
    (line,) = costs.grid(made(cost(Component.FFN, 0, flops=36, operators=operators)), "unit").lines
    text = line.tip
    assert [each for each in text.splitlines() if "×" in each] == [f"1 × op{i}: {i} FLOPs" for i in (8, 7, 6)]
    assert text.endswith("and 6 more operators")


# Layout ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", rows.VIEWS)
def test_the_view_that_is_asked_for_stands_first_and_open(by: str, real: Breakdown):
    found = re.findall(r'<details class="view" data-by="(\w+)"( open)?>', page.render(real, by))
    assert found[0] == (by, " open")
    assert [name for name, opened in found[1:] if opened] == []
    assert {name for name, _ in found} == set(rows.VIEWS)
    assert re.search(r'data-control="by"><option value="(\w+)"', page.render(real, by))[1] == by  # type: ignore[index]


def test_what_a_record_does_not_hold_is_not_on_the_page(real: Breakdown):
    content = page.render(real)
    assert "Unit by component" in content
    assert "What bounds each component" not in content  # it has no peaks
    real.modules = None
    real.instrumented_ms = real.end_to_end_ms = None
    for each in real.costs:
        each.time_ms = None
    content = page.render(real)
    assert 'data-by="module"' not in content
    assert not any("time_ms" in grid.names for grid in grids(content))
    assert "Each component in each unit: time" not in content
    assert "Run time" not in content
    assert "Nothing was timed" in content
    assert "Unit by component" not in page.render(made(cost(Component.HEAD, None, parameters=1)))


def test_the_heat_map_sums_to_the_components(real: Breakdown):
    maps = {re.findall(r"unit: ([^.]*)\.", g.caption)[0]: g for g in grids(page.render(real)) if "Each" in g.caption}
    assert list(maps) == ["time, ms", "FLOPs", "MACs", "parameters"]
    for what, of in (("FLOPs", "flops"), ("MACs", "macs"), ("parameters", "parameters")):
        for component in {c.component for c in real.costs}:
            column = maps[what].column(f"{component.replace('-', '_')}_{of}")
            assert len(column) == 12 + 1
            assert sum(value or 0 for _, value in column.values()) == sum(getattr(c, of) for c in real.of(component))
    ffn = real.time_of(c for c in real.costs if (c.unit, c.component) == (3, Component.FFN))
    assert ffn is not None
    assert maps["time, ms"].column("ffn_time_ms")["unit 3"][1] == pytest.approx(ffn.value, rel=1e-6)


def test_figure_2_has_the_surveys_parts_in_its_order_on_one_scale(real: Breakdown):
    content = page.render(real)
    found = re.findall(
        r"<li><span>([^<]*)</span> <span>([^<]*)</span> <span>([\d.]+) %</span>\s*"
        r'<div class="bar" aria-hidden="true">(?:<div style="width:([\d.]+)%)?',
        content,
    )
    order = ["embedding", "linear before attention", "softmax attention", "linear after attention", "FFN", "rest"]
    assert [name for name, *_ in found] == 3 * order
    sizes = [number(text) for _, text, _, _ in found[:6]]
    assert sum(sizes) == pytest.approx(real.total("parameter_bytes"), rel=1e-4)
    assert sum(number(text) for _, text, _, _ in found[6:12]) == pytest.approx(real.total("flops"), rel=1e-3)
    scale = {float(length) / float(share) for _, _, share, length in found if float(share) > 20}
    assert max(scale) == pytest.approx(min(scale), rel=5e-3)
    assert max(float(length or 0) for *_, length in found) <= 100


def test_key_figures(real: Breakdown):
    content = page.render(real)
    found = dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)", content))
    latency = real.end_to_end_time_ms
    assert latency is not None
    assert found["parameters"] == "109.5M"
    assert found["size of the weights"] == "437.9 MB"
    assert found["latency"] == f"{latency.value:.1f} ms"
    assert number(found["tokens a second"]) == pytest.approx(real.tokens_per_second, abs=0.5)
    assert f"[{latency.low:.1f}, {latency.high:.1f}]" in content


def test_a_latency_of_dequantised_weights_says_so(real: Breakdown):
    assert lines.NO_KERNEL not in page.render(real)
    real.caveats.append(record.Caveat(code="no-kernel", text="dequantised"))
    tile = re.search(r"<dt>latency</dt><dd>[^<]*<small>([^<]*)</small>", page.render(real))
    assert tile is not None
    assert tile[1].endswith(f"; {lines.NO_KERNEL}")


def test_memory_in_figure_2_is_in_bytes_and_so_are_its_shares():
    # Half of the parameters, quantised to a byte each: 100 of 100 + 400 bytes.
    content = page.render(
        made(
            cost(Component.FFN, 0, parameters=100, parameter_bytes=100, flops=1),
            cost(Component.EMBEDDING, None, parameters=100, parameter_bytes=400),
        )
    )
    assert "<li><span>embedding</span> <span>400 B</span> <span>80.0 %</span>" in content
    assert "<li><span>FFN</span> <span>100 B</span> <span>20.0 %</span>" in content
    column = view(content, "component").column("parameter_bytes_share")
    assert {label: value for label, (_, value) in column.items()} == {"embedding": 0.8, "ffn": 0.2, "total": 1}


@pytest.mark.parametrize("flops", [[0, 0], [10**6, 0], [0, 10**6], [10**6, 10**6]])
@pytest.mark.parametrize("moved", [[10**4, 10**4], [None, 10**4], [None, None]])
def test_the_roofline_stands_where_it_can_be_drawn(flops: list[int], moved: list[int | None]):
    parts = zip((Component.FFN, Component.SOFTMAX_ATTENTION), flops, moved, strict=True)
    costs = [cost(part, 0, [1.0] * 6, flops=work, bytes_moved=traffic) for part, work, traffic in parts]
    drawn = made(*costs, peaks=large_breakdown().peaks, workload={"threads": 2})
    found, _ = points(drawn)
    assert bool(found) == any(work and traffic for work, traffic in zip(flops, moved, strict=True))
    assert ("<svg" in page.render(drawn)) == bool(found)


def test_rounding_a_drawing_leaves_its_texts():
    drawn = b'<?xml version="1.0"?><svg width="9pt" height="9pt"><path d="M 1.23456 -0.00049"/><text>0.001</text></svg>'
    found = inline_svg(drawn, "a < b")
    assert isinstance(found, Markup)
    assert '<path d="M 1.23 -0"/><text>0.001</text>' in found
    assert 'aria-label="a &lt; b"' in found
    assert " width=" not in found


def test_no_clocks_are_nothing_to_tell(real: Breakdown):
    real.host.clocks = {}
    assert '<th scope="row">clocks</th>' not in page.render(real)
    real.host.clocks = {"sm": 1}
    assert '<th scope="row">clocks</th><td>sm 1 MHz</td>' in page.render(real)


def test_columns_of_the_heat_map_have_their_metric_and_unit(real: Breakdown):
    maps = [grid for grid in grids(page.render(real)) if "Each component" in grid.caption]
    names = [name for grid in maps for name in grid.names[1:]]
    assert len(names) == len(set(names))
    assert {"softmax_attention_time_ms", "ffn_flops", "ffn_macs", "embedding_parameters"} <= set(names)


def test_the_roofline_stands_where_it_was_measured(large: str):
    assert large.count("<svg") == 1
    assert "What bounds each component" in large
    assert "peaks of the device: 180 GFLOP/s float32" in large


def test_how_to_make_it_again(real: Breakdown):
    assert "measured in Python" in page.render(real)
    real.command = "bertprof breakdown <x> --label 'two  spaces\x1b' && rm"
    content = page.render(real)
    assert "<code>bertprof breakdown &lt;x&gt; --label &#39;two  spaces�&#39; &amp;&amp; rm</code>" in content
    assert "measured in Python" not in content


def test_all_that_is_known_of_workload_and_machine_is_told(real: Breakdown):
    real.workload = Workload(
        model="the model",
        config_sha256="c0ffee",
        recipes=["heads=6"],
        task="masked-lm",
        batch_size=77,
        sequence_length=140,
        segments=[60, 80],
        padding=0.123,
        mask="4d",
        dtype="bfloat16",
        attention="eager",
        backend="onnxruntime",
        device="cuda:3",
        clock="events",
        marks="hooks",
        threads=31,
        weights="checkpoint",
    )
    real.host = Host(
        cpu="the CPU",
        cores=53,
        memory_bytes=999_000_000,
        os="the system",
        gpu="the GPU",
        gpu_memory_bytes=888_000_000,
        driver="555.1",
        clocks={"sm": 1234},
        python="3.99",
        torch="2.98",
        transformers="5.97",
        fvcore="0.96",
    )
    text = page.render(real)
    shown = dict(re.findall(r'<tr><th scope="row">([^<]*)</th><td>([^<]*)</td></tr>', text))
    told = ("the model", "c0ffee", "heads=6", "masked-lm", "77", "140 tokens", "60 + 80", "12.3 %", "4d", "bfloat16")
    told += ("eager", "onnxruntime", "cuda:3", "events", "hooks", "31", "checkpoint", "the CPU", "53", "999.0 MB")
    told += ("the system", "the GPU", "888.0 MB", "555.1", "sm 1234 MHz", "3.99", "2.98", "5.97", "0.96")
    assert set(told) <= set(shown.values())
    # A field that is new has a place here as well.
    assert len(msgspec.structs.fields(Workload)) == 17
    assert len(msgspec.structs.fields(Host)) == 14


# What a page must be --------------------------------------------------------------------------------------------------


def test_size(large: str, real: Breakdown):
    assert len(large.encode()) < 300_000
    published = bertprof.load(PUBLISHED)
    for base in (real, published):
        assert len(page.render(base, claims=claims.check(base)).encode()) < 200_000


def test_the_same_record_gives_the_same_page(large: str):
    assert page.render(large_breakdown(), "unit") == large


def test_a_page_needs_nothing_and_runs_one_script(large: str):
    assert parsed(large).fetched == []
    assert "@import" not in large
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", large))
    assert large.count("<script>") == 1
    assert re.search(r"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-[^']{44}'", large)


def test_the_page_carries_its_record(large: str):
    assert record.decode(large.encode(), "page") == large_breakdown()
    assert re.search(r'<a class="button" download="bert-large-uncased.json.gz" href="data:application/gzip', large)


def test_hostile_names_are_inert():
    hostile = large_breakdown()
    hostile.label = HOSTILE + "x" * 5_000
    hostile.command = hostile.workload.model = hostile.host.cpu = HOSTILE
    hostile.caveats = [record.Caveat(code="x", text=HOSTILE)]
    hostile.costs[5].operators[HOSTILE] = Operator(calls=10**9, macs=0, flops=0)
    assert hostile.modules is not None
    hostile.modules[3].path = f"embeddings.{HOSTILE}"
    hostile.modules[3].type = HOSTILE
    for content in (page.render(hostile), page.fragment(hostile), page.fragment(hostile, "module")):
        found = parsed(content)
        assert "img" not in found.tags
        assert found.tags.count("script") == (1 if content.startswith("<!DOCTYPE") else 0)
        assert found.fetched == []
        assert "\x1b" not in content
        assert "\u202e" not in content
    assert record.decode(page.render(hostile).encode(), "page") == hostile


# In a notebook --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", rows.VIEWS)
def test_a_fragment_looks_as_it_should_anywhere(by: str, real: Breakdown):
    content = page.fragment(real, by)
    tags = parsed(content)
    assert not {"script", "style", "link", "details"} & set(tags.tags)
    assert " class=" not in content
    assert " hidden" not in content
    heads = [row for row in tags.rows if row[0] == by]
    assert len(heads) == 1
    assert {len(row) for row in tags.rows[1:]} == {len(heads[0])}
    assert tags.rows[-1][0] == "total"


def test_a_fragment_is_small(real: Breakdown):
    assert len(page.fragment(real)) < 15_000
    assert "FFN" not in page.fragment(real)  # no figure
    assert "56.67M" in page.fragment(real)


# Looks ----------------------------------------------------------------------------------------------------------------


def luminance(rgb: list[float]) -> float:
    """Relative luminance, WCAG 2.2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in rgb)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_figures_on_colour_can_be_read(mode: int, large: str):
    def colour(name: str) -> list[float]:
        return [int(digits, 16) for digits in re.findall("..", re.findall(rf"--{name}: #(\w{{6}})", large)[mode])]

    ink, paper, bar = colour("ink"), colour("paper"), colour("bar")
    strongest = [float(part) for part in re.findall(r"--heat-to: ([\d ]+)", large)[mode].split()]
    for part in range(11):
        heat = [p + part / 10 * (s - p) for p, s in zip(paper, strongest, strict=True)]
        for behind in (heat, bar):
            light, dark = sorted((luminance(ink), luminance(behind)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_the_script_is_small(large: str):
    (script,) = re.findall(r"<script>(.*?)</script>", large, re.DOTALL)
    assert len(script) < 11 * 1024
