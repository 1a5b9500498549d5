import math
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bertprof
from bertprof.comparison import COUNTS, MEMORY, METRICS, MISMATCHES, SAMPLED, SHARE, Comparison
from bertprof.components import GROUPS, Component
from bertprof.difference import Change, Diff
from bertprof.errors import UsageError
from bertprof.record import Breakdown, Caveat, Cost
from handmade import breakdowns, cost, made, pairs

FFN, HEAD, NORM, IN, SOFTMAX = (
    Component.FFN,
    Component.HEAD,
    Component.ADD_NORM,
    Component.ATTENTION_LINEAR_IN,
    Component.SOFTMAX_ATTENTION,
)


def changed(compared: Comparison, scope: str, metric: str = "time") -> Change:
    part = compared.part(scope)
    assert part is not None
    found = compared.change(part, metric)
    assert found is not None
    return found


def timed(*rows: list[float], run: str | None = None, processes: int = 1, **fields: Any) -> Breakdown:
    """A record whose ffn takes the first row, whose head the second, and whose norms the third."""
    costs = [cost(component, None, row) for component, row in zip((FFN, HEAD, NORM), rows, strict=False)]
    return made(*costs, run=run, processes=processes, **fields)


def jittered(value: float, n: int, phase: int = 0) -> list[float]:
    """About `value`, ± 1 %, never twice the same in a row."""
    return [value * (1 + 0.01 * math.sin(7 * i + phase)) for i in range(n)]


# Figures --------------------------------------------------------------------------------------------------------------


@given(pairs())
def test_rows_of_every_level_sum_to_the_total(sides: tuple[Breakdown, Breakdown]):
    diff = Comparison(*sides).diff()
    single = [row for row in diff.at("component") if (row.scope,) in list(map(tuple, GROUPS.values()))]
    levels = [diff.at("component"), diff.at("unit"), diff.at("cell"), [*diff.at("group"), *single]]
    for metric in (*COUNTS, *SAMPLED):
        total = diff.row("total").metrics.get(metric)
        if total is None or total.change is None:
            continue
        whole = [total.before, total.after, total.change]
        if metric == "time":
            before, after = (side.instrumented_time_ms for side in sides)
            assert before is not None
            assert after is not None
            whole = [before.value, after.value, after.value - before.value]
        for rows in levels:
            found = [row.metrics[metric] for row in rows]
            for field, expected in zip(("before", "after", "change"), whole, strict=True):
                summed = math.fsum(getattr(change, field) for change in found)
                assert summed == pytest.approx(expected, rel=1e-6, abs=1e-6)
            if total.share_of_change is None:
                assert all(change.share_of_change is None for change in found)
            else:
                assert total.share_of_change == 1
                assert math.fsum(change.share_of_change or 0 for change in found) == pytest.approx(1, abs=1e-3)


@given(pairs())
def test_figures_are_those_of_the_records(sides: tuple[Breakdown, Breakdown]):
    compared = Comparison(*sides)
    for part in compared.parts:
        for own, side, costs in (("before", sides[0], part.before), ("after", sides[1], part.after)):
            time, share = compared.change(part, "time"), compared.change(part, SHARE)
            if part.level == "total":
                assert share is None
                assert time is None or getattr(time, own) == (side.end_to_end_time_ms and side.end_to_end_time_ms.value)
                assert compared.change(part, "macs").__getattribute__(own) == side.total("macs")  # type: ignore[union-attr]
                continue
            if time is not None:
                known = side.time_of(costs)
                assert getattr(time, own) == (None if known is None else pytest.approx(known.value))
            if share is not None:
                known = side.time_share(costs)
                assert getattr(share, own) == (None if known is None else pytest.approx(known.value))


def test_where_the_change_came_from():
    # Before 60 + 20 + 20 = 100 ms, after 20 + 20 + 10 = 50: the ffn has 40 of the 50 ms, the norms 10.
    before = timed([60.0] * 10, [20.0] * 10, [20.0] * 10, end_to_end_ms=[99.0] * 10)
    after = timed([20.0] * 10, [20.0] * 10, [10.0] * 10, end_to_end_ms=[48.0] * 10)
    compared = Comparison(before, after)
    assert [changed(compared, scope).share_of_change for scope in ("total", "ffn", "head", "add-norm")] == [
        1,
        pytest.approx(0.8),
        pytest.approx(0),
        pytest.approx(0.2),
    ]
    # The total's own time is that of the bare forward.
    total = changed(compared, "total")
    assert (total.before, total.after, total.change) == (99, 48, -51)
    assert changed(compared, "ffn").before == pytest.approx(60)
    assert changed(compared, "rest").share_of_change == pytest.approx(0.2)
    assert changed(compared, "ffn", SHARE).change == pytest.approx(0.4 - 0.6)


