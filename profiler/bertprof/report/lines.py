"""Lines: what every report says of a breakdown beside its table."""

from collections.abc import Mapping, Sequence

from bertprof import formatting, roofline
from bertprof.components import Component
from bertprof.conditions import dequantised
from bertprof.observations import GpuState, Peaks
from bertprof.record import Breakdown, Host, Workload
from bertprof.report.rows import table

NO_KERNEL = "no kernel: dequantised"
"""What stands beside a latency that is not that of the weights as stored, but of the float model."""


def title(breakdown: Breakdown) -> str:
    """What to call the breakdown."""
    return formatting.plain(breakdown.name)


def caveat_lines(breakdown: Breakdown) -> list[str]:
    """The caveats, each one line of at most 400 characters, and one more where something is faster than its roof."""
    found = [formatting.line(caveat.text) for caveat in breakdown.caveats]
    above = roofline.above_roof(breakdown)
    if above:
        which = ", ".join(f"{component} ({100 * share:.0f} % of its roof)" for component, share in above.items())
        found.append(
            f"faster than the device was found to be: {which}; its peaks were measured beside other work or at a lower "
            "clock: measure them again with --peaks on a quiet machine"
        )
    return found


def headline(breakdown: Breakdown) -> str:
    """The answer in a sentence, from the record alone."""
    rows = table(breakdown, "component")
    if not rows:
        return "The record is empty."
    flops = max(rows, key=lambda row: row.flops_share)
    share = next((row for row in rows if row.label == "softmax-attention"), None)
    timed = [row for row in rows if row.time_share is not None]
    # Where the time of linears stands with attention, shares of time and of FLOPs are of different things.
    if not timed or any(caveat.code == "time-not-split" for caveat in breakdown.caveats):
        return f"{flops.label} does {100 * flops.flops_share:.0f} % of the FLOPs."
    slowest = max(timed, key=lambda row: row.time_share.value if row.time_share else 0.0)
    assert slowest.time_share is not None
    text = (
        f"{slowest.label} takes {100 * slowest.time_share.value:.0f} % of the time "
        f"and does {100 * slowest.flops_share:.0f} % of the FLOPs"
    )
    if share is not None and share.time_share is not None and share.flops_share > 0 and share is not slowest:
        times = share.time_share.value / share.flops_share
        text += f"; softmax-attention takes {times:.1f} × its share of FLOPs"
    return text + "."


def workload_line(breakdown: Breakdown) -> str:
    """What was asked, in one line; the model and its recipes where a label stands in the place of their names."""
    w = breakdown.workload
    parts = list(workload_parts(w, breakdown.timed).values())
    if w.backend != USUAL_BACKEND:
        parts.append(f"run by {w.backend}")
    if breakdown.timed and dequantised(breakdown):
        parts.append(NO_KERNEL)
    if w.recipes and breakdown.label is not None:
        parts.append(f"{w.model} with recipes {', '.join(w.recipes)}")
    return formatting.plain(", ".join(parts))


USUAL_BACKEND = "torch"
"""By what a model runs of which nothing else is said."""


def workload_parts(w: Workload, timed: bool) -> dict[str, str]:
    """What was asked, by what it is about."""
    parts = {"task": w.task} if w.task else {}
    shape = f"batch {w.batch_size}" if w.sequence_length is None else f"{w.batch_size} × {w.sequence_length} tokens"
    if w.segments is not None:
        shape += f" ({' + '.join(map(str, w.segments))})"
    parts["shape"] = shape
    if w.padding:
        parts["padding"] = f"{100 * w.padding:.3g} % padded"
    parts |= {"dtype": w.dtype, "attention": w.attention}
    if w.mask != "none":
        parts["mask"] = f"{w.mask.upper()} mask"
    parts["device"] = w.device if timed else "counted, not timed"
    if timed and w.threads is not None and w.device == "cpu":
        parts["threads"] = f"{w.threads} thread{'s' if w.threads > 1 else ''}"
    if w.weights is not None:
        parts["weights"] = {"random": "random weights", "checkpoint": "checkpoint", "module": "live module"}[w.weights]
    return {key: formatting.plain(text) for key, text in parts.items()}


def told_apart(parts: Sequence[Mapping[str, str]]) -> tuple[str, list[str]]:
    """What several have in common and what is special about each, of descriptions by what they are about."""
    keys = dict.fromkeys(key for each in parts for key in each)
    common = [key for key in keys if len({each.get(key) for each in parts}) == 1]
    own = [", ".join(each[key] for key in keys if key in each and key not in common) for each in parts]
    return ", ".join(parts[0][key] for key in common), own


def host_line(breakdown: Breakdown) -> str:
    """The machine and the versions, in one line."""
    return machine_line(breakdown.host, breakdown.workload.device)


def machine_line(h: Host, device: str) -> str:
    """The same of a host and the device that was used."""
    machine = h.gpu if device.startswith("cuda") and h.gpu else f"{h.cpu}, {h.cores} cores"
    return formatting.plain(f"{machine}; torch {h.torch}, transformers {h.transformers}, Python {h.python}")


