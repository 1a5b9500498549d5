"""Drawing: a sheet that is laid out in millimetres, texts at print size, and files that are the same every time."""

import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Literal

from bertprof import formatting


@contextmanager
def quiet_matplotlib() -> Iterator[None]:
    """No word of a font cache that is built or of a folder that cannot hold one."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        yield
    finally:
        logger.setLevel(level)


with quiet_matplotlib():  # its import looks for a place for its font cache
    from matplotlib import style
    from matplotlib.axes import Axes as Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure as Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.patches import Rectangle
    from matplotlib.textpath import text_to_path
    from matplotlib.ticker import FuncFormatter, MaxNLocator
    from matplotlib.transforms import Affine2D
    from PIL import Image

TITLE_PT, TEXT_PT, SMALL_PT = 8.0, 7.0, 6.5
"""Sizes of texts in print, whatever the width of the figure."""

DPI = 300
"""Of a PNG."""
NOTEBOOK_DPI = 150

PT_MM = 25.4 / 72
EDGE_MM = 2.0
"""What is left free around everything."""

GRID = "#80808040"
"""Light on paper, dark on a dark page."""
BACKGROUND = "background"
"""The name in an SVG of what is behind the figure; `bertprof.report.page.drawn` takes it away."""

_STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": TEXT_PT,
    "text.parse_math": False,  # a dollar sign in a name would open a formula
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.labelsize": TEXT_PT,
    "axes.labelpad": 2,
    "xtick.labelsize": TEXT_PT,
    "ytick.labelsize": TEXT_PT,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "hatch.linewidth": 0.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "bertprof",
}


class ReportFigure(Figure):
    """A matplotlib Figure that shows itself in a notebook without pyplot."""

    def _repr_png_(self) -> bytes:
        return saved(self, "png", NOTEBOOK_DPI)


def saved(figure: Figure, suffix: Literal["png", "svg"], dpi: int = DPI) -> bytes:
    """A figure as a file's content. The same figure gives the same bytes, and its size is the file's."""
    stream = io.BytesIO()
    with styled():
        if suffix == "svg":
            figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": "bertprof"})
            return stream.getvalue()
        figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None}, pil_kwargs={"compress_level": 0})
    # Fields of one colour and the shades at their edges: 256 colours are enough, and a third of the bytes.
    picture = Image.open(stream).convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    packed = io.BytesIO()
    picture.save(packed, "png", optimize=True, dpi=(dpi, dpi))
    return packed.getvalue()


@contextmanager
def styled() -> Iterator[None]:
    """Our style and nothing of the user's; no word of fonts, nor of a name in a script that the font does not have."""
    with quiet_matplotlib(), style.context(["default", _STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        warnings.filterwarnings("ignore", "Matplotlib currently does not support")
        yield


# The sheet ------------------------------------------------------------------------------------------------------------


class Sheet:
    """A figure that is filled from the top, in millimetres, and is as high as it has to be.

    Attributes:
        figure: it.
        width_mm: how wide it is.
        at_mm: how far down it is filled.
        mm: the transformation of artists that are placed in mm from the upper left corner.
    """

    def __init__(self, width_mm: float) -> None:
        self.width_mm = width_mm
        self.at_mm = EDGE_MM
        self.figure = ReportFigure(figsize=(width_mm / 25.4, 1))
        self.figure.patch.set_gid(BACKGROUND)
        FigureCanvasAgg(self.figure)
        self._corner = Affine2D()
        self.mm = self._corner + self.figure.dpi_scale_trans
        self._axes: list[tuple[Axes, float, float, float, float]] = []

    @property
    def inner_mm(self) -> float:
        """The width that can be filled."""
        return self.width_mm - 2 * EDGE_MM

    def axes(self, left_mm: float, top_mm: float, width_mm: float, height_mm: float) -> Axes:
        """Axes in a box, so far down from where the sheet is filled to."""
        axes = self.figure.add_axes((0, 0, 1, 1))
        self._axes.append((axes, left_mm, self.at_mm + top_mm, width_mm, height_mm))
        return axes

    def put(self, text: str, x_mm: float, y_mm: float, size_pt: float = TEXT_PT, **how: Any) -> None:
        """A text at a place, which is its upper left corner unless it is said otherwise."""
        how = {"ha": "left", "va": "top", **how}
        self.figure.text(x_mm, y_mm, text, transform=self.mm, fontsize=size_pt, **how)

    def lines(
        self, texts: Sequence[str], size_pt: float = TEXT_PT, weight: str = "normal", most_lines: int = 3
    ) -> None:
        """Paragraphs over the whole width, each in as many lines as it takes, but no more than `most_lines`."""
        for text in texts:
            for line in wrapped(text, self.inner_mm / PT_MM, size_pt, weight, most_lines):
                self.put(line, EDGE_MM, self.at_mm, size_pt, weight=weight)
                self.at_mm += line_mm(size_pt)

    def heading(self, title: str, *notes: str) -> None:
        """What is shown, and of what."""
        self.lines([title], TITLE_PT, "bold", 2)
        self.lines([note for note in notes if note], TEXT_PT)
        self.at_mm += 1.5

    def legend(self, colors: Mapping[str, Any]) -> None:
        """Fields of colour with their names, in as many lines as it takes."""
        x, side = EDGE_MM, 2.2
        self.at_mm += 2
        for name, color in colors.items():
            width = side + 1 + width_pt(name, TEXT_PT) * PT_MM
            if x > EDGE_MM and x + width > self.width_mm - EDGE_MM:
                x, self.at_mm = EDGE_MM, self.at_mm + line_mm(TEXT_PT) + 0.6
            box = Rectangle(
                (x, self.at_mm + 0.3), side, side, facecolor=color, edgecolor="black", linewidth=0.4, transform=self.mm
            )
            self.figure.add_artist(box)
            self.put(name, x + side + 1, self.at_mm)
            x += width + 3
        self.at_mm += line_mm(TEXT_PT)

    def finished(self) -> ReportFigure:
        """The figure, cut where it ends; what is added to the sheet then needs another call."""
        height_mm = self.at_mm + EDGE_MM
        self.figure.set_size_inches(self.width_mm / 25.4, height_mm / 25.4)
        self._corner.clear().scale(1 / 25.4, -1 / 25.4).translate(0, height_mm / 25.4)
        for axes, left, top, width, height in self._axes:
            bottom = height_mm - top - height
            axes.set_position((left / self.width_mm, bottom / height_mm, width / self.width_mm, height / height_mm))
        return self.figure


# Texts ----------------------------------------------------------------------------------------------------------------


@lru_cache(1024)
def width_pt(text: str, size_pt: float, weight: str = "normal") -> float:
    """How long a line of text is, in points."""
    font = FontProperties(family=["DejaVu Sans"], size=size_pt, weight=weight)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of glyphs that the font does not have
        return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0])


