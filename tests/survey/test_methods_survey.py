import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given

import bertprof
from bertprof import comparison, documents, evidence, schema, session
from bertprof.components import Component
from bertprof.compress import recipe
from bertprof.compress.methods import COLUMNS
from bertprof.errors import DeviceError, RecordError
from bertprof.measurement import Plan
from bertprof.record import Breakdown
from bertprof.sides import Side
from bertprof.survey import approaches, measured, methods, systems
from bertprof.survey.approaches import APPROACHES, BASE, Approach
from bertprof.survey.methods import Methods, Metric
from handmade import pairs
from surveyed import EMBEDDING, FFN, MODELS, SOFTMAX, by_hand, row
from surveyed import measured as compared

# The methods ----------------------------------------------------------------------------------------------------------

NAMED = {
    # Whom Sections 3.1 to 3.4 cite for a method of their own, as Table 1's columns have them.
    "3.1": {"Q8BERT", "Q-BERT"},
    "3.2": {"Gordon", "RPP", "Michel", "Raganato", "LayerDrop"},
    "3.3": {
        *("BERT-PKD", "DistilBERT", "MobileBERT", "TinyBERT4", "Zhao", "Turc"),
        *("Tang b", "Tang a", "Liu", "Chia", "AdaBERT"),
    },
    "3.4": {"ALBERT", "ALBERT's sharing", "ALBERT's factors", "Zhao's vocabulary", "DeFormer", "DeFormer, cached"},
    "4.2": {"Wu"},
}


def test_every_method_of_the_survey_has_a_row():
    found: dict[str, set[str]] = {}
    for each in APPROACHES:
        found.setdefault(each.section, set()).add(each.name)
    assert found == NAMED
    assert len({each.name for each in APPROACHES}) == len(APPROACHES) == 25


def test_every_row_runs_or_says_exactly_why_not():
    for each in (BASE, *APPROACHES):
        assert (each.model is None) == (each.why_not is not None)
        assert each.paper
        assert each.published
        assert set(each.columns) <= set(COLUMNS)
        assert bool(each.columns) == (each is not BASE)
        if each.model is not None:
            name, recipes = recipe.split_model(each.model)
            assert name == systems.BASELINE
            assert bool(recipe.parse_all(recipes)) == (each is not BASE)
    (wu,) = (each for each in APPROACHES if each.model is None)
    assert wu.name == "Wu"
    assert "which student it is, is not certain" in (wu.why_not or "")


def test_rows_stand_in_the_columns_of_their_recipes():
    # `bertprof methods` says in which columns a recipe stands; a method has some of those of its last one.
    for each in APPROACHES:
        if each.model is not None:
            own = recipe.parse_all(recipe.split_model(each.model)[1])[-1].method
            students = ("ALBERT",)  # a student that is run in the place of what it shares and factorises
            assert set(each.columns) <= set(own.columns) or each.name in students, each.name


def test_what_the_later_edition_prints():
    later = {
        each.name: (each.later.size, each.later.size_without_embedding, each.later.gpu_speedup, each.later.cpu_speedup)
        for each in APPROACHES
        if each.later is not None
    }
    # Table 1 of TACL 2021, doi 10.1162/tacl_a_00413.
    assert later == {
        "RPP": (67.6, 58.7, 1, 1),
        "DistilBERT": (60.7, 50, 1.94, 1.73),
        "MobileBERT": (23.1, 24.8, 3.9, 4.7),
        "TinyBERT4": (13.3, 6.4, 9.4, 9.3),
        "Zhao": (1.6, 1.8, 25.5, 22.7),
        "Liu": (24.1, 3.3, 10.7, 8.6),
        "AdaBERT": (7.4, 4.8, 19.5, None),
        "ALBERT": (10.7, 8.8, 1.2, 1.2),
        "DeFormer, cached": (100, 100, 3.14, 3.55),
    }


# What is computed -----------------------------------------------------------------------------------------------------


def shares(name: str, metric: Metric) -> dict[str, float | None]:
    found = compared(MODELS[name])
    return {str(part.component): found.percent(metric, [part]) for part in found.parts}