def test_a_change_that_counts_as_none_came_from_nowhere():
    before, after = timed([50.0] * 10, [50.0] * 10), timed([60.0] * 10, [41.0] * 10)  # 100 and 101 ms
    compared = Comparison(before, after)
    assert changed(compared, "ffn").share_of_change is None
    assert changed(compared, "total").share_of_change is None


def test_what_one_side_does_not_know_is_not_compared():
    counted, before = made(cost(FFN, 0, macs=5)), made(cost(FFN, 0, [3.0] * 8, macs=4, bytes_moved=9))
    compared = Comparison(before, counted)
    assert compared.times is None
    assert changed(compared, "ffn") == Change(before=3.0, after=None, change=None, ratio=None, verdict="n/a")
    assert changed(compared, "ffn", "bytes_moved").verdict == "n/a"
    assert changed(compared, "ffn", "macs").verdict == "larger"
    assert compared.change(compared.parts[0], "energy") is None


def test_a_row_of_one_side_is_new_or_removed_and_0_on_the_other():
    before = made(cost(FFN, 0, parameters=7), cost(HEAD, parameters=5))
    after = made(cost(FFN, 0, parameters=7), cost(NORM, 0, parameters=2))
    compared = Comparison(before, after)
    gone, come = changed(compared, "head", "parameters"), changed(compared, "unit[0].add-norm", "parameters")
    assert (gone.before, gone.after, gone.change, gone.ratio, gone.verdict) == (5, 0, -5, 0, "removed")
    assert (come.before, come.after, come.change, come.ratio, come.verdict) == (0, 2, 2, None, "new")
    assert gone.share_of_change == pytest.approx(5 / 3)
    assert come.share_of_change == pytest.approx(-2 / 3)


def test_memory_is_that_of_the_whole_run():
    compared = Comparison(
        timed([1.0] * 8, peak_memory_bytes=100, workload={"device": "cuda:0"}),
        timed([1.0] * 8, peak_memory_bytes=150, workload={"device": "cuda:1"}),
    )
    memory = changed(compared, "total", MEMORY)
    assert (memory.change, memory.ratio, memory.verdict) == (50, 1.5, "larger")
    assert all(compared.change(part, MEMORY) is None for part in compared.parts[1:])


def test_energy_and_device_time_add_up_and_are_judged():
    def side(factor: float) -> Breakdown:
        return made(
            *(
                cost(c, None, jittered(10.0, 10), device_time_ms=[x * factor] * 7, energy_mj=[x * factor] * 9)
                for c, x in ((FFN, 6.0), (HEAD, 2.0))
            ),
            run="r",
        )

    compared = Comparison(side(1.0), side(0.5))
    assert changed(compared, "total", "energy").before == pytest.approx(8)
    assert changed(compared, "ffn", "energy").change == pytest.approx(-3)
    assert changed(compared, "ffn", "energy").verdict == "smaller"
    assert changed(compared, "ffn", "device_time").verdict == "faster"
    assert changed(compared, "ffn", "device_time").share_of_change == pytest.approx(0.75)


# How times are compared -----------------------------------------------------------------------------------------------


def test_records_of_one_run_are_paired_by_round():
    drift = [1.1**i for i in range(20)]
    before = timed([20 * d for d in drift], [10 * d for d in drift], run="r")
    after = timed([16 * d for d in drift], [10 * d for d in drift], run="r")
    compared = Comparison(before, after)
    assert compared.times == "rounds"
    ffn = changed(compared, "ffn")
    assert (ffn.low, ffn.ratio, ffn.high) == pytest.approx((0.8, 0.8, 0.8))
    assert ffn.verdict == "faster"
    assert changed(compared, "head").verdict == "same"
    assert changed(compared, "total").ratio == pytest.approx(26 / 30)
    # Of 26 the head has 38.5 %, of 30 it had 33.3.
    assert changed(compared, "head", SHARE).ratio == pytest.approx(30 / 26)
    assert changed(compared, "head", SHARE).verdict == "larger"
    assert changed(compared, "ffn", SHARE).verdict == "smaller"