def line_mm(size_pt: float) -> float:
    """From one line of text to the next."""
    return 1.35 * size_pt * PT_MM


def cut(text: str, most_pt: float, size_pt: float, weight: str = "normal") -> str:
    """A line of text, cut to a length."""
    text = formatting.line(text, 200)
    if width_pt(text, size_pt, weight) <= most_pt:
        return text
    fitting, beyond = 0, len(text)
    while beyond - fitting > 1:
        middle = (fitting + beyond) // 2
        short = width_pt(f"{text[:middle]}…", size_pt, weight) <= most_pt
        fitting, beyond = (middle, beyond) if short else (fitting, middle)
    return f"{text[:fitting].rstrip()}…"


_WORDS = re.compile(r"\S+(?: (?:%|ms|mJ|×|FLOPs|[kMGTP]?B)(?![^\s,;.])[,;.]?)?")
"""Words, each with its unit where it is a figure."""


def wrapped(text: str, most_pt: float, size_pt: float, weight: str = "normal", most_lines: int = 3) -> list[str]:
    """A text in lines of at most a length; what does not fit into the last is cut off."""
    lines: list[str] = []
    words = _WORDS.findall(formatting.line(text, 400))
    while words:
        taken = 1
        if len(lines) == most_lines - 1:
            taken = len(words)
        else:
            while taken < len(words) and width_pt(" ".join(words[: taken + 1]), size_pt, weight) <= most_pt:
                taken += 1
        lines.append(cut(" ".join(words[:taken]), most_pt, size_pt, weight))
        words = words[taken:]
    return lines


