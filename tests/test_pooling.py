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
from bertprof.observations import Bandwidth, ClockPart, Energy, Fit, GpuState, OtherClock, Peaks
from bertprof.record import Breakdown, Caveat, Checkpoint, Module
from handmade import breakdowns, cost, made

FFN, HEAD = Component.FFN, Component.HEAD
ON_GPU = {"device": "cuda:0"}


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
        row = cost(FFN, 0, [1.0] * 8, energy_mj=energy, device_time_ms=[0.5] * 6)
        return made(row, workload=ON_GPU, energy=energy and Energy(method="replay", total_mj=[2 * x for x in energy]))

    found = pooled(measured([1.0, 2.0, 3.0]), measured([4.0, 5.0, 6.0]))
    assert (found.costs[0].energy_mj, found.costs[0].device_time_ms) == ([1, 2, 3, 4, 5, 6], [0.5] * 12)
    assert found.energy == Energy(method="replay", total_mj=[2, 4, 6, 8, 10, 12])
    found = pooled(measured([1.0, 2.0, 3.0]), measured(None))
    assert (found.costs[0].energy_mj, found.energy) == (None, None)


@pytest.mark.parametrize("order", [1, -1])
def test_energy_that_one_process_has_not_is_unavailable(order: int):
    row = {"unit": 0, "time_ms": [1.0, 2.0]}
    told = Energy(method="replay", total_mj=[5.0])
    untold = Energy(unavailable="another process")
    one = made(cost(FFN, **row, energy_mj=[4.0]), workload=ON_GPU, energy=told)
    other = made(cost(FFN, **row), workload=ON_GPU, energy=untold)
    found = pooled(*[one, other][::order])
    assert found.energy == untold
    assert found.costs[0].energy_mj is None


def test_energy_by_several_methods_is_by_the_less_exact_one():
    def measured(energy: list[float], **fields: Any) -> Breakdown:
        told = Energy(**{"counter_period_ms": 100.0, "total_mj": [2 * x for x in energy], **fields})
        return made(cost(FFN, 0, [1.0] * 4, energy_mj=energy), workload=ON_GPU, energy=told)

    how = {"method": "replay", "eager_mj": [9.0, 8.0], "total_power_mw": 200, "eager_power_mw": 100}
    first = measured([1.0, 2.0], **how, power_mw={FFN: 10, HEAD: 5})
    second = measured([3.0, 4.0], **{**how, "eager_mj": [7.0, 6.0], "total_power_mw": 300}, power_mw={FFN: 13})
    found = pooled(first, second)
    assert found.energy == Energy(
        method="replay",
        counter_period_ms=100.0,
        total_mj=[2, 4, 6, 8],
        eager_mj=[9, 8, 7, 6],
        power_mw={FFN: 12},  # 11.5; the head's is known of one only
        total_power_mw=250,
        eager_power_mw=100,
    )
    shared = measured([5.0, 6.0], **{**how, "method": "busy-share", "reason": "at its limit"})
    found = pooled(first, shared)
    assert found.energy is not None
    assert (found.energy.method, found.energy.reason, found.energy.power_mw) == ("busy-share", "at its limit", None)
    assert found.costs[0].energy_mj == [1, 2, 5, 6]
    # Where one was not replayed, the whole of both is the eager one.
    eager = measured([5.0, 6.0], method="busy-share", reason="cannot be captured", total_power_mw=150)
    found = pooled(first, eager)
    assert found.energy is not None
    assert (found.energy.total_mj, found.energy.eager_mj) == ([9, 8, 10, 12], None)
    assert (found.energy.total_power_mw, found.energy.eager_power_mw) == (125, None)


# Clocks: a forward of so many ms, a share of it in the ffn and the rest in the head.


def by_clock(name: Any, total_ms: float, share: float, **of_ffn: Any) -> OtherClock:
    parts = [ClockPart(component=FFN, time_ms=share * total_ms, **of_ffn)]
    if share < 1:
        parts.append(ClockPart(component=HEAD, time_ms=(1 - share) * total_ms, **dict.fromkeys(of_ffn, 1)))
    return OtherClock(clock=name, forwards=30, total_ms=total_ms, parts=parts)


def with_clocks(number: int, *clocks: OtherClock, rows_ms: float | None = 1.0, **fields: Any) -> Breakdown:
    one = process(number, workload=ON_GPU, clocks=list(clocks) or None, **fields)
    for row in one.costs:
        row.device_time_ms = None if rows_ms is None else [rows_ms] * 3
    return one


@pytest.mark.parametrize("name", ["graph", "kernels"])
def test_clocks_are_those_of_all(name: Any):
    found = pooled(with_clocks(1, by_clock(name, 10.0, 0.8)), with_clocks(2, by_clock(name, 30.0, 0.4)))
    # 8 + 12 of 10 + 30 ms are a half, of the median 20; the first alone would say 80 % of 10.
    assert found.clocks == [
        OtherClock(
            clock=name,
            forwards=60,
            total_ms=20.0,
            parts=[ClockPart(component=FFN, time_ms=10.0), ClockPart(component=HEAD, time_ms=10.0)],
        )
    ]