@pytest.mark.parametrize(
    ("factors", "verdict"),
    [
        ([1.0] * 20, "same"),
        ([0.99, 1.015] * 10, "same"),
        ([1.0, 1.05] * 10, "inconclusive"),
        ([1.03, 1.04] * 10, "slower"),
        ([1.01, 1.04] * 10, "inconclusive"),
        ([0.97, 0.96] * 10, "faster"),
        ([0.9, 1.1] * 10, "inconclusive"),
        ([3.0] * 5, "inconclusive"),  # too few rounds for an interval
    ],
)
def test_the_verdict_is_that_of_the_interval_against_the_margin(factors: list[float], verdict: str):
    n = len(factors)
    before = timed([10.0] * n, jittered(1, n), run="r")
    after = timed([10 * f for f in factors], jittered(1, n, 1), run="r")
    assert changed(Comparison(before, after), "ffn").verdict == verdict


def cells(ratio: float, seed: int, n: int = 30) -> Comparison:
    """Sixty cells that take equally long on both sides, ± 15 %, but for one that takes `ratio` times as long after."""
    generator = random.Random(seed)

    def side(first: float) -> Breakdown:
        factors = [first] + [1.0] * 59
        keys = [(unit, component) for unit in range(10) for component in list(Component)[:6]]
        return made(
            *(
                cost(component, unit, [f * generator.lognormvariate(0, 0.15) for _ in range(n)])
                for (unit, component), f in zip(keys, factors, strict=True)
            ),
            run="r",
        )

    return Comparison(side(1.0), side(ratio))


def test_of_many_rows_hardly_ever_one_changes_by_chance():
    wrong = by_interval_alone = 0
    for seed in range(60):
        compared = cells(1.0, seed)
        found = [compared.change(part, "time") for part in compared.parts if part.level == "cell"]
        wrong += any(change is not None and change.verdict in ("faster", "slower") for change in found)
        by_interval_alone += any(c is not None and c.low is not None and c.low > 1.02 for c in found)
    assert wrong <= 6  # 5 % of 60, and 2 standard deviations of 1.7
    assert by_interval_alone > 10  # what the correction is for


def test_what_did_change_is_seen_among_many_rows():
    assert sum(changed(cells(1.5, seed), "unit[0].embedding").verdict == "slower" for seed in range(20)) == 20


def test_alone_one_process_a_side_says_nothing():
    before, after = timed([20.0] * 50, run="a"), timed([10.0] * 50, run="b")
    compared = Comparison(before, after)
    assert compared.times == "too few processes"
    ffn = changed(compared, "ffn")
    assert (ffn.verdict, ffn.ratio, ffn.low, ffn.high) == ("inconclusive", 0.5, None, None)
    assert compared.evidence(compared.parts[0], "time") is None


def test_records_without_a_run_are_not_paired():
    assert Comparison(timed([1.0] * 9), timed([2.0] * 9)).times == "too few processes"


def test_a_run_of_other_rounds_or_processes_is_not_paired():
    before = timed(jittered(1, 12), run="r", processes=2)
    assert Comparison(before, timed(jittered(2, 12), run="r", processes=2)).times == "rounds"
    assert Comparison(before, timed(jittered(2, 12), run="r", processes=1)).times == "too few processes"
    assert Comparison(before, timed(jittered(2, 14), run="r", processes=2)).times == "too few processes"


def several(scales: list[float], machine: list[float], yardstick: bool = True, **fields: Any) -> Breakdown:
    """Processes of 4 rounds: ffn 20 ms × scale and head 5 ms, on a machine of that slowness each, with a yardstick."""
    slow = [m for m in machine for _ in range(4)]
    ffn = [20.0 * m * s for m, s in zip(slow, (s for s in scales for _ in range(4)), strict=True)]
    lengths = {FFN: [2.0 * m for m in slow], SOFTMAX: [1.0 * m for m in slow]}
    return timed(
        ffn,
        [5.0 * m for m in slow],
        processes=len(machine),
        **{"yardstick_ms": lengths if yardstick else None, **fields},
    )


