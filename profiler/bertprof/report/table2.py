"""Table 2 of the survey beside ours: columns and cells, before they are set in any format."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from bertprof import formatting
from bertprof.difference import Verdict
from bertprof.report.changes import Tone
from bertprof.survey import systems
from bertprof.survey.table2 import Row, Run, Table2

Part = Literal["cost", "later", "accuracy"]


@dataclass(frozen=True)
class Column:
    """One column beside the rows' names.

    Attributes:
        field: what stands in it; see `cell`.
        group: what it has in common with its neighbours.
        short: the same in few letters.
        header: what it is among these.
        part: the part of the table in which it stands.
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
_WITH = ("size, % of BERT-base", "size%")
_WITHOUT = ("size without embedding, %", "no emb.")
_LATER_SPEED = ("speed-up", "speed")
_LATER_ACCURACY = ("accuracy/F1, later edition", "acc./F1")

COLUMNS: tuple[Column, ...] = (
    Column("printed_size", *_SIZE, "print", "cost"),
    Column("rule_percent", *_SIZE, "rule", "cost"),
    Column("percent", *_SIZE, "bytes", "cost"),
    Column("percent_without_embedding", *_SIZE, "no emb.", "cost"),
    Column("nonzero_percent", *_SIZE, "not zero", "cost"),
    Column("printed_speedup", *_SPEED, "print", "cost"),
    Column("macs", *_SPEED, "MACs", "cost"),
    Column("speedup", *_SPEED, "here", "cost"),
    Column("later_size", *_WITH, "later", "later"),
    Column("own_size", *_WITH, "here", "later"),
    Column("later_rest", *_WITHOUT, "later", "later"),
    Column("own_rest", *_WITHOUT, "here", "later"),
    Column("gpu_speedup", *_LATER_SPEED, "GPU", "later"),
    Column("cpu_speedup", *_LATER_SPEED, "CPU", "later"),
    Column("here", *_LATER_SPEED, "here", "later"),
    Column("later_mnli", *_LATER_ACCURACY, "MNLI", "later"),
    Column("later_qqp", *_LATER_ACCURACY, "QQP", "later"),
    Column("later_sst2", *_LATER_ACCURACY, "SST-2", "later"),
    Column("later_squad_f1", *_LATER_ACCURACY, "SQuAD", "later"),
    Column("mnli", *_ACCURACY, "MNLI", "accuracy"),
    Column("qqp", *_ACCURACY, "QQP", "accuracy"),
    Column("sst2", *_ACCURACY, "SST-2", "accuracy"),
    Column("squad_f1", *_ACCURACY, "SQuAD", "accuracy"),
    Column("printed_ratio", *_RATIO, "print", "accuracy"),
    Column("ratio", *_RATIO, "computed", "accuracy"),
)

TITLE = "The survey's Table 2, printed beside computed and measured"
SURVEY = "Ganesh et al. 2020, arXiv 2002.11985v1"
PARTS: Mapping[Part, str] = MappingProxyType(
    {
        "cost": "Size and speed",
        "later": "The later edition's figures, and ours",
        "accuracy": "Accuracy, as printed",
    }
)
"""The parts of the table, each a table of its own, and their titles."""

LONGEST_CELL = 160
"""Characters of a reason in a cell; all of it stands below the table."""

_TONES: Mapping[Verdict, Tone] = MappingProxyType({"faster": "better", "slower": "worse", "inconclusive": "open"})


@dataclass(frozen=True)
class Line:
    """One line of the table: a row, or below one what runs without a cache.

    Attributes:
        row: the row.
        run: what was found, of the row's model or of its uncached one.
        share: the embedding's part of BERT-base's bytes.
    """

    row: Row
    run: Row | Run
    share: float

    @property
    def variant(self) -> str | None:
        """Which of two it is, where a row has two."""
        if self.row.uncached is None:
            return None
        return "cached" if self.run is self.row else "uncached"

    @property
    def first(self) -> bool:
        """Whether it is the row's own line, where what is printed stands."""
        return self.run is self.row


def lines_of(table: Table2, part: Part) -> list[Line]:
    """The lines of a part of the table; of the later edition those that it has.

    What runs without a cache has one where there is something to say of it.
    """
    share = table.baseline.embedding_bytes / table.baseline.bytes
    rows = [row for row in table.rows if part != "later" or row.later is not None]
    both = part == "cost" or (part == "later" and table.timed)
    return [Line(row, run, share) for row in rows for run in (row, row.uncached if both else None) if run is not None]