def pale(color: Any) -> tuple[float, float, float]:
    """A third of a colour, on white."""
    red, green, blue = (1 - (1 - part) * 0.35 for part in to_rgb(color))
    return red, green, blue


# Panels of horizontal bars --------------------------------------------------------------------------------------------


class Bars:
    """A panel of horizontal bars, a name a row, before it is placed.

    Attributes:
        title: what it shows, in one line or several.
        unit: of its axis.
        pieces: of each row, what is drawn: where it is in the row (0 its middle, 1 the next row's), how high it is,
            where it begins and ends, and how it is painted.
        labels: of each row, what stands at its end.
        starts: where the axis begins.
        reach: of each row, how far whiskers reach to the left and right of its end, where it has some.
        mark: where a dotted line stands, instead of a grid, but through no label; None: nowhere.
    """

    def __init__(self, title: str, unit: str, rows: int, starts: float = 0.0) -> None:
        self.title, self.unit, self.starts = title, unit, starts
        self.pieces: list[list[tuple[float, float, float, float, dict[str, Any]]]] = [[] for _ in range(rows)]
        self.labels = [""] * rows
        self.reach: list[tuple[float, float] | None] = [None] * rows
        self.mark: float | None = None

    def add(self, row: int, begin: float, end: float, at: float = 0.0, height: float = 0.7, **paint: Any) -> None:
        """A piece of a row's bar; `paint` as matplotlib names it."""
        self.pieces[row].append((at, height, begin, end, paint))

    def end(self, row: int) -> float:
        """How far a row reaches."""
        found = max((max(begin, end) for _, _, begin, end, _ in self.pieces[row]), default=self.starts)
        reach = self.reach[row]
        return found if reach is None else found + reach[1]


_GAP_MM = 4.0
"""Between two panels."""
_SIDE_MM = 1.5
"""Beside a panel: half of the last figure on its axis."""
_AXIS_MM = 8.0
"""Below a panel: the figures on its axis, and their unit."""
_SHORTEST_MM = 18.0
"""The longest bar of a panel is so long at least, or panels do not stand side by side."""


def place(sheet: Sheet, names: Sequence[str], panels: Sequence[Bars], row_mm: float) -> list[Axes]:
    """Draws panels side by side where there is room, else one below another.

    Side by side each has room for its own labels, and the longest bars of all are equally long.

    Args:
        sheet: where to.
        names: of the rows, the same in all.
        panels: at least one.
        row_mm: how high a row is at least.
    """
    lines = [name_lines(name, 0.33 * sheet.inner_mm / PT_MM) for name in names]
    row_mm = max(row_mm, max(map(len, lines), default=1) * line_mm(TEXT_PT) + 0.4)
    left = max((width_pt(line, TEXT_PT) for name in lines for line in name), default=0.0) * PT_MM + 1.5
    room = sheet.inner_mm - left - _SIDE_MM
    labels = [max((width_pt(label, SMALL_PT) for label in panel.labels), default=0.0) * PT_MM for panel in panels]
    longest = (room - sum(labels) - _GAP_MM * (len(panels) - 1)) / len(panels)
    together = [range(len(panels))] if longest >= _SHORTEST_MM else [range(i, i + 1) for i in range(len(panels))]
    height = row_mm * (len(names) + 0.2)
    found = []
    for beside in together:
        widths = [room] if len(beside) == 1 else [longest + labels[i] for i in beside]
        titles = [wrapped(panels[i].title, w / PT_MM, TEXT_PT, "bold", 4) for i, w in zip(beside, widths, strict=True)]
        top = max(map(len, titles)) * line_mm(TEXT_PT) + 1
        x = EDGE_MM + left
        for i, title, width in zip(beside, titles, widths, strict=True):
            for number, line in enumerate(title):
                sheet.put(line, x, sheet.at_mm + number * line_mm(TEXT_PT), TEXT_PT, weight="bold")
            axes = sheet.axes(x, top, width, height)
            _fill(axes, panels[i], width / PT_MM)
            first = i == beside[0]
            axes.set_yticks(range(len(names)), ["\n".join(name) if first else "" for name in lines], linespacing=1.1)
            found.append(axes)
            x += width + _GAP_MM
        sheet.at_mm += top + height + _AXIS_MM + (0 if beside is together[-1] else _GAP_MM - 2)
    return found


