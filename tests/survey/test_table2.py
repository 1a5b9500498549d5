import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bertprof
from bertprof import difference, documents, schema, session
from bertprof.compress import recipe
from bertprof.errors import DeviceError, RecordError, UsageError
from bertprof.measurement import Plan
from bertprof.record import Breakdown
from bertprof.report.table2 import beside_later, lines_of
from bertprof.sides import Side
from bertprof.survey import measured, systems, table2
from bertprof.survey.systems import SYSTEMS, Printed
from bertprof.survey.table2 import Macs, Table2
from conftest import TINY
from tabled import BASE, by_hand, model, row, sized, speed, system

REPORTS = Path(__file__).parents[2] / "reports"

# What is printed ------------------------------------------------------------------------------------------------------


def test_all_rows_as_they_are_printed():
    # Table 2 of arXiv 2002.11985v1, line by line.
    def shown(p: Printed) -> str:
        qqp = "–" if p.qqp_accuracy is None else f"{p.qqp_accuracy:g}/{'–' if p.qqp_f1 is None else f'{p.qqp_f1:g}'}"
        speedup = "–" if p.speedup is None else f"{p.speedup:g}x{'*' if p.averaged else ''}"
        rest = ("–" if x is None else f"{x:g}" for x in (p.sst2, p.squad_f1, p.size_per_accuracy))
        return " ".join([f"{p.size:g}%", speedup, "–" if p.mnli is None else f"{p.mnli:g}", qqp, *rest])

    assert [(s.label, shown(s.printed)) for s in SYSTEMS] == [
        ("BERT-base", "100% 1x 84.6 89.2/71.2 93.5 88.5 –"),
        ("DQ", "25% 4x – 87.9/– 92.2 88.5 –"),
        ("DQ", "11.5% – 81.7 – 92.1 87 30.52"),
        ("PR", "53.6% – 86.1 91.2/– 92.4 90.2 –"),
        ("PR", "30.9% – 81.4 89.2/– 90.5 81.7 21.59"),
        ("KD-OL", "11.7% – 78.6 88.6/70.7 91 – 14.72"),
        ("KD-OL", "4.4% 17.7x 72.6 86.2/64.4 89.8 – 7.96"),
        ("KD-EO+OL", "60.5% 1.63x – 89.2/– 92.7 86.9 –"),
        ("KD-EO+OL", "1.6% – 71 – 82.8 – 7.23"),
        ("KD-EO+AM", "23.2% 2.36x 84.3 88.3/70.5 92.6 90.2 256"),
        ("KD-EO+OL+AM", "13.3% 9.4x 82.5 89.2/71.3 92.6 – 41.28"),
        ("AIC", "100% 2.7x* 82.6 90.3/– – 87.1 0"),
        ("AIC", "11.1% – 81.6 – 90.3 89.3 44.45"),
        ("AIC", "1.6% – 71 – 82.8 – 7.23"),
    ]


def test_every_row_runs_or_says_why_not():
    assert len(SYSTEMS) == 14
    for each in SYSTEMS:
        assert (each.model is None) == (each.why_not is not None)
        assert each.paper
        assert each.known_by
        assert each.printed_size
        if each.model is not None:
            name, recipes = recipe.split_model(each.model)
            assert recipe.parse_all(recipes) or name == systems.BASELINE
    # Only a guess is not run: neither its name nor its widths are sure.
    assert [each.name for each in SYSTEMS if each.model is None] == ["Wu BiLSTM?"]
    assert [each.name for each in SYSTEMS if each.sure == "guess"] == ["Wu BiLSTM?"]


def test_a_cache_is_told_apart_from_what_runs_without():
    (deformer,) = [each for each in SYSTEMS if each.uncached is not None]
    assert deformer.name == "DeFormer"
    # Only the cache is between the two, and both run at the same work.
    assert deformer.model == f"{deformer.uncached}+cache-segment=2"
    assert deformer.segments == (24, 296)
    assert [each.name for each in SYSTEMS if "cache-segment" in (each.model or "")] == ["DeFormer"]
    assert [each.name for each in SYSTEMS if each.segments is not None] == ["DeFormer"]


