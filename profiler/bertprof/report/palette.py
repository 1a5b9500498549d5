"""The colours of the components, the same in every figure and page.

The palette is Okabe and Ito's (Color Universal Design, 2008), which people with any common colour blindness can tell
apart; no figure relies on colour alone.
"""

from collections.abc import Mapping
from types import MappingProxyType

from bertprof.components import GROUPS, Component

COLORS: Mapping[str, str] = MappingProxyType(
    {
        Component.EMBEDDING: "#E69F00",
        Component.ATTENTION_LINEAR_IN: "#56B4E9",
        Component.SOFTMAX_ATTENTION: "#D55E00",
        Component.ATTENTION_LINEAR_OUT: "#0072B2",
        Component.FFN: "#009E73",
        Component.ADD_NORM: "#CC79A7",
        Component.BOTTLENECK: "#8C6BB1",
        Component.RECURRENT: "#A6761D",
        Component.CONVOLUTION: "#666600",
        Component.HEAD: "#8A8A8A",
        Component.OTHER: "#B8B8B8",
    }
)

REST = "#8A8A8A"


def color_of(label: str) -> str:
    """The colour of a component or a group by its name; that of the rest for any other row."""
    if label in COLORS:
        return COLORS[label]
    return COLORS[GROUPS[label][0]] if label in GROUPS and label != "rest" else REST
