"""Findings: what a Diff says in words, above all where the gain came from."""

from collections.abc import Sequence
from dataclasses import dataclass

from bertprof import formatting
from bertprof.comparison import MEMORY, SHARE
from bertprof.conditions import dequantised
from bertprof.difference import Accuracy, Change, Diff, Row
from bertprof.report import advice, changes, lines, rows
from bertprof.report.changes import CHANGED, Tone, moved, relative, signed, tone_of
from bertprof.sampling import Estimate

MOST = 0.8
"""A change of time is explained by the rows that make up as much of it, MOST_NAMED at most."""

MOST_NAMED = 6

NOTABLE = 0.05
"""A row that moved against the rest is named from that share of the total on, an unchanged one where its share of the
time moved by as much."""


@dataclass(frozen=True)
class Finding:
    """One sentence: what changed, whether that is good news, and what it is made of or what to do about it."""

    head: str
    tone: Tone = "plain"
    detail: str = ""

    @property
    def text(self) -> str:
        """The whole sentence."""
        return f"{self.head}: {self.detail}" if self.detail else self.head


def findings(diff: Diff) -> list[Finding]:
    """What changed, in sentences, the most telling first; empty where the diff holds no figures."""
    found = [_latency(diff), _why(diff), _speed(diff), *_counts(diff), _size(diff), _memory(diff)]
    found.append(_accuracy(diff.accuracy))
    return [finding for finding in found if finding is not None]


def _total(diff: Diff, metric: str) -> Change | None:
    return diff.row("total").metrics.get(metric)


# Time -----------------------------------------------------------------------------------------------------------------


def _latency(diff: Diff) -> Finding | None:
    whole = _total(diff, "time")
    if whole is None or whole.before is None or whole.after is None:
        return None
    seen = f"{changes.figures(whole, 'time')} ms"
    if diff.times == "identical":
        return Finding(f"latency {seen} on both sides", detail="the very same samples")
    if diff.times == "not comparable":
        return Finding("latency not compared", "open", f"{'; '.join(_incomparable(diff))}; {seen}")
    if diff.times == "too few processes" or whole.low is None:
        head = f"latency inconclusive, {seen} ({relative(whole)}){_seen_in(diff, whole)}"
        return Finding(head, "open", _way_out(diff))
    if whole.verdict == "inconclusive":
        head = f"latency inconclusive, {relative(whole)} may or may not be beyond ±{100 * diff.margin:g} %"
        return Finding(head, "open", "; ".join([*_origins(diff, whole), _way_out(diff)]))
    if whole.verdict == "same":
        return Finding(f"latency unchanged, {relative(whole)}", detail="; ".join(_origins(diff, whole)))
    head = f"latency {relative(whole)}, {_speed_up(whole)}"
    return Finding(head, tone_of(whole.verdict), "; ".join(_origins(diff, whole)))


def _incomparable(diff: Diff) -> list[str]:
    """Why times do not compare; above all that the width of the weights of one side is on paper only."""
    keys = [m.key for m in diff.mismatches if m.affects in ("counts", "times") and not m.allowed]
    why = []
    if "kernel" in keys:
        keys.remove("kernel")
        side = "AFTER" if dequantised(diff.after) else "BEFORE"
        why.append(
            f"no kernel runs the weights of {side} as they are stored: they were dequantised, and its time is that of "
            "its float model: no speed-up of the narrower weights"
        )
    if keys:
        why.append(f"{', '.join(keys)} differ{'s' if len(keys) == 1 else ''}")
    return why


def _why(diff: Diff) -> Finding | None:
    text = advice.why(diff)
    return None if text is None else Finding("why", detail=text)


def _speed_up(whole: Change) -> str:
    """1.70 × as fast [1.66, 1.74]; of what is slower the percentage says enough."""
    if whole.verdict != "faster" or not whole.ratio or not whole.low or not whole.high:
        return whole.verdict
    value, low, high = 1 / whole.ratio, 1 / whole.high, 1 / whole.low
    return f"{formatting.times(value)} as fast [{formatting.three(low)}, {formatting.three(high)}]"