def test_size_saved_for_accuracy_lost_and_the_one_misprint():
    rows = by_hand().rows
    found = {each.system: each.size_per_accuracy for each in rows}
    assert found == {
        "BERT-base": None,
        "Q8BERT": None,  # no MNLI
        "Q-BERT": pytest.approx(88.5 / 2.9),  # (100 − 11.5) / (84.6 − 81.7) = 30.52
        "RPP 59.3 %": None,  # MNLI rose: it is BERT-large's
        "RPP 88.4 %": pytest.approx(69.1 / 3.2),
        "Liu BiLSTM": pytest.approx(88.3 / 6.0),
        "Wu BiLSTM?": pytest.approx(95.6 / 12.0),  # 7.967, printed 7.96
        "DistilBERT": None,
        "Zhao": pytest.approx(98.4 / 13.6),  # 7.235, printed 7.23
        "MobileBERT": pytest.approx(76.8 / 0.3),
        "TinyBERT4": pytest.approx(86.7 / 2.1),  # 41.286, printed 41.28
        "DeFormer": 0,
        "ALBERT": pytest.approx(88.9 / 3.0),  # 29.63, printed 44.45
    }
    assert [each.system for each in rows if each.misprinted] == ["ALBERT"]
    # 44.45 is what an MNLI of 82.6 would give.
    assert system("ALBERT").printed.size_per_accuracy == pytest.approx(88.9 / (84.6 - 82.6))


@given(st.floats(0, 100), st.floats(0, 100))
def test_a_ratio_only_where_accuracy_is_lost(size: float, mnli: float):
    found = table2.size_per_accuracy(Printed(size=size, mnli=mnli), Printed(size=100, mnli=50))
    assert (found is None) == (round(50 - mnli, 9) <= 0)
    assert found is None or found >= 0


def test_the_arithmetic_of_the_notes():
    # The misprints of facts, each with the figures in its row.
    assert "44.45 is 88.9 / 2.0" in " ".join(system("ALBERT").notes)
    assert round(100 * (46.1 + 2 * 48.1) / 3 / 415.4, 1) == 11.4
    assert "mean of the three tasks 11.4 %" in system("Q-BERT").printed_size
    # BERT-base without its pooler, 768² + 768, is what Q-BERT divides by.
    assert round((109_482_240 - 590_592) * 4 / 2**20, 1) == 415.4
    # MobileBERT: the masked-LM head's transform, norm and bias. 25.3M published, 24,844,544 without.
    head = 512 * 512 + 512 + 2 * 512 + 30_522
    assert round(head / 1e6, 2) == 0.29
    assert round((25.3e6 - 24_844_544 - head) / 1e6, 2) == 0.16
    assert "(0.29M)" in " ".join(system("MobileBERT").notes)
    assert (round(342 / 192, 2), round(342 / 62, 1)) == (1.78, 5.5)
    # TinyBERT: the projection of its training.
    assert round((14_350_248 + 312 * 768 + 768) / 1e6, 2) == 14.59
    assert round(668 / 410, 2) == 1.63
    # Wu: a table of words that is all of 4.8M parameters.
    assert round(30_522 * 157 / 1e6, 1) == 4.8
    assert "157 wide" in " ".join(system("Wu BiLSTM?").notes)
    # Liu: 300 in each direction, additive attention, three classes, in MiB; the later edition's MB are MiB.
    lstm, attention, classes = 2 * (4 * 300 * 1068 + 8 * 300), 600**2 + 600 + 600, 3 * 600 + 3
    assert round((lstm + attention + classes) * 4 / 2**20, 1) == 11.2
    assert round(30_522 * 768 * 4 / 2**20, 1) == 89.4
    assert round((109_482_240 - 23_835_648) * 4 / 2**20, 1) == 326.7
    assert round(100 * 11 / 326.7, 2) == 3.37
    # DeFormer: what is published is no average that gives 2.7.
    assert round((3.2 + 1.9 + 2.0) / 3, 1) == 2.4
    assert round((3.2 + 1.9 + 2.0 + 3.5 + 3.4) / 5, 1) == 2.8


def unit_macs(tokens: int) -> int:
    """Of one unit of BERT-base on that many tokens: 12 · 768² a token in the linears, 2 · 768 for each pair of them."""
    return tokens * 12 * 768**2 + 2 * tokens**2 * 768


