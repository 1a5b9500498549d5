"""Zeros: which scalars of weights go, by their magnitudes alone."""

from collections.abc import Callable, Sequence
from functools import reduce

import torch
from torch import Tensor

_BINS = 1 << 16


def zero_smallest(weights: Sequence[Tensor], number: int) -> None:
    """Makes the scalars of the smallest magnitudes of several tensors zero, in place; of equal ones the first.

    Magnitudes are those in float32, whose bit patterns stand in the same order as they do. The largest that goes is
    found by counting the upper, then the lower half of these patterns, so that nothing is sorted or put together.

    Args:
        weights: of any shapes and float dtypes.
        number: how many; at most as many as there are.
    """
    if not number:
        return
    upper, before = _bin(weights, number, lambda key: key >> 16)
    lower, below = _bin(weights, number - before, lambda key: key[key >> 16 == upper] & (_BINS - 1))
    largest, left = upper * _BINS + lower, number - before - below
    for weight in weights:
        key = _key(weight)
        goes = key < largest
        ties = torch.nonzero(key == largest).flatten()[:left]
        goes[ties] = True
        left -= len(ties)
        weight.masked_fill_(goes.view(weight.shape), 0)


def _key(weight: Tensor) -> Tensor:
    """The bit patterns of the magnitudes, flat."""
    return weight.detach().float().abs().flatten().view(torch.int32)


def _bin(weights: Sequence[Tensor], number: int, half: Callable[[Tensor], Tensor]) -> tuple[int, int]:
    """In which of the bins the last of that many smallest stands, and how many stand in those before."""
    counts = reduce(torch.add, (torch.bincount(half(_key(weight)), minlength=_BINS) for weight in weights))
    upto = torch.cumsum(counts, 0)
    place = int(torch.searchsorted(upto, torch.tensor(number, device=upto.device)))
    return place, int(upto[place]) - int(counts[place])


def zero_two_of_four(rows: Tensor) -> None:
    """Makes the two scalars of the smallest magnitudes of each four in a row zero, in place; of equal ones the first.

    Args:
        rows: of shape (any, a multiple of 4), or a view of it.
    """
    fours = rows.detach().unflatten(1, (-1, 4))
    order = fours.float().abs().argsort(dim=-1, stable=True)
    fours.scatter_(-1, order[..., :2], 0)
