"""The page of several records: what is read back from it are the records' own figures."""

import json
from math import isclose

import pytest
from compared import HOSTILE, distilled, real, untimed
from large import large_breakdown
from test_several import faster
from trees import Table, table_of, tree

from bertprof import record, schema
from bertprof.components import Component
from bertprof.errors import UsageError
from bertprof.record import Breakdown, Caveat
from bertprof.report import lines, page, rows, several
from bertprof.report.page import several as several_page
from bertprof.report.page.grid import DIGITS
from bertprof.report.palette import COLORS, REST, ink_on
from handmade import cost, made

FIELDS = {"time": "time_ms", "parameters": "parameters", "bytes": "bytes", "MACs": "macs", "FLOPs": "flops"}
CALLED = {**FIELDS, "bytes": "parameter_bytes"}
"""Metric → what a program calls its column."""


def tables(content: str) -> dict[tuple[str, str], Table]:
    """The tables by view and metric."""
    shown = tree(content).one("section", aria_label="Row by row")
    return {
        (view.attributes["data-by"], view.attributes["data-metric"]): table_of(view) for view in shown.all("details")
    }


@pytest.mark.parametrize("sides", [(real, faster), (real, distilled, faster)], ids=["timed", "mixed"])
def test_every_figure_is_the_records(sides):
    breakdowns = [make() for make in sides]
    names = several.names(breakdowns)
    found = tables(page.render_several(breakdowns, wide=True))
    views = ["component", "group", "unit", *(["module"] if distilled not in sides else [])]
    metrics = ["parameters", "bytes", "MACs", "FLOPs"]
    # What all know stands first: that is seen at once.
    metrics = [*metrics, "time"] if distilled in sides else ["time", *metrics]
    assert [*found] == [(by, m) for by in views for m in metrics if (by, m) != ("module", "bytes")]
    for (by, metric), table in found.items():
        for i, (name, breakdown) in enumerate(zip(names, breakdowns, strict=True)):
            of = {row.label: row for row in (*rows.table(breakdown, by), rows.total(breakdown))}
            assert of.keys() <= table.values.keys()
            for label, values in table.values.items():
                expected = None if label not in of else getattr(of[label], FIELDS[metric])
                figure = expected.value if metric == "time" and expected is not None else expected
                first = values[f"{names[0]}: {CALLED[metric]}"]
                ratio = None if not i or figure is None or not first else figure / first
                own, stem = f"{name}: {CALLED[metric]}", f"{name}: {CALLED[metric].removesuffix('_ms')}"
                for column, value in ((own, figure), *([(f"{stem}_ratio", ratio)] if i else [])):
                    assert (values[column] is None) == (value is None)
                    assert value is None or isclose(values[column], value, rel_tol=10 ** (1 - DIGITS))
                assert table.texts[label][own] != "" if figure is not None else table.texts[label][own] == "–"


def test_shares_of_half_the_cost():
    # 30 of 40 and 10 of 40; 5 of 20 and 15 of 20.
    sides = [
        made(cost(Component.FFN, 0, parameters=a, parameter_bytes=4 * a), cost(Component.HEAD, parameters=b))
        for a, b in ((30, 10), (5, 15))
    ]
    for side, label in zip(sides, "ab", strict=True):
        side.label = label
    found = tables(page.render_several(sides))["component", "parameters"]
    columns = [f"a: {name}" for name in ("parameters", "parameters_share")]
    columns += [f"b: {name}" for name in ("parameters", "parameters_share", "parameters_ratio")]
    assert found.texts == {
        "ffn": dict(zip(columns, ("30", "75.0", "5", "25.0", "0.17"), strict=True)),
        "head": dict(zip(columns, ("10", "25.0", "15", "75.0", "1.50"), strict=True)),
        "total": dict(zip(columns, ("40", "100.0", "20", "100.0", "0.50"), strict=True)),
    }
    assert [*found.values["head"].values()] == [10, 0.25, 15, 0.75, 1.5]
    # Bytes are of ffn alone.
    assert tables(page.render_several(sides))["component", "bytes"].texts["ffn"]["b: parameter_bytes_share"] == "100.0"