def columns(table: Table2, part: Part) -> list[Column]:
    """The columns of a part of the table. One in which nothing stands is left out, as are speeds not asked for."""
    chosen = [c for c in COLUMNS if c.part == part and (table.timed or c.field not in ("speedup", "here"))]
    found = lines_of(table, part)
    return [column for column in chosen if any(cell(line, column.field) not in ("–", "") for line in found)]


def cell(line: Line, field: str) -> str:
    """What stands in a column; a dash for what there is not, nothing for what the line above says."""
    match field:
        case "percent" | "percent_without_embedding" | "nonzero_percent":
            percent = None if line.run.size is None else getattr(line.run.size, field)
            return "–" if percent is None else _percent(percent)
        case "macs":
            return "–" if line.run.macs is None else times(line.run.macs.factor)
        case "speedup":
            return _speedup(line)
        case "here":
            return _here(line)
        case _ if not line.first:
            return ""
        case _:
            return _later(line, field) if field in _LATER_FIELDS else _printed(line.row, field)


_LATER_FIELDS = frozenset(column.field for column in COLUMNS if column.part == "later")


def _printed(row: Row, field: str) -> str:
    """What is printed, and what follows from that alone."""
    printed = row.printed
    match field:
        case "printed_size":
            return f"{printed.size:g}"
        case "rule_percent":
            return "–" if row.size is None else _percent(row.size.printed_rule_percent)
        case "printed_speedup":
            return "–" if printed.speedup is None else f"{printed.speedup:g}x{'*' if printed.averaged else ''}"
        case "qqp":
            found = [points(value) for value in (printed.qqp_accuracy, printed.qqp_f1)]
            return "–" if found == ["–", "–"] else "/".join(found)
        case "printed_ratio":
            return "–" if printed.size_per_accuracy is None else f"{printed.size_per_accuracy:g}"
        case "ratio":
            if row.size_per_accuracy is None:
                return "–"
            return f"{'≠ ' if row.misprinted else ''}{row.size_per_accuracy:.2f}"
        case _:
            return points(getattr(printed, field))


def _later(line: Line, field: str) -> str:
    """What the later edition prints, and our sizes beside it: at its setting, where that is another."""
    later = line.row.later
    if later is None:
        return "–"
    match field:
        case "later_size":
            return f"{later.size:g}"
        case "later_rest":
            return f"{later.size_without_embedding:g}"
        case "own_size" | "own_rest":
            found = beside_later(line)
            return "–" if found is None else _percent(found[field == "own_rest"])
        case "gpu_speedup" | "cpu_speedup":
            speedup = getattr(later, field)
            return "–" if speedup is None else f"{speedup:g}x"
        case _:
            return points(getattr(later, field.removeprefix("later_")))


def beside_later(line: Line) -> tuple[float, float] | None:
    """Our sizes with and without embedding that belong beside the later edition's, in % of BERT-base's.

    As counted; by arithmetic where the later edition's setting is not the row's.
    """
    later, size = line.row.later, line.row.size
    if later is not None and later.setting is not None:
        return later.setting.percent(line.share), later.setting.percent_without_embedding
    return None if size is None else (size.percent, size.percent_without_embedding)


def _percent(value: float) -> str:
    return f"{value:.{1 if value >= 0.995 else 2}f}"


def times(factor: float) -> str:
    """A factor as the survey writes it: 1.63x."""
    return f"{formatting.three(factor)}x"


def points(value: float | None) -> str:
    """An accuracy or F1 as the survey writes it."""
    return "–" if value is None else f"{value:.1f}"


def _speedup(line: Line) -> str:
    if line.run.model == systems.BASELINE:
        return "1x"
    if line.run.failed is not None:
        return formatting.line(f"failed: {line.run.failed}", LONGEST_CELL)
    if line.row.why_not is not None:
        return formatting.line(f"not run: {line.row.why_not}", LONGEST_CELL)
    speed = line.run.speed
    if speed is None:
        return "–"
    if speed.no_kernel:
        return "no kernel: dequantised"
    if speed.speedup is None:
        return str(speed.verdict)
    figures = times(speed.speedup)
    if speed.low is not None and speed.high is not None:
        figures += f" [{formatting.three(speed.low)}, {formatting.three(speed.high)}]"
    return f"{figures} {speed.verdict}"