def deformer_macs(question: int, passage: int, cached: bool) -> int:
    """Nine lower units on the segments apart, or on the question alone, three upper ones on all, the pooler."""
    lower = unit_macs(question) + (0 if cached else unit_macs(passage))
    return 9 * lower + 3 * unit_macs(question + passage) + 768**2


def test_the_factors_of_macs_of_deformer():
    def factor(question: int, passage: int, cached: bool = True) -> float:
        return (12 * unit_macs(question + passage) + 768**2) / deformer_macs(question, passage, cached)

    notes = " ".join(system("DeFormer").notes)
    assert (round(factor(16, 304), 2), round(factor(64, 320), 2)) == (3.51, 2.72)
    assert "3.51 at 16 + 304, 2.72 at 64 + 320" in notes
    assert round(factor(24, 296), 2) == 3.30
    # Without the cache nearly nothing is left of it.
    assert round(factor(24, 296, cached=False), 2) == 1.01
    assert factor(160, 160, cached=False) < 1.03


# What is computed -----------------------------------------------------------------------------------------------------


def test_a_size_by_hand():
    # 20 + 80 of 200 + 800 parameters, all in float32.
    size = sized(model(20, 80))
    assert (size.percent, size.percent_without_embedding) == (10, 10)
    assert size.arithmetic == "100 / 1,000 parameters = 10.0 %"
    # The embedding kept: 200 + 300 of 200 + 800; without it 300 / 800.
    size = sized(model(200, 300))
    assert (size.percent, size.percent_without_embedding) == (50, 37.5)
    # A quarter of the bytes, as many parameters.
    size = sized(model(200, 800, bits=8))
    assert (size.percent, size.percent_without_embedding, size.parameters) == (25, 25, 1000)
    assert size.arithmetic == "1.000 kB / 4.000 kB = 25.0 %"
    assert size.nonzero_percent is None


def test_the_printed_rule_of_pruned_models():
    large = model(300, 2700)
    large.costs[0].nonzero_parameters, large.costs[1].nonzero_parameters = 300, 1100
    size = sized(large, 0.6)
    # 1 − 0.6 × (1 − 200 / 1000); 3,000 parameters of 1,000; 1,400 that are not zero.
    assert size.printed_rule_percent == pytest.approx(52)
    assert (size.percent, size.nonzero_percent) == (300, 140)
    assert size.arithmetic == (
        "by the printed rule 1 − 0.6 × (1 − 20.0 %) = 52.0 %; in truth stored dense "
        "3,000 / 1,000 parameters = 300.0 %, not zero 1,400 = 140.0 %"
    )


def test_a_speed_is_the_inverse_of_the_time():
    found = speed(model(200, 800, 50.0))
    assert (found.speedup, found.low, found.high, found.verdict) == (2, 2, 2, "faster")
    assert (found.before.median_ms, found.after.median_ms, found.samples) == (100, 50, 20)
    assert speed(model(200, 800, 400.0)).verdict == "slower"
    assert speed(model(200, 800, 101.0)).verdict == "same"
    spread = model(200, 800)
    for series in (spread.costs[1].time_ms, spread.end_to_end_ms, spread.instrumented_ms):
        assert series is not None
        series[:] = [50.0, 100.0] * 10
    found = speed(spread)
    assert found.verdict == "inconclusive"
    assert found.low is not None
    assert found.high is not None
    assert (found.low, found.high) == (1, 2)


def test_no_kernel_is_no_speed():
    found = row(by_hand(), "Q-BERT").speed
    assert found is not None
    assert found.no_kernel
    assert (found.speedup, found.low, found.high, found.verdict) == (None, None, None, "n/a")


# The sizes of the real models -----------------------------------------------------------------------------------------

