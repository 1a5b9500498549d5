"""Data quantization (DQ) to any width, group by group: stored packed, executed dequantised, since no kernel runs it."""

from collections import Counter

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from bertprof.components import Component
from bertprof.compress.methods import FLOAT_BITS
from bertprof.compress.quantization import (
    backend_with,
    is_matrix,
    no_kernel_caveat,
    quantised_caveat,
    sharers,
    stored_float,
    values_of,
)
from bertprof.compress.recipe import Recipe
from bertprof.compress.subjects import converted, is_table, lost_nonzeros, one_a_unit, places_of, units_of
from bertprof.measure.parameters import Storage
from bertprof.measure.subject import Subject


def bits(subject: Subject, recipe: Recipe) -> Subject:
    """bits=B: every matrix quantised group by group, stored packed, executed dequantised.

    The group-wise scheme of Shen et al. 2020 (Q-BERT): the output neurons of a matrix form `groups` groups as equal as
    can be, each with a range of its own, in which 2^B levels are evenly spaced from the least to the greatest weight. A
    table's neurons are its rows; a matrix of fewer rows has as many groups. Stored are B bits a value, the matrix
    filled up to a byte, and a float32 scale and zero point a group; no codebook. After sparsity= with a format that
    leaves zeros out, only what is not zero is packed and zeros stay zero; stored dense, a zero is a value like
    others, and non-zeros are not counted any more.

    Biases, norms and vectors stay as they are. Tables of the embedding and of relative positions outside of the units
    are `embedding` bits wide, all other matrices outside `head` bits: as the units where these have one width, else 8,
    and with `units=` as they are.

    Raises:
        UsageError: not one width for each unit, another for units that share a weight, or all stay as they are.
    """
    widths = _widths(subject, recipe)
    if not widths:
        raise recipe.refused(f"no weight is less than {FLOAT_BITS} bits wide: there is nothing to quantise")
    places = places_of(subject)
    groups: int = recipe.options["groups"]
    sparse: set[str] = set()
    storage = {}
    for name, width in widths.items():
        place = places[name]
        before = stored_float(subject, recipe, place)
        if before.index_bytes:
            sparse.add(name)
        rows = len(_rows(place.holder, name, place.parameter))
        packed = -(-values_of(before) * width // 8) + 8 * min(groups, rows)
        known = before.nonzero_parameters if before.index_bytes else None
        storage[name] = Storage(before.parameters, before.index_bytes + packed, known, before.index_bytes)

    def convert(model: nn.Module) -> None:
        for name, width in widths.items():
            holder = model.get_submodule(name.rpartition(".")[0])
            weight = model.get_parameter(name)
            quantise_groups(_rows(holder, name, weight.data), width, groups, keep_zeros=name in sparse)

    lost = lost_nonzeros(subject, recipe, widths.keys() - sparse)
    number: Counter[int] = Counter(widths.values())
    listing = ", ".join(f"{number[width]} × {width} bits" for width in sorted(number))
    said = f"{'/'.join(map(str, sorted(number)))}-bit weights"
    return converted(
        subject,
        convert,
        storage=storage,
        backend=backend_with(subject, f"{said} dequantised"),
        caveats=[
            quantised_caveat(listing, len(widths)),
            no_kernel_caveat(f"{said} in groups of output neurons"),
            *lost,
        ],
    )


def quantise_groups(rows: Tensor, width: int, groups: int, *, keep_zeros: bool = False) -> None:
    """Rounds a matrix in place to at most 2^width values a group of rows.

    Args:
        rows: of any two dimensions and strides; a view changes what it is a view of.
        width: bits of a value.
        groups: at most; there are never more than rows.
        keep_zeros: zeros stay, and are in no group.
    """
    for part in torch.tensor_split(rows, min(groups, len(rows))):
        values = part.float()
        taken = values != 0 if keep_zeros else torch.ones_like(values, dtype=torch.bool)
        if not taken.any():
            continue
        low, high = values[taken].aminmax()
        scale = (high - low) / (2**width - 1)
        if scale > 0:
            rounded = ((values - low) / scale).round() * scale + low
            part.copy_(torch.where(taken, rounded, values))


def _widths(subject: Subject, recipe: Recipe) -> dict[str, int]:
    """Parameter → bits, of the matrices that are not to stay as they are."""
    assert subject.twin is not None
    slots = units_of(subject.twin, subject.regions)
    by_unit = one_a_unit(recipe, len(slots))
    outside = FLOAT_BITS if recipe.units is not None else recipe.values[0] if len({*recipe.values}) == 1 else 8
    embedding, head = (recipe.options[key] or outside for key in ("embedding", "head"))
    widths = {}
    for name, place in places_of(subject).items():
        if not is_matrix(name.rpartition(".")[2], place.parameter):
            continue
        of_units = {by_unit.get(unit, FLOAT_BITS) for unit in place.units}
        if len(of_units) > 1:
            raise recipe.refused(f"{sharers(place)}; give them one width")
        if of_units:
            width = of_units.pop()
        elif is_table(place):
            width = embedding
        else:  # of a student without units, its backbone is as units are
            width = head if slots or place.component is Component.HEAD else recipe.values[0]
        if width != FLOAT_BITS:
            widths[name] = width
    return widths


def _rows(holder: nn.Module, name: str, weight: Tensor) -> Tensor:
    """A view of a weight with a row for each output neuron.

    They are its first dimension, but for GPT-2's `Conv1D` (inputs, outputs) and XLNet's q, k, v and r (inputs, heads,
    head size); its o is (outputs, heads, head size).
    """
    if isinstance(holder, Conv1D):
        return weight.t()
    if type(holder).__name__ == "XLNetRelativeAttention" and name.rpartition(".")[2] in ("q", "k", "v", "r"):
        return weight.view(len(weight), -1).t()
    return weight.view(len(weight), -1)
