"""Measuring: from Subjects to Breakdowns. Parameters and operators are counted, time is sampled, all in one record."""

import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import torch
from torch import nn

from bertprof import formatting, sampling
from bertprof.attribution import Key, Owner
from bertprof.errors import BertprofError, ConfigurationError, DeviceError, shortened
from bertprof.measure import beside, fitting, flops, host, memory, noise, timing
from bertprof.measure.build import is_out_of_memory
from bertprof.measure.clocks import clock_for
from bertprof.measure.dispatch import fast_path, uncompiled
from bertprof.measure.inputs import Inputs, tensors_of
from bertprof.measure.parameters import count_parameters, standing
from bertprof.measure.recording import Counted, Timed, breakdown, chosen, kept_of, p95_of, yardstick_of
from bertprof.measure.subject import Opened, Subject
from bertprof.measure.yardstick import yardstick
from bertprof.observations import Beside
from bertprof.record import Breakdown, Caveat, Module

Progress = Callable[[str, float], None]
"""Is told what is being done and how far that is, 0 to 1."""


class Options(NamedTuple):
    """How to measure.

    Attributes:
        time: measure time; otherwise the model is only counted, and no weights are built.
        goal: how long to sample.
        most_samples: the rounds that a record keeps at most.
        threads: torch's threads within operators; None leaves them as they are.
        label: the record's label.
        beside: what to find out beside counts and times.
        progress: is told how far things are.
    """

    time: bool = True
    goal: timing.Goal = timing.Goal(2.0)
    most_samples: int = sampling.MOST_SAMPLES
    threads: int | None = None
    label: str | None = None
    beside: Beside = Beside()
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
        found = _count(subject, may_run=options.time)
        counted.append(_with_fits(subject, found, options.beside))
    if not options.time:
        return [breakdown(s, c, None, options.label) for s, c in zip(subjects, counted, strict=True)]
    with ExitStack() as stack:
        threads = stack.enter_context(timing.threads(options.threads))
        marked: list[timing.Marked] = []
        load_ms: list[float | None] = []
        highest: list[int | None] = []
        try:
            _check_together(subjects)
            for subject, found in zip(subjects, counted, strict=True):
                options.progress("building", 0.0)
                if subject.device.type == "meta":
                    raise DeviceError(f"{subject.workload.model} has no weights to run: count it with time=False")
                _check_memory(subject, found)
                opened = stack.enter_context(subject.open())
                load_ms.append(opened.load_ms)
                new = (*opened.caveats, *_finite(opened.model, opened.inputs), *_fast_path_caveats(opened))
                found.caveats.extend(caveat for caveat in new if caveat not in found.caveats)
                highest.append(_peak(opened, subject.device))
                marked.append(timing.Marked(opened.model, opened.inputs, subject.regions, clock_for(subject.device)))
            watch = stack.enter_context(noise.Watch(subjects[0].device))
            with torch.inference_mode():
                watch.start([one.run for one in marked])
            series, measured = timing.sample(
                marked,
                options.goal,
                yardstick=yardstick(subjects[0].device),
                progress=lambda done: options.progress("timing", done),
            )
            watch.stop()
            besides = [
                beside.find(subject, one, threads, options.beside, lambda step: options.progress(step, 0.0))
                for subject, one in zip(subjects, marked, strict=True)
            ]
        except Exception as error:
            name = ", ".join(subject.workload.model for subject in subjects)
            if is_out_of_memory(error):
                text = f"the forward of {name} does not fit into memory: {shortened(error)}"
                raise DeviceError(f"{text}; reduce batch size or sequence length") from None
            if isinstance(error, BertprofError):
                raise
            text = f"the forward of {name} fails: {type(error).__name__}: {shortened(error)}"
            raise ConfigurationError(text) from error
        rounds = chosen(series, options.most_samples)
        lengths = None if measured is None else yardstick_of(measured, rounds)
        run = uuid.uuid4().hex
        records = []
        for i, (subject, found, kept) in enumerate(zip(subjects, counted, series, strict=True)):
            found.caveats.extend(noise.caveats([ns / 1e6 for ns in kept.bare_ns], watch))
            timed = Timed(
                kept=kept_of(kept, rounds),
                style=kept.style,
                clock=marked[i].clock.name,
                threads=threads,
                beside=besides[i],
                peak_memory_bytes=highest[i],
                load_ms=load_ms[i],
                p95_ms=p95_of(kept),
                yardstick=lengths,
                run=run,
                gpu=watch.gpu,
            )
            record = breakdown(subject, found, timed, options.label)
            beside.better_peaks(record, besides[i], subject.device, threads, options.beside)
            records.append(record)
        return records