def test_processes_are_compared_in_lengths_of_the_yardstick():
    # The machine is half as fast again during the second, and differs by process; the ffn takes 10 % longer.
    before = several([1.0, 1.01, 0.99], [1.0, 1.2, 0.9])
    after = several([1.1, 1.11, 1.09], [1.5, 1.7, 1.4])
    compared = Comparison(before, after)
    assert compared.times == "processes"
    assert compared.yardstick_ratio == pytest.approx(1.5)
    ffn = changed(compared, "ffn")
    assert ffn.ratio == pytest.approx(1.1, rel=0.001)
    assert ffn.verdict == "slower"
    # The head has no yardstick of its own; the whole one tells the machine as well.
    assert changed(compared, "head").ratio == pytest.approx(1.0)
    assert changed(compared, "head").verdict == "same"
    # The figures are as measured: 20 · 1.1 · 1.5 against 20.
    assert changed(compared, "ffn").before == pytest.approx(20, rel=0.05)
    assert changed(compared, "ffn").after == pytest.approx(33, rel=0.05)
    # Without the machine the ffn alone changed.
    assert changed(compared, "ffn").share_of_change == pytest.approx(1, abs=0.1)
    # A share is of one machine at one time.
    assert changed(compared, "ffn", SHARE).ratio == pytest.approx((22 / 27) / (20 / 25), rel=0.001)


def test_without_yardsticks_processes_are_compared_as_they_are_and_a_caveat_says_so():
    for given_yardsticks in ((False, False), (True, False), (False, True)):
        before, after = (
            several([1.0] * 4, machine, yardstick=has)
            for machine, has in zip(([1.0, 1.01, 1.02, 1.0], [1.2, 1.21, 1.22, 1.2]), given_yardsticks, strict=True)
        )
        compared = Comparison(before, after)
        assert compared.yardstick_ratio is None
        assert changed(compared, "ffn").ratio == pytest.approx(1.2, rel=0.01)
        assert [c.code for c in compared.diff().caveats] == ["no-yardstick"]


def test_a_yardstick_that_takes_no_time_in_a_round_is_read_by_its_medians():
    before, after = several([1.0] * 3, [1.0, 1.1, 1.2]), several([1.0] * 3, [2.0, 2.1, 2.3])
    assert before.yardstick_ms is not None
    before.yardstick_ms[FFN][0] = 0.0
    found = changed(Comparison(before, after), "ffn")
    assert found.ratio == pytest.approx(1.0)
    before.yardstick_ms[FFN][:4] = [0.0] * 4
    assert changed(Comparison(before, after), "ffn").verdict == "inconclusive"
    before.yardstick_ms = {FFN: [0.0] * 12}
    assert Comparison(before, after).yardstick_ratio is None


def test_yardsticks_with_nothing_in_common_are_none():
    before, after = several([1.0] * 3, [1.0, 1.1, 1.2]), several([1.0] * 3, [1.0, 1.1, 1.2])
    after.yardstick_ms = {NORM: [1.0] * 12}
    assert Comparison(before, after).yardstick_ratio is None


def test_processes_that_ran_both_sides_are_paired():
    # Processes differ by a factor of two, both sides alike.
    before = several([1.0, 1.01, 0.99], [1.0, 2.0, 0.5], run="r")
    after = several([1.1, 1.11, 1.1], [1.0, 2.0, 0.5], run="r")
    compared = Comparison(before, after)
    assert compared.times == "processes"
    assert compared.yardstick_ratio is None
    found = compared.evidence(compared.parts[0], "time")
    assert found is not None
    assert found.samples == 3
    assert changed(compared, "ffn").verdict == "slower"
    assert changed(Comparison(before, msgspec.structs.replace(after, run="s", yardstick_ms=None)), "ffn").verdict == (
        "inconclusive"
    )


def test_what_is_too_short_for_the_clock_is_not_judged():
    # 3 µs and 4 µs: thirty and forty ticks.
    before = timed([0.003] * 20, jittered(1, 20), run="r")
    after = timed([0.004] * 20, jittered(1, 20), run="r")
    compared = Comparison(before, after)
    assert changed(compared, "ffn").verdict == "inconclusive"
    assert changed(compared, "ffn", SHARE).verdict == "inconclusive"
    assert changed(Comparison(before, timed([0.006] * 20, jittered(1, 20), run="r")), "ffn").verdict == "slower"


def test_what_takes_no_time_in_some_round_is_not_judged_and_what_never_takes_any_is_the_same():
    before = timed([1.0] * 10, [0.0] + [1.0] * 9, [0.0] * 10, run="r")
    after = timed([2.0] * 10, [1.0] * 10, [0.0] * 10, run="r")
    compared = Comparison(before, after)
    assert changed(compared, "head").verdict == "inconclusive"
    assert changed(compared, "add-norm").verdict == "same"
    assert changed(compared, "add-norm").ratio is None


