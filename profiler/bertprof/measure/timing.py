"""Timing: marks at the boundaries of components, and rounds of forwards with and without them.

Every round runs the bare forward and the instrumented one of every model, and the yardstick, in random order, so that a
drift of the machine strikes all alike, and none always runs behind the same other. The marks are there in the
instrumented forward only. Two ways to make them:

- *hooks*: forward hooks, `always_call`, so that a boundary is left also when the forward raises. Once a module has a
  hook, torch calls it by a longer path: some µs a boundary.
- *wrappers*: the instance's `forward` is replaced by a function that marks, calls the original, marks. Cheaper, so used
  where the forward is so short that hooks would show; on leaving, the instance is as it was. Bound methods, and modules
  whose `forward` is called past their hooks (SqueezeBERT's units), always have wrappers.

The overhead of either is measured in every record (`instrumented_ms` against `end_to_end_ms`); where marks are events
of a CUDA device, it is what remains of it behind `less_events`.
"""

import gc
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from bertprof import evidence, sampling
from bertprof.attribution import Crossing, Owner, Region, boundaries, split_intervals
from bertprof.components import Component
from bertprof.measure.clocks import Clock, EventClock, Plan, Tape
from bertprof.measure.inputs import Inputs
from bertprof.measure.launches import Watch
from bertprof.measure.wrapping import target, wrap

MarkStyle = Literal["hooks", "wrappers"]

HOOKS_FROM_MS = 250.0
"""From this latency on, hooks. For the 123 marked modules of a 12-unit BERT they were measured to cost 0.4 ms with warm
caches and 1.0 ms beside real work (1.2 % of BERT-base at 1 × 128 on 2 cores, wrappers 0.1–0.7 %)."""

FEWEST_ROUNDS = 10
"""Fewer samples give no usable interval of a median."""

TARGET_RELATIVE_WIDTH = 0.01
"""Stop when the 95 % interval of the median total is narrower than this share of it."""

LONGEST_FACTOR = 3
"""Stop after this many times the least time, however wide the interval."""

WARM_UP_ROUNDS = 3
"""Rounds that are run and not kept: first calls allocate, choose kernels and fill caches."""


