"""The survey's methods beside BERT-base: columns, cells and sentences, before they are set in any format."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from bertprof import formatting
from bertprof.components import Component
from bertprof.difference import Change, Verdict
from bertprof.report import beside
from bertprof.report.changes import Tone
from bertprof.survey.approaches import BASE
from bertprof.survey.methods import Measured, Methods, Metric, Part, Row

TITLE = "The survey's methods beside BERT-base"

GROUPS: Mapping[str, tuple[Component, ...]] = MappingProxyType(
    {
        "embedding": (Component.EMBEDDING,),
        "attention-linear": (Component.ATTENTION_LINEAR_IN, Component.ATTENTION_LINEAR_OUT),
        "softmax-attention": (Component.SOFTMAX_ATTENTION,),
        "ffn": (Component.FFN,),
        "recurrent": (Component.RECURRENT,),
        "convolution": (Component.CONVOLUTION,),
        "rest": (Component.ADD_NORM, Component.BOTTLENECK, Component.HEAD, Component.OTHER),
    }
)
"""The components as they are shown, each in one group."""

PANELS: Mapping[Metric, str] = MappingProxyType({"size": "Size", "macs": "MACs", "time": "Time"})
"""What is shown by component, and what it is called."""


@dataclass(frozen=True)
class Column:
    """One column beside the methods' names: what stands in it (see `cell`), and its header."""

    field: str
    header: str


COLUMNS: tuple[Column, ...] = (
    Column("columns", "Table 1"),
    Column("size", "size %"),
    Column("parameters", "weights %"),
    Column("macs", "MACs %"),
    Column("time", "time %"),
    Column("speedup", "speed-up"),
    Column("later_size", "2021 size %"),
    Column("later_speed", "GPU/CPU"),
)
WORDS = ("columns", "speedup", "later_speed")
"""Columns of words, which are set left."""

_TONES: Mapping[Verdict, Tone] = MappingProxyType({"faster": "better", "slower": "worse", "inconclusive": "open"})


def rows(document: Methods) -> list[Row]:
    """BERT-base and the methods."""
    return [document.base, *document.rows]


def columns(document: Methods) -> list[Column]:
    """The columns in which something stands."""
    return [column for column in COLUMNS if any(cell(row, column.field) != "–" for row in rows(document))]


def groups(document: Methods) -> list[str]:
    """The groups that cost something in BERT-base or in a method."""
    return [name for name in GROUPS if any(_costs(row.measured, name) for row in rows(document) if row.measured)]


def panels(document: Methods) -> list[Metric]:
    """What is shown by component of a document."""
    return [metric for metric in PANELS if metric != "time" or document.timed]


def panel_caption(metric: Metric) -> str:
    """What stands above such a table."""
    return f"{PANELS[metric]} by component, % of all of BERT-base"


def _costs(measured: Measured, group: str) -> bool:
    return any(
        change.before or change.after for part in measured.of(*GROUPS[group]) for change in part.metrics.values()
    )


# Cells ----------------------------------------------------------------------------------------------------------------


def cell(row: Row, field: str) -> str:
    """What stands in a column; a dash for what there is not."""
    match field:
        case "columns":
            return short_columns(row.columns)
        case "size" | "parameters" | "macs":
            return percent(None if row.measured is None else row.measured.percent(field))
        case "time":
            return _time(row.measured)
        case "speedup":
            return _speedup(row)
        case "later_size":
            return "–" if row.later is None else f"{row.later.size:g}"
        case _:
            return _later_speed(row)


def short_columns(names: Sequence[str]) -> str:
    """Columns of Table 1, what they have in common once: KD-EO, OL."""
    found: list[str] = []
    branch = None
    for name in names:
        own, separator, rest = formatting.line(name, 20).partition("-")
        found.append(rest if separator and own == branch else f"{own}{separator}{rest}")
        branch = own
    return ", ".join(found) or "–"


def percent(value: float | None) -> str:
    """A figure in % of BERT-base: 60.6, little as 0.55, nothing as 0."""
    if value is None or value == 0:
        return "–" if value is None else "0"
    return f"{value:.{1 if value >= 0.995 else 2}f}"


def group_cell(row: Row, metric: Metric, group: str | None) -> str:
    """What a group costs in % of all of BERT-base; all groups together where it is None."""
    measured = row.measured
    if measured is None:
        return "–"
    return percent(measured.percent(metric, None if group is None else measured.of(*GROUPS[group])))


def _timed(measured: Measured | None) -> Change | None:
    """The change of the latency, where the time is that of the weights as they are stored."""
    if measured is None or measured.no_kernel or measured.before is None:
        return None
    return measured.total.get("time")


