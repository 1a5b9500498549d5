"""Causes: what became of the size of a model, row by row, and of its kernels, from one side of a Diff to the other."""

from collections.abc import Sequence
from typing import NamedTuple

from bertprof import formatting
from bertprof.comparison import SHARE
from bertprof.components import GROUPS, Component
from bertprof.conditions import dequantised
from bertprof.difference import Diff, Row
from bertprof.report import changes

MOST = 0.8
"""Rows are named until they explain as much, MOST_NAMED at most."""

MOST_NAMED = 3


# What became of the size ---------------------------------------------------------------------------------------------


class Size(NamedTuple):
    """A figure of a model's size that changed: by which metric and what to call it, and both sides' totals."""

    metric: str
    name: str
    before: float
    after: float

    @property
    def shrank(self) -> bool:
        """Whether it is less after than before."""
        return self.after < self.before

    @property
    def ratio(self) -> float:
        """After / before."""
        return self.after / self.before

    @property
    def change(self) -> str:
        """The same in words: -41.0 %."""
        return formatting.relative(self.ratio)


def size_of(diff: Diff) -> Size | None:
    """The bytes as stored; the weights that are not zero, or all of them, where these changed and the bytes did not."""
    names = {"bytes": "bytes", "nonzero_parameters": "weights that are not zero", "parameters": "parameters"}
    for metric, name in names.items():
        figures = figures_of(diff, diff.row("total"), metric)
        if figures is not None and figures[0] and figures[0] != figures[1]:
            return Size(metric, name, *figures)
    return None


def figures_of(diff: Diff, row: Row, metric: str) -> tuple[float, float] | None:
    """Before and after; None where one is not known. Of random weights none is zero, which records leave open."""
    change = row.metrics.get(metric)
    before, after = (None, None) if change is None else (change.before, change.after)
    every = row.metrics.get("parameters")
    if metric == "nonzero_parameters" and every is not None:
        if before is None and after is not None and diff.before.workload.weights == "random":
            before = every.before
        elif after is None and before is not None and diff.after.workload.weights == "random":
            after = every.after
    return None if before is None or after is None else (before, after)


def ratio_of(diff: Diff, row: Row, metric: str) -> float | None:
    """After / before; None where one is not known or there is nothing before."""
    figures = figures_of(diff, row, metric)
    return None if figures is None or not figures[0] else figures[1] / figures[0]


# What it is made of --------------------------------------------------------------------------------------------------


def causes_of(diff: Diff, size: Size) -> list[str]:
    """What the change of size is made of, where the work stayed, the largest part first."""
    kinds: dict[str, list[tuple[float, Row]]] = {}
    for row in changes.parts(diff):
        before, after = figures_of(diff, row, size.metric) or (0.0, 0.0)
        part = (after - before) / (size.after - size.before)
        if part > 0:
            kinds.setdefault(_kind(diff, row, size), []).append((part, row))
    texts: list[str] = []
    covered = 0.0
    for kind, rows in sorted(kinds.items(), key=lambda item: -sum(part for part, _ in item[1])):
        if covered >= MOST or len(texts) == MOST_NAMED:
            break
        own = sum(part for part, _ in rows)
        covered += own
        telling = [row for part, row in sorted(rows, key=lambda pair: -pair[0]) if part >= own / 10]
        texts.append(_cause(diff, kind, telling[:MOST_NAMED], size))
    return texts


def _kind(diff: Diff, row: Row, size: Size) -> str:
    """What happened to a row's weights: "shared", "no macs" (none are done with them), "zeros", "width", or "other"."""
    parameters, stored, rest = (ratio_of(diff, row, metric) for metric in ("parameters", "bytes", "nonzero_parameters"))
    if _sharing(diff, row):
        return "shared"
    macs = row.metrics.get("macs")
    if macs is not None and macs.before == macs.after == 0:
        return "no macs"
    if parameters != 1.0 or not size.shrank:
        return "other"
    # Quantising makes a few zeros as well, and far fewer bytes.
    if rest is not None and rest < 1.0 and (stored is None or rest <= stored):
        return "zeros"
    return "width" if stored is not None and stored < 1.0 else "other"


