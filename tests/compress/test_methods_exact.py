"""Every method on BERT-base: parameters, bytes, non-zeros and MACs of each component of each unit, in closed form.

The closed forms are those of the papers: what BERT holds and multiplies by L, H, A, I, V (Devlin et al. 2019; Section 2
of the survey), what a method leaves of that, and how many bytes a way of storing it takes. BERT-base is never built:
1 × 128 tokens are counted on shapes. What is run are tiny twins, at the end.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import pytest
import torch
from compressing import applied, drawn, output

import bertprof
from bertprof import Component
from bertprof.compress.methods import METHODS
from bertprof.compress.recipe import parse_all

TOKENS = 128
HEAD = 64  # of BERT: H / A
POSITIONS, TYPES = 512, 2

ATTENTION = (Component.ATTENTION_LINEAR_IN, Component.ATTENTION_LINEAR_OUT)
FFN = (Component.FFN,)

# The model ------------------------------------------------------------------------------------------------------------


class Piece(NamedTuple):
    """One parameter: of a table or a linear (rows or outputs, columns or inputs), a bias or norm (length,).

    `stands` is the unit in which it stands; `held` False: it stands elsewhere already. `macs` are those of the product
    with it, in the unit `works`.
    """

    component: Component
    kind: Literal["table", "linear", "vector"]
    shape: tuple[int, ...]
    stands: int | None = None
    works: int | None = None
    macs: int = 0
    held: bool = True

    @property
    def size(self) -> int:
        return self.shape[0] * (self.shape[1] if len(self.shape) > 1 else 1)

    @property
    def rows(self) -> int:
        return self.shape[0]


def linear(component: Component, outs: int, ins: int, tokens: int = TOKENS, bias: bool = True) -> list[Piece]:
    weight = Piece(component, "linear", (outs, ins), macs=tokens * outs * ins)
    return [weight, Piece(component, "vector", (outs,))] if bias else [weight]


def norm(width: int) -> list[Piece]:
    return [Piece(Component.ADD_NORM, "vector", (width,))] * 2


def tables(words: int, width: int, hidden: int | None = None) -> list[Piece]:
    """Words, positions and types; `hidden`: the words `width` wide and projected to that, the rest as it was."""
    sizes = [(words, width), *((rows, hidden or width) for rows in (POSITIONS, TYPES))]
    projection = linear(Component.EMBEDDING, hidden, width, bias=False) if hidden else []
    return [*(Piece(Component.EMBEDDING, "table", size) for size in sizes), *projection]


def unit(
    number: int,
    hidden: int,
    attended: int,
    inner: int,
    shared: Sequence[Component],
    fixed: int = 0,
    parts: Sequence[int] = (TOKENS,),
) -> Iterator[Piece]:
    """Query, key and value to the width of all heads, back to H, to I and back, and two norms.

    `fixed` columns are of fixed heads, which have no query and key; `parts` are the lengths of what attends apart.
    """
    tokens = sum(parts)
    of_attention = [
        linear(Component.ATTENTION_LINEAR_IN, outs, hidden, tokens)
        for outs in (attended - fixed, attended - fixed, attended)
    ]
    of_attention.append(linear(Component.ATTENTION_LINEAR_OUT, hidden, attended, tokens))
    of_ffn = [linear(Component.FFN, inner, hidden, tokens), linear(Component.FFN, hidden, inner, tokens)]
    for group in (*of_attention, *of_ffn, norm(hidden), norm(hidden)):
        for piece in group:
            is_shared = piece.component in shared
            yield piece._replace(stands=None if is_shared else number, works=number, held=not is_shared or number == 0)
    # QKᵀ and the product with V, of each head: 2 · n² MACs for each of its columns; of a fixed one the latter alone.
    macs = sum(n * n for n in parts) * (2 * (attended - fixed) + fixed)
    yield Piece(Component.SOFTMAX_ATTENTION, "vector", (0,), number, number, macs)


def bert(
    layers: int = 12,
    hidden: int = 768,
    heads: Sequence[int] | int = 12,
    inner: Sequence[int] | int = 3072,
    words: int = 30_522,
    embedding: Sequence[Piece] | None = None,
    shared: Sequence[Component] = (),
    head: int = HEAD,
    fixed: Sequence[int] | int = 0,
    parts: Sequence[Sequence[int]] | None = None,
) -> list[Piece]:
    """A BERT of L units with a pooler, which sees one token a sequence."""
    fixed = [fixed] * layers if isinstance(fixed, int) else fixed
    parts = parts or [(TOKENS,)] * layers
    heads = [heads] * layers if isinstance(heads, int) else heads
    inner = [inner] * layers if isinstance(inner, int) else inner
    return [
        *(embedding if embedding is not None else [*tables(words, hidden), *norm(hidden)]),
        *(
            piece
            for i in range(layers)
            for piece in unit(i, hidden, head * heads[i], inner[i], shared, head * fixed[i], parts[i])
        ),
        *linear(Component.HEAD, hidden, hidden, tokens=1),
    ]


def as_albert(words: int, width: int, hidden: int = 768) -> list[Piece]:
    """All tables and the norm E wide, then a projection with a bias (Lan et al. 2019)."""
    return [*tables(words, width), *norm(width), *linear(Component.EMBEDDING, hidden, width)]


# Storage --------------------------------------------------------------------------------------------------------------

Stored = Callable[[Piece], tuple[int, int | None]]
"""Bytes of a parameter, and how many of its scalars are known not to be zero."""


def floats(piece: Piece) -> tuple[int, int | None]:
    return 4 * piece.size, None


def halves(piece: Piece) -> tuple[int, int | None]:
    return 2 * piece.size, None


def integers(
    of_weight: Callable[[int, int], int], table: bool = False, units: Iterable[int | None] = (None, *range(12))
) -> Stored:
    """Linears by a kernel's bytes of (outputs, inputs); tables a byte a value and 8 bytes a row; the rest float."""

    def stored(piece: Piece) -> tuple[int, int | None]:
        if piece.kind == "linear" and piece.stands in units:
            return of_weight(*piece.shape), None
        if piece.kind == "table" and table:
            return piece.size + 8 * piece.rows, None
        return 4 * piece.size, None

    return stored