def test_marks_of_other_kinds_and_masks_are_told():
    before = timed([1.0] * 10, [1.0] * 10, end_to_end_ms=[1.9] * 10)
    after = timed([1.0] * 10, [1.0] * 10, end_to_end_ms=[1.99] * 10, workload={"marks": "wrappers", "mask": "4d"})
    caveats = Comparison(before, after).diff().caveats
    assert [c.code for c in caveats] == ["mask", "marks"]
    assert "hooks before (+5.3 % of the forward) and by wrappers after (+0.5 %)" in caveats[1].text


def test_times_that_one_side_cannot_tell_apart_are_not_compared():
    """`nn.MultiheadAttention` before, all of whose time stands in softmax attention; three modules after."""

    def side(linear: float, softmax: float, caveats: list[Caveat]) -> Breakdown:
        rows = [(IN, linear, 5), (SOFTMAX, softmax, 2), (FFN, 8.0, 8)]
        costs = [cost(c, 0, [x] * 10, macs=macs) for c, x, macs in rows]
        return made(*costs, run="r", caveats=caveats)

    mixed = Caveat(code="time-not-split", text="one function", component=SOFTMAX)
    compared = Comparison(side(0.0, 6.0, [mixed]), side(4.0, 3.0, []))
    for metric in ("time", SHARE):
        for scope in ("attention-linear-in", "softmax-attention", "unit[0].softmax-attention"):
            assert changed(compared, scope, metric).verdict == "n/a"
        assert changed(compared, "ffn", metric).verdict != "n/a"
        assert changed(compared, "unit[0]", metric).verdict != "n/a"
    assert changed(compared, "total").verdict == "slower"  # 15 against 14 ms
    assert changed(compared, "softmax-attention", "macs").verdict == "same"
    (caveat,) = compared.diff().caveats
    assert caveat.text == (
        "of one side the times of attention-linear-in, softmax-attention cannot be told apart, and so do not compare"
    )
    both = Comparison(side(0.0, 6.0, [mixed]), side(0.0, 3.0, [mixed]))
    assert changed(both, "softmax-attention").verdict == "faster"
    assert both.diff().caveats == []


def test_which_components_of_a_part_cannot_be_told_apart():
    mixed, together = [Caveat(code="time-not-split", text="one function", component=SOFTMAX)], frozenset({IN, SOFTMAX})

    def side(linear: list[float], caveats: list[Caveat]) -> Breakdown:
        """Two units, of which only one may have its linear's time in another's row."""
        rows = [(u, c, x) for u, own in enumerate(linear) for c, x in ((IN, own), (SOFTMAX, 6.0), (FFN, 8.0))]
        return made(*(cost(c, u, [x] * 10, macs=5) for u, c, x in rows), run="r", caveats=caveats)

    half, all_, none = side([0.0, 4.0], mixed), side([0.0, 0.0], mixed), side([4.0, 4.0], [])
    for before, after, wanted in (
        (half, none, (together, frozenset())),
        (none, all_, (frozenset(), together)),
        (all_, half, (together, together)),
        (none, none, (frozenset(), frozenset())),
    ):
        compared = Comparison(before, after)
        for part in compared.parts:
            cut = part.scope in (IN, SOFTMAX, "attention-linear") or (part.level == "cell" and part.component != FFN)
            assert compared.inseparable(part) == (wanted if cut else (frozenset(), frozenset()))


def test_all_that_stands_together_compares_whatever_else_does_on_the_other_side():
    """Both projections of attention stand together before, the ffn and its norm after."""
    out = Component.ATTENTION_LINEAR_OUT

    def side(*caveats: Caveat, **times: float) -> Breakdown:
        named = {"linear_in": IN, "linear_out": out, "ffn": FFN, "norm": NORM}
        costs = [cost(named[name], 0, [x] * 10, macs=5) for name, x in times.items()]
        return made(*costs, run="r", caveats=list(caveats))

    def mixed(component: Component) -> Caveat:
        return Caveat(code="time-not-split", text="one function", component=component)

    before = side(mixed(IN), linear_in=8.0, linear_out=0.0, ffn=5.0, norm=1.0)
    after = side(mixed(FFN), linear_in=2.0, linear_out=2.0, ffn=6.0, norm=0.0)
    compared = Comparison(before, after)
    assert changed(compared, "attention-linear").verdict == "faster"  # 4 against 8 ms, known of both sides
    assert changed(compared, "unit[0]").verdict == "faster"
    for scope in ("attention-linear-in", "attention-linear-out", "ffn", "add-norm", "rest"):
        assert changed(compared, scope).verdict == "n/a"


# Units that do not correspond -----------------------------------------------------------------------------------------


