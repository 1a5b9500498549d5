"""Lines: what every report says of a diff beside its table and its findings, the gates above all."""

from collections import Counter
from dataclasses import dataclass

from bertprof import formatting
from bertprof.conditions import dequantised
from bertprof.difference import Diff, Gate, Side
from bertprof.report import lines
from bertprof.report.changes import Tone


def title(diff: Diff) -> str:
    """What is compared."""
    names = [formatting.line(side.name, 100) for side in (diff.before, diff.after)]
    if names[0] == names[1]:
        own = sides(diff)
        names = [
            f"{name} ({formatting.line(own[key], 60)})" if own.get(key) else name
            for name, key in zip(names, ("before", "after"), strict=True)
        ]
    return " → ".join(names)


def sides(diff: Diff) -> dict[str, str]:
    """What both sides have in common and what each is, by "both", "before" and "after"; nothing where one has none."""
    a, b = _described(diff.before), _described(diff.after)
    if diff.before.workload.model != diff.after.workload.model or diff.before.name != diff.after.name:
        del a["config"], b["config"]  # the names tell them apart
    common, own = lines.told_apart([a, b])
    return {name: text for name, text in zip(("both", "before", "after"), (common, *own), strict=True) if text}


def _described(side: Side) -> dict[str, str]:
    """The workload, by what it is about; dtype, attention, backend and recipes always."""
    w = side.workload
    parts = {"units": f"{side.units} unit{'s' if side.units != 1 else ''}"}
    if side.name not in (w.model, "+".join([w.model, *w.recipes])):
        parts = {"model": f"model {w.model}", **parts}
    parts["config"] = f"configuration {w.config_sha256[:7]}"
    parts |= lines.workload_parts(w, side.samples is not None)
    parts["backend"] = w.backend
    if side.samples is not None and dequantised(side):
        parts["kernel"] = lines.NO_KERNEL
    parts["recipes"] = f"recipes {', '.join(w.recipes)}" if w.recipes else "no recipes"
    if side.checkpoint is not None:
        c = side.checkpoint
        parts["checkpoint"] = f"{c.format} of {formatting.size(c.file_bytes)} on disk"
    return {key: formatting.line(text) for key, text in parts.items()}


def machines(diff: Diff) -> list[str]:
    """The machine and the versions, one line where they are the same on both sides."""
    both = (lines.machine_line(side.host, side.workload.device) for side in (diff.before, diff.after))
    a, b = map(formatting.line, both)
    return [a] if a == b else [f"before: {a}", f"after: {b}"]


def environment(diff: Diff) -> list[tuple[str, str, str]]:
    """All that is known of machine, versions and measurement: what it is, before, after."""
    a, b = (_environment(side) for side in (diff.before, diff.after))
    return [(name, a.get(name, "–"), b.get(name, "–")) for name in dict.fromkeys((*a, *b))]


def _environment(side: Side) -> dict[str, str]:
    parts = {
        **lines.machine_parts(side.host),
        "bertprof": side.bertprof_version,
        "measured": side.created,
        "repeats": side.samples,
        "processes": side.samples and side.processes,
        "configuration": side.workload.config_sha256[:12],
    }
    return {name: formatting.line(str(value), 100) for name, value in parts.items() if value}


def margin(diff: Diff) -> str:
    """By how much a ratio may be off 1 and still count as no change: ±2 %."""
    return f"±{100 * diff.margin:g} %"


def notes(diff: Diff) -> list[str]:
    """How times were compared and how far that can be trusted."""
    found = []
    if diff.times == "rounds":
        number = diff.before.processes
        where = "one process" if number == 1 else f"{number} processes"
        found.append(f"times: interleaved in {diff.before.samples} rounds of {where}, compared round by round")
    elif diff.times == "processes":
        found.append(f"times: of {diff.before.processes} processes before and {diff.after.processes} after")
    if diff.yardstick_ratio is not None:
        found.append(_yardstick(diff, diff.yardstick_ratio))
    if diff.times in ("rounds", "processes"):
        found.append(
            f"a change of a time within {margin(diff)} counts as none; intervals are at 95 %, verdicts are "
            "corrected for the number of rows (Holm)"
        )
    if any(row.scope.startswith("after.") for row in diff.at("unit")):
        found.append(f"{diff.before.units} units before, {diff.after.units} after: single units do not correspond")
    return found


