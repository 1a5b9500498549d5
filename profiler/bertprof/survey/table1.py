"""The survey's Table 1, as it is printed and as methods are measured to change the components of BERT-base.

Ganesh et al. 2020, arXiv 2002.11985v1: which component each branch of compression targets. Pure functions over
`bertprof.survey.methods.Methods`.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

from bertprof.components import Component
from bertprof.compress.methods import COLUMNS as DESCRIBED
from bertprof.difference import Verdict
from bertprof.survey.methods import Measured, Methods, Metric, Part, Row, after

Target = Literal["embedding", "self-attention", "FFN", "Transformer"]
"""A row of the table."""

Letter = Literal["P", "B", "M", "T"]
"""What changes: parameters that are not zero, stored bytes, MACs, time."""

Direction = Literal["less", "more", "both"]

COLUMNS: tuple[str, ...] = tuple(DESCRIBED)

TARGETS: Mapping[Target, tuple[Component, ...]] = MappingProxyType(
    {
        "embedding": (Component.EMBEDDING,),
        "self-attention": (
            Component.ATTENTION_LINEAR_IN,
            Component.SOFTMAX_ATTENTION,
            Component.ATTENTION_LINEAR_OUT,
        ),
        "FFN": (Component.FFN,),
        "Transformer": tuple(
            c for c in Component if c not in (Component.EMBEDDING, Component.HEAD, Component.OTHER)
        ),
    }
)  # fmt: skip
"""The components of a row. Transformer is the backbone as a whole, and counts as changed where the number of encoder
units changes or where something else stands in their place; see `changes`."""

_OTHER_BACKBONES = (Component.RECURRENT, Component.CONVOLUTION)

UNKNOWN = "?"
"""A printed mark may stand here."""

PRINTED: Mapping[Target, Mapping[str, str]] = MappingProxyType(
    {
        "embedding": {"DQ": "X", "KD-EO": "4", "KD-OL": UNKNOWN, "KD-AM": UNKNOWN, "AIC-PS": UNKNOWN, "AIC-EMC": "4"},
        "self-attention": {
            "DQ": "X",
            "PR-EP": "X",
            "PR-SP": "4",
            "KD-EO": "4",
            "KD-AM": "4",
            "AIC-PS": "4",
            "AIC-AD": "X",
        },
        "FFN": {"DQ": "X", "PR-EP": "X", "KD-EO": "4", "AIC-PS": "4"},
        "Transformer": {"PR-SP": "4", "KD-EO": "4", "KD-OL": "X"},
    }
)
"""The printed marks, in the columns in which they are read to stand; see NOTES."""

NOTES: tuple[str, ...] = (
    "The columns of the printed marks are lost in the text of the paper, only their rows and order are certain. This "
    "is the most coherent reading (a guess). One 4 of the embedding stands in one of the three columns with a ?, which "
    "therefore neither agree nor disagree.",
    "Printed marks say whose data a method needs: X BERT's training corpus, 4 that of a task. So read they fit only if "
    "swapped: X stands where a task's data do (DQ, PR-EP, KD-OL, AIC-AD), 4 where the corpus is needed (KD-EO, KD-AM, "
    "AIC-PS, AIC-EMC, LayerDrop). Head pruning, 4 as well, is the exception: it needs a task's data. No measurement "
    "shows whose data are needed: compared is whether there is a mark at all.",
    "Self-attention here is with the linears before and after it. In the survey's words the layer itself has no "
    "parameters: then its marks at DQ, PR-EP and AIC-PS are of these linears, and decomposing it changes MACs and time "
    "alone.",
)
"""How the printed table is read."""

_STUDENT = "the students that learn so have other units, or none: {}; print marks {}"

REASONS: Mapping[tuple[Target, str], str] = MappingProxyType(
    {
        ("embedding", "PR-EP"): "Gordon prunes the word embeddings as well; Section 3.2 says that elementwise pruning "
        "has left them unexplored",
        ("FFN", "PR-SP"): "LayerDrop removes whole units, and their FFN with them; print marks that at Transformer",
        ("self-attention", "KD-OL"): _STUDENT.format("attention differs with them", "the backbone, at Transformer"),
        ("FFN", "KD-OL"): _STUDENT.format("the FFN differs with them", "the backbone, at Transformer"),
        ("FFN", "KD-AM"): _STUDENT.format("the FFN differs with them", "what is distilled, the attention maps"),
        ("Transformer", "KD-AM"): _STUDENT.format(
            "MobileBERT has 24, TinyBERT4 has 4", "what is distilled, the attention maps"
        ),
    }
)
"""Why print and measurement disagree."""

TIME_ALONE = "no count changes, only the measured time: the same work runs in other pieces, or beside other work"
UNEXPLAINED = "no reason is known"


class Cell(NamedTuple):
    """A row and a column.

    Attributes:
        target: the row.
        column: the column.
        printed: the printed mark, `UNKNOWN`, or empty.
        found: what the methods of the column are measured to change there.
        methods: which of them change something there.
        measured: whether any method of the column was measured.
    """

    target: Target
    column: str
    printed: str
    found: Mapping[Letter, Direction]
    methods: Sequence[str]
    measured: bool

    @property
    def agrees(self) -> bool | None:
        """Whether there is a mark where something changes; None where that cannot be said."""
        if self.printed == UNKNOWN or not self.measured:
            return None
        return bool(self.printed) == bool(self.found)

    @property
    def reason(self) -> str:
        """Of a disagreement, why."""
        if not self.printed and set(self.found) == {"T"}:
            return TIME_ALONE
        return REASONS.get((self.target, self.column), UNEXPLAINED)


_METRICS: Mapping[Letter, Metric] = MappingProxyType({"P": "parameters", "B": "size", "M": "macs"})
_LESS: tuple[Verdict, ...] = ("faster", "removed")
_MORE: tuple[Verdict, ...] = ("slower", "new")


def changes(measured: Measured, target: Target) -> dict[Letter, Direction]:
    """What a method changes of a row of the table, each exactly, but time by its verdict, component by component."""
    if target == "Transformer" and not _other_backbone(measured):
        return {}
    parts = measured.of(*TARGETS[target])
    found: dict[Letter, Direction] = {}
    for letter, metric in _METRICS.items():
        new = sum(after(part.metrics, metric) for part in parts)
        old = sum(part.metrics["bytes" if metric == "size" else metric].before or 0 for part in parts)
        if new != old:
            found[letter] = "less" if new < old else "more"
    time = _time(parts)
    if time is not None:
        found["T"] = time
    return found


def _other_backbone(measured: Measured) -> bool:
    """Whether there are more or fewer encoder units, or something else in their place."""
    if measured.units_before != measured.units_after:
        return True
    return any(after(part.metrics, "macs") for part in measured.of(*_OTHER_BACKBONES))


def _time(parts: Sequence[Part]) -> Direction | None:
    verdicts = {part.metrics["time"].verdict for part in parts if "time" in part.metrics}
    return _together("less" if verdict in _LESS else "more" for verdict in verdicts if verdict in (*_LESS, *_MORE))


def _together(directions: Iterable[Direction]) -> Direction | None:
    found = set(directions)
    return found.pop() if len(found) == 1 else "both" if found else None


def cells(document: Methods) -> list[Cell]:
    """The table, row by row. A method that stands `apart` counts in no column."""
    return [_cell(document, target, column) for target in TARGETS for column in COLUMNS]


def _cell(document: Methods, target: Target, column: str) -> Cell:
    rows = [row for row in document.rows if column in row.columns and row.apart is None]
    found = {row.name: changes(row.measured, target) for row in rows if row.measured is not None}
    union: dict[Letter, Direction] = {}
    for letter in (*_METRICS, "T"):
        direction = _together(own[letter] for own in found.values() if letter in own)
        if direction is not None:
            union[letter] = direction
    return Cell(
        target,
        column,
        PRINTED[target].get(column, ""),
        union,
        [name for name, own in found.items() if own],
        bool(found),
    )


def disagreements(document: Methods) -> list[Cell]:
    """The cells with a mark where nothing changes, or without one where something does."""
    return [cell for cell in cells(document) if cell.agrees is False]


def own_changes(row: Row) -> dict[Target, dict[Letter, Direction]] | None:
    """What one method changes; None where it was not measured."""
    return None if row.measured is None else {target: changes(row.measured, target) for target in TARGETS}
