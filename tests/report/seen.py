"""What is to be seen of a figure: its texts and where they are, and records to make figures of."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text

from bertprof.components import Component
from bertprof.observations import Bandwidth, Peaks
from bertprof.record import Breakdown, Operator
from bertprof.report.figure.drawing import styled
from handmade import cost, made

TOLERANCE = 0.5
"""Pixels at 200 a inch by which boxes may touch: a sixth of a point."""


def texts(figure: Figure) -> list[Text]:
    """The texts that are drawn; figures of an axis only where they stand within it."""
    figure.set_dpi(200)
    with styled():
        figure.draw_without_rendering()
    beyond = set()
    for axes in figure.axes:
        for axis, (low, high) in ((axes.xaxis, sorted(axes.get_xlim())), (axes.yaxis, sorted(axes.get_ylim()))):
            for each in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not low <= each.get_loc() <= high or not axes.axison:
                    beyond |= {each.label1, each.label2}
    found = [text for text in figure.findobj(Text) if isinstance(text, Text) and text not in beyond]
    return [text for text in found if text.get_visible() and text.get_text().strip()]


@dataclass(frozen=True)
class Seen:
    """What there is to see of the texts of a figure.

    Attributes:
        clashes: texts that lie over one another.
        cut_off: texts that reach beyond the figure.
        smallest_pt: the size of the smallest.
    """

    clashes: list[tuple[str, str]]
    cut_off: list[str]
    smallest_pt: float


def seen(figure: Figure) -> Seen:
    """Looks at a figure."""
    found = texts(figure)
    with styled():
        boxes = np.array([text.get_window_extent().padded(-TOLERANCE).extents for text in found])
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    over = ((low < boxes[None, :, 2:]) & (boxes[None, :, :2] < high)).all(axis=2)
    names = [text.get_text() for text in found]
    whole = figure.bbox.extents
    beyond = (boxes[:, :2] < whole[:2]).any(axis=1) | (boxes[:, 2:] > whole[2:]).any(axis=1)
    return Seen(
        [(names[a], names[b]) for a, b in zip(*np.nonzero(np.triu(over, 1)), strict=True)],
        [name for name, is_beyond in zip(names, beyond, strict=True) if is_beyond],
        min(float(text.get_fontsize()) for text in found),
    )


PEAKS = Peaks(
    dtype="float32",
    threads=1,
    flops_per_s=4e11,
    bandwidths=[
        Bandwidth(working_set_bytes=size, bytes_per_s=speed)
        for size, speed in ((250_000, 7e10), (10**6, 1.3e11), (8 * 10**6, 6e10), (512 * 10**6, 2.5e10))
    ],
    launch_ns=700.0,
    measured="2026-11-23T12:00:00+00:00",
)


@cache
def full(units: int, scale: float = 1.0) -> Breakdown:
    """Every component in every unit and outside of all, timed, with peaks of the device; not to be changed."""
    costs = [
        cost(
            component,
            unit,
            [scale * 0.1 * (1 + i)] * 6,
            parameters=10**5 * (i + 1),
            parameter_bytes=4 * 10**5 * (i + 1),
            macs=10**8 * (12 - i),
            flops=2 * 10**8 * (12 - i),
            bytes_moved=10**6 * (1 + i * i),
            operators={"aten::x": Operator(calls=1, macs=0)},
        )
        for unit in (None, *range(units))
        for i, component in enumerate(Component)
    ]
    return made(*costs, run="r", peaks=PEAKS)


def lightness(color: Any) -> float:
    """CIE L* of a colour, 0 to 100 (CIE 15:2004, 8.2.1; sRGB by IEC 61966-2-1)."""
    from matplotlib.colors import to_rgb

    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(color)]
    luminance = 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]
    return 116 * luminance ** (1 / 3) - 16 if luminance > 0.008856 else 903.3 * luminance
