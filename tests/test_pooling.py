import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertprof import pooling, record
from bertprof.comparison import Comparison
from bertprof.components import Component
from bertprof.errors import RecordError
from bertprof.record import Breakdown, Caveat, Checkpoint, Module
from handmade import breakdowns, cost, made

FFN, HEAD = Component.FFN, Component.HEAD


def process(number: int, repeats: int = 10, **fields: Any) -> Breakdown:
    """Repeat i of process p takes 100·p + i ms in the ffn and 1 ms in the head; a bare forward as much and 0.5 more."""
    ffn = [100.0 * number + i for i in range(1, repeats + 1)]
    rows = [cost(FFN, 0, ffn, parameters=3, macs=5), cost(HEAD, None, [1.0] * repeats)]
    return made(*rows, **{"end_to_end_ms": [x + 1.5 for x in ffn], **fields})


def pooled(*records: Breakdown) -> Breakdown:
    found = pooling.pooled(records, [f"{i}.json" for i in range(len(records))])
    assert record.decode(record.encode(found), "pooled") == found
    return found


def test_the_repeats_of_each_process_stand_one_after_another():
    found = pooled(process(1), process(2), process(3))
    assert found.processes == 3
    assert found.end_to_end_ms == [100.0 * p + i + 1.5 for p in (1, 2, 3) for i in range(1, 11)]
    assert found.instrumented_ms == [100.0 * p + i + 1 for p in (1, 2, 3) for i in range(1, 11)]
    assert found.of(FFN)[0].time_ms == [100.0 * p + i for p in (1, 2, 3) for i in range(1, 11)]
    assert found.total("macs") == 5


def test_each_process_gives_as_many_as_the_one_with_fewest():
    found = pooled(process(1, 10), process(2, 5))
    # Of ten repeats, the second of every two; of five each.
    assert found.of(FFN)[0].time_ms == [102, 104, 106, 108, 110, 201, 202, 203, 204, 205]


@pytest.mark.parametrize(("processes", "each"), [(2, 50), (3, 33), (10, 10), (25, 5), (100, 5)])
def test_as_many_as_a_record_holds(processes: int, each: int):
    assert pooling.repeats_of_each(processes) == each
    found = pooled(*(process(i, 60) for i in range(processes)))
    assert len(found.instrumented_ms or ()) == processes * each


@given(st.data(), st.integers(1, 12), st.integers(2, 4))
def test_what_is_pooled_stays_paired_and_sums_up(data: st.DataObject, repeats: int, number: int):
    one = data.draw(breakdowns(repeats=repeats))
    factors = [1.0 + i for i in range(number)]

    def scaled(factor: float) -> Breakdown:
        costs = [
            msgspec.structs.replace(
                c, time_ms=[factor * t for t in c.time_ms or ()], device_time_ms=None, energy_mj=None
            )
            for c in one.costs
        ]
        whole = [math.fsum(times) for times in zip(*(c.time_ms or () for c in costs), strict=True)]
        return msgspec.structs.replace(
            one,
            run=f"r{factor}",
            costs=costs,
            modules=None,
            instrumented_ms=whole,
            end_to_end_ms=[2 * x for x in whole],
            yardstick_ms={FFN: whole},
        )

    found = pooled(*map(scaled, factors))
    assert found.processes == number
    assert len(found.instrumented_ms or ()) == number * min(repeats, pooling.repeats_of_each(number))
    assert found.end_to_end_ms == [2 * x for x in found.instrumented_ms or ()]
    assert found.yardstick_ms == {FFN: found.instrumented_ms}
    for i, whole in enumerate(found.instrumented_ms or ()):
        assert math.fsum(c.time_ms[i] for c in found.costs if c.time_ms) == pytest.approx(whole)
    each = len(found.instrumented_ms or ()) // number
    for p, factor in enumerate(factors):
        mine = (found.instrumented_ms or [])[p * each : (p + 1) * each]
        assert all(x in [pytest.approx(factor * y) for y in one.instrumented_ms or ()] for x in mine)


def test_one_record_is_itself():
    one = process(1)
    assert pooled(one) is one


def test_pooled_records_are_pooled_again():
    pairs = [pooled(process(1), process(2)), pooled(process(3), process(4)), process(5)]
    assert pooled(*pairs) == pooled(*(process(i) for i in range(1, 6)))


def test_counts_without_times_are_those_of_one():
    found = pooled(made(cost(FFN, 0, macs=5)), made(cost(FFN, 0, macs=5)))
    assert (found.processes, found.total("macs"), found.timed) == (1, 5, False)


def test_a_row_that_a_process_has_not_took_no_time_there():
    first = made(cost(FFN, 0, [5.0, 6.0], macs=5))
    second = made(cost(Component.OTHER, None, [1.0, 2.0]), cost(FFN, 0, [3.0, 4.0], macs=5))
    for records in ((first, second), (second, first)):
        found = pooled(*records)
        assert [(c.unit, c.component) for c in found.costs] == [(None, Component.OTHER), (0, FFN)]
    assert found.of(Component.OTHER)[0].time_ms == [1, 2, 0, 0]
    assert found.instrumented_ms == [4, 6, 5, 6]


