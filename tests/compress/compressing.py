"""What the tests of recipes share: a recipe applied to a live tiny model, and what the result computes."""

from typing import Any

import torch
from torch import nn

from bertprof.compress.application import apply
from bertprof.compress.recipe import parse_all
from bertprof.measure import live
from bertprof.measure.inputs import tensors_of
from bertprof.measure.subject import Subject
from conftest import tiny

TOKENS = 20


def ids(batch: int = 2, words: int = 100, tokens: int = TOKENS) -> torch.Tensor:
    """Token ids without padding: 3 and above."""
    return torch.randint(3, words, (batch, tokens), generator=torch.Generator().manual_seed(1))


def drawn(family: str, **options: Any) -> nn.Module:
    """A tiny model with large weights of which none is zero or one: biases and norms take part as well."""
    model = tiny(family, **options)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = 0.3 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise if parameter.dim() > 1 else parameter + noise)
    return model


def applied(model: nn.Module, recipes: str, inputs: Any = None) -> Subject:
    """A live module with recipes."""
    return apply(live.from_module(model, {"input_ids": ids()} if inputs is None else inputs), parse_all([recipes]))


def output(subject: Subject) -> torch.Tensor:
    """What the model computes from the inputs that the recipe leaves it."""
    with subject.open() as opened, torch.inference_mode():
        args, kwargs = opened.inputs.fresh()
        return first(opened.model(*args, **kwargs))


def first(found: Any) -> torch.Tensor:
    """The first tensor of an output: hidden states, or logits."""
    return next(tensors_of(found))


def parameters(subject: Subject) -> int:
    """Scalars of the twin, each once."""
    assert subject.twin is not None
    return sum(parameter.numel() for parameter in subject.twin.parameters())