def machine_parts(h: Host) -> dict[str, str]:
    """All that is known of a machine and its versions, by what it is."""
    parts = {
        "CPU": h.cpu,
        "cores": h.cores,
        "memory": None if h.memory_bytes is None else formatting.size(h.memory_bytes),
        "system": h.os,
        "GPU": h.gpu,
        "GPU memory": None if h.gpu_memory_bytes is None else formatting.size(h.gpu_memory_bytes),
        "driver": h.driver,
        "clocks": ", ".join(f"{name} {mhz} MHz" for name, mhz in (h.clocks or {}).items()),
        "Python": h.python,
        "torch": h.torch,
        "transformers": h.transformers,
        "fvcore": h.fvcore,
    }
    return {name: formatting.line(str(value)) for name, value in parts.items() if value not in (None, "")}


def notes(breakdown: Breakdown) -> list[str]:
    """How the time was measured and how far it can be trusted, what bounds it, and what the weights take on disk."""
    found = (*_timing(breakdown), *_gpu(breakdown.host), *_roofline(breakdown), *_checkpoint(breakdown))
    return [formatting.plain(line) for line in found]


def _timing(breakdown: Breakdown) -> list[str]:
    end_to_end, overhead, residual = breakdown.end_to_end_time_ms, breakdown.overhead, breakdown.residual
    if end_to_end is None or overhead is None or residual is None or breakdown.end_to_end_ms is None:
        return []
    w, tokens = breakdown.workload, breakdown.tokens_per_second
    speed = ""
    if tokens is not None:
        speed = f", {formatting.exact(round(tokens))} tokens/s{', padding included' if w.padding else ''}"
    if dequantised(breakdown):
        speed += f", {NO_KERNEL}"
    left_out = " beside what their events took, which is left out of the rows" if w.clock == "events" else ""
    return [
        f"end to end {formatting.interval(end_to_end)}{speed}: "
        f"median of {len(breakdown.end_to_end_ms)} bare forwards with its 95 % interval",
        f"marks ({w.marks}, {w.clock} clock) cost {formatting.change(overhead.value)} "
        f"[{formatting.change(overhead.low)}, {formatting.change(overhead.high)}]{left_out}; "
        f"sum of the rows against the bare forward {100 * residual:+.1f} %",
    ]


def _gpu(h: Host) -> list[str]:
    """The GPU's state before sampling, once it was warm, and behind it, as far as the driver told both."""
    if h.gpu_before is None or h.gpu_after is None:
        return []
    known = (
        (f"{before:,.0f} → {after:,.0f} {unit}" if before is not None and after is not None else None)
        for unit, before, after in (
            ("MHz", h.gpu_before.sm_mhz, h.gpu_after.sm_mhz),
            ("°C", h.gpu_before.temperature_c, h.gpu_after.temperature_c),
            ("W", _watts(h.gpu_before), _watts(h.gpu_after)),
        )
    )
    parts = [part for part in known if part is not None]
    reasons = dict.fromkeys((*(h.gpu_before.throttle_reasons or ()), *(h.gpu_after.throttle_reasons or ())))
    parts += [f"clocks held back for {' and '.join(reasons)}"] if reasons else []
    return [f"the GPU before sampling and behind it: {', '.join(parts)}"] if parts else []


def _watts(state: GpuState) -> float | None:
    return None if state.power_mw is None else state.power_mw / 1e3


def _roofline(breakdown: Breakdown) -> list[str]:
    """What bounds softmax attention, of which the survey makes a point, the component that is dearest against its FLOPs
    and the largest; and the peaks themselves."""
    missing, peaks = roofline.missing(breakdown), breakdown.peaks
    if missing is not None:
        return [missing]
    shares = {
        Component(row.label): (row.time_share.value, row.flops_share)
        for row in table(breakdown, "component")
        if row.roof_share is not None and row.time_share is not None
    }
    if peaks is None or not shares:
        return []
    dearest = max(shares, key=lambda component: shares[component][0] - shares[component][1])
    largest = max(shares, key=lambda component: shares[component][0])
    told = dict.fromkeys((Component.SOFTMAX_ATTENTION, dearest, largest))
    found = [roofline.explanation(breakdown, component) for component in told]
    return [*(line for line in found if line is not None), peaks_line(peaks)]


def peaks_line(peaks: Peaks) -> str:
    """What the device can do at most, in one line; the highest bandwidth, and that of the largest working set."""
    where = "" if peaks.threads is None else f", {peaks.threads} thread{'s' if peaks.threads > 1 else ''}"
    highest = max(peaks.bandwidths, key=lambda point: point.bytes_per_s)
    last = max(peaks.bandwidths, key=lambda point: point.working_set_bytes)
    told = [highest] if highest == last else [highest, last]
    speeds = [f"{formatting.giga(point.bytes_per_s)} GB/s at {point.working_set_bytes / 1e6:g} MB" for point in told]
    return (
        f"peaks of the device: {formatting.giga(peaks.flops_per_s)} GFLOP/s {peaks.dtype}{where}; "
        f"{' … '.join(speeds)}; {formatting.three(peaks.launch_ns / 1e3)} µs an operator; "
        f"measured {peaks.measured[:10]}"
    )


def _checkpoint(breakdown: Breakdown) -> list[str]:
    found = breakdown.checkpoint
    if found is None:
        return []
    files = f"{formatting.exact(found.files)} file{'s' if found.files > 1 else ''}"
    parts = [found.format, files, f"{formatting.size(found.file_bytes)} on disk"]
    if found.load_time_ms is not None:
        parts.append(f"loaded in {formatting.duration(found.load_time_ms)}")
    return [f"checkpoint: {', '.join(parts)}"]
