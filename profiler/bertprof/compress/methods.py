"""The compression methods that can be applied to a model, as data: what they are called, target, take and change.

Light: it imports nothing heavy. Each is implemented in the file of its branch of the survey's Table 1.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple, get_args

from bertprof.components import Component

Kind = Literal["none", "choice", "count", "counts", "indices", "width", "widths", "zeros", "model"]
"""What stands behind `=`. counts and widths: one value, or one a unit. indices: a count, or the indices themselves.
zeros: a share of weights, or `SEMI_STRUCTURED`."""

SEMI_STRUCTURED = "2:4"
"""Of each four weights in a row the two smallest are zero."""

Stage = Literal["student", "structure", "attention", "cache", "zeros", "dtype", "quantization"]

STAGES: tuple[Stage, ...] = get_args(Stage)
"""The order in which methods can follow each other."""

FREE_STAGES: tuple[Stage, ...] = ("structure", "attention")
"""Within these any order goes; of each other stage a weight, or the whole model, takes one method."""

WIDEST = 16
"""Bits of a quantised weight at most; 32 stands for a weight that stays as it is."""

FLOAT_BITS = 32


COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "DQ": "data quantization",
        "PR-EP": "elementwise pruning",
        "PR-SP": "structured pruning",
        "KD-EO": "distillation on encoder outputs",
        "KD-OL": "distillation on output logits",
        "KD-AM": "distillation on attention maps",
        "AIC-PS": "parameter sharing",
        "AIC-EMC": "embedding matrix compression",
        "AIC-AD": "attention decomposition",
    }
)
"""The columns of the survey's Table 1 in which methods stand, in its words."""


class Option(NamedTuple):
    """An option of a method, `name=value` behind a comma.

    Attributes:
        kind: what its value is.
        default: as text; empty: see `help`.
        help: what it means.
        choices: of the kind "choice", the words that it knows.
    """

    kind: Kind
    default: str
    help: str
    choices: tuple[str, ...] = ()


class Method(NamedTuple):
    """A compression method.

    Attributes:
        name: as recipes call it.
        kind: what its own value is.
        stage: where it may stand among others.
        columns: of the survey's Table 1.
        targets: the components whose cost it means to lower.
        papers: where it is from.
        help: what it does, in a line.
        value: what its value is, in words.
        changes: what it changes: of parameters, bytes, macs, time.
        options: by name.
        choices: of the kind "choice", the words that it knows, the default first.
        scoped: whether `units=0-5:` may stand before it.
        example: a recipe with it.
    """

    name: str
    kind: Kind
    stage: Stage
    columns: tuple[str, ...]
    targets: tuple[Component, ...]
    papers: tuple[str, ...]
    help: str
    value: str
    changes: tuple[str, ...]
    options: Mapping[str, Option] = MappingProxyType({})
    choices: tuple[str, ...] = ()
    scoped: bool = False
    example: str = ""


_LINEARS = (Component.ATTENTION_LINEAR_IN, Component.ATTENTION_LINEAR_OUT, Component.FFN)
_ATTENTION = (Component.ATTENTION_LINEAR_IN, Component.SOFTMAX_ATTENTION, Component.ATTENTION_LINEAR_OUT)
_UNITS = (*_ATTENTION, Component.FFN)
_ALL = (Component.EMBEDDING, *_UNITS)

_EMBEDDING_BITS = Option("width", "32", "bits of the embedding tables, 8, or 32: they stay as they are")

