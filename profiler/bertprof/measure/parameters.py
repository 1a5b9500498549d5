"""Parameters: how many there are and how many bytes they take, each with its owner."""

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import NamedTuple

from torch import nn

from bertprof.attribution import Owner, Region, component_of_parameter, region_of
from bertprof.components import Component


class Storage(NamedTuple):
    """Logical scalars, their bytes as stored, and how many of them are not zero; None: not known.

    `index_bytes` are those of the bytes that say where the scalars stand, of a format that stores no zeros.
    """

    parameters: int
    parameter_bytes: int
    nonzero_parameters: int | None = None
    index_bytes: int = 0


def count_parameters(
    model: nn.Module,
    regions: Mapping[str, Region],
    units: Mapping[str, set[int | None]],
    storage: Mapping[str, Storage] | None = None,
) -> dict[Owner, Storage]:
    """Gives every parameter to the module that holds it; one that several hold, to the first by name that is no head.

    (Some task's models are built head first, and the table of words would else stand in the head.)

    Args:
        model: the float model, on any device.
        regions: module path → region.
        units: module path → the units that call it, as the counted forward found them.
        storage: parameter → what is stored for it; one without an entry is stored as it stands in the model.

    Returns:
        owner, with the path of the holding module → its parameters. Their sum is that of the model's unique parameters.
    """
    found: dict[Owner, Storage] = {}
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    for name, parameter in model.named_parameters():
        known = [n for n in names[id(parameter)] if component_of_parameter(n, regions) is not Component.HEAD]
        stands = known[0] if known else name
        owner = standing(stands.rpartition(".")[0], regions, units)
        called_by = {standing(n.rpartition(".")[0], regions, units).unit for n in names[id(parameter)]}
        unit = owner.unit if len(called_by) == 1 else None
        owner = owner._replace(unit=unit, component=component_of_parameter(stands, regions))
        size = parameter.numel()
        own = (storage or {}).get(name, Storage(size, size * parameter.element_size()))
        found[owner] = _sum(found.get(owner, Storage(0, 0, 0)), own)
    return found


def _sum(a: Storage, b: Storage) -> Storage:
    known = a.nonzero_parameters is not None and b.nonzero_parameters is not None
    nonzero = (a.nonzero_parameters or 0) + (b.nonzero_parameters or 0) if known else None
    return Storage(a.parameters + b.parameters, a.parameter_bytes + b.parameter_bytes, nonzero)


def total_storage(parts: Iterable[Storage]) -> Storage:
    """The sum of several; how many are not zero is known only where all of them know it."""
    return reduce(_sum, parts, Storage(0, 0, 0))


def standing(path: str, regions: Mapping[str, Region], units: Mapping[str, set[int | None]]) -> Owner:
    """The owner of what stands in a module, whoever calls it.

    Weights that several units call stand outside of all units (`unit` None), once.
    """
    called_by = units.get(path)
    above = path
    while called_by is None and above:  # a module that never runs (dropout of zero) stands where those around it do
        above = above.rpartition(".")[0]
        called_by = units.get(above)
    unit = next(iter(called_by)) if called_by is not None and len(called_by) == 1 else None
    return Owner(unit, region_of(path, regions)[1], path)