def test_energy_and_device_time_are_pooled_by_their_own_number_of_samples():
    def measured(energy: list[float] | None) -> Breakdown:
        return made(cost(FFN, 0, [1.0] * 8, energy_mj=energy, device_time_ms=[0.5] * 6))

    found = pooled(measured([1.0, 2.0, 3.0]), measured([4.0, 5.0, 6.0])).costs[0]
    assert (found.energy_mj, found.device_time_ms) == ([1, 2, 3, 4, 5, 6], [0.5] * 12)
    assert pooled(measured([1.0, 2.0, 3.0]), measured(None)).costs[0].energy_mj is None


def test_modules_still_add_up():
    def with_modules(number: int) -> Breakdown:
        one = process(number)
        whole = 100.0 * number + 6.5  # the median of 1 to 10 is 5.5, and 1 ms for the head
        share = {1: 0.8, 2: 0.6}[number]
        counts = {"type": "Linear", "calls": 1, "flops": 0, "unit": None}
        one.modules = [
            Module(path="a", component=FFN, parameters=3, macs=5, time_ms=share * whole, **counts),
            Module(path="b", component=HEAD, parameters=0, macs=0, time_ms=(1 - share) * whole, **counts),
            Module(path="c", component=HEAD, parameters=0, macs=0, time_ms=None, **counts),
        ]
        return one

    found = pooled(with_modules(1), with_modules(2))
    # Median of 102 to 111 and 202 to 211 is 156.5; of the time 0.8 · 106.5 + 0.6 · 206.5 = 209.1 of 313 ms are a's.
    assert found.instrumented_time_ms is not None
    assert found.instrumented_time_ms.value == 156.5
    assert [m.time_ms for m in found.modules or ()] == [pytest.approx(x) for x in (104.55, 51.95)] + [None]


def test_the_yardstick_is_what_all_have():
    records = [process(i, yardstick_ms={FFN: [1.0 * i] * 10, HEAD: [2.0] * 10}) for i in (1, 2)]
    assert pooled(*records).yardstick_ms == {FFN: [1.0] * 10 + [2.0] * 10, HEAD: [2.0] * 20}
    assert records[1].yardstick_ms is not None
    del records[1].yardstick_ms[HEAD]
    assert pooled(*records).yardstick_ms == {FFN: [1.0] * 10 + [2.0] * 10}
    records[1].yardstick_ms = None
    assert pooled(*records).yardstick_ms is None


def test_peak_memory_is_the_highest_of_all():
    assert pooled(process(1, peak_memory_bytes=5), process(2, peak_memory_bytes=7)).peak_memory_bytes == 7
    assert pooled(process(1, peak_memory_bytes=5), process(2)).peak_memory_bytes is None


@pytest.mark.parametrize(
    ("runs", "joined"),
    [(["a", "b", "c"], "a+b+c"), (["c", "a+d", "b"], "c+a+d+b"), (["a", None, "b"], None), ([None, None], None)],
)
def test_what_belongs_to_runs_belongs_to_them_in_this_order(runs: list[str | None], joined: str | None):
    assert pooled(*(process(i, run=run) for i, run in enumerate(runs))).run == joined


def test_two_sides_that_each_process_ran_together_stay_paired():
    before = pooled(*(process(i, run=f"r{i}") for i in (1, 2, 3)))
    after = pooled(*(process(i, run=f"r{i}") for i in (1, 2, 3)))
    other = pooled(*(process(i, run=f"r{i}") for i in (3, 2, 1)))
    for c in after.costs:
        c.time_ms = [1.1 * t for t in c.time_ms or ()]
    after.instrumented_ms = [1.1 * t for t in after.instrumented_ms or ()]
    after.end_to_end_ms = [1.1 * t for t in after.end_to_end_ms or ()]
    paired = Comparison(before, after)
    found = paired.evidence(paired.parts[0], "time")
    assert found is not None
    assert (found.low, found.high) == pytest.approx((1.1, 1.1))
    apart = Comparison(before, other)
    found = apart.evidence(apart.parts[0], "time")
    assert found is not None
    assert found.high > 2


def test_caveats_are_those_of_all_and_of_one_kind_the_largest():
    def told(*values: tuple[str, float | None, Component | None]) -> list[Caveat]:
        return [Caveat(code=code, text=f"{code} {value}", value=value, component=own) for code, value, own in values]

    found = pooled(
        process(1, caveats=told(("unsteady", 0.2, None), ("x", None, FFN))),
        process(2, caveats=told(("unsteady", 0.5, None), ("y", 1.0, None))),
        process(3, caveats=told(("unsteady", 0.3, None), ("x", 1.0, HEAD))),
    )
    assert [(c.code, c.value, c.component) for c in found.caveats] == [
        ("unsteady", 0.5, None),
        ("x", None, FFN),
        ("y", 1.0, None),
        ("x", 1.0, HEAD),
    ]


