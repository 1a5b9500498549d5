"""Measuring: from Subjects to Breakdowns. Parameters and operators are counted, time is sampled, all in one record."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import msgspec
import torch
from torch import nn

import bertprof
from bertprof import formatting, sampling
from bertprof.attribution import Owner
from bertprof.components import Component
from bertprof.errors import BertprofError, ConfigurationError, DeviceError, shortened
from bertprof.measure import flops, host, timing
from bertprof.measure.build import is_out_of_memory
from bertprof.measure.clocks import clock_for
from bertprof.measure.dispatch import fast_path, uncompiled
from bertprof.measure.inputs import Inputs, tensors_of
from bertprof.measure.parameters import Storage, count_parameters, standing, total_storage
from bertprof.measure.subject import Opened, Subject
from bertprof.record import Breakdown, Caveat, Checkpoint, Cost, Module, Operator, Samples, Workload, now, sort_key

Progress = Callable[[str, float], None]
"""Is told what is being done and how far that is, 0 to 1."""

UNSTEADY_FROM = 0.1
"""Relative width of the latency's interval from which on a reader is warned. The target is 0.01; a shared machine of 2
cores was seen at 0.03 when idle and above 0.3 beside another job."""

_TICK_NS = 100
"""Times are recorded to 0.1 µs, the order of what a mark costs."""


class Options(NamedTuple):
    """How to measure.

    Attributes:
        time: measure time; otherwise the model is only counted, and no weights are built.
        min_time_s: sample for at least so many seconds.
        threads: torch's threads within operators; None leaves them as they are.
        label: the record's label.
        progress: is told how far things are.
    """

    time: bool = True
    min_time_s: float = 2.0
    threads: int | None = None
    label: str | None = None
    progress: Progress = lambda step, fraction: None


def measure(subjects: Sequence[Subject], options: Options) -> list[Breakdown]:
    """Measures one or several subjects; several are timed interleaved, round by round.

    Raises:
        ConfigurationError: a subject's forward fails.
        DeviceError: a model or its activations do not fit into memory.
    """
    with fast_path(False), uncompiled():
        return _measure(subjects, options)


def _measure(subjects: Sequence[Subject], options: Options) -> list[Breakdown]:
    counted = []
    for subject in subjects:
        options.progress("counting", 0.0)
        counted.append(_count(subject, may_run=options.time))
    if not options.time:
        return [_breakdown(s, c, None, options) for s, c in zip(subjects, counted, strict=True)]
    with ExitStack() as stack:
        threads = stack.enter_context(timing.threads(options.threads))
        marked: list[timing.Marked] = []
        load_ms: list[float | None] = []
        try:
            for subject, found in zip(subjects, counted, strict=True):
                options.progress("building", 0.0)
                if subject.device.type == "meta":
                    raise DeviceError(f"{subject.workload.model} has no weights to run: count it with time=False")
                _check_memory(subject, found)
                opened = stack.enter_context(subject.open())
                load_ms.append(opened.load_ms)
                new = (*opened.caveats, *_finite(opened.model, opened.inputs), *_fast_path_caveats(opened))
                found.caveats.extend(caveat for caveat in new if caveat not in found.caveats)
                if subject.device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats(subject.device)
                marked.append(timing.Marked(opened.model, opened.inputs, subject.regions, clock_for(subject.device)))
            series = timing.sample(
                marked, min_time_s=options.min_time_s, progress=lambda done: options.progress("timing", done)
            )
        except Exception as error:
            name = ", ".join(subject.workload.model for subject in subjects)
            if is_out_of_memory(error):
                text = f"the forward of {name} does not fit into memory: {shortened(error)}"
                raise DeviceError(f"{text}; reduce batch size or sequence length") from None
            if isinstance(error, BertprofError):
                raise
            text = f"the forward of {name} fails: {type(error).__name__}: {shortened(error)}"
            raise ConfigurationError(text) from error
        # The allocator's peak is that of the process: with several models in it, of none of them.
        peak = _peak(subjects[0].device) if len(subjects) == 1 else None
        return [
            _breakdown(s, c, _Timed(kept, m.clock.name, threads, peak, loaded), options)
            for s, c, m, kept, loaded in zip(subjects, counted, marked, series, load_ms, strict=True)
        ]


def _check_memory(subject: Subject, counted: "_Counted") -> None:
    """Refuses what cannot fit: where a system overcommits, the process would be killed instead of told."""
    needed, operator = counted.largest
    free = host.available_bytes() if subject.device.type == "cpu" else None
    if free is not None and needed > free:
        raise DeviceError(
            f"the forward of {subject.workload.model} does not fit into memory: {operator} alone reads and writes "
            f"{formatting.size(needed)}, {formatting.size(free)} are free; reduce batch size or sequence length"
        )


# Counting ------------------------------------------------------------------------------------------------------------


Key = tuple[int | None, Component]


class _Counted(NamedTuple):
    operators: dict[Owner, dict[str, Operator]]
    largest: tuple[int, str]
    traffic: dict[Owner, flops.Traffic]
    useful: dict[Key, int] | None  # MACs of tokens that are no padding
    storage: dict[Owner, Storage]
    modules: list[Module]
    caveats: list[Caveat]


def _count(subject: Subject, *, may_run: bool) -> _Counted:
    """Counts the twin, or the model itself where there is none and it may run or is there anyway."""
    reason = "the model cannot be copied without its weights"
    if subject.twin is not None:
        try:
            return _gathered(subject, subject.twin, flops.count(subject.twin, subject.twin_inputs, subject.regions))
        except flops.CountingError as error:
            reason = f"its forward does not run without weights ({error})"
    if not may_run and subject.workload.weights != "module":
        raise ConfigurationError(f"{subject.workload.model} cannot be counted without running it: {reason}")
    try:
        with subject.open() as opened:
            counts = flops.count_by_dispatch(opened.model, opened.inputs, subject.regions)
            text = f"{reason}; the model itself was run and counted"
            counts.caveats.append(Caveat(code="counted-on-the-model", text=text))
            # Of the twin, where there is one: a quantised model packs its weights away.
            return _gathered(subject, subject.twin or opened.model, counts)
    except flops.CountingError as error:
        raise ConfigurationError(f"the forward of {subject.workload.model} fails: {error}") from None


def _gathered(subject: Subject, model: nn.Module, counts: flops.Counts) -> _Counted:
    storage = count_parameters(model, subject.regions, counts.units, subject.storage)
    own_parameters = _by_path({owner: size.parameters for owner, size in storage.items()})
    own_macs = _by_path({o: sum(x.macs for x in found.values()) for o, found in counts.operators.items()})
    own_flops = _by_path({o: sum(x.flops for x in found.values()) for o, found in counts.operators.items()})
    modules = []
    listed = {path: type(module).__name__ for path, module in model.named_modules()}
    listed |= dict.fromkeys(flops.methods_of(subject.regions), "method")
    for path in sorted(listed, key=list(listed).index):
        owner = standing(path, subject.regions, counts.units)
        modules.append(
            Module(
                path=path,
                type=listed[path],
                unit=owner.unit,
                component=owner.component,
                calls=counts.calls[path],
                parameters=own_parameters[path],
                macs=own_macs[path],
                flops=own_flops[path],
            )
        )
    return _Counted(
        counts.operators,
        counts.largest,
        counts.traffic,
        _useful(subject, counts),
        storage,
        modules,
        [*subject.caveats, *counts.caveats, *counts.uncounted_caveats()],
    )


def _by_path(amounts: Mapping[Owner, int]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for owner, amount in amounts.items():
        sums[owner.path] += amount
    return sums


def _useful(subject: Subject, counts: flops.Counts) -> dict[Key, int] | None:
    """The MACs of the same work without its padding; None where that cannot be told."""
    if subject.unpadded is None:
        return None
    found = [counts]
    if subject.workload.padding != 0:
        if subject.twin is None:
            return None
        try:
            found = [flops.count_by_dispatch(subject.twin, batch, subject.regions) for batch in subject.unpadded]
        except flops.CountingError:
            return None
    useful: Counter[Key] = Counter()
    for part in found:
        for owner, operators in part.operators.items():
            useful[owner.unit, owner.component] += sum(operator.macs for operator in operators.values())
    whole: Counter[Key] = Counter()
    for owner, operators in counts.operators.items():
        whole[owner.unit, owner.component] += sum(operator.macs for operator in operators.values())
    # What is done once a forward, whatever the batch (tables of positions), is counted here once for each length.
    return {key: min(macs, whole[key]) for key, macs in useful.items()}


def _finite(model: nn.Module, inputs: Inputs) -> list[Caveat]:
    """A caveat where the model's output holds NaN or infinity: such numbers take another time than usual ones."""
    args, kwargs = inputs.fresh()
    with torch.inference_mode():
        outputs = [t for t in tensors_of(model(*args, **kwargs)) if t.is_floating_point()]
    if all(bool(torch.isfinite(t).all()) for t in outputs):
        return []
    return [Caveat(code="non-finite-output", text="the model's output holds NaN or infinity; its time may mislead")]


