"""Energy on a device that draws what it is told (`devices`), with a counter that steps, wraps and is shared.

1 W for 1 ms is 1 mJ.
"""

import itertools
import random
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from devices import DEVICE, FakeDevice, FakeEvent, FakeGraph, FakeStream
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import bertprof
from bertprof import record
from bertprof.attribution import Key, Region
from bertprof.components import Component
from bertprof.errors import DeviceError
from bertprof.measure import host
from bertprof.measure.anatomy import regions_of
from bertprof.measure.graphs import Cuda
from bertprof.measure.inputs import Inputs
from bertprof.measure.power import energy, meter, replay
from bertprof.measure.power.meter import Meter
from bertprof.measure.timing import Marked
from bertprof.observations import Energy
from bertprof.quantities import Samples
from conftest import tiny

LINEAR, SOFTMAX, FFN = Component.ATTENTION_LINEAR_IN, Component.SOFTMAX_ATTENTION, Component.FFN
EMBEDDING = Component.EMBEDDING
IDLE_W = 50.0


class Kernel(float):
    """A kernel's time in ms, and what the board draws meanwhile."""

    watts: float

    def __new__(cls, ms: float, watts: float) -> "Kernel":
        kernel = super().__new__(cls, ms)
        kernel.watts = watts
        return kernel


class Board(FakeDevice):
    """The device with a board around it, as NVML tells of it; each question takes 0.1 ms.

    Attributes:
        period_ms: how often the counter steps.
        counter: from the true energy in mJ to what is counted.
        held: for what share of the time the clocks were held back so far, by reason.
        others: at which time another process comes.
    """

    NVMLError = RuntimeError

    def __init__(self) -> None:
        super().__init__()
        self.worked: list[tuple[float, float, float]] = []
        self.spent_mj = 0.0
        self.period_ms = 100.0
        self.counter: Callable[[float], int | None] = int
        self.held: dict[int, float] = {}
        self.others_ms: float = float("inf")
        self.mig: list[int] | None = None
        self.uuid = "GPU-1"
        self.opened = 0

    def true_mj(self, ms: float) -> float:
        """The energy until then; is asked in the order of time."""
        while self.worked and self.worked[0][1] <= ms:
            start, end, watts = self.worked.pop(0)
            self.spent_mj += (watts - IDLE_W) * (end - start)
        running = sum((watts - IDLE_W) * max(0.0, ms - start) for start, _, watts in self.worked[:1])
        return IDLE_W * ms + self.spent_mj + running

    # What energy.of is given.

    def now(self) -> float:
        self.host_ms += 1e-3
        return self.host_ms / 1e3

    def sleep(self, seconds: float) -> None:
        self.host_ms += 1e3 * seconds

    def new_event(self) -> FakeEvent:
        return FakeEvent(self)

    # NVML.

    def nvmlInit(self) -> None:  # noqa: N802
        self.opened += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.opened -= 1

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if uuid != self.uuid:
            raise RuntimeError("Not Found")
        return uuid

    def __getattr__(self, name: str) -> Any:
        answers: dict[str, Callable[..., Any]] = {
            "TotalEnergyConsumption": self._counted,
            "ViolationStatus": lambda policy: SimpleNamespace(
                violationTime=round(1e6 * self.host_ms * self.held.get(policy, 0.0))
            ),
            "ComputeRunningProcesses": lambda: [1, 2] if self.host_ms >= self.others_ms else [1],
            "MigMode": lambda: self.mig,
        }
        what = name.removeprefix("nvmlDeviceGet")
        if what == name or what not in answers:
            raise AttributeError(name)

        def ask(handle: str, *args: Any) -> Any:
            assert handle == self.uuid
            assert self.opened
            assert self.capturing is None
            self.host_ms += 0.1
            answer = answers[what](*args)
            if answer is None:
                raise RuntimeError("Not Supported")
            return answer

        return ask

    def _counted(self) -> int | None:
        return self.counter(self.true_mj(self.host_ms // self.period_ms * self.period_ms))


@contextmanager
def on_board() -> Iterator[Board]:
    """A board as the one GPU of this machine."""
    found = Board()
    queue = FakeStream.queue

    def queued(stream: FakeStream, work_ms: float) -> float:
        end = queue(stream, work_ms)
        if isinstance(work_ms, Kernel):
            found.worked.append((end - work_ms, end, work_ms.watts))
        return end

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeStream, "queue", queued)
        patch.setitem(sys.modules, "pynvml", found)
        patch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=found.uuid))
        yield found
    assert found.opened == 0


