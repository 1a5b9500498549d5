"""Checkpoints: what parameters weigh as stored, whether their shapes fit, and a model that runs with these weights."""

import copy
import importlib.util
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from bertprof.configuration import Configuration, HubError, fetch
from bertprof.errors import ConfigurationError, first_line
from bertprof.measure import build
from bertprof.measure.anatomy import regions_of
from bertprof.measure.parameters import Storage
from bertprof.measure.weights import packing, pruned
from bertprof.measure.weights.tensorfiles import Checkpoint as Checkpoint
from bertprof.measure.weights.tensorfiles import open_checkpoint as open_checkpoint
from bertprof.record import Caveat

_MARKS: Mapping[str, str] = {
    "bitsandbytes": r"\.weight\.(absmax|quant_map|quant_state\..*)|\.SCB",
    "gptq": r"\.qweight",
    "compressed-tensors": r"\.weight_packed",
    "torchao": r"\._?weight[_:]qdata",
}
"""Format of quantised weights → how names end that no other format has."""

_LIBRARIES: Mapping[str, str] = {
    "bitsandbytes": "bitsandbytes",
    "gptq": "gptqmodel",
    "awq": "gptqmodel",
    "compressed-tensors": "compressed_tensors",
    "torchao": "torchao",
}
"""Format → the module without which transformers cannot run it."""


# Names ---------------------------------------------------------------------------------------------------------------


def _entries(checkpoint: Checkpoint, model: nn.Module) -> dict[str, dict[str, str]]:
    """What the checkpoint stores for each of the model's unique parameters.

    Names fit with the base model's prefix added or removed, with the `gamma` and `beta` of old LayerNorms, and by any
    name of a tied weight. Tensors of a leaf module that are none of its parameters (scales, packed weights) go with
    its weight.

    Returns:
        parameter → field (its name within the module) → name of the stored tensor; what is lacking is left out.

    Raises:
        ConfigurationError: no name fits.
    """
    first: dict[int, str] = {}
    names = {
        name: first.setdefault(id(parameter), name)
        for name, parameter in model.named_parameters(remove_duplicate=False)
    }
    leaves = {path for path, module in model.named_modules() if path and next(module.children(), None) is None}
    weights = {path: names[name] for path in leaves if (name := f"{path}.weight") in names}
    prefix = getattr(model, "base_model_prefix", "")
    entries: dict[str, dict[str, str]] = {}
    for stored in checkpoint.tensors:
        spellings = _spellings(stored, prefix)
        if fitting := [spelling for spelling in spellings if spelling in names]:
            entries.setdefault(names[fitting[0]], {}).setdefault(fitting[0].rpartition(".")[2], stored)
            continue
        for spelling in spellings[1:]:
            path = next((above for above in _above(spelling) if above in weights), None)
            if path is not None:
                entries.setdefault(weights[path], {})[spelling.removeprefix(f"{path}.")] = stored
                break
    if not entries:
        raise ConfigurationError(
            f"the weights in {checkpoint.folder} are of another model: no name fits; name the folder of this model"
        )
    return entries


def _spellings(stored: str, prefix: str) -> tuple[str, ...]:
    modern = re.sub(r"\bgamma$", "weight", re.sub(r"\bbeta$", "bias", stored))
    return stored, modern, modern.removeprefix(f"{prefix}."), f"{prefix}.{modern}"


