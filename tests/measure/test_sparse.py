"""A twin's linear of which some weights only are multiplied: counted alike along its trace and as it runs."""

import pytest
import torch
from torch import nn

from bertprof import Component
from bertprof.attribution import Owner, Region
from bertprof.measure import flops
from bertprof.measure.inputs import Inputs
from bertprof.measure.sparse import CountedLinear

REGIONS = {"": Region(Component.FFN)}
"""All in one component."""


@pytest.mark.parametrize("bias", [True, False])
def test_it_is_counted_by_what_is_multiplied_and_read(bias: bool):
    with torch.device("meta"):
        model = nn.Sequential(CountedLinear(nn.Linear(6, 8, bias=bias), 5, 77), nn.ReLU()).eval()
        inputs = Inputs((torch.zeros(2, 3, 6),))
    counts = flops.count(model, inputs, REGIONS)
    assert counts.caveats == []  # trace and run agree
    operators = {name: (o.calls, o.macs, o.flops) for found in counts.operators.values() for name, o in found.items()}
    # 6 tokens · 5 weights; two FLOPs each, and a bias for each of 6 · 8 numbers
    assert operators["bertprof::sparse_linear"] == (1, 30, 60 + 48 * bias)
    moved = counts.traffic[Owner(None, Component.FFN, "0")]
    assert moved.moved_bytes == 4 * 36 + 77 + 4 * 8 * bias + 4 * 48
    assert moved.activation_bytes == 4 * 48


def test_it_holds_the_parameters_of_the_linear():
    linear = nn.Linear(6, 8, device="meta")
    counted = CountedLinear(linear, 5, 77)
    assert counted.weight is linear.weight
    assert counted.bias is linear.bias
    assert dict(counted.named_parameters()).keys() == {"weight", "bias"}
