"""The meter: what one run of something draws, by the energy counter of NVIDIA's management library (NVML).

NVML counts the energy of the whole board in mJ since the driver was loaded (nvmlDeviceGetTotalEnergyConsumption, Volta
and newer). The counter steps every 10 to 100 ms, a forward takes 1 to 100: so one thing is run again and again for
seconds. Between two steps of the counter, WINDOW_S apart at least, both the energy and the time are exact; their ratio
is a mean power, and that × the mean time of one run is the energy of one run.

The sensor sees the board by samples, on the A100 and H100 a quarter of the time (Yang et al. 2024, arXiv 2312.02741);
that averages out over seconds of the same work, the error of the sensor itself does not.
"""

import itertools
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from bertprof import sampling
from bertprof.errors import DeviceError
from bertprof.measure import host, noise
from bertprof.measure.graphs import Cuda

TRIALS = 5
"""Samples of each energy."""

WINDOW_S = 2.0
"""Seconds of a trial at least: an edge that is off by a poll of POLL_S is 1 per mille of it, one that is off by a batch
of BATCH_S, which the host is launching meanwhile, 5."""

SETTLE_S = 1.0
"""Seconds of the same work before the window: the power that some GPUs tell is the mean of the last second."""

FEWEST_RUNS = 20
"""Runs in a window at least, however long one takes: it may begin and end in the middle of one."""

STEPS = 6
"""Steps of the counter whose intervals give its period."""

NO_STEP_S = 5.0
"""A counter that stands still for so long is none."""

POLL_S = 0.002
"""Seconds between two readings of the counter while the device has enough to do."""

BATCH_S = 0.01
"""Seconds of work that are launched at a time: what waits in line while the counter is read."""

MOST_DISCARDED = 5
"""Trials in which the counter went back; more, and it is no counter."""


class Trial(NamedTuple):
    """The energy of one run in mJ, the board's mean power in mW, and whether the GPU was at its power limit."""

    energy_mj: float
    power_mw: float
    held: bool


