"""What an operator does: the table of floating-point arithmetic, and the operators that multiply matrices.

FLOPs of an element-wise operator or reduction, per element:

====================================  =====  =========================================================================
operator                              FLOPs  source
====================================  =====  =========================================================================
add, sub, mul, div, relu, ...         1      one operation an element
exp, log, tanh, erf, sqrt, pow, ...   1      a mathematical operation, not a machine instruction, is what counts
                                             (flops_computation.py of google-research/electra; Clark et al. 2020)
bias of linear, addmm, convolution    1      one addition an output element
gelu                                  8      ibid.: ½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))); equal to the decomposition
                                             into mul, pow, mul, add, mul, tanh, add, mul
silu                                  2      sigmoid and a product
softmax, log_softmax                  5      ibid.: maximum, subtraction, exp, sum, division
layer_norm                            5      fvcore and ibid.; 4 without scale and shift, as fvcore
rms_norm                              4      as its decomposition: square, mean, product with the root, scale
batch_norm                            2      fvcore: in eval mode a scale and a shift; 1 without weights of its own
max_pool, avg_pool                    –      one operation for each place of the window an output element
sum, mean, max, cumsum, ...           1      one operation an input element
lstm, gru, rnn                        –      the products of all gates as MACs; bias 1; a cell as `RECURRENT` says
linalg_vector_norm                    2      a square and an addition an input element
scaled_dot_product_attention          –      as its decomposition: QKᵀ and ·V as MACs; scale 1, mask 1 (where there is
                                             one, or `is_causal`) and softmax 5 a score. Eager counts the same.
embedding, views, copies, casts       0      no arithmetic
====================================  =====  =========================================================================

An operator in none of these lists has no rule, which a count reports.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

Shape = tuple[int, ...]


class Operand(NamedTuple):
    """What a rule may know of an input or output: its shape, whether it is floating point, whether it is a true flag.

    The shape of what is no tensor is None; `numbers` are those of a list of whole numbers.
    """

    shape: Shape | None
    floating: bool = True
    flag: bool = False
    numbers: tuple[int, ...] = ()

    @property
    def elements(self) -> int:
        """The number of elements; 0 of what is no tensor."""
        return 0 if self.shape is None else math.prod(self.shape)


PER_OUTPUT_ELEMENT: Mapping[str, int] = {
    **dict.fromkeys(
        (
            *("add", "sub", "rsub", "mul", "div", "neg", "abs", "maximum", "minimum", "clamp", "clamp_min", "relu"),
            *("reciprocal", "exp", "log", "tanh", "erf", "sqrt", "rsqrt", "pow", "sigmoid", "sin", "cos", "square"),
            *("floor", "floor_divide", "remainder", "ceil", "sign", "log2", "exp2"),
        ),
        1,
    ),
    "silu": 2,
    "gelu": 8,
    "softmax": 5,
    "_softmax": 5,
    "_safe_softmax": 5,
    "log_softmax": 5,
    "_log_softmax": 5,
}
PER_INPUT_ELEMENT: Mapping[str, int] = {
    **dict.fromkeys(("sum", "mean", "max", "min", "amax", "amin", "cumsum", "var", "argmax"), 1),
    "linalg_vector_norm": 2,
}

NO_ARITHMETIC = frozenset(
    (
        *("embedding_bag", "_embedding_bag", "numel", "mT", "mH", "real", "eye", "randn", "rand", "bernoulli"),
        *("embedding", "dropout", "feature_dropout", "native_dropout", "identity", "lift_fresh", "detach", "alias"),
        *("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "unflatten", "permute", "transpose", "t"),
        *("numpy_T", "contiguous", "clone", "copy", "to", "_to_copy", "type_as", "expand", "expand_as", "repeat"),
        *("size", "slice", "select", "narrow", "split", "split_with_sizes", "chunk", "unbind", "squeeze", "unsqueeze"),
        *("cat", "stack", "gather", "index", "index_select", "masked_fill", "where", "roll", "tril", "triu", "pad"),
        *("arange", "zeros", "ones", "full", "empty", "zeros_like", "ones_like", "full_like", "empty_like", "fill"),
        *("new_zeros", "new_ones", "new_full", "new_empty", "zero", "scalar_tensor", "constant_pad_nd"),
        *("eq", "ne", "lt", "le", "gt", "ge", "logical_not", "logical_and", "logical_or", "bitwise_not", "bitwise_and"),
        *("__and__", "index_put", "nonzero", "any", "all", "isnan", "Int", "ScalarImplicit", "as_strided"),
        *("_local_scalar_dense", "item", "is_nonzero"),
        *("repeat_interleave", "sort", "scatter", "_pack_padded_sequence", "_pad_packed_sequence"),
    )
)  # fmt: skip

POOLS = frozenset(("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d"))
"""Pools over windows, whose sizes are the second input: one for each dimension."""

MATRIX_PRODUCTS: Mapping[str, str] = {
    "linear": "linear_flop_jit",
    "addmm": "addmm_flop_jit",
    "mm": "matmul_flop_jit",
    "bmm": "bmm_flop_jit",
    "matmul": "matmul_flop_jit",
    "_convolution": "conv_flop_jit",
}
"""Operators whose MACs fvcore's own handles count, by the handle's name. (fvcore calls a MAC a flop.)"""

FUSED_ATTENTION = frozenset(
    (
        "scaled_dot_product_attention",
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
        "_scaled_dot_product_fused_attention_overrideable",
    )
)


# Traffic. An operator reads its inputs once and writes its outputs once; views move nothing. Exceptions:

NOTHING_MOVED = frozenset(("empty", "empty_like", "new_empty", "lift_fresh", "dropout", "native_dropout"))
"""Operators after which nothing was read or written."""

NOT_READ = frozenset(("zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full", "fill", "zero"))
"""Operators that only write: their inputs give no more than a shape."""

READ_IN_PART = frozenset(("embedding", "embedding_bag", "_embedding_bag", "index", "index_select", "gather"))
"""Operators that read of their first input no more than they write."""


def attention_macs(inputs: Sequence[Operand]) -> int:
    """MACs of QKᵀ and ·V.

    Args:
        inputs: query (..., heads, S, d), key (..., T, d), value (..., T, d_v), then what the operator takes besides.
            Keys and values shared by several query heads (grouped queries) are multiplied once per query head.
    """
    query, key, value = (operand.shape for operand in inputs[:3])
    assert query is not None
    assert key is not None
    assert value is not None
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


SPARSE_LINEAR = "sparse_linear"
"""Our own operator for a linear of which some weights only are multiplied and read; see `sparse`."""


def sparse_macs(input: Operand, multiplied: int) -> int:
    """MACs of a sparse linear: one for each weight that is multiplied and each token; input (..., in)."""
    return input.elements // (input.shape or (1,))[-1] * multiplied


RECURRENT: Mapping[str, int] = {"lstm": 13, "gru": 11, "rnn_tanh": 2, "rnn_relu": 2}
"""Recurrent layers, and the FLOPs of a cell for each hidden number and step beyond its products and biases.

