"""Marks and rounds under a fake clock: a planted cost must be found exactly, and nothing may be left behind."""

import gc
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import torch
from torch import nn

from bertprof.attribution import Owner
from bertprof.components import Component
from bertprof.measure import timing
from bertprof.measure.anatomy import regions_of
from bertprof.measure.clocks import EventClock, HostClock
from bertprof.measure.inputs import Inputs
from bertprof.measure.timing import Goal, Marked
from conftest import FAMILIES, tiny, traces_of

STYLES = ("hooks", "wrappers")


class Planted:
    """A clock that moves only where a cost was planted, by a cost of its own at each place."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns

    def plant(self, module: nn.Module, cost_ns: int) -> None:
        """The module's forward takes so long, beside what runs inside it."""
        forward = module.forward

        def costly(*args: Any, **kwargs: Any) -> Any:
            self.now_ns += cost_ns
            return forward(*args, **kwargs)

        module.forward = costly


def marked(model: nn.Module, clock: Planted, style: Any) -> Marked:
    inputs = Inputs(kwargs={"input_ids": torch.ones(1, 8, dtype=torch.long)})
    return Marked(model, inputs, regions_of(model), HostClock(clock), style)


PLANTS = {
    "bert": {
        "embeddings": (None, Component.EMBEDDING),
        "encoder.layer.1.attention.self": (1, Component.SOFTMAX_ATTENTION),
        "encoder.layer.1.attention.self.key": (1, Component.ATTENTION_LINEAR_IN),
        "encoder.layer.2.attention.output.dense": (2, Component.ATTENTION_LINEAR_OUT),
        "encoder.layer.2.attention.output.LayerNorm": (2, Component.ADD_NORM),
        "encoder.layer.0.intermediate.intermediate_act_fn": (0, Component.FFN),
        "encoder.layer.0.output.dense": (0, Component.FFN),
        "encoder.layer.0": (0, Component.OTHER),
        "pooler.dense": (None, Component.HEAD),
    },
    "distilbert": {
        "transformer.layer.2": (2, Component.ADD_NORM),
        "transformer.layer.2.attention": (2, Component.SOFTMAX_ATTENTION),
        "transformer.layer.2.attention.q_lin": (2, Component.ATTENTION_LINEAR_IN),
        "transformer.layer.2.attention.out_lin": (2, Component.ATTENTION_LINEAR_OUT),
        "transformer.layer.2.ffn.activation": (2, Component.FFN),
        "transformer.layer.2.output_layer_norm": (2, Component.ADD_NORM),
    },
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("family", PLANTS)
def test_planted_costs_are_found_exactly(family: str, style: str):
    clock, model = Planted(), tiny(family)
    subject = marked(model, clock, style)
    expected: dict[tuple[int | None, Component], int] = {}
    modules = dict(model.named_modules())
    for i, (path, key) in enumerate(PLANTS[family].items()):
        clock.plant(modules[path], 10**i)  # every digit of a sum tells one place
        expected[key] = expected.get(key, 0) + 10**i
    with subject.marks(), torch.inference_mode():
        tape = subject.run()
    found: dict[tuple[int | None, Component], int] = {}
    for owner, nanoseconds in subject.attribute(tape).items():
        key = (owner.unit, owner.component)
        found[key] = found.get(key, 0) + nanoseconds
    assert {key: cost for key, cost in found.items() if cost} == expected
    assert tape.total_ns == sum(expected.values())


@pytest.mark.parametrize("style", STYLES)
def test_albert_shares_one_module_and_its_residual_sum_is_add_norm(style: str):
    clock, model = Planted(), tiny("albert")
    subject = marked(model, clock, style)
    layer = model.encoder.albert_layer_groups[0].albert_layers[0]
    clock.plant(layer.attention, 1)  # before the projections: softmax attention
    clock.plant(layer.attention.output_dropout, 10)  # behind the output projection
    clock.plant(layer.activation, 100)
    clock.plant(layer.full_layer_layer_norm, 1000)
    with subject.marks(), torch.inference_mode():
        found = subject.attribute(subject.run())
    path = "encoder.albert_layer_groups.0.albert_layers.0"
    for unit in range(3):
        assert found[Owner(unit, Component.SOFTMAX_ATTENTION, f"{path}.attention")] == 1
        assert found[Owner(unit, Component.ADD_NORM, f"{path}.attention")] == 10
        assert found[Owner(unit, Component.FFN, f"{path}.activation")] == 100
        assert found[Owner(unit, Component.ADD_NORM, f"{path}.full_layer_layer_norm")] == 1000


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("family", FAMILIES)
def test_marks_are_the_same_in_both_styles_and_leave_nothing(family: str, style: str, untouched: Any):
    model = untouched(tiny(family))
    with torch.inference_mode():
        before = model(torch.ones(1, 8, dtype=torch.long))[0]
        subject = marked(model, Planted(), style)
        subject.settle(style)  # SqueezeBERT calls its units past their hooks
        with subject.marks():
            codes = subject.run().codes
        after = model(torch.ones(1, 8, dtype=torch.long))[0]
    assert torch.equal(before, after)
    other = marked(model, Planted(), "wrappers")
    with other.marks(), torch.inference_mode():
        assert other.run().codes == codes
    # Every boundary that is entered is left.
    assert sorted(c // 2 for c in codes if c % 2 == 0) == sorted(c // 2 for c in codes if c % 2)


@pytest.mark.parametrize("style", STYLES)
def test_an_exception_in_the_forward_leaves_nothing(style: str, untouched: Any):
    model = tiny("bert")

    def fail(*args: Any) -> None:
        raise RuntimeError("planted")

    model.encoder.layer[1].intermediate.intermediate_act_fn.register_forward_pre_hook(fail)
    untouched(model)
    subject = marked(model, Planted(), style)
    with pytest.raises(RuntimeError, match="planted"), subject.marks():
        subject.run()
    # The boundaries were left on the way out, so that the tape still reads.
    tape = subject.clock.stop()
    assert subject.attribute(tape)


def test_a_forward_that_the_user_patched_is_put_back():
    model = tiny("bert")
    own = model.encoder.layer[0].forward
    model.encoder.layer[0].forward = own
    before = traces_of(model)
    subject = marked(model, Planted(), "wrappers")
    with subject.marks(), torch.inference_mode():
        subject.run()
    assert traces_of(model) == before
    assert vars(model.encoder.layer[0])["forward"] is own


def rounds(style_ms: float, *, min_time_s: float, tick_s: float) -> tuple[list[timing.Series], list[float]]:
    """Samples a tiny model whose forward takes `style_ms` by the fake clock; `tick_s` pass by the stopwatch a look."""
    clock, model = Planted(), tiny("bert")
    clock.plant(model.pooler, round(style_ms * 1e6))
    told: list[float] = []
    stopwatch = iter(i * tick_s for i in range(10**6))
    series, _ = timing.sample(
        [marked(model, clock, "hooks")], Goal(min_time_s), progress=told.append, now=lambda: next(stopwatch)
    )
    return series, told


@pytest.mark.parametrize(("latency_ms", "style"), [(1.0, "wrappers"), (249.9, "wrappers"), (250.0, "hooks")])
def test_the_way_to_mark_goes_by_latency(latency_ms: float, style: str):
    (series,), _ = rounds(latency_ms, min_time_s=0, tick_s=1)
    assert series.style == style


def test_rounds_go_on_for_the_least_time_and_at_least_ten():
    (series,), told = rounds(1.0, min_time_s=0, tick_s=1)
    assert len(series.bare_ns) == len(series.totals_ns) == timing.FEWEST_ROUNDS
    (series,), told = rounds(1.0, min_time_s=30, tick_s=1)
    assert len(series.bare_ns) == 30  # the series is constant: known as soon as the time has passed
    assert told == sorted(told)
    assert 0 <= told[0] <= told[-1] <= 1


def test_a_noisy_series_goes_on_three_times_as_long(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(timing, "_is_known", lambda series: False)
    (series,), _ = rounds(1.0, min_time_s=30, tick_s=1)
    assert len(series.bare_ns) == 90


def test_in_every_round_the_parts_sum_to_the_whole():
    clock, model = Planted(), tiny("bert")
    for i, module in enumerate(model.modules()):
        if not isinstance(module, nn.ModuleList):
            clock.plant(module, 1 + i * i)
    (series,), _ = timing.sample([marked(model, clock, "hooks")], Goal(0))
    assert len(series.totals_ns) == 10
    for i, total in enumerate(series.totals_ns):
        assert sum(samples[i] for samples in series.owned_ns.values()) == total == series.bare_ns[i] > 0


def test_several_models_are_interleaved_round_by_round(monkeypatch: pytest.MonkeyPatch):
    order: list[str] = []

    class Noting(HostClock):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.label = name

        def start(self) -> None:
            order.append(self.label)
            super().start()

    subjects = []
    for name in ("a", "b", "yardstick"):
        model = tiny("bert")
        inputs = Inputs(kwargs={"input_ids": torch.ones(1, 8, dtype=torch.long)})
        subjects.append(Marked(model, inputs, regions_of(model), Noting(name)))
    state = random.getstate()
    monkeypatch.setattr(timing, "YARDSTICK_RUNS", 1)
    series, measured = timing.sample(subjects[:2], Goal(0), yardstick=subjects[2], order=random.Random(0))
    assert random.getstate() == state
    assert measured is not None
    assert [len(s.bare_ns) for s in (*series, measured)] == [10, 10, 10]
    # In each of ten rounds the bare and the marked forward of each model, and the yardstick, once uncounted.
    rounds = [tuple(order[-60:][6 * i : 6 * i + 6]) for i in range(10)]
    assert all(sorted(round_) == ["a", "a", "b", "b", "yardstick", "yardstick"] for round_ in rounds)
    assert len(set(rounds)) > 5
    # Every second round is the one before it backwards, so that none has the better place.
    assert all(second == first[::-1] for first, second in zip(rounds[::2], rounds[1::2], strict=True))
    # Neither model always runs behind the same other.
    assert {round_[i] for round_ in rounds for i in (0, -1)} == {"a", "b", "yardstick"}


class Scripted:
    """A subject whose forwards take what a script says, in ns; marks split it into FFN and the rest."""

    style = "wrappers"
    clock = None

    def __init__(self, times: Iterator[tuple[int, int]]) -> None:
        self.times = times
        self.marked = False

    @contextmanager
    def marks(self) -> Iterator[None]:
        self.marked = True
        yield
        self.marked = False

    def settle(self, style: str) -> None: ...

    def run(self) -> timing.Tape:
        ffn, rest = next(self.times)
        return timing.Tape([], [ffn, rest])

    def attribute(self, tape: timing.Tape) -> dict[Owner, int]:
        ffn, rest = tape.intervals_ns
        return {Owner(0, Component.FFN, ""): ffn, Owner(None, Component.OTHER, ""): rest}


def compared(noise: float, goal: Goal, share: float = 0.5) -> int:
    """The rounds that two noisy models get; one look at the stopwatch a second."""
    generator = random.Random(1)

    def times() -> Iterator[tuple[int, int]]:
        while True:
            ffn = round(1e6 * share * generator.gauss(1, noise))
            yield ffn, round(1e6 * (1 - share))

    stopwatch = iter(range(10**6))
    pair: Any = [Scripted(times()) for _ in range(2)]
    (before, after), _ = timing.sample(pair, goal, now=lambda: next(stopwatch), order=random.Random(0))
    assert len(before.bare_ns) == len(after.bare_ns)
    return len(before.bare_ns)


def test_until_samples_until_the_change_is_known_or_the_longest_time_has_passed():
    # Two independent forwards: sd of the ratio √2·noise/2 for the whole, √2·noise for FFN; the interval of a median of
    # n is about ± 1.96·1.25·sd/√n, so FFN needs n ≈ (1.96·1.25·√2·0.05/0.02)² = 75 rounds.
    wanted = compared(0.05, Goal(0, 1000, until=0.02))
    assert 35 < wanted < 150
    assert compared(0.05, Goal(0, 1000, until=0.01)) > 2.5 * wanted
    assert compared(0.05, Goal(0, 20, until=0.001)) == 20
    assert compared(0.05, Goal(50, 20)) == 20  # no longer than at most, whatever at least
    assert compared(0.05, Goal(50, 1000, until=0.5)) == 50  # the least time counts all the same
    assert compared(0.0, Goal(0, 1000, until=0.001)) == timing.FEWEST_ROUNDS


@pytest.mark.parametrize("model_ns", [1_000, 10_000_000])
def test_the_yardstick_is_the_mean_of_as_many_forwards_whatever_the_model(model_ns: int):
    """The first one of a round, which finds the model's data in the caches, is not counted."""
    runs = [0]

    def forwards() -> Iterator[tuple[int, int]]:
        while True:
            runs[0] += 1
            place = (runs[0] - 1 - 2 * timing.WARM_UP_ROUNDS) % 5
            # 1 ms, and then 10, 14, 10 and 14 µs of FFN: 12 µs on the mean
            yield (1_000_000 if place == 0 else 10_000 + place % 2 * 4_000, 9_000)

    model: Any = Scripted(iter(lambda: (model_ns // 2, model_ns // 2), None))
    yardstick: Any = Scripted(forwards())
    _, measured = timing.sample([model], Goal(0), yardstick=yardstick)
    assert measured is not None
    assert runs[0] - 2 * timing.WARM_UP_ROUNDS == 10 * 5
    assert set(measured.bare_ns) == {21_000}
    assert set(measured.by_component()[Component.FFN]) == {12_000}


def test_a_component_that_hardly_takes_time_is_not_waited_for():
    assert compared(0.5, Goal(0, 1000, until=0.02), share=0.02) == timing.FEWEST_ROUNDS


def test_an_owner_that_comes_late_has_zeros_before():
    series = timing.Series("hooks")
    tape = timing.Tape([], [5])
    early, late = Owner(0, Component.FFN, "a"), Owner(0, Component.OTHER, "b")
    series.add(tape, tape, {early: 5})
    series.add(tape, tape, {late: 5})
    assert series.owned_ns == {early: [5, 0], late: [0, 5]}


@pytest.mark.parametrize("collecting", [True, False])
def test_collection_and_inference_mode_come_back(collecting: bool):
    was = gc.isenabled()
    try:
        (gc.enable if collecting else gc.disable)()
        seen = []
        with suppress(RuntimeError), timing.undisturbed():
            seen.append((gc.isenabled(), torch.is_inference_mode_enabled()))
            raise RuntimeError("planted")
        assert seen == [(False, True)]
        assert gc.isenabled() == collecting
    finally:
        (gc.enable if was else gc.disable)()


def test_threads_are_set_told_and_restored():
    before = torch.get_num_threads()
    with timing.threads(1) as number:
        assert number == torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
    with timing.threads(None) as number:
        assert number == before


def test_events_are_made_before_the_first_instrumented_forward():
    from devices import FakeDevice

    device, model = FakeDevice(), tiny("bert")
    clock = device.clock()
    inputs = Inputs(kwargs={"input_ids": torch.ones(1, 8, dtype=torch.long)})
    subject = Marked(model, inputs, regions_of(model), clock)
    forward: Callable[..., Any] = model.pooler.forward

    def launching(*args: Any) -> Any:
        device.launch(2.0)
        return forward(*args)

    model.pooler.forward = launching
    assert isinstance(clock, EventClock)
    (series,), _ = timing.sample([subject], Goal(0))
    # Those by which it was found out what one takes, which are more than there are marks; none later.
    assert device.events_made == 201 > len(subject.crossings) + 2
    head = next(samples for owner, samples in series.owned_ns.items() if owner.component is Component.HEAD)
    assert head == [2_010_000] * 10  # 2 ms of kernel and the 0.01 ms gap before its launch
