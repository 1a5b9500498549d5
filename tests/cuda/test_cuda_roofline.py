"""The roofline of a real GPU. Its arithmetic and the timing of peaks are tested on fakes in tests."""

import pytest
import torch

import bertprof
from bertprof import roofline
from bertprof.components import Component
from bertprof.measure import peaks

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA GPU"),
]


def current() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_peaks_of_two_measurements_agree_and_touch_nothing_of_the_user(dtype: str):
    before = torch.cuda.get_rng_state()
    first, second = (peaks.of(current(), dtype, 1, again=True) for _ in range(2))
    assert first.threads is None
    assert second.flops_per_s == pytest.approx(first.flops_per_s, rel=0.1)
    for one, other in zip(first.bandwidths, second.bandwidths, strict=True):
        assert other.bytes_per_s == pytest.approx(one.bytes_per_s, rel=0.1)
    assert torch.equal(torch.cuda.get_rng_state(), before)
    assert peaks.of(current(), dtype, 1, again=False) == second


def test_peaks_are_of_the_order_that_any_gpu_has():
    found = peaks.of(current(), "float32", 1, again=False)
    assert 1e11 < found.flops_per_s < 1e16
    # A launch costs a host some µs, and the device does not wait for it.
    assert 500 < found.launch_ns < 100_000
    small, large = found.bandwidths[0], found.bandwidths[-1]
    assert 1e10 < large.bytes_per_s < 1e14
    assert small.working_set_bytes / small.bytes_per_s < large.working_set_bytes / large.bytes_per_s


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("batch_size", [1, 8, 32])
def test_no_component_is_above_its_roof(dtype: str, attention: str, batch_size: int):
    breakdown = bertprof.breakdown(
        "bert-base-uncased", device="cuda", dtype=dtype, attention=attention, batch_size=batch_size, clocks="graph"
    )
    assert breakdown.peaks is not None
    assert roofline.missing(breakdown) is None
    assert roofline.above_roof(breakdown) == {}
    assert roofline.explanation(breakdown, Component.SOFTMAX_ATTENTION) is not None


def test_one_short_sequence_is_bound_by_launches():
    breakdown = bertprof.breakdown("bert-base-uncased", device="cuda", dtype="bfloat16", sequence_length=16)
    whole = roofline.of(breakdown, breakdown.of(Component.ADD_NORM))
    assert whole is not None
    assert whole.bound == "launch"