def test_totals_stand_first():
    root = tree(page.render_several([real(), distilled()]))
    assert [heading.text for heading in root.all("h2")][:2] == ["Totals", "Where the cost stands"]
    totals = table_of(root.one("section", aria_label="Totals"))
    assert totals.texts["parameters"] == {
        "bert-base-uncased: figure": "109.5M",
        "distilbert-base-uncased: figure": "66.36M",
        "distilbert-base-uncased: figure_ratio": "0.61",
    }
    assert totals.values["parameters"]["distilbert-base-uncased: figure"] == 66_362_880
    assert totals.texts["latency ms"]["distilbert-base-uncased: figure"] == "–"


def test_what_was_asked_for_is_open_and_can_be_switched():
    shown = tree(page.render_several([real(), faster()], "unit")).one("section", aria_label="Row by row")
    opened = [view.attributes for view in shown.all("details") if "open" in view.attributes]
    assert [(each["data-by"], each["data-metric"]) for each in opened] == [("unit", "time")]
    options = {
        select.attributes["data-control"]: [option.attributes["value"] for option in select.all("option")]
        for select in shown.all("select")
    }
    assert options["by"] == ["unit", "group", "component"]
    assert options["metric"] == ["time", "parameters", "bytes", "MACs", "FLOPs"]
    counted = tree(page.render_several([untimed(real()), distilled()]))
    assert {option.attributes["value"] for option in counted.all("option")} >= {"FLOPs"}
    assert "time" not in {option.attributes["value"] for option in counted.all("option")}
    with pytest.raises(UsageError, match="holds no modules"):
        page.render_several([real(), distilled()], "module")


def test_modules_are_there_where_they_are_asked_for():
    sides = [real(), faster()]
    assert "module" not in {by for by, _ in tables(page.render_several(sides))}
    for by, wide in (("module", False), ("component", True)):
        found = tables(page.render_several(sides, by, wide))
        # Of bytes a record knows nothing by module.
        assert [metric for view, metric in found if view == "module"] == ["time", "parameters", "MACs", "FLOPs"]


@pytest.fixture(scope="module")
def of_bert_large() -> str:
    return page.render_several([large_breakdown(), large_breakdown()])


def test_two_of_bert_large_are_light(of_bert_large: str):
    assert len(of_bert_large.encode()) < 300_000


def test_what_no_kernel_runs_is_said_beside_its_figure():
    packed = real()
    packed.caveats.append(Caveat(code="no-kernel", text="x"))
    for sides in ([packed, real()], [real(), packed]):
        root = tree(page.render_several(sides))
        latency = table_of(root.one("section", aria_label="Totals")).texts["latency ms"]
        said = [f"({lines.NO_KERNEL})" in latency[f"{name}: figure"] for name in several.names(sides)]
        assert said == [side is packed for side in sides]
        # Neither is as often as the other: one is of other weights.
        assert latency[f"{several.names(sides)[1]}: figure_ratio"] == "–"
        time = next(each for each in root.all("figure") if each.one("figcaption").text == "Time")
        wholes = [each.text for each in time.all("span", class_name="whole")]
        assert [whole.endswith("dequantised") for whole in wholes] == said