class Meter:
    """Measures the energy of what keeps a GPU busy."""

    def __init__(
        self,
        gpu: host.Nvml,
        cuda: Cuda,
        new_event: Callable[[], Any],
        now: Callable[[], float],
        sleep: Callable[[float], None],
        order: random.Random | None = None,
    ) -> None:
        """
        Args:
            gpu: the device as NVML knows it.
            cuda: the same device as torch knows it.
            new_event: makes an event with `record(stream)`, `query()` and `elapsed_time(later) -> milliseconds`.
            now: seconds of a clock.
            sleep: waits for some seconds.
            order: what draws the order of trials; for tests. Otherwise no two measurements have the same.
        """
        self.cuda = cuda
        self._gpu = gpu
        self._new_event = new_event
        self._now = now
        self._sleep = sleep
        self._order = order or random.Random()  # not the global one, which stays as it is

    def expect_usable(self) -> None:
        """
        Raises:
            DeviceError: NVML does not know the device, counts no energy of it, or counts that of others too.
        """
        if self._gpu.missing is not None:
            raise DeviceError(f"energy is read by NVML: {self._gpu.missing}")
        if self._gpu.partitioned:
            raise DeviceError(
                "the GPU is cut into partitions (MIG), and its counter is of all of them; take a whole GPU"
            )
        if self._counter() is None:
            raise DeviceError("NVML has no energy counter for this GPU and driver; GPUs from Volta on have one")
        self._expect_alone(noise.gpu_reading(self._gpu))

    def period_s(self, run: Callable[[], object]) -> float:
        """How often the counter steps: the median of some intervals, while `run` keeps the device busy."""
        steps = self._steps(self._kept_busy(run))
        moments = [moment for moment, _ in itertools.islice(steps, STEPS)]
        self.cuda.synchronize()
        return sampling.median([b - a for a, b in itertools.pairwise(moments)])

    def trials(self, jobs: Mapping[str, Callable[[], object]], before: Callable[[], object]) -> dict[str, list[Trial]]:
        """TRIALS trials of each job, in turn, in another order every time.

        Args:
            jobs: what is to be run, by name.
            before: is run once before each trial.

        Raises:
            DeviceError: another process came, heat held the clocks back, or the counter is none.
        """
        found: dict[str, list[Trial]] = {name: [] for name in jobs}
        discarded = 0
        for _ in range(TRIALS):
            names = list(jobs)
            self._order.shuffle(names)
            for name in names:
                before()
                while (trial := self._trial(jobs[name])) is None:
                    discarded += 1
                    if discarded > MOST_DISCARDED:
                        raise DeviceError(
                            f"the energy counter went back {discarded} times: is the driver being reloaded?"
                        )
                found[name].append(trial)
        return found

    def _trial(self, run: Callable[[], object]) -> Trial | None:
        """One trial; None where the counter went back."""
        before, begun = noise.gpu_reading(self._gpu), self._now()
        busy = self._kept_busy(run)
        try:
            steps = self._steps(busy)
            first_s, first_mj = next(step for step in steps if step[0] - begun >= SETTLE_S)
            runs, then = busy.done, busy.reached
            last_s, last_mj = next(
                step for step in steps if step[0] - first_s >= WINDOW_S and busy.done - runs >= FEWEST_RUNS
            )
            after, passed_s = noise.gpu_reading(self._gpu), self._now() - begun  # while it is busy still
        except _BackwardsError:
            return None
        finally:
            self.cuda.synchronize()
        self._expect_alone(after)
        held = noise.held_back(before, after, passed_s)
        hot = next((reason for reason in held if reason != "power"), None)
        if hot is not None:
            raise DeviceError(
                f"the GPU held its clocks back for {hot} during the trials; let it cool and measure again"
            )
        power_mw = (last_mj - first_mj) / (last_s - first_s)
        run_s = then.elapsed_time(busy.reached) / 1e3 / (busy.done - runs)
        return Trial(power_mw * run_s, power_mw, bool(held))

    def _kept_busy(self, run: Callable[[], object]) -> "_Busy":
        return _Busy(run, self._recorded, self._now)

    def _recorded(self) -> Any:
        """An event behind all that was launched."""
        event = self._new_event()
        event.record(self.cuda.stream())
        return event

    def _steps(self, busy: "_Busy") -> Iterator[tuple[float, int]]:
        """Every step of the counter, from the first on that is met: when it was seen, and to how many mJ.

        Raises:
            DeviceError: it does not step, or cannot be read.
            _BackwardsError: it stepped back.
        """
        last, since = self._counter(), self._now()
        while True:
            launched = busy.top_up()
            counted, moment = self._counter(), self._now()
            if counted is None or last is None:
                raise DeviceError("the GPU's energy counter cannot be read any more")
            if counted < last:
                raise _BackwardsError("the energy counter went back: is the driver being reloaded?")
            if counted > last:
                last, since = counted, moment
                yield moment, counted
            elif moment - since > NO_STEP_S:
                raise DeviceError(f"the GPU's energy counter stood still for {NO_STEP_S:.0f} s of work")
            elif not launched:
                self._sleep(POLL_S)

    def _counter(self) -> int | None:
        found: int | None = self._gpu.ask("TotalEnergyConsumption")
        return found

    def _expect_alone(self, reading: noise.GpuReading) -> None:
        if reading.others:
            raise DeviceError(
                "another process has the GPU open, and its energy would count; end it (`nvidia-smi` lists it)"
            )


class _BackwardsError(Exception):
    """The counter is smaller than before: the driver was loaded anew, or it wrapped."""


class _Busy:
    """Keeps a device busy: one batch of runs is on it, another waits in line.

    Attributes:
        done: runs that are known to have ended.
        reached: the event behind the last of them, by which the device's own clock tells when that was.
    """

    def __init__(self, run: Callable[[], object], recorded: Callable[[], Any], now: Callable[[], float]) -> None:
        self._run = run
        self._recorded = recorded
        self._now = now
        self._flight: deque[tuple[Any, int]] = deque()
        self._batch = 1
        self._begun = now()
        self.done = 0
        self.reached = recorded()

    def top_up(self) -> bool:
        """Sees what has ended and launches as much again; whether there was something to launch."""
        while self._flight and self._flight[0][0].query():
            self.reached, runs = self._flight.popleft()
            self.done += runs
            run_s = (self._now() - self._begun) / self.done
            self._batch = max(1, min(2 * self._batch, round(BATCH_S / run_s)))
        short = len(self._flight) < 2
        while len(self._flight) < 2:
            for _ in range(self._batch):
                self._run()
            self._flight.append((self._recorded(), self._batch))
        return short