LSTM: 4 sums of input and state, 5 activations, 3 products, 1 sum. GRU: 3 sums, 3 activations, 3 products, 2 sums.
RNN: 1 sum, 1 activation.
"""


def recurrent_counts(name: str, tokens: int, weights: Sequence[Shape]) -> tuple[int, int]:
    """MACs and FLOPs of a recurrent layer: every weight is multiplied once a token, in each layer and direction.

    Args:
        name: a key of RECURRENT.
        tokens: steps × sequences.
        weights: the shapes of its parameters; matrices (gates · hidden, input or hidden) and biases.
    """
    macs = tokens * sum(math.prod(shape) for shape in weights if len(shape) == 2)
    biases = tokens * sum(shape[0] for shape in weights if len(shape) == 1)
    gates = {"lstm": 4, "gru": 3}.get(name, 1)
    rows = [shape[0] for shape in weights if len(shape) == 2]
    # Those of a projection of the state (proj_size) are fewer, since it is narrower than the state.
    hidden = sum(number for number in rows if number == max(rows)) // (2 * gates)
    return macs, 2 * macs + biases + tokens * hidden * RECURRENT[name]


def einsum_macs(equation: str, factors: Sequence[Shape]) -> int:
    """MACs of a product of two tensors: one for every combination of the indices of both.

    Raises:
        NotImplementedError: another number of factors, or an ellipsis.
    """
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    if len(terms) == 1:
        return 0
    if len(terms) != 2 or "." in equation:
        raise NotImplementedError(f"einsum {equation!r}")
    sizes = {
        label: size for term, shape in zip(terms, factors, strict=True) for label, size in zip(term, shape, strict=True)
    }
    return math.prod(sizes.values())


def extra_flops(name: str, inputs: Sequence[Operand], outputs: Sequence[Operand]) -> int | None:
    """FLOPs beyond 2 · macs.

    Args:
        name: the operator without namespace, overload and trailing underscore.
        inputs: its operands in the order of its signature.
        outputs: its results.

    Returns:
        the number by the module's table; None for an operator that no list has.
    """
    result = outputs[0] if outputs else Operand(None)
    if name in FUSED_ATTENTION:
        query, key = inputs[0].shape, inputs[1].shape
        assert query is not None
        assert key is not None
        scores = math.prod(query[:-1]) * key[-2]
        # With `is_causal` no mask is given but the scores are masked all the same.
        masked = any(given.shape is not None for given in inputs[3:4]) or any(given.flag for given in inputs[5:6])
        return scores * (6 + masked)
    if name in ("linear", SPARSE_LINEAR, "_convolution", "convolution", "_convolution_mode"):
        return result.elements if len(inputs) > 2 and inputs[2].shape is not None else 0
    if name in ("addmm", "baddbmm"):
        return result.elements
    if name in ("mm", "bmm", "matmul", "einsum"):
        return 0
    if name in ("layer_norm", "native_layer_norm"):
        affine = len(inputs) > 2 and inputs[2].shape is not None
        return inputs[0].elements * (5 if affine else 4)
    if name in ("rms_norm", "_fused_rms_norm"):
        return inputs[0].elements * 4
    if name == "batch_norm":
        return inputs[0].elements * (2 if inputs[1].shape is not None else 1)
    if name in POOLS:
        return result.elements * math.prod(inputs[1].numbers)
    if not result.floating and (name in PER_OUTPUT_ELEMENT or name in PER_INPUT_ELEMENT):
        return 0
    if name in PER_OUTPUT_ELEMENT:
        return result.elements * PER_OUTPUT_ELEMENT[name]
    if name in PER_INPUT_ELEMENT:
        return inputs[0].elements * PER_INPUT_ELEMENT[name]
    return 0 if name in NO_ARITHMETIC else None


def plain_name(operator: str) -> str:
    """`aten::add_` → `add`."""
    name = operator.rpartition("::")[2]
    return name.removesuffix("_") if not name.startswith("__") else name
