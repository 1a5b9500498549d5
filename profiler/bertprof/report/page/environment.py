"""All that a record knows of what was asked, on which machine, and how it was measured."""

from bertprof import formatting
from bertprof.record import Breakdown
from bertprof.report import lines


def environment(breakdown: Breakdown) -> dict[str, dict[str, str]]:
    """Title → what it is → what was found, for three tables; what is not known is left out."""
    found = {
        "Workload": _workload(breakdown),
        "Machine and versions": _machine(breakdown),
        "Measurement": _measurement(breakdown),
    }
    return {
        title: {name: formatting.line(str(value)) for name, value in parts.items() if value not in (None, "", [])}
        for title, parts in found.items()
    }


def _workload(breakdown: Breakdown) -> dict[str, object]:
    w = breakdown.workload
    kept = breakdown.kept_units
    return {
        "model": w.model,
        "recipes": ", ".join(w.recipes),
        "label": breakdown.label,
        "task": w.task,
        "batch size": formatting.exact(w.batch_size),
        "sequence length": None if w.sequence_length is None else f"{formatting.exact(w.sequence_length)} tokens",
        "segments": None if w.segments is None else " + ".join(map(str, w.segments)),
        "padding": None if w.padding is None else f"{100 * w.padding:.3g} %",
        "mask": w.mask,
        "dtype": w.dtype,
        "attention": w.attention,
        "backend": w.backend,
        "device": w.device,
        "threads": w.threads,
        "weights": w.weights,
        "units": breakdown.units,
        "units kept": None if kept is None else ", ".join(map(str, kept)),
        "configuration, SHA-256": w.config_sha256,
    }


def _machine(breakdown: Breakdown) -> dict[str, object]:
    return {
        **lines.machine_parts(breakdown.host),
        "bertprof": breakdown.bertprof_version,
        "record": f"version {breakdown.schema_version}",
    }


def _measurement(breakdown: Breakdown) -> dict[str, object]:
    w, samples = breakdown.workload, breakdown.end_to_end_ms
    return {
        "created": breakdown.created,
        "times": None if breakdown.timed else "not measured",
        "clock": w.clock,
        "marks": w.marks,
        "repeats": None if samples is None else f"{formatting.exact(len(samples))} kept",
        "processes": formatting.exact(breakdown.processes) if breakdown.timed else None,
        "yardstick": "a small BERT layer beside every repeat" if breakdown.yardstick_ms else None,
        "run": breakdown.run,
    }
