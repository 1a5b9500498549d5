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
    """By component mJ a forward, their share and the board's mean power; below, how it was measured and the whole.

    As of times, a component's energy is its share × the median of the whole, so that the rows add up. None where the
    record holds nothing of it. A component has a power where it was replayed by itself.
    """
    energy = breakdown.energy
    if energy is None:
        return None
    if energy.unavailable is not None:
        return Panel(TITLE, (), (), [f"unavailable: {formatting.line(energy.unavailable)}"])
    if not energy.total_mj:
        return None
    parts = {component: samples for component in Component if any(samples := _sums(breakdown.of(component)))}
    whole = sampling.sums(parts.values())
    power_mw = energy.power_mw or {}
    rows = []
    for component, samples in parts.items():
        share = sampling.share_estimate(samples, whole)
        own = formatting.with_interval(sampling.product_estimate(share, sampling.median_estimate(whole)))
        rows.append((component, own, formatting.percent(share.value), _watts(power_mw.get(component))))
    total = ("total", _amount(whole), "100.0", "") if rows else ()  # the whole's power is in the notes
    columns = 4 if power_mw else 3
    return Panel(
        TITLE,
        ("component", "mJ", "share %", "W")[:columns],
        [row[:columns] for row in rows],
        [_method(energy, whole), *_replayed(energy, whole), _as_run(breakdown, energy)],
        total[:columns],
    )


def _sums(costs: Sequence[Cost]) -> Samples:
    """The energy of these rows, summed; none where they have none."""
    return sampling.sums(cost.energy_mj for cost in costs if cost.energy_mj is not None)


def _amount(samples: Samples) -> str:
    return formatting.with_interval(sampling.median_estimate(samples))


def _watts(power_mw: int | None) -> str:
    """Empty where it is not known."""
    return "" if power_mw is None else formatting.measured(power_mw / 1e3)


def _at(power_mw: int | None) -> str:
    return "" if power_mw is None else f" at {_watts(power_mw)} W"


def _method(energy: Energy, whole: Samples) -> str:
    how = "each component replayed by itself for seconds"
    if energy.method == "busy-share":
        how = "the whole's, given out by the time in which each component kept the GPU busy"
        how += "" if energy.reason is None else f", since {formatting.line(energy.reason)}"
    steps = "" if energy.counter_period_ms is None else f", which steps every {energy.counter_period_ms:.0f} ms"
    trials = len(whole or energy.total_mj or ())
    spread = "their range" if trials < sampling.FEWEST_OF_MEDIAN else "the 95 % interval of their median"
    power = "; W is the board's mean power meanwhile" if energy.power_mw else ""
    return (
        f"By NVML's counter{steps}: {how}{power}; {trials} trials, ± half {spread}, of a component with "
        "that of its share. What the board draws while it idles is in all of it."
    )


def _replayed(energy: Energy, whole: Samples) -> Iterator[str]:
    """The whole and the residual, where it was replayed."""
    if energy.eager_mj is None or not energy.total_mj:
        return
    text = "A whole forward replayed, without gaps between launches: "
    text += f"{_amount(energy.total_mj)} mJ{_at(energy.total_power_mw)}"
    if energy.method == "replay" and whole and sampling.median(energy.total_mj) > 0:
        ratio = sampling.median(whole) / sampling.median(energy.total_mj)
        text += f"; the sum of the components is {formatting.change(ratio)} off it"
    yield f"{text}."


def _as_run(breakdown: Breakdown, energy: Energy) -> str:
    """What its user pays for."""
    samples, power_mw = energy.eager_mj, energy.eager_power_mw
    if not samples:
        samples, power_mw = energy.total_mj or [], energy.total_power_mw
    text = f"A whole forward as torch launches it, run after run: {_amount(samples)} mJ{_at(power_mw)}"
    w = breakdown.workload
    if w.sequence_length is not None:
        per_token_mj = sampling.median(samples) / (w.batch_size * w.sequence_length)
        text += f", {formatting.three(per_token_mj)} J per 1,000 tokens"  # the same as mJ a token
    return f"{text}."
