"""Why time did or did not follow size: each kind of change, by diffs whose figures are known."""

import copy
from collections.abc import Sequence
from typing import Any

import pytest
from compared import ROUNDS, distilled, real, untimed
from hypothesis import given

from bertprof.comparison import Comparison
from bertprof.components import Component
from bertprof.difference import Diff
from bertprof.record import Breakdown, Caveat, Cost
from bertprof.report.advice import why
from bertprof.report.findings import findings
from handmade import cost, made, pairs

EMBEDDING, LINEAR, SOFTMAX, FFN = (
    Component.EMBEDDING,
    Component.ATTENTION_LINEAR_IN,
    Component.SOFTMAX_ATTENTION,
    Component.FFN,
)
NORM, HEAD, OTHER = Component.ADD_NORM, Component.HEAD, Component.OTHER


def row(
    component: Component,
    ms: float,
    macs: int = 0,
    weights: int = 0,
    width: float = 4,
    unit: int | None = 0,
    **more: Any,
) -> Cost:
    """A row that takes so long in every round, of so many weights of so many bytes each."""
    fields = {"flops": 2 * macs, **more}
    stored = round(weights * width)
    return cost(component, unit, [ms] * ROUNDS, macs=macs, parameters=weights, parameter_bytes=stored, **fields)


def side(*rows: Cost, recipes: tuple[str, ...] = (), caveats: tuple[str, ...] = (), **workload: Any) -> Breakdown:
    found = made(*rows, workload={"recipes": list(recipes)}, run="r")
    for key, value in workload.items():
        setattr(found.workload, key, value)
    found.caveats = [Caveat(code=code, text=code) for code in caveats]
    return found


def said(before: Breakdown, after: Breakdown, allowed: Sequence[str] = ()) -> str | None:
    """The advice, where the same work takes 0.05 % longer after: the very same samples would be one measurement."""
    after = copy.deepcopy(after)  # rows are in several records
    for each in after.costs:
        each.time_ms = [1.0005 * sample for sample in each.time_ms or []]
    after.instrumented_ms = [1.0005 * sample for sample in after.instrumented_ms or []]
    after.end_to_end_ms = [1.0005 * sample for sample in after.end_to_end_ms or []]
    return why(Comparison(before, after, allowed).diff())


# A model of 100 ms, 1,000 MACs and 400 weights in 1,600 bytes.
USUAL = (
    row(EMBEDDING, 0.4, weights=100, unit=None),
    row(LINEAR, 30, 320, 100),
    row(SOFTMAX, 6, 30),
    row(FFN, 60, 650, 200),
    row(OTHER, 3.6),
)


def usual(**changed: Cost) -> tuple[Cost, ...]:
    """These rows, some replaced by name."""
    names = dict(zip(("embedding", "linear", "softmax", "ffn", "other"), USUAL, strict=True))
    return tuple((names | changed).values())


BEFORE = side(*USUAL)


# The same work --------------------------------------------------------------------------------------------------------


def test_zeros_are_multiplied():
    after = side(*usual(ffn=row(FFN, 60, 650, 200, nonzero_parameters=80), **KNOWN), recipes=("sparsity=0.6",))
    # 100 + 100 + 0 + 80 + 0 of 400 weights are left: −30 %
    assert said(BEFORE, after) == (
        "weights that are not zero -30.0 %, but the same MACs; "
        "the new zeros (60 % of ffn) are multiplied as any number, by the same kernels"
    )


KNOWN = {
    "embedding": row(EMBEDDING, 0.4, weights=100, unit=None, nonzero_parameters=100),
    "linear": row(LINEAR, 30, 320, 100, nonzero_parameters=100),
    "softmax": row(SOFTMAX, 6, 30, nonzero_parameters=0),
    "other": row(OTHER, 3.6, nonzero_parameters=0),
}