def test_percentages_by_hand():
    # Of 800 parameters, 3,200 bytes, 5,710 MACs and 100 ms.
    q8 = compared(MODELS["Q8BERT"])
    assert q8.percent("size") == pytest.approx(100 * (50 + 140 + 10 + 0) * 4 / 3200 + 100 * 120 / 3200)
    assert q8.percent("parameters") == 100
    assert q8.percent("macs") == 100
    # Linears take half: 10 + 5 + 28 of each unit.
    assert q8.percent("time") == pytest.approx(100 - 43)
    assert shares("Q8BERT", "time")["ffn"] == pytest.approx(28)
    # 60 % of 200 + 160 + 400 + 40; nothing of it is saved in work.
    gordon = compared(MODELS["Gordon"])
    assert gordon.percent("parameters") == pytest.approx(60)
    assert gordon.percent("size") == pytest.approx(65)
    assert gordon.percent("time") == 100
    # Half of 160 parameters, and of 1,700 MACs.
    assert compared(MODELS["Michel"]).percent("parameters") == 90
    assert compared(MODELS["Michel"]).percent("macs") == pytest.approx(100 * (5710 - 850) / 5710)
    assert shares("LayerDrop", "parameters")["ffn"] == 25
    # A new component, in % of all of BERT-base.
    assert shares("Tang b", "size")["recurrent"] == 10
    assert shares("Tang b", "size")["ffn"] == 0


def test_no_kernel_is_no_time():
    assert compared(MODELS["Q-BERT"]).no_kernel
    assert compared(MODELS["Q-BERT"]).percent("time") is None
    assert set(shares("Q-BERT", "time").values()) == {None}


def without_figures() -> Methods:
    document = by_hand()
    for each in document.rows:
        each.measured = None
    return document


ALONE = without_figures()
"""For `test_components_add_up` only, which sets the same two rows in each example."""


@given(pairs())
def test_components_add_up(both: tuple[Breakdown, Breakdown]):
    before, after = both
    assume(all(before.total(count) for count in ("parameters", "parameter_bytes", "macs")))
    found = methods.measured_of(comparison.Comparison(before, after).diff())
    metrics: tuple[Metric, ...] = ("size", "macs", "time")
    for metric in metrics:
        whole, parts = found.percent(metric), [found.percent(metric, [part]) for part in found.parts]
        if None in parts or whole is None or whole >= evidence.FURTHEST:
            continue
        assert sum(part for part in parts if part is not None) == pytest.approx(whole)
    row(ALONE, "RPP").measured = found
    ALONE.base.measured = methods.measured_of(comparison.Comparison(before, before).diff())
    assert methods.of(json.loads(schema.encode(ALONE)), "x") == ALONE


# Measuring ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tiny models in some rows, of which some cannot be had; the names of those that are asked for."""
    base = str(folder("bert"))
    students = {
        "DistilBERT": f"{base}+student={folder('distilbert')}",
        "Tang b": f"{base}+student={folder('albert')}",
        "Tang a": f"{base}+student={folder('albert')}",
        "Chia": f"{base}+student={tmp_path / 'missing' / 'config.json'}",
        "LayerDrop": f"{base}+layers=20",  # there are three
        "Gordon": f"{base}+sparsity=0.5,embedding=yes,storage=bitmap",
        "DeFormer": f"{base}+decompose-attention=2",
    }

    def own(each: Approach) -> Approach:
        wanted = students.get(each.name)
        why_not = None if wanted else each.why_not or "left out of the test"
        return each._replace(model=wanted, why_not=why_not, segments=(4, 12) if each.segments else None)

    monkeypatch.setattr(approaches, "APPROACHES", tuple(map(own, APPROACHES)))
    monkeypatch.setattr(approaches, "BASE", BASE._replace(model=base))
    return [*students]


def survey(**options: Any) -> Methods:
    return session.survey_methods(device="cpu", sequence_length=8, min_time_s=0, **options)


def test_methods_are_measured_beside_the_base_and_those_that_fail_say_why(small: list[str]):
    steps: list[tuple[str, float]] = []
    document = survey(progress=lambda step, fraction: steps.append((step, fraction)), command="bertprof survey methods")
    assert document.timed
    assert document.view == "methods"
    assert document.workload.sequence_length == 8
    found = row(document, "DistilBERT").measured
    assert found is not None
    assert found.before is not None
    assert found.samples
    assert found.samples >= 10
    assert (found.units_before, found.units_after) == (3, 3)
    assert found.total["time"].ratio is not None
    assert row(document, "DistilBERT").failed is None
    assert "neither a folder nor a model's name" in (row(document, "Chia").failed or "")
    assert "20" in (row(document, "LayerDrop").failed or "")
    assert row(document, "LayerDrop").measured is None
    assert row(document, "Wu").why_not
    # BERT-base is itself, and 100 % of itself.
    assert document.base.measured is not None
    assert [document.base.measured.percent(metric) for metric in ("size", "parameters", "macs", "time")] == [100] * 4
    assert methods.of(json.loads(schema.encode(document)), "x") == document