def _check_units(checkpoint: Checkpoint, model: nn.Module, entries: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Makes sure that checkpoint and model have the same units.

    Returns:
        the stored tensors that the model has no use for, such as those of a head.

    Raises:
        ConfigurationError: one has units that the other lacks.
    """

    def alike(name: str) -> str:
        return re.sub(r"\.\d+\.", ".*.", name)

    misfit = f"the weights in {checkpoint.folder} do not fit its config.json"
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    patterns = {alike(name) for name in names if alike(name) != name}
    used = {stored for fields in entries.values() for stored in fields.values()}
    buffers = {name for name, _ in model.named_buffers()}
    prefix = getattr(model, "base_model_prefix", "")
    unused = []
    for stored in checkpoint.tensors:
        spellings = _spellings(stored, prefix)
        if stored in used or (names | buffers) & set(spellings) or stored.endswith("position_ids"):
            continue
        if any(alike(spelling) in patterns for spelling in spellings):
            raise ConfigurationError(f"{misfit}: they hold {stored}, a unit that the configuration does not have")
        unused.append(stored)
    units: dict[str, list[str]] = {}
    for name, _ in model.named_parameters():
        if (numbered := re.match(r"(.*?\.\d+)\.", name)) is not None:
            units.setdefault(numbered[1], []).append(name)
    for unit, inside in units.items():
        if not any(name in entries for name in inside):
            raise ConfigurationError(f"{misfit}: they lack {unit}, which the configuration has")
    return unused


def _unused(tensors: Sequence[str]) -> list[Caveat]:
    if not tensors:
        return []
    text = f"the checkpoint holds {len(tensors)} tensors of which this model has no use (--task builds a head)"
    text += f": {_first(tensors)}"
    return [Caveat(code="unused-tensors", text=text, value=float(len(tensors)))]


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" and more" if len(names) > 3 else "")


def _above(name: str) -> Iterator[str]:
    while name := name.rpartition(".")[0]:
        yield name


def _incomplete(absent: Sequence[str]) -> list[Caveat]:
    if not absent:
        return []
    text = f"the checkpoint lacks {len(absent)} of the model's tensors, which are random: {_first(absent)}"
    return [Caveat(code="incomplete-checkpoint", text=text, value=float(len(absent)))]


# Storage -------------------------------------------------------------------------------------------------------------


def quantisation(checkpoint: Checkpoint, config: Any) -> str | None:
    """The name of the format in which weights are quantised, by the configuration where it says so; None: floats."""
    found: str | None = None
    for name, header in checkpoint.tensors.items():
        found = next((mark for mark, end in _MARKS.items() if re.search(f"(?:{end})$", name)), found)
        if name.endswith(".weight") and header.dtype.itemsize == 1 and header.dtype is not torch.bool:
            found = found or ("float8" if header.dtype.is_floating_point else "int8")
    return _told(config).get("quant_method", found) if found else None


def _told(config: Any) -> Mapping[str, Any]:
    """The configuration's own words on the quantisation."""
    told = getattr(config, "quantization_config", None)
    return told if isinstance(told, dict) else {}


def storage_of(checkpoint: Checkpoint, model: nn.Module) -> tuple[dict[str, Storage], list[Caveat]]:
    """What each unique parameter of a model takes in a checkpoint. Tensors are read one after another.

    Args:
        checkpoint: any. Its tensors that the model has no use for (a head) are ignored.
        model: the float model, on any device, of the checkpoint's shapes (see `adapt`).

    Returns:
        The names of `model.named_parameters()` → storage, and caveats on what is missing or not understood. A
        quantised scalar is non-zero where it differs from its zero point. A parameter that the checkpoint lacks takes
        the bytes of the model's own dtype, and its non-zeros are not known.

    Raises:
        ConfigurationError: the checkpoint is of another model.
    """
    entries = _entries(checkpoint, model)
    unused = _check_units(checkpoint, model, entries)
    one_less = _told(getattr(model, "config", None)).get("checkpoint_format") != "gptq_v2"
    found: dict[str, Storage] = {}
    unknown: list[str] = []
    with checkpoint.reading() as read:
        for name, parameter in model.named_parameters():
            size = parameter.numel()
            fields = entries.get(name)
            if fields is None:
                found[name] = Storage(size, size * parameter.element_size())
                continue
            own = name.rpartition(".")[2]
            tensors = {field: read(stored) for field, stored in fields.items()}
            nonzero = packing.nonzero(tensors, own, size, one_less)
            if nonzero is None:
                unknown.append(name)
            found[name] = Storage(size, sum(checkpoint.tensors[stored].bytes for stored in fields.values()), nonzero)
    caveats = [*_incomplete(sorted(set(found) - set(entries))), *_unused(unused)]
    if unknown:
        kind = quantisation(checkpoint, getattr(model, "config", None)) or "this checkpoint"
        text = f"how {kind} packs {len(unknown)} of its weights is not known, so that their non-zeros are not counted"
        caveats.append(Caveat(code="unknown-packing", text=f"{text}: {_first(unknown)}", value=float(len(unknown))))
    return found, caveats


# Shapes --------------------------------------------------------------------------------------------------------------


def adapt(model: nn.Module, checkpoint: Checkpoint) -> list[Caveat]:
    """Gives the units of a model the shapes of a checkpoint from which heads or FFN columns were removed, in place.

    Args:
        model: as its configuration makes it, on any device. What is new in it holds zeros until weights are loaded.
        checkpoint: any.

    Returns:
        A caveat that names the units and what is left of them, where there are such.

    Raises:
        ConfigurationError: the checkpoint's shapes differ in any other way, or it is of another model.
    """
    stored = _shapes(checkpoint, model)
    expected = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    if all(expected[name] == shape for name, shape in stored.items()):
        return []
    left = pruned.shrink(model, stored, regions_of(model))
    for name, parameter in model.named_parameters():
        if stored.get(name, parameter.shape) != tuple(parameter.shape):
            raise ConfigurationError(
                f"the weights in {checkpoint.folder} do not fit its config.json: {name} is {stored[name]}, the "
                f"configuration makes it {expected[name]}; it needs the config.json that they were saved with"
            )
    units = list(left)
    several = f"units {', '.join(units[:-1])} and {units[-1]} are" if len(units) > 1 else f"unit {units[0]} is"
    parts = "; ".join(f"unit {unit}: {what}" for unit, what in left.items())
    text = f"{several} smaller than the configuration says: {parts}"
    return [Caveat(code="pruned-shapes", text=text, value=float(len(units)))]


def _shapes(checkpoint: Checkpoint, model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Parameter → stored shape, for those that no packing hides."""
    shapes = {}
    for name, fields in _entries(checkpoint, model).items():
        stored = checkpoint.tensors.get(fields.get(name.rpartition(".")[2], ""))
        if stored is not None and (stored.dtype.is_floating_point or stored.dtype is torch.int8):
            shapes[name] = stored.shape
    return shapes


# Loading -------------------------------------------------------------------------------------------------------------


class Loaded(NamedTuple):
    """A model with a checkpoint's weights.

    Attributes:
        model: on the CPU, in eval mode.
        caveats: what a reader must know of its weights.
        load_ms: from the first byte read to the model ready, from whatever the system had cached; None where the
            weights may first have been fetched.
    """

    model: nn.Module
    caveats: list[Caveat]
    load_ms: float | None


def load(configuration: Configuration, config: Any, task: str | None, attention: str, dtype: torch.dtype) -> Loaded:
    """The model with its checkpoint's weights.

    Args:
        configuration: where the weights are.
        config: the transformers configuration.
        task: a key of `build.TASKS`, or None for the base model.
        attention: the attention implementation.
        dtype: in which to run, whatever the weights are stored in.

    Raises:
        ConfigurationError: there are no weights, they cannot be read, do not fit, or are quantised.
    """
    if configuration.origin != "folder":
        try:
            fetch(configuration.source)  # the library itself would try for minutes, and not say what is wrong
        except HubError as error:
            text = f"--weights: those of {configuration.source} cannot be fetched: {error}"
            raise ConfigurationError(f"{text}; leave it out for random weights") from None
        model, absent = _from_pretrained(configuration, config, task, attention, dtype)
        return Loaded(model, _incomplete(absent), None)
    twin = build.on_meta(config, task, attention, dtype)  # also imports the model's code, which is no loading
    started = time.perf_counter()
    checkpoint = open_checkpoint(Path(configuration.source))
    if checkpoint is None:
        raise ConfigurationError(
            f"--weights: those of {configuration.source} cannot be loaded: it holds no model.safetensors or "
            "pytorch_model.bin, nor an index of either; --no-weights takes random ones"
        )
    _check_floats(checkpoint, config)
    caveats = adapt(twin, checkpoint)
    if caveats:
        model = build.with_random_weights(config, task, attention, dtype)
        adapt(model, checkpoint)
        _fill(model, checkpoint)
    else:
        model, _ = _from_pretrained(configuration, config, task, attention, dtype)
    load_ms = (time.perf_counter() - started) * 1e3
    absent = sorted({name for name, _ in twin.named_parameters()} - set(_entries(checkpoint, twin)))
    return Loaded(model, caveats + _incomplete(absent), load_ms)


def _check_floats(checkpoint: Checkpoint, config: Any) -> None:
    method = quantisation(checkpoint, config)
    if method is None:
        return
    library = _LIBRARIES.get(method)
    needs = ""
    if library and importlib.util.find_spec(library) is None:
        needs = f" (a format of {library.replace('_', '-')}, which is not installed)"
    raise ConfigurationError(
        f"the weights in {checkpoint.folder} are quantised, {method}{needs}, and cannot be run as floats; "
        "--no-time reads their sizes, --no-weights times random ones"
    )


def _fill(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Loads what the checkpoint has for the model, which is of its shapes."""
    entries = _entries(checkpoint, model)
    with checkpoint.reading() as read, torch.no_grad():
        for name, parameter in model.named_parameters():
            stored = entries.get(name, {}).get(name.rpartition(".")[2])
            if stored is not None:
                parameter.copy_(read(stored))


def _from_pretrained(
    configuration: Configuration, config: Any, task: str | None, attention: str, dtype: torch.dtype
) -> tuple[nn.Module, list[str]]:
    """What transformers makes of the weights, and the names of the tensors that they lack."""
    config = copy.deepcopy(config)
    if configuration.origin == "folder" and hasattr(config, "quantization_config"):
        del config.quantization_config  # the weights are floats, whatever it says
    model: nn.Module
    try:
        with torch.random.fork_rng(devices=[]):  # what the checkpoint lacks is drawn at random
            model, report = build.auto_class(task).from_pretrained(
                configuration.source,
                config=config,
                attn_implementation=attention,
                dtype=dtype,
                local_files_only=configuration.origin == "folder",
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:
        if build.is_out_of_memory(error):
            raise
        reason = first_line(error)
        if "mismatch" in str(error):
            reason = "their shapes are not those of the configuration"
        raise ConfigurationError(f"--weights: those of {configuration.source} cannot be loaded: {reason}") from None
    absent = sorted(report["missing_keys"])
    if len(absent) >= len(model.state_dict()):
        raise ConfigurationError(f"--weights: those of {configuration.source} are of another model: no name fits")
    return model.eval(), absent