_METHODS = (
    Method(
        "fp16",
        "none",
        "dtype",
        ("DQ",),
        _ALL,
        ("IEEE 754 binary16",),
        "every weight and activation in float16",
        "",
        ("bytes", "time"),
        example="fp16",
    ),
    Method(
        "bf16",
        "none",
        "dtype",
        ("DQ",),
        _ALL,
        ("Kalamkar et al. 2019, arXiv 1905.12322",),
        "every weight and activation in bfloat16",
        "",
        ("bytes", "time"),
        example="bf16",
    ),
    Method(
        "int8",
        "none",
        "quantization",
        ("DQ",),
        _LINEARS,
        ("Zafrir et al. 2019 (Q8BERT), arXiv 1910.06188",),
        "8-bit linears, activations quantised as they come, run by integer kernels",
        "",
        ("bytes", "time"),
        MappingProxyType({"embedding": _EMBEDDING_BITS}),
        scoped=True,
        example="int8",
    ),
    Method(
        "int8-weight",
        "none",
        "quantization",
        ("DQ",),
        _LINEARS,
        ("Zafrir et al. 2019 (Q8BERT), arXiv 1910.06188",),
        "8-bit weights of linears, multiplied with float activations by a kernel that reads them so",
        "",
        ("bytes", "time"),
        MappingProxyType({"embedding": _EMBEDDING_BITS}),
        scoped=True,
        example="int8-weight,embedding=8",
    ),
    Method(
        "int4-weight",
        "none",
        "quantization",
        ("DQ",),
        _LINEARS,
        ("Shen et al. 2020 (Q-BERT), arXiv 1909.05840",),
        "4-bit weights of linears, where a kernel reads them so",
        "",
        ("bytes", "time"),
        MappingProxyType({"group-size": Option("count", "32", "inputs that share a scale: 32, 64, 128 or 256")}),
        scoped=True,
        example="int4-weight",
    ),
    Method(
        "bits",
        "widths",
        "quantization",
        ("DQ",),
        _ALL,
        ("Shen et al. 2020 (Q-BERT), arXiv 1909.05840",),
        "weights of any width, quantised group by group, stored packed and executed dequantised",
        f"bits of a weight, 1 to {WIDEST}, or one width a unit: 2/3/3/2/...",
        ("bytes",),
        MappingProxyType(
            {
                "embedding": Option("width", "", "bits of tables; as the units, 8 if these differ, 32 with units="),
                "head": Option("width", "", "bits of the matrices of pooler and head; likewise"),
                "groups": Option("count", "128", "groups of output neurons of a matrix, each with its own range"),
            }
        ),
        scoped=True,
        example="bits=4,embedding=8,groups=128",
    ),
    Method(
        "sparsity",
        "zeros",
        "zeros",
        ("PR-EP",),
        _LINEARS,
        (
            "Gordon et al. 2020, arXiv 2002.08307",
            "Guo et al. 2019 (RPP), arXiv 1909.12486",
            "Mishra et al. 2021 (2:4), arXiv 2104.08378",
        ),
        "the smallest weights become zeros, executed dense or, as execute= or 2:4 says, by sparse kernels",
        "share of the weights that become zeros, above 0 and below 1, or 2:4: the two smallest of each four in a row",
        ("bytes", "macs", "time"),
        MappingProxyType(
            {
                "embedding": Option("choice", "no", "prune the embedding tables as well", ("no", "yes")),
                "head": Option("choice", "yes", "prune the matrices of pooler and head as well", ("yes", "no")),
                "by": Option(
                    "choice", "matrix", "the same share of each matrix, or of all together", ("matrix", "all")
                ),
                "storage": Option(
                    "choice",
                    "dense",
                    "zeros stored, or a bit for each weight, or rows compressed with 32-bit indices",
                    ("dense", "bitmap", "csr"),
                ),
                "execute": Option(
                    "choice",
                    "dense",
                    "as if no weight were zero, or by kernels that skip the zeros of storage=csr",
                    ("dense", "csr"),
                ),
            }
        ),
        scoped=True,
        example="sparsity=0.6,storage=bitmap",
    ),
    Method(
        "heads",
        "counts",
        "structure",
        ("PR-SP",),
        _ATTENTION,
        ("Michel et al. 2019, arXiv 1905.10650",),
        "attention heads removed, those of the smallest weights",
        "attention heads to keep in each unit, or one number a unit: 12,12,8,...",
        ("parameters", "bytes", "macs", "time"),
        scoped=True,
        example="heads=6",
    ),
    Method(
        "fixed-attention",
        "count",
        "attention",
        ("PR-SP",),
        (Component.ATTENTION_LINEAR_IN, Component.SOFTMAX_ATTENTION),
        ("Raganato et al. 2020, arXiv 2002.10260",),
        "attention heads that follow fixed patterns of positions, without query and key",
        "attention heads to fix in each unit; at least one stays learned",
        ("parameters", "bytes", "macs", "time"),
        scoped=True,
        example="fixed-attention=7",
    ),
    Method(
        "ffn",
        "counts",
        "structure",
        ("PR-SP",),
        (Component.FFN,),
        ("McCarley et al. 2019, arXiv 1910.06360",),
        "columns of the FFN removed, those of the smallest weights",
        "FFN columns to keep in each unit, or one number a unit",
        ("parameters", "bytes", "macs", "time"),
        scoped=True,
        example="units=0-5:ffn=1024",
    ),
    Method(
        "layers",
        "indices",
        "structure",
        ("PR-SP",),
        _UNITS,
        ("Fan et al. 2019 (LayerDrop), arXiv 1909.11556",),
        "whole encoder units removed",
        "units to keep, or their indices: 0,2,4",
        ("parameters", "bytes", "macs", "time"),
        MappingProxyType(
            {
                "keep": Option(
                    "choice",
                    "every-other",
                    "which to keep: evenly spaced, or of one end",
                    ("every-other", "bottom", "top"),
                )
            }
        ),
        example="layers=6,keep=top",
    ),
    Method(
        "student",
        "model",
        "student",
        ("KD-EO", "KD-OL", "KD-AM"),
        _ALL,
        (
            "Sanh et al. 2019 (DistilBERT), arXiv 1910.01108",
            "Sun et al. 2019 (BERT-PKD), arXiv 1908.09355",
            "Jiao et al. 2019 (TinyBERT), arXiv 1909.10351",
            "Sun et al. 2020 (MobileBERT), arXiv 2004.02984",
            "Turc et al. 2019, arXiv 1908.08962",
            "Zhao et al. 2019, arXiv 1909.11687",
            "Tang et al. 2019b (BiLSTM), arXiv 1903.12136",
            "Liu et al. 2019 (attentive BiLSTM), arXiv 1911.03588",
            "Chia et al. 2018 (BlendCNN), arXiv 1909.03508",
            "Chen et al. 2020 (AdaBERT), arXiv 2001.04246",
        ),
        "another, smaller model under the same workload",
        "a known name or a folder; `bertprof models` lists the known ones",
        ("parameters", "bytes", "macs", "time"),
        example="student=distilbert-base-uncased",
    ),
    Method(
        "share-units",
        "choice",
        "structure",
        ("AIC-PS",),
        _LINEARS,
        ("Lan et al. 2019 (ALBERT), arXiv 1909.11942",),
        "one set of weights for all units",
        "what they share: all (norms as well), attention or ffn",
        ("parameters", "bytes"),
        choices=("all", "attention", "ffn"),
        scoped=True,
        example="share-units=ffn",
    ),
    Method(
        "factor-embedding",
        "count",
        "structure",
        ("AIC-EMC",),
        (Component.EMBEDDING,),
        ("Lan et al. 2019 (ALBERT), arXiv 1909.11942",),
        "the table of words as a product of two smaller ones, by truncated SVD",
        "width E of the smaller table",
        ("parameters", "bytes", "macs", "time"),
        MappingProxyType(
            {
                "layout": Option(
                    "choice",
                    "words",
                    "the table of words alone, or as ALBERT: all tables and their norm E wide, then a projection",
                    ("words", "albert"),
                )
            }
        ),
        example="factor-embedding=128,layout=albert",
    ),
    Method(
        "vocabulary",
        "count",
        "structure",
        ("AIC-EMC",),
        (Component.EMBEDDING,),
        ("Zhao et al. 2019, arXiv 1909.11687",),
        "a smaller table of words: its first rows",
        "words to keep",
        ("parameters", "bytes"),
        example="vocabulary=5000",
    ),
    Method(
        "decompose-attention",
        "count",
        "attention",
        ("AIC-AD",),
        (Component.SOFTMAX_ATTENTION,),
        ("Cao et al. 2020 (DeFormer), arXiv 2005.00697",),
        "the lower units attend within each segment; nothing is cached",
        "how many of the lower units; --segments says how long the segments are, else they are halves",
        ("macs", "time"),
        example="decompose-attention=9",
    ),
    Method(
        "cache-segment",
        "count",
        "cache",
        ("AIC-AD",),
        (Component.EMBEDDING, *_UNITS),
        ("Cao et al. 2020 (DeFormer), arXiv 2005.00697",),
        "behind decompose-attention: a segment's embedding and lower units are computed beforehand",
        "which segment, counted from 1",
        ("macs", "time"),
        example="decompose-attention=9+cache-segment=2",
    ),
)

METHODS: Mapping[str, Method] = MappingProxyType({method.name: method for method in _METHODS})
"""Name → method, in the order of the survey's Table 1: quantization, pruning, distillation, architecture-invariant."""