def _origins(diff: Diff, whole: Change) -> list[str]:
    """Where the time went: the rows that make up the change, those that moved against it, those that now weigh more."""
    total = moved(whole) or 0.0
    sure = [(_part(change, total), row) for row, change in _times(diff) if change.verdict in CHANGED]
    sure.sort(key=lambda pair: -abs(pair[0]))
    along = [pair for pair in sure if whole.verdict in CHANGED and pair[0] * total > 0]
    named, covered = [], 0.0
    for part, row in along[:MOST_NAMED]:
        if covered >= MOST * abs(total):
            break
        named.append((part, row))
        covered += abs(part)
    least = NOTABLE * (abs(total) if whole.verdict in CHANGED else max(whole.before or 0.0, whole.after or 0.0))
    named += [pair for pair in sure if pair not in along and abs(pair[0]) >= least][:MOST_NAMED]
    texts = []
    for i, (part, row) in enumerate(named):
        of = f" of {signed(total, 'time')}" if i == 0 and along else ""
        texts.append(f"{changes.label(row)} {signed(part, 'time')}{of}{_sided(row.metrics['time'])}")
    origins = [", ".join(texts)] if texts else []
    for row, change in _times(diff):
        share = row.metrics.get(SHARE)
        if change.verdict == "same" and share is not None and abs(share.change or 0.0) >= NOTABLE:
            assert share.before is not None
            assert share.after is not None
            origins.append(
                f"{changes.label(row)} unchanged, now {100 * share.after:.0f} % of the time "
                f"(was {100 * share.before:.0f} %)"
            )
        elif change.verdict == "inconclusive" and abs(moved(change) or 0.0) >= max(least, NOTABLE * abs(total)):
            origins.append(f"{changes.label(row)} inconclusive ({relative(change)})")
    return origins


def _part(change: Change, total: float) -> float:
    """What a row has of the change of the latency, in ms: its share as the table has it, where that is known."""
    share = change.share_of_change
    return share * total if share is not None and total else moved(change) or 0.0


def _times(diff: Diff) -> list[tuple[Row, Change]]:
    return [(row, row.metrics["time"]) for row in changes.parts(diff) if "time" in row.metrics]


def _sided(change: Change) -> str:
    return f" ({change.verdict})" if change.verdict in ("new", "removed") else ""


def _seen_in(diff: Diff, whole: Change) -> str:
    """In which row most of a change is seen that nothing proves."""
    parts = [(change.change / whole.change, row) for row, change in _times(diff) if change.change and whole.change]
    part, row = max(parts, key=lambda pair: pair[0], default=(0.0, None))
    if row is None or part < 0.5:
        return ""
    return f", most of it in {changes.label(row)} ({signed(row.metrics['time'].change or 0.0, 'time')})"


def _way_out(diff: Diff) -> str:
    """What to do where nothing can be said."""
    if diff.times != "processes" and any(caveat.code == "precision-not-reached" for caveat in diff.caveats):
        return "sampling for longer says more (--max-time)"
    if diff.times == "rounds":
        return "more rounds say more (--until 2%)"
    if diff.times == "processes":
        return f"more processes say more than the {min(diff.before.processes, diff.after.processes)} a side here"
    fewest = min(diff.before.processes, diff.after.processes)
    return (
        f"{fewest} process{'es' if fewest > 1 else ''} a side cannot tell a change from chance; "
        "measure both with --processes 5, or give both as models to `bertprof diff`, which then runs them side by side"
    )


def _speed(diff: Diff) -> Finding | None:
    """Both latencies as they were measured, 95th percentile and throughput."""
    a, b = diff.before.latency, diff.after.latency
    if a is None or b is None:
        if a is b:
            return None
        missing = "before" if a is None else "after"
        return Finding("time not compared", "open", f"none was measured {missing}")
    medians = [formatting.interval(Estimate(side.median_ms, side.low_ms, side.high_ms)) for side in (a, b)]
    for i, side in enumerate((diff.before, diff.after)):
        if dequantised(side):
            medians[i] += f" ({lines.NO_KERNEL})"
    texts = [" → ".join(medians)]
    if a.p95_ms is not None and b.p95_ms is not None:
        texts.append(f"p95 {formatting.measured(a.p95_ms)} → {formatting.measured(b.p95_ms)} ms")
    if a.tokens_per_second is not None and b.tokens_per_second is not None:
        speeds = " → ".join(formatting.exact(round(side)) for side in (a.tokens_per_second, b.tokens_per_second))
        texts.append(f"{speeds} tokens/s")
    return Finding("as measured", detail="; ".join(texts))


# Counts ---------------------------------------------------------------------------------------------------------------


