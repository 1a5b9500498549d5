"""The graph clock on a device that does as it is told (`devices`)."""

import itertools
import math
import random
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from devices import DEVICE, FakeDevice, FakeGraph
from torch import nn

from bertprof.components import Component
from bertprof.errors import DeviceError, shortened
from bertprof.measure import graphs, timing
from bertprof.measure.anatomy import regions_of
from bertprof.measure.clocks import HostClock
from bertprof.measure.graphs import Cuda, by_graph, replayed
from bertprof.measure.inputs import Inputs
from bertprof.measure.timing import Marked
from conftest import FAMILIES, tiny

IDS = torch.ones(1, 8, dtype=torch.long)


def subject_of(model: nn.Module) -> Marked:
    return Marked(model, Inputs((IDS,)), regions_of(model), HostClock())


def plant(model: nn.Module, path: str, work: Callable[[], None], behind: bool = False) -> None:
    """The module's forward does that as well, beside what runs inside it."""
    module = model.get_submodule(path)
    forward = module.forward

    def also(*args: Any, **kwargs: Any) -> Any:
        if not behind:
            work()
            torch.empty(1)  # as whatever launches makes room for its result
        result = forward(*args, **kwargs)
        if behind:
            work()
            torch.empty(1)
        return result

    module.forward = also


def kernel(device: FakeDevice, kernel_ms: float, launch_ms: float = 0.01) -> Callable[[], None]:
    return lambda: device.launch(kernel_ms, launch_ms)


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice()


@pytest.fixture
def cuda(device: FakeDevice) -> Cuda:
    return Cuda(DEVICE, device.api, device.internals)


def is_clean(device: FakeDevice) -> bool:
    """Whether all of CUDA is as it was before, and of use."""
    device.synchronize(DEVICE)
    device.api.empty_cache()
    return (
        device.current is device.default
        and device.capturing is None
        and device.sync_mode == 0
        and not device.filling
        and not any(device.uses.values())
        and not device.generator_captures
    )


# Each digit of a sum in µs tells one place.
PLANTS = {
    "embeddings": (None, Component.EMBEDDING),
    "encoder.layer.1.attention.self": (1, Component.SOFTMAX_ATTENTION),
    "encoder.layer.1.attention.self.key": (1, Component.ATTENTION_LINEAR_IN),
    "encoder.layer.2.attention.output.dense": (2, Component.ATTENTION_LINEAR_OUT),
    "encoder.layer.0.intermediate.intermediate_act_fn": (0, Component.FFN),
    "encoder.layer.0.output.dense": (0, Component.FFN),
    "encoder.layer.0": (0, Component.OTHER),
    "pooler.dense": (None, Component.HEAD),
}


def test_planted_kernels_are_found_exactly_and_gaps_between_launches_are_not(device: FakeDevice, cuda: Cuda):
    model = tiny("bert")
    expected: dict[tuple[int | None, Component], float] = {}
    for i, (path, key) in enumerate(PLANTS.items()):
        plant(model, path, kernel(device, 1e-3 * 10**i, launch_ms=7.0))
        expected[key] = expected.get(key, 0.0) + 1e-3 * 10**i
    clock, rows = by_graph(subject_of(model), cuda)
    assert {key for key, samples in rows.items() if any(samples)} == set(expected)
    for key, ms in expected.items():
        assert rows[key] == pytest.approx([ms] * graphs.REPLAYS)
    assert (clock.clock, clock.unavailable, clock.forwards) == ("graph", None, graphs.REPLAYS)
    assert {len(samples) for samples in rows.values()} == {graphs.REPLAYS}
    assert clock.total_ms == pytest.approx(11111.111)
    by_component: dict[Component, float] = {}
    for (_, component), ms in expected.items():
        by_component[component] = by_component.get(component, 0.0) + ms
    assert {part.component: part.time_ms for part in clock.parts} == pytest.approx(by_component)
    assert is_clean(device)


def test_what_events_take_in_the_graph_is_left_out(device: FakeDevice, cuda: Cuda):
    device.graph_event_ms = 0.002
    model = tiny("bert")
    for path in ("embeddings", "encoder.layer.1.attention.self", "pooler.dense"):
        plant(model, path, kernel(device, 0.5))
    tapes = replayed(subject_of(model), cuda)
    events = sum(not isinstance(node, float) for node in device.graphs[0].nodes)
    assert sum(not isinstance(node, float) for node in device.graphs[1].nodes) == 2
    # Raw, 1.5 ms and each event but the first; the bare forward has one of these, which stays with it.
    for tape in tapes:
        assert tape.total_ns + tape.own_ns == 1_500_000 + 2_000 * (events - 1)
        # Of intervals in which no kernel ran the whole is left out; the three others keep what theirs spared them.
        each = round(2_000 * (events - 2) / (events - 1))
        assert tape.total_ns == 1_500_000 + (events - 1) * (2_000 - each)


