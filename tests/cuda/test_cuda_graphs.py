"""What only a GPU can prove of the events and graph clocks. Their logic is tested on a fake device in tests/measure."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

import bertprof
from bertprof import catalog, sampling
from bertprof.attribution import Key
from bertprof.components import Component
from bertprof.errors import DeviceError, shortened
from bertprof.measure import build, timing
from bertprof.measure.anatomy import regions_of
from bertprof.measure.clocks import EventClock, Plan
from bertprof.measure.graphs import Cuda, by_graph, replayed
from bertprof.measure.inputs import Inputs
from bertprof.measure.timing import Marked
from bertprof.report.clocks import AGREE_WITHIN, largest_difference
from conftest import FAMILIES, tiny

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA GPU"),
]

ROUNDS = 60


def subject_of(model: nn.Module, tokens: int = 128) -> Marked:
    """The model on the GPU, one sequence, with an events clock that has its plan and knows what an event takes."""
    device = torch.device("cuda", torch.cuda.current_device())
    inputs = Inputs((torch.ones(1, tokens, dtype=torch.long, device=device),))
    subject = Marked(model.to(device), inputs, regions_of(model), EventClock(device), "wrappers")
    with torch.inference_mode():
        for _ in range(3):
            subject.run()
        timing._reserve(subject)
    return subject


@pytest.fixture(scope="module")
def bert_base() -> Marked:
    entry = catalog.find("bert-base-uncased")
    assert entry is not None
    import transformers

    config = transformers.AutoConfig.for_model(entry.family, **entry.config)
    return subject_of(build.with_random_weights(config, None, "sdpa", torch.float32))


def events_of(subject: Marked) -> EventClock:
    assert isinstance(subject.clock, EventClock)
    return subject.clock


# What clocks cost -----------------------------------------------------------------------------------------------------


def test_an_event_takes_some_microseconds_on_the_stream(bert_base: Marked):
    assert 0 < events_of(bert_base).event_ns < 20_000


def test_what_events_take_is_left_out_no_further_than_it_was_seen(bert_base: Marked):
    seen = timing.Series(bert_base.style)
    with torch.inference_mode():
        for _ in range(ROUNDS):
            bare = bert_base.run()
            with bert_base.marks():
                marked = bert_base.run()
            seen.add(bare, marked, bert_base.attribute(marked))
            seen.tapes.append(marked)
    left = timing.less_events(bert_base, seen)
    raw, without, bare_ns = (sampling.median(ns) for ns in (seen.totals_ns, left.totals_ns, seen.bare_ns))
    assert min(raw, bare_ns) <= without <= raw
    assert left.bare_ns == seen.bare_ns


def test_events_cost_a_launch_bound_forward_little(bert_base: Marked):
    ratios = []
    with torch.inference_mode():
        for i in range(ROUNDS + 5):
            bare = bert_base.run()
            with bert_base.marks():
                marked = bert_base.run()
            if i >= 5:
                ratios.append(marked.total_ns / bare.total_ns)
    assert sampling.median(ratios) <= 1.05


def test_events_inside_a_graph_cost_next_to_nothing(bert_base: Marked):
    tapes = replayed(bert_base, Cuda(next(bert_base.model.parameters()).device))
    assert sampling.median([(tape.total_ns + tape.own_ns) / tape.total_ns for tape in tapes]) <= 1.01


def test_a_graph_takes_no_longer_than_the_forward_that_was_captured(bert_base: Marked):
    clock, rows = by_graph(bert_base)
    with torch.inference_mode():
        bare = sampling.median([bert_base.run().total_ns / 1e6 for _ in range(ROUNDS)])
    assert clock.total_ms is not None
    assert 0 < clock.total_ms <= 1.01 * bare
    for i in range(clock.forwards):
        assert sum(samples[i] for samples in rows.values()) > 0
    assert {part.component for part in clock.parts} >= {Component.FFN, Component.SOFTMAX_ATTENTION}


def test_graph_and_kernels_agree_on_the_shares():
    found = bertprof.breakdown("bert-base-uncased", device="cuda", min_time_s=1, clocks="graph,kernels", roofline=False)
    graph, kernels = found.clocks or []
    assert graph.unavailable is None
    if kernels.unavailable is not None:
        pytest.skip(f"kernels: {kernels.unavailable}")
    assert graph.total_ms is not None
    assert kernels.total_ms is not None
    by_kernels = {part.component: part.time_ms / kernels.total_ms for part in kernels.parts}
    for part in graph.parts:
        assert abs(part.time_ms / graph.total_ms - by_kernels.get(part.component, 0.0)) <= AGREE_WITHIN / 100
    # And in a record: rows sum to the graph's replays.
    rows = [cost.device_time_ms for cost in found.costs if cost.device_time_ms is not None]
    totals = [sum(samples) for samples in zip(*rows, strict=True)]
    assert sampling.median(totals) == pytest.approx(graph.total_ms, abs=1e-3)
    assert largest_difference(found, graph)[0] in Component


# Planted costs --------------------------------------------------------------------------------------------------------

SPINS = {
    "embeddings.LayerNorm": (None, Component.ADD_NORM),
    "encoder.layer.5.attention.self.value": (5, Component.ATTENTION_LINEAR_IN),
    "encoder.layer.5.attention.self": (5, Component.SOFTMAX_ATTENTION),
    "encoder.layer.5.attention.output.dense": (5, Component.ATTENTION_LINEAR_OUT),
    "encoder.layer.11.output.dense": (11, Component.FFN),
    "pooler": (None, Component.HEAD),
}


@contextmanager
def spinning(model: nn.Module, path: str, cycles: int) -> Iterator[None]:
    """While open, the module spins on the device behind its own work."""
    module = model.get_submodule(path)
    forward = module.forward

    def spins(*args: Any, **kwargs: Any) -> Any:
        result = forward(*args, **kwargs)
        torch.cuda._sleep(cycles)
        return result

    module.forward = spins
    try:
        yield
    finally:
        del module.forward


def by_events(subject: Marked) -> dict[Key, float]:
    rows: dict[Key, list[float]] = {}
    with torch.inference_mode(), subject.marks():
        for _ in range(20):
            sums: dict[Key, float] = {}
            for owner, ns in subject.attribute(subject.run()).items():
                sums[owner.unit, owner.component] = sums.get((owner.unit, owner.component), 0.0) + ns / 1e6
            for key, ms in sums.items():
                rows.setdefault(key, []).append(ms)
    return {key: sampling.median(samples) for key, samples in rows.items()}


def by_replays(subject: Marked) -> dict[Key, float]:
    return {key: sampling.median(samples) for key, samples in by_graph(subject)[1].items()}


@pytest.mark.parametrize("clock", [by_events, by_replays])
@pytest.mark.parametrize("path", SPINS)
def test_a_spin_is_found_in_its_row(path: str, clock: Callable[[Marked], dict[Key, float]], bert_base: Marked):
    cycles = 20_000_000
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    without = clock(bert_base)
    with spinning(bert_base.model, path, cycles):
        begin.record()
        torch.cuda._sleep(cycles)
        end.record()
        torch.cuda.synchronize()
        truth = begin.elapsed_time(end)
        with_it = clock(bert_base)
    found = {key: with_it[key] - without[key] for key in with_it}
    key = SPINS[path]
    # Behind a spin the host runs ahead, so that by events the gaps of what follows are gone.
    assert found[key] == pytest.approx(truth, rel=0.05)
    assert sum(found.values()) - found[key] < 1
    if clock is by_replays:
        assert abs(sum(found.values()) - found[key]) < 1


# What cannot be done, and what is left behind -------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_waits_for_the_device_inside_a_prepared_forward(family: str):
    subject = subject_of(tiny(family), tokens=8)
    args, kwargs = subject.inputs.fresh()
    with subject.marks(), torch.inference_mode():
        planned = subject.run().codes
        subject.clock.start()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the mode is a prototype
            torch.cuda.set_sync_debug_mode("error")
        try:
            subject.model(*args, **kwargs)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        tape = subject.clock.stop()
    assert tape.codes == planned
    assert tape.total_ns > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_captured_or_says_why_not(family: str):
    subject = subject_of(tiny(family), tokens=8)
    try:
        clock, _ = by_graph(subject)
    except DeviceError as error:
        assert "waits for the device" in str(error)  # noqa: PT017 (which of the two is the family's own business)
    else:
        assert clock.total_ms is not None
        assert clock.total_ms > 0
    assert_usable()


def assert_usable() -> None:
    """Random numbers, memory, graphs: all that a capture that failed may spoil."""
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    assert torch.cuda.get_sync_debug_mode() == 0
    assert not torch.cuda.is_current_stream_capturing()
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    assert nn.functional.dropout(torch.ones(100, device="cuda"), 0.5, training=True).sum().item() > 0
    graph = torch.cuda.CUDAGraph()
    ones = torch.ones(4, device="cuda")
    with torch.cuda.graph(graph):
        ones += 1
    graph.replay()
    assert ones.tolist() == [2.0] * 4
    graph.reset()


class Refusing(nn.Module):
    """A model with a step that no graph can hold."""

    def __init__(self, step: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.bert = tiny("bert")
        self.step = step

    def forward(self, ids: torch.Tensor) -> Any:
        hidden = self.bert(ids)[0]
        self.step(hidden)
        return self.bert(ids)[0] + hidden


def _synchronises(hidden: torch.Tensor) -> None:
    if torch.cuda.is_current_stream_capturing():
        torch.cuda.synchronize()


def _copies(hidden: torch.Tensor) -> None:
    if torch.cuda.is_current_stream_capturing():
        hidden.cpu()


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (lambda hidden: hidden.sum().item(), "the forward waits for the device at test_cuda_graphs.py:"),
        (lambda hidden: torch.nonzero(hidden), "the forward waits for the device at test_cuda_graphs.py:"),
        (_synchronises, "the forward cannot be captured as a CUDA graph at test_cuda_graphs.py:"),
        (_copies, "the forward cannot be captured as a CUDA graph at test_cuda_graphs.py:"),
    ],
)
def test_what_cannot_be_captured_says_so_in_a_line_and_leaves_cuda_usable(
    step: Callable[[torch.Tensor], object], text: str
):
    subject = subject_of(Refusing(step), tokens=8)
    torch.cuda.empty_cache()
    reserved = torch.cuda.memory_reserved()
    for _ in range(2):
        with pytest.raises(DeviceError) as caught:
            by_graph(subject)
        assert shortened(caught.value).startswith(text)
        del caught
        assert_usable()
    # Two attempts leave no more behind than a workspace of cuBLAS for each side stream, 32 MiB on the largest devices.
    assert torch.cuda.memory_reserved() <= reserved + 2 * 40 * 2**20


def test_a_breakdown_goes_on_without_the_column():
    ids = torch.ones(1, 8, dtype=torch.long, device="cuda")
    model = Refusing(lambda hidden: hidden.sum().item()).cuda()
    found = bertprof.profile(model, ids, min_time_s=0, clocks="graph", roofline=False)
    (clock,) = found.clocks or []
    assert clock.unavailable is not None
    assert all(cost.device_time_ms is None for cost in found.costs)
    assert "graph clock unavailable: the forward waits for the device" in found.text()


def test_a_plan_of_another_model_shares_nothing(bert_base: Marked):
    """On a real stream too, marks out of order each get an event."""
    clock = EventClock(torch.device("cuda", torch.cuda.current_device()))
    clock.prepare(Plan((1, 2, 3), (False, True, True)))
    clock.start()
    for code in (3, 2, 1):
        torch.cuda._sleep(1_000_000)
        clock.mark(code)
    tape = clock.stop()
    assert all(interval > 0 for interval in tape.intervals_ns[:3])
