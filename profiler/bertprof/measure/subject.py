"""From a configuration to a Subject: all that a measurement needs to know of one model."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from bertprof import formatting
from bertprof.attribution import Region
from bertprof.components import Component
from bertprof.configuration import Configuration
from bertprof.errors import (
    BertprofError,
    ConfigurationError,
    DeviceError,
    UnsupportedModelError,
    UsageError,
    first_line,
)
from bertprof.measure import build, host
from bertprof.measure.anatomy import bases_of, matching_paths, regions_of
from bertprof.measure.inputs import Inputs
from bertprof.measure.masks import padding_mask
from bertprof.measure.parameters import Storage
from bertprof.measure.weights import checkpoint
from bertprof.record import Caveat, Workload
from bertprof.record import Checkpoint as Files


class Request(NamedTuple):
    """The workload that a user asked for, checked and typed.

    `padding` is the share of padded tokens in each sequence. `weights`: load the checkpoint's (True), never (False), or
    where it is a local folder that has some (None). `segments`: lengths that sum to the sequence's, where it is said.
    """

    batch_size: int
    sequence_length: int
    dtype: str
    attention: str
    task: str | None
    device: torch.device
    weights: bool | None
    padding: float = 0.0
    segments: Sequence[int] | None = None
    anatomy: Mapping[str, str] = {}


class Opened(NamedTuple):
    """A model ready to run, in eval mode, with its inputs, and what a reader must know of how it was made ready."""

    model: nn.Module
    inputs: Inputs
    caveats: Sequence[Caveat] = ()
    load_ms: float | None = None


@dataclass(frozen=True)
class Subject:
    """A model to be measured.

    Attributes:
        workload: what is asked of it; the measurement fills in clock, marks and threads.
        twin: the float model on the meta device, in eval mode, to be counted; None: none could be made, and the model
            itself must be counted.
        twin_inputs: of the twin's forward, on the meta device; ids and masks on the CPU.
        regions: module path → region, the same for twin and model.
        device: where the model runs.
        open: a context in which the model to run stands ready; on leaving it, a live model is as it was before.
        storage: what is stored for each parameter of the twin, by name; what has no entry is stored as it stands there.
        unpadded: the same work without padded tokens, for the twin: one or several batches; None: cannot be told.
        files: the files from which the weights come.
        caveats: what a reader must know of how the subject was made.
        anatomy: the user's own, by which `regions` were found.
        kept_units: of a model of which a recipe dropped units, the indices that the others had before.
    """

    workload: Workload
    twin: nn.Module | None
    twin_inputs: Inputs
    regions: dict[str, Region]
    device: torch.device
    open: Callable[[], AbstractContextManager[Opened]]
    storage: Mapping[str, Storage] = field(default_factory=dict)
    unpadded: Sequence[Inputs] | None = None
    files: Files | None = None
    caveats: list[Caveat] = field(default_factory=list)
    anatomy: Mapping[str, str] = field(default_factory=dict)
    kept_units: Sequence[int] | None = None


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
        ConfigurationError: no model can be built from the configuration, its forward fails, or its checkpoint cannot be
            read or does not fit.
        UsageError: an override does not fit; the sequence is longer than the positions; the family has no such head.
    """
    config = build.checked_config(configuration, overrides)
    _check_length(config, request)
    dtype = build.DTYPES[request.dtype]
    name = configuration.name
    with build.failing_as(name, request.device, request.task):
        attention, caveats = _attention(config, request)
        caveats += _student_choices(config, overrides)
        twin = build.on_meta(config, request.task, attention, dtype)
    storage: dict[str, Storage] = {}
    found = None
    if configuration.origin == "folder" and request.weights is not False:
        found = checkpoint.open_checkpoint(Path(configuration.source))
    if found is None and request.weights and configuration.origin == "folder":
        raise ConfigurationError(
            f"--weights: {configuration.source} holds no model.safetensors or pytorch_model.bin, nor an index of "
            "either; leave it out for random weights"
        )
    if found is not None:
        caveats += checkpoint.adapt(twin, found)
        storage, lacking = checkpoint.storage_of(found, twin)
        caveats += [*lacking, *_stored_otherwise(found, dtype)]
    loads = request.weights is True or found is not None
    inputs, unpadded, kind = _inputs(config, request, dtype)
    twin_inputs = inputs.for_twin()
    regions = _regions(name, twin, twin_inputs, request.anatomy)

    @contextmanager
    def open_() -> Iterator[Opened]:
        made: list[Caveat] = []
        load_ms = None
        _check_memory(twin, name)
        with build.failing_as(name, request.device, request.task):
            if loads:
                model, made, load_ms = checkpoint.load(configuration, config, request.task, attention, dtype)
            else:
                model = build.with_random_weights(config, request.task, attention, dtype)
            model = model.to(request.device)
            moved = inputs.mapped(lambda tensor: tensor.to(request.device))
        yield Opened(model, moved, made, load_ms)

    return Subject(
        workload=Workload(
            model=name,
            config_sha256=build.config_sha256(config),
            task=request.task,
            batch_size=request.batch_size,
            sequence_length=request.sequence_length,
            segments=None if request.segments is None else list(request.segments),
            padding=1 - _real_tokens(request) / request.sequence_length,
            mask=kind,
            dtype=request.dtype,
            attention=attention,
            device=str(request.device),
            weights="checkpoint" if loads else "random",
        ),
        twin=twin,
        twin_inputs=twin_inputs,
        regions=regions,
        device=request.device,
        open=open_,
        storage=storage,
        unpadded=unpadded,
        files=None if found is None else _files(found),
        caveats=[*anatomy_caveats(twin, regions, request.anatomy), *_quantised(config, found), *caveats],
        anatomy=request.anatomy,
    )