# What is not pooled ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda b: setattr(b.workload, "batch_size", 4), r"batch_size (1 and 4)"),
        (lambda b: setattr(b.workload, "sequence_length", None), r"sequence_length (8 and None)"),
        (lambda b: setattr(b.workload, "model", "n"), r"model (m and n)"),
        (lambda b: setattr(b.workload, "recipes", ["int8"]), "recipes"),
        (lambda b: setattr(b, "label", "x"), "label (None and x)"),
        (lambda b: setattr(b.host, "cpu", "d"), "the machine's cpu (c and d)"),
        (lambda b: setattr(b.host, "torch", "3"), "the version of torch (2 and 3)"),
        (lambda b: setattr(b.costs[0], "macs", 6), "the counts"),
        (lambda b: setattr(b, "kept_units", [2]), "the units that were kept"),
        (
            lambda b: setattr(b, "checkpoint", Checkpoint(format="s", files=1, file_bytes=9, load_time_ms=1.0)),
            "the checkpoint",
        ),
    ],
)
def test_other_work_is_refused_by_name_and_by_what_differs(change: Any, said: str):
    other = process(2)
    change(other)
    with pytest.raises(RecordError) as caught:
        pooled(process(1), process(3), other)
    assert str(caught.value).startswith("2.json cannot be pooled with 0.json: they differ in ")
    assert said in str(caught.value)


def test_which_units_were_kept_stays():
    assert pooled(process(1, kept_units=[4]), process(2, kept_units=[4])).kept_units == [4]


def test_what_may_differ_between_processes():
    other = process(2)
    other.created = "2027-01-01T00:00:00+00:00"
    other.workload.marks = "wrappers"
    other.host.clocks = {"sm": 5}
    assert pooled(process(1), other).workload.marks == "hooks"


def test_timed_and_counted_records_are_not_pooled():
    counted = made(cost(FFN, 0, parameters=3, macs=5), cost(HEAD))
    with pytest.raises(RecordError, match=r"they differ in .*whether time was measured"):
        pooled(process(1), counted)


@pytest.mark.parametrize(
    ("runs", "named"),
    [
        (["a", "b", "b"], (2, 1)),
        (["a", "b", "a"], (2, 0)),
        (["a+b", "c", "d+b"], (2, 0)),
        ([None, "b", "b"], (2, 1)),
        (["a", "a", "a"], (1, 0)),
    ],
)
def test_records_of_one_run_are_refused(runs: list[str | None], named: tuple[int, int]):
    with pytest.raises(RecordError) as caught:
        pooled(*(process(i, run=run) for i, run in enumerate(runs)))
    assert str(caught.value) == (
        "{}.json cannot be pooled with {}.json: they are of one process, and only several tell how far processes "
        "differ; make each by a `bertprof breakdown` of its own, or all by --processes".format(*named)
    )


@given(breakdowns(repeats=3), st.none() | st.text(max_size=5))
def test_copies_of_a_record_are_refused(one: Breakdown, created: str | None):
    """They would pass for processes that do not differ at all, and so for certainty."""
    copy = record.decode(record.encode(one), "copy")
    copy.created = created or one.created
    with pytest.raises(RecordError, match=r"1\.json cannot be pooled with 0\.json: they are of one process"):
        pooled(one, copy)


def test_a_copy_among_others_is_refused():
    with pytest.raises(RecordError, match=r"3\.json cannot be pooled with 1\.json"):
        pooled(process(1), process(2), process(3), process(2))
    # One sample apart they are two.
    other = process(2, end_to_end_ms=[*(process(2).end_to_end_ms or [])[:-1], 1.0])
    assert pooled(process(2), other).processes == 2


def test_too_many_processes_or_none():
    with pytest.raises(RecordError, match="101 processes are more than the 100 that one record holds"):
        pooled(*(process(i, 2) for i in range(101)))
    with pytest.raises(RecordError, match="there are no records to pool"):
        pooled()


# Folders --------------------------------------------------------------------------------------------------------------


def test_a_folder_is_pooled_in_the_order_of_names(tmp_path: Path):
    for number in (3, 1, 2):
        process(number).save(tmp_path / f"{number}.json")
    (tmp_path / "notes.txt").write_text("not a record")
    assert pooling.load(tmp_path) == pooled(process(1), process(2), process(3))


def test_folders_that_cannot_be_pooled(tmp_path: Path):
    with pytest.raises(RecordError, match=r"cannot read .*No such file"):
        pooling.load(tmp_path / "none")
    with pytest.raises(RecordError, match=r"holds no records \(\*\.json\); `bertprof breakdown -o` makes one"):
        pooling.load(tmp_path)
    process(1).save(tmp_path / "a.json")
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(RecordError, match=r"b\.json is not a record"):
        pooling.load(tmp_path)
    process(1, label="x").save(tmp_path / "b.json")
    with pytest.raises(RecordError, match=r"b\.json cannot be pooled with .*a\.json: they differ in label"):
        pooling.load(tmp_path)


def test_the_95th_percentile_is_the_median_of_the_processes_own():
    records = [made(cost(time_ms=[1.0 + i] * 6), end_to_end_p95_ms=figure) for i, figure in enumerate((3.0, 1.0, 9.0))]
    assert pooled(*records).p95_ms == 3.0
    records[1].end_to_end_p95_ms = None
    assert pooled(*records).p95_ms is None