# nn.TransformerEncoder's fast path ------------------------------------------------------------------------------------


def _fast_path_caveats(opened: Opened) -> list[Caveat]:
    """A caveat with the latency that the user has with the fast path, where the model may take it."""
    if not any(isinstance(m, nn.MultiheadAttention | nn.TransformerEncoderLayer) for m in opened.model.modules()):
        return []
    device = next((tensor.device for _, tensor in opened.inputs.tensors()), torch.device("cpu"))
    bare = timing.Marked(opened.model, opened.inputs, {}, clock_for(device))
    with fast_path(True), torch.inference_mode():
        samples = [bare.run().total_ns / 1e6 for _ in range(timing.WARM_UP_ROUNDS + timing.FEWEST_ROUNDS)]
    latency = sampling.median(samples[timing.WARM_UP_ROUNDS :])
    text = (
        "torch's fused path for nn.TransformerEncoder and nn.MultiheadAttention was switched off, also in the bare "
        f"forward, since it hides the components; with it, as torch runs it elsewhere, a forward takes {latency:.3f} ms"
    )
    return [Caveat(code="fast-path-off", text=text, value=latency)]


# What no rule places --------------------------------------------------------------------------------------------------


def _unplaced(counted: _Counted, kept: "_Kept | None") -> list[Caveat]:
    """A caveat on modules with parameters or products that are of no component, and what they hold of the model."""
    parameters = {owner: size.parameters for owner, size in counted.storage.items()}
    macs = {owner: sum(o.macs for o in operators.values()) for owner, operators in counted.operators.items()}
    held = {
        o.path: None for o in (*parameters, *macs) if o.component is Component.OTHER and _holds(o, parameters, macs)
    }
    if not held:
        return []
    times = {} if kept is None else {owner: math.fsum(samples) for owner, samples in kept.rows.items()}
    shares = []
    for name, amounts in (("parameters", parameters), ("MACs", macs), ("time", times)):
        whole = sum(amounts.values())
        mine = sum(n for o, n in amounts.items() if o.component is Component.OTHER and o.path in held)
        if whole:
            shares.append(f"{100 * mine / whole:.1f} % of the {name}")
    paths = [path or "(model)" for path in held]
    shown = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if paths[3:] else "")
    text = f"not recognised, and so in other: {shown}; they hold {', '.join(shares)}"
    return [Caveat(code="unrecognised-modules", component=Component.OTHER, text=text, value=float(len(paths)))]