def test_zeros_of_a_table_are_not_multiplied():
    embedding = row(EMBEDDING, 0.4, weights=100, unit=None, nonzero_parameters=40)
    others = KNOWN | {"ffn": row(FFN, 60, 650, 200, nonzero_parameters=200), "embedding": embedding}
    # 340 of 400 weights; the table had 100 of them and 0.4 of 100 ms.
    assert said(BEFORE, side(*usual(**others), recipes=("sparsity=0.6,embedding=yes",))) == (
        "weights that are not zero -15.0 %, but the same MACs; "
        "what shrank is embedding, looked up without MACs: 25 % of the weights that are not zero, 0.4 % of the time"
    )


def test_narrower_tables_are_not_multiplied():
    after = side(*usual(embedding=row(EMBEDDING, 0.4, weights=100, width=1, unit=None)), recipes=("x",))
    # 100 of 1,600 bytes for 400
    assert said(BEFORE, after) == (
        "bytes -18.8 %, but the same MACs; "
        "what shrank is embedding, looked up without MACs: 25 % of the bytes, 0.4 % of the time"
    )


def test_a_row_without_macs_that_is_no_table_is_not_looked_up():
    before = side(*USUAL, row(NORM, 1, weights=100))
    after = side(*USUAL, row(NORM, 1, weights=100, width=1), recipes=("x",))
    # 300 of 2,000 bytes less; 400 of them and 1 of 101 ms are the row's.
    assert said(before, after) == (
        "bytes -15.0 %, but the same MACs; what shrank is add-norm, without MACs: 20 % of the bytes, 1.0 % of the time"
    )


def test_zeros_that_are_not_stored_are_multiplied_all_the_same():
    # A bitmap: 80 weights of 4 bytes and 200 bits: 345 bytes for 800.
    ffn = cost(
        FFN, 0, [60.0] * ROUNDS, macs=650, flops=1300, parameters=200, nonzero_parameters=80, parameter_bytes=345
    )
    found = said(BEFORE, side(*usual(**(KNOWN | {"ffn": ffn})), recipes=("sparsity=0.6,storage=bitmap",)))
    # 1,600 − 455 = 1,145 bytes
    assert found is not None
    assert found.startswith(
        "bytes -28.4 %, but the same MACs; the new zeros (60 % of ffn) are multiplied as any number"
    )


def test_zeros_are_not_told_of_weights_that_are_not_known():
    after = side(*usual(**(KNOWN | {"ffn": row(FFN, 60, 650, 200, nonzero_parameters=80)})))
    before = side(*USUAL, weights="checkpoint")
    assert said(before, after) is None


def test_what_shrank_is_the_embedding():
    after = side(*usual(embedding=row(EMBEDDING, 0.4, weights=20, unit=None)), recipes=("vocabulary=20",))
    # 80 of 400 weights less; the table has 400 of 1,600 bytes and 0.4 of 100 ms.
    assert said(BEFORE, after) == (
        "bytes -20.0 %, but the same MACs; "
        "what shrank is embedding, looked up without MACs: 25 % of the bytes, 0.4 % of the time"
    )


def test_a_few_macs_more_are_nearly_the_same():
    after = side(*usual(embedding=row(EMBEDDING, 0.5, 10, weights=20, unit=None)), recipes=("factor-embedding=2",))
    assert said(BEFORE, after) == (
        "bytes -20.0 %, but nearly the same MACs (+1.0 %); "
        "what shrank is embedding: 25 % of the bytes, 0.4 % of the time"
    )


def test_weights_that_all_units_share():
    before = side(*(row(FFN, 10, 100, 50, unit=unit) for unit in range(4)))
    after = side(
        *(row(FFN, 10, 100, unit=unit) for unit in range(4)), row(FFN, 0, weights=50, unit=None), recipes=("share",)
    )
    assert said(before, after) == (
        "bytes -75.0 %, but the same MACs; "
        "the weights of ffn stand once for 4 units, and each unit multiplies by them as before"
    )