def _with_fits(subject: Subject, counted: Counted, asked: Beside) -> Counted:
    """What was counted, with which batch sizes fit, where that was asked."""
    if asked.memory_limit_bytes is None:
        return counted
    stored = sum(size.parameter_bytes for size in counted.storage.values())
    fits, caveats = fitting.fits(subject, stored, asked.memory_limit_bytes, training=asked.training)
    counted.caveats.extend(caveats)
    return counted._replace(memory_limit_bytes=asked.memory_limit_bytes, fits=fits)


def _check_together(subjects: Sequence[Subject]) -> None:
    """Refuses several models that do not fit together, before the first is built; see `_check_memory`."""
    if len(subjects) < 2:
        return
    for device in {subject.device for subject in subjects}:
        needed = sum(
            parameter.numel() * max(4, parameter.element_size())
            for subject in subjects
            if subject.device == device and subject.twin is not None and subject.workload.weights != "module"
            for parameter in subject.twin.parameters()
        )
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else host.available_bytes()
        if free is not None and needed > free:
            names = " and ".join(subject.workload.model for subject in subjects)
            raise DeviceError(
                f"{names} need {formatting.size(needed)} for their weights together, {formatting.size(free)} are "
                f"free; measure each by itself with `bertprof breakdown --processes 5 -o`, and compare the records"
            )


def _check_memory(subject: Subject, counted: Counted) -> None:
    """Refuses what cannot fit: where a system overcommits, the process would be killed instead of told."""
    needed, operator = counted.largest
    free = host.available_bytes() if subject.device.type == "cpu" else None
    if free is not None and needed > free:
        raise DeviceError(
            f"the forward of {subject.workload.model} does not fit into memory: {operator} alone reads and writes "
            f"{formatting.size(needed)}, {formatting.size(free)} are free; reduce batch size or sequence length"
        )


# Counting ------------------------------------------------------------------------------------------------------------


def _count(subject: Subject, *, may_run: bool) -> Counted:
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


def _gathered(subject: Subject, model: nn.Module, counts: flops.Counts) -> Counted:
    storage = count_parameters(model, subject.regions, counts.units, subject.storage)
    own_parameters = _by_path({owner: size.parameters for owner, size in storage.items()})
    totals = counts.totals()
    own_macs = _by_path({owner: macs for owner, (macs, _) in totals.items()})
    own_flops = _by_path({owner: number for owner, (_, number) in totals.items()})
    modules = []
    listed = {path: type(module).__name__ for path, module in model.named_modules()}
    listed |= dict.fromkeys(flops.methods_of(subject.regions), "method")
    for path, kind in listed.items():
        owner = standing(path, subject.regions, counts.units)
        modules.append(
            Module(
                path=path,
                type=kind,
                unit=owner.unit,
                component=owner.component,
                calls=counts.calls[path],
                parameters=own_parameters[path],
                macs=own_macs[path],
                flops=own_flops[path],
            )
        )
    return Counted(
        counts.operators,
        counts.largest,
        counts.traffic,
        _useful(subject, counts),
        storage,
        modules,
        counts.alive_bytes,
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
    useful, whole = _macs_by_key(found), _macs_by_key([counts])
    # What is done once a forward, whatever the batch (tables of positions), is counted here once for each length.
    return {key: min(macs, whole[key]) for key, macs in useful.items()}


def _macs_by_key(parts: Sequence[flops.Counts]) -> Counter[Key]:
    sums: Counter[Key] = Counter()
    for part in parts:
        for owner, (macs, _) in part.totals().items():
            sums[owner.key] += macs
    return sums


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


def _peak(opened: Opened, device: torch.device) -> int | None:
    """The most memory that one forward takes on a GPU: what it allocates at one time, and the model and its inputs.

    Counted from what was there before, so that other models and whatever else the process holds are not in it.
    """
    if device.type != "cuda":
        return None
    model, (args, kwargs) = opened.model, opened.inputs.fresh()
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    with torch.inference_mode():
        model(*args, **kwargs)
    return torch.cuda.max_memory_allocated(device) - before + memory.held(model, opened.inputs, device)