BERT_BASE = 109_482_240
BASE_EMBEDDING = (30_522 + 512 + 2) * 768
DISTILBERT = BERT_BASE - 6 * 7_087_872 - 2 * 768 - (768**2 + 768)  # 6 of 12 units, no segments, no pooler
TINYBERT4 = (
    (30_522 + 512 + 2 + 2) * 312  # tables and their norm
    + 4 * (4 * (312**2 + 312) + 2 * 312 * 1200 + 1200 + 312 + 4 * 312)
    + (312**2 + 312)
)
ALBERT = (
    (30_000 + 512 + 2 + 2) * 128  # tables and their norm
    + (128 * 768 + 768)  # to the hidden size
    + 7_087_872  # one unit
    + (768**2 + 768)
)
ZHAO = (4_928 + 512 + 2 + 2) * 48 + 12 * (4 * (48**2 + 48) + 2 * 48 * 192 + 192 + 48 + 4 * 48) + (48**2 + 48)
LIU = 30_522 * 768 + 2 * (4 * 300 * (768 + 300) + 8 * 300) + 600**2 + 2 * 600 + 3 * 600 + 3
MATRICES = 12 * (4 * 768**2 + 2 * 768 * 3072)
"""Weights of BERT-base's linears in the units."""
FLOATS = 12 * (4 * 768 + 3072 + 768) + 25 * 2 * 768 + 768
"""What stays in float32: biases of the units, norms, the pooler's bias."""


def test_the_closed_forms_themselves():
    unit = 4 * (768**2 + 768) + 2 * 768 * 3072 + 3072 + 768 + 4 * 768
    assert unit == 7_087_872
    assert (BASE_EMBEDDING + 2 * 768) + 12 * unit + (768**2 + 768) == BERT_BASE
    assert BASE_EMBEDDING + MATRICES + 768**2 + FLOATS == BERT_BASE
    assert (DISTILBERT, TINYBERT4, ALBERT, ZHAO) == (66_362_880, 14_350_248, 11_683_584, 602_928)
    assert LIU == 26_371_899


@pytest.fixture(scope="module")
def counted() -> Table2:
    return session.survey_table2(time=False)


@pytest.mark.slow
@pytest.mark.xdist_group("table2")
def test_sizes_are_the_closed_forms(counted: Table2):
    sizes = {each.system: each.size for each in counted.rows if each.size is not None}
    assert not [(each.system, each.failed) for each in counted.rows if each.failed]
    parameters = {name: size.parameters for name, size in sizes.items()}
    assert parameters == {
        "BERT-base": BERT_BASE,
        "Q8BERT": BERT_BASE,
        "Q-BERT": BERT_BASE,
        "RPP 59.3 %": 335_141_888,
        "RPP 88.4 %": 335_141_888,
        "DistilBERT": DISTILBERT,
        "Zhao": ZHAO,
        "MobileBERT": 24_844_544,
        "TinyBERT4": TINYBERT4,
        "ALBERT": ALBERT,
        "Liu BiLSTM": LIU,
        "DeFormer": BERT_BASE,
    }
    for name, number in parameters.items():
        if name not in ("Q8BERT", "Q-BERT"):
            assert sizes[name].bytes == 4 * number
            assert sizes[name].percent == pytest.approx(100 * number / BERT_BASE)
    # 24 units of 12 · 1024² weights and the pooler's 1024²: 59.3 % of each matrix, to the nearest weight, is zero.
    for name, share in (("RPP 59.3 %", 0.593), ("RPP 88.4 %", 0.884)):
        zeros = 335_141_888 - (sizes[name].nonzero_parameters or 0)
        assert zeros == pytest.approx(share * (24 * 12 + 1) * 1024**2, abs=200)
    # A byte a weight, four a bias or norm; a scale and a zero point for each row of a table or matrix.
    least, rows = BASE_EMBEDDING + MATRICES + 768**2 + 4 * FLOATS, BASE_EMBEDDING // 768 + 12 * 9 * 768 + 768
    assert least + 5 * rows <= sizes["Q8BERT"].bytes <= least + 16 * rows
    # 3 and 2 bits a weight of the units, a byte in the embedding and the pooler.
    least = BASE_EMBEDDING + MATRICES * 5 // 16 + 768**2 + 4 * FLOATS
    assert least <= sizes["Q-BERT"].bytes <= 1.01 * least