def _regions(name: str, twin: nn.Module, inputs: Inputs, anatomy: Mapping[str, str]) -> dict[str, Region]:
    try:
        with build.quiet():
            return regions_of(twin, inputs, anatomy)
    except BertprofError:
        raise
    except Exception as error:  # of an architecture whose forward takes more than token ids, or needs their values
        raise UnsupportedModelError(
            f"{name} is a {type(twin).__name__}, of no known family, and its components cannot be found by running it "
            f"on token ids: {type(error).__name__}: {first_line(error)}; "
            "give it as package.module:callable with --inputs, or use bertprof.profile(model, inputs)"
        ) from None


def _check_memory(twin: nn.Module, name: str) -> None:
    """Refuses a model whose weights alone do not fit: a system that overcommits would kill the process instead."""
    needed = sum(p.numel() * max(4, p.element_size()) for p in twin.parameters())  # built in float32, then cast
    free = host.available_bytes()
    if free is not None and needed > free:
        raise DeviceError(
            f"{name} needs {formatting.size(needed)} of memory for its weights, {formatting.size(free)} are free; "
            "--no-time counts it without building any"
        )


def _attention(config: Any, request: Request) -> tuple[str, list[Caveat]]:
    """The attention to build: eager where the family has nothing else."""
    if request.attention == "eager" or build.has_sdpa(config, request.task):
        return request.attention, []
    text = f"transformers has no {request.attention} attention for {config.model_type}: measured with eager attention"
    return "eager", [Caveat(code="eager-only", component=Component.SOFTMAX_ATTENTION, text=text)]


_BEHIND_PADDING = frozenset(("roberta", "xlm-roberta", "camembert", "mpnet"))
"""Families that count positions from behind the padding id, so that their table holds that many fewer."""


def _check_length(config: Any, request: Request) -> None:
    family, length = config.model_type, request.sequence_length
    if family in ("xlnet", "modernbert") or not getattr(config, "position_biased_input", True):
        return  # no table of positions
    reserved = config.pad_token_id + 1 if family in _BEHIND_PADDING else 0
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and length > positions - reserved:
        asked = f"--seq-length {length}"
        if request.segments is not None:
            asked = f"--segments {','.join(map(str, request.segments))}, {length} tokens,"
        raise UsageError(
            f"{asked} is beyond the model's {positions - reserved} positions; "
            f"raise them with --set max_position_embeddings={length + reserved}"
        )


def _student_choices(config: Any, overrides: Mapping[str, str]) -> list[Caveat]:
    """What a paper leaves open of a student, and what it is here; see `students`."""
    text = getattr(config, "student_choices", None)
    if text is None:
        return []
    others = ", ".join(f"{key}={value}" for key, value in overrides.items())
    return [Caveat(code="student-choices", text=f"{text}; here with {others}" if others else text)]


def _quantised(config: Any, found: checkpoint.Checkpoint | None) -> list[Caveat]:
    method = getattr(config, "quantization_config", None)
    if not method or found is not None:
        return []
    text = "the configuration names a quantisation, which is not applied: this is the float model"
    return [Caveat(code="quantisation-not-applied", text=text)]


