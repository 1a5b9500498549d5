"""From a live module to a Subject. The module is measured as it is, where it is, and left as it was."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from bertprof.errors import UsageError
from bertprof.measure.anatomy import regions_of
from bertprof.measure.build import config_sha256, quiet
from bertprof.measure.subject import Inputs, Subject, unrecognised
from bertprof.record import Caveat, Workload


def from_module(model: nn.Module, inputs: Any, name: str | None = None) -> Subject:
    """A subject from a live model of a known family.

    Args:
        model: a transformers model.
        inputs: its forward's keyword arguments (a dict, or a tokenizer's output), or one tensor of token ids of shape
            (batch, sequence); on the model's device.
        name: what to call it; what its configuration or class is called otherwise.

    Raises:
        UnsupportedModelError: see `bertprof.measure.anatomy.regions_of`.
        UsageError: the inputs are of no form that the model takes, or on another device than the model.
    """
    regions = regions_of(model)
    named = _named_inputs(inputs)
    parameter = next(model.parameters())
    for key, tensor in named.items():
        if tensor.device != parameter.device:
            raise UsageError(f"input {key} is on {tensor.device}, the model on {parameter.device}: move one of them")
    leading = named.get("input_ids", next(iter(named.values())))
    mask = named.get("attention_mask")
    twin = _twin_of(model)

    @contextmanager
    def open_() -> Iterator[tuple[nn.Module, Inputs]]:
        modes = {module: module.training for module in model.modules()}
        try:
            yield model.eval(), named
        finally:
            for module, training in modes.items():
                module.training = training

    return Subject(
        workload=Workload(
            model=name or getattr(model.config, "_name_or_path", "") or type(model).__name__,
            config_sha256=config_sha256(model.config),
            batch_size=leading.shape[0],
            sequence_length=leading.shape[1],
            mask="none" if mask is None else "2d" if mask.ndim == 2 else "4d",
            dtype=str(parameter.dtype).removeprefix("torch."),
            attention=str(getattr(model.config, "_attn_implementation", None) or "eager"),
            device=str(parameter.device),
            weights="module",
        ),
        twin=twin,
        twin_inputs={key: tensor.to("meta") for key, tensor in named.items()},
        regions=regions,
        device=parameter.device,
        open=open_,
        caveats=[*unrecognised(model, regions), *_mask_caveats(mask)],
    )


def _named_inputs(inputs: Any) -> dict[str, torch.Tensor]:
    if isinstance(inputs, torch.Tensor):
        inputs = {"input_ids": inputs}
    if not isinstance(inputs, Mapping) or not inputs:
        raise UsageError("inputs must be a tensor of token ids or a mapping from the forward's arguments to tensors")
    for key, value in inputs.items():
        if not isinstance(value, torch.Tensor) or value.ndim < 2:
            raise UsageError(f"input {key} must be a tensor of shape (batch, sequence, ...)")
    return dict(inputs)


def _mask_caveats(mask: torch.Tensor | None) -> list[Caveat]:
    if mask is None or mask.ndim != 2:
        return []
    text = (
        "a 2-D attention mask makes transformers look at its values in every forward, which on CUDA waits for the GPU; "
        "pass none, or one prebuilt 4-D mask"
    )
    return [Caveat(code="mask-2d", text=text)]


def _twin_of(model: nn.Module) -> nn.Module | None:
    """A meta twin: from the configuration where that gives the same model, else a copy without storage, else None."""
    try:
        with quiet(), torch.device("meta"):
            twin = type(model)(copy.deepcopy(model.config))
        if _skeleton(twin) == _skeleton(model):
            return twin.to(next(model.parameters()).dtype).eval()
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
        # A forward patched on an instance is a closure over the original, which no copy can take along.
        if not any("forward" in vars(module) for module in twin.modules()):
            return twin.eval()
    except Exception:  # something in it cannot be copied
        pass
    return None


def _skeleton(model: nn.Module) -> list[tuple[str, str, tuple[tuple[str, tuple[int, ...]], ...], bool]]:
    """Module by module: its path, its class, the shapes of its own parameters, whether its forward is patched."""
    return [
        (
            path,
            type(module).__qualname__,
            tuple((name, tuple(p.shape)) for name, p in module.named_parameters(recurse=False)),
            "forward" in vars(module),
        )
        for path, module in model.named_modules()
    ]
