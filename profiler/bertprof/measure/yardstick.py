"""The yardstick: one fixed BERT layer that every round runs beside the model, under marks of the same kind.

A machine is not equally fast at all times: clocks, neighbours and where memory lies move the median of a process by
more than most changes that one wants to see. What slows the model down slows the yardstick down too, so records of
different times are compared after each component was divided by the same component of the yardstick.

It is written out here, and not taken from transformers, so that it is the same work under every version of it: hidden
size 256, 4 attention heads, FFN 1024, 128 tokens, float32 (Devlin et al. 2019, BERT-mini's layer). Never change it:
older records were divided by it.
"""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import nn
from torch.nn import functional

from bertprof.attribution import Region
from bertprof.components import Component
from bertprof.measure.clocks import clock_for
from bertprof.measure.inputs import Inputs
from bertprof.measure.timing import Marked

HIDDEN, HEADS, INTERMEDIATE, TOKENS = 256, 4, 1024, 128

REGIONS: Mapping[str, Region] = MappingProxyType(
    {
        "": Region(Component.ADD_NORM),
        "attention": Region(Component.SOFTMAX_ATTENTION),
        "attention.query": Region(Component.ATTENTION_LINEAR_IN),
        "attention.key": Region(Component.ATTENTION_LINEAR_IN),
        "attention.value": Region(Component.ATTENTION_LINEAR_IN),
        "attention.output": Region(Component.ATTENTION_LINEAR_OUT),
        "ffn": Region(Component.FFN),
    }
)
"""Module → region; what is left of the layer is residual sums and norms."""


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(HIDDEN, HIDDEN) for _ in range(4))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        heads = (1, TOKENS, HEADS, HIDDEN // HEADS)
        query, key, value = (
            projection(hidden).view(heads).transpose(1, 2) for projection in (self.query, self.key, self.value)
        )
        context = functional.scaled_dot_product_attention(query, key, value)
        output: torch.Tensor = self.output(context.transpose(1, 2).reshape(1, TOKENS, HIDDEN))
        return output


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = _Attention()
        self.attention_norm = nn.LayerNorm(HIDDEN)
        self.ffn = nn.Sequential(nn.Linear(HIDDEN, INTERMEDIATE), nn.GELU(), nn.Linear(INTERMEDIATE, HIDDEN))
        self.ffn_norm = nn.LayerNorm(HIDDEN)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden = self.attention_norm(hidden + self.attention(hidden))
        output: torch.Tensor = self.ffn_norm(hidden + self.ffn(hidden))
        return output


def yardstick(device: torch.device) -> Marked:
    """The layer with its input, ready to be timed on a device. The random state of torch stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = _Layer().eval().requires_grad_(False).to(device)
        hidden = torch.randn(1, TOKENS, HIDDEN).to(device)
    return Marked(layer, Inputs(args=(hidden,)), REGIONS, clock_for(device))