def _stored_otherwise(found: checkpoint.Checkpoint, dtype: torch.dtype) -> list[Caveat]:
    """A caveat where most bytes are stored in another float format than the model runs in."""
    sizes: Counter[torch.dtype] = Counter()
    for header in found.tensors.values():
        sizes[header.dtype] += header.bytes
    most = max(sizes, key=lambda kind: sizes[kind])
    if most is dtype or not most.is_floating_point:
        return []
    stored, run = (str(kind).removeprefix("torch.") for kind in (most, dtype))
    text = f"weights are stored in {stored}, as bytes say, and run in {run}"
    if stored in build.DTYPES:
        text += f"; --dtype {stored} runs them as stored"
    return [Caveat(code="stored-otherwise", text=text)]


def _files(found: checkpoint.Checkpoint) -> Files:
    return Files(format=found.format, files=len(found.files), file_bytes=found.file_bytes, load_time_ms=None)


# Inputs ---------------------------------------------------------------------------------------------------------------


def _real_tokens(request: Request) -> int:
    return max(1, request.sequence_length - round(request.padding * request.sequence_length))


def _inputs(config: Any, request: Request, dtype: torch.dtype) -> tuple[Inputs, list[Inputs], Any]:
    """Random token ids on the CPU, with a mask where some are padding; the twin's without it; the kind of mask."""
    length, real = request.sequence_length, _real_tokens(request)
    ids = token_ids(config, (request.batch_size, length))
    arguments = {"input_ids": ids}
    if getattr(config, "is_encoder_decoder", False):
        arguments["decoder_input_ids"] = ids
    unpadded = [Inputs(kwargs={key: value[:, :real].to("meta") for key, value in arguments.items()})]
    if real == length:
        return Inputs(kwargs=arguments), unpadded, "none"
    ids[:, real:] = config.pad_token_id if config.pad_token_id is not None else 0
    mask, kind = padding_mask(config, request.batch_size, length, real, dtype)
    return Inputs(kwargs={**arguments, "attention_mask": mask}), unpadded, kind


def token_ids(config: Any, shape: tuple[int, int]) -> torch.Tensor:
    """Random token ids without padding: padding ids would move RoBERTa's positions."""
    if not isinstance(getattr(config, "vocab_size", None), int):
        raise UnsupportedModelError(
            f"a {config.model_type} model has no vocabulary, and takes more than token ids; "
            "give it as package.module:callable with --inputs, or use bertprof.profile(model, inputs)"
        )
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, config.vocab_size, shape, generator=generator)
    padding = config.pad_token_id
    if padding is not None:
        ids[ids == padding] = (padding + 1) % config.vocab_size
    return ids


# What a reader must know of the anatomy -------------------------------------------------------------------------------


def anatomy_caveats(
    model: nn.Module, regions: Mapping[str, Region], mapping: Mapping[str, str] | None = None
) -> list[Caveat]:
    """Caveats on how the components were found, and on modules whose time cannot be split as their counts are."""
    caveats = []
    paths = list(dict(model.named_modules()))
    matched = {path for expression in mapping or {} for path in matching_paths(paths, expression)}
    if matched:
        text = f"{len(matched)} modules are placed by your anatomy mapping"
        caveats.append(Caveat(code="anatomy-mapped", text=text, value=float(len(matched))))
    for expression in mapping or {}:
        if not matching_paths(paths, expression):
            text = (
                f"the anatomy's {expression!r} matches no module of this model; it must match a whole path, such as "
                f"{paths[-1]!r}"
            )
            caveats.append(Caveat(code="anatomy-unmatched", text=text))
    if not bases_of(model):
        text = (
            f"no table is known for {type(model).__name__}: its components were found by what it computes; "
            "--by module shows them, an anatomy mapping corrects them"
        )
        caveats.append(Caveat(code="structural-anatomy", text=text))
    split = [path or "(model)" for path, region in regions.items() if region.split]
    if split:
        component = next(region.component for region in regions.values() if region.split)
        shown = ", ".join(split[:3]) + (f" and {len(split) - 3} more" if len(split) > 3 else "")
        text = (
            f"one function does the work of several components in {shown}: parameters and counts are split, "
            f"the time stands in {component}"
        )
        caveats.append(Caveat(code="time-not-split", component=component, text=text))
    return caveats
