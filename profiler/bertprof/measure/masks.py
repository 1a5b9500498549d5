"""One prebuilt mask for padded sequences, in the form that a family takes without looking at its values."""

from typing import Any, Literal

import torch

_TWO_DIMENSIONS = frozenset(
    (
        *("deberta", "deberta-v2", "xlnet"),
        *("bertprof-bilstm", "bertprof-mkd", "bertprof-cnn", "bertprof-adabert"),
    )
)
"""Families whose forward makes its own mask of a 2-D one, or needs none of another form, and takes no other."""

_CAUSAL = frozenset(("gpt2",))


def padding_mask(
    config: Any, batch: int, length: int, real: int, dtype: torch.dtype
) -> tuple[Any, Literal["2d", "4d"]]:
    """The mask that hides all tokens from position `real` on.

    Args:
        config: the transformers configuration.
        batch, length: of the input ids.
        real: tokens of each sequence that are no padding.
        dtype: of the scores.

    Returns:
        what to pass as attention_mask, and its kind. 4-D: (batch, 1, length, length), added to the scores, 0 where a
        token is seen and the dtype's least number where not; ModernBERT takes one for each kind of layer. 2-D: (batch,
        length) of ones and zeros.
    """
    seen = torch.arange(length) < real
    if config.model_type in _TWO_DIMENSIONS:
        return seen.to(torch.long).expand(batch, length).contiguous(), "2d"
    visible = seen.expand(length, length)
    if config.model_type in _CAUSAL:
        visible = visible & torch.ones(length, length, dtype=torch.bool).tril()
    if config.model_type == "modernbert":
        distance = (torch.arange(length)[:, None] - torch.arange(length)).abs()
        local = visible & (distance <= config.local_attention // 2)
        masks = {"full_attention": visible, "sliding_attention": local}
        return {kind: _added(mask, batch, dtype) for kind, mask in masks.items()}, "4d"
    return _added(visible, batch, dtype), "4d"


def _added(visible: torch.Tensor, batch: int, dtype: torch.dtype) -> torch.Tensor:
    scores = torch.zeros(visible.shape, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)
    return scores.expand(batch, 1, *visible.shape).contiguous()