def _time(measured: Measured | None) -> str:
    change = _timed(measured)
    if change is None or change.ratio is None:
        return "–"
    text = percent(100 * change.ratio)
    if change.low is None or change.high is None:
        return text
    return f"{text} [{percent(100 * change.low)}, {percent(100 * change.high)}]"


def _speedup(row: Row) -> str:
    if row.name == BASE.name:
        return "1x"
    if row.failed is not None or row.why_not is not None:
        return "failed" if row.failed is not None else "not run"
    if row.measured is not None and row.measured.no_kernel and row.measured.before is not None:
        return "no kernel: dequantised"
    change = _timed(row.measured)
    if change is None:
        return "–"
    if not change.ratio:
        return str(change.verdict)
    return f"{formatting.three(1 / change.ratio)}x {change.verdict}"


def _later_speed(row: Row) -> str:
    if row.later is None:
        return "–"
    speedups = (row.later.gpu_speedup, row.later.cpu_speedup)
    return "/".join("–" if value is None else f"{value:g}x" for value in speedups)


def tone(row: Row, field: str) -> Tone:
    """How a cell is coloured; what it means stands in words as well."""
    if field != "speedup":
        return "plain"
    if row.failed is not None:
        return "worse"
    change = _timed(row.measured)
    return "plain" if change is None else _TONES.get(change.verdict, "plain")


# In sentences ---------------------------------------------------------------------------------------------------------


def name(row: Row) -> str:
    """A method's name."""
    return formatting.line(row.name, 60)


def name_with_work(row: Row) -> str:
    """The same, with the lengths of the segments where it has some of its own."""
    return name(row) + (f" ({' + '.join(map(str, row.segments))})" if row.segments else "")


def bar_label(row: Row, metric: Metric) -> str:
    """What stands at the end of a bar: its length; of a time also whether that is faster, or why there is none."""
    if row.measured is None:
        return "failed" if row.failed is not None else "not run"
    figure = percent(row.measured.percent(metric))
    if metric != "time" or row.name == BASE.name:
        return figure
    speedup = _speedup(row)
    return speedup if figure == "–" else f"{figure}, {speedup}"


def headline(document: Methods) -> str:
    """The answer in a few sentences, from the document alone."""
    found = [(row, row.measured) for row in document.rows if row.measured is not None]
    smaller = [row for row, measured in found if (measured.percent("size") or 0) < 100]
    text = f"{len(smaller)} of {len(found)} measured methods are smaller than BERT-base"
    if not document.timed:
        return f"{text}; time was not measured."
    timed = {row.name: change for row, measured in found if (change := _timed(measured)) is not None}
    faster = [each for each, change in timed.items() if change.verdict == "faster"]
    text += f", {len(faster)} are surely faster."
    if faster:
        best = min(faster, key=lambda each: timed[each].ratio or 1)
        text += f" The fastest is {formatting.line(best, 60)}, {formatting.three(1 / (timed[best].ratio or 1))} times."
    idle = [name(row) for row in smaller if row.name not in faster]
    return f"{text} Smaller, and not surely faster: {', '.join(idle)}." if idle else text


def details(row: Row, brief: bool = False) -> list[str]:
    """What must be known of a method: what it is, how sure that is, what is published, what went wrong.

    Args:
        row: the method.
        brief: without what the table itself tells.
    """
    if row.name == BASE.name:
        return []
    found = [f"{row.paper}; Section {row.section}; {short_columns(row.columns)}"]
    if row.model is not None:
        found.append(f"Runs ({row.sure}): {row.runs}")
    found.append(f"Published: {row.published}")
    if row.later is not None and not brief:
        found.append(_later(row))
    if row.measured is not None:
        found += _measured(row.measured)
    if row.why_not is not None:
        found.append(f"Not run: {row.why_not}")
    if row.failed is not None:
        found.append(f"Failed: {row.failed}")
    if row.apart is not None:
        found.append(f"Counted in no column of Table 1: {row.apart}")
    found += [f"Caveat: {caveat}" for caveat in _caveats(row)]
    found += row.notes
    sentences = beside.sentences(found)
    if row.model is not None:
        sentences.append(f"By itself: {beside.command(BASE.model, row.model, row.settings, row.segments)}")
    return sentences


def _later(row: Row) -> str:
    later = row.later
    assert later is not None
    return (
        f"The later edition ({later.sure}): {later.size:g} % of the size, {later.size_without_embedding:g} % without "
        f"embeddings; speed-up {_later_speed(row)} (GPU/CPU)"
    )