def test_a_graph_in_which_events_take_no_time_leaves_nothing_out(device: FakeDevice, cuda: Cuda):
    model = tiny("bert")
    plant(model, "pooler", kernel(device, 0.5))
    assert {tape.own_ns for tape in replayed(subject_of(model), cuda)} == {0}


@pytest.mark.parametrize("family", FAMILIES)
def test_random_kernels_everywhere_land_in_their_rows(family: str, device: FakeDevice, cuda: Cuda, untouched: Any):
    """Against the host's clock, which moves on by what each kernel takes and has a mark at every boundary."""
    model, draw, now = tiny(family), random.Random(family), [0]
    for path, module in model.named_modules():
        if path and not isinstance(module, nn.ModuleList):
            ns = 100 * draw.randrange(1, 10**5)

            def work(ns: int = ns) -> None:
                device.launch(ns / 1e6)
                now[0] += ns

            plant(model, path, work, behind=draw.random() < 0.5)
    untouched(model)
    subject = subject_of(model)
    _, rows = by_graph(subject, cuda)
    exact = Marked(model, subject.inputs, subject.regions, HostClock(lambda: now[0]), "wrappers")
    expected: dict[tuple[int | None, Component], int] = {}
    with exact.marks(), torch.inference_mode():
        for owner, ns in exact.attribute(exact.run()).items():
            expected[owner.unit, owner.component] = expected.get((owner.unit, owner.component), 0) + ns
    found = {key: samples[-1] for key, samples in rows.items() if any(samples)}
    assert found == pytest.approx({key: ns / 1e6 for key, ns in expected.items() if ns}, abs=1.01e-4)
    assert is_clean(device)


def test_the_graph_holds_an_event_only_where_the_row_changes(device: FakeDevice, cuda: Cuda):
    model = tiny("bert")
    plant(model, "embeddings", kernel(device, 1.0))
    by_graph(subject_of(model), cuda)
    # Embedding, its norm, six rows in each of three units, the head, and the end of the forward outside of all: 22
    # stretches, and so 23 ends of them.
    assert sum(not isinstance(node, float) for node in device.graphs[0].nodes) == 23


def test_rounded_rows_sum_to_the_total_in_every_replay(device: FakeDevice, cuda: Cuda):
    model = tiny("bert")
    draw, taken = random.Random(0), []
    for i in range(3):
        for path in ("attention.self", "intermediate", "output.LayerNorm"):
            # Just above a half of what is recorded: each row by itself would be rounded up.
            taken.append(1e-4 * (draw.randrange(100) + 0.51))
            plant(model, f"encoder.layer.{i}.{path}", kernel(device, taken[-1]))
    subject = subject_of(model)
    clock, rows = by_graph(subject, cuda)
    totals = [round(math.fsum(samples[i] for samples in rows.values()), 4) for i in range(clock.forwards)]
    for samples in rows.values():
        assert all(round(ms * 1e4) == pytest.approx(ms * 1e4, abs=1e-6) for ms in samples)
    assert {*totals} == {clock.total_ms}
    assert clock.total_ms == pytest.approx(sum(taken), abs=0.6e-4)
    assert sum(part.time_ms for part in clock.parts) == pytest.approx(clock.total_ms, abs=1e-5)


def test_the_shares_are_those_of_all_replays_and_the_total_is_their_median(device: FakeDevice, cuda: Cuda):
    """FFN takes 1 ms in two replays of three and 4 ms in the third; the head 1 ms in all."""
    model = tiny("bert")
    plant(model, "encoder.layer.0.output.dense", kernel(device, 1.0))
    plant(model, "pooler.dense", kernel(device, 1.0))
    replays = itertools.count()

    def vary(graph: FakeGraph) -> None:
        first = next(i for i, node in enumerate(graph.nodes) if isinstance(node, float))
        graph.nodes[first] = 4.0 if next(replays) // 2 % 3 == 2 else 1.0  # with marks and without in turn

    device.before_replay = vary
    clock, rows = by_graph(subject_of(model), cuda)
    ffn = rows[0, Component.FFN]
    assert sorted(set(ffn)) == [1.0, 4.0]
    assert clock.total_ms == 2.0
    # Σ FFN = 10 · (1 + 1 + 4) ms of Σ = 30 · 1 + 60 ms.
    assert ffn.count(4.0) == 10
    assert {part.component: part.time_ms for part in clock.parts} == {
        Component.FFN: pytest.approx(2.0 * 60 / 90),
        Component.HEAD: pytest.approx(2.0 * 30 / 90),
    }