def per_row(outs: int, ins: int) -> int:
    """Torch's 8-bit linear: a byte a weight; a float64 scale and an int64 zero point for each output neuron."""
    return outs * ins + 16 * outs


def packed(values: int, bits: int, rows: int, groups: int) -> int:
    """Q-BERT: `bits` a value; a float32 scale and zero point for each group of output neurons, no codebook."""
    return -(-values * bits // 8) + 8 * min(groups, rows)


def groupwise(
    bits: Sequence[int] | int, embedding: int | None = None, head: int | None = None, groups: int = 128
) -> Stored:
    def stored(piece: Piece) -> tuple[int, int | None]:
        if piece.kind == "vector":
            return 4 * piece.size, None
        of_units = [bits] * 12 if isinstance(bits, int) else bits
        outside = bits if isinstance(bits, int) else 8
        own = (embedding or outside) if piece.component is Component.EMBEDDING else (head or outside)
        width = own if piece.stands is None and piece.component in (Component.EMBEDDING, Component.HEAD) else None
        width = width or of_units[piece.stands or 0]
        return packed(piece.size, width, piece.rows, groups), None

    return stored


def sparse(
    share: str, form: Literal["dense", "bitmap", "csr", "2:4"] = "dense", table: bool = False, bits: int | None = None
) -> Stored:
    """Of each matrix of n weights round(S·n) are zero. A bitmap is a bit a weight; CSR a 32-bit column for each
    non-zero and where each row begins; 2:4 two bits for each that is kept. `bits`: the non-zeros packed, in up to 128
    groups."""

    def stored(piece: Piece) -> tuple[int, int | None]:
        left = piece.size
        if piece.kind == "linear" or (piece.kind == "table" and table):
            left -= round(Fraction(share) * piece.size)
        bitmap = -(-piece.size // 8)
        index = {"dense": 0, "bitmap": bitmap, "csr": 4 * left + 4 * (piece.rows + 1), "2:4": 2 * left // 8}[form]
        if left == piece.size or form == "dense":
            index, kept = 0, piece.size
        else:
            kept = left
        if bits is not None and piece.kind != "vector":
            known = left if index else None
            return index + packed(kept, bits, piece.rows, 128), known
        return index + 4 * kept, left

    return stored


def skipping(pieces: Iterable[Piece], share: str) -> list[Piece]:
    """The pieces with MACs of the non-zeros alone: each linear's weight is multiplied once a token, or not at all."""
    left = {piece: piece.size - round(Fraction(share) * piece.size) for piece in pieces if piece.kind == "linear"}
    return [piece._replace(macs=piece.macs // piece.size * left[piece]) if piece in left else piece for piece in pieces]


# What is expected -----------------------------------------------------------------------------------------------------

Row = tuple[int, int, int | None, int]
"""Parameters, bytes, non-zeros, MACs."""


def expected(pieces: Iterable[Piece], stored: Stored) -> dict[tuple[int | None, Component], Row]:
    rows: dict[tuple[int | None, Component], Row] = {}

    def add(key: tuple[int | None, Component], parameters: int, size: int, nonzero: int | None, macs: int) -> None:
        n, b, z, m = rows.get(key, (0, 0, 0, 0))
        both = None if z is None or nonzero is None else z + nonzero
        rows[key] = (n + parameters, b + size, both, m + macs)

    for piece in pieces:
        size, nonzero = stored(piece)
        if piece.held and piece.size:
            add((piece.stands, piece.component), piece.size, size, nonzero, 0)
        add((piece.works, piece.component), 0, 0, 0, piece.macs)
    return {key: row for key, row in rows.items() if row[0] or row[3]}


LIST = [12, 12, 8, 8, 6, 6, 6, 6, 4, 4, 2, 2]
MIXED = [2, 3, 3, 2, 2, 2, 2, 2, 3, 3, 2, 2]
ALL = (*ATTENTION, *FFN, Component.ADD_NORM)
HALVES = (TOKENS // 2, TOKENS // 2)
HALF_FFN, HALF_HEADS = [1024] * 6 + [3072] * 6, [12] * 6 + [4] * 6

CASES: dict[str, tuple[list[Piece], Stored]] = {
    # Data quantization.
    "fp16": (bert(), halves),
    "bf16": (bert(), halves),
    "int8": (bert(), integers(per_row)),
    "int8,embedding=8": (bert(), integers(per_row, table=True)),
    "units=0-5:int8": (bert(), integers(per_row, units=range(6))),
    # A bfloat16 scale for each output neuron.
    "int8-weight": (bert(), integers(lambda outs, ins: outs * ins + 2 * outs)),
    # Half a byte a weight; a bfloat16 scale and zero point for each 32 or 128 inputs.
    "int4-weight": (bert(), integers(lambda outs, ins: outs * ins // 2 + 4 * outs * ins // 32)),
    "int4-weight,group-size=128": (bert(), integers(lambda outs, ins: outs * ins // 2 + 4 * outs * ins // 128)),
    "bits=4": (bert(), groupwise(4)),
    "bits=3,embedding=8,head=16,groups=12": (bert(), groupwise(3, embedding=8, head=16, groups=12)),
    "bits=2/3/3/2/2/2/2/2/3/3/2/2": (bert(), groupwise(MIXED)),
    # Pruning.
    "sparsity=0.6": (bert(), sparse("0.6")),
    "sparsity=0.6,storage=bitmap": (bert(), sparse("0.6", "bitmap")),
    "sparsity=0.9,storage=csr,embedding=yes": (bert(), sparse("0.9", "csr", table=True)),
    "sparsity=0.95,storage=csr,execute=csr": (skipping(bert(), "0.95"), sparse("0.95", "csr")),
    # Executed dense on a CPU.
    "sparsity=2:4": (bert(), sparse("0.5", "2:4")),
    "heads=6": (bert(heads=6), floats),
    "heads=12,12,8,8,6,6,6,6,4,4,2,2": (bert(heads=LIST), floats),
    "fixed-attention=7": (bert(fixed=7), floats),
    "units=0-5:fixed-attention=7": (bert(fixed=[7] * 6 + [0] * 6), floats),
    # As published: 7 fixed heads and a learned one.
    "heads=8+fixed-attention=7": (bert(heads=8, fixed=7), floats),
    "ffn=1024": (bert(inner=1024), floats),
    "units=0-5:ffn=1024": (bert(inner=HALF_FFN), floats),
    "layers=6": (bert(layers=6), floats),
    "layers=0,2,4": (bert(layers=3), floats),
    # Students.
    "student=tinybert-4": (bert(layers=4, hidden=312, inner=1200, head=26), floats),
    "student=zhao-48": (bert(hidden=48, inner=192, words=4_928, head=4), floats),
    # Architecture-invariant compression.
    "share-units": (bert(shared=ALL), floats),
    "share-units=attention": (bert(shared=ATTENTION), floats),
    "share-units=ffn": (bert(shared=FFN), floats),
    "factor-embedding=128": (bert(embedding=[*tables(30_522, 128, hidden=768), *norm(768)]), floats),
    "factor-embedding=128,layout=albert": (bert(embedding=as_albert(30_522, 128)), floats),
    "vocabulary=5000": (bert(words=5_000), floats),
    "decompose-attention=9": (bert(parts=[HALVES] * 9 + [(TOKENS,)] * 3), floats),
    "decompose-attention=9+cache-segment=2": (bert(parts=[HALVES[:1]] * 9 + [(TOKENS,)] * 3), floats),
    "fixed-attention=7+decompose-attention=9": (bert(fixed=7, parts=[HALVES] * 9 + [(TOKENS,)] * 3), floats),
    # Survey, Section 5, direction 2: each unit by itself.
    "heads=12,12,8,8,6,6,6,6,4,4,2,2+bits=2/3/3/2/2/2/2/2/3/3/2/2": (bert(heads=LIST), groupwise(MIXED)),
    # Direction 3: attention and FFN each by itself.
    "units=6-11:heads=4+units=0-5:ffn=1024": (bert(heads=HALF_HEADS, inner=HALF_FFN), floats),
    "share-units=ffn+heads=12,12,8,8,6,6,6,6,4,4,2,2": (bert(heads=LIST, shared=FFN), floats),
    # Direction 6: methods that complement each other, "e.g., attention head pruning with quantization".
    "heads=6+int8": (bert(heads=6), integers(per_row)),
    "heads=6+int8,embedding=8": (bert(heads=6), integers(per_row, table=True)),
    "sparsity=0.6,storage=bitmap+bits=4": (bert(), sparse("0.6", "bitmap", bits=4)),
    "student=tinybert-4+int8": (bert(layers=4, hidden=312, inner=1200, head=26), integers(per_row)),
    "vocabulary=30000+factor-embedding=128,layout=albert+share-units": (
        bert(embedding=as_albert(30_000, 128), shared=ALL),
        floats,
    ),
    "share-units+sparsity=0.95,storage=csr,execute=csr": (
        skipping(bert(shared=ALL), "0.95"),
        sparse("0.95", "csr"),
    ),
    "heads=6+layers=6+sparsity=0.9,storage=csr,execute=csr": (
        skipping(bert(layers=6, heads=6), "0.9"),
        sparse("0.9", "csr"),
    ),
    "vocabulary=5000+share-units+int8": (bert(words=5_000, shared=ALL), integers(per_row)),
}


@pytest.mark.parametrize("recipes", CASES)
def test_each_component_of_each_unit(recipes: str):
    found = bertprof.breakdown("bert-base-uncased", recipes=[recipes], time=False)
    rows = {
        (cost.unit, cost.component): (cost.parameters, cost.parameter_bytes, cost.nonzero_parameters, cost.macs)
        for cost in found.costs
        if cost.parameters or cost.macs
    }
    wanted = expected(*CASES[recipes])
    assert rows.keys() == wanted.keys()
    for key, (parameters, size, nonzero, macs) in wanted.items():
        # Where there is no parameter, none is zero.
        assert rows[key] == (parameters, size, nonzero if parameters else rows[key][2], macs), key
    assert found.total("parameters") == sum(row[0] for row in wanted.values())


def test_every_method_has_a_case():
    assert {recipe.method.name for case in CASES for recipe in parse_all([case])} == set(METHODS)


def test_a_method_changes_what_it_says():
    """Of parameters, bytes and MACs: what `bertprof methods` says, and nothing else."""
    plain = expected(bert(), floats)
    for case, (pieces, stored) in CASES.items():
        (first, *others) = parse_all([case])
        if others or first.text.endswith("storage=dense") or case == "sparsity=0.6":
            continue  # zeros that are stored as such take as many bytes
        rows = expected(pieces, stored)
        says = set(first.method.changes) - {"time"}
        if first.method.name == "sparsity" and first.options["execute"] == "dense":
            says -= {"macs"}  # executed as if none were zero
        changed = {
            name
            for name, i in (("parameters", 0), ("bytes", 1), ("macs", 3))
            if sum(row[i] or 0 for row in rows.values()) != sum(row[i] or 0 for row in plain.values())
        }
        assert changed == says, case


@pytest.mark.parametrize(
    ("recipes", "parameters", "share_of_macs"),
    [
        # 6 of 12 heads: 12 · (4 · 6 · 64 · 768 weights and 3 · 6 · 64 biases) fewer.
        ("heads=6", 109_482_240 - 12 * (4 * 6 * 64 * 768 + 3 * 6 * 64), "82.4"),
        ("layers=6", 66_955_008, "50.0"),
        ("student=tinybert-4", 14_350_248, "5.6"),
        ("vocabulary=30000+factor-embedding=128,layout=albert+share-units", 11_683_584, "100.1"),
    ],
)
def test_the_closed_forms_are_those_that_are_known(recipes: str, parameters: int, share_of_macs: str):
    pieces, _ = CASES[recipes]
    assert sum(piece.size for piece in pieces if piece.held) == parameters
    whole, left = (sum(piece.macs for piece in some) for some in (bert(), pieces))
    assert f"{100 * left / whole:.1f}" == share_of_macs
    assert sum(piece.size for piece in bert()) == 109_482_240


# Tiny twins that run --------------------------------------------------------------------------------------------------

RUNS = {
    "fp16": "fp16",
    "bf16": "bf16",
    "int8": "int8,embedding=8",
    "int8-weight": "int8-weight",
    "int4-weight": "int4-weight",
    "bits": "bits=4/3/2",
    "sparsity": "sparsity=0.6,by=all,embedding=yes",
    "heads": "heads=4,2,1",
    "ffn": "units=1-2:ffn=16",
    "layers": "layers=0,2",
    "share-units": "share-units",
    "factor-embedding": "factor-embedding=8,layout=albert",
    "vocabulary": "vocabulary=50",
    "fixed-attention": "fixed-attention=3",
    "decompose-attention": "decompose-attention=2",
    "cache-segment": "decompose-attention=2+cache-segment=2",
}


@pytest.mark.parametrize(
    "recipes",
    [
        *RUNS.values(),
        "heads=4,2,1+int8",
        "units=2:heads=1+units=0:ffn=16+bits=2/3/4",
        "vocabulary=50+factor-embedding=8,layout=albert+share-units+sparsity=0.6+bf16",
        "layers=2+share-units=ffn+int8-weight",
        "share-units+fixed-attention=3+decompose-attention=2+cache-segment=1+sparsity=0.6+bf16",
    ],
)
def test_it_runs(recipes: str, untouched: Any):
    hidden = output(applied(untouched(drawn("bert")), recipes))
    assert hidden.shape == (2, 20, 32)
    assert torch.isfinite(hidden).all()


def test_every_method_runs():
    """Students do in test_students."""
    assert {*RUNS, "student"} == set(METHODS)
