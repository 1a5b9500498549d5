"""What only a real allocator can prove of a GPU's memory."""

import pytest
import torch

import bertprof
from bertprof.measure.anatomy import regions_of
from bertprof.measure.clocks import clock_for
from bertprof.measure.inputs import Inputs
from bertprof.measure.memory import allocated_peaks, held, lifeline
from bertprof.measure.timing import Marked
from conftest import FAMILIES, tiny, tiny_twin

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA GPU"),
]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_largest_row_is_the_peak_of_the_run(family: str):
    device = torch.device("cuda", torch.cuda.current_device())
    model, inputs = (
        tiny(family).to(device),
        Inputs(kwargs={"input_ids": torch.ones(2, 20, dtype=torch.long).to(device)}),
    )
    subject = Marked(model, inputs, regions_of(model), clock_for(device))
    with torch.inference_mode():
        for _ in range(2):  # libraries take their workspaces in the first
            subject.run()
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        subject.run()
        run = torch.cuda.max_memory_allocated(device) - before
    peaks = allocated_peaks(subject, device)
    assert max(peaks.values()) == run + held(model, inputs, device)
    assert torch.cuda.memory_allocated(device) == before


def test_marks_that_read_the_allocator_do_not_wait_for_the_device():
    device = torch.device("cuda", torch.cuda.current_device())
    model, inputs = (
        tiny("bert").to(device),
        Inputs(kwargs={"input_ids": torch.ones(2, 20, dtype=torch.long).to(device)}),
    )
    subject = Marked(model, inputs, regions_of(model), clock_for(device))
    with torch.inference_mode():
        subject.run()
    torch.cuda.synchronize(device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert allocated_peaks(subject, device)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_theory_is_what_bert_allocates_but_for_blocks_and_kernels_own(attention: str):
    """The allocator hands out blocks of which up to 1 MiB is not asked for; these activations are 11 MiB and more."""
    device = torch.device("cuda", torch.cuda.current_device())
    size = {"hidden_size": 256, "intermediate_size": 1024, "max_position_embeddings": 128}
    ids = torch.ones(8, 128, dtype=torch.long)
    theory = max(lifeline(tiny_twin("bert", attention, **size), Inputs((ids,)))) - ids.nbytes
    model, inputs = tiny("bert", attention, **size).to(device), Inputs((ids.to(device),))
    subject = Marked(model, inputs, regions_of(model), clock_for(device))
    with torch.inference_mode():
        subject.run()
    measured = max(allocated_peaks(subject, device).values()) - held(model, inputs, device)
    assert theory <= measured <= 1.25 * theory


def test_a_breakdown_has_both_by_component():
    found = bertprof.breakdown("bert-base-uncased", device="cuda", min_time_s=0)
    allocated = [cost.allocated_peak_bytes for cost in found.costs if cost.allocated_peak_bytes is not None]
    assert found.peak_memory_bytes is not None
    assert found.activation_peak_bytes is not None
    assert max(allocated) == pytest.approx(found.peak_memory_bytes, rel=0.01)
    least = found.total("parameter_bytes") + found.activation_peak_bytes
    assert least <= found.peak_memory_bytes <= 1.05 * least
    assert found.resident_peak_bytes is None
