"""Energy: what a forward and its components draw, by the counter of NVIDIA's management library (NVML).

The counter is too slow for one forward, so that one thing is run again and again (see `meter`): as CUDA graphs (see
`replay`) the whole forward and each component's pieces by themselves, and, as its user runs it, the eager forward.

What that means, and what it does not:

- What the board draws while it idles is in every figure, in proportion to its time.
- A component is measured by itself: with its own data in the caches, at the clock that its own power allows, each of
  its pieces launched alone; in the whole it runs between others. The sum of the components against the whole, the
  residual, shows how much that is. Beyond RESIDUAL_MOST, as for a short forward whose pieces take no longer than their
  launches, the whole's energy is given out by the time that each row kept the device busy instead, and so it is where
  the GPU was at its power limit or the forward cannot be captured.
- A component's energy is split among its units by that time too: units were not replayed one by one.
"""

import math
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import torch

from bertprof import sampling
from bertprof.attribution import Key
from bertprof.components import Component
from bertprof.errors import DeviceError, shortened
from bertprof.measure import graphs, host
from bertprof.measure.graphs import Cuda
from bertprof.measure.power import replay
from bertprof.measure.power.meter import Meter, Trial
from bertprof.measure.timing import Marked
from bertprof.observations import Energy
from bertprof.quantities import Samples

RESIDUAL_MOST = 0.25
"""A sum of the components that is further off the whole says more of launches than of components."""

_BUSY_RUNS = 10
_WHOLE, _EAGER = "whole", "eager"


def _event() -> Any:
    return torch.cuda.Event(enable_timing=True)


def of(
    marked: Marked,
    device: torch.device,
    device_ms: Mapping[Key, Samples],
    *,
    cuda: Cuda | None = None,
    new_event: Callable[[], Any] = _event,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    order: random.Random | None = None,
) -> tuple[Energy, Mapping[Key, Samples]]:
    """The energy of a forward and of its rows, in mJ, one sample a trial; or why there is none.

    Args:
        marked: a model that was run before.
        device: where it is.
        device_ms: for how long each row kept the device busy, where that is known; otherwise it is found out.
        cuda: what captures graphs; for tests, as are
        new_event: makes an event with `record(stream)`, `query()` and `elapsed_time(later) -> milliseconds`,
        now: seconds of a clock,
        sleep: waits for some seconds, and
        order: what draws the order of trials.

    Returns:
        how it was measured, and the samples by row; no rows where it is unavailable.
    """
    if device.type != "cuda":
        text = f"energy is read by NVML, from NVIDIA GPUs; there is none in --device {device.type}"
        return Energy(unavailable=text), {}
    try:
        with host.nvml(device) as gpu, torch.inference_mode():
            meter = Meter(gpu, cuda or Cuda(device), new_event, now, sleep, order)
            return _measured(marked, meter, device_ms)
    except Exception as error:  # whatever it is, it takes nothing but the energy from the record
        return Energy(unavailable=shortened(error)), {}


def _measured(marked: Marked, meter: Meter, device_ms: Mapping[Key, Samples]) -> tuple[Energy, Mapping[Key, Samples]]:
    meter.expect_usable()
    busy = _busy(marked, device_ms, meter.cuda)

    def eager() -> None:
        args, kwargs = marked.inputs.fresh()
        marked.model(*args, **kwargs)

    with ExitStack() as stack:
        jobs: dict[str, Callable[[], object]] = {_EAGER: eager}
        pieces: list[replay.Piece] = []
        reason = None
        try:
            whole, pieces = stack.enter_context(replay.captured(marked, meter.cuda))
        except Exception as error:
            reason = f"the forward cannot be captured as CUDA graphs: {shortened(error)}"
        else:
            jobs[_WHOLE] = whole.replay
            for component in dict.fromkeys(piece.component for piece in pieces):
                jobs[component] = _in_turn([piece for piece in pieces if piece.component is component])
        period_s = meter.period_s(eager)
        trials = meter.trials(jobs, _in_turn(pieces))

    own = {Component(name): of_job for name, of_job in trials.items() if name not in (_WHOLE, _EAGER)}
    as_run = trials[_EAGER]
    total = trials.get(_WHOLE, as_run)
    total_mj = _energies(total)
    parts = {component: _energies(of_job) for component, of_job in own.items()}
    if parts:
        residual = sampling.median(sampling.sums(parts.values())) / sampling.median(total_mj) - 1
        if any(trial.held for of_job in trials.values() for trial in of_job):
            reason = "the GPU was at its power limit, where a component by itself runs at another clock"
        elif abs(residual) > RESIDUAL_MOST:
            reason = f"replayed by themselves, the components sum to {100 * (1 + residual):.0f} % of the whole"
    energy = Energy(
        method="replay" if reason is None else "busy-share",
        reason=reason,
        counter_period_ms=round(1e3 * period_s, 3),
        total_mj=_rounded(total_mj),
        eager_mj=_rounded(_energies(as_run)) if parts else None,
        power_mw={component: _power_mw(of_job) for component, of_job in own.items()} if reason is None else None,
        total_power_mw=_power_mw(total),
        eager_power_mw=_power_mw(as_run) if parts else None,
    )
    return energy, _split(parts, busy) if reason is None else _shared(total_mj, busy)


def _energies(trials: Sequence[Trial]) -> Samples:
    return [trial.energy_mj for trial in trials]


def _power_mw(trials: Sequence[Trial]) -> int:
    return round(sampling.median([trial.power_mw for trial in trials]))


def _busy(marked: Marked, device_ms: Mapping[Key, Samples], cuda: Cuda) -> dict[Key, float]:
    """For how long each row kept the device busy, in any unit: as it is known, else by the graph clock, and where a
    forward cannot be captured by its own clock, gaps between launches included."""
    if not device_ms:
        with suppress(Exception):
            _, device_ms = graphs.by_graph(marked, cuda)
    busy = {key: math.fsum(samples) for key, samples in device_ms.items()}
    if busy:
        return busy
    with marked.marks():
        for _ in range(_BUSY_RUNS):
            for owner, spent_ns in marked.attribute(marked.run()).items():
                key = owner.key
                busy[key] = busy.get(key, 0.0) + spent_ns
    return busy


def _in_turn(pieces: Sequence[replay.Piece]) -> Callable[[], None]:
    replays = [piece.graph.replay for piece in pieces]

    def run() -> None:
        for one in replays:
            one()

    return run


def _split(parts: Mapping[Component, Samples], busy: Mapping[Key, float]) -> dict[Key, Samples]:
    """Each component's energy among its units. What was busy and has no piece has no energy."""
    rows: dict[Key, Samples] = {}
    for component, samples in parts.items():
        own = {key: spent for key, spent in busy.items() if key[1] is component}
        whole = math.fsum(own.values())
        own = own if whole > 0 else {(None, component): 1.0}
        rows |= {key: _rounded(x * spent / (whole or 1.0) for x in samples) for key, spent in own.items()}
    return rows


def _shared(total_mj: Samples, busy: Mapping[Key, float]) -> dict[Key, Samples]:
    """The whole's energy among all rows."""
    whole = math.fsum(busy.values())
    if whole <= 0:
        raise DeviceError("no time was seen in any row, by which energy could be given out")
    return {key: _rounded(x * spent / whole for x in total_mj) for key, spent in busy.items()}


def _rounded(samples: Iterable[float]) -> Samples:
    """To 0.1 µJ."""
    return [round(x, 4) for x in samples]