PRINTED_WITHIN = {
    "BERT-base": 0,
    "Q8BERT": 0.5,
    "Q-BERT": 0.5,
    "RPP 59.3 %": 0.5,
    "RPP 88.4 %": 0.5,
    "DistilBERT": 0.5,
    "MobileBERT": 0.6,
    "TinyBERT4": 0.5,
    "DeFormer": 0,
    "ALBERT": 0.5,
}


@pytest.mark.slow
@pytest.mark.xdist_group("table2")
def test_what_is_published_has_the_counts_of_today(counted: Table2):
    published = documents.load_any(REPORTS / "table2-cpu" / "table2.html")
    assert isinstance(published, Table2)
    assert published.timed
    assert published.baseline == counted.baseline
    for one, other in zip(published.rows, counted.rows, strict=True):
        assert (one.label, one.system, one.macs) == (other.label, other.system, other.macs)
        assert (one.size is None) == (other.size is None)
        if one.size is not None and other.size is not None:
            assert (one.size.parameters, one.size.bytes) == (other.size.parameters, other.size.bytes)
            assert one.size.printed_rule_percent == pytest.approx(other.size.printed_rule_percent)


@pytest.mark.slow
@pytest.mark.xdist_group("table2")
@pytest.mark.parametrize("name", PRINTED_WITHIN)
def test_sizes_beside_print(counted: Table2, name: str):
    found = row(counted, name)
    assert found.size is not None
    assert found.size.printed_rule_percent == pytest.approx(found.printed.size, abs=PRINTED_WITHIN[name])
    assert f"{found.size.printed_rule_percent:.1f} %" in found.size.arithmetic


@pytest.mark.slow
@pytest.mark.xdist_group("table2")
def test_deformer_is_counted_with_its_cache_and_without(counted: Table2):
    found = row(counted, "DeFormer")
    base = 12 * unit_macs(320) + 768**2
    assert found.segments == [24, 296]
    assert found.macs == Macs(before=base, after=deformer_macs(24, 296, cached=True))
    assert found.uncached is not None
    assert found.uncached.macs == Macs(before=base, after=deformer_macs(24, 296, cached=False))
    assert found.uncached.model == "bert-base-uncased+decompose-attention=9"
    # The other rows are at the table's own work.
    assert row(counted, "BERT-base").macs == Macs(
        before=12 * unit_macs(128) + 768**2, after=12 * unit_macs(128) + 768**2
    )
    distilled = row(counted, "DistilBERT").macs
    assert distilled is not None
    assert distilled.after == 6 * unit_macs(128)


LATER_WITHIN = {
    "Q-BERT": (0.25, 0),  # printed without decimals: 15 %
    "RPP 59.3 %": (0.1, 0),
    "Liu BiLSTM": (0.05, 0.15),
    "DistilBERT": (0.1, 0.4),
    "MobileBERT": (0.45, 0.9),
    "TinyBERT4": (0.2, 1.0),
    "DeFormer": (0, 0),
    "ALBERT": (0.05, 0.2),
    "Zhao": (1.1, 1.45),
}


@pytest.mark.slow
@pytest.mark.xdist_group("table2")
@pytest.mark.parametrize("name", LATER_WITHIN)
def test_sizes_beside_the_later_edition(counted: Table2, name: str):
    """As near as that; what is more than a rounding off has a note that says why or that it was not reproduced."""
    (line,) = [line for line in lines_of(counted, "later") if line.row is row(counted, name)]
    found, later = beside_later(line), line.row.later
    assert found is not None
    assert later is not None
    off = [abs(ours - theirs) for ours, theirs in zip(found, (later.size, later.size_without_embedding), strict=True)]
    assert off[0] <= LATER_WITHIN[name][0] + 1e-9
    assert off[1] <= LATER_WITHIN[name][1] + 1e-9
    if max(off) > 0.1 and later.setting is None:
        assert "later edition's" in " ".join(line.row.notes)


@pytest.mark.slow
@pytest.mark.xdist_group("table2")
def test_a_pruned_large_model_is_not_half_a_base_one(counted: Table2):
    size = row(counted, "RPP 59.3 %").size
    assert size is not None
    assert size.printed_rule_percent == pytest.approx(100 * (1 - 0.593 * (1 - BASE_EMBEDDING / BERT_BASE)))
    assert size.nonzero_percent == pytest.approx(142.0, abs=0.1)
    assert size.percent == pytest.approx(100 * 335_141_888 / BERT_BASE)


