"""What a record may hold beside counts and times: other clocks, the device's peaks, memory, energy.

Each is there only where it was asked for or could be had; `unavailable` says why something that was asked for is not.
"""

from typing import Annotated, Literal, NamedTuple

import msgspec

from bertprof.components import Component
from bertprof.quantities import Count, Milliseconds, Nanoseconds, Positive, Rate, Samples


class Beside(NamedTuple):
    """What is to be found out beside counts and times; plain data, which another process can read.

    Attributes:
        clocks: of a CUDA device, which others than `events`.
        cross_check: time the same forward by torch.profiler as well, on a CPU.
        trace: the file for a Chrome trace of one forward; None: none.
        peaks: the device's, those of the cache where it has some ("cached"), measured anew ("again"), or none.
        memory: measure the peaks of memory.
        memory_limit_bytes: what batches have to fit into; None: that is not asked.
        training: ask it of training as well.
        energy: measure energy.
    """

    clocks: tuple[str, ...] = ()
    cross_check: bool = False
    trace: str | None = None
    peaks: Literal["cached", "again"] | None = None
    memory: bool = False
    memory_limit_bytes: int | None = None
    training: bool = False
    energy: bool = False


# Clocks ---------------------------------------------------------------------------------------------------------------

CLOCKS = ("events", "graph", "kernels")
"""The clocks of a CUDA device; `events` is the one that gives `time_ms` there."""


class ClockPart(msgspec.Struct, kw_only=True):
    """What a clock says of one component in one forward, all units together.

    `time_ms`: its share of all forwards × the median forward, so that parts add up. `busy_ms`: that part of it in which
    kernels (of `kernels`) or operators (of `profiler`) ran. `idle_ms`: the gaps behind what it launched, in which
    nothing ran on the device. `launches`: its kernels or its operators. What a clock does not tell is null.
    """

    component: Component
    time_ms: Milliseconds
    busy_ms: Milliseconds | None = None
    idle_ms: Milliseconds | None = None
    launches: Count | None = None


class OtherClock(msgspec.Struct, kw_only=True):
    """The same forward by another clock than the one that gave the record's times.

    Attributes:
        clock: `graph` (CUDA: events inside a captured graph, without launch gaps), `kernels` (CUDA: torch.profiler's
            kernels) or `profiler` (CPU: torch.profiler's own clock, `--cross-check`).
        unavailable: why it told nothing; the others are then empty.
        forwards: how many were read.
        total_ms: the median forward by this clock.
        parts: by component; their times sum to `total_ms`, but for what is unattributed.
        unattributed_ms: what could be given to no component.
    """

    clock: Literal["graph", "kernels", "profiler"]
    unavailable: str | None = None
    forwards: Count = 0
    total_ms: Milliseconds | None = None
    parts: list[ClockPart] = []
    unattributed_ms: Milliseconds | None = None


# The device's peaks ---------------------------------------------------------------------------------------------------


class Bandwidth(msgspec.Struct, kw_only=True):
    """Bytes read and written a second, where `working_set_bytes` are touched again and again."""

    working_set_bytes: Positive
    bytes_per_s: Rate


class Peaks(msgspec.Struct, kw_only=True):
    """What the device can do at most, as measured on it: the roofs of a roofline (Williams et al. 2009).

    Attributes:
        dtype: of the matrix product.
        threads: torch's threads on a CPU; null on a GPU.
        flops_per_s: of the fastest large matrix product.
        bandwidths: of the faster of a copy and a sum, by the size of what they touch, which rises.
        launch_ns: what one operator on next to no data takes: below that no operator gets.
        measured: when, as `created` of a record.
    """

    dtype: str
    threads: Positive | None = None
    flops_per_s: Rate
    bandwidths: Annotated[list[Bandwidth], msgspec.Meta(min_length=1)]
    launch_ns: Nanoseconds
    measured: str


# Memory ---------------------------------------------------------------------------------------------------------------


ENDLESS = 1 << 40
"""Sequences at which the search for the largest batch ends: from there on none takes memory."""


class Fit(msgspec.Struct, kw_only=True):
    """What one batch size needs, in bytes, in theory, and whether it is within the limit.

    Attributes:
        mode: a forward alone, or a step of training with Adam in mixed precision.
        batch_size: sequences.
        parameter_bytes: the weights as they are computed with.
        gradient_bytes, optimizer_bytes: null for inference.
        activation_bytes: the most that is alive at a time; of training, what is saved for the backward pass.
        fits: whether their sum is within the record's `memory_limit_bytes`.
    """

    mode: Literal["inference", "training"]
    batch_size: Positive
    parameter_bytes: Count
    gradient_bytes: Count | None = None
    optimizer_bytes: Count | None = None
    activation_bytes: Count
    fits: bool

    @property
    def total_bytes(self) -> int:
        """All together."""
        return self.parameter_bytes + (self.gradient_bytes or 0) + (self.optimizer_bytes or 0) + self.activation_bytes


# Energy and the GPU's state -------------------------------------------------------------------------------------------


class Energy(msgspec.Struct, kw_only=True):
    """How the `energy_mj` of the rows was measured, and of the whole forward.

    Attributes:
        unavailable: why there is none; the others are then null.
        method: each component was replayed by itself (`replay`), or the whole's energy was given out by the share of
            time in which each kept the device busy (`busy-share`).
        reason: why no component was replayed by itself.
        counter_period_ms: how often the device's counter steps.
        total_mj: one whole forward, one sample a trial, in millijoules: replayed, without gaps between launches.
        eager_mj: the same as its user runs it, with them; null where it could not be replayed, and `total_mj` is that.
        power_mw: the board's mean power while each component was replayed, by which its energy was reckoned; the median
            of the trials. Null where none was replayed by itself.
        total_power_mw, eager_power_mw: the same, of `total_mj` and `eager_mj`.
    """

    unavailable: str | None = None
    method: Literal["replay", "busy-share"] | None = None
    reason: str | None = None
    counter_period_ms: Milliseconds | None = None
    total_mj: Samples | None = None
    eager_mj: Samples | None = None
    power_mw: dict[Component, Count] | None = None
    total_power_mw: Count | None = None
    eager_power_mw: Count | None = None


class GpuState(msgspec.Struct, kw_only=True):
    """A GPU at one moment: power in mW, clocks in MHz, temperature in °C, what holds the clocks back.

    What the driver does not tell is null.
    """

    power_mw: Count | None = None
    sm_mhz: Count | None = None
    memory_mhz: Count | None = None
    temperature_c: Count | None = None
    throttle_reasons: list[str] | None = None
