"""Table 2 of the survey beside ours: columns, cells and sentences, before they are set in any format."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from bertprof import formatting
from bertprof.difference import Verdict
from bertprof.report import lines
from bertprof.report.changes import Tone
from bertprof.survey import systems
from bertprof.survey.table2 import Row, Speed, Table2

Part = Literal["cost", "accuracy"]


@dataclass(frozen=True)
class Column:
    """One column beside the rows' names.

    Attributes:
        field: what stands in it; see `cell`.
        group: what it has in common with its neighbours.
        short: the same in few letters.
        header: what it is among these.
        part: the half of the table, where one table is too wide.
    """

    field: str
    group: str
    short: str
    header: str
    part: Part


_SIZE = ("size, % of BERT-base", "size%")
_SPEED = ("speed-up", "speed")
_ACCURACY = ("accuracy/F1 as printed", "acc./F1")
_RATIO = ("ΔMS/ΔA", "ΔMS/ΔA")

COLUMNS: tuple[Column, ...] = (
    Column("printed_size", *_SIZE, "print", "cost"),
    Column("rule_percent", *_SIZE, "rule", "cost"),
    Column("percent", *_SIZE, "bytes", "cost"),
    Column("percent_without_embedding", *_SIZE, "no emb.", "cost"),
    Column("nonzero_percent", *_SIZE, "not zero", "cost"),
    Column("printed_speedup", *_SPEED, "print", "cost"),
    Column("speedup", *_SPEED, "here", "cost"),
    Column("mnli", *_ACCURACY, "MNLI", "accuracy"),
    Column("qqp", *_ACCURACY, "QQP", "accuracy"),
    Column("sst2", *_ACCURACY, "SST-2", "accuracy"),
    Column("squad_f1", *_ACCURACY, "SQuAD", "accuracy"),
    Column("printed_ratio", *_RATIO, "print", "accuracy"),
    Column("ratio", *_RATIO, "computed", "accuracy"),
)

TITLE = "The survey's Table 2, printed beside computed and measured"
SURVEY = "Ganesh et al. 2020, arXiv 2002.11985v1"

LONGEST_CELL = 160
"""Characters of a reason in a cell; all of it stands below the table."""

_TONES: Mapping[Verdict, Tone] = MappingProxyType({"faster": "better", "slower": "worse", "inconclusive": "open"})


def columns(table: Table2, part: Part | None = None) -> list[Column]:
    """The columns of a half of the table, or of all of it. One in which nothing stands is left out."""
    chosen = [column for column in COLUMNS if part in (None, column.part)]
    return [column for column in chosen if any(cell(row, column.field) != "–" for row in table.rows)]


def cell(row: Row, field: str) -> str:
    """What stands in a column; a dash for what there is not."""
    printed, size = row.printed, row.size
    match field:
        case "printed_size":
            return f"{printed.size:g}"
        case "rule_percent":
            return "–" if size is None else _percent(size.printed_rule_percent)
        case "percent" | "percent_without_embedding" | "nonzero_percent":
            percent = None if size is None else getattr(size, field)
            return "–" if percent is None else _percent(percent)
        case "printed_speedup":
            return "–" if printed.speedup is None else f"{printed.speedup:g}x{'*' if printed.averaged else ''}"
        case "speedup":
            return _speedup(row)
        case "qqp":
            found = [_points(points) for points in (printed.qqp_accuracy, printed.qqp_f1)]
            return "–" if found == ["–", "–"] else "/".join(found)
        case "printed_ratio":
            return "–" if printed.size_per_accuracy is None else f"{printed.size_per_accuracy:g}"
        case "ratio":
            if row.size_per_accuracy is None:
                return "–"
            return f"{'≠ ' if row.misprinted else ''}{row.size_per_accuracy:.2f}"
        case _:
            return _points(getattr(printed, field))


def _percent(value: float) -> str:
    return f"{value:.{1 if value >= 0.995 else 2}f}"


def _points(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _speedup(row: Row) -> str:
    if row.model == systems.BASELINE:
        return "1x"
    if row.failed is not None:
        return formatting.line(f"failed: {row.failed}", LONGEST_CELL)
    if row.why_not is not None:
        return formatting.line(f"not run: {row.why_not}", LONGEST_CELL)
    speed = row.speed
    if speed is None:
        return "–"
    if speed.no_kernel:
        return "no kernel: dequantised"
    if speed.speedup is None:
        return str(speed.verdict)
    figures = f"{formatting.three(speed.speedup)}x"
    if speed.low is not None and speed.high is not None:
        figures += f" [{formatting.three(speed.low)}, {formatting.three(speed.high)}]"
    return f"{figures} {speed.verdict}"


def tone(row: Row, field: str) -> Tone:
    """How a cell is coloured; what it means stands in words or signs as well."""
    if field == "ratio":
        return "open" if row.misprinted else "plain"
    if field != "speedup":
        return "plain"
    if row.failed is not None:
        return "worse"
    return "plain" if row.speed is None or row.speed.no_kernel else _TONES.get(row.speed.verdict, "plain")


# In sentences ---------------------------------------------------------------------------------------------------------


def name(row: Row) -> str:
    """A row's label and its system."""
    label, system = formatting.line(row.label, 60), formatting.line(row.system, 60)
    return label if label == system else f"{label} · {system}"