def _cause(diff: Diff, kind: str, rows: Sequence[Row], size: Size) -> str:
    names, kernels = listed(rows), kernels_of(diff)
    if kind == "shared":
        units = max(_sharing(diff, row) for row in rows)
        return f"the weights of {names} stand once for {units} units, and each unit multiplies by them as before"
    if kind == "zeros":
        zeros = ", ".join(
            f"{percentage(1 - (ratio_of(diff, row, 'nonzero_parameters') or 0.0))} of {changes.label(row)}"
            for row in rows
        )
        how = f"by other kernels, {kernels}" if kernels else "by the same kernels"
        return f"the new zeros ({zeros}) are multiplied as any number, {how}"
    if kind == "width":
        widths = ", ".join(f"{changes.label(row)} {bytes_a_weight(row)}" for row in rows)
        how = f"by other kernels that are no faster, {kernels}" if kernels else "by the same kernels"
        return f"weights of fewer bytes ({widths}) are {_first(diff)}multiplied {how}"
    side = 0 if size.shrank else 1
    known = [figures[side] for row in rows if (figures := figures_of(diff, row, size.metric)) is not None]
    shares = [f"{percentage(sum(known) / (size.before, size.after)[side])} of the {size.name}"]
    time = time_share(rows, after=not size.shrank)
    if time is not None:
        shares.append(f"{percentage(time)} of the time")
    verb = "is" if len(rows) == 1 else "are"
    if kind == "no macs":
        looked_up = all(row.component is Component.EMBEDDING for row in rows)
        names += ", looked up without MACs" if looked_up else ", without MACs"
    return f"what {'shrank' if size.shrank else 'grew'} {verb} {names}: {', '.join(shares)}"


def _first(diff: Diff) -> str:
    """What is done with narrow weights before they are multiplied, and on which side."""
    sides = [name for name, side in (("BEFORE", diff.before), ("AFTER", diff.after)) if dequantised(side)]
    if not sides:
        return ""
    return f"dequantised before, {'on both sides' if len(sides) == 2 else f'in {sides[0]}'}, and "


def _sharing(diff: Diff, row: Row) -> int:
    """In how many units a row has no weights of its own any more, and multiplies as much as before."""
    members = GROUPS[row.scope] if row.component is None else (row.component,)
    return sum(
        bool(
            cell.unit is not None
            and cell.component in members[:1]
            and (parameters := cell.metrics.get("parameters")) is not None
            and (macs := cell.metrics.get("macs")) is not None
            and parameters.before
            and parameters.after == 0
            and macs.before
            and macs.verdict == "same"
        )
        for cell in diff.at("cell")
    )


def bytes_a_weight(row: Row) -> str | None:
    """4.00 → 1.00 bytes each, where they became fewer."""
    size, parameters = row.metrics.get("bytes"), row.metrics.get("parameters")
    if size is None or parameters is None:
        return None
    if not (parameters.before and parameters.after and size.before and size.after):
        return None
    before, after = size.before / parameters.before, size.after / parameters.after
    return f"{before:.2f} → {after:.2f} bytes each" if after < 0.99 * before else None


# Kernels -------------------------------------------------------------------------------------------------------------


def kernels_of(diff: Diff) -> str:
    """In what the sides' kernels differ, as far as records tell; empty where in nothing."""
    a, b = diff.before.workload, diff.after.workload
    backends = _run(a.backend), _run(b.backend)
    pairs = (("", a.dtype, b.dtype), ("", *backends), ("attention ", a.attention, b.attention))
    return ", ".join(f"{name}{_other(formatting.line(x), formatting.line(y))}" for name, x, y in pairs if x != y)


def _run(backend: str) -> str:
    """A backend without the widths that it only stores: weights that were dequantised run by the float kernels."""
    return ", ".join(part for part in backend.split(", ") if not part.endswith(" dequantised"))


def _other(before: str, after: str) -> str:
    """What came to what was there before, or stands in its place: "int8 by onednn", "float32 → float16"."""
    return after.removeprefix(f"{before}, ") if after.startswith(f"{before}, ") else f"{before} → {after}"


# Words ---------------------------------------------------------------------------------------------------------------


def time_share(rows: Sequence[Row], after: bool) -> float | None:
    """What rows have of the time of one side together; None where that is not known of one."""
    known = [row.metrics[SHARE] for row in rows if SHARE in row.metrics]
    shares = [share.after if after else share.before for share in known]
    return sum(s or 0.0 for s in shares) if shares and len(known) == len(rows) and None not in shares else None


def percentage(share: float) -> str:
    """22 %, 0.3 %."""
    value = 100 * share
    return f"{value:.{0 if value >= 9.95 or value == 0 else 1}f} %"


def listed(rows: Sequence[Row]) -> str:
    """Embedding, ffn and head, as their rows are called."""
    *first, last = [changes.label(row) for row in rows]
    return f"{', '.join(first)} and {last}" if first else last