@pytest.mark.usefixtures("few_rounds")
def test_a_model_of_two_rows_is_measured_once(small: list[str]):
    steps: list[tuple[str, float]] = []
    document = survey(progress=lambda step, fraction: steps.append((step, fraction)))
    assert row(document, "Tang a").measured is not None
    assert row(document, "Tang a").measured == row(document, "Tang b").measured
    assert {step.partition(":")[0] for step, _ in steps} == {*small} - {"Tang a"}
    fractions = [fraction for _, fraction in steps]
    assert fractions == sorted(fractions)
    assert max(fractions) <= 1


@pytest.mark.usefixtures("few_rounds")
def test_segments_are_of_both_sides(small: list[str]):
    document = survey()
    found = row(document, "DeFormer").measured
    assert found is not None
    assert (found.workload.segments, found.workload.sequence_length) == ([4, 12], 16)
    softmax = next(part for part in found.parts if part.component is SOFTMAX).metrics["macs"]
    # Q·Kᵀ and ·V, 32 wide: of 16² pairs in three units, and of 4² + 12² in two of these.
    assert softmax.before == 3 * 2 * 32 * 16**2
    assert softmax.after == 2 * 32 * (16**2 + 2 * (4**2 + 12**2))
    # And BERT-base of the same work: its linears cost as much on both sides.
    ffn = next(part for part in found.parts if part.component is FFN).metrics["macs"]
    assert ffn.before == ffn.after == 3 * 2 * 32 * 64 * 16


def test_zeros_are_no_parameters(small: list[str]):
    found = row(survey(time=False), "Gordon").measured
    assert found is not None
    (embedding,) = found.of(EMBEDDING)
    # Half of 100 words, 40 positions and 2 segments, 32 wide.
    assert methods.after(embedding.metrics, "parameters") == 142 * 32 / 2
    assert embedding.metrics["parameters"].after == 142 * 32
    assert found.before is None


@pytest.mark.usefixtures("few_rounds")
def test_what_cannot_be_timed_is_still_counted(small: list[str], monkeypatch: pytest.MonkeyPatch):
    real = measured.run

    def run(asked: list[Side], plan: Plan, *rest: Any, **options: Any) -> list[Breakdown]:
        if plan.time:
            raise DeviceError("it does not fit into memory")
        return real(asked, plan, *rest, **options)

    monkeypatch.setattr(measured, "run", run)
    document = survey()
    for name in ("DistilBERT", "DeFormer"):
        found = row(document, name)
        assert found.failed == "it does not fit into memory"
        assert found.measured is not None
        assert found.measured.percent("time") is None


def test_what_is_wrong_with_the_base_is_no_matter_of_one_row(small: list[str]):
    with pytest.raises(bertprof.BertprofError, match="threads"):
        survey(threads=0)
    with pytest.raises(bertprof.BertprofError, match="cuda:99"):
        bertprof.survey_methods(device="cuda:99")
    with pytest.raises(bertprof.BertprofError, match="41"):
        bertprof.survey_table1(device="cpu", sequence_length=41, time=False)
    with pytest.raises(TypeError, match="survey_methods"):
        bertprof.survey_methods(sequence=3)  # type: ignore[call-arg]


def test_both_views_are_of_one_measurement(small: list[str]):
    one, other = (f(sequence_length=8, time=False) for f in (session.survey_methods, session.survey_table1))
    assert (one.view, other.view) == ("methods", "table1")
    assert one.rows == other.rows


# The document ---------------------------------------------------------------------------------------------------------


def test_it_comes_back_from_its_file(tmp_path: Path):
    document = by_hand()
    document.save(tmp_path / "m.json")
    assert methods.load(tmp_path / "m.json") == document
    assert documents.load_any(tmp_path / "m.json") == document
    assert (tmp_path / "m.json").read_bytes().count(b"\n") > 25  # a line a row


def altered(change: Any) -> bytes:
    content = msgspec.to_builtins(by_hand())
    change(content)
    return msgspec.json.encode(content)


