"""From a live module to a Subject. The module is measured as it is, where it is, and left as it was."""

import copy
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from bertprof.attribution import Region
from bertprof.errors import ConfigurationError, DeviceError, UsageError, first_line
from bertprof.measure.anatomy import bases_of, regions_of
from bertprof.measure.build import DTYPES, TASKS, config_sha256, is_out_of_memory, quiet
from bertprof.measure.imported import load_inputs, load_model
from bertprof.measure.inputs import Inputs, read_inputs, size_of
from bertprof.measure.parameters import Storage
from bertprof.measure.subject import Opened, Request, Subject, anatomy_caveats, token_ids
from bertprof.measure.weights.quantised import StandIn, is_opened, of_parameter, stand_in
from bertprof.record import Caveat, Workload


def from_module(
    model: nn.Module, inputs: Any, name: str | None = None, anatomy: Mapping[str, str] | None = None
) -> Subject:
    """A subject from a live module of any kind.

    Args:
        model: any module.
        inputs: what its forward takes: a tensor, a tuple of positional arguments, a dict of keyword arguments, or a
            tokenizer's output; on the model's device.
        name: what to call it; what its configuration or class is called otherwise.
        anatomy: regular expression on a module's path → component, or "unit"; see `anatomy.regions_of`.

    Raises:
        UsageError: the inputs are of no form that the model takes, or on another device than the model; or the mapping
            does not fit.
        ConfigurationError: the forward fails.
        DeviceError: the model is spread over devices, or on one that has no clock here.
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"{type(model).__name__} is no torch.nn.Module; for a name or a folder use bertprof.breakdown")
    if anatomy is not None and not isinstance(anatomy, Mapping):
        raise UsageError("anatomy must map regular expressions on module paths to components")
    given = read_inputs(inputs, model)
    device = _device_of(model, given)
    batch, length = size_of(given)
    mask = given.get("attention_mask")
    if mask is not None and not isinstance(mask, torch.Tensor | dict):
        raise UsageError("input attention_mask must be a tensor; without one nothing is masked")
    dtype = _dtype_of(model)
    quantised = {path: s for path, m in model.named_modules() if (s := stand_in(m, dtype)) is not None}
    twin = _twin_of(model, quantised)
    twin_inputs = given.for_twin()
    regions = _regions(model, given, twin, twin_inputs, anatomy)
    config = getattr(model, "config", None)

    @contextmanager
    def open_() -> Iterator[Opened]:
        with _in_eval_mode(model):
            yield Opened(model, given, _compiled_caveats(model))

    return Subject(
        workload=Workload(
            model=name or str(getattr(config, "_name_or_path", "") or type(model).__name__),
            config_sha256=config_sha256(config) if hasattr(config, "to_diff_dict") else _structure_sha256(model),
            task=_task_of(model) if bases_of(model) else None,
            batch_size=batch,
            sequence_length=length,
            padding=_padding(mask),
            mask=_kind_of(mask),
            dtype=str(dtype).removeprefix("torch."),
            attention=_attention_of(model),
            device=str(device),
            weights="module",
        ),
        twin=twin,
        twin_inputs=twin_inputs,
        regions=regions,
        device=device,
        open=open_,
        storage=_storage(model, quantised),
        unpadded=_unpadded(given, mask, twin_inputs),
        caveats=[
            *anatomy_caveats(model, regions, anatomy),
            *_quantised_caveats(quantised, model),
            *_mask_caveats(mask, device),
            *_autocast_caveats(device),
        ],
        anatomy=anatomy or {},
    )


def from_reference(reference: str, inputs: str | None, request: Request) -> Subject:
    """A subject from a user's own code, on the device and in the dtype that was asked for.

    Args:
        reference: `package.module:callable` that returns the module. It, and that of the inputs, is passed batch_size
            and sequence_length where it has parameters of these names.
        inputs: the same for what its forward takes; None: random token ids, for a transformers model.
        request: the workload; its float32 leaves the module in its own dtype.

    Raises:
        UsageError: a callable is not there, returns something else, or inputs are needed.
        ConfigurationError: a callable or the forward fails.
    """
    options = {"batch_size": request.batch_size, "sequence_length": request.sequence_length}
    defaults = {"batch_size": 1, "sequence_length": 128}
    dtype = None if request.dtype == "float32" else DTYPES[request.dtype]
    with quiet():
        model = load_model(reference, request.device, dtype, options)
    if inputs is not None:
        given = load_inputs(inputs, model, request.device, options)
    elif getattr(getattr(model, "config", None), "vocab_size", None) and bases_of(model):
        ids = token_ids(model.config, (request.batch_size, request.sequence_length))
        given = Inputs(kwargs={"input_ids": ids.to(request.device)})
    else:
        raise UsageError(f"{reference} needs --inputs package.module:callable, which returns what its forward takes")
    made = from_module(model, given, reference, request.anatomy)
    asked = [f"--{name.replace('_', '-')} {options[name]}" for name in options if options[name] != defaults[name]]
    got = (made.workload.batch_size, made.workload.sequence_length)
    if asked and got != tuple(options.values()):
        text = f"the inputs' callable does not follow {' '.join(asked)}: it makes {got[0]} × {got[1] or 'no sequence'}"
        made.caveats.append(Caveat(code="size-ignored", text=text.replace("sequence-length", "seq-length")))
    return made


def _regions(
    model: nn.Module, given: Inputs, twin: nn.Module | None, twin_inputs: Inputs, anatomy: Mapping[str, str] | None
) -> dict[str, Region]:
    """The regions, by the twin where there is one and it runs; else the model itself is followed."""
    if twin is not None:
        try:
            return regions_of(twin, twin_inputs, anatomy)
        except UsageError:
            raise
        except Exception:  # its forward needs values: follow the model
            pass
    try:
        with _in_eval_mode(model):
            return regions_of(model, given, anatomy)
    except UsageError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        text = f"the forward of {type(model).__name__} fails on these inputs: {type(error).__name__}"
        raise ConfigurationError(f"{text}: {first_line(error)}") from None


_SMALL = 1 << 16
"""Entries of a buffer up to which its values are kept: statistics and counters, no caches."""

_KEPT = frozenset(("_parameters", "_buffers", "_modules"))
"""Attributes of a module that are tables of their own."""


@contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    """While open, the model is in eval mode; on leaving, it is as it was, also what its forwards left in it."""
    modes = {module: module.training for module in model.modules()}
    # Scripted modules keep what they hold to themselves.
    open_to_us = [module for module in modes if not isinstance(module, torch.jit.ScriptModule)]
    own = {module: (dict(vars(module)), dict(module._parameters)) for module in open_to_us}
    small = [b for b in model.buffers() if b.numel() <= _SMALL and b.layout is torch.strided]
    buffers = {b: b.clone() for b in small if b.device.type != "meta"}
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices=devices):
            model.eval()
            yield
    finally:
        if modes[model]:
            model.train()  # an adapter may have merged its weights on eval()
        for module, (attributes, parameters) in own.items():
            for name in set(vars(module)) - set(attributes):
                del vars(module)[name]  # a cache, filled under inference mode, could not be trained with
            vars(module).update({name: value for name, value in attributes.items() if name not in _KEPT})
            module._parameters.update(parameters)
        for module, training in modes.items():
            module.training = training
        with torch.no_grad():
            for buffer, before in buffers.items():
                if not torch.equal(buffer, before):
                    buffer.copy_(before)


def _dtype_of(model: nn.Module) -> torch.dtype:
    """The dtype that the model computes in: that of most of its floating-point scalars."""
    sizes: dict[torch.dtype, int] = {}
    for tensor in model.parameters():
        if tensor.is_floating_point():
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.numel()
    return max(sizes, key=lambda dtype: sizes[dtype], default=torch.float32)


def _device_of(model: nn.Module, inputs: Inputs) -> torch.device:
    """Where model and inputs are, all of them."""
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    devices = devices or {tensor.device for _, tensor in inputs.tensors()}
    if len(devices) > 1:
        raise DeviceError(f"the model is spread over {', '.join(sorted(map(str, devices)))}; move it to one device")
    (device,) = devices
    if device.type not in ("cpu", "cuda", "meta"):
        raise DeviceError(f"the model is on {device}, where bertprof has no clock; move it to the CPU or a CUDA device")
    for key, value in inputs.tensors():
        if value.device != device:
            raise UsageError(f"input {key} is on {value.device}, the model on {device}: move one of them")
    return device


def _task_of(model: nn.Module) -> str | None:
    """The task whose class the model is of, as `--task` calls it; None for a base model."""
    head = type(model).__name__.partition("For")[2]
    tasks = {name.removeprefix("AutoModelFor"): task for task, name in TASKS.items()}
    return tasks.get(head, head or None)


def _attention_of(model: nn.Module) -> str:
    """The attention implementation that transformers chose; "custom" for a module of another making."""
    for module in model.modules():
        implementation = getattr(getattr(module, "config", None), "_attn_implementation", None)
        if implementation:
            return str(implementation)
    return "eager" if hasattr(model, "config") else "custom"


def _structure_sha256(model: nn.Module) -> str:
    """A digest of what the module is made of, which tells two of one name apart."""
    parts = [(path, type(module).__qualname__) for path, module in model.named_modules()]
    shapes = [(name, tuple(parameter.shape)) for name, parameter in model.named_parameters()]
    return hashlib.sha256(repr((parts, shapes)).encode()).hexdigest()


# Masks ----------------------------------------------------------------------------------------------------------------


def _kind_of(mask: Any) -> Any:
    if mask is None:
        return "none"
    return "2d" if isinstance(mask, torch.Tensor) and mask.ndim == 2 else "4d"


def _padding(mask: Any) -> float | None:
    """The share of tokens that a 2-D mask hides; None where a mask of another form does not tell."""
    if mask is None:
        return 0.0
    if not isinstance(mask, torch.Tensor) or mask.ndim != 2 or mask.device.type == "meta":
        return None
    return float((mask == 0).float().mean())


def _unpadded(given: Inputs, mask: Any, twin_inputs: Inputs) -> list[Inputs] | None:
    """The same work without its padding: one batch for each length that occurs. None where that cannot be told."""
    if mask is None:
        return [twin_inputs]
    ids = given.get("input_ids")
    if _padding(mask) is None or not isinstance(ids, torch.Tensor) or mask.shape != ids.shape or given.args:
        return None
    batches = []
    for length in sorted(set((mask != 0).sum(-1).tolist()) - {0}):
        rows = int(((mask != 0).sum(-1) == length).sum())
        short: dict[str, Any] = {}
        for key, value in twin_inputs.mapped(lambda tensor: tensor.to("meta")).kwargs.items():
            if isinstance(value, torch.Tensor) and key != "attention_mask":
                if value.shape[:2] != mask.shape:
                    return None
                short[key] = value.new_empty((rows, length, *value.shape[2:]))
            elif key != "attention_mask":
                short[key] = value
        batches.append(Inputs(kwargs=short))
    return batches


def _mask_caveats(mask: Any, device: torch.device) -> list[Caveat]:
    if _kind_of(mask) != "2d" or device.type != "cuda":
        return []
    text = (
        "a 2-D attention mask makes transformers look at its values in every forward, which waits for the GPU; "
        "pass none, or one prebuilt 4-D mask"
    )
    return [Caveat(code="mask-2d", text=text)]


def _compiled_caveats(model: nn.Module) -> list[Caveat]:
    compiled = [m for m in model.modules() if hasattr(m, "_orig_mod") or m._compiled_call_impl is not None]
    if not compiled:
        return []
    text = (
        "the model is compiled by torch.compile; it was measured as it is written, since compiled code has no modules"
    )
    return [Caveat(code="compiled", text=text)]


def _autocast_caveats(device: torch.device) -> list[Caveat]:
    if device.type == "meta" or not torch.is_autocast_enabled(device.type):
        return []
    text = (
        f"measured under autocast to {torch.get_autocast_dtype(device.type)}: what runs is not in the model's own dtype"
    )
    return [Caveat(code="autocast", text=text)]


# Storage and the twin -------------------------------------------------------------------------------------------------


def _storage(model: nn.Module, quantised: Mapping[str, StandIn]) -> dict[str, Storage]:
    """What is stored for every parameter of the float model, by name."""
    stored = {}
    buffers = dict(model.named_buffers())
    for name, parameter in model.named_parameters():
        if not any(name.startswith(f"{path}.") for path in quantised):
            stored[name] = of_parameter(parameter)
            mask = buffers.get(f"{name.removesuffix('_orig')}_mask") if name.endswith("_orig") else None
            if mask is not None and mask.shape == parameter.shape and mask.device.type != "meta":
                # torch.nn.utils.prune keeps the weight and multiplies with a mask
                nonzero = int(torch.count_nonzero(parameter.detach() * mask))
                stored[name] = stored[name]._replace(nonzero_parameters=nonzero)
    for path, stand in quantised.items():
        for leaf, storage in stand.storage.items():
            stored[f"{path}.{leaf}" if path else leaf] = storage
    return stored


def _quantised_caveats(quantised: Mapping[str, StandIn], model: nn.Module) -> list[Caveat]:
    kinds: dict[str, int] = {}
    for stand in quantised.values():
        kinds[stand.format] = kinds.get(stand.format, 0) + 1
    for parameter in model.parameters():
        if is_opened(parameter.data):
            kind = f"{type(parameter.data).__module__}.{type(parameter.data).__qualname__}"
            kinds[kind] = kinds.get(kind, 0) + 1
    if not kinds:
        return []
    listing = ", ".join(f"{number} × {kind}" for kind, number in kinds.items())
    text = (
        f"weights are quantised ({listing}): parameters, MACs and FLOPs are those of the float model, bytes as stored"
    )
    return [Caveat(code="quantised", text=text, value=float(sum(kinds.values())))]


def _twin_of(model: nn.Module, quantised: Mapping[str, StandIn]) -> nn.Module | None:
    """A meta twin: from the configuration where that gives the same model, else a copy without storage, else None."""
    if any(t.layout is not torch.strided for m in model.modules() for t in _tensors_of(m)):
        return None  # a copy without storage would not know how many weights are multiplied
    opened = any(is_opened(parameter.data) for parameter in model.parameters())
    if hasattr(model, "config") and not quantised and not opened:
        try:
            with quiet(), torch.device("meta"):
                made: Any = type(model)(copy.deepcopy(model.config))
                made.tie_weights()
                twin: nn.Module = made.to("meta", next(model.parameters()).dtype)
            if _skeleton(twin) == _skeleton(model):
                return twin.eval()
        except Exception:  # a constructor that takes more than its configuration: copy instead
            pass
    try:
        # With every tensor replaced in advance, copying allocates nothing.
        memo: dict[int, Any] = {id(model.get_submodule(path)): stand.module for path, stand in quantised.items()}
        for parameter in model.parameters():
            made = torch.empty(parameter.shape, dtype=parameter.dtype, device="meta")
            memo[id(parameter)] = nn.Parameter(made, parameter.requires_grad and made.is_floating_point())
        for module in model.modules():
            for tensor in _tensors_of(module):
                if not isinstance(tensor, nn.Parameter) and tensor.numel() > 1:
                    memo[id(tensor)] = torch.empty_like(tensor, device="meta")
        twin = copy.deepcopy(model, memo)
    except Exception:  # something in it cannot be copied
        return None
    # A forward patched on an instance, and a hook, may be a closure over the original, which no copy can take along.
    if any(m._forward_hooks or m._forward_pre_hooks or _patched(m) for m in twin.modules()):
        return None
    return twin.eval()


def _tensors_of(module: nn.Module) -> list[torch.Tensor]:
    """What the module itself holds: parameters, buffers, plain attributes."""
    held = (*module._parameters.values(), *module._buffers.values(), *vars(module).values())
    return [tensor for tensor in held if isinstance(tensor, torch.Tensor)]


def _patched(module: nn.Module) -> list[str]:
    """The methods that the instance has of its own; what it prints itself as does not count."""
    return sorted(n for n in vars(module) if callable(getattr(type(module), n, None)) and n != "extra_repr")


def _skeleton(model: nn.Module) -> list[Any]:
    """Module by module: its path and class, hooks and patched methods, and its own parameters.

    Of each parameter: its name, shape, dtype, and the first name of the parameter that it is, which tells ties.
    """
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    return [
        (
            path,
            type(module).__qualname__,
            bool(module._forward_hooks or module._forward_pre_hooks),
            _patched(module),
            [(n, tuple(p.shape), p.dtype, first[id(p)]) for n, p in module.named_parameters(recurse=False)],
        )
        for path, module in model.named_modules()
    ]