def test_bars_are_as_wide_as_shares():
    sides = [real(), distilled()]
    root = tree(page.render_several(sides))
    found = dict(several_page.blocks(sides))
    assert [*found] == ["Bytes", "FLOPs", "Time"]
    for figure, bars in zip(root.all("figure"), found.values(), strict=True):
        for stack, bar in zip(figure.all("span", class_name="stack"), bars, strict=True):
            parts = [part.attributes["style"] for part in stack.all("span") if "style" in part.attributes]
            widths = [float(style.split(";")[0].split(":")[1]) for style in parts]
            assert widths == [pytest.approx(part.share, abs=1e-5) for part in bar.parts]
            assert not widths or sum(widths) == pytest.approx(1, abs=1e-4)
            assert stack.attributes["aria-label"] == bar.said
    first, second = found["FLOPs"]
    assert (first.total, second.total) == ("22.43G", "11.21G")
    assert next(part.text for part in second.parts if part.said == "ffn 64.8 %") == "65 %"
    assert "ffn 64.8 %" in second.said
    assert found["Time"][1].said == "distilbert-base-uncased, time –: nothing known"


@pytest.mark.parametrize("color", [*COLORS.values(), REST, "#000000", "#ffffff", "#767676"])
def test_numbers_on_bars_can_be_read(color: str):
    """By the contrast ratio of WCAG 2.2, of which AA asks 4.5."""

    def luminance(color: str) -> float:
        linear = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in linear]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05

    low, high = sorted((luminance(color), luminance(ink_on(color))))
    assert high / low >= 4.5


def test_each_record_can_be_saved():
    sides = [real(), faster()]
    links = [each for each in tree(page.render_several(sides)).all("a") if "data-record" in each.attributes]
    assert [link.attributes["download"] for link in links] == ["bert-base-uncased.json.gz", "faster.json.gz"]
    for link, side in zip(links, sides, strict=True):
        head, _, content = link.attributes["href"].partition(",")
        assert head == "data:application/gzip;base64"
        page_of_one = f'<!DOCTYPE html><a href="{head},{content}" data-record>'.encode()
        assert record.decode(schema.unpacked(page_of_one, "x"), "x") == side


def test_a_page_of_several_is_no_record():
    with pytest.raises(schema.RecordError, match="carries 2 records"):
        schema.unpacked(page.render_several([real(), faster()]).encode(), "x")


def test_what_is_common_and_what_is_not():
    other = faster()
    other.caveats = [Caveat(code="x", text="load")]
    root = tree(page.render_several([real(), other]))
    assert several.described([real(), other])[0] in root.one("header").text
    assert "faster: load" in root.one("section", class_name="caveats").text


def harmful() -> Breakdown:
    bad = real()
    bad.label = bad.host.cpu = bad.workload.dtype = bad.workload.backend = HOSTILE
    bad.caveats = [Caveat(code="x", text=HOSTILE)]
    assert bad.modules is not None
    bad.modules[3].path = f"embeddings.{HOSTILE}"
    bad.modules[3].type = HOSTILE
    return bad


def test_what_means_harm_is_text():
    usual = tree(page.render_several([real(), faster()]))
    root = tree(page.render_several([real(), harmful()], "module"))
    assert {node.tag for node in root.all()} <= {node.tag for node in usual.all()} | {"section", "ul", "li"}
    assert {name for node in root.all() for name in node.attributes} <= {
        name for node in usual.all() for name in node.attributes
    }
    (script,) = root.all("script")
    assert script.inside == usual.one("script").inside
    assert json.dumps(HOSTILE[:10])[1:-1] in root.text


def test_each_record_tells_how_it_was_measured():
    sides = [real(), faster()]
    sides[0].command, sides[1].command = "bertprof breakdown bert-base-uncased", None
    shown = tree(page.render_several(sides)).all("details", class_name="origin")
    assert [each.one("summary").text for each in shown] == [
        f"{name}: command and environment" for name in several.names(sides)
    ]
    assert shown[0].one("pre").text == "bertprof breakdown bert-base-uncased"
    assert not shown[1].all("pre")
    assert "carries no command" in shown[1].text
    for side, each in zip(sides, shown, strict=True):
        assert side.host.torch in each.text
        assert side.created in each.text


def test_the_answer_stands_above():
    shown = tree(page.render_several([real(), distilled()])).one("p", class_name="answer")
    assert shown.text == several.headline([real(), distilled()])