@dataclass
class Marked:
    """A model whose boundaries can be marked.

    Attributes:
        model: in eval mode.
        inputs: of its forward.
        regions: module path → region.
        clock: what takes the marks.
        style: how marks are made.
    """

    model: nn.Module
    inputs: Inputs
    regions: Mapping[str, Region]
    clock: Clock
    style: MarkStyle = "hooks"
    crossings: list[Crossing] = field(init=False)

    def __post_init__(self) -> None:
        self._marked = [(path, *target(self.model, path)) for path in boundaries(self.regions)]
        self.crossings = [Crossing(path, entering) for path, *_ in self._marked for entering in (True, False)]
        self._unhooked: set[int] = set()

    @contextmanager
    def marks(self) -> Iterator[None]:
        """While open, crossing boundary i calls `clock.mark(2·i)` on entering and `clock.mark(2·i + 1)` on leaving."""
        with ExitStack() as stack:
            for i, (_, module, method) in enumerate(self._marked):
                entering, leaving = partial(self.clock.mark, 2 * i), partial(self.clock.mark, 2 * i + 1)
                if self.style == "hooks" and method == "forward" and i not in self._unhooked:
                    stack.callback(_hook(module, entering, leaving))
                else:
                    stack.callback(wrap(module, method, entering, leaving))
            yield

    def settle(self, style: MarkStyle) -> None:
        """Takes up a style. Two forwards tell which modules are called past their hooks."""
        self.style, self._unhooked = "wrappers", set()
        if style == "wrappers":
            return
        with self.marks():
            wrapped = set(self.run().codes)
        self.style = style
        with self.marks():
            self._unhooked = {code // 2 for code in wrapped - set(self.run().codes)}

    def run(self) -> Tape:
        """One forward: bare, or with marks where `marks()` is open."""
        args, kwargs = self.inputs.fresh()
        self.clock.start()
        self.model(*args, **kwargs)
        return self.clock.stop()

    def attribute(self, tape: Tape) -> dict[Owner, int]:
        """The tape's nanoseconds by owner; their sum is the tape's total."""
        return split_intervals([self.crossings[code] for code in tape.codes], tape.intervals_ns, self.regions)


def _hook(module: nn.Module, entering: Callable[[], None], leaving: Callable[[], None]) -> Callable[[], None]:
    """Marks by hooks; returns what undoes it."""

    def before_it(module: nn.Module, args: Any) -> None:
        entering()

    def after_it(module: nn.Module, args: Any, output: Any) -> None:
        leaving()

    before = module.register_forward_pre_hook(before_it)
    after = module.register_forward_hook(after_it, always_call=True)

    def undo() -> None:
        before.remove()
        after.remove()

    return undo


@dataclass
class Series:
    """The rounds of one model.

    Attributes:
        style: how marks were made.
        bare_ns: the bare forward of each round.
        totals_ns: the instrumented forward of each round.
        owned_ns: owner → its time in each round. In every round they sum to the total.
        tapes: where marks are events, the tape of each instrumented forward, as `less_events` needs them.
    """

    style: MarkStyle
    bare_ns: list[int] = field(default_factory=list)
    totals_ns: list[int] = field(default_factory=list)
    owned_ns: dict[Owner, list[int]] = field(default_factory=dict)
    tapes: list[Tape] = field(default_factory=list)

    def add(self, bare: Tape, marked: Tape, owned: Mapping[Owner, int]) -> None:
        """One round."""
        done = len(self.totals_ns)
        self.bare_ns.append(bare.total_ns)
        self.totals_ns.append(marked.total_ns)
        for owner in owned:
            self.owned_ns.setdefault(owner, [0] * done)
        for owner, samples in self.owned_ns.items():
            samples.append(owned.get(owner, 0))

    def by_component(self) -> dict[Component, list[int]]:
        """The time of each component in each round, all units together."""
        sums: dict[Component, list[int]] = {}
        for owner, samples in self.owned_ns.items():
            before = sums.get(owner.component)
            sums[owner.component] = (
                list(samples) if before is None else [a + b for a, b in zip(before, samples, strict=True)]
            )
        return sums


class Goal(NamedTuple):
    """When enough is known.

    Attributes:
        min_time_s: seconds of sampling at least.
        max_time_s: seconds at most, whatever is known then, but for FEWEST_ROUNDS rounds; None: LONGEST_FACTOR times
            `min_time_s`.
        until: of two models, sample until the change of the whole, and of every component that takes part in it, is
            known to that share, 0.02 for ± 2 %; None: until the median of each bare forward is. Since it stops where
            intervals happen to be narrow, they miss in 6 to 7 of 100 cases and not in 5 (simulated); it does not look
            at the change itself, and so favours none.
    """

    min_time_s: float
    max_time_s: float | None = None
    until: float | None = None

    @property
    def longest_s(self) -> float:
        """Seconds of sampling at most."""
        return LONGEST_FACTOR * self.min_time_s if self.max_time_s is None else self.max_time_s

    @property
    def least_s(self) -> float:
        """Seconds of sampling at least, but no more than at most."""
        return min(self.min_time_s, self.longest_s)


def sample(
    subjects: Sequence[Marked],
    goal: Goal,
    *,
    yardstick: Marked | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
    now: Callable[[], float] = time.monotonic,
    order: random.Random | None = None,
) -> tuple[list[Series], Series | None]:
    """Runs rounds until enough is known.

    Warms up, then repeats until the least time has passed, at least FEWEST_ROUNDS rounds are kept, and either what the
    goal asks for is known or its longest time has passed. Without `until`, that is the 95 % interval of every model's
    median bare forward, which has to be under TARGET_RELATIVE_WIDTH of it.

    Args:
        subjects: the models; `style` is set for each by its latency.
        goal: when enough is known.
        yardstick: is run, marked, in every round.
        progress: is told the share of the longest time that has passed, 0 to 1.
        now: seconds; for tests.
        order: what draws the order of a round; for tests. Otherwise no two runs have the same, so that what an order
            favours averages out over processes.

    Returns:
        a series for each subject, in their order, and the yardstick's. What events take is left out of the former
        (`less_events`); the yardstick, which is only compared with itself, keeps it.
    """
    order = order or random.Random()  # not the global one, which stays as it is
    with undisturbed():
        # The same style for all that is compared, since marks of another kind cost otherwise.
        latency_ms = min(subject.run().total_ns for subject in subjects for _ in range(WARM_UP_ROUNDS)) / 1e6
        for subject in (*subjects, *([yardstick] if yardstick is not None else [])):
            is_long = subject is not yardstick and latency_ms >= HOOKS_FROM_MS
            for _ in range(WARM_UP_ROUNDS):
                subject.run()
            subject.settle("hooks" if is_long else "wrappers")
            _reserve(subject)
            for _ in range(WARM_UP_ROUNDS):
                with subject.marks():
                    subject.run()
        series = [Series(subject.style) for subject in subjects]
        measured = None if yardstick is None else Series(yardstick.style)
        jobs = [(subject, is_marked) for subject in subjects for is_marked in (False, True)]
        places = list(range(len(jobs) + (yardstick is not None)))
        started = now()
        rounds = looked = 0
        while True:
            # Every second round backwards, so that each runs behind each other as often as before it.
            if rounds % 2:
                places.reverse()
            else:
                order.shuffle(places)
            tapes: dict[int, Tape] = {}
            for place in places:
                if place < len(jobs):
                    tapes[place] = _run(*jobs[place])
                elif yardstick is not None and measured is not None:
                    measured.add(*_mean_of_several(yardstick))
            for i, (subject, kept) in enumerate(zip(subjects, series, strict=True)):
                kept.add(tapes[2 * i], tapes[2 * i + 1], subject.attribute(tapes[2 * i + 1]))
                if isinstance(subject.clock, EventClock):
                    kept.tapes.append(tapes[2 * i + 1])
            rounds += 1
            passed, longest = now() - started, goal.longest_s
            progress(min(1.0, max(passed / longest, 0.0)) if longest > 0 else 1.0)
            if rounds < FEWEST_ROUNDS or passed < goal.least_s:
                continue
            if passed >= longest:
                break
            # Looking costs time as well: only after a tenth more rounds.
            if rounds >= 1.1 * looked:
                looked = rounds
                if _are_known(series, goal.until):
                    break
    return [less_events(subject, kept) for subject, kept in zip(subjects, series, strict=True)], measured


def less_events(subject: Marked, seen: Series) -> Series:
    """The series without what the events of its marks took; itself where marks are no events.

    Out of each interval goes what an event takes on a busy stream, but no more than was seen of it: by how much the
    median forward with marks is longer than the bare one, spread evenly over the intervals. So what is left out never
    makes the rows sum to less than the bare forward does. The event that ends the bare one stays in both.
    """
    clock = subject.clock
    if not isinstance(clock, EventClock):
        return seen
    longer_ns = max(0.0, sampling.median(seen.totals_ns) - sampling.median(seen.bare_ns))
    # Marks that share an event have no time between them.
    intervals = max(sum(spent_ns > 0 for spent_ns in tape.intervals_ns) for tape in seen.tapes)
    each_ns = min(round(clock.event_ns), math.floor(longer_ns / max(1, intervals)))
    series = Series(seen.style)
    for bare_ns, tape in zip(seen.bare_ns, seen.tapes, strict=True):
        marked = tape.less(each_ns)
        series.add(Tape([], [bare_ns]), marked, subject.attribute(marked))
    return series


YARDSTICK_RUNS = 4
"""The yardstick runs so often in a round, whatever the model: of records that differ in this, one would meet more of
what comes and goes within milliseconds than the other."""


def _mean_of_several(yardstick: Marked) -> tuple[Tape, Tape, dict[Owner, int]]:
    """The mean of several forwards in turn, behind one that is not counted: it finds in the caches what the model left,
    and would tell of the model."""
    owned: dict[Owner, int] = {}
    with yardstick.marks():
        yardstick.run()
        for _ in range(YARDSTICK_RUNS):
            for owner, spent_ns in yardstick.attribute(yardstick.run()).items():
                owned[owner] = owned.get(owner, 0) + spent_ns
    owned = {owner: round(spent_ns / YARDSTICK_RUNS) for owner, spent_ns in owned.items()}
    whole = Tape([], [sum(owned.values())])
    return whole, whole, owned


def _run(subject: Marked, is_marked: bool) -> Tape:
    if not is_marked:
        return subject.run()
    with subject.marks():
        return subject.run()


def _are_known(series: Sequence[Series], until: float | None) -> bool:
    if until is None or len(series) != 2:
        return all(_is_known(kept) for kept in series)
    before, after = series
    pairs: list[tuple[Sequence[float], Sequence[float]]] = [(before.bare_ns, after.bare_ns)]
    parts = [kept.by_component() for kept in series]
    for component in parts[0].keys() & parts[1].keys():
        own = [(parts[i][component], series[i].totals_ns) for i in range(2)]
        if any(sum(part) >= evidence.COUNTS_FROM * sum(whole) for part, whole in own):
            pairs.append((parts[0][component], parts[1][component]))
    for pair in pairs:
        found = evidence.of_rounds(*pair)
        if found is not None and (found.high - found.low) / 2 > until * found.ratio:
            return False
    return True


def _is_known(series: Series) -> bool:
    estimate = sampling.median_estimate(series.bare_ns)
    return estimate.high - estimate.low <= TARGET_RELATIVE_WIDTH * estimate.value


def _reserve(subject: Marked) -> None:
    """CUDA events are made, and what they take is found out, before the first instrumented forward, not inside it."""
    if isinstance(subject.clock, EventClock):
        watch = watched(subject)
        # The interval that ends with a mark is that of the mark's own number.
        subject.clock.prepare(Plan(watch.codes, [not launched for launched in watch.launched[:-1]]))
        subject.clock.calibrate()


def watched(subject: Marked) -> Watch:
    """One forward with marks, watched: between which of them something is launched.

    Both styles of marks cross the same boundaries in the same order.
    """
    watch = Watch()
    observed = replace(subject, clock=watch, style="wrappers")
    with observed.marks():
        try:
            with watch:
                observed.run()
        except Exception:  # an operator that cannot be watched, since the forward ran before; it may launch anywhere
            observed.run()
            watch.launched = [True] * len(watch.launched)
    return watch


@contextmanager
def undisturbed() -> Iterator[None]:
    """Inference mode, and no garbage collection in the middle of a forward; both as before on leaving."""
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        with torch.inference_mode():
            yield
    finally:
        if collecting:
            gc.enable()


@contextmanager
def threads(number: int | None) -> Iterator[int]:
    """Sets torch's threads within operators; yields the number in force and restores it on leaving."""
    before = torch.get_num_threads()
    try:
        if number is not None:
            torch.set_num_threads(number)
        yield torch.get_num_threads()
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)