def test_what_a_clock_says_of_parts_is_pooled_too():
    first = by_clock("kernels", 10.0, 0.6, busy_ms=5.0, idle_ms=1.0, launches=7)
    second = by_clock("kernels", 10.0, 1.0, busy_ms=9.0, idle_ms=2.0, launches=9)
    third = msgspec.structs.replace(first, total_ms=11.0, unattributed_ms=1.0)
    found = pooled(*(with_clocks(i, each) for i, each in enumerate([first, second, third])))
    assert found.clocks is not None
    (clock,) = found.clocks
    # In all 31 ms, × 10 of the median: 6 + 10 + 6 and 4 + 0 + 4 ms, busy 5 + 9 + 5 and 1 + 0 + 1.
    ffn, head = clock.parts
    assert [ffn.time_ms, head.time_ms, clock.unattributed_ms] == pytest.approx([220 / 31, 80 / 31, 10 / 31], abs=1e-6)
    assert [ffn.busy_ms, head.busy_ms] == pytest.approx([190 / 31, 20 / 31], abs=1e-6)
    assert [ffn.idle_ms, head.idle_ms] == pytest.approx([40 / 31, 20 / 31], abs=1e-6)
    assert (ffn.launches, head.launches) == (7, 1)


def test_a_record_of_several_processes_counts_as_many():
    pair = pooled(with_clocks(1, by_clock("graph", 10.0, 0.5)), with_clocks(2, by_clock("graph", 10.0, 0.5)))
    found = pooled(pair, with_clocks(3, by_clock("graph", 40.0, 0.8)))
    assert found.clocks is not None
    # 2 · 5 + 32 of 60 ms; the median of 10, 10 and 40.
    assert (found.clocks[0].forwards, found.clocks[0].total_ms) == (90, 10.0)
    assert found.clocks[0].parts[0].time_ms == pytest.approx(7.0)


@pytest.mark.parametrize("order", [1, -1])
def test_a_clock_that_one_process_has_not_is_not_told(order: int):
    told, untold = by_clock("graph", 10.0, 0.8), OtherClock(clock="graph", unavailable="it waits")
    found = pooled(*[with_clocks(1, told), with_clocks(2, untold, rows_ms=None)][::order])
    assert found.clocks == [untold]
    assert {row.device_time_ms is None for row in found.costs} == {True}
    assert pooled(*[with_clocks(1, told), with_clocks(2)][::order]).clocks is None


def test_the_graph_clock_is_not_told_without_its_rows():
    graph, kernels = by_clock("graph", 10.0, 0.5), by_clock("kernels", 10.0, 0.5)
    found = pooled(with_clocks(1, graph, kernels), with_clocks(2, graph, kernels, rows_ms=None))
    assert found.clocks is not None
    assert [clock.unavailable for clock in found.clocks] == ["not every process has its times by row", None]


def test_peaks_of_the_device_are_the_best_of_each():
    def of(flops: float, launch: float, speeds: dict[int, float], **fields: Any) -> Peaks:
        bandwidths = [Bandwidth(working_set_bytes=n, bytes_per_s=x) for n, x in speeds.items()]
        how = {"dtype": "float32", "threads": 1, "measured": "2026-11-23T00:00:00+00:00", **fields}
        return Peaks(flops_per_s=flops, launch_ns=launch, bandwidths=bandwidths, **how)

    first = of(1e11, 900.0, {1000: 5e9, 2000: 4e9})
    second = of(2e11, 950.0, {1000: 4e9, 2000: 6e9, 3000: 1e9}, measured="2026-11-24T00:00:00+00:00")
    best = of(2e11, 900.0, {1000: 5e9, 2000: 6e9, 3000: 1e9}, measured="2026-11-24T00:00:00+00:00")
    assert pooled(process(1, peaks=first), process(2, peaks=second)).peaks == best
    assert pooled(process(1), process(2, peaks=second), process(3, peaks=first)).peaks == best
    assert pooled(process(1), process(2)).peaks is None
    for other in ({"dtype": "bfloat16"}, {"threads": 2}):
        faster = of(9e11, 100.0, {1000: 9e9}, **other)
        assert pooled(process(1, peaks=first), process(2, peaks=faster)).peaks == first


def test_the_state_of_the_gpu_is_that_before_all_and_behind_all():
    records = [
        process(i, host={"gpu_before": GpuState(power_mw=i), "gpu_after": GpuState(power_mw=10 + i)}) for i in (1, 2, 3)
    ]
    host = pooled(*records).host
    assert (host.gpu_before, host.gpu_after) == (GpuState(power_mw=1), GpuState(power_mw=13))


def test_peaks_of_memory_are_the_largest():
    assert pooled(process(1, resident_peak_bytes=5), process(2, resident_peak_bytes=7)).resident_peak_bytes == 7
    assert pooled(process(1, resident_peak_bytes=5), process(2)).resident_peak_bytes is None

    def allocated(*figures: int | None) -> int | None:
        records = [process(i) for i in range(len(figures))]
        for one, figure in zip(records, figures, strict=True):
            one.of(FFN)[0].allocated_peak_bytes = figure
        return pooled(*records).of(FFN)[0].allocated_peak_bytes

    assert allocated(5, 7, 6) == 7
    assert allocated(5, None) is None


@pytest.mark.parametrize("timed", [True, False])
def test_what_is_exact_is_kept_where_it_is_the_same(timed: bool):
    def one(number: int, peak: int | None, limit: int | None = 100) -> Breakdown:
        fit = Fit(mode="inference", batch_size=1, parameter_bytes=60, activation_bytes=40, fits=True)
        row = cost(FFN, 0, [1.0 * number] if timed else None, macs=5, activation_peak_bytes=peak)
        return made(row, memory_limit_bytes=limit, fits=None if limit is None else [fit])

    found = pooled(one(1, 8), one(2, 8))
    assert (found.activation_peak_bytes, found.memory_limit_bytes, found.fits) == (8, 100, one(1, 8).fits)
    for other in (one(2, None, None), one(2, 9, 101)):
        found = pooled(one(1, 8), other)
        assert (found.activation_peak_bytes, found.memory_limit_bytes, found.fits) == (None, None, None)


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