FURTHEST_APART = 1.5
"""Beside a longer forward the caches and the clock are others, and so is the yardstick's time: from that ratio of the
latencies on, what it says of the machine is rough."""


def _yardstick(diff: Diff, ratio: float) -> str:
    """What the yardstick took, which is all that is known: what slowed it down may be the machine or the model."""
    took = f"{100 * abs(ratio - 1):.1f} % {'longer' if ratio > 1 else 'less time'}"
    text = f"the yardstick, a fixed BERT layer run in the same rounds, took {took} beside AFTER; "
    if diff.times != "processes":
        text += "times and their ratios are not corrected for it; the parts of the change and the waterfall's steps are"
        return text
    text += "changes of time are corrected for it (times before → after are as measured)"
    lengths = [side.latency.median_ms for side in (diff.before, diff.after) if side.latency is not None]
    if lengths and max(lengths) > FURTHEST_APART * min(lengths):
        text += ", which is rough where the models differ this much in length; measure both together (diff MODEL MODEL)"
    return text


def caveats(diff: Diff) -> list[str]:
    """The caveats of the comparison and of both sides, one line each; one that both have stands once."""
    own = [formatting.line(caveat.text) for caveat in diff.caveats]
    before, after = ([formatting.line(caveat.text) for caveat in side.caveats] for side in (diff.before, diff.after))
    of_sides = [f"{'both sides' if text in after else 'before'}: {text}" for text in before]
    of_sides += [f"after: {text}" for text in after if text not in before]
    return list(dict.fromkeys([*own, *of_sides]))


# Gates ----------------------------------------------------------------------------------------------------------------

_ORDER = ("failed", "warning", "not comparable", "inconclusive", "passed")
_TONES: dict[str, Tone] = {"failed": "worse", "passed": "better"}


@dataclass(frozen=True)
class GateLine:
    """What one gate says.

    `answer` is its outcome, "warning" where it failed and only warns; `row` what it is about; `reason` a sentence that
    names the row; `gate` the gate as it was written, and where.
    """

    answer: str
    row: str
    reason: str
    gate: str
    tone: Tone


def gates(diff: Diff) -> list[GateLine]:
    """A line for each gate, failed ones first."""
    found = [
        GateLine(
            answer=_answer(gate),
            row=formatting.line(f"{gate.scope}.{gate.metric}", 60),
            reason=formatting.line(gate.reason),
            gate=formatting.line(f"{gate.kind} {gate.text}, {gate.origin}"),
            tone=_TONES.get(_answer(gate), "open"),
        )
        for gate in diff.gates
    ]
    return sorted(found, key=lambda line: _ORDER.index(line.answer))


def _answer(gate: Gate) -> str:
    return "warning" if gate.kind == "warn-on" and gate.outcome == "failed" else gate.outcome


_MOST_NAMED = 5


def verdict(diff: Diff) -> tuple[str, Tone] | None:
    """All gates in one line, "2 of 5 gates failed: ffn.time, total.time"; None where there are none."""
    found = gates(diff)
    if not found:
        return None
    count = Counter(line.answer for line in found)
    if count["passed"] == len(found):
        return f"all {len(found)} gates passed" if len(found) > 1 else "the gate passed", "better"
    parts: list[str] = []
    for answer in _ORDER[:-1]:
        if count[answer]:
            of = f" of {len(found)} gate{'s' if len(found) > 1 else ''}" if not parts else ""
            said = "only warned" if answer == "warning" else answer
            parts.append(f"{count[answer]}{of} {said}: {_named([line.row for line in found if line.answer == answer])}")
    if count["passed"]:
        parts.append(f"{count['passed']} passed")
    return "; ".join(parts), "worse" if count["failed"] else "open"


def _named(rows: list[str]) -> str:
    rows = list(dict.fromkeys(rows))
    more = f" and {len(rows) - _MOST_NAMED} more" if len(rows) > _MOST_NAMED else ""
    return ", ".join(rows[:_MOST_NAMED]) + more
