"""From a subject to a record."""

import math
import random
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import bertprof
from bertprof import sampling
from bertprof.attribution import Owner
from bertprof.components import Component
from bertprof.errors import ConfigurationError, DeviceError, UsageError
from bertprof.measure import profiler, recording, timing
from bertprof.measure.inputs import Inputs
from bertprof.measure.subject import Opened
from conftest import FAMILIES, codes_of, tiny

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
    assert codes_of(breakdown) == (["counted-by-dispatch"] if family in ("squeezebert", "megatron-bert") else [])
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
    with pytest.raises(ConfigurationError, match="the forward of BertModel fails: RuntimeError: planted"):
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
    assert codes_of(breakdown) == ["non-finite-output"]


def test_a_patched_model_is_counted_on_itself_and_says_so(untouched: Any):
    model = tiny("bert")
    model.pooler.forward = model.pooler.forward
    untouched(model)
    breakdown = bertprof.profile(model, IDS, min_time_s=0)
    assert codes_of(breakdown) == ["counted-on-the-model"]
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
    # An all-ones mask is looked at and left out, here as in the real forward.
    assert masked.total("flops") == plain.total("flops")
    assert codes_of(masked) == ["counted-by-dispatch"]


def live_parameters(model: Any) -> tuple[int, int]:
    unique = list(model.parameters())
    return sum(p.numel() for p in unique), sum(p.numel() * p.element_size() for p in unique)


def mixed_precision(model: Any) -> None:
    model.bfloat16()
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.float()


def untied(model: Any) -> None:
    weight = model.cls.predictions.decoder.weight
    model.cls.predictions.decoder.weight = torch.nn.Parameter(weight.detach().clone())


def tied(model: Any) -> None:
    layers = model.bert.encoder.layer
    layers[1].output.dense.weight = layers[0].output.dense.weight


@pytest.mark.parametrize("change", [mixed_precision, untied, tied])
def test_parameters_are_those_of_the_live_model_whatever_its_configuration_says(change: Any):
    model = tiny("bert", task="masked-lm")
    change(model)
    breakdown = bertprof.profile(model, IDS, time=False)
    assert (breakdown.total("parameters"), breakdown.total("parameter_bytes")) == live_parameters(model)