def _here(line: Line) -> str:
    """The measured speed-up alone; a dash where the later edition's is of another setting."""
    later, speed = line.row.later, line.run.speed
    if later is None or later.setting is not None or speed is None or speed.speedup is None:
        return "–"
    return times(speed.speedup)


def tone(line: Line, field: str) -> Tone:
    """How a cell is coloured; what it means stands in words or signs as well."""
    if field == "ratio":
        return "open" if line.first and line.row.misprinted else "plain"
    if field != "speedup":
        return "plain"
    if line.run.failed is not None:
        return "worse"
    speed = line.run.speed
    return "plain" if speed is None or speed.no_kernel else _TONES.get(speed.verdict, "plain")


def name(row: Row) -> str:
    """A row's label and its system."""
    label, system = formatting.line(row.label, 60), formatting.line(row.system, 60)
    return label if label == system else f"{label} · {system}"


def system(line: Line, part: Part) -> str:
    """What a line is called beside the row's label, without which of two it is."""
    later = line.row.later
    if part == "later" and later is not None and later.setting is not None:
        return f"{formatting.line(later.setting.name, 60)} †"
    return formatting.line(line.row.system, 60)


def in_line(line: Line, part: Part) -> tuple[str, str]:
    """Label and system, with which of two it is behind a comma."""
    variant = "" if line.variant is None or part == "accuracy" else f", {line.variant}"
    return formatting.line(line.row.label), f"{system(line, part)}{variant}"


def baseline(table: Table2) -> Row:
    """The row that the others are relative to: the first."""
    return table.rows[0]


def records(table: Table2) -> list[dict[str, object]]:
    """One entry a line for a program to read, units in the names; None for what is not known.

    What is printed stands in the row's own line only.
    """
    return [record(line) for line in lines_of(table, "cost")]


_SIZED = (
    "parameters",
    "nonzero_parameters",
    "bytes",
    "embedding_bytes",
    "printed_rule_percent",
    "percent",
    "percent_without_embedding",
    "nonzero_percent",
)
_PRINTED = ("mnli", "qqp_accuracy", "qqp_f1", "sst2", "squad_f1", "size_per_accuracy")
_LATER = ("gpu_speedup", "cpu_speedup", "mnli", "qqp", "sst2", "squad_f1", "sure")


def record(line: Line) -> dict[str, object]:
    """The entry of a line; see `records`."""
    row, run = line.row, line.run
    size, macs, speed = run.size, run.macs, run.speed
    p, later = (row.printed, row.later) if line.first else (None, None)
    beside = None if later is None else beside_later(line)
    return {
        "row": row.label,
        "system": row.system,
        "variant": line.variant,
        "sure": row.sure,
        "model": run.model,
        "settings": " ".join(row.settings) or None,
        "segments": None if row.segments is None else " ".join(map(str, row.segments)),
        "printed_size_percent": None if p is None else p.size,
        **{field: None if size is None else getattr(size, field) for field in _SIZED},
        "printed_speedup": None if p is None else p.speedup,
        "macs": None if macs is None else macs.after,
        "baseline_macs": None if macs is None else macs.before,
        "macs_factor": None if macs is None else macs.factor,
        "speedup": None if speed is None else speed.speedup,
        "speedup_low": None if speed is None else speed.low,
        "speedup_high": None if speed is None else speed.high,
        "verdict": None if speed is None else "no kernel: dequantised" if speed.no_kernel else speed.verdict,
        "time_ms": None if speed is None else speed.after.median_ms,
        "baseline_time_ms": None if speed is None else speed.before.median_ms,
        "rounds": None if speed is None else speed.samples,
        "later_setting": None if later is None or later.setting is None else later.setting.text,
        "later_size_percent": None if later is None else later.size,
        "beside_later_percent": None if beside is None else beside[0],
        "later_size_percent_without_embedding": None if later is None else later.size_without_embedding,
        "beside_later_percent_without_embedding": None if beside is None else beside[1],
        **{f"later_{field}": None if later is None else getattr(later, field) for field in _LATER},
        **{f"printed_{field}": None if p is None else getattr(p, field) for field in _PRINTED},
        "size_per_accuracy": row.size_per_accuracy if line.first else None,
        "not_run": row.why_not,
        "failed": run.failed,
        "notes": " ".join(row.notes) or None,
    }