def _holds(owner: Owner, *amounts: Mapping[Owner, float]) -> bool:
    return any(found.get(owner, 0) for found in amounts)


# The record ----------------------------------------------------------------------------------------------------------


class _Timed(NamedTuple):
    series: timing.Series
    clock: str
    threads: int
    peak_memory_bytes: int | None
    load_ms: float | None


class _Kept(NamedTuple):
    """What the record keeps of a series, in milliseconds."""

    instrumented: Samples
    end_to_end: Samples
    rows: dict[Owner, Samples]


def _breakdown(subject: Subject, counted: _Counted, timed: _Timed | None, options: Options) -> Breakdown:
    kept = None if timed is None else _kept(timed.series)
    return Breakdown(
        bertprof_version=bertprof.__version__,
        created=now(),
        label=options.label,
        workload=_workload(subject.workload, timed),
        host=host.describe(subject.device),
        checkpoint=_files(subject, timed),
        costs=_costs(counted, kept),
        modules=_with_times(counted.modules, kept),
        instrumented_ms=None if kept is None else kept.instrumented,
        end_to_end_ms=None if kept is None else kept.end_to_end,
        peak_memory_bytes=None if timed is None else timed.peak_memory_bytes,
        caveats=[*counted.caveats, *_unplaced(counted, kept), *_unsteady(kept)],
    )


def _files(subject: Subject, timed: _Timed | None) -> Checkpoint | None:
    if subject.files is None or timed is None or timed.load_ms is None:
        return subject.files
    return msgspec.structs.replace(subject.files, load_time_ms=round(timed.load_ms, 4))


def _unsteady(kept: _Kept | None) -> list[Caveat]:
    """A caveat where sampling ended far from its target."""
    if kept is None:
        return []
    latency = sampling.median_estimate(kept.end_to_end)
    width = (latency.high - latency.low) / latency.value
    if width <= UNSTEADY_FROM:
        return []
    text = (
        f"the machine was unsteady: forwards took {min(kept.end_to_end):.1f} to {max(kept.end_to_end):.1f} ms, and the "
        f"interval of their median is {100 * width:.0f} % wide; is something else running?"
    )
    return [Caveat(code="unsteady-time", text=text, value=width)]


