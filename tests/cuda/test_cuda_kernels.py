"""The kernels clock on a real GPU. Its logic is tested with fakes in tests/measure/test_trace_times.py."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

import bertprof
from bertprof import configuration
from bertprof.components import Component
from bertprof.measure import subject
from bertprof.measure.anatomy import regions_of
from bertprof.measure.clocks import EventClock
from bertprof.measure.inputs import Inputs
from bertprof.measure.timing import Marked
from bertprof.measure.tracing import session as tracing
from bertprof.observations import ClockPart, OtherClock
from conftest import tiny

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA GPU"),
]

SPIN_CYCLES = 20_000_000
"""About 10 ms on a GPU of 2 GHz."""


@contextmanager
def bert_base(batch_size: int = 8) -> Iterator[Marked]:
    device = torch.device("cuda", torch.cuda.current_device())
    asked = subject.Request(batch_size, 128, "float32", "sdpa", None, device, None)
    found = subject.from_configuration(configuration.resolve("bert-base-uncased"), {}, asked)
    with found.open() as opened:
        yield Marked(opened.model, opened.inputs, found.regions, EventClock(device), "wrappers")


def tiny_on_gpu() -> Marked:
    device = torch.device("cuda", torch.cuda.current_device())
    model = tiny("bert").cuda()
    inputs = Inputs(kwargs={"input_ids": torch.ones(1, 8, dtype=torch.long, device=device)})
    return Marked(model, inputs, regions_of(model), EventClock(device), "wrappers")


@contextmanager
def planted(module: nn.Module, cost: Callable[[], None]) -> Iterator[None]:
    """While open, the module does `cost` at the end of its forward."""
    forward = module.forward

    def costly(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        cost()
        return output

    module.forward = costly
    try:
        yield
    finally:
        del module.forward


def spin_ms() -> float:
    """How long the spin kernel takes, by events."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda._sleep(SPIN_CYCLES)
    begin.record()
    torch.cuda._sleep(SPIN_CYCLES)
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end)


def part(clock: OtherClock, component: Component) -> ClockPart:
    return next(part for part in clock.parts if part.component is component)


def test_every_kernel_of_bert_base_has_its_component():
    with bert_base() as marked:
        clock = tracing.Profiled(marked).by_kernels()
    assert clock.total_ms is not None
    assert clock.unattributed_ms is not None
    assert clock.unattributed_ms < 0.01 * clock.total_ms
    assert sum(p.time_ms for p in clock.parts) + clock.unattributed_ms == pytest.approx(clock.total_ms, abs=1e-4)
    # One matrix product at least for each linear: three before attention, one behind it, two of the FFN, in 12 units.
    least = {Component.ATTENTION_LINEAR_IN: 36, Component.ATTENTION_LINEAR_OUT: 12, Component.FFN: 24}
    for component, launches in least.items():
        assert (part(clock, component).launches or 0) >= launches


def test_graph_and_kernels_agree_within_two_points():
    found = bertprof.breakdown("bert-base-uncased", device="cuda", batch_size=8, clocks="graph,kernels")
    clocks = {clock.clock: clock for clock in found.clocks or ()}
    assert {name: clock.unavailable for name, clock in clocks.items()} == {"graph": None, "kernels": None}
    shares = {
        name: {p.component: 100 * p.time_ms / clock.total_ms for p in clock.parts}
        for name, clock in clocks.items()
        if clock.total_ms
    }
    for component in Component:
        assert shares["graph"].get(component, 0) == pytest.approx(shares["kernels"].get(component, 0), abs=2)


def test_a_planted_kernel_is_found_in_its_component():
    with bert_base() as marked:
        before = tracing.Profiled(marked).by_kernels()
        cost_ms = spin_ms()
        module = marked.model.get_submodule("encoder.layer.5.intermediate.dense")
        with planted(module, lambda: torch.cuda._sleep(SPIN_CYCLES)):
            after = tracing.Profiled(marked).by_kernels()
    for component in {p.component for p in before.parts}:
        gained_ms = part(after, component).time_ms - part(before, component).time_ms
        if component is Component.FFN:
            assert gained_ms == pytest.approx(cost_ms, rel=0.03)
        else:
            assert abs(gained_ms) < max(0.2, 0.05 * part(before, component).time_ms)
    assert (part(after, Component.FFN).launches or 0) == (part(before, Component.FFN).launches or 0) + 1


def test_a_wait_of_the_host_is_idle_of_what_was_launched_before_it():
    marked = tiny_on_gpu()
    module = marked.model.get_submodule("encoder.layer.1.intermediate.dense")
    with planted(module, lambda: time.sleep(0.02)):
        clock = tracing.Profiled(marked).by_kernels()
    idle = {p.component: p.idle_ms or 0 for p in clock.parts}
    assert max(idle, key=idle.__getitem__) is Component.FFN
    assert idle[Component.FFN] >= 19


def test_work_on_another_stream_belongs_to_what_launched_it():
    marked = tiny_on_gpu()
    side = torch.cuda.Stream()
    module = marked.model.get_submodule("encoder.layer.1.intermediate.dense")

    def beside() -> None:
        with torch.cuda.stream(side):
            torch.cuda._sleep(SPIN_CYCLES)

    cost_ms = spin_ms()
    with planted(module, beside):
        clock = tracing.Profiled(marked).by_kernels()
    assert part(clock, Component.FFN).time_ms == pytest.approx(cost_ms, rel=0.03, abs=0.2)


def test_the_trace_holds_the_kernels_of_the_same_session():
    told = tracing.Profiled(tiny_on_gpu())
    clock = told.by_kernels()
    lines = json.loads(told.chrome_trace())["traceEvents"]
    names = {(line["pid"], line["tid"]): line["args"]["name"] for line in lines if line["name"] == "thread_name"}
    shown = [line for line in lines if line["ph"] == "X" and line["pid"] == 2]
    for p in clock.parts:
        assert len([line for line in shown if names[line["pid"], line["tid"]] == p.component]) == p.launches
    arrows = [line for line in lines if line["ph"] in "sf"]
    assert len(arrows) == 2 * len(shown)


def test_the_same_kernels_are_told_by_several_sessions():
    marked = tiny_on_gpu()
    first, second, third = ([p.launches for p in tracing.Profiled(marked).by_kernels().parts] for _ in range(3))
    assert first == second == third
