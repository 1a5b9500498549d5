"""The table of operators."""

import warnings
from typing import Any

import pytest

from bertprof.measure import operators
from bertprof.measure.operators import Operand, recurrent_counts


@pytest.mark.parametrize(
    ("name", "inputs", "outputs", "expected"),
    [
        ("gelu", [(2, 3)], [(2, 3)], 48),
        ("layer_norm", [(2, 3), None, (3,)], [(2, 3)], 30),
        ("layer_norm", [(2, 3), None, None], [(2, 3)], 24),
        ("softmax", [(2, 3)], [(2, 3)], 30),
        ("mean", [(2, 3)], [(2,)], 6),
        ("linear", [(5, 4), (3, 4), (3,)], [(5, 3)], 15),
        ("linear", [(5, 4), (3, 4), None], [(5, 3)], 0),
        ("baddbmm", [(1, 2, 2), (1, 2, 3), (1, 3, 2)], [(1, 2, 2)], 4),
        # two heads, 3 × 5 scores each: scale and softmax, then with a mask
        ("scaled_dot_product_attention", [(1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4), None], [(1, 2, 3, 4)], 2 * 15 * 6),
        (
            "scaled_dot_product_attention",
            [(1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4), (3, 5)],
            [(1, 2, 3, 4)],
            2 * 15 * 7,
        ),
        ("embedding", [(9, 4), (2,)], [(2, 4)], 0),
        ("i0", [(2,)], [(2,)], None),
    ],
)
def test_the_table(name: str, inputs: list[Any], outputs: list[Any], expected: int | None):
    assert operators.extra_flops(name, [Operand(s) for s in inputs], [Operand(s) for s in outputs]) == expected


def test_pools_and_batch_norm():
    """A batch norm in eval mode scales and shifts; a pool does an operation for each place of its window."""
    x, weight, window = Operand((2, 3, 5)), Operand((3,)), Operand(None, numbers=(4,))
    assert operators.extra_flops("batch_norm", [x, weight, weight, weight, weight], [x]) == 2 * 30
    nothing = Operand(None)
    assert operators.extra_flops("batch_norm", [x, nothing, nothing, weight, weight], [x]) == 30
    for name in ("max_pool1d", "avg_pool1d"):
        assert operators.extra_flops(name, [x, window], [Operand((2, 3, 2))]) == 4 * 12
    square = Operand(None, numbers=(2, 3))
    assert operators.extra_flops("avg_pool2d", [Operand((1, 4, 6)), square], [Operand((1, 2, 2))]) == 6 * 4


def test_integers_do_no_floating_point_operations():
    integer = Operand((2, 3), floating=False)
    assert operators.extra_flops("add", [integer, integer], [integer]) == 0
    assert operators.extra_flops("cumsum", [integer], [integer]) == 0


def test_grouped_queries_multiply_once_per_query_head():
    shapes = [Operand((1, 8, 16, 4)), Operand((1, 2, 16, 4)), Operand((1, 2, 16, 4))]
    assert operators.attention_macs(shapes) == 8 * 16 * 16 * (4 + 4)


def test_nothing_that_fvcore_ignores_slips_through():
    """What fvcore ignores by default it drops in silence; every such operator has a place in one of our lists."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fvcore.nn.jit_analysis import _IGNORED_OPS

    unplaced = [
        operator
        for operator in _IGNORED_OPS
        if operators.extra_flops(operators.plain_name(operator), [Operand((1,))], [Operand((1,))]) is None
    ]
    assert unplaced == []


def test_an_lstm_with_a_projected_state():
    # H = 16, P = 8, inputs 16: gates (64, 16) of the input and (64, 8) of the state, a projection (8, 16), two biases.
    weights = [(64, 16), (64, 8), (64,), (64,), (8, 16)]
    macs, flops = recurrent_counts("lstm", 10, weights)
    assert macs == 10 * (64 * 16 + 64 * 8 + 8 * 16)
    assert flops == 2 * macs + 10 * (2 * 64 + 13 * 16)
