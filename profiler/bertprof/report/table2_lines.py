"""Table 2 of the survey in sentences: what its columns mean, and what must be known of each row."""

from bertprof import formatting
from bertprof.report import beside
from bertprof.report.table2 import baseline, cell, lines_of, points, times
from bertprof.survey import systems
from bertprof.survey.later import Later, Setting
from bertprof.survey.table2 import Macs, Row, Speed, Table2

_CLOSE = 1.0
"""Points of BERT-base's size within which a size is the printed one."""


def headline(table: Table2) -> str:
    """The answer in two sentences, from the table alone: of each system its first row."""
    first = baseline(table)
    rows = [row for i, row in enumerate(table.rows) if row.system not in {each.system for each in table.rows[:i]}]
    sizes = [(row.printed.size, row.size) for row in rows if row is not first and row.size is not None]
    by_rule = sum(abs(size.printed_rule_percent - printed) <= _CLOSE for printed, size in sizes)
    stored = sum(abs(size.percent - printed) <= _CLOSE for printed, size in sizes)
    found = []
    if sizes:
        found.append(
            f"Of {len(sizes)} sizes {by_rule} are within {_CLOSE:g} point of the printed ones, counted by the same "
            f"rule, {stored} as the weights are stored."
        )
    if not table.timed:
        return " ".join([*found, "Time was not measured."])
    timed = [(row.speed, row.system) for row in rows if row is not first and row.speed and row.speed.speedup]
    faster = [(speed.speedup or 0, system) for speed, system in timed if speed.verdict == "faster"]
    text = f"Of {len(timed)} systems timed here {len(faster)} are surely faster than BERT-base"
    if faster:
        best, system = max(faster)
        text += f"; the fastest is {formatting.line(system, 60)}, {formatting.three(best)} times"
    return " ".join([*found, f"{text}."])


def details(table: Table2, row: Row, brief: bool = False) -> list[str]:
    """What must be known of a row: which system it is, how its figures come about, what is wrong with them.

    Args:
        table: in which it stands.
        row: the row.
        brief: without what the table itself tells, and how to run it.
    """
    first = baseline(table)
    if brief and row is first:
        return []
    found = [f"{row.paper}; {row.sure}: {row.known_by}", f"Printed size: {row.printed_size}"]
    if row.size is not None:
        found.append(f"Size here: {row.size.arithmetic}")
    if row.segments is not None:
        found.append(f"Run, like BERT-base beside it, on {' + '.join(map(str, row.segments))} tokens")
    for line in (line for line in lines_of(table, "cost") if line.row is row):
        which = f" {line.variant}" if line.variant else ""
        if line.run.macs is not None and (row.segments is not None or not brief):
            found.append(f"MACs{which}: {_factor(line.run.macs)}")
        if line.run.speed is not None:
            found.append(f"Time here{which}: {_timed(line.run.speed)}")
        # What is not in the cell, or not all of it.
        if line.run.failed is not None and not (
            brief and table.timed and cell(line, "speedup").endswith(line.run.failed)
        ):
            found.append(f"Failed{which}: {line.run.failed}")
    if row.misprinted or not brief:
        found += _ratio(row, first)
    if row.why_not is not None and not (brief and table.timed):
        found.append(f"Not run: {row.why_not}")
    if row.later is not None and row.later.setting is not None:
        found.append(_other_setting(table, row.later, row.later.setting))
    found += [f"Caveat: {caveat}" for caveat in _caveats(row)]
    found += row.notes
    return [*beside.sentences(found), *_commands(row)]


def _commands(row: Row) -> list[str]:
    """How to run a row by itself."""
    models = {"By itself": row.model, "Uncached": None if row.uncached is None else row.uncached.model}
    return [
        f"{word}: {beside.command(systems.BASELINE, model, row.settings, row.segments)}"
        for word, model in models.items()
        if model not in (None, systems.BASELINE)
    ]


