"""From a configuration to a Subject: all that a measurement needs to know of one model."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn

from bertprof.attribution import Region, region_of
from bertprof.components import Component
from bertprof.configuration import Configuration
from bertprof.errors import DeviceError, UsageError
from bertprof.measure import build
from bertprof.measure.anatomy import regions_of
from bertprof.record import Caveat, Workload

Inputs = Mapping[str, Any]
"""The keyword arguments of a forward: tensors, and whatever else it takes."""


class Request(NamedTuple):
    """The workload that a user asked for, checked and typed."""

    batch_size: int
    sequence_length: int
    dtype: str
    attention: str
    task: str | None
    device: torch.device
    weights: bool


class Opened(NamedTuple):
    """A model ready to run, in eval mode, with its inputs, and what a reader must know of how it was made ready."""

    model: nn.Module
    inputs: Inputs
    caveats: Sequence[Caveat] = ()


@dataclass(frozen=True)
class Subject:
    """A model to be measured.

    Attributes:
        workload: what is asked of it; the measurement fills in clock, marks and threads.
        twin: the float model on the meta device, in eval mode, to be counted; None: none could be made, and the model
            itself must be counted.
        twin_inputs: the keyword arguments of the twin's forward, on the meta device.
        regions: module path → region, the same for twin and model.
        device: where the model runs.
        open: a context in which the model to run stands ready; on leaving it, a live model is as it was before.
        caveats: what a reader must know of how the subject was made.
    """

    workload: Workload
    twin: nn.Module | None
    twin_inputs: Inputs
    regions: dict[str, Region]
    device: torch.device
    open: Callable[[], AbstractContextManager[Opened]]
    caveats: list[Caveat] = field(default_factory=list)


def find_device(name: str) -> torch.device:
    """The device of that name: auto, cpu, cuda, cuda:N. `auto` is CUDA where there is some.

    Raises:
        UsageError: no such kind of device.
        DeviceError: this machine or this build of torch does not have it.
    """
    if name == "auto":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, colon, index = name.partition(":")
    if name == "cpu":
        return torch.device("cpu")
    if kind != "cuda" or (colon and not index.isdecimal()):
        raise UsageError(f"--device {name}: unknown; use auto, cpu, cuda or cuda:N")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an old driver is told in the error
        available = torch.cuda.is_available()
    if not available:
        why = "this build of torch has no CUDA" if torch.version.cuda is None else "torch finds no CUDA GPU"
        raise DeviceError(f"--device {name}: {why}; use --device cpu")
    try:
        number = int(index) if index else torch.cuda.current_device()
    except RuntimeError as error:
        raise DeviceError(f"--device {name}: CUDA cannot be started: {error}") from None
    if number >= torch.cuda.device_count():
        raise DeviceError(f"--device {name}: this machine has {torch.cuda.device_count()} GPU(s), counted from cuda:0")
    return torch.device("cuda", number)


def from_configuration(configuration: Configuration, overrides: Mapping[str, str], request: Request) -> Subject:
    """A subject from a name or a folder. Builds no weights until it is opened.

    Args:
        configuration: what `bertprof.configuration.resolve` found.
        overrides: configuration field → new value as text, typed by the field that it replaces.
        request: the workload.

    Raises:
        ConfigurationError: no model can be built from the configuration.
        UnsupportedModelError: the architecture is of no known family.
        UsageError: an override does not fit; the sequence is longer than the positions; the family has no such head.
    """
    config = build.checked_config(configuration, overrides)
    _check_length(config, request.sequence_length)
    dtype = build.DTYPES[request.dtype]
    name = configuration.name
    with build.failing_as(name, request.device, request.task):
        twin = build.on_meta(config, request.task, request.attention, dtype)
    regions = regions_of(twin)
    shape = (request.batch_size, request.sequence_length)

    @contextmanager
    def open_() -> Iterator[Opened]:
        caveats: list[Caveat] = []
        with build.failing_as(name, request.device, request.task):
            if request.weights:
                model, caveats = build.with_checkpoint(configuration, config, request.task, request.attention, dtype)
            else:
                model = build.with_random_weights(config, request.task, request.attention, dtype)
            model = model.to(request.device)
            inputs = {"input_ids": _token_ids(config, shape).to(request.device)}
        yield Opened(model, inputs, caveats)

    return Subject(
        workload=Workload(
            model=name,
            config_sha256=build.config_sha256(config),
            task=request.task,
            batch_size=request.batch_size,
            sequence_length=request.sequence_length,
            dtype=request.dtype,
            attention=request.attention,
            device=str(request.device),
            weights="checkpoint" if request.weights else "random",
        ),
        twin=twin,
        twin_inputs={"input_ids": torch.zeros(shape, dtype=torch.long, device="meta")},
        regions=regions,
        device=request.device,
        open=open_,
        caveats=[*unrecognised(twin, regions), *_quantised(config)],
    )


def _check_length(config: Any, length: int) -> None:
    """RoBERTa counts positions from behind its padding id, so its table holds that many fewer."""
    reserved = config.pad_token_id + 1 if config.model_type == "roberta" else 0
    positions = config.max_position_embeddings - reserved
    if length > positions:
        raise UsageError(
            f"--seq-length {length} is beyond the model's {positions} positions; "
            f"raise them with --set max_position_embeddings={length + reserved}"
        )


def _quantised(config: Any) -> list[Caveat]:
    method = getattr(config, "quantization_config", None)
    if not method:
        return []
    text = "the configuration names a quantisation, which is not applied: this is the float model"
    return [Caveat(code="quantisation-not-applied", text=text)]


def _token_ids(config: Any, shape: tuple[int, int]) -> torch.Tensor:
    """Random token ids without padding: padding ids would move RoBERTa's positions."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, config.vocab_size, shape, generator=generator)
    padding = config.pad_token_id
    if padding is not None:
        ids[ids == padding] = (padding + 1) % config.vocab_size
    return ids


def unrecognised(model: nn.Module, regions: Mapping[str, Region]) -> list[Caveat]:
    """A caveat where parameters stand in modules that the family's table does not place."""
    homeless: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        path = name.rpartition(".")[0]
        if region_of(path, regions)[1] is Component.OTHER:
            homeless[path] = homeless.get(path, 0) + parameter.numel()
    if not homeless:
        return []
    shown = ", ".join(list(homeless)[:3]) + (" and more" if len(homeless) > 3 else "")
    return [
        Caveat(
            code="unrecognised-modules",
            component=Component.OTHER,
            text=f"{sum(homeless.values()):,} parameters stand in modules that this family's table does not place, "
            f"and so in other: {shown}",
            value=float(sum(homeless.values())),
        )
    ]