@pytest.mark.slow
@pytest.mark.xdist_group("table2")
def test_nothing_is_timed_where_only_sizes_are_asked_for(counted: Table2):
    assert not counted.timed
    assert [each.speed for each in counted.rows] == [None] * 14
    assert counted.workload.device == "cpu"
    assert table2.of(json.loads(schema.encode(counted)), "x") == counted


# Measuring ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tiny models in the rows, some of which cannot be had; the names of those that are asked for."""
    base = str(folder("bert"))
    students = {
        "DistilBERT": str(folder("distilbert")),
        "Zhao": str(folder("albert")),
        "MobileBERT": str(tmp_path / "missing" / "config.json"),
    }
    rows = []
    for each in SYSTEMS:
        wanted = base if each.name == "BERT-base" else None
        if each.name in students:
            wanted = f"{base}+student={students[each.name]}"
        if each.name == "TinyBERT4":
            wanted = f"{base}+layers=20"  # there are three
        if each.name == "DeFormer":
            wanted = f"{base}+layers=1"
        why_not = each.why_not if wanted is None and each.why_not else None if wanted else "left out of the test"
        segments, uncached = ((3, 9), f"{base}+layers=2") if each.name == "DeFormer" else (None, None)
        new = {"model": wanted, "settings": (), "why_not": why_not, "segments": segments, "uncached": uncached}
        rows.append(each._replace(**new))
    monkeypatch.setattr(systems, "SYSTEMS", tuple(rows))
    monkeypatch.setattr(systems, "BASELINE", base)
    return [each.name for each in rows if each.model is not None]


def tiny_macs(tokens: int, units: int = 3) -> int:
    """Of the tiny BERT, 32 wide with an FFN of 64: linears, both products of attention, the pooler."""
    return units * (tokens * (4 * 32**2 + 2 * 32 * 64) + 2 * tokens**2 * 32) + 32**2


def survey(**options: Any) -> Table2:
    return session.survey_table2(device="cpu", sequence_length=8, min_time_s=0, **options)


def test_rows_are_measured_beside_the_base_and_those_that_fail_say_why(small: list[str]):
    steps: list[tuple[str, float]] = []
    table = survey(progress=lambda step, fraction: steps.append((step, fraction)), command="bertprof survey table2")
    assert table.timed
    assert table.workload.sequence_length == 8
    found = row(table, "DistilBERT")
    assert found.speed is not None
    assert found.size is not None
    assert found.failed is None
    assert found.speed.samples >= 10
    assert found.speed.workload.recipes[0].startswith("student=")
    assert found.speed.workload.sequence_length == 8
    assert found.speed.speedup is not None
    assert found.speed.verdict in ("faster", "slower", "same", "inconclusive")
    assert "neither a folder nor a model's name" in (row(table, "MobileBERT").failed or "")
    assert "20" in (row(table, "TinyBERT4").failed or "")
    assert row(table, "TinyBERT4").size is None
    assert row(table, "Wu BiLSTM?").why_not
    assert found.macs is not None
    assert found.macs.before == tiny_macs(8)
    # The same system in two rows is measured once.
    twice = [each for each in table.rows if each.system == "Zhao"]
    assert twice[0].speed is not None
    assert twice[0].speed == twice[1].speed
    assert sum(step == "Zhao: counting" for step, _ in steps) == 3  # to begin with, the base, it
    fractions = [fraction for _, fraction in steps]
    assert fractions == sorted(fractions)
    assert max(fractions) <= 1
    assert {step.partition(":")[0] for step, _ in steps} == {*small, "DeFormer uncached"} - {"BERT-base"}
    assert table2.of(json.loads(schema.encode(table)), "x") == table


