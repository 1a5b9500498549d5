"""Elementwise pruning (PR-EP): the smallest weights become zeros, and formats that do not store them.

Zeros save bytes where a format leaves them out, and time where a kernel skips them; see `sparse_execution`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from math import ceil
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from bertprof.components import Component
from bertprof.compress import sparse_execution
from bertprof.compress.methods import SEMI_STRUCTURED
from bertprof.compress.pruning import called_units
from bertprof.compress.recipe import Recipe
from bertprof.compress.sparse_execution import Kernel, Work
from bertprof.compress.subjects import (
    NONZERO_UNKNOWN,
    Place,
    chosen_units,
    converted,
    is_table,
    places_of,
    stored_of,
    users_of,
)
from bertprof.compress.zeros import zero_smallest, zero_two_of_four
from bertprof.measure import build
from bertprof.measure.parameters import Storage
from bertprof.measure.subject import Subject
from bertprof.record import Caveat


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

    2:4 makes the two smallest of each four weights in a row zero (Mishra et al. 2021, Section 3), of a tie the first; a
    row are the inputs of an output neuron, and of what is no linear that of one index of the first dimension.

    Stored, with z non-zeros of n scalars of b bytes: dense n · b; bitmap ⌈n / 8⌉ + z · b; CSR z · (b + 4) +
    4 · (rows + 1), that is an index of 32 bits for each and where each row begins; rows are the first dimension. 2:4
    n / 2 · b + ⌈n / 8⌉: half of the values, zeros among them too, and 2 bits for the place of each (ibid.). So torch
    stores float16 and bfloat16 for its kernels. That float32 is stored by the same rule is our choice: tensor cores
    take 1:2 of it, with 4 bits for each value.

    Executed dense, or, with execute=csr and of 2:4 where there is a kernel, by kernels that multiply what is stored.

    Raises:
        UsageError: there is nothing to prune, the share is less than one weight, a weight serves units that it is for
            and others, or is stored without its zeros already; rows are no fours; or no kernel executes it as asked.
    """
    assert subject.twin is not None
    _check_options(recipe)
    targets = _targets(subject, recipe)
    kernel = _kernel(subject, recipe, targets)
    pruning = _two_of_four(targets) if _is_semi_structured(recipe) else _by_share(recipe, targets)
    storage = {name: stored_of(subject, name, one) for name, one in subject.twin.named_parameters()}
    unknown = {name for name, stored in storage.items() if stored.nonzero_parameters is None}
    if subject.workload.weights == "random" or subject.device.type == "meta":
        storage |= {name: storage[name]._replace(nonzero_parameters=storage[name].parameters) for name in unknown}
        unknown = set()
    left = {name: pruning.left(storage[name]) for name in targets}
    counted = unknown.union(name for name, number in left.items() if number is None)
    caveats = []
    if counted:
        found = _counted(subject, recipe, counted, pruning.convert)
        storage |= {name: storage[name]._replace(nonzero_parameters=number) for name, number in found.items()}
        left |= {name: found[name] for name in counted.intersection(targets)}
        what = "which matrices hold the zeros" if recipe.options["by"] == "all" else "how many weights were zero before"
        text = f"{what} depends on the weights ({subject.workload.weights}): the model was built once to count them"
        caveats = [Caveat(code="zeros-by-weights", text=text)]
    form = _FORMS[SEMI_STRUCTURED if _is_semi_structured(recipe) else recipe.options["storage"]]
    work = {}
    for name, place in targets.items():
        every, number = place.parameter.numel(), left[name] or 0
        storage[name] = form(storage[name], number, place.parameter)
        read = form(Storage(every, place.parameter.nbytes), number, place.parameter)
        work[name] = Work(every // 2 if _is_semi_structured(recipe) else number, read.parameter_bytes)
    known = [caveat for caveat in subject.caveats if caveat.code != NONZERO_UNKNOWN]  # now they are
    pruned = converted(replace(subject, caveats=known), pruning.convert, storage=storage, caveats=caveats)
    return _executed(pruned, recipe, kernel, work)


def in_order(recipes: Sequence[Recipe]) -> list[Recipe]:
    """Recipes with a cast before zeros that kernels skip: it is its dtype in which these run.

    Elsewhere they apply as they are written, zeros first.
    """
    zeros = [recipe for recipe in recipes if recipe.method.stage == "zeros"]
    if not any(_is_semi_structured(recipe) or recipe.options["execute"] == "csr" for recipe in zeros):
        return list(recipes)
    return sorted(recipes, key=lambda recipe: {"zeros": 1, "quantization": 2}.get(recipe.method.stage, 0))


def _is_semi_structured(recipe: Recipe) -> bool:
    return bool(recipe.value == SEMI_STRUCTURED)


def _check_options(recipe: Recipe) -> None:
    """Refuses options that do not go with what else is asked."""
    given = {option.partition("=")[0] for option in recipe.text.split(",")[1:]}
    if _is_semi_structured(recipe) and (own := given & {"by", "storage", "execute"}):
        raise recipe.refused(f"2:4 says itself which weights go and how the rest is stored; leave out {min(own)}=")
    if recipe.options["execute"] == "csr" and recipe.options["storage"] != "csr":
        raise recipe.refused("kernels that skip zeros read weights that are stored as CSR; add storage=csr")


class _Pruning(NamedTuple):
    """How weights become zeros.

    Attributes:
        convert: makes those of a model zero, in place.
        left: what is stored of a weight before → how many are not zero after; None: that depends on the weights.
    """

    convert: Callable[[nn.Module], None]
    left: Callable[[Storage], int | None]


def _by_share(recipe: Recipe, targets: Mapping[str, Place]) -> _Pruning:
    together = recipe.options["by"] == "all"

    def convert(model: nn.Module) -> None:
        weights = dict(model.named_parameters())
        for names in [list(targets)] if together else [[name] for name in targets]:
            pruned = [weights[name] for name in names]
            zero_smallest(pruned, _zeros(recipe.value, pruned))

    def left(stored: Storage) -> int | None:
        if together or stored.nonzero_parameters is None:
            return None
        zeros: int = round(recipe.value * stored.parameters)
        return min(stored.parameters - zeros, stored.nonzero_parameters)  # those of before are the first that go

    return _Pruning(convert, left)


def _two_of_four(targets: Mapping[str, Place]) -> _Pruning:
    def convert(model: nn.Module) -> None:
        weights = dict(model.named_parameters())
        for name, place in targets.items():
            zero_two_of_four(_rows(place, weights[name]))

    def left(stored: Storage) -> int | None:
        return stored.parameters // 2 if stored.nonzero_parameters == stored.parameters else None

    return _Pruning(convert, left)


def _rows(place: Place, weight: Tensor) -> Tensor:
    """A weight as (outputs, inputs), a view; as (the first dimension, the rest) where it is that of no linear."""
    return weight.t() if isinstance(place.holder, Conv1D) else weight.view(len(weight), -1)


def _zeros(share: float, weights: Iterable[Tensor]) -> int:
    return round(share * sum(weight.numel() for weight in weights))


def _targets(subject: Subject, recipe: Recipe) -> dict[str, Place]:
    """The parameters of the twin that are pruned, by name."""
    assert subject.twin is not None
    slots = called_units(subject.twin, subject.regions)
    users = users_of(slots)
    chosen = set(chosen_units(recipe, len(slots)))
    found = {}
    for name, place in places_of(subject).items():
        units = users.get(id(place.parameter), set())
        if place.parameter.dim() < 2 or place.component is Component.ADD_NORM or name.endswith("bias"):
            continue
        if is_table(place):
            wanted = recipe.options["embedding"] == "yes"
        elif place.component is Component.HEAD:
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
            found[name] = place
    if not found:
        raise recipe.refused("there is no weight that it is for")
    if _is_semi_structured(recipe):
        for name, place in found.items():
            if (inputs := _rows(place, place.parameter).shape[1]) % 4:
                raise recipe.refused(f"a row of {name} has {inputs} weights, no multiple of 4")
        return found
    weights = [place.parameter for place in found.values()]
    groups = [weights] if recipe.options["by"] == "all" else [[one] for one in weights]
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


# Execution -----------------------------------------------------------------------------------------------------------


def _kernel(subject: Subject, recipe: Recipe, targets: Mapping[str, Place]) -> Kernel | str | None:
    """What executes the weights without their zeros; None: nothing is asked to; why nothing does, of 2:4.

    Raises:
        UsageError: execute=csr, and there is no kernel for that.
    """
    dtype = next(iter(targets.values())).parameter.dtype
    if _is_semi_structured(recipe):
        return sparse_execution.semi_structured_kernel(subject.device, dtype)
    if recipe.options["execute"] == "dense":
        return None
    kernel = sparse_execution.csr_kernel(subject.device, dtype)
    if isinstance(kernel, str):
        raise recipe.refused(f"{kernel}; leave out execute=csr")
    return kernel


def _executed(pruned: Subject, recipe: Recipe, kernel: Kernel | str | None, work: Mapping[str, Work]) -> Subject:
    """The pruned subject run by a kernel, where there is one; else dense, with a caveat of 2:4.

    Raises:
        UsageError: execute=csr, and the kernel takes none of the weights.
    """
    assert pruned.twin is not None
    if isinstance(kernel, Kernel):
        linears = sparse_execution.linears_of(kernel, pruned.twin, work)
        if linears:
            return sparse_execution.run_by(kernel, linears, pruned, recipe, work)
        none = f"{kernel.name} takes {kernel.taken}, and no other holds {sparse_execution.listed(list(work))}"
        if not _is_semi_structured(recipe):
            raise recipe.refused(f"{none}; leave out execute=csr")
        kernel = none
    if kernel is None:
        return pruned
    text = f"2:4 weights are stored without their zeros and executed dense, as MACs and times say: {kernel}"
    return replace(pruned, caveats=[*pruned.caveats, Caveat(code="semi-structured-dense", text=text)])


# Storage -------------------------------------------------------------------------------------------------------------


def _dense(stored: Storage, nonzero: int, weight: Tensor) -> Storage:
    return stored._replace(nonzero_parameters=nonzero)


def _bitmap(stored: Storage, nonzero: int, weight: Tensor) -> Storage:
    index = ceil(stored.parameters / 8)
    return Storage(stored.parameters, index + nonzero * _bytes_of_one(stored), nonzero, index)


def _csr(stored: Storage, nonzero: int, weight: Tensor) -> Storage:
    index = 4 * nonzero + 4 * (weight.shape[0] + 1)
    return Storage(stored.parameters, index + nonzero * _bytes_of_one(stored), nonzero, index)


def _semi_structured(stored: Storage, nonzero: int, weight: Tensor) -> Storage:
    index = ceil(stored.parameters / 8)
    return Storage(stored.parameters, index + stored.parameters // 2 * _bytes_of_one(stored), nonzero, index)


def _bytes_of_one(stored: Storage) -> int:
    return stored.parameter_bytes // stored.parameters


_FORMS: Mapping[str, Callable[[Storage, int, Tensor], Storage]] = MappingProxyType(
    {"dense": _dense, "bitmap": _bitmap, "csr": _csr, SEMI_STRUCTURED: _semi_structured}
)
