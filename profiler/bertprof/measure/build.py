"""Building transformers models: from a configuration to a model without storage, or with weights."""

import copy
import difflib
import hashlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.activations import ACT2FN
from transformers.utils import logging as transformers_logging

from bertprof.configuration import Configuration, HubError, fetch
from bertprof.errors import (
    BertprofError,
    ConfigurationError,
    DeviceError,
    UnsupportedModelError,
    UsageError,
    first_line,
    shortened,
)
from bertprof.measure.anatomy import FAMILIES
from bertprof.record import Caveat

DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
}

TASKS: Mapping[str, str] = {
    "masked-lm": "AutoModelForMaskedLM",
    "next-sentence-prediction": "AutoModelForNextSentencePrediction",
    "pretraining": "AutoModelForPreTraining",
    "question-answering": "AutoModelForQuestionAnswering",
    "sequence-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
}
"""Task → the transformers class that puts that head on the base model."""

_SIZES = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_dim"),
    *("max_position_embeddings", "embedding_size", "num_hidden_groups", "inner_group_num", "type_vocab_size"),
)


# The configuration ---------------------------------------------------------------------------------------------------


def checked_config(configuration: Configuration, overrides: Mapping[str, str]) -> Any:
    """The transformers configuration with its overrides.

    Raises:
        ConfigurationError: a field has a value from which no model can be built.
        UnsupportedModelError: the architecture is of no known family.
        UsageError: an override names no field of the configuration, or is not of the field's type.
    """
    fields = dict(configuration.fields)
    family = fields.pop("model_type")
    if family not in FAMILIES:
        raise UnsupportedModelError(
            f"{configuration.name} is of the architecture {family!r}; known families: {', '.join(FAMILIES)}"
        )
    try:
        with quiet():
            config = transformers.AutoConfig.for_model(family, **fields)
        for key, text in overrides.items():
            setattr(config, key, _typed(config, key, text))
        _check_sizes(config)
    except BertprofError:
        raise
    except Exception as error:  # transformers and its validators raise whatever they like
        raise ConfigurationError(
            f"the configuration of {configuration.name} is not valid: {shortened(error)}"
        ) from None
    return config


def _typed(config: Any, key: str, text: str) -> Any:
    """The override's text in the type of the field that it replaces."""
    # num_labels is a property, made of the table of labels that the configuration holds.
    known = {*config.to_dict(), *config.attribute_map, "num_labels"}
    known -= {"model_type", "transformers_version"}
    if key in ("dtype", "torch_dtype"):
        raise UsageError(f"--set {key}: use --dtype")
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"--set {key}: a {config.model_type} configuration has no such field{hint}")
    current = getattr(config, key)
    if isinstance(current, str):
        return text
    value: Any
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
    if isinstance(current, float) and type(value) is int:
        value = float(value)
    if current is not None and type(value) is not type(current):
        raise UsageError(f"--set {key}={text}: {key} takes {_kind(current)}, such as {json.dumps(current)}")
    return value


def _kind(value: Any) -> str:
    kinds = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        list: "a JSON list",
        dict: "a JSON object",
    }
    return kinds.get(type(value), type(value).__name__)


def _check_sizes(config: Any) -> None:
    for name in _SIZES:
        value = getattr(config, name, None)
        if value is not None and (type(value) is not int or value < 1):
            raise ConfigurationError(f"{name} is {value!r}; it must be a whole number of at least 1")
    for name in ("hidden_act", "activation"):
        activation = getattr(config, name, "gelu")
        if activation not in ACT2FN:
            raise ConfigurationError(f"{name} is {activation!r}; transformers knows {', '.join(sorted(ACT2FN))}")
    padding = config.pad_token_id
    if padding is not None and not 0 <= padding < config.vocab_size:
        raise ConfigurationError(f"pad_token_id is {padding}; it must be null or below vocab_size {config.vocab_size}")
    if config.hidden_size % config.num_attention_heads:
        raise ConfigurationError(
            f"hidden_size {config.hidden_size} is not divisible by num_attention_heads {config.num_attention_heads}"
        )


def config_sha256(config: Any) -> str:
    """A digest of the fields that make the architecture, however the configuration was written down."""
    volatile = {"transformers_version", "architectures", "_name_or_path", "dtype", "torch_dtype", "use_cache"}
    fields = {
        # 0 and 0.0 are one value, and which of them a default is differs between versions of transformers.
        key: int(value) if isinstance(value, float) and value.is_integer() else value
        for key, value in config.to_diff_dict().items()
        if key not in volatile and value is not None
    }
    return hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode()).hexdigest()


# The model -----------------------------------------------------------------------------------------------------------