def _factor(macs: Macs) -> str:
    """The arithmetic of a factor of multiply-accumulates."""
    return f"{formatting.count(macs.before)} / {formatting.count(macs.after)} = {times(macs.factor)}"


def _other_setting(table: Table2, later: Later, other: Setting) -> str:
    """That the later edition's figures are of another setting, and the arithmetic of their size."""
    share = table.baseline.embedding_bytes / table.baseline.bytes
    return (
        f"† Later edition: {other.text}, which is not run here; {other.embedding:.4g} × {100 * share:.1f} % + "
        f"{other.rest:.4g} × {100 * (1 - share):.1f} % = {other.percent(share):.1f} %, printed {later.size:g} %; "
        f"without the embedding {other.percent_without_embedding:.1f} %, printed {later.size_without_embedding:g} %"
    )


def _timed(speed: Speed) -> str:
    text = beside.timed(speed.after, speed.before, speed.samples)
    if speed.no_kernel:
        text += "; no kernel runs weights so stored: they are executed dequantised, in the time of the float model"
    return text


def _ratio(row: Row, first: Row) -> list[str]:
    """The arithmetic of ΔMS/ΔA."""
    printed, own = row.printed.size_per_accuracy, row.size_per_accuracy
    if own is None:
        return []
    says = ", not printed" if printed is None else f", printed {printed:g}"
    return [
        f"ΔMS/ΔA: ({first.printed.size:g} − {row.printed.size:g}) / ({points(first.printed.mnli)} − "
        f"{points(row.printed.mnli)}) = {own:.2f}{says}"
    ]


def legend(table: Table2) -> list[str]:
    """What the columns mean, and what holds for all rows."""
    base = table.baseline
    found = [
        f"size in % of BERT-base ({formatting.size(base.bytes)}, {formatting.size(base.embedding_bytes)} of it "
        "embedding). print: as printed; rule: ours by the rule of the printed figure; bytes: ours as stored; no emb.: "
        "the same without both embeddings; not zero: ours, in parameters"
    ]
    found.append("MACs: multiply-accumulates of BERT-base / those of the model at the same work, as counted")
    if table.timed:
        found.append(
            "speed here: time of BERT-base / time of the model, both interleaved in one process, with its 95 % "
            f"interval; faster or slower where all of that is beyond ±{100 * table.margin:g} %, same where it is within"
        )
    for row in table.rows:
        if row.uncached is not None and row.segments is not None:
            found.append(
                f"{formatting.line(row.system, 60)} cached: the lower units have encoded the second segment "
                "beforehand, which neither MACs nor time count; uncached: they run; both and BERT-base beside them on "
                f"{' + '.join(map(str, row.segments))} tokens"
            )
    if any(row.later is not None for row in table.rows):
        here = "CPU" if table.workload.device == "cpu" else "GPU"
        timed = f", speed here beside its {here}: both of this machine" if table.timed else ""
        found.append(
            "later: the survey's later edition (its Table 1), GPU and CPU its speed-ups; size here: ours as stored"
            f"{timed}. †: its figures are of another setting than the row's, ours by arithmetic: see the row"
        )
    found.append(
        "ΔMS/ΔA: points of printed size saved for each point of MNLI lost; ≠: not what is printed, cut off or rounded"
    )
    return [*found, *(formatting.line(note, 1000) for note in table.notes)]


def caveats(table: Table2) -> list[str]:
    """Which rows have caveats; these stand in their details."""
    names = dict.fromkeys(formatting.line(row.system, 60) for row in table.rows if has_caveats(row))
    everywhere = all(_caveats(row) for row in table.rows if row.speed is not None)
    return [f"caveats of the times of {'all rows' if everywhere else ', '.join(names)}: see each"] if names else []


def has_caveats(row: Row) -> bool:
    """Whether a row has caveats in its details."""
    return bool(_caveats(row))


def _caveats(row: Row) -> list[str]:
    speeds = [row.speed, None if row.uncached is None else row.uncached.speed]
    return beside.caveats(caveat for speed in speeds if speed is not None for caveat in speed.caveats)