def test_shared_weights_beside_a_smaller_embedding():
    """As ALBERT beside BERT: 85M of 109M weights are shared, the rest is the table of words."""
    before = side(row(EMBEDDING, 0.4, weights=24, unit=None), *(row(FFN, 10, 100, 10, unit=unit) for unit in range(8)))
    after = side(
        row(EMBEDDING, 0.5, 1, weights=4, unit=None),
        *(row(FFN, 10, 100, unit=unit) for unit in range(8)),
        row(FFN, 0, weights=10, unit=None),
    )
    # 104 → 14; of the 90, 70 are shared and 20 the table's: 78 % do not explain it yet.
    assert said(before, after) == (
        "bytes -86.5 %, but nearly the same MACs (+0.1 %); "
        "the weights of ffn stand once for 8 units, and each unit multiplies by them as before; "
        "what shrank is embedding: 23 % of the bytes, 0.5 % of the time"
    )


def test_narrower_weights_by_the_same_kernels():
    after = side(*usual(ffn=row(FFN, 60, 650, 200, width=1)), recipes=("x",))
    assert said(BEFORE, after) == (
        "bytes -37.5 %, but the same MACs; "
        "weights of fewer bytes (ffn 4.00 → 1.00 bytes each) are multiplied by the same kernels"
    )


def test_narrower_weights_by_other_kernels_that_are_no_faster():
    after = side(*usual(ffn=row(FFN, 60, 650, 200, width=1)), recipes=("x",), backend="other")
    found = said(BEFORE, after)
    assert found is not None
    assert found.endswith("are multiplied by other kernels that are no faster, torch → other")


def test_both_sides_dequantised():
    eight = side(*usual(ffn=row(FFN, 60, 650, 200, width=1)), recipes=("bits=8",), caveats=("no-kernel",))
    four = side(*usual(ffn=row(FFN, 60, 650, 200, width=0.5)), recipes=("bits=4",), caveats=("no-kernel",))
    found = said(eight, four)
    assert found is not None
    assert found.endswith(
        "weights of fewer bytes (ffn 1.00 → 0.50 bytes each) are dequantised before, on both sides, and multiplied by "
        "the same kernels"
    )
    # Of one side alone the times do not compare, unless they are let through.
    assert said(BEFORE, four) is None


def dequantised(ms: float) -> Breakdown:
    """As BEFORE, with an FFN of 8-bit weights that no kernel runs."""
    ffn, backend = row(FFN, ms, 650, 200, width=1), "torch, 8-bit weights dequantised"
    return side(*usual(ffn=ffn), recipes=("bits=8",), caveats=("no-kernel",), backend=backend)


def test_dequantised_weights_run_by_no_other_kernels():
    assert said(BEFORE, dequantised(60), allowed=["kernel"]) == (
        "bytes -37.5 %, but the same MACs; weights of fewer bytes (ffn 4.00 → 1.00 bytes each) are dequantised "
        "before, in AFTER, and multiplied by the same kernels"
    )
    four = side(
        *usual(ffn=row(FFN, 60, 650, 200, width=0.5)),
        recipes=("bits=4",),
        caveats=("no-kernel",),
        backend="torch, 4-bit weights dequantised",
    )
    found = said(dequantised(60), four)
    assert found is not None
    assert found.endswith("are dequantised before, on both sides, and multiplied by the same kernels")


def test_dequantised_weights_gain_no_time_by_their_width():
    found = said(BEFORE, dequantised(30), allowed=["kernel"])
    assert found is not None
    assert found.startswith(
        "the same MACs by the same kernels, as far as the records tell: the counts do not say why: ffn -50 %; "
    )


def test_other_kernels_beside_dequantised_weights():
    some = dequantised(30)
    some.workload.backend += ", int8 by onednn"
    found = said(BEFORE, some, allowed=["kernel"])
    assert found is not None
    assert found.startswith("the same MACs by other kernels, int8 by onednn: ffn -50 %; ")


def test_other_kernels_in_less_time():
    after = side(
        *usual(linear=row(LINEAR, 15, 320, 100, width=1), ffn=row(FFN, 24, 650, 200, width=1)),
        recipes=("int8",),
        backend="torch, int8 by onednn",
    )
    # 49 ms, of which softmax 6, other 3.6 and embedding 0.4 took as long before: 10 of 49 are 20 %.
    assert said(BEFORE, after) == (
        "the same MACs by other kernels, int8 by onednn: ffn -60 %, attention-linear -50 %; "
        "softmax-attention, other and embedding kept their time, now 20 %"
    )