def encoder(units: int, *others: Cost) -> Breakdown:
    return made(*others, *(cost(c, u, macs=5 + u) for u in range(units) for c in (SOFTMAX, FFN)))


def scopes(compared: Comparison, level: str) -> list[str]:
    return [part.scope for part in compared.parts if part.level == level]


def test_as_many_units_stand_beside_each_other():
    compared = Comparison(encoder(2, cost(HEAD)), encoder(2, cost(HEAD)))
    assert scopes(compared, "unit") == ["unit[0]", "unit[1]", "outside"]
    assert scopes(compared, "cell") == [
        *("unit[0].softmax-attention", "unit[0].ffn", "unit[1].softmax-attention", "unit[1].ffn", "outside.head"),
    ]
    assert scopes(compared, "component") == ["softmax-attention", "ffn", "head"]
    assert scopes(compared, "group") == ["rest"]
    assert scopes(compared, "total") == ["total"]


def test_other_numbers_of_units_stand_alone_unless_the_user_says_otherwise():
    before, after = encoder(12), encoder(6)
    compared = Comparison(before, after)
    assert [(m.key, m.before, m.after, m.affects) for m in compared.mismatches] == [("units", "12", "6", "units")]
    assert scopes(compared, "unit") == [*(f"unit[{u}]" for u in range(12)), *(f"after.unit[{u}]" for u in range(6))]
    assert {changed(compared, scope, "macs").verdict for scope in scopes(compared, "unit")[:12]} == {"removed"}
    assert {changed(compared, scope, "macs").verdict for scope in scopes(compared, "unit")[12:]} == {"new"}
    assert changed(compared, "after.unit[3].ffn", "macs").after == 8
    assert changed(compared, "ffn", "macs").ratio == pytest.approx(sum(range(5, 11)) / sum(range(5, 17)))
    assert compared.diff().caveats == []  # a student has fewer: nothing that one would have to be told

    by_index = Comparison(before, after, ["units"])
    assert scopes(by_index, "unit") == [f"unit[{u}]" for u in range(12)]
    assert [changed(by_index, f"unit[{u}]", "macs").verdict for u in (0, 5, 6, 11)] == ["same"] * 2 + ["removed"] * 2
    assert [c.text for c in by_index.diff().caveats] == [
        "units differs: 12 before, 6 after; compared all the same, as you asked"
    ]


def test_a_student_of_another_kind_has_rows_of_its_own():
    student = made(cost(Component.RECURRENT, None, macs=9), cost(HEAD, macs=2))
    compared = Comparison(encoder(2, cost(HEAD, macs=4)), student)
    assert [m.key for m in compared.mismatches] == ["units"]
    verdicts = {scope: changed(compared, scope, "macs").verdict for scope in scopes(compared, "component")}
    assert verdicts == {"softmax-attention": "removed", "ffn": "removed", "recurrent": "new", "head": "smaller"}
    assert changed(compared, "outside.recurrent", "macs").after == 9


def test_weights_that_units_share_stand_outside():
    own = made(*(cost(FFN, u, parameters=4, macs=7) for u in range(3)))
    shared = made(cost(FFN, None, parameters=4), *(cost(FFN, u, macs=7) for u in range(3)))
    compared = Comparison(own, shared)
    assert compared.mismatches == []
    assert changed(compared, "unit[1].ffn", "parameters").verdict == "smaller"
    assert changed(compared, "unit[1].ffn", "macs").verdict == "same"
    assert changed(compared, "outside.ffn", "parameters").verdict == "new"
    assert changed(compared, "ffn", "parameters").ratio == pytest.approx(1 / 3)


# What does not compare ------------------------------------------------------------------------------------------------


def pair(**workload: Any) -> tuple[Breakdown, Breakdown]:
    def rows() -> list[Cost]:
        return [cost(FFN, 0, jittered(10, 10), macs=3, parameters=4)]

    return made(*rows(), run="r"), made(*rows(), cost(HEAD, None, jittered(1, 10)), run="r", workload=workload)


