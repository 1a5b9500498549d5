"""Whether the parts of a record agree with one another: what their types alone cannot say.

Every check yields what is wrong; the text ends in the path of the field.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bertprof.observations import Energy, Fit, OtherClock
from bertprof.quantities import MOST, Samples

if TYPE_CHECKING:
    from bertprof.record import Breakdown, Workload


def problems(breakdown: "Breakdown") -> Iterator[str]:
    """What is wrong, in an order in which what comes later may rest on what comes before."""
    return itertools.chain(
        _odd_rows(breakdown), _odd_modules(breakdown), _odd_samples(breakdown), _odd_beside(breakdown)
    )


def _odd_rows(breakdown: "Breakdown") -> Iterator[str]:
    """Rows that stand twice, parts larger than their whole, sums beyond what a count can be."""
    seen = set()
    for i, cost in enumerate(breakdown.costs):
        if (cost.unit, cost.component) in seen:
            yield f"a second row of that unit and component - at `$.costs[{i}]`"
        seen.add((cost.unit, cost.component))
        for part, whole_of in (("nonzero_parameters", "parameters"), ("useful_macs", "macs")):
            some, all_ = getattr(cost, part), getattr(cost, whole_of)
            if some is not None and some > all_:
                yield f"{some} of {all_} {whole_of} - at `$.costs[{i}].{part}`"
    problem = odd_segments(breakdown.workload)
    if problem:
        yield f"{problem} - at `$.workload.segments`"
    kept = breakdown.kept_units
    if kept is not None and (len(kept) != breakdown.units or kept != sorted(set(kept))):
        yield f"{len(kept)} indices of {breakdown.units} units, which must rise - at `$.kept_units`"
    for metric in ("parameters", "parameter_bytes", "macs", "flops", "bytes_moved", "activation_bytes"):
        total = sum(getattr(cost, metric) or 0 for cost in breakdown.costs)
        if total > MOST:
            yield f"the rows' {metric} sum to {total}, more than {MOST} - at `$.costs`"


def odd_segments(workload: "Workload") -> str | None:
    """What is wrong with the segments of a workload, if anything is."""
    segments, length = workload.segments, workload.sequence_length
    if segments is None or (len(segments) > 1 and sum(segments) == length):
        return None
    return f"{len(segments)} segments of {sum(segments)} tokens, of a sequence of {length}"


def _odd_modules(breakdown: "Breakdown") -> Iterator[str]:
    """Modules that are not those of the rows."""
    if breakdown.modules is None:
        return
    for metric in ("parameters", "macs", "flops"):
        of_modules, of_rows = sum(getattr(module, metric) for module in breakdown.modules), breakdown.total(metric)
        if of_modules != of_rows:
            yield f"the modules' {metric} sum to {of_modules}, the rows' to {of_rows} - at `$.modules`"


def _odd_samples(breakdown: "Breakdown") -> Iterator[str]:
    """Samples that do not belong together, and times without what was timed."""
    whole = breakdown.instrumented_ms
    timed: list[tuple[str, Samples | None]] = [("instrumented_ms", whole), ("end_to_end_ms", breakdown.end_to_end_ms)]
    timed += [(f"costs[{i}].time_ms", cost.time_ms) for i, cost in enumerate(breakdown.costs)]
    if breakdown.yardstick_ms is not None:
        timed += [(f"yardstick_ms.{component}", samples) for component, samples in breakdown.yardstick_ms.items()]
        if not breakdown.yardstick_ms:
            yield "no component; null where there is no yardstick - at `$.yardstick_ms`"
    yield from _unequal(timed, breakdown.processes)
    for field in ("device_time_ms", "energy_mj"):
        series = [(f"costs[{i}].{field}", getattr(cost, field)) for i, cost in enumerate(breakdown.costs)]
        if field == "energy_mj" and breakdown.energy is not None:  # the same trials
            series += [("energy.total_mj", breakdown.energy.total_mj), ("energy.eager_mj", breakdown.energy.eager_mj)]
        yield from _unequal([(path, samples) for path, samples in series if samples is not None], breakdown.processes)
    if whole is None:
        return
    for i, total in enumerate(whole):
        parts = sum(cost.time_ms[i] for cost in breakdown.costs if cost.time_ms is not None)
        if abs(parts - total) > 1e-6 * max(1.0, total):
            yield f"the rows sum to {parts:.4f} ms, not to {total:.4f} - at `$.instrumented_ms[{i}]`"
    for field in ("clock", "marks", "weights"):
        if getattr(breakdown.workload, field) is None:
            yield f"null in a record with times - at `$.workload.{field}`"


def _unequal(series: Sequence[tuple[str, Samples | None]], processes: int) -> Iterator[str]:
    """Series of other length than the first, or of a length that is not that of so many processes."""
    for path, samples in series:
        first, wanted = series[0]
        if (samples is None) != (wanted is None) or len(samples or ()) != len(wanted or ()):
            has = "null" if samples is None else f"{len(samples)} samples"
            other = "is null" if wanted is None else f"has {len(wanted)}"
            yield f"{has} where {first} {other} - at `$.{path}`"
        elif samples is not None and not samples:
            yield f"no samples; null where there are none - at `$.{path}`"
        elif samples is not None and len(samples) % processes:
            yield f"{len(samples)} samples, not as many from each of {processes} processes - at `$.{path}`"


def _odd_beside(breakdown: "Breakdown") -> Iterator[str]:
    """What stands beside counts and times and contradicts itself."""
    on_a_gpu = breakdown.workload.device.startswith("cuda")
    yield from _odd_clocks(breakdown.clocks or (), on_a_gpu)
    for i, cost in enumerate(breakdown.costs):
        if cost.device_time_ms is not None and not on_a_gpu:
            yield f"times of a GPU on {breakdown.workload.device} - at `$.costs[{i}].device_time_ms`"
    if breakdown.peaks is not None:
        sizes = [point.working_set_bytes for point in breakdown.peaks.bandwidths]
        if sizes != sorted(set(sizes)):
            yield "the working sets do not rise - at `$.peaks.bandwidths`"
    yield from _odd_fits(breakdown.fits or (), breakdown.memory_limit_bytes)
    yield from _odd_energy(breakdown)


def _odd_clocks(clocks: Sequence[OtherClock], on_a_gpu: bool) -> Iterator[str]:
    """Clocks that stand twice, tell something and nothing, do not add up or are none of the device."""
    for i, clock in enumerate(clocks):
        if any(other.clock == clock.clock for other in clocks[:i]):
            yield f"a second {clock.clock} clock - at `$.clocks[{i}]`"
        if clock.unavailable is not None:
            if clock != OtherClock(clock=clock.clock, unavailable=clock.unavailable):
                yield f"it is unavailable and tells something - at `$.clocks[{i}]`"
            continue
        if clock.total_ms is None or not clock.parts:
            yield f"it is neither told nor unavailable - at `$.clocks[{i}]`"
            continue
        if clock.clock in ("graph", "kernels") and not on_a_gpu:
            yield f"a {clock.clock} clock where there is no GPU - at `$.clocks[{i}].clock`"
        for j, part in enumerate(clock.parts):
            if any(other.component is part.component for other in clock.parts[:j]):
                yield f"a second part of that component - at `$.clocks[{i}].parts[{j}]`"
        parts = sum(part.time_ms for part in clock.parts) + (clock.unattributed_ms or 0.0)
        if abs(parts - clock.total_ms) > 1e-3 * max(1.0, clock.total_ms):
            yield f"the parts sum to {parts:.4f} ms, not to {clock.total_ms:.4f} - at `$.clocks[{i}].parts`"


def _odd_fits(fits: Sequence[Fit], limit: int | None) -> Iterator[str]:
    """Batch sizes that need what their mode does not, or of which the wrong thing is said."""
    for i, fit in enumerate(fits):
        for field in ("gradient_bytes", "optimizer_bytes"):
            if (getattr(fit, field) is None) is (fit.mode == "training"):
                has = "null" if fit.mode == "training" else "a number"
                yield f"{has} of {fit.mode} - at `$.fits[{i}].{field}`"
        if limit is None or fit.fits is not (fit.total_bytes <= limit):
            yield f"{fit.total_bytes} bytes against a limit of {limit} - at `$.fits[{i}].fits`"


def _odd_energy(breakdown: "Breakdown") -> Iterator[str]:
    """Energy that is measured and not, or of rows alone."""
    energy = breakdown.energy
    if energy is not None and energy.unavailable is not None:
        if energy != Energy(unavailable=energy.unavailable):
            yield "it is unavailable and tells something - at `$.energy`"
    elif energy is not None and energy.total_mj is None:
        yield "it is neither measured nor unavailable - at `$.energy`"
    if energy is None or energy.unavailable is not None:
        for i, cost in enumerate(breakdown.costs):
            if cost.energy_mj is not None:
                yield f"energy of a row, and none of the whole - at `$.costs[{i}].energy_mj`"
