"""The panels of memory: what one forward takes, and which batch sizes fit into a limit."""

from collections.abc import Iterable, Sequence

from bertprof import formatting
from bertprof.components import Component
from bertprof.observations import ENDLESS, Fit
from bertprof.record import Breakdown
from bertprof.report.panels import Panel

THEORY = (
    "In theory: the inputs, and what operators made and the forward still holds. What kernels take for themselves "
    "while they run, and what allocators cannot use, is not in it."
)


def panel(breakdown: Breakdown) -> Panel | None:
    """What one forward takes: the whole in a sentence, and by component where a GPU's allocator told.

    None where the record holds nothing of it.
    """
    measured = (breakdown.resident_peak_bytes, breakdown.peak_memory_bytes)
    if breakdown.activation_peak_bytes is None and measured == (None, None):
        return None
    rows = [
        (component, _most(c.activation_peak_bytes for c in costs), _most(c.allocated_peak_bytes for c in costs))
        for component, costs in ((component, breakdown.of(component)) for component in Component)
        if any(cost.allocated_peak_bytes is not None for cost in costs)
    ]
    notes = [_sentence(breakdown)]
    if rows:
        notes.append(
            "Peaks are the most at one time while a component runs, and do not add; allocated is with weights."
        )
    headers = ("component", "activations in theory", "allocated")
    return Panel("Memory of one forward", headers, rows, notes)


def _sentence(breakdown: Breakdown) -> str:
    parts = [f"weights {formatting.size(breakdown.total('parameter_bytes'))}"]
    peak = breakdown.activation_peak_bytes
    if peak is not None:
        where = next(cost.component for cost in breakdown.costs if cost.activation_peak_bytes == peak)
        parts.append(f"activations at most {formatting.size(peak)} in theory, in {where}")
    if breakdown.resident_peak_bytes is not None:
        parts.append(f"together {formatting.size(breakdown.resident_peak_bytes)} resident as measured")
    if breakdown.peak_memory_bytes is not None:
        parts.append(f"together {formatting.size(breakdown.peak_memory_bytes)} allocated as measured")
    return "; ".join(parts)


def _most(peaks: Iterable[int | None]) -> str:
    return _size(max((peak for peak in peaks if peak is not None), default=None))


def _size(byte_count: int | None) -> str:
    return "–" if byte_count is None else formatting.size(byte_count)


# What fits ------------------------------------------------------------------------------------------------------------


def fits_panel(breakdown: Breakdown) -> Panel | None:
    """Which batch sizes fit; None where that was not asked, or could not be told."""
    if not breakdown.fits or breakdown.memory_limit_bytes is None:
        return None
    modes = {fit.mode: [other for other in breakdown.fits if other.mode == fit.mode] for fit in breakdown.fits}
    notes = [_answer(fits, breakdown) for fits in modes.values()]
    if "training" in modes:
        notes.append(_training(modes["training"][0]))
    return Panel(
        f"What fits into {formatting.size(breakdown.memory_limit_bytes)}",
        ("mode", "batch", "weights", "gradients", "optimiser", "activations", "total", "fits"),
        [_row(fit) for fit in breakdown.fits],
        [*notes, THEORY],
    )


def _row(fit: Fit) -> tuple[str, ...]:
    sizes = (fit.parameter_bytes, fit.gradient_bytes, fit.optimizer_bytes, fit.activation_bytes, fit.total_bytes)
    return fit.mode, formatting.exact(fit.batch_size), *map(_size, sizes), "yes" if fit.fits else "no"


def _answer(fits: Sequence[Fit], breakdown: Breakdown) -> str:
    """What the rows of a mode say."""
    mode, least = fits[0].mode, fits[0]
    largest = max((fit.batch_size for fit in fits if fit.fits), default=0)
    if largest and any(caveat.code == "fits-one-batch" for caveat in breakdown.caveats):
        return f"{mode}: {_sequences(largest, breakdown)} fit; of no other batch it can be told."
    if largest >= ENDLESS:
        return f"{mode}: as many sequences as you like, since none takes memory."
    if largest:
        return f"{mode}: up to {_sequences(largest, breakdown)} at a time."
    states = least.total_bytes - least.activation_bytes
    held = "weights, gradients and optimiser states" if mode == "training" else "weights"
    text = f"{mode}: not even {_sequences(least.batch_size, breakdown)}: {formatting.size(states)} of {held}"
    if states > (breakdown.memory_limit_bytes or 0):
        return f"{text} alone."
    return f"{text}, and {formatting.size(least.activation_bytes)} of activations."


def _sequences(number: int, breakdown: Breakdown) -> str:
    tokens = breakdown.workload.sequence_length
    of_tokens = "" if tokens is None else f" of {formatting.exact(tokens)} tokens"
    return f"{formatting.exact(number)} sequence{'s' if number > 1 else ''}{of_tokens}"


def _training(fit: Fit) -> str:
    text = (
        "Training is with Adam in mixed precision, as ZeRO counts it (Rajbhandari et al. 2020): 2 bytes of weight, 2 "
        "of gradient and 12 of optimiser states a parameter; beside them what the forward saves for the backward pass "
        "at half precision, without activation checkpointing"
    )
    if not fit.gradient_bytes:
        return f"{text}."
    return f"{text}. Buffers are left out: one for all gradients in float32 takes {_size(2 * fit.gradient_bytes)} more."
