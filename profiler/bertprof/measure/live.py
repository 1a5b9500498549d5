"""From a live module to a Subject. The module is measured as it is, where it is, and left as it was."""

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from bertprof.errors import DeviceError, UsageError
from bertprof.measure.anatomy import regions_of
from bertprof.measure.build import TASKS, config_sha256, quiet
from bertprof.measure.subject import Opened, Subject, unrecognised
from bertprof.record import Caveat, Workload


def from_module(model: nn.Module, inputs: Any, name: str | None = None) -> Subject:
    """A subject from a live model of a known family.

    Args:
        model: a transformers model.
        inputs: its forward's keyword arguments (a dict, or a tokenizer's output) with input_ids of shape (batch,
            sequence) or inputs_embeds of shape (batch, sequence, hidden) among them, or the tensor of input_ids alone;
            on the model's device.
        name: what to call it; what its configuration or class is called otherwise.

    Raises:
        UnsupportedModelError: see `bertprof.measure.anatomy.regions_of`.
        UsageError: the inputs are of no form that the model takes, or on another device than the model.
        DeviceError: the model is spread over devices, or on one that has no clock here.
    """
    regions = regions_of(model)
    arguments = _arguments(inputs)
    device = _device_of(model, arguments)
    leading = _leading(arguments)
    mask = arguments.get("attention_mask")
    if mask is not None and not isinstance(mask, torch.Tensor):
        raise UsageError("input attention_mask must be a tensor; without one nothing is masked")
    twin = _twin_of(model)

    @contextmanager
    def open_() -> Iterator[Opened]:
        modes = {module: module.training for module in model.modules()}
        try:
            yield Opened(model.eval(), arguments)
        finally:
            for module, training in modes.items():
                module.training = training

    return Subject(
        workload=Workload(
            model=name or getattr(model.config, "_name_or_path", "") or type(model).__name__,
            config_sha256=config_sha256(model.config),
            task=_task_of(model),
            batch_size=math.prod(leading[:-1]),
            sequence_length=leading[-1],
            padding=_padding(mask),
            mask="none" if mask is None else "2d" if mask.ndim == 2 else "4d",
            dtype=str(next(model.parameters()).dtype).removeprefix("torch."),
            attention=str(getattr(model.config, "_attn_implementation", None) or "eager"),
            device=str(device),
            weights="module",
        ),
        twin=twin,
        twin_inputs={k: v.to("meta") if isinstance(v, torch.Tensor) else v for k, v in arguments.items()},
        regions=regions,
        device=device,
        open=open_,
        caveats=[*unrecognised(model, regions), *_mask_caveats(mask), *_autocast_caveats(device)],
    )


def _arguments(inputs: Any) -> dict[str, Any]:
    if isinstance(inputs, torch.Tensor):
        inputs = {"input_ids": inputs}
    if not isinstance(inputs, Mapping) or not inputs or not all(isinstance(key, str) for key in inputs):
        raise UsageError(
            "inputs must be a tensor of token ids or a mapping from the forward's arguments to their values"
        )
    return dict(inputs)


def _leading(arguments: Mapping[str, Any]) -> tuple[int, ...]:
    """Batch and sequence, and between them the choices of a multiple-choice model, each of which is a sequence."""
    for key, width in (("input_ids", 0), ("inputs_embeds", 1)):
        value = arguments.get(key)
        if value is not None:
            if not isinstance(value, torch.Tensor) or value.ndim < 2 + width:
                raise UsageError(f"input {key} must be a tensor of shape (batch, sequence, ...)")
            return tuple(value.shape[: value.ndim - width])
    raise UsageError("the inputs hold neither input_ids nor inputs_embeds, without which nothing can be run")


def _device_of(model: nn.Module, arguments: Mapping[str, Any]) -> torch.device:
    """Where model and inputs are, all of them."""
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    if len(devices) > 1:
        raise DeviceError(f"the model is spread over {', '.join(sorted(map(str, devices)))}; move it to one device")
    (device,) = devices
    if device.type not in ("cpu", "cuda", "meta"):
        raise DeviceError(f"the model is on {device}, where bertprof has no clock; move it to the CPU or a CUDA device")
    for key, value in arguments.items():
        if isinstance(value, torch.Tensor) and value.device != device:
            raise UsageError(f"input {key} is on {value.device}, the model on {device}: move one of them")
    return device


def _task_of(model: nn.Module) -> str | None:
    """The task whose class the model is of, as `--task` calls it; None for a base model."""
    head = type(model).__name__.partition("For")[2]
    tasks = {name.removeprefix("AutoModelFor"): task for task, name in TASKS.items()}
    return tasks.get(head, head or None)


def _padding(mask: torch.Tensor | None) -> float | None:
    """The share of tokens that a 2-D mask hides; None where a mask of another form does not tell."""
    if mask is None:
        return 0.0
    if mask.ndim != 2 or mask.device.type == "meta":
        return None
    return float((mask == 0).float().mean())


def _mask_caveats(mask: torch.Tensor | None) -> list[Caveat]:
    if mask is None or mask.ndim != 2:
        return []
    text = (
        "a 2-D attention mask makes transformers look at its values in every forward, which on CUDA waits for the GPU; "
        "pass none, or one prebuilt 4-D mask"
    )
    return [Caveat(code="mask-2d", text=text)]


def _autocast_caveats(device: torch.device) -> list[Caveat]:
    if device.type == "meta" or not torch.is_autocast_enabled(device.type):
        return []
    text = (
        f"measured under autocast to {torch.get_autocast_dtype(device.type)}: what runs is not in the model's own dtype"
    )
    return [Caveat(code="autocast", text=text)]


def _twin_of(model: nn.Module) -> nn.Module | None:
    """A meta twin: from the configuration where that gives the same model, else a copy without storage, else None."""
    try:
        with quiet(), torch.device("meta"):
            made: Any = type(model)(copy.deepcopy(model.config))
            made.tie_weights()
            twin: nn.Module = made.to(next(model.parameters()).dtype)
        if _skeleton(twin) == _skeleton(model):
            return twin.eval()
    except Exception:  # a constructor that takes more than its configuration: copy instead
        pass
    try:
        # With every tensor replaced in advance, copying allocates nothing.
        memo: dict[int, Any] = {}
        for parameter in model.parameters():
            memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
        for buffer in model.buffers():
            memo[id(buffer)] = torch.empty_like(buffer, device="meta")
        twin = copy.deepcopy(model, memo)
    except Exception:  # something in it cannot be copied
        return None
    # A forward patched on an instance, and a hook, may be a closure over the original, which no copy can take along.
    if any("forward" in vars(m) or m._forward_hooks or m._forward_pre_hooks for m in twin.modules()):
        return None
    return twin.eval()


def _skeleton(model: nn.Module) -> list[Any]:
    """Module by module: its path and class, whether its forward is patched, and its own parameters.

    Of each parameter: its name, shape, dtype, and the first name of the parameter that it is, which tells ties.
    """
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    return [
        (
            path,
            type(module).__qualname__,
            "forward" in vars(module),
            [(n, tuple(p.shape), p.dtype, first[id(p)]) for n, p in module.named_parameters(recurse=False)],
        )
        for path, module in model.named_modules()
    ]