def test_a_graph_takes_a_forward_of_another_order_than_was_watched(device: FakeDevice, cuda: Cuda):
    """The layers are swapped once it is captured; marks then share nothing, and each kernel stays where it ran."""
    model = tiny("bert")
    plant(model, "encoder.layer.0.output.dense", kernel(device, 1.0))
    plant(model, "encoder.layer.1.attention.output.dense", kernel(device, 2.0))
    layers = list(model.encoder.layer)
    encode = model.encoder.forward

    def swapping(*args: Any, **kwargs: Any) -> Any:
        swapped = [layers[1], layers[0], layers[2]] if device.capturing is not None else layers
        model.encoder.layer = nn.ModuleList(swapped)
        return encode(*args, **kwargs)

    model.encoder.forward = swapping
    _, rows = by_graph(subject_of(model), cuda)
    # Units are numbered by call: what stood second is called first.
    assert set(rows[1, Component.FFN]) == {1.0}
    assert set(rows[0, Component.ATTENTION_LINEAR_OUT]) == {2.0}


def test_nothing_is_read_before_the_device_is_done_with_other_streams_too(device: FakeDevice, cuda: Cuda):
    """The fake refuses an event that is read too early; work of somebody else's stream outlasts each replay."""
    model = tiny("bert")
    plant(model, "pooler", kernel(device, 1.0))
    synchronise = device.synchronize

    def busy(of: torch.device) -> None:
        synchronise(of)
        device.default.queue(50.0)

    device.synchronize = busy  # type: ignore[method-assign]
    clock, _ = by_graph(subject_of(model), cuda)
    assert clock.total_ms == 1.0


def test_what_comes_behind_it_on_the_default_stream_waits_for_it(device: FakeDevice, cuda: Cuda):
    device.launch(3.0, launch_ms=0.0)
    with cuda.aside():
        assert device.current.busy_until_ms == 3.0
        device.launch(5.0, launch_ms=0.0)
    assert device.default.busy_until_ms == 8.0


# What cannot be captured ----------------------------------------------------------------------------------------------


def refused(model: nn.Module, cuda: Cuda) -> str:
    with pytest.raises(DeviceError) as caught:
        by_graph(subject_of(model), cuda)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_forward_that_waits_is_refused_before_anything_is_captured(device: FakeDevice, cuda: Cuda, untouched: Any):
    model = tiny("bert")
    plant(model, "encoder.layer.1.output", device.wait)
    untouched(model)
    text = refused(model, cuda)
    assert re.fullmatch(
        r"the forward waits for the device at devices\.py:\d+, which no CUDA graph can do: "
        r"called a synchronizing CUDA operation",
        text,
    )
    assert shortened(DeviceError(text)) == text  # it fits where it will be shown
    assert device.graphs == []
    assert is_clean(device)


@pytest.mark.parametrize("mends", [False, True], ids=["an older torch", "a newer torch"])
@pytest.mark.parametrize("graph", [0, 1])
def test_a_capture_that_fails_half_way_leaves_cuda_of_use(
    graph: int, mends: bool, device: FakeDevice, cuda: Cuda, untouched: Any
):
    device.mends = mends
    model = tiny("bert")
    plant(model, "embeddings", kernel(device, 1.0))

    def breaks() -> None:
        if len(device.graphs) == graph + 1:
            device.break_capture()

    plant(model, "encoder.layer.1.output", breaks)
    untouched(model)
    text = refused(model, cuda)
    # The first error, not the one of the capture's end, which only says that there was one.
    assert text.startswith("the forward cannot be captured as a CUDA graph at devices.py:")
    assert text.endswith("CUDA error: operation not permitted when stream is capturing")
    assert is_clean(device)
    # And the same process can capture.
    model = tiny("bert")
    plant(model, "embeddings", kernel(device, 1.0))
    assert by_graph(subject_of(model), cuda)[0].total_ms == 1.0


