"""The vocabulary: which part of the model something belongs to.

Figure 2 of Ganesh et al. 2020 (arXiv 2002.11985v1) has five bars: embedding layer, linear before attention,
multi-head self-attention, linear after attention, FFN sub-unit. The components here are those five, in that order,
and names for everything that the figure leaves out, so that nothing is dropped.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Component(StrEnum):
    """A part of the model; the row of every table. The order is the order of display."""

    EMBEDDING = "embedding"
    ATTENTION_LINEAR_IN = "attention-linear-in"
    SOFTMAX_ATTENTION = "softmax-attention"
    ATTENTION_LINEAR_OUT = "attention-linear-out"
    FFN = "ffn"
    ADD_NORM = "add-norm"
    BOTTLENECK = "bottleneck"
    RECURRENT = "recurrent"
    CONVOLUTION = "convolution"
    HEAD = "head"
    OTHER = "other"


COMPONENT_ORDER: Mapping[Component, int] = MappingProxyType({c: i for i, c in enumerate(Component)})

SURVEY_COMPONENTS: tuple[Component, ...] = (
    Component.EMBEDDING,
    Component.ATTENTION_LINEAR_IN,
    Component.SOFTMAX_ATTENTION,
    Component.ATTENTION_LINEAR_OUT,
    Component.FFN,
)
"""The five bars of the survey's Figure 2, in its order."""

DESCRIPTIONS: Mapping[Component, str] = MappingProxyType(
    {
        Component.EMBEDDING: "token, position and segment tables, their sum, a factorised projection",
        Component.ATTENTION_LINEAR_IN: "query, key and value projections",
        Component.SOFTMAX_ATTENTION: "QKᵀ, scale, mask, softmax, ·V, splitting and joining heads",
        Component.ATTENTION_LINEAR_OUT: "the output projection of attention",
        Component.FFN: "the feed-forward sub-unit: its linears and activations",
        Component.ADD_NORM: "residual additions and every LayerNorm",
        Component.BOTTLENECK: "MobileBERT's bottlenecks between units",
        Component.RECURRENT: "the recurrent backbone of a student",
        Component.CONVOLUTION: "the convolutional backbone of a student",
        Component.HEAD: "pooler, classifier, language-model head",
        Component.OTHER: "mask building, glue: whatever is left",
    }
)

GROUPS: Mapping[str, tuple[Component, ...]] = MappingProxyType(
    {
        "embedding": (Component.EMBEDDING,),
        "attention-linear": (Component.ATTENTION_LINEAR_IN, Component.ATTENTION_LINEAR_OUT),
        "softmax-attention": (Component.SOFTMAX_ATTENTION,),
        "ffn": (Component.FFN,),
        "rest": (
            Component.ADD_NORM,
            Component.BOTTLENECK,
            Component.RECURRENT,
            Component.CONVOLUTION,
            Component.HEAD,
            Component.OTHER,
        ),
    }
)
"""The short view: four groups and one row for all else. Every component is in exactly one group."""