def name_lines(name: str, most_pt: float) -> list[str]:
    """The name of a row in one line, or in two where it is long, parted behind a word or a hyphen."""
    name = formatting.line(name, 200)
    if width_pt(name, TEXT_PT) <= most_pt:
        return [name]
    parts = re.findall(r"[^ -]+[ -]?|[ -]", name)
    first = next((n for n in range(len(parts), 0, -1) if width_pt("".join(parts[:n]).rstrip(), TEXT_PT) <= most_pt), 0)
    if first == 0:
        return [cut(name, most_pt, TEXT_PT)]
    return ["".join(parts[:first]).rstrip(), cut("".join(parts[first:]), most_pt, TEXT_PT)]


def _fill(axes: Axes, panel: Bars, width: float) -> None:
    """The bars of a panel that is so many points wide, and an axis with room for what stands at their ends."""
    labels = [cut(label, 0.8 * width, SMALL_PT) for label in panel.labels]
    rows = range(len(labels))
    reach = 0.0
    for row in rows:
        for at, height, begin, end, paint in panel.pieces[row]:
            how = {"edgecolor": "black", "linewidth": 0.4, "zorder": 2, **paint}
            axes.barh(row + at, end - begin, height, begin, **how)
        end = panel.end(row)
        whiskers = panel.reach[row]
        if whiskers is not None and sum(whiskers) > 0:
            low, high = whiskers
            axes.errorbar(
                end - high, row, xerr=[[low], [high]], color="black", linewidth=0.8, capsize=2, capthick=0.8, zorder=3
            )
        # the label begins 3 pt behind the bar's end and has to end within the panel
        free = width - width_pt(labels[row], SMALL_PT) * 1.02 - 4
        reach = max(reach, (end - panel.starts) * width / free)
        if labels[row]:
            axes.annotate(
                labels[row], (end, row), xytext=(3, 0), textcoords="offset points", va="center", fontsize=SMALL_PT
            )
    if panel.mark is not None:
        scale = width / (reach or 1.0)
        behind = [(panel.mark - panel.end(row)) * scale for row in rows]
        beside = [row for row in rows if not 0 < behind[row] < width_pt(labels[row], SMALL_PT) * 1.02 + 6]
        ends = [row - 0.5 for row in beside], [row + 0.5 for row in beside]
        axes.vlines([panel.mark] * len(beside), *ends, color="#999999", linewidth=0.6, linestyle=":", zorder=1)
    axes.set_xlim(panel.starts, panel.starts + (reach or 1.0))
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlabel(panel.unit)
    axes.tick_params(axis="y", length=0)
    ticks(axes, "x", width)
    if panel.mark is None:
        axes.grid(axis="x", linewidth=0.4, color=GRID, zorder=0)
    axes.set_axisbelow(True)


def ticks(axes: Axes, which: Literal["x", "y"], length_pt: float) -> None:
    """As many figures on an axis as there is room for, short ones."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    apart_pt = 45 if which == "x" else 22
    axis.set_major_locator(MaxNLocator(max(1, min(6, int(length_pt / apart_pt))), steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))


def tick(value: float) -> str:
    """A figure on an axis: 0, 0.05, 20,000."""
    return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:.3g}"


def scaled(largest: float, unit: str) -> tuple[float, str]:
    """The factor and the name of a unit in which the largest figure has at most five digits: MB, or GB and so on.

    Args:
        largest: in the unit without any prefix.
        unit: its name, as "B" or "FLOPs".
    """
    for factor, prefix in ((1e6, "M"), (1e9, "G"), (1e12, "T"), (1e15, "P")):
        if largest < 1e5 * factor:
            return factor, f"{prefix}{unit}"
    return 1e18, f"E{unit}"