@pytest.mark.parametrize("time", [True, False])
def test_a_row_with_segments_has_a_base_of_its_own_and_a_run_without_the_cache(small: list[str], time: bool):
    table = survey(time=time)
    found = row(table, "DeFormer")
    assert found.segments == [3, 9]
    assert found.macs is not None
    assert found.uncached is not None
    assert found.uncached.macs is not None
    # Three units, of which the stand-ins have one and two, at 12 tokens and not at the table's 8.
    assert found.macs == Macs(before=tiny_macs(12), after=tiny_macs(12, units=1))
    assert found.uncached.macs == Macs(before=tiny_macs(12), after=tiny_macs(12, units=2))
    assert found.size is not None
    assert found.uncached.size is not None
    assert found.size.parameters < found.uncached.size.parameters < table.baseline.parameters
    assert table.workload.sequence_length == 8
    assert table.workload.segments is None
    for run in (found, found.uncached):
        assert (run.speed is not None) == time
        if run.speed is not None:
            assert run.speed.workload.segments == [3, 9]
            assert run.speed.workload.sequence_length == 12
    assert table2.of(json.loads(schema.encode(table)), "x") == table


def test_a_row_that_cannot_be_timed_still_has_its_size(small: list[str], monkeypatch: pytest.MonkeyPatch):
    real = measured.run

    def run(asked: list[Side], plan: Plan, *rest: Any, **options: Any) -> list[Breakdown]:
        if plan.time:
            raise DeviceError("it does not fit into memory")
        return real(asked, plan, *rest, **options)

    monkeypatch.setattr(measured, "run", run)
    table = survey()
    found = row(table, "DistilBERT")
    assert found.failed == "it does not fit into memory"
    assert found.size is not None
    assert found.speed is None


def test_what_is_wrong_with_the_base_is_no_matter_of_one_row(small: list[str]):
    with pytest.raises(UsageError, match="threads"):
        survey(threads=0)
    with pytest.raises(bertprof.BertprofError, match="cuda:99"):
        session.survey_table2(device="cuda:99")
    assert TINY["bert"]["max_position_embeddings"] == 40
    with pytest.raises(bertprof.BertprofError, match="41"):
        session.survey_table2(device="cpu", sequence_length=41, time=False)