def test_less_time_with_narrower_weights_whose_kernels_are_not_recorded():
    after = side(*usual(ffn=row(FFN, 30, 650, 200, width=1)))
    found = said(BEFORE, after)
    assert found is not None
    assert found.startswith("the same MACs with weights of fewer bytes: ffn -50 %; ")


def test_less_time_that_no_figure_explains():
    after = side(*usual(embedding=row(EMBEDDING, 0.4, weights=20, unit=None), ffn=row(FFN, 30, 650, 200)))
    found = said(BEFORE, after)
    assert found is not None
    assert found.startswith(
        "the same MACs by the same kernels, as far as the records tell: the counts do not say why: ffn"
    )


def test_other_kernels_that_take_longer():
    after = side(
        *(row(c.component, 3 * (c.time_ms or [0])[0], c.macs, c.parameters, 2) for c in USUAL), dtype="float16"
    )
    assert said(BEFORE, after) == (
        "the same MACs by kernels that take longer, float32 → float16: ffn +200 %, attention-linear +200 %, "
        "softmax-attention +200 %"
    )


def test_a_recipe_that_changed_only_the_time():
    after = side(*usual(ffn=row(FFN, 90, 650, 200)), recipes=("x",))
    assert said(BEFORE, after) == "the same MACs: ffn +50 %"


def test_what_grew_without_work():
    after = side(*usual(embedding=row(EMBEDDING, 0.4, weights=300, unit=None)))
    # 1,200 of 2,400 bytes
    assert said(BEFORE, after) == (
        "bytes +50.0 %, but the same MACs; "
        "what grew is embedding, looked up without MACs: 50 % of the bytes, 0.4 % of the time"
    )


def test_what_grew_and_is_slower_is_not_explained_by_its_size():
    """As sharing between units taken back."""
    before = side(
        *(row(FFN, 10, 100, unit=unit) for unit in range(4)), row(FFN, 0, weights=50, unit=None), recipes=("share",)
    )
    after = side(*(row(FFN, 11, 100, 50, unit=unit) for unit in range(4)))
    assert said(before, after) == (
        "bytes +300.0 %, the same MACs by the same kernels, as far as the records tell: the counts do not say why: "
        "ffn +10 %"
    )


def test_zeros_that_are_filled_again():
    sparse = side(*usual(ffn=row(FFN, 60, 650, 200, nonzero_parameters=80), **KNOWN), recipes=("sparsity=0.6",))
    # 280 of 400 weights are left, and 400 again: +42.9 %; the FFN has 200 of the 400, and 60 of the 100 ms.
    assert said(sparse, BEFORE) == (
        "weights that are not zero +42.9 %, but the same MACs; "
        "what grew is ffn: 50 % of the weights that are not zero, 60 % of the time"
    )
    assert said(sparse, side(*USUAL, weights="checkpoint")) is None


# Other work -----------------------------------------------------------------------------------------------------------