def _workload(asked: Workload, timed: _Timed | None) -> Workload:
    if timed is None:
        return msgspec.structs.replace(asked, weights=None)
    return msgspec.structs.replace(asked, clock=timed.clock, marks=timed.series.style, threads=timed.threads)


def _peak(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def _kept(series: timing.Series) -> _Kept:
    """At most MOST_SAMPLES repeats, in ticks.

    Of more, consecutive blocks are cut and from each one repeat is kept whole, bare forward and all, so that pairs stay
    pairs and parts still sum to their total: the one whose two forwards together are the block's median. Of two middle
    ones, the lower and the upper are taken in turn; always the lower would make every time too short.
    """
    instrumented: Samples = []
    end_to_end: Samples = []
    rows: dict[Owner, Samples] = {owner: [] for owner in series.owned_ns}
    for number, block in enumerate(sampling.blocks(len(series.totals_ns))):
        ranked = sorted(block, key=lambda i: series.totals_ns[i] + series.bare_ns[i])
        middle = ranked[(len(ranked) - 1 + number % 2) // 2]
        end_to_end.append(_ms(max(1, round(series.bare_ns[middle] / _TICK_NS))))
        # Rounding the running sum, not each row, keeps the rounded rows' sum the rounded total.
        running = ticks = 0
        for owner, samples in series.owned_ns.items():
            running += samples[middle]
            reached = round(running / _TICK_NS)
            rows[owner].append(_ms(reached - ticks))
            ticks = reached
        instrumented.append(_ms(max(1, ticks)))
    return _Kept(instrumented, end_to_end, rows)


def _ms(ticks: int) -> float:
    return round(ticks * _TICK_NS / 1e6, 4)


def _costs(counted: _Counted, kept: _Kept | None) -> list[Cost]:
    """One row for each unit and component that has parameters, FLOPs or time."""
    owners = {*counted.operators, *counted.storage, *counted.traffic}
    keys: set[Key] = {(owner.unit, owner.component) for owner in owners}
    times: dict[Key, Samples] = {}
    if kept is not None:
        for owner, samples in kept.rows.items():
            before = times.get((owner.unit, owner.component), [0.0] * len(samples))
            times[owner.unit, owner.component] = [round(a + b, 4) for a, b in zip(before, samples, strict=True)]
        keys |= times.keys()
    costs = []
    for key in keys:
        mine = [owner for owner in owners if (owner.unit, owner.component) == key]
        storage = total_storage(counted.storage[owner] for owner in mine if owner in counted.storage)
        traffic = [counted.traffic[owner] for owner in mine if owner in counted.traffic]
        operators: dict[str, Operator] = {}
        for owner in mine:
            for name, operator in counted.operators.get(owner, {}).items():
                total = operators.setdefault(name, Operator(calls=0, macs=0, flops=0))
                total.calls += operator.calls
                total.macs += operator.macs
                total.flops += operator.flops
        cost = Cost(
            unit=key[0],
            component=key[1],
            parameters=storage.parameters,
            nonzero_parameters=storage.nonzero_parameters,
            parameter_bytes=storage.parameter_bytes,
            macs=sum(operator.macs for operator in operators.values()),
            useful_macs=None if counted.useful is None else counted.useful.get(key, 0),
            flops=sum(operator.flops for operator in operators.values()),
            bytes_moved=sum(t.moved_bytes for t in traffic),
            activation_bytes=sum(t.activation_bytes for t in traffic),
            operators=operators,
            time_ms=None if kept is None else times.get(key, [0.0] * len(kept.instrumented)),
        )
        if cost.parameters or cost.flops or cost.bytes_moved or any(cost.time_ms or []):
            costs.append(cost)
    return sorted(costs, key=sort_key)


def _with_times(modules: list[Module], kept: _Kept | None) -> list[Module]:
    """The modules with their own time where they carry marks: their share × the median forward, so that they add up."""
    if kept is None:
        return modules
    scale = sampling.median(kept.instrumented) / math.fsum(kept.instrumented)
    own: dict[str, list[float]] = {}
    for owner, samples in kept.rows.items():
        before = own.get(owner.path, [0.0] * len(samples))
        own[owner.path] = [a + b for a, b in zip(before, samples, strict=True)]
    return [
        msgspec.structs.replace(module, time_ms=round(scale * math.fsum(own[module.path]), 6))
        if module.path in own
        else module
        for module in modules
    ]