@pytest.mark.parametrize(
    ("key", "workload", "said"),
    [
        ("batch_size", {"batch_size": 4}, ("1", "4")),
        ("sequence_length", {"sequence_length": None}, ("8", "none")),
        ("padding", {"padding": 0.25}, ("0", "0.25")),
        ("task", {"task": "masked-lm"}, ("none", "masked-lm")),
    ],
)
def test_other_work_compares_by_what_is_stored_only(key: str, workload: dict[str, Any], said: tuple[str, str]):
    before, after = pair(**workload)
    compared = Comparison(before, after)
    (mismatch,) = compared.mismatches
    assert (mismatch.key, mismatch.affects, mismatch.allowed) == (key, "counts", False)
    assert (mismatch.before, mismatch.after) == said
    assert compared.times == "not comparable"
    assert changed(compared, "ffn", "parameters").verdict == "same"
    for metric in ("macs", "time", SHARE):
        found = changed(compared, "ffn", metric)
        assert (found.verdict, found.low) == ("n/a", None)
        assert found.change is not None
    assert changed(compared, "head").verdict == "new"
    assert [c.code for c in compared.diff().caveats] == ["mismatch"]

    allowed = Comparison(before, after, [key])
    assert allowed.times == "rounds"
    assert changed(allowed, "ffn", "macs").verdict == "same"
    assert changed(allowed, "ffn").verdict == "same"
    assert "as you asked" in allowed.diff().caveats[0].text
    assert allowed.mismatches[0].allowed


@pytest.mark.parametrize(
    ("key", "field", "value"),
    [
        ("device", "workload", "cuda:0"),
        ("threads", "workload", 2),
        ("cpu", "host", "another"),
        ("gpu", "host", "a GPU"),
        ("torch", "host", "2.9"),
    ],
)
def test_another_machine_compares_by_counts_only(key: str, field: str, value: object):
    before, after = pair()
    place: Any = getattr(after, field)
    setattr(place, key, value)
    before.peak_memory_bytes = after.peak_memory_bytes = 5
    compared = Comparison(before, after)
    assert [(m.key, m.affects) for m in compared.mismatches] == [(key, "times")]
    assert changed(compared, "ffn", "macs").verdict == "same"
    assert changed(compared, "total").verdict == changed(compared, "total", MEMORY).verdict == "n/a"
    assert changed(Comparison(before, after, [key]), "total", MEMORY).verdict == "same"
    # Where nothing was timed, it does not matter.
    untimed = (
        made(cost(FFN, 0), workload=asked, host=seen)
        for asked, seen in (({}, {}), ({key: value}, {}) if field == "workload" else ({}, {key: value}))
    )
    assert Comparison(*untimed).mismatches == []


def test_all_that_can_be_let_through_is_known_and_nothing_else():
    assert set(MISMATCHES) == {
        *("batch_size", "sequence_length", "segments", "padding", "task", "units"),
        *("device", "threads", "cpu", "gpu", "torch", "kernel"),
    }
    with pytest.raises(UsageError, match=r"--allow-mismatch weather: there is no such key; use one of batch_size, "):
        Comparison(*pair(), ["padding", "weather"])


def test_what_runs_dequantised_is_not_compared_in_times():
    before, after = pair()
    after.caveats.append(Caveat(code="no-kernel", text="no kernel: dequantised"))
    compared = Comparison(before, after)
    (mismatch,) = compared.mismatches
    assert (mismatch.key, mismatch.affects) == ("kernel", "times")
    assert (mismatch.before, mismatch.after) == ("as stored", "none, dequantised")
    assert changed(compared, "total").verdict == "n/a"
    assert changed(compared, "ffn", "macs").verdict == "same"
    # Two that are both so do the same work by the same kernels.
    assert Comparison(after, after).mismatches == []


def test_which_of_two_gpus_does_not_matter():
    before, after = (timed([1.0], workload={"device": f"cuda:{i}"}, host={"gpu": "g"}) for i in range(2))
    assert Comparison(before, after).mismatches == []


# One compared with itself, and two the other way round ----------------------------------------------------------------


@given(breakdowns() | breakdowns(repeats=2, processes=3) | breakdowns(repeats=7, run="r"))
def test_a_record_compared_with_itself_is_the_same(breakdown: Breakdown):
    again = msgspec.structs.replace(breakdown, costs=breakdown.costs[::-1])
    compared = Comparison(breakdown, again)
    assert compared.times == ("identical" if breakdown.timed else None)
    diff = compared.diff()
    assert not diff.mismatches
    for row in diff.rows:
        for change in row.metrics.values():
            assert change.verdict == ("same" if change.change is not None else "n/a")
            assert change.before == change.after
            assert change.share_of_change is None
            assert (change.low, change.high) == (None, None)
    assert diff.yardstick_ratio is None


MIRRORED = {"faster": "slower", "smaller": "larger", "new": "removed"}
MIRRORED |= {after: before for before, after in MIRRORED.items()}