def test_time_that_follows_the_work():
    after = side(*(row(c.component, (c.time_ms or [0])[0] / 2, c.macs // 2, c.parameters // 2) for c in USUAL))
    assert said(BEFORE, after) == "the time follows the MACs (-50.0 %)"


def test_work_that_is_done_beforehand_is_not_spared():
    halved = [row(c.component, (c.time_ms or [0])[0] / 2, c.macs // 2, c.parameters) for c in USUAL]
    recipes = ("decompose-attention=9", "cache-segment=2")
    with_cache = side(*halved, recipes=recipes, caveats=("cached-segment",))
    text = "the time follows the MACs (-50.0 %); what AFTER has in its cache is computed beforehand, not spared"
    assert said(BEFORE, with_cache) == text
    assert said(BEFORE, side(*halved, recipes=recipes[:1])) == "the time follows the MACs (-50.0 %)"
    # Of two caches, what is told is the work.
    both = side(*USUAL, recipes=("decompose-attention=6", "cache-segment=2"), caveats=("cached-segment",))
    assert said(both, with_cache) == "the time follows the MACs (-50.0 %)"
    backwards = said(with_cache, BEFORE)
    assert backwards == text.replace("-50.0", "+100.0").replace("AFTER", "BEFORE")


def test_time_that_follows_the_work_and_not_the_size():
    table = row(EMBEDDING, 0.4, weights=100, unit=None)
    after = side(
        table, *(row(c.component, (c.time_ms or [0])[0] / 2, c.macs // 2, c.parameters // 2) for c in USUAL[1:])
    )
    assert said(BEFORE, after) == "the time follows the MACs (-50.0 %), not the bytes (-37.5 %)"


def test_a_larger_model():
    after = side(*(row(c.component, 2 * (c.time_ms or [0])[0], 2 * c.macs, 2 * c.parameters) for c in USUAL))
    assert said(BEFORE, after) == "the time follows the MACs (+100.0 %)"


def test_rows_that_do_not_follow_their_own_work():
    # MACs −32.5 %; the FFN takes 54 of 60 ms for half its work: 94 ms.
    after = side(*usual(ffn=row(FFN, 54, 325, 100, bytes_moved=650)), recipes=("ffn=2",))
    # 650 FLOPs by 650 bytes moved is 1; 54 of 94 ms is 57 %.
    assert said(BEFORE, after) == (
        "MACs -32.5 %, time -6 %: ffn takes -10 % for -50.0 % MACs (1.00 FLOP/B: memory-bound), now 57 % of the time"
    )


def test_a_part_without_macs_that_stays():
    # 50 ms of 100 are glue: the other half halves, and so do the MACs: 75 ms, of which glue is 67 %.
    before = side(row(FFN, 50, 1000, 100), row(OTHER, 50))
    after = side(row(FFN, 25, 500, 50), row(OTHER, 50), recipes=("ffn=1",))
    assert said(before, after) == (
        "MACs -50.0 %, time -25 %: "
        "other, without MACs, kept its time (no FLOPs: glue and launches), now 67 % of the time"
    )


def test_a_part_that_had_less_time_than_macs():
    # The attention has 60 % of the MACs and 20 % of the time; it is halved: MACs −30 %, time −10 %.
    before = side(row(LINEAR, 20, 600, 60), row(FFN, 80, 400, 40))
    after = side(row(LINEAR, 10, 300, 30), row(FFN, 80, 400, 40), recipes=("heads=1",))
    # (0.2 − 0.6)·(0.5 − 0.7) = 0.08 of the 0.2 come of the attention, (0.8 − 0.4)·(1 − 0.7) = 0.12 of the FFN.
    assert said(before, after) == (
        "MACs -30.0 %, time -10 %: ffn had 40 % of the MACs but 80 % of the time; "
        "attention-linear had 60 % of the MACs but 20 % of the time"
    )


def test_less_work_in_the_same_time():
    after = side(*usual(linear=row(LINEAR, 30, 160, 50)), recipes=("heads=1",))
    assert said(BEFORE, after) == (
        "MACs -16.0 %, the time is the same: attention-linear kept its time for -50.0 % MACs, now 30 % of the time"
    )


def test_less_work_by_other_kernels():
    after = side(*usual(linear=row(LINEAR, 6, 160, 50, 1), ffn=row(FFN, 24, 650, 200, 1)), backend="int8")
    # 40 ms; (0.24 − 0.6) of the FFN, (0.06 − 0.15) of the linear: −0.36 of −0.44
    assert said(BEFORE, after) == (
        "MACs -16.0 %, time -60 %, by other kernels, torch → int8: "
        "ffn takes -60 % for as many MACs, now 60 % of the time"
    )


def sparse(ffn_ms: float, linear_ms: float) -> Breakdown:
    """As BEFORE, with linears of which a tenth of the weights is left, run by kernels that skip zeros.

    CSR: 8 bytes a weight that is left, so that 20 % of the bytes are.
    """
    rest = {
        "embedding": row(EMBEDDING, 0.4, weights=100, unit=None, nonzero_parameters=100),
        "linear": row(LINEAR, linear_ms, 32, 100, 0.8, nonzero_parameters=10, bytes_moved=8),
        "ffn": row(FFN, ffn_ms, 65, 200, 0.8, nonzero_parameters=20, bytes_moved=16),
    }
    recipes = ("sparsity=0.9,storage=csr,execute=csr",)
    return side(*usual(**rest), recipes=recipes, backend="torch, CSR by MKL")


def test_zeros_that_are_skipped_spare_less_time_than_macs():
    # 127 of 1,000 MACs; 15 + 9 + 0.4 + 6 + 3.6 = 34 of 100 ms. A MAC of the FFN takes 0.25 / 0.1 of the time.
    # 130 FLOPs by 16 bytes and 64 by 8 are 8 FLOP/B. Other keeps 3.6 ms without MACs: 0.036 · (1 − 0.127) of the gap.
    assert said(BEFORE, sparse(15, 9)) == (
        "MACs -87.3 %, time -66 %, by other kernels, CSR by MKL: "
        "ffn takes -75 % for -90.0 % MACs, 2.50 × the time for each, now 44 % of the time; "
        "attention-linear takes -70 % for -90.0 % MACs, 3.00 × the time for each, now 26 % of the time; "
        "other, without MACs, kept its time (no FLOPs: glue and launches), now 11 % of the time"
    )


def test_zeros_that_are_skipped_take_longer_than_they_spare():
    # 72 + 45 + 10 = 127 ms
    assert said(BEFORE, sparse(72, 45)) == (
        "MACs -87.3 %, time +27 %, by other kernels, CSR by MKL: "
        "ffn takes +20 % for -90.0 % MACs, 12.0 × the time for each, now 57 % of the time; "
        "attention-linear takes +50 % for -90.0 % MACs, 15.0 × the time for each, now 35 % of the time"
    )


def test_zeros_that_are_skipped_against_the_same_executed_dense():
    dense = {
        "linear": row(LINEAR, 30, 320, 100, 0.8, nonzero_parameters=10),
        "ffn": row(FFN, 60, 650, 200, 0.8, nonzero_parameters=20),
    }
    before = side(*usual(**dense), recipes=("sparsity=0.9,storage=csr",))
    found = said(before, sparse(15, 9))
    assert found is not None
    assert found.startswith("MACs -87.3 %, time -66 %, by other kernels, CSR by MKL: ffn takes -75 % for -90.0 % MACs")


def test_2_4_that_no_kernel_runs():
    # Half of the weights and 2 bits for each: 2.125 bytes a weight, for 4.
    ffn = cost(
        FFN, 0, [60.0] * ROUNDS, macs=650, flops=1300, parameters=200, nonzero_parameters=100, parameter_bytes=425
    )
    found = said(BEFORE, side(*usual(**(KNOWN | {"ffn": ffn})), recipes=("sparsity=2:4",)))
    assert found == (
        "bytes -23.4 %, but the same MACs; "
        "the new zeros (50 % of ffn) are multiplied as any number, by the same kernels"
    )


def test_a_removed_row_takes_more_time_than_work_with_it():
    before = side(row(FFN, 60, 950, 100), row(HEAD, 40, 50, 100, unit=None))
    after = side(row(FFN, 60, 950, 100))
    assert said(before, after) == "MACs -5.0 %, time -40 %: head is removed"


def test_a_new_row_takes_more_time_than_work_with_it():
    before = side(row(FFN, 60, 950, 100))
    after = side(row(FFN, 60, 950, 100), row(HEAD, 40, 50, 100, unit=None))
    assert said(before, after) == "MACs +5.3 %, time +67 %: head is new"


def test_a_device_that_waits_for_its_launches():
    def on_a_gpu(ms: float, device_ms: float, macs: int) -> Breakdown:
        return side(row(FFN, ms, macs, 100, device_time_ms=[device_ms] * ROUNDS), recipes=(f"x={macs}",))

    assert said(on_a_gpu(10, 4, 1000), on_a_gpu(9, 2, 500)) == (
        "MACs -50.0 %, time -10 %: the device itself takes -50.00 % [-50.00, -50.00], "
        "and waits for what launches its kernels"
    )


def test_rows_whose_time_is_not_sure_are_not_named():
    before = side(row(FFN, 50, 500, 50), row(LINEAR, 50, 500, 50))
    after = side(row(FFN, 25, 250, 25), row(LINEAR, 50, 250, 25), recipes=("x",))
    noisy = [30.0, 70.0] * (ROUNDS // 2)
    after.costs[1].time_ms, after.costs[0].time_ms = noisy, [75 - time for time in noisy]
    # Neither is surely anything, but their sum is.
    found = said(before, after)
    assert found == "MACs -50.0 %, time -25 %"


def test_a_smaller_model_that_is_surely_not_faster():
    # Rounds of 100 to 104 ms for 100: as long, or longer than the margin of 2 %, but never shorter.
    after = side(*usual(ffn=row(FFN, 60, 650, 200, nonzero_parameters=80), **KNOWN), recipes=("sparsity=0.6",))
    after.end_to_end_ms = [100.0, 104.0] * (ROUNDS // 2)
    assert Comparison(BEFORE, after).diff().row("total").metrics["time"].verdict == "inconclusive"
    assert "multiplied as any number" in (said(BEFORE, after) or "")
    # Of one that may as well be faster, nothing is known.
    after.end_to_end_ms = [96.0, 104.0] * (ROUNDS // 2)
    assert said(BEFORE, after) is None


# Nothing to say -------------------------------------------------------------------------------------------------------


def test_nothing_where_nothing_changed():
    assert said(BEFORE, side(*USUAL)) is None
    assert said(BEFORE, side(*USUAL, recipes=("x",))) is None


def test_nothing_of_the_same_model_by_other_kernels():
    assert said(BEFORE, side(*usual(ffn=row(FFN, 90, 650, 200)), attention="eager")) is None


def test_nothing_without_times():
    assert why(Comparison(untimed(real()), distilled()).diff()) is None


def half() -> Breakdown:
    return side(*(row(c.component, (c.time_ms or [0])[0] / 2, c.macs // 2, c.parameters // 2) for c in USUAL))


def test_nothing_of_times_that_are_not_known():
    inconclusive = half()
    noisy = [60.0, 130.0] * (ROUNDS // 2)
    inconclusive.end_to_end_ms = noisy
    assert said(BEFORE, inconclusive) is None
    apart = half()
    apart.run = "s"
    assert said(BEFORE, apart) is None


def test_nothing_of_a_time_that_may_or_may_not_follow_the_work():
    """As measured on a busy machine: -28 % [-70, -4] where the MACs are -50 %."""
    vague = half()
    vague.end_to_end_ms = [30.0, 90.0] * (ROUNDS // 2)
    diff = Comparison(BEFORE, vague).diff()
    time = diff.row("total").metrics["time"]
    assert time.verdict == "faster"
    assert time.low is not None
    assert time.high is not None
    assert time.low < 0.5 < time.high
    assert why(diff) is None


def test_a_row_that_is_not_known_well_is_told_with_its_interval():
    after = side(*usual(ffn=row(FFN, 24, 650, 200, width=1)), recipes=("x",), backend="other")
    after.costs[3].time_ms = [18.0, 36.0] * (ROUNDS // 2)
    # √(0.3 · 0.6) = 0.424
    found = said(BEFORE, after)
    assert found is not None
    assert "torch → other: ffn -58 % [-70, -40]; " in found


@pytest.mark.parametrize(("key", "value"), [("batch_size", 2), ("threads", 3)])
def test_nothing_of_what_does_not_compare(key: str, value: int):
    after = half()
    setattr(after.workload, key, value)
    assert said(BEFORE, after) is None


def test_nothing_of_a_model_without_macs():
    assert said(side(row(OTHER, 4)), side(row(OTHER, 2, weights=3))) is None


# In the report --------------------------------------------------------------------------------------------------------


def test_it_follows_the_latency():
    diff: Diff = Comparison(BEFORE, half()).diff()
    texts = [finding.text for finding in findings(diff)]
    assert texts[0].startswith("latency -50.00 %")
    assert texts[1] == "why: the time follows the MACs (-50.0 %)"


@given(pairs())
def test_any_two_records(pair: tuple[Breakdown, Breakdown]):
    found = why(Comparison(*pair).diff())
    assert found is None or (found == " ".join(found.split()) and found.isprintable() and len(found) < 800)
