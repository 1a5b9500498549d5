"""Elementwise pruning (PR-EP): the smallest weights become zeros, and formats that do not store them.

Zeros save bytes where a format leaves them out, and no time: no kernel here is faster for them, and the model is
executed dense.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from math import ceil
from types import MappingProxyType

import torch
from torch import Tensor, nn

from bertprof.components import Component
from bertprof.compress.pruning import called_units
from bertprof.compress.recipe import Recipe
from bertprof.compress.subjects import NONZERO_UNKNOWN, chosen_units, converted, places_of, stored_of, users_of
from bertprof.measure import build
from bertprof.measure.parameters import Storage
from bertprof.measure.subject import Subject
from bertprof.record import Caveat

_TABLES = (Component.EMBEDDING, Component.SOFTMAX_ATTENTION)
"""Where tables stand: of words, positions and segments, and of relative positions."""


def sparsity(subject: Subject, recipe: Recipe) -> Subject:
    """Magnitude pruning (Gordon et al. 2020, Section 3.2): of n weights the round(S · n) smallest become zero.

    Pruned are weights of two dimensions or more: those of units and whatever else is no table; those of pooler and head
    but with head=no; with embedding=yes also the tables of words, positions and segments (with a projection of theirs)
    and of relative positions. A tied weight is pruned once, with the tables. Biases and norms stay. `units=0-5:` prunes
    those of these units alone, and tables where embedding=yes says so.

    by=matrix prunes each to that share. by=all takes the smallest of all of them together: where these are depends on
    the weights, so that the model is built once to count them, also where no time is measured. So it is where zeros of
    before cannot be known from shapes: real weights of which heads=, say, left some. Random weights stand for trained
    ones, of which none is zero.

    Stored, with z non-zeros of n scalars of b bytes: dense n · b; bitmap ⌈n / 8⌉ + z · b; CSR z · (b + 4) +
    4 · (rows + 1), that is an index of 32 bits for each and where each row begins; rows are the first dimension.

    Raises:
        UsageError: there is nothing to prune, the share is less than one weight, a weight serves units that it is for
            and others, or is stored without its zeros already.
    """
    assert subject.twin is not None
    targets = _targets(subject, recipe)
    together = recipe.options["by"] == "all"

    def convert(model: nn.Module) -> None:
        weights = dict(model.named_parameters())
        for names in [list(targets)] if together else [[name] for name in targets]:
            zero_smallest([weights[name] for name in names], _zeros(recipe.value, (targets[name] for name in names)))

    storage = {name: stored_of(subject, name, one) for name, one in subject.twin.named_parameters()}
    unknown = {name for name, stored in storage.items() if stored.nonzero_parameters is None}
    if subject.workload.weights == "random" or subject.device.type == "meta":
        storage |= {name: storage[name]._replace(nonzero_parameters=storage[name].parameters) for name in unknown}
        unknown = set()
    nonzero = {}
    for name, one in targets.items():  # the smallest go, so that zeros of before are the first of them
        nonzero[name] = min(one.numel() - _zeros(recipe.value, [one]), storage[name].nonzero_parameters or 0)
    caveats = []
    counted = unknown.union(targets) if together else unknown
    if counted:
        found = _counted(subject, recipe, counted, convert)
        nonzero |= {name: number for name, number in found.items() if name in targets}
        storage |= {name: storage[name]._replace(nonzero_parameters=number) for name, number in found.items()}
        what = "which matrices hold the zeros" if together else "how many weights were zero before"
        text = f"{what} depends on the weights ({subject.workload.weights}): the model was built once to count them"
        caveats = [Caveat(code="zeros-by-weights", text=text)]
    form = _FORMS[recipe.options["storage"]]
    for name, parameter in targets.items():
        storage[name] = form(storage[name], nonzero[name], parameter)
    known = [caveat for caveat in subject.caveats if caveat.code != NONZERO_UNKNOWN]  # now they are
    return converted(replace(subject, caveats=known), convert, storage=storage, caveats=caveats)


def _zeros(share: float, weights: Iterable[Tensor]) -> int:
    return round(share * sum(weight.numel() for weight in weights))


def _targets(subject: Subject, recipe: Recipe) -> dict[str, nn.Parameter]:
    """The parameters of the twin that are pruned, by name."""
    assert subject.twin is not None
    slots = called_units(subject.twin, subject.regions)
    users = users_of(slots)
    chosen = set(chosen_units(recipe, len(slots)))
    found = {}
    for name, parameter, _, component, _ in places_of(subject).values():
        units = users.get(id(parameter), set())
        if parameter.dim() < 2 or component is Component.ADD_NORM or name.endswith("bias"):
            continue
        if component in _TABLES:
            wanted = recipe.options["embedding"] == "yes"
        elif component is Component.HEAD:
            wanted = recipe.options["head"] == "yes" and recipe.units is None
        else:
            wanted = bool(units & chosen) or (recipe.units is None and not units)
            if wanted and units - chosen:
                raise recipe.refused(
                    f"units {min(units & chosen)} and {min(units - chosen)} share {name}; name all of them or none"
                )
        if wanted:
            if name in subject.storage and subject.storage[name].index_bytes:
                raise recipe.refused(
                    f"{name} is pruned already by another sparsity=, and stored without its zeros; name it in one"
                )
            found[name] = parameter
    if not found:
        raise recipe.refused("there is no weight that it is for")
    groups = [list(found.values())] if recipe.options["by"] == "all" else [[one] for one in found.values()]
    if not any(_zeros(recipe.value, group) for group in groups):
        raise recipe.refused("it zeroes no weight; give a larger share")
    return found


def _counted(
    subject: Subject, recipe: Recipe, names: Collection[str], convert: Callable[[nn.Module], None]
) -> dict[str, int]:
    """The non-zeros of each of these parameters in the pruned model, which is built for it."""
    if subject.device.type == "meta":
        raise recipe.refused("by=all depends on the weights, and the model has none; use by=matrix")
    with subject.open() as opened, build.quiet(), torch.no_grad():
        convert(opened.model)
        weights = dict(opened.model.named_parameters())
        return {name: int(torch.count_nonzero(weights[name])) for name in names}


# Storage -------------------------------------------------------------------------------------------------------------


def _dense(stored: Storage, nonzero: int, weight: Tensor) -> Storage:
    return stored._replace(nonzero_parameters=nonzero)


def _bitmap(stored: Storage, nonzero: int, weight: Tensor) -> Storage:
    index = ceil(stored.parameters / 8)
    return Storage(stored.parameters, index + nonzero * _bytes_of_one(stored), nonzero, index)


def _csr(stored: Storage, nonzero: int, weight: Tensor) -> Storage:
    index = 4 * nonzero + 4 * (weight.shape[0] + 1)
    return Storage(stored.parameters, index + nonzero * _bytes_of_one(stored), nonzero, index)


def _bytes_of_one(stored: Storage) -> int:
    return stored.parameter_bytes // stored.parameters


_FORMS: Mapping[str, Callable[[Storage, int, Tensor], Storage]] = MappingProxyType(
    {"dense": _dense, "bitmap": _bitmap, "csr": _csr}
)


# Zeros ---------------------------------------------------------------------------------------------------------------

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
