"""Products with sparse weights: how a twin without storage shows them, and so how they are counted.

The twin holds the weight dense, as the float model does, and multiplies by the operator `bertprof::sparse_linear`,
which says how many weights its kernel multiplies and how many bytes of them it reads. The model that runs holds what
its kernels read instead.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertprof.measure.operators import SPARSE_LINEAR

_library = torch.library.Library("bertprof", "DEF")
_library.define(
    f"{SPARSE_LINEAR}(Tensor input, Tensor weight, Tensor? bias, int multiplied, int weight_bytes) -> Tensor"
)


@torch.library.impl(_library, SPARSE_LINEAR, "CompositeExplicitAutograd")
def _sparse_linear(input: Tensor, weight: Tensor, bias: Tensor | None, multiplied: int, weight_bytes: int) -> Tensor:
    return functional.linear(input, weight, bias)


@torch.library.register_fake(f"bertprof::{SPARSE_LINEAR}", lib=_library)  # type: ignore[untyped-decorator]
def _shape(input: Tensor, weight: Tensor, bias: Tensor | None, multiplied: int, weight_bytes: int) -> Tensor:
    return input.new_empty((*input.shape[:-1], weight.shape[0]))


class CountedLinear(nn.Module):
    """A linear of a twin of which some weights only are multiplied; input (..., in), output (..., out)."""

    def __init__(self, linear: nn.Linear, multiplied: int, weight_bytes: int) -> None:
        """
        Args:
            linear: whose parameters it takes over.
            multiplied: weights that its kernel multiplies, once a token each: the non-zeros.
            weight_bytes: that the kernel reads a call: values and indices.
        """
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.multiplied, self.weight_bytes = multiplied, weight_bytes

    def forward(self, input: Tensor) -> Tensor:
        """The product."""
        found: Tensor = torch.ops.bertprof.sparse_linear(
            input, self.weight, self.bias, self.multiplied, self.weight_bytes
        )
        return found