def _measured(measured: Measured) -> list[str]:
    text = [f"{formatting.size(after)} of {formatting.size(before)}" for before, after in [_figures(measured, "bytes")]]
    text += [f"{formatting.count(a)} of {formatting.count(b)} MACs" for b, a in [_figures(measured, "macs")]]
    if measured.before is not None and measured.after is not None:
        text.append(beside.timed(measured.after, measured.before, measured.samples))
    found = [f"Here: {'; '.join(text)}"]
    if measured.no_kernel:
        found.append("No kernel runs weights so stored: they are executed dequantised, in the time of the float model")
    return found


def _figures(measured: Measured, metric: str) -> tuple[float, float]:
    change = measured.total[metric]
    return change.before or 0, change.after or 0


def legend(document: Methods) -> list[str]:
    """What the columns mean, and what holds for all methods."""
    base = document.base.measured
    assert base is not None
    found = [
        f"% of BERT-base: {formatting.size(base.total['bytes'].before or 0)} as stored, "
        f"{formatting.count(base.total['parameters'].before or 0)} weights (of a method those that are not zero), "
        f"{formatting.count(base.total['macs'].before or 0)} MACs"
    ]
    if document.timed:
        found.append(
            "time: of the model / of BERT-base, both interleaved in one process, with its 95 % interval; speed-up: its "
            f"inverse; faster or slower where the interval is beyond ±{100 * document.margin:g} %, same where it is "
            "within; a component's time is its share of the forward with marks"
        )
    if any(row.later is not None for row in document.rows):
        found.append("2021, GPU/CPU: size and speed-ups that the survey's later edition prints")
    return [*found, *(formatting.line(note) for note in document.notes)]


def caveats(document: Methods) -> list[str]:
    """Which methods have caveats; these stand in their details."""
    names = [name(row) for row in document.rows if has_caveats(row)]
    everywhere = len(names) == sum(row.measured is not None for row in document.rows)
    return [f"caveats of {'all methods' if everywhere else ', '.join(names)}: see each"] if names else []


def has_caveats(row: Row) -> bool:
    """Whether a method has caveats in its details."""
    return bool(_caveats(row))


def _caveats(row: Row) -> list[str]:
    return [] if row.measured is None else beside.caveats(row.measured.caveats)


# For a program --------------------------------------------------------------------------------------------------------


def records(document: Methods) -> list[dict[str, object]]:
    """One entry a method and scope, "total" or a component, units in the names; None for what is not known.

    `..._percent` is of all of BERT-base.
    """
    return [record for row in rows(document) for record in _records(row)]


def total_record(row: Row) -> dict[str, object]:
    """What a method costs as a whole, with its `speedup`, None where its time is not that of the weights as stored."""
    timed = _timed(row.measured)
    return {**_records(row)[0], "speedup": None if timed is None or not timed.ratio else 1 / timed.ratio}


def _records(row: Row) -> list[dict[str, object]]:
    measured = row.measured
    if measured is None:
        return [_record(row, None, "total", {}, None)]
    scopes = [_record(row, measured, "total", measured.total, None)]
    scopes += [_record(row, measured, part.component, part.metrics, [part]) for part in measured.parts]
    return scopes


def _record(
    row: Row, measured: Measured | None, scope: str, metrics: Mapping[str, Change], parts: list[Part] | None
) -> dict[str, object]:
    metrics_: Sequence[Metric] = ("size", "parameters", "macs", "time")
    time = metrics.get("time")
    whole = scope == "total"
    later = row.later if whole else None
    return {
        "method": row.name,
        "table1": " ".join(row.columns) or None,
        "sure": row.sure,
        "model": row.model,
        "settings": " ".join(row.settings) or None,
        "segments": None if row.segments is None else "+".join(map(str, row.segments)),
        "scope": str(scope),
        **{
            f"{'base_' if side == 'before' else ''}{count}": None
            if count not in metrics
            else getattr(metrics[count], side)
            for count in ("parameters", "nonzero_parameters", "bytes", "macs")
            for side in ("before", "after")
        },
        **{f"{metric}_percent": None if measured is None else measured.percent(metric, parts) for metric in metrics_},
        "base_time_ms": None if time is None else time.before,
        "time_ms": None if time is None else time.after,
        "time_ratio": None if time is None else time.ratio,
        "time_ratio_low": None if time is None else time.low,
        "time_ratio_high": None if time is None else time.high,
        "verdict": None
        if time is None
        else "no kernel: dequantised"
        if measured is not None and measured.no_kernel
        else time.verdict,
        "rounds": None if measured is None else measured.samples,
        "later_size_percent": None if later is None else later.size,
        "later_size_without_embedding_percent": None if later is None else later.size_without_embedding,
        "later_gpu_speedup": None if later is None else later.gpu_speedup,
        "later_cpu_speedup": None if later is None else later.cpu_speedup,
        "not_run": row.why_not,
        "failed": row.failed,
        "notes": (" ".join(row.notes) or None) if whole else None,
    }