def test_a_users_hooks_see_no_twin():
    model = tiny("bert")
    model.encoder.layer[0].intermediate.dense = torch.nn.Identity()  # so that the configuration makes another model
    model.encoder.layer[0].output.dense = torch.nn.Linear(32, 32, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        model.encoder.layer[0].output.dense.weight.zero_()
        model.encoder.layer[0].output.dense.bias.zero_()
    seen: list[str] = []
    model.encoder.layer[1].register_forward_hook(lambda module, args, output: seen.append(args[0].device.type))
    breakdown = bertprof.profile(model, IDS, time=False)
    assert seen == ["cpu"]
    assert codes_of(breakdown) == ["counted-on-the-model"]


def test_labels_and_switches_are_taken_as_they_are():
    model = tiny("bert", task="sequence-classification")
    inputs = {"input_ids": IDS, "labels": torch.zeros(1, dtype=torch.long), "return_dict": True, "position_ids": None}
    breakdown = bertprof.profile(model, inputs, min_time_s=0)
    assert breakdown.workload.task == "sequence-classification"
    assert breakdown.total("macs") == bertprof.profile(model, IDS, time=False).total("macs")


def test_a_meta_model_is_counted_and_not_timed():
    from conftest import tiny_twin

    breakdown = bertprof.profile(tiny_twin("bert"), IDS.to("meta"), time=False)
    assert breakdown.total("macs") == bertprof.profile(tiny("bert"), IDS, time=False).total("macs")
    with pytest.raises(DeviceError, match="no weights to run"):
        bertprof.profile(tiny_twin("bert"), IDS.to("meta"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": 0}, "threads is 0"),
        ({"threads": 10**11}, "threads is 100000000000"),
        ({"min_time_s": math.inf}, "least time is inf"),
        ({"min_time_s": math.nan}, "least time is nan"),
        ({"min_time_s": -1}, "least time is -1"),
    ],
)
def test_options_are_checked_for_both_ways(options: Any, message: str, folder: Callable[..., Path]):
    with pytest.raises(UsageError, match=message):
        bertprof.profile(tiny("bert"), IDS, **options)
    with pytest.raises(UsageError, match=message):
        bertprof.breakdown(folder(), device="cpu", **options)


def test_a_batch_beyond_reason(folder: Callable[..., Path]):
    with pytest.raises(UsageError, match="more than 1,000,000,000 tokens"):
        bertprof.breakdown(folder(), device="cpu", batch_size=10**17, sequence_length=8)


def test_by_name_nothing_runs_without_time_even_where_the_twin_does_not_run(
    folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    from bertprof.measure import build, flops

    def fails(*args: Any) -> None:
        raise flops.CountingError("planted")

    monkeypatch.setattr(flops, "count", fails)
    monkeypatch.setattr(build, "with_random_weights", lambda *args: pytest.fail("weights were built"))
    with pytest.raises(ConfigurationError, match=r"cannot be counted without running it: .*planted"):
        bertprof.breakdown(folder(), device="cpu", sequence_length=8, time=False)


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


@pytest.mark.parametrize(("spread", "told"), [(0.02, False), (0.3, True)])
def test_an_unsteady_machine_is_told(spread: float, told: bool):
    ticks = [10.0 * (1 + spread * (i % 2)) for i in range(20)]
    kept = recording.Kept(instrumented=ticks, end_to_end=ticks, rows={})
    assert [caveat.code for caveat in recording.unsteady(kept)] == ["unsteady-time"] * told


def test_modules_add_up_to_the_forward():
    breakdown = bertprof.profile(tiny("bert"), IDS, min_time_s=0)
    assert breakdown.modules is not None
    assert breakdown.instrumented_time_ms is not None
    own = [module.time_ms for module in breakdown.modules if module.time_ms is not None]
    assert sum(own) == pytest.approx(breakdown.instrumented_time_ms.value, abs=1e-4)


def test_autocast_is_told():
    with torch.autocast("cpu", torch.bfloat16):
        breakdown = bertprof.profile(tiny("bert"), IDS, time=False)
    assert codes_of(breakdown) == ["autocast"]


def test_weights_of_a_known_name_are_for_timing_only():
    with pytest.raises(UsageError, match="exclude each other"):
        bertprof.breakdown("bert-base-uncased", device="cpu", weights=True, time=False)


# The samples that a record keeps -------------------------------------------------------------------------------------

A, B = Owner(0, Component.FFN, "a"), Owner(None, Component.OTHER, "")


def series_of(rows: list[tuple[int, int]]) -> timing.Series:
    series = timing.Series("hooks")
    for a, b in rows:
        series.add(timing.Tape([], [a + b - 7]), timing.Tape([], [a + b]), {A: a, B: b})
    return series


def kept_of(series: timing.Series) -> recording.Kept:
    return recording.kept_of(series, recording.chosen([series]))


def test_rounding_keeps_the_sum():
    # 149 + 149 ns: each alone is 0.1 µs, together 0.3 µs
    kept = kept_of(series_of([(149, 149)] * 3))
    assert kept.instrumented == [0.0003] * 3
    assert [a + b for a, b in zip(kept.rows[A], kept.rows[B], strict=True)] == pytest.approx([0.0003] * 3)


def test_more_than_a_hundred_repeats_become_whole_median_repeats_of_blocks():
    rows = [(1000 * i, 5_000_000 - 999 * i) for i in range(300)]
    kept = kept_of(series_of(rows))
    assert len(kept.instrumented) == len(kept.end_to_end) == len(kept.rows[A]) == 100
    # Blocks of three in rising order: the middle one of each is kept, with the parts that it had.
    for block in range(100):
        a, b = rows[3 * block + 1]
        assert kept.rows[A][block] == pytest.approx(a / 1e6, abs=1e-4)
        assert kept.instrumented[block] == pytest.approx((a + b) / 1e6, abs=1e-4)
        assert kept.rows[A][block] + kept.rows[B][block] == pytest.approx(kept.instrumented[block], abs=1e-9)


@pytest.mark.parametrize("repeats", [100, 150, 200, 250, 400])
@pytest.mark.parametrize("noise", [0.02, 0.05])
def test_what_is_kept_tells_the_true_overhead_for_any_number_of_repeats(repeats: int, noise: float):
    """Marks that cost exactly 1 % in every pair, among noise that a choice of repeats could favour or not."""
    generator = random.Random(repeats)
    found: list[float] = []
    medians: list[float] = []
    for _ in range(40):
        series = timing.Series("hooks")
        for _ in range(repeats):
            bare, marked = (round(10_000_000 * cost * generator.gauss(1, noise)) for cost in (1.0, 1.01))
            series.add(timing.Tape([], [bare]), timing.Tape([], [marked]), {A: marked})
        kept = kept_of(series)
        found.append(statistics.median(kept.instrumented) / statistics.median(kept.end_to_end))
        medians.append(statistics.median(kept.end_to_end))
    # Each median of 100 is known to noise · 1.25/√100, the mean of 40 ratios of two to a √(2/40) of it.
    tolerance = 3 * noise * 0.125 * math.sqrt(2 / 40)
    assert statistics.mean(found) == pytest.approx(1.01, abs=tolerance)
    assert statistics.mean(medians) == pytest.approx(10, rel=tolerance)


def test_pairs_stay_pairs():
    series = timing.Series("hooks")
    for i in range(1, 1001):
        series.add(timing.Tape([], [i * 1000]), timing.Tape([], [i * 2000]), {A: i * 2000})
    kept = kept_of(series)
    assert [a / b for a, b in zip(kept.instrumented, kept.end_to_end, strict=True)] == pytest.approx([2.0] * 100)


def test_series_of_one_run_keep_the_same_rounds():
    """So that a pair of rounds, and the yardstick of a round, stays together."""
    series = [series_of([(i, factor * 1_000_000 * (7 * i % 301)) for i in range(1, 301)]) for factor in (1, 2)]
    rounds = recording.chosen(series)
    assert len(rounds) == 100
    first, second = (recording.kept_of(one, rounds) for one in series)
    assert [b / a for a, b in zip(first.rows[B], second.rows[B], strict=True)] == pytest.approx([2] * 100, abs=1e-3)
    assert recording.chosen(series, 1000) == list(range(300))


def test_the_95th_percentile_is_of_all_rounds_and_not_of_those_kept():
    # 8 in 100 forwards take twice as long; the median round of each block of four is none of them.
    rows = [(5_000_000 + 5_000_000 * (i % 100 >= 92), 7) for i in range(400)]
    series = series_of(rows)
    assert max(kept_of(series).end_to_end) == pytest.approx(10)
    assert sampling.quantile(kept_of(series).end_to_end, 0.9) == pytest.approx(5)
    assert recording.p95_of(series) == pytest.approx(10)
    assert recording.p95_of(series_of(rows[:19])) is None


# The yardstick -------------------------------------------------------------------------------------------------------


def test_the_yardstick_is_the_layer_that_it_always_was():
    """Never to be changed: older records were divided by it. 12·H² + biases + norms of H 256, MACs as in the survey."""
    from bertprof.measure import flops, yardstick

    layer = yardstick.yardstick(torch.device("cpu"))
    # q, k, v, o: 4·(256² + 256); FFN: 256·1024·2 + 1024 + 256; two norms: 2·2·256
    assert sum(p.numel() for p in layer.model.parameters()) == 4 * 65_792 + 525_568 + 1_024
    counts = flops.count_by_dispatch(layer.model, layer.inputs, layer.regions)
    macs = {owner.component: 0 for owner in counts.totals()}
    for owner, (number, _) in counts.totals().items():
        macs[owner.component] += number
    assert {component: number for component, number in macs.items() if number} == {
        Component.ATTENTION_LINEAR_IN: 3 * 128 * 256**2,
        Component.SOFTMAX_ATTENTION: 2 * 128**2 * 256,
        Component.ATTENTION_LINEAR_OUT: 128 * 256**2,
        Component.FFN: 2 * 128 * 256 * 1024,
    }
    with torch.inference_mode():
        assert layer.run().total_ns > 0
        assert float(layer.model(*layer.inputs.args).std()) == pytest.approx(1, abs=1e-3)  # normed


def test_every_record_with_times_has_the_yardstick_of_its_rounds():
    breakdown = bertprof.profile(tiny("bert"), IDS, min_time_s=0)
    assert breakdown.yardstick_ms is not None
    assert [str(component) for component in breakdown.yardstick_ms] == [
        *("attention-linear-in", "softmax-attention", "attention-linear-out", "ffn", "add-norm"),
    ]
    assert {len(samples) for samples in breakdown.yardstick_ms.values()} == {len(breakdown.end_to_end_ms or [])}
    assert all(min(samples) > 0 for samples in breakdown.yardstick_ms.values())
    assert bertprof.profile(tiny("bert"), IDS, time=False).yardstick_ms is None


# Memory of a GPU, on a fake one --------------------------------------------------------------------------------------


class FakeAllocator:
    """What torch.cuda tells of memory, of a device that holds more than the model."""

    def __init__(self, resident: int, during: int) -> None:
        self.resident, self.during, self.peak = resident, during, resident + 10**9

    def reset(self, device: Any) -> None:
        self.peak = self.resident + self.during  # the forward runs behind it

    def install(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(torch.cuda, "synchronize", lambda device: None)
        patch.setattr(torch.cuda, "memory_allocated", lambda device: self.resident)
        patch.setattr(torch.cuda, "reset_peak_memory_stats", self.reset)
        patch.setattr(torch.cuda, "max_memory_allocated", lambda device: self.peak)


@pytest.mark.parametrize("others_bytes", [0, 5_000_000])
def test_the_peak_is_the_model_s_own_whatever_else_is_on_the_device(others_bytes: int, monkeypatch: pytest.MonkeyPatch):
    class Pretended:
        type = "cuda"

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 0

    with torch.random.fork_rng():
        linear = torch.nn.Linear(8, 8)  # 64 weights and 8 biases of 4 bytes
    inputs = Inputs(args=(torch.zeros(2, 8),))  # 64 bytes
    FakeAllocator(288 + 64 + others_bytes, 1000).install(monkeypatch)
    device: Any = Pretended()
    peak = profiler._peak(Opened(linear, inputs), device)
    assert peak == 288 + 64 + 1000
    assert profiler._peak(Opened(linear, inputs), torch.device("cpu")) is None


# The real thing ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_bert_base_is_built_fast_and_measured_whole():
    steps: list[str] = []
    breakdown = bertprof.breakdown(
        "bert-base-uncased", device="cpu", min_time_s=0, progress=lambda step, fraction: steps.append(step)
    )
    assert list(dict.fromkeys(steps)) == ["counting", "building", "timing", "memory", "peaks"]
    assert breakdown.total("macs") == 11_174_215_680
    ffn = breakdown.time_share(breakdown.of(Component.FFN))
    assert ffn is not None
    shares = {c: breakdown.time_share(breakdown.of(c)) for c in Component if breakdown.of(c)}
    assert max(shares, key=lambda c: shares[c].value if shares[c] else 0) is Component.FFN
    assert sum(share.value for share in shares.values() if share) == pytest.approx(1)