def _counts(diff: Diff) -> list[Finding | None]:
    table = [diff.row("total"), *changes.parts(diff)]
    known = [metric for metric in ("parameters", "bytes", "macs", "flops") if metric in table[0].metrics]
    same = [metric for metric in known if changes.unchanged(table, metric)]
    units = _units(diff)
    found: list[Finding | None] = []
    if "parameters" in known and "parameters" not in same:
        found.append(_counted(diff, table, "parameters", units))
        units = ""
    if "macs" in known and "macs" not in same:
        found.append(_counted(diff, table, "macs"))
    if "flops" in known and "flops" not in same:
        found.append(_counted(diff, table, "flops", named="macs" in same or "macs" not in known))
    found.append(_nonzero(table[0]))
    if same:
        names = [changes.NAMES[metric] for metric in same]
        listed = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
        found.append(Finding(listed, detail="the same in every row"))
    if units:
        found.append(Finding(units))
    return found


def _nonzero(total: Row) -> Finding | None:
    """How many parameters are not zero, where a side is known to have zeros and the other has not as many."""
    nonzero, every = total.metrics.get("nonzero_parameters"), total.metrics.get("parameters")
    if nonzero is None or every is None or nonzero.before == nonzero.after:
        return None
    shares = [_share(nonzero.before, every.before), _share(nonzero.after, every.after)]
    if all(share is None or share >= rows.SPARSE_BELOW for share in shares):
        return None
    known = [f"{100 * share:.1f} %" for share in shares if share is not None]
    if len(known) < len(shares):
        side = "before" if shares[0] is None else "after"
        known.append(f"{'after' if side == 'before' else 'before'}, {side} not counted")
        return Finding("parameters that are not zero", detail=" ".join(known))
    return Finding("parameters that are not zero", detail=" → ".join(known))


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def _counted(diff: Diff, table: Sequence[Row], metric: str, units: str = "", named: bool = True) -> Finding | None:
    """One count: its totals, and each row that changed, the largest change first."""
    whole = table[0].metrics[metric]
    name = changes.NAMES[metric]
    if whole.change is None:
        side = "before" if whole.before is None else "after"
        return Finding(f"{name} not compared", "open", f"not known {side}")
    if whole.verdict == "n/a":
        return Finding(f"{name} not compared", "open", changes.figures(whole, metric))
    parts = [(row.metrics[metric], row) for row in table[1:] if metric in row.metrics and row.metrics[metric].change]
    parts.sort(key=lambda pair: -abs(pair[0].change or 0))
    texts = []
    for i, (change, row) in enumerate(parts if named else []):
        if i == MOST_NAMED:
            texts.append(f"{len(parts) - i} more")
            break
        amount = signed(change.change or 0, metric) + (f" of {signed(whole.change, metric)}" if not i else "")
        texts.append(f"{changes.label(row)} {relative(change)} ({amount})")
    text = f"{name} {changes.figures(whole, metric)}"
    text += f" ({relative(whole)})" if whole.change else ", the same in total"
    return Finding(text, tone_of(whole.verdict), "; ".join(part for part in (", ".join(texts), units) if part))


def _units(diff: Diff) -> str:
    before, after = diff.before.units, diff.after.units
    return "" if before == after else f"{before} unit{'s' if before != 1 else ''} → {after}"


def _size(diff: Diff) -> Finding | None:
    """The weights as stored, and the compression ratio."""
    size = _total(diff, "bytes")
    if size is None or not size.change or not size.before or not size.after:
        return None
    if size.after < size.before:
        factor = f"{formatting.times(size.before / size.after)} smaller"
    else:
        factor = f"{formatting.times(size.after / size.before)} as large"
    return Finding(f"weights {changes.figures(size, 'bytes')}, {factor}", tone_of(size.verdict))


def _memory(diff: Diff) -> Finding | None:
    peak = _total(diff, MEMORY)
    if peak is None or peak.change is None:
        return None
    change = f" ({relative(peak)})" if peak.change else ""
    return Finding(f"peak memory {changes.figures(peak, MEMORY)}{change}", tone_of(peak.verdict))


def _accuracy(accuracy: Accuracy | None) -> Finding | None:
    """Accuracy, and the survey's ΔMS/ΔA."""
    if accuracy is None:
        return None
    name = formatting.line(accuracy.metric or "accuracy", 60)
    change = accuracy.after - accuracy.before
    head = f"{name} {accuracy.before:g} → {accuracy.after:g} ({change:+.3g} points)"
    detail = f"ΔMS {accuracy.size_drop:.1f} points, "
    if accuracy.size_drop_per_accuracy_drop is None:
        detail += "no accuracy lost" if change >= 0 else "nothing saved"
    else:
        detail += f"ΔMS/ΔA {accuracy.size_drop_per_accuracy_drop:,.1f}, the points of model size saved for each lost"
    return Finding(head, "worse" if change < 0 else "better" if change > 0 else "plain", detail)