def mirrored(scope: str, diff: Diff) -> str:
    if not any(m.key == "units" and not m.allowed for m in diff.mismatches):
        return scope
    return f"after.{scope}" if scope.startswith("unit[") else scope.removeprefix("after.")


@given(pairs())
def test_two_records_the_other_way_round_say_the_same(sides: tuple[Breakdown, Breakdown]):
    there, back = Comparison(*sides).diff(), Comparison(*reversed(sides)).diff()
    assert there.times == back.times
    if there.yardstick_ratio is not None:
        assert back.yardstick_ratio == pytest.approx(1 / there.yardstick_ratio)
    assert {mirrored(row.scope, back) for row in back.rows} == {row.scope for row in there.rows}
    for row in there.rows:
        other = back.row(mirrored(row.scope, there))
        assert (other.level, other.component, other.unit) == (row.level, row.component, row.unit)
        assert other.metrics.keys() == row.metrics.keys()
        for metric, a in row.metrics.items():
            b = other.metrics[metric]
            assert (a.before, a.after) == (b.after, b.before)
            assert a.change == (None if b.change is None else -b.change)
            assert b.verdict == MIRRORED.get(a.verdict, a.verdict)
            if a.ratio and b.ratio:
                assert a.ratio == pytest.approx(1 / b.ratio)
            if a.low is not None and b.low is not None and a.high is not None and b.high is not None:
                assert (a.low, a.high) == pytest.approx((1 / b.high, 1 / b.low))
            assert (a.low is None) == (b.low is None)
            if a.share_of_change is None or b.share_of_change is None:
                assert a.share_of_change == b.share_of_change
            else:
                assert a.share_of_change == pytest.approx(b.share_of_change, rel=1e-6, abs=1e-6)


@given(pairs(), st.booleans())
def test_every_metric_of_a_row_is_one_that_gates_know(sides: tuple[Breakdown, Breakdown], twice: bool):
    compared = Comparison(*sides)
    if twice:  # what was asked for once is what a row has
        for part in compared.parts:
            assert compared.change(part, "time") is compared.change(part, "time")
    assert all(metric in METRICS for row in compared.diff().rows for metric in row.metrics)


# Real models ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_bert_base_against_distilbert():
    before = bertprof.breakdown("bert-base-uncased", time=False)
    after = bertprof.breakdown("distilbert-base-uncased", time=False)
    compared = Comparison(before, after)
    assert [(m.key, m.before, m.after, m.affects) for m in compared.mismatches] == [("units", "12", "6", "units")]
    # No table of two segments, 2 · 768.
    assert changed(compared, "embedding", "parameters").change == -1536
    for metric in ("parameters", "macs"):
        ffn = changed(compared, "ffn", metric)
        assert (ffn.ratio, ffn.verdict) == (0.5, "smaller")
    assert changed(compared, "ffn", "parameters").before == 56_669_184
    head = changed(compared, "head", "parameters")
    assert (head.before, head.after, head.verdict) == (590_592, 0, "removed")
    assert compared.part("unit[11]") is not None
    assert compared.part("after.unit[5]") is not None
    assert compared.part("after.unit[6]") is None
    assert changed(compared, "unit[0].ffn", "macs").verdict == "removed"
    assert changed(compared, "after.unit[0].ffn", "macs").verdict == "new"
    # 109,482,240 − 66,362,880, the sizes that both were published with.
    assert changed(compared, "total", "parameters").change == -43_119_360
    assert compared.diff().caveats == []
    # By index, the first six stand beside each other.
    by_index = Comparison(before, after, ["units"])
    assert changed(by_index, "unit[5].ffn", "macs").verdict == "same"
    assert changed(by_index, "unit[6].ffn", "macs").verdict == "removed"


@pytest.mark.slow
def test_bert_base_against_albert_whose_units_share_their_weights():
    before = bertprof.breakdown("bert-base-uncased", time=False)
    after = bertprof.breakdown("albert-base-v2", time=False)
    compared = Comparison(before, after)
    assert compared.mismatches == []
    unit = changed(compared, "unit[3].ffn", "parameters")
    assert (unit.after, unit.verdict) == (0, "smaller")
    assert changed(compared, "unit[3].ffn", "macs").verdict == "same"
    # One unit's weights, 2 · 768 · 3072 + 3072 + 768, stand outside, where BERT has no ffn.
    outside = changed(compared, "outside.ffn", "parameters")
    assert (outside.after, outside.verdict) == (4_722_432, "new")
    assert changed(compared, "ffn", "parameters").ratio == pytest.approx(1 / 12)