@pytest.mark.parametrize("mends", [False, True], ids=["an older torch", "a newer torch"])
def test_a_pool_is_released_only_where_torch_left_its_allocation_open(mends: bool, device: FakeDevice, cuda: Cuda):
    """Newer torch ends it itself, and does not tell whether it has released the pool."""
    device.mends = mends
    released: list[int] = []
    device.internals._cuda_releasePool = lambda index, pool: released.append(pool)  # type: ignore[method-assign]
    pool = cuda.pool()
    with cuda.aside(), pytest.raises(RuntimeError, match="not permitted"), cuda.capture(pool):
        device.break_capture()
    assert released == ([] if mends else [pool])


def _no_external(device: FakeDevice, cuda: Cuda) -> None:
    device.api.knows_external = False


def _no_event(device: FakeDevice, cuda: Cuda) -> None:
    device.api.Event = _fails  # type: ignore[method-assign,assignment]


def _no_pool(device: FakeDevice, cuda: Cuda) -> None:
    device.internals._cuda_endAllocateToPool = lambda index, pool: None  # type: ignore[method-assign]
    device.internals._cuda_releasePool = _fails  # type: ignore[method-assign]


def _no_internals(device: FakeDevice, cuda: Cuda) -> None:
    cuda._internals = None


def _no_reset(device: FakeDevice, cuda: Cuda) -> None:
    device.graphs[-1].reset = _fails  # type: ignore[method-assign]


def _no_capture(device: FakeDevice, cuda: Cuda) -> None:
    device.api.CUDAGraph = _fails  # type: ignore[method-assign]


def _no_room(device: FakeDevice, cuda: Cuda) -> None:
    device.api.empty_cache = _fails  # type: ignore[method-assign]


def _fails(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


@pytest.mark.parametrize("breaks", [_no_external, _no_event, _no_pool, _no_internals, _no_reset, _no_capture, _no_room])
def test_what_goes_wrong_in_cleaning_up_does_not_hide_why_a_capture_failed(
    breaks: Callable[[FakeDevice, Cuda], None], device: FakeDevice, cuda: Cuda
):

    def fails_half_way() -> None:
        with cuda.aside(), cuda.capture(cuda.pool()):
            device.launch(1.0)
            breaks(device, cuda)
            raise ValueError("planted")

    with pytest.raises(ValueError, match="planted"):
        fails_half_way()


def test_an_error_of_the_models_own_while_it_is_captured(device: FakeDevice, cuda: Cuda):
    model = tiny("bert")

    def fails() -> None:
        if device.capturing is not None:
            raise ValueError("planted")

    plant(model, "pooler", fails)
    assert refused(model, cuda).endswith("planted")
    assert is_clean(device)


def test_a_user_who_stops_it_meanwhile_gets_all_back(device: FakeDevice, cuda: Cuda):
    model = tiny("bert")

    def stops() -> None:
        if device.capturing is not None:
            raise KeyboardInterrupt

    plant(model, "pooler", stops)
    with pytest.raises(KeyboardInterrupt):
        by_graph(subject_of(model), cuda)
    assert is_clean(device)


def test_a_torch_without_events_inside_graphs_is_named(device: FakeDevice, cuda: Cuda):
    device.api.knows_external = False
    text = refused(tiny("bert"), cuda)
    assert text == f"torch {torch.__version__} records no events inside a CUDA graph (Event without external=)"
    assert is_clean(device)


def test_a_forward_of_which_nothing_is_captured_tells_nothing(cuda: Cuda):
    assert refused(tiny("bert"), cuda).startswith("nothing of the forward was captured")


# What is captured is what runs ----------------------------------------------------------------------------------------


def test_transformers_decides_about_masks_as_it_does_without_a_capture(device: FakeDevice, cuda: Cuda):
    from transformers import masking_utils

    model = tiny("bert")
    told: list[bool] = []
    plant(model, "embeddings", kernel(device, 1.0))
    plant(model, "encoder", lambda: told.append(masking_utils.is_tracing()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masking_utils, "is_tracing", lambda *tensors: device.capturing is not None)
        by_graph(subject_of(model), cuda)
    assert told
    assert not any(told)


def test_all_forwards_run_in_inference_mode_and_the_default_is_back_behind_it(device: FakeDevice, cuda: Cuda):
    model = tiny("bert")
    told: list[bool] = []
    plant(model, "embeddings", kernel(device, 1.0))
    plant(model, "encoder", lambda: told.append(torch.is_inference_mode_enabled()))
    by_graph(subject_of(model), cuda)
    assert all(told)
    # Warm-ups, the strict one, the watched one, two captures.
    assert len(told) == timing.WARM_UP_ROUNDS + 4
    assert not torch.is_inference_mode_enabled()