def details(row: Row, baseline: Row, brief: bool = False) -> list[str]:
    """What must be known of a row: which system it is, how its figures come about, what is wrong with them.

    Args:
        row: the row.
        baseline: that of BERT-base.
        brief: without what the table itself tells, and how to run it.
    """
    if brief and row is baseline:
        return []
    found = [f"{row.paper}; {row.sure}: {row.known_by}", f"Printed size: {row.printed_size}"]
    if row.size is not None:
        found.append(f"Size here: {row.size.arithmetic}")
    if row.speed is not None:
        found.append(_timed(row.speed))
    if row.misprinted or not brief:
        found += _ratio(row, baseline)
    if row.why_not is not None and not brief:
        found.append(f"Not run: {row.why_not}")
    if row.failed is not None and not (brief and cell(row, "speedup").endswith(row.failed)):
        found.append(f"Failed: {row.failed}")
    found += [f"Caveat: {caveat}" for caveat in _caveats(row)]
    found += row.notes
    sentences = [sentence if sentence.endswith((".", "?")) else f"{sentence}." for sentence in found]
    if row.model not in (None, systems.BASELINE):
        asked = "".join(f" --after {setting}" for setting in row.settings)
        sentences.append(f"By itself: bertprof diff {systems.BASELINE} {row.model}{asked}")
    return [formatting.line(sentence, 1000) for sentence in sentences]


def _timed(speed: Speed) -> str:
    times = [
        f"{formatting.measured(latency.median_ms)} ms [{formatting.measured(latency.low_ms)}, "
        f"{formatting.measured(latency.high_ms)}]"
        for latency in (speed.after, speed.before)
    ]
    text = f"Time here: {times[0]} against {times[1]} of BERT-base in the same {speed.samples} rounds"
    if speed.no_kernel:
        text += "; no kernel runs weights so stored: they are executed dequantised, in the time of the float model"
    return text


def _ratio(row: Row, baseline: Row) -> list[str]:
    """The arithmetic of ΔMS/ΔA."""
    printed, own = row.printed.size_per_accuracy, row.size_per_accuracy
    if own is None:
        return []
    says = ", not printed" if printed is None else f", printed {printed:g}"
    return [
        f"ΔMS/ΔA: ({baseline.printed.size:g} − {row.printed.size:g}) / ({_points(baseline.printed.mnli)} − "
        f"{_points(row.printed.mnli)}) = {own:.2f}{says}"
    ]


def legend(table: Table2) -> list[str]:
    """What the columns mean, and what holds for all rows."""
    base = table.baseline
    found = [
        f"size in % of BERT-base ({formatting.size(base.bytes)}, {formatting.size(base.embedding_bytes)} of it "
        "embedding). print: as printed; rule: ours by the rule of the printed figure; bytes: ours as stored; no emb.: "
        "the same without both embeddings; not zero: ours, in parameters"
    ]
    if table.timed:
        found.append(
            "speed here: time of BERT-base / time of the model, both interleaved in one process, with its 95 % "
            f"interval; faster or slower where all of that is beyond ±{100 * table.margin:g} %, same where it is within"
        )
    found.append(
        "ΔMS/ΔA: points of printed size saved for each point of MNLI lost; ≠: not what is printed, cut off or rounded"
    )
    return [*found, *(formatting.line(note) for note in table.notes)]


def setting(table: Table2) -> list[str]:
    """The work and the machine."""
    parts = lines.workload_parts(table.workload, table.timed)
    return [", ".join(parts.values()), lines.machine_line(table.host, table.workload.device)]


_TOLD = ("marks", "time-not-split", "no-kernel", "mismatch", "quantised")
"""Codes of what stands in the cells already, and of what is about single components."""


def caveats(table: Table2) -> list[str]:
    """Which rows have caveats; these stand in their details."""
    names = dict.fromkeys(formatting.line(row.system, 60) for row in table.rows if _caveats(row))
    everywhere = all(_caveats(row) for row in table.rows if row.speed is not None)
    return [f"caveats of the times of {'all rows' if everywhere else ', '.join(names)}: see each"] if names else []


def _caveats(row: Row) -> list[str]:
    found = [] if row.speed is None else row.speed.caveats
    return list(dict.fromkeys(formatting.line(caveat.text) for caveat in found if caveat.code not in _TOLD))


def baseline(table: Table2) -> Row:
    """The row that the others are relative to: the first."""
    return table.rows[0]


def records(table: Table2) -> list[dict[str, object]]:
    """One entry a row for a program to read, units in the names; None for what is not known."""
    return [_record(row) for row in table.rows]


def _record(row: Row) -> dict[str, object]:
    p, size, speed = row.printed, row.size, row.speed
    sized: Sequence[str] = (
        "parameters",
        "nonzero_parameters",
        "bytes",
        "embedding_bytes",
        "printed_rule_percent",
        "percent",
        "percent_without_embedding",
        "nonzero_percent",
    )
    return {
        "row": row.label,
        "system": row.system,
        "sure": row.sure,
        "model": row.model,
        "settings": " ".join(row.settings) or None,
        "printed_size_percent": p.size,
        **{field: None if size is None else getattr(size, field) for field in sized},
        "printed_speedup": p.speedup,
        "speedup": None if speed is None else speed.speedup,
        "speedup_low": None if speed is None else speed.low,
        "speedup_high": None if speed is None else speed.high,
        "verdict": None if speed is None else "no kernel: dequantised" if speed.no_kernel else speed.verdict,
        "time_ms": None if speed is None else speed.after.median_ms,
        "baseline_time_ms": None if speed is None else speed.before.median_ms,
        "rounds": None if speed is None else speed.samples,
        "printed_mnli": p.mnli,
        "printed_qqp_accuracy": p.qqp_accuracy,
        "printed_qqp_f1": p.qqp_f1,
        "printed_sst2": p.sst2,
        "printed_squad_f1": p.squad_f1,
        "printed_size_per_accuracy": p.size_per_accuracy,
        "size_per_accuracy": row.size_per_accuracy,
        "not_run": row.why_not,
        "failed": row.failed,
        "notes": " ".join(row.notes) or None,
    }
