"""The panel of energy: what a forward draws on a GPU, and each component of it."""

from collections.abc import Iterator, Sequence

from bertprof import formatting, sampling
from bertprof.components import Component
from bertprof.observations import Energy
from bertprof.quantities import Samples
from bertprof.record import Breakdown, Cost
from bertprof.report.panels import Panel

TITLE = "Energy of one forward"


def panel(breakdown: Breakdown) -> Panel | None:
    """By component mJ a forward, their share and the mean power; below, how it was measured and the whole.

    None where the record holds nothing of it. Power is given where components were measured one by one and the graph
    clock knows for how long each ran: what was given out by time has the same everywhere.
    """
    energy = breakdown.energy
    if energy is None:
        return None
    if energy.unavailable is not None:
        return Panel(TITLE, (), (), [f"unavailable: {formatting.line(energy.unavailable)}"])
    if not energy.total_mj:
        return None
    parts: dict[Component, Samples] = {}
    times: dict[Component, Samples] = {}
    for component in Component:
        samples = _sums(breakdown.of(component), "energy_mj")
        if any(samples):
            parts[component] = samples
            times[component] = _sums(breakdown.of(component), "device_time_ms") if energy.method == "replay" else []
    whole = sampling.sums(parts.values())
    rows = [
        (component, _amount(samples), _share(samples, whole), _watts(samples, times[component]))
        for component, samples in parts.items()
    ]
    total = (
        ("total", _amount(whole), "100.0", _watts(whole, sampling.sums(filter(None, times.values())))) if rows else ()
    )
    columns = 4 if any(row[3] for row in rows) else 3
    return Panel(
        TITLE,
        ("component", "mJ", "share %", "W")[:columns],
        [row[:columns] for row in rows],
        [_method(energy, whole), *_replayed(energy, whole), _as_run(breakdown, energy)],
        total[:columns],
    )


def _sums(costs: Sequence[Cost], field: str) -> Samples:
    """The samples of these rows, summed; none where they have none."""
    return sampling.sums(samples for cost in costs if (samples := getattr(cost, field)) is not None)


def _amount(samples: Samples) -> str:
    return formatting.with_interval(sampling.median_estimate(samples))


def _share(part: Samples, whole: Samples) -> str:
    return formatting.percent(sampling.share_estimate(part, whole).value)


def _watts(energy_mj: Samples, time_ms: Samples) -> str:
    """mJ over ms; empty where no time is known."""
    if not time_ms or sampling.median(time_ms) <= 0:
        return ""
    return formatting.measured(sampling.median(energy_mj) / sampling.median(time_ms))


def _method(energy: Energy, whole: Samples) -> str:
    how = "each component replayed by itself for seconds"
    if energy.method == "busy-share":
        how = "the whole's, given out by the time in which each component kept the GPU busy"
        how += "" if energy.reason is None else f", since {formatting.line(energy.reason)}"
    steps = "" if energy.counter_period_ms is None else f", which steps every {energy.counter_period_ms:.0f} ms"
    trials = len(whole or energy.total_mj or ())
    spread = "their range" if trials < sampling.FEWEST_OF_MEDIAN else "the 95 % interval of their median"
    return (
        f"By NVML's counter{steps}: {how}; {trials} trials, ± half {spread}. What the board draws while it idles is in "
        "all of it."
    )


def _replayed(energy: Energy, whole: Samples) -> Iterator[str]:
    """The whole and the residual, where it was replayed."""
    if energy.eager_mj is None or not energy.total_mj:
        return
    text = f"A whole forward replayed, without gaps between launches: {_amount(energy.total_mj)} mJ"
    if energy.method == "replay" and whole and sampling.median(energy.total_mj) > 0:
        ratio = sampling.median(whole) / sampling.median(energy.total_mj)
        text += f"; the sum of the components is {formatting.change(ratio)} off it"
    yield f"{text}."


def _as_run(breakdown: Breakdown, energy: Energy) -> str:
    """What its user pays for."""
    samples = energy.eager_mj or energy.total_mj or []
    parts = [f"{_amount(samples)} mJ"]
    watts = _watts(samples, breakdown.end_to_end_ms or [])
    parts += [f"{watts} W over its latency"] if watts else []
    w = breakdown.workload
    if w.sequence_length is not None:
        per_token_mj = sampling.median(samples) / (w.batch_size * w.sequence_length)
        parts.append(f"{formatting.three(per_token_mj)} J per 1,000 tokens")  # the same as mJ a token
    return f"A whole forward as torch launches it: {', '.join(parts)}."
