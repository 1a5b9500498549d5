"""The colours of the components, the same in every figure and page.

The hues are near those of Okabe and Ito (Color Universal Design, 2008), which people with any common colour blindness
can tell apart. Lightness alternates, so that what stands beside one another in a stack stays apart in grey: neighbours
differ by 15 or more in CIE L*, in BERT-base and in every method of the survey, whatever costs nothing in it. No figure
relies on colour alone.
"""

from collections.abc import Mapping
from types import MappingProxyType

from bertprof.components import GROUPS, Component

COLORS: Mapping[str, str] = MappingProxyType(
    {
        Component.EMBEDDING: "#E69F00",
        Component.ATTENTION_LINEAR_IN: "#07467F",
        Component.SOFTMAX_ATTENTION: "#EB6F2C",
        Component.ATTENTION_LINEAR_OUT: "#8CCBF2",
        Component.FFN: "#007A58",
        Component.ADD_NORM: "#F5CBE3",
        Component.BOTTLENECK: "#A38BD9",
        Component.RECURRENT: "#8D6118",
        Component.CONVOLUTION: "#858410",
        Component.HEAD: "#313131",
        Component.OTHER: "#585858",
    }
)

REST = "#B3B3B3"

TERMINAL: Mapping[str, str] = MappingProxyType(
    {
        Component.EMBEDDING: "#AF8700",
        Component.ATTENTION_LINEAR_IN: "#005FAF",
        Component.SOFTMAX_ATTENTION: "#D75F00",
        Component.ATTENTION_LINEAR_OUT: "#5F87AF",
        Component.FFN: "#00875F",
        Component.ADD_NORM: "#D75FAF",
        Component.BOTTLENECK: "#875FD7",
        Component.RECURRENT: "#875F00",
        Component.CONVOLUTION: "#878700",
        Component.HEAD: "#626262",
        Component.OTHER: "#8A8A8A",
    }
)
"""The same hues on a background that is not known: each of the 256 colours of xterm, and of a contrast of 3 or more on
black and on white (WCAG 2.2, 1.4.11)."""

DARK, LIGHT = "#111111", "#FFFFFF"
"""Inks on a coloured field. Black itself is the ink of whatever page a figure stands in."""


def luminance(red: float, green: float, blue: float) -> float:
    """The relative luminance, 0 to 1, of a colour whose parts are 0 to 1 (WCAG 2.2)."""
    parts = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (red, green, blue))
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


def ink_on(color: str) -> str:
    """The ink that is read more easily on a colour, as #RRGGBB, by the contrast of WCAG 2.2; 4.5 or more on ours."""
    behind, dark, light = (
        luminance(*(int(each[i : i + 2], 16) / 255 for i in (1, 3, 5))) + 0.05 for each in (color, DARK, LIGHT)
    )
    return DARK if behind / dark > light / behind else LIGHT


def color_of(label: str) -> str:
    """The colour of a component or a group by its name; that of the rest for any other row."""
    component = _component(label)
    return REST if component is None else COLORS[component]


def terminal_color_of(label: str) -> str:
    """The same in a terminal of 256 colours or more."""
    return TERMINAL[_component(label) or Component.OTHER]


def _component(label: str) -> str | None:
    """The component of a row's colour, the first of a group; None: the row has that of the rest."""
    if label in COLORS:
        return label
    return GROUPS[label][0] if label in GROUPS and label != "rest" else None