@pytest.fixture
def board() -> Iterator[Board]:
    with on_board() as found:
        yield found


@pytest.fixture
def device_meter(board: Board) -> Iterator[Meter]:
    with host.nvml(DEVICE) as gpu:
        yield Meter(
            gpu, Cuda(DEVICE, board.api, board.internals), board.new_event, board.now, board.sleep, random.Random(0)
        )


class Working(nn.Module):
    """Launches one kernel; what it returns is made anew, as a launch shows."""

    def __init__(self, board: Board, ms: float, watts: float, launch_ms: float = 0.01) -> None:
        super().__init__()
        self.work = lambda: board.launch(Kernel(ms, watts), launch_ms)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.work()
        return x + 1


class Unit(nn.Module):
    """Two projections, what stands for softmax attention between them and the FFN, and the FFN."""

    def __init__(self, board: Board, linear: nn.Module, softmax: nn.Module, ffn: nn.Module) -> None:
        super().__init__()
        self.query, self.ffn = linear, ffn
        self.key = Working(board, 2.0, 200.0)
        self.softmax = softmax

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.query(x).view(-1)
        return self.ffn(self.softmax(self.key(x)))


class Toy(nn.Module):
    """An embedding and two units; per forward, by ms × W:

    embedding 2.5 × 100 = 250 · linear 2 × (2 + 2) × 200 = 1600 · softmax (5 + 2.5) × 150 = 1125 · FFN 2 × 10 × 300 =
    6000 · whole 8975 mJ in 2.5 + 8 + 7.5 + 20 = 38 ms
    """

    def __init__(self, board: Board) -> None:
        super().__init__()
        self.embedding = Working(board, 2.5, 100.0)
        self.units = nn.ModuleList(
            Unit(board, Working(board, 2.0, 200.0), Working(board, ms, 150.0), Working(board, 10.0, 300.0))
            for ms in (5.0, 2.5)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embedding(x)
        for unit in self.units:
            x = unit(x)
        return x


WHOLE_MJ = 8975.0
EXPECTED: dict[Key, float] = {
    (None, EMBEDDING): 250.0,
    (0, LINEAR): 800.0,
    (1, LINEAR): 800.0,
    (0, SOFTMAX): 750.0,
    (1, SOFTMAX): 375.0,
    (0, FFN): 3000.0,
    (1, FFN): 3000.0,
}
BUSY_MS: dict[Key, Samples] = {
    (None, EMBEDDING): [2.5],
    **{(unit, LINEAR): [4.0] for unit in (0, 1)},
    (0, SOFTMAX): [5.0],
    (1, SOFTMAX): [2.5],
    **{(unit, FFN): [10.0] for unit in (0, 1)},
}


def regions() -> dict[str, Region]:
    """Of a Toy. Its softmax is no module of its own: what is left of a unit."""
    found = {"embedding": Region(EMBEDDING)}
    for i in range(2):
        found[f"units.{i}"] = Region(SOFTMAX, unit=True)
        found |= {f"units.{i}.query": Region(LINEAR), f"units.{i}.key": Region(LINEAR), f"units.{i}.ffn": Region(FFN)}
    return found


def marked(board: Board, model: nn.Module | None = None) -> Marked:
    return Marked(model or Toy(board), Inputs((torch.zeros(3),)), regions(), board.clock(), "wrappers")


def measured(board: Board, subject: Marked | None = None, device_ms: Any = None) -> tuple[Energy, dict[Key, Samples]]:
    found, rows = energy.of(
        subject or marked(board),
        DEVICE,
        BUSY_MS if device_ms is None else device_ms,
        cuda=Cuda(DEVICE, board.api, board.internals),
        new_event=board.new_event,
        now=board.now,
        sleep=board.sleep,
        order=random.Random(1),  # which run a window begins and ends in depends on it
    )
    board.api.empty_cache()  # fails where a capture was left open
    assert not any(board.uses.values()), "a graph's memory was not freed"
    assert board.current is board.default
    return found, dict(rows)


def close(mj: float) -> Any:
    """What a step that is seen a poll of 2 ms late makes of 2 s, and a window that ends in the middle of a run."""
    return pytest.approx(mj, rel=1e-2)


# What is measured -----------------------------------------------------------------------------------------------------


def test_each_row_has_the_energy_that_its_kernels_draw(board: Board):
    found, rows = measured(board)
    assert (found.unavailable, found.method, found.reason) == (None, "replay", None)
    assert rows.keys() == EXPECTED.keys()
    for key, mj in EXPECTED.items():
        assert rows[key] == [close(mj)] * meter.TRIALS, key
    assert found.total_mj == [close(WHOLE_MJ)] * meter.TRIALS
    assert found.eager_mj == [close(WHOLE_MJ)] * meter.TRIALS
    assert found.counter_period_ms == pytest.approx(100, abs=3)


def test_the_power_is_that_of_the_trials(board: Board):
    found, _ = measured(board, device_ms={key: [1e-3] for key in BUSY_MS})  # not by what another clock has seen
    # Of ms × W over ms: softmax and FFN as they are; the whole's 8975 mJ in 38 ms.
    expected = {EMBEDDING: 100e3, LINEAR: 200e3, SOFTMAX: 150e3, FFN: 300e3}
    assert found.power_mw == {component: close(power_mw) for component, power_mw in expected.items()}
    assert found.total_power_mw == close(1e3 * WHOLE_MJ / 38)
    assert found.eager_power_mw == close(1e3 * WHOLE_MJ / 38)


def test_gaps_between_launches_are_in_the_eager_forward_only(board: Board):
    model = Toy(board)
    for unit in model.units:
        unit.ffn.work = lambda: board.launch(Kernel(10.0, 300.0), 25.0)
    found, rows = measured(board, marked(board, model))
    assert found.total_mj == [close(WHOLE_MJ)] * meter.TRIALS
    assert rows[0, FFN] == [close(3000.0)] * meter.TRIALS
    # The host launches for 50 ms and some µs; 38 ms of it the device works, the rest it idles at 50 W.
    assert found.eager_mj == [pytest.approx(WHOLE_MJ + 12 * IDLE_W, rel=2e-2)] * meter.TRIALS
    assert found.eager_power_mw == pytest.approx(1e3 * (WHOLE_MJ + 12 * IDLE_W) / 50, rel=2e-2)
    assert found.total_power_mw == close(1e3 * WHOLE_MJ / 38)


@pytest.mark.parametrize("period_ms", [10.0, 20.0, 100.0, 400.0])
def test_the_counters_period(period_ms: float, board: Board):
    board.period_ms = period_ms
    found, rows = measured(board)
    assert found.counter_period_ms == pytest.approx(period_ms, abs=3)
    assert rows[0, FFN] == [close(3000.0)] * meter.TRIALS


def test_a_trial_is_of_whole_periods_of_the_counter_and_long_enough(board: Board, device_meter: Meter):
    begun = board.host_ms
    trial = device_meter._trial(lambda: board.launch(Kernel(5.0, 100.0)))
    assert trial is not None
    assert (trial.energy_mj, trial.power_mw, trial.held) == (close(500.0), close(100e3), False)
    assert 3000 <= board.host_ms - begun < 3300  # 1 s to settle and 2 s, each on to the next step


def test_a_forward_of_seconds_is_run_often_enough(board: Board, device_meter: Meter):
    trial = device_meter._trial(lambda: board.launch(Kernel(3000.0, 100.0)))
    assert trial is not None
    assert trial.energy_mj == close(300_000.0)
    assert board.host_ms >= 3000 * meter.FEWEST_RUNS


def test_short_runs_are_launched_in_batches_that_leave_time_to_read_the_counter(board: Board, device_meter: Meter):
    trial = device_meter._trial(lambda: board.launch(Kernel(0.25, 400.0)))
    assert trial is not None
    assert trial.energy_mj == close(100.0)  # no gap of idle power between them


def test_every_trial_begins_with_what_a_whole_pass_wrote(board: Board, device_meter: Meter):
    order: list[str] = []

    def job(name: str) -> Callable[[], None]:
        def run() -> None:
            order.append(name)
            board.launch(Kernel(100.0, 100.0))

        return run

    trials = device_meter.trials({"a": job("a"), "b": job("b"), "c": job("c")}, lambda: order.append("before"))
    assert {name: len(found) for name, found in trials.items()} == dict.fromkeys("abc", meter.TRIALS)
    begun = [name for name, _ in itertools.groupby(order)]
    assert begun[::2] == ["before"] * 15
    rounds = [tuple(begun[i + 1 : i + 6 : 2]) for i in range(0, 30, 6)]
    assert {frozenset(one) for one in rounds} == {frozenset("abc")}
    assert len(set(rounds)) > 1  # the same order five times is drawn once in 6⁴


@settings(max_examples=5)
@given(st.lists(st.tuples(st.integers(2, 12), st.integers(60, 700)), min_size=7, max_size=7))
def test_any_kernels_are_told_apart(kernels: list[tuple[int, int]]):
    with on_board() as board, pytest.MonkeyPatch.context() as patch:
        patch.setattr(meter, "TRIALS", 1)
        model = Toy(board)
        places = [model.embedding, *(part for unit in model.units for part in (unit.query, unit.softmax, unit.ffn))]
        for place, (ms, watts) in zip(places, kernels, strict=True):
            place.work = lambda ms=ms, watts=watts: board.launch(Kernel(ms, watts))
        found, rows = measured(board, marked(board, model), {})
        (whole,) = found.total_mj or ()
        assert whole == close(sum(ms * watts for ms, watts in kernels) + 2 * 400)
        by_component = {
            component: sum(mj[0] for key, mj in rows.items() if key[1] is component) for _, component in rows
        }
        of = [ms * watts for ms, watts in kernels]
        expected = {EMBEDDING: of[0], LINEAR: of[1] + of[4] + 2 * 400, SOFTMAX: of[2] + of[5], FFN: of[3] + of[6]}
        assert by_component == {component: close(mj) for component, mj in expected.items()}
        # Among the units of a component by time: the graph clock tells it, where nobody else did.
        first, second = kernels[3][0], kernels[6][0]
        assert rows[0, FFN][0] / rows[1, FFN][0] == pytest.approx(first / second, rel=1e-3)


# Pieces ---------------------------------------------------------------------------------------------------------------


def test_pieces_are_cut_where_the_component_changes_and_nowhere_else(board: Board):
    with replay.captured(marked(board), Cuda(DEVICE, board.api, board.internals)) as (whole, pieces):
        # Query and key are one piece: nothing is launched between them.
        assert [piece.component for piece in pieces] == [EMBEDDING, *(LINEAR, SOFTMAX, FFN) * 2]
        nodes = [[float(node) for node in piece.graph.nodes] for piece in pieces]
        assert nodes == [[2.5], [2.0, 2.0], [5.0], [10.0], [2.0, 2.0], [2.5], [10.0]]
        assert [float(node) for node in whole.nodes] == list(itertools.chain(*nodes))
        pools = [graph.pool for graph in (whole, *(piece.graph for piece in pieces))]
        assert len(set(pools)) == 8, "a piece would find its data overwritten by another"
    assert not any(board.uses.values())


def test_work_before_the_first_mark_and_behind_the_last_is_a_piece(board: Board):
    class Around(Toy):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            board.launch(Kernel(1.0, 100.0))
            x = super().forward(x + 1)
            board.launch(Kernel(2.0, 100.0))
            return x + 1

    with replay.captured(marked(board, Around(board)), Cuda(DEVICE, board.api, board.internals)) as (_, pieces):
        assert [(p.component, float(p.graph.nodes[0])) for p in (pieces[0], pieces[-1])] == [
            (Component.OTHER, 1.0),
            (Component.OTHER, 2.0),
        ]
        assert len(pieces) == 9


def test_a_model_of_transformers_is_cut_into_all_of_its_components(board: Board):
    model = tiny("bert")
    subject = Marked(model, Inputs((torch.ones(1, 8, dtype=torch.long),)), regions_of(model), board.clock())
    with replay.captured(subject, Cuda(DEVICE, board.api, board.internals)) as (_, pieces):
        unit = [LINEAR, SOFTMAX, Component.ATTENTION_LINEAR_OUT, Component.ADD_NORM, FFN, Component.ADD_NORM]
        assert [piece.component for piece in pieces] == [EMBEDDING, Component.ADD_NORM, *unit * 3, Component.HEAD]


def test_a_forward_that_launches_nothing(board: Board):
    nothing = Marked(nn.Identity(), Inputs((torch.zeros(1),)), {"": Region(FFN)}, board.clock())
    with (
        pytest.raises(DeviceError, match="launches nothing"),
        replay.captured(nothing, Cuda(DEVICE, board.api, board.internals)),
    ):
        pass


# Where there is no replay ---------------------------------------------------------------------------------------------


def shares_the_whole(found: Energy, rows: dict[Key, Samples], whole: Samples) -> None:
    """The rows are the whole's energy by time: 38 ms, of which the FFN of a unit is 10."""
    assert found.method == "busy-share"
    for i, total in enumerate(whole):
        assert sum(samples[i] for samples in rows.values()) == pytest.approx(total, abs=1e-3)
    assert rows[0, FFN] == [pytest.approx(total * 10 / 38, abs=1e-3) for total in whole]


def test_a_forward_that_waits_is_run_as_it_is(board: Board):
    model = Toy(board)
    work = model.embedding.work
    model.embedding.work = lambda: (work(), board.wait())
    found, rows = measured(board, marked(board, model))
    assert found.reason is not None
    assert found.reason.startswith("the forward cannot be captured as CUDA graphs: ")
    assert (found.eager_mj, found.eager_power_mw, found.power_mw) == (None, None, None)
    assert found.total_power_mw == pytest.approx(1e3 * WHOLE_MJ / 38, rel=1e-2)
    assert found.total_mj == [pytest.approx(WHOLE_MJ, rel=1e-2)] * meter.TRIALS
    shares_the_whole(found, rows, found.total_mj)


@pytest.mark.parametrize("graph", [0, 3])
def test_a_capture_that_fails_half_way(graph: int, board: Board):
    model = Toy(board)
    work = model.units[1].ffn.work

    def breaks() -> None:
        if len(board.graphs) > graph:
            board.break_capture()
        work()

    model.units[1].ffn.work = breaks
    found, rows = measured(board, marked(board, model))
    assert "operation not permitted when stream is capturing" in (found.reason or "")
    shares_the_whole(found, rows, found.total_mj or [])


def test_without_a_graph_clock_the_share_is_of_the_models_own_time(board: Board):
    model = Toy(board)
    work = model.embedding.work
    model.embedding.work = lambda: (board.wait(), work())
    found, rows = measured(board, marked(board, model), {})
    whole = found.total_mj or []
    assert rows[0, FFN] == [pytest.approx(total * 10 / 38, rel=1e-3) for total in whole]


def test_pieces_that_take_no_longer_than_their_launches_tell_nothing(board: Board, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(meter, "TRIALS", 2)
    monkeypatch.setattr(meter, "WINDOW_S", 0.4)
    replayed = FakeGraph.replay

    def slow(graph: FakeGraph) -> None:
        board.host_ms += 7  # a launch; of the whole it is hidden behind 38 ms of work
        replayed(graph)

    monkeypatch.setattr(FakeGraph, "replay", slow)
    found, rows = measured(board)
    # The board idles for 4.5 ms before each embedding, twice 3 of linear, 6.5 of both softmaxes (the second is launched
    # while the first works), none of FFN: 17 ms × 50 W are 9.5 % more.
    assert found.method == "replay"
    total = sum(samples[0] for samples in rows.values())
    assert total == pytest.approx(WHOLE_MJ + 17 * IDLE_W, rel=2e-2)
    monkeypatch.setattr(energy, "RESIDUAL_MOST", 0.05)
    found, rows = measured(board)
    assert re.fullmatch(r"replayed by themselves, the components sum to 1(09|10) % of the whole", found.reason or "")
    assert found.eager_mj is not None
    shares_the_whole(found, rows, found.total_mj or [])


def test_at_the_power_limit_the_whole_is_measured_and_shared(board: Board):
    board.held[0] = 0.05
    found, rows = measured(board)
    assert found.reason == "the GPU was at its power limit, where a component by itself runs at another clock"
    assert found.total_mj == [close(WHOLE_MJ)] * meter.TRIALS
    assert found.power_mw is None
    assert found.total_power_mw == close(1e3 * WHOLE_MJ / 38)
    shares_the_whole(found, rows, found.total_mj or [])


def test_clocks_held_back_for_a_moment_are_nothing(board: Board):
    board.held |= {0: 0.015, 1: 0.015}
    assert measured(board)[0].method == "replay"


# What is refused ------------------------------------------------------------------------------------------------------


def refused(board: Board, subject: Marked | None = None) -> str:
    found, rows = measured(board, subject)
    assert rows == {}
    assert found.unavailable is not None
    assert "\n" not in found.unavailable
    assert found == Energy(unavailable=found.unavailable)
    return found.unavailable


def test_a_cpu_has_none():
    found, rows = energy.of(None, torch.device("cpu"), {})  # type: ignore[arg-type]
    assert found.unavailable == "energy is read by NVML, from NVIDIA GPUs; there is none in --device cpu"
    assert rows == {}


def test_a_record_says_why_it_has_none():
    breakdown = bertprof.profile(tiny("bert"), torch.ones(1, 8, dtype=torch.long), min_time_s=0, energy=True)
    assert breakdown.energy == Energy(
        unavailable="energy is read by NVML, from NVIDIA GPUs; there is none in --device cpu"
    )
    assert {cost.energy_mj is None for cost in breakdown.costs} == {True}
    assert record.decode(record.encode(breakdown), "it") == breakdown
    assert (breakdown.host.gpu_before, breakdown.host.gpu_after) == (None, None)


def test_a_machine_without_nvml(board: Board, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert refused(board).startswith("energy is read by NVML: NVML is not on this machine (")


def test_a_gpu_that_nvml_does_not_know(board: Board, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="GPU-2"))
    assert refused(board) == "energy is read by NVML: NVML does not know cuda:0 by its UUID, GPU-2"


MIG = "the GPU is cut into partitions (MIG), and its counter is of all of them; take a whole GPU"


def test_a_partition(board: Board):
    board.uuid = "MIG-1"
    assert refused(board) == MIG


def test_a_gpu_with_partitions(board: Board):
    board.mig = [1, 1]
    assert refused(board) == MIG
    board.mig = [0, 1]  # it will be, after a reset
    assert measured(board)[0].unavailable is None


def test_a_gpu_without_a_counter(board: Board):
    board.counter = lambda mj: None
    assert refused(board) == "NVML has no energy counter for this GPU and driver; GPUs from Volta on have one"


OTHERS = "another process has the GPU open, and its energy would count; end it (`nvidia-smi` lists it)"


@pytest.mark.parametrize("from_ms", [0.0, 30_000.0])
def test_another_process_on_the_gpu(from_ms: float, board: Board):
    board.others_ms = from_ms
    assert refused(board) == OTHERS
    assert board.host_ms < from_ms + 10_000


@pytest.mark.parametrize("power", [0.0, 0.4])  # that more of it was the power limit makes heat no less
def test_heat(power: float, board: Board):
    board.held |= {0: power, 1: 0.03}
    assert refused(board) == ("the GPU held its clocks back for heat during the trials; let it cool and measure again")


def test_a_counter_that_stands_still(board: Board):
    board.counter = lambda mj: 4711
    assert refused(board) == "the GPU's energy counter stood still for 5 s of work"


def test_a_counter_that_is_lost_meanwhile(board: Board):
    board.counter = lambda mj: int(mj) if board.host_ms < 40_000 else None
    assert refused(board) == "the GPU's energy counter cannot be read any more"


def test_a_trial_in_which_the_counter_went_back_is_taken_again(board: Board):
    board.counter = lambda mj: int(mj) if board.host_ms < 30_000 else int(mj) - 1_000_000
    found, rows = measured(board)
    for key, mj in EXPECTED.items():
        assert rows[key] == [close(mj)] * meter.TRIALS
    assert found.total_mj == [close(WHOLE_MJ)] * meter.TRIALS


def test_a_counter_of_few_bits_is_none(board: Board):
    board.counter = lambda mj: int(mj) % 2**18  # 262 J, which is about a second of work
    assert "the energy counter went back" in refused(board)


def test_a_model_that_fails_meanwhile_loses_its_energy_only(board: Board):
    model = Toy(board)
    work = model.embedding.work

    def fails() -> None:
        if board.host_ms > 20_000:
            raise ValueError
        work()

    model.embedding.work = fails
    assert refused(board, marked(board, model)) == "ValueError"