def on_meta(config: Any, task: str | None, attention: str, dtype: torch.dtype) -> nn.Module:
    """The model without storage, in eval mode."""
    with torch.device("meta"):
        model = _auto_class(task).from_config(copy.deepcopy(config), attn_implementation=attention)
    model.tie_weights()  # which some versions (5.0) leave undone on the meta device
    tied: nn.Module = model.to(dtype)
    return tied.eval()


def with_random_weights(config: Any, task: str | None, attention: str, dtype: torch.dtype) -> nn.Module:
    """The model on the CPU with finite random weights, in eval mode."""
    with _FastRandom():
        model: nn.Module = _auto_class(task).from_config(copy.deepcopy(config), attn_implementation=attention)
    return model.to(dtype).eval()


def with_checkpoint(
    configuration: Configuration, config: Any, task: str | None, attention: str, dtype: torch.dtype
) -> tuple[nn.Module, list[Caveat]]:
    """The model on the CPU with its checkpoint's weights, in eval mode, and a caveat where some are not from there.

    Raises:
        ConfigurationError: there are no weights, they cannot be read, or they do not fit the configuration.
    """
    if configuration.origin != "folder":
        try:
            fetch(configuration.source)  # the library itself would try for minutes, and not say what is wrong
        except HubError as error:
            text = f"--weights: those of {configuration.source} cannot be fetched: {error}"
            raise ConfigurationError(f"{text}; leave it out for random weights") from None
    model: nn.Module
    try:
        with torch.random.fork_rng(devices=[]):  # what the checkpoint lacks is drawn at random
            model, report = _auto_class(task).from_pretrained(
                configuration.source,
                config=copy.deepcopy(config),
                attn_implementation=attention,
                dtype=dtype,
                local_files_only=configuration.origin == "folder",
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = first_line(error)
        if "mismatch" in str(error):
            reason = "their shapes are not those of the configuration"
        raise ConfigurationError(f"--weights: those of {configuration.source} cannot be loaded: {reason}") from None
    absent = sorted(report["missing_keys"])
    if len(absent) >= len(model.state_dict()):
        raise ConfigurationError(f"--weights: those of {configuration.source} are of another model: no name fits")
    return model.eval(), _incomplete(absent)


def _incomplete(absent: list[str]) -> list[Caveat]:
    if not absent:
        return []
    shown = ", ".join(absent[:3]) + (" and more" if len(absent) > 3 else "")
    text = f"the checkpoint lacks {len(absent)} of the model's tensors, which are random: {shown}"
    return [Caveat(code="incomplete-checkpoint", text=text, value=float(len(absent)))]


def _auto_class(task: str | None) -> Any:
    return getattr(transformers, "AutoModel" if task is None else TASKS[task])


class _FastRandom(TorchDispatchMode):
    """While open, random initialisation copies one block of N(0, 0.02²) over and over.

    Drawing 110 million normal numbers takes 2 s, and cost does not depend on the values as long as they are finite and
    not denormal. All else that a model's constructor does (ones, zeros, position ids) stays as it is, and the global
    random generator is left alone.
    """

    _RANDOM = frozenset(("normal_", "uniform_"))

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._block = torch.randn(1 << 18, generator=torch.Generator().manual_seed(0)) * 0.02

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._overloadpacket.__name__ not in self._RANDOM or not args[0].is_contiguous():
            return func(*args, **(kwargs or {}))
        flat = args[0].view(-1)
        whole = flat.numel() // self._block.numel() * self._block.numel()
        flat[:whole].view(-1, self._block.numel()).copy_(self._block)
        flat[whole:].copy_(self._block[: flat.numel() - whole])
        return args[0]


# Failures and noise --------------------------------------------------------------------------------------------------


@contextmanager
def failing_as(name: str, device: torch.device, task: str | None) -> Iterator[None]:
    """While open, whatever torch or transformers raise on building a model becomes an error of ours, without noise."""
    try:
        with quiet():
            yield
    except BertprofError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise DeviceError(
                f"{name} does not fit into the memory of {device}: {shortened(error)}; "
                "reduce batch size or sequence length, or take a smaller model"
            ) from None
        if isinstance(error, ValueError) and "Unrecognized configuration class" in str(error):
            raise UsageError(f"--task {task}: transformers has no such head for {name}") from None
        kind = type(error).__name__
        text = f"no model can be built from the configuration of {name}: {kind}: {shortened(error)}"
        raise ConfigurationError(text) from None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on either device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    signs = ("allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


@contextmanager
def quiet() -> Iterator[None]:
    """No logging, warnings or progress bars of the libraries; what matters becomes an error or a caveat of ours."""
    loggers = [logging.getLogger(name) for name in ("transformers", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    bars = transformers_logging.is_progress_bar_enabled()
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        transformers_logging.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()