@pytest.mark.slow
@pytest.mark.usefixtures("few_rounds")
def test_the_real_table_is_measured(tmp_path: Path):
    """One row of each kind of recipe, as published, for as short as possible."""
    wanted = {"BERT-base", "Q8BERT", "DistilBERT"}
    kept = tuple(s if s.name in wanted else s._replace(model=None, uncached=None, why_not="not now") for s in SYSTEMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(systems, "SYSTEMS", kept)
        table = session.survey_table2(device="cpu", sequence_length=32, min_time_s=0)
    assert not [each.failed for each in table.rows if each.failed]
    for name in ("Q8BERT", "DistilBERT"):
        found = row(table, name).speed
        assert found is not None
        assert found.speedup is not None
    table.save(tmp_path / "t.json")
    assert documents.load_any(tmp_path / "t.json") == table


# The document ---------------------------------------------------------------------------------------------------------


def altered(change: Any) -> bytes:
    content = msgspec.to_builtins(by_hand())
    change(content)
    return msgspec.json.encode(content)


def test_it_comes_back_from_its_file(tmp_path: Path):
    table = by_hand()
    table.save(tmp_path / "t.json")
    assert table2.load(tmp_path / "t.json") == table
    assert documents.load_any(tmp_path / "t.json") == table
    assert (tmp_path / "t.json").read_bytes().count(b"\n") > 14  # a line a row


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (lambda t: t.pop("rows"), "`rows`"),
        (lambda t: t["rows"][1].pop("sure"), "$.rows[1]"),
        (lambda t: t["rows"][1].update(sure="perhaps"), "$.rows[1].sure"),
        (lambda t: t["rows"].clear(), "no rows"),
        (lambda t: t["rows"][1]["size"].update(percent=26), "26.0 % where the bytes give 25.0 %"),
        (lambda t: t["rows"][1]["size"].update(percent_without_embedding=26), "26.0 %"),
        (lambda t: t["rows"][1]["size"].update(embedding_bytes=1001), "larger than the model"),
        (lambda t: t["rows"][1]["speed"].update(low=None), "half an interval"),
        (lambda t: t["rows"][1]["speed"].update(low=3.0), "$.rows[1].speed"),
        (lambda t: t["rows"][1]["speed"].update(verdict="quick"), "verdict"),
        (lambda t: t["baseline"].update(embedding_bytes=4000), "$.baseline.embedding_bytes"),
        (lambda t: t["rows"][1]["printed"].update(mnli="84"), "$.rows[1].printed.mnli"),
        (lambda t: t["rows"][11].pop("uncached"), "missing required field `uncached` - at `$.rows[11]`"),
        (lambda t: t["rows"][11]["uncached"].pop("macs"), "missing required field `macs` - at `$.rows[11].uncached`"),
        (lambda t: t["rows"][11]["uncached"]["size"].update(percent=26), "$.rows[11].uncached.size"),
        (lambda t: t["rows"][11]["uncached"]["speed"].update(low=4.0), "$.rows[11].uncached.speed"),
        (lambda t: t["rows"][11]["uncached"].update(model=None), "$.rows[11].uncached.model"),
        (lambda t: t["rows"][11].update(segments=[24, 300]), "at `$.rows[11].speed.workload.segments`"),
        (lambda t: t["rows"][11].update(segments=[24, 0]), "$.rows[11].segments[1]"),
        (lambda t: t["rows"][11]["macs"].update(after=0), "$.rows[11].macs.after"),
        (lambda t: t["rows"][11]["later"].update(size=-1), "$.rows[11].later.size"),
        (lambda t: t["rows"][11]["later"].pop("gpu_speedup"), "missing required field `gpu_speedup`"),
        (lambda t: t["rows"][2]["later"]["setting"].update(rest=1.5), "$.rows[2].later.setting.rest"),
        (lambda t: t["workload"].pop("segments"), "missing required field `segments` - at `$.workload`"),
        (lambda t: t.update(schema_version="2.0"), "reads up to 1.2"),
        (lambda t: t.update(schema_version=1), "schema_version"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(change: Any, wrong: str, tmp_path: Path):
    path = tmp_path / "t.json"
    path.write_bytes(altered(change))
    with pytest.raises(RecordError) as caught:
        documents.load_any(path)
    assert wrong in str(caught.value)
    assert "t.json" in str(caught.value)


def test_a_table_of_the_first_version_is_read():
    path = Path(__file__).parents[1] / "data" / "table2-1.0.json"
    old = json.loads(path.read_text())
    assert old["schema_version"] == "1.0"
    table = table2.load(path)
    assert table.schema_version == "1.2"
    assert len(table.rows) == 14
    assert all(each.macs is each.uncached is each.later is each.segments is None for each in table.rows)
    assert row(table, "DeFormer").why_not == "it decomposes attention, which bertprof cannot yet"
    # What it had is there, and it is written as of this version.
    again = json.loads(schema.encode(table))
    for was, now in zip(old["rows"], again["rows"], strict=True):
        assert set(was) < set(now)
        assert was["size"] == now["size"]
        assert was["printed"] == now["printed"]
    assert table2.of(again, "x") == table


@pytest.mark.parametrize("field", ["segments", "macs", "later", "uncached"])
def test_from_its_version_on_a_field_has_to_be_there(field: str):
    content = json.loads(schema.encode(by_hand()))
    for each in content["rows"]:
        del each[field]
    content["schema_version"] = "1.0"
    assert all(getattr(each, field) is None for each in table2.of(content, "x").rows)
    content["schema_version"] = "1.1"
    with pytest.raises(RecordError, match=rf"missing required field `{field}`"):
        table2.of(content, "x")


def test_a_newer_minor_version_is_read(tmp_path: Path):
    path = tmp_path / "t.json"
    path.write_bytes(altered(lambda t: t.update(schema_version="1.7", weather="fine")))
    assert table2.load(path) == by_hand()


def test_it_is_not_taken_for_another_kind(tmp_path: Path):
    path = tmp_path / "t.json"
    by_hand().save(path)
    with pytest.raises(RecordError, match=r"t\.json is the survey's Table 2, not the record of one model"):
        bertprof.load(path)
    with pytest.raises(RecordError, match=r"is the survey's Table 2, not a diff"):
        difference.load(path)
    BASE.save(tmp_path / "b.json")
    with pytest.raises(RecordError, match=r"is the record of one model, not the survey's Table 2"):
        table2.load(tmp_path / "b.json")