def figures(document: Any, row: int = 0) -> Any:
    return document["rows"][row]["measured"]


def doubled(figures: Any) -> None:
    """Another base, twice as large: the sums of its parts hold."""
    for metrics in (figures["total"], *(part["metrics"] for part in figures["parts"])):
        for count in ("parameters", "bytes", "macs"):
            metrics[count]["before"] *= 2


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (lambda d: d.pop("rows"), "`rows`"),
        (lambda d: d["rows"].clear(), "no rows"),
        (lambda d: d["rows"][1].pop("sure"), "$.rows[1]"),
        (lambda d: d["rows"][1].update(sure="perhaps"), "$.rows[1].sure"),
        (lambda d: d.update(view="table2"), "$.view"),
        (lambda d: d["base"].update(measured=None), "$.base.measured"),
        (lambda d: figures(d)["total"].pop("bytes"), "no count of bytes - at `$.rows[0].measured.total`"),
        (lambda d: figures(d)["total"]["macs"].update(before=0), "without macs"),
        (lambda d: figures(d)["total"]["macs"].update(after=0.5), "no count of macs"),
        (lambda d: figures(d)["parts"][0]["metrics"]["bytes"].update(after=1), "do not add up"),
        (lambda d: figures(d)["parts"].append(figures(d)["parts"][0]), "stands twice"),
        (lambda d: figures(d)["parts"][0].update(component="tail"), "component"),
        (lambda d: figures(d)["total"]["time"].update(low=9.0), "outside of its interval"),
        (lambda d: figures(d)["total"]["time"].update(low=None), "half an interval"),
        (lambda d: figures(d)["total"]["time"].update(verdict="quick"), "verdict"),
        (lambda d: d.update(schema_version="2.0"), "reads up to 1.1"),
        (lambda d: d["workload"].update(segments=[1, 1]), "2 segments of 2 tokens"),
        (lambda d: figures(d)["workload"].update(segments=[8]), "1 segments of 8 tokens"),
        (lambda d: d["rows"][0].update(segments=[-5, 3]), "$.rows[0].segments"),
        (lambda d: d["rows"][0].update(segments=[7, 9]), "other segments than those of the row"),
        (lambda d: figures(d)["total"]["time"].update(before=-5.0), "less than nothing"),
        (lambda d: doubled(figures(d)), "another BERT-base than `$.base`"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(change: Any, wrong: str, tmp_path: Path):
    path = tmp_path / "m.json"
    path.write_bytes(altered(change))
    with pytest.raises(RecordError) as caught:
        documents.load_any(path)
    assert wrong in str(caught.value)
    assert "m.json" in str(caught.value)


def test_a_newer_minor_version_is_read(tmp_path: Path):
    path = tmp_path / "m.json"
    path.write_bytes(altered(lambda d: d.update(schema_version="1.7", weather="fine")))
    assert methods.load(path) == by_hand()


def test_it_is_not_taken_for_another_kind(tmp_path: Path):
    path = tmp_path / "m.json"
    by_hand().save(path)
    with pytest.raises(RecordError, match=r"m\.json is the survey's methods, not the record of one model"):
        bertprof.load(path)
    MODELS["RPP"].save(tmp_path / "b.json")
    with pytest.raises(RecordError, match=r"is the record of one model, not the survey's methods"):
        methods.load(tmp_path / "b.json")


# The real ones --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_real_methods_are_measured(monkeypatch: pytest.MonkeyPatch):
    wanted = {"TinyBERT4", "ALBERT's sharing"}
    kept = tuple(a if a.name in wanted else a._replace(model=None, why_not="not now") for a in APPROACHES)
    monkeypatch.setattr(approaches, "APPROACHES", kept)
    document = session.survey_methods(device="cpu", sequence_length=16, min_time_s=0)
    tiny, sharing = (row(document, name).measured for name in ("TinyBERT4", "ALBERT's sharing"))
    assert tiny is not None
    assert sharing is not None
    assert tiny.percent("size") == pytest.approx(100 * 14_350_248 / 109_482_240)
    # One unit of twelve, which have 7,087,872 parameters each.
    assert sharing.percent("size") == pytest.approx(100 * (109_482_240 - 11 * 7_087_872) / 109_482_240)
    assert sharing.percent("macs") == 100
    assert tiny.total["time"].verdict == "faster"
    assert Component.FFN in {part.component for part in tiny.parts}
