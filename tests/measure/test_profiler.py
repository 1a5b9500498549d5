"""From a subject to a record."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import bertprof
from bertprof.attribution import Owner
from bertprof.components import Component
from bertprof.errors import ConfigurationError, DeviceError
from bertprof.measure import profiler, timing
from conftest import FAMILIES, tiny

IDS = torch.ones(1, 8, dtype=torch.long)


@pytest.mark.parametrize("family", FAMILIES)
def test_profile_closes_and_leaves_the_model_as_it_was(family: str, untouched: Any):
    model = untouched(tiny(family))
    with torch.inference_mode():
        before = model(IDS)[0]
    threads = torch.get_num_threads()
    breakdown = bertprof.profile(model, IDS, min_time_s=0, threads=1)
    assert torch.get_num_threads() == threads
    with torch.inference_mode():
        assert torch.equal(model(IDS)[0], before)
    assert breakdown.instrumented_ms is not None
    for i, total in enumerate(breakdown.instrumented_ms):
        assert math.isclose(sum(c.time_ms[i] for c in breakdown.costs if c.time_ms), total, abs_tol=1e-9)
    assert breakdown.total("parameters") == sum(p.numel() for p in model.parameters())
    assert breakdown.units == 3
    w = breakdown.workload
    assert (w.clock, w.marks, w.threads, w.weights, w.device) == ("host", "wrappers", 1, "module", "cpu")
    assert breakdown.caveats == []
    assert breakdown.peak_memory_bytes is None


@pytest.mark.parametrize("way", ["by name", "live"])
def test_an_exception_in_the_middle_leaves_the_model_as_it_was(
    way: str, untouched: Any, monkeypatch: pytest.MonkeyPatch
):
    model = tiny("bert")
    model.train()
    calls = [0]

    def fail_later(module: Any, args: Any) -> None:
        calls[0] += 1
        if args[0].device.type == "cpu" and calls[0] > 12:
            raise RuntimeError("planted")

    model.encoder.layer[1].register_forward_pre_hook(fail_later)
    untouched(model)
    with pytest.raises(RuntimeError, match="planted"):
        bertprof.profile(model, IDS, min_time_s=0)
    assert calls[0] > 12
    assert model.training


def test_two_runs_count_the_same(folder: Callable[..., Path]):
    first, second = (bertprof.breakdown(folder(), device="cpu", sequence_length=8, min_time_s=0) for _ in range(2))

    def counts(breakdown: bertprof.Breakdown) -> Any:
        return [
            (c.unit, c.component, c.parameters, c.parameter_bytes, c.macs, c.flops, c.operators)
            for c in breakdown.costs
        ]

    assert counts(first) == counts(second)
    assert first.workload == second.workload


def test_without_time_nothing_runs_and_no_weights_are_built(
    folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    from bertprof.measure import build

    monkeypatch.setattr(build, "with_random_weights", lambda *args: pytest.fail("weights were built"))
    breakdown = bertprof.breakdown(folder(), sequence_length=8, time=False, device="cpu")
    assert not breakdown.timed
    assert {cost.time_ms for cost in breakdown.costs} == {None}
    assert (breakdown.workload.weights, breakdown.workload.clock, breakdown.end_to_end_ms) == (None, None, None)
    # Glue has neither parameters nor FLOPs: without time there is nothing to show of it.
    assert breakdown.of(Component.OTHER) == []


def test_parameter_bytes_are_those_of_the_dtype(folder: Callable[..., Path]):
    breakdown = bertprof.breakdown(folder(), sequence_length=8, time=False, dtype="bfloat16", device="cpu")
    assert breakdown.total("parameter_bytes") == 2 * breakdown.total("parameters")


def test_albert_weights_stand_once_and_work_in_each_unit(folder: Callable[..., Path]):
    breakdown = bertprof.breakdown(folder("albert"), sequence_length=8, min_time_s=0, device="cpu")
    for cost in breakdown.costs:
        assert (cost.parameters == 0) == (cost.unit is not None or cost.component is Component.OTHER)
    for unit in range(3):
        found = {c.component: c for c in breakdown.costs if c.unit == unit}
        assert found[Component.ADD_NORM].flops == 2 * 8 * 32 * 6  # two residual sums and norms of 8 × 32
        assert found[Component.ADD_NORM].time_ms is not None
        assert found[Component.SOFTMAX_ATTENTION].macs == 2 * 8 * 8 * 32
    assert breakdown.modules is not None
    layer = next(m for m in breakdown.modules if m.path == "encoder.albert_layer_groups.0.albert_layers.0.ffn")
    assert (layer.calls, layer.unit, layer.component) == (3, None, Component.FFN)
    assert layer.macs == 3 * 8 * 32 * 64
    assert layer.parameters == 32 * 64 + 64
    assert layer.time_ms is not None


def test_output_that_is_not_finite_is_a_caveat():
    model = tiny("bert")
    with torch.no_grad():
        model.encoder.layer[2].output.LayerNorm.weight[0] = math.nan
    breakdown = bertprof.profile(model, IDS, min_time_s=0)
    assert [caveat.code for caveat in breakdown.caveats] == ["non-finite-output"]


def test_a_patched_model_is_counted_on_itself_and_says_so(untouched: Any):
    model = tiny("bert")
    model.pooler.forward = model.pooler.forward
    untouched(model)
    breakdown = bertprof.profile(model, IDS, min_time_s=0)
    assert [caveat.code for caveat in breakdown.caveats] == ["counted-on-the-model"]
    usual = bertprof.profile(tiny("bert"), IDS, time=False)
    assert breakdown.total("flops") == usual.total("flops")


def test_a_prebuilt_mask_is_counted(untouched: Any):
    model = untouched(tiny("bert"))
    plain = bertprof.profile(model, IDS, time=False)
    masked = bertprof.profile(model, {"input_ids": IDS, "attention_mask": torch.zeros(1, 1, 8, 8)}, time=False)
    # One addition a score: three units of four heads of 8 × 8.
    assert masked.total("flops") - plain.total("flops") == 3 * 4 * 8 * 8
    assert masked.total("macs") == plain.total("macs")
    assert masked.workload.mask == "4d"


def test_a_two_dimensional_mask_is_counted_all_the_same(untouched: Any):
    model = untouched(tiny("bert"))
    plain = bertprof.profile(model, IDS, time=False)
    masked = bertprof.profile(
        model, {"input_ids": IDS, "attention_mask": torch.ones(1, 8, dtype=torch.long)}, time=False
    )
    # An all-ones mask is looked at and left out, which only the real forward can know.
    assert masked.total("flops") == plain.total("flops")
    assert [caveat.code for caveat in masked.caveats] == ["mask-2d", "counted-on-the-model"]


def test_memory_that_does_not_suffice_is_one_line(folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch):
    def too_large(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(timing, "sample", too_large)
    with pytest.raises(DeviceError, match=r"does not fit into memory.*tried to allocate 9 bytes.*reduce batch size"):
        bertprof.breakdown(folder(), sequence_length=8, device="cpu")


def test_a_forward_that_fails_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch):
    from bertprof.measure import flops

    def fails(*args: Any) -> None:
        raise flops.CountingError("planted")

    monkeypatch.setattr(flops, "count", fails)
    monkeypatch.setattr(flops, "count_by_dispatch", fails)
    with pytest.raises(ConfigurationError, match="the forward of BertModel fails: planted"):
        bertprof.profile(tiny("bert"), IDS, time=False)


# The samples that a record keeps -------------------------------------------------------------------------------------

A, B = Owner(0, Component.FFN, "a"), Owner(None, Component.OTHER, "")


def series_of(rows: list[tuple[int, int]]) -> timing.Series:
    series = timing.Series("hooks")
    for a, b in rows:
        series.add(timing.Tape([], [a + b - 7]), timing.Tape([], [a + b]), {A: a, B: b})
    return series


def test_rounding_keeps_the_sum():
    # 149 + 149 ns: each alone is 0.1 µs, together 0.3 µs
    kept = profiler._kept(series_of([(149, 149)] * 3))
    assert kept.instrumented == [0.0003] * 3
    assert [a + b for a, b in zip(kept.rows[A], kept.rows[B], strict=True)] == pytest.approx([0.0003] * 3)


def test_more_than_a_hundred_repeats_become_whole_median_repeats_of_blocks():
    rows = [(1000 * i, 5_000_000 - 999 * i) for i in range(300)]
    kept = profiler._kept(series_of(rows))
    assert len(kept.instrumented) == len(kept.end_to_end) == len(kept.rows[A]) == 100
    # Blocks of three in rising order: the middle one of each is kept, with the parts that it had.
    for block in range(100):
        a, b = rows[3 * block + 1]
        assert kept.rows[A][block] == pytest.approx(a / 1e6, abs=1e-4)
        assert kept.instrumented[block] == pytest.approx((a + b) / 1e6, abs=1e-4)
        assert kept.rows[A][block] + kept.rows[B][block] == pytest.approx(kept.instrumented[block], abs=1e-9)


# The real thing ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_bert_base_is_built_fast_and_measured_whole():
    steps: list[str] = []
    breakdown = bertprof.breakdown(
        "bert-base-uncased", device="cpu", min_time_s=0, progress=lambda step, fraction: steps.append(step)
    )
    assert list(dict.fromkeys(steps)) == ["counting", "building", "timing"]
    assert breakdown.total("macs") == 11_174_215_680
    ffn = breakdown.time_share(breakdown.of(Component.FFN))
    assert ffn is not None
    shares = {c: breakdown.time_share(breakdown.of(c)) for c in Component if breakdown.of(c)}
    assert max(shares, key=lambda c: shares[c].value if shares[c] else 0) is Component.FFN
    assert sum(share.value for share in shares.values() if share) == pytest.approx(1)
