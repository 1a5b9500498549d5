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

from bertprof.configuration import Configuration
from bertprof.errors import (
    BertprofError,
    ConfigurationError,
    DeviceError,
    UnsupportedModelError,
    UsageError,
    shortened,
)
from bertprof.measure.anatomy import FAMILIES

DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
}

TASKS: Mapping[str, str] = {
    "causal-lm": "AutoModelForCausalLM",
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
    *("max_position_embeddings", "embedding_size", "num_hidden_groups", "inner_group_num"),
)


# The configuration ---------------------------------------------------------------------------------------------------


def checked_config(configuration: Configuration, overrides: Mapping[str, str]) -> Any:
    """The transformers configuration with its overrides.

    Raises:
        ConfigurationError: a field has a value from which no model can be built.
        UnsupportedModelError: transformers has no such architecture.
        UsageError: an override names no field of the configuration, or is not of the field's type.
    """
    fields = dict(configuration.fields)
    family = fields.pop("model_type")
    if family.startswith("bertprof-"):
        with quiet():
            from bertprof.measure import students  # noqa: F401 (registers them; imports all of transformers' models)
    if family not in transformers.models.auto.configuration_auto.CONFIG_MAPPING:
        raise UnsupportedModelError(
            f"{configuration.name} is of the architecture {family!r}, which transformers {transformers.__version__} "
            f"does not have; known families: {', '.join(FAMILIES)}"
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
        unlimited = name == "max_position_embeddings" and value == -1  # XLNet's word for: no table
        if value is not None and not unlimited and (type(value) is not int or value < 1):
            raise ConfigurationError(f"{name} is {value!r}; it must be a whole number of at least 1")
    types = getattr(config, "type_vocab_size", 1)
    if types == 0 and not config.model_type.startswith("deberta"):
        raise ConfigurationError(f"type_vocab_size is 0; a {config.model_type} model has at least one type of token")
    for name in ("hidden_act", "activation"):
        activation = getattr(config, name, "gelu")
        if activation not in ACT2FN:
            raise ConfigurationError(f"{name} is {activation!r}; transformers knows {', '.join(sorted(ACT2FN))}")
    padding, words = getattr(config, "pad_token_id", None), getattr(config, "vocab_size", None)
    if padding is not None and words is not None and not 0 <= padding < words:
        raise ConfigurationError(f"pad_token_id is {padding}; it must be null or below vocab_size {words}")
    hidden, heads = getattr(config, "hidden_size", None), getattr(config, "num_attention_heads", None)
    if isinstance(hidden, int) and isinstance(heads, int) and hidden % heads:
        raise ConfigurationError(f"hidden_size {hidden} is not divisible by num_attention_heads {heads}")


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
        model = auto_class(task).from_config(copy.deepcopy(config), attn_implementation=attention)
    model.tie_weights()  # which some versions (5.0) leave undone on the meta device
    tied: nn.Module = model.to("meta", dtype)  # torch.FloatTensor (XLNet) knows nothing of a default device
    return tied.eval()


def has_sdpa(config: Any, task: str | None) -> bool:
    """Whether transformers has fused attention for a family."""
    kind = type(config)
    mapping = auto_class(task)._model_mapping
    return kind not in mapping or bool(getattr(mapping[kind], "_supports_sdpa", True))


def with_random_weights(config: Any, task: str | None, attention: str, dtype: torch.dtype) -> nn.Module:
    """The model on the CPU with finite random weights, in eval mode."""
    with _FastRandom():
        model: nn.Module = auto_class(task).from_config(copy.deepcopy(config), attn_implementation=attention)
    return model.to(dtype).eval()


def auto_class(task: str | None) -> Any:
    """The transformers class of models with that task's head; None: of base models."""
    return getattr(transformers, "AutoModel" if task is None else TASKS[task])


class _FastRandom(TorchDispatchMode):
    """While open, random initialisation copies one block of numbers over and over, with the spread that was asked for.

    Drawing 110 million normal numbers takes 2 s, and cost does not depend on the values as long as they are finite and
    not denormal. The block stays within 1.8 standard deviations: truncated initialisation (ModernBERT) draws again
    until it does. All else that a model's constructor does (ones, zeros, position ids) stays as it is, and the global
    random generator is left alone.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        block = torch.randn(1 << 18, generator=torch.Generator().manual_seed(0)).clamp_(-1.5, 1.5)
        self._block = block / block.std()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._overloadpacket.__name__
        if name not in ("normal_", "uniform_") or not args[0].is_contiguous() or not args[0].numel():
            return func(*args, **(kwargs or {}))
        first, second = tuple(args[1:]) + (0.0, 1.0)[len(args) - 1 :]
        block = self._block[: args[0].numel()]
        if name == "uniform_":  # from where to where, not mean and standard deviation
            block, second = block / 4 + 0.5, second - first
        block = block * second + first
        flat = args[0].view(-1)
        whole = flat.numel() // block.numel() * block.numel()
        flat[:whole].view(-1, block.numel()).copy_(block)
        flat[whole:].copy_(block[: flat.numel() - whole])
        return args[0]


_LOGGERS = ("transformers", "huggingface_hub", "torchao", "torch.utils._pytree")
"""Who talks while a model is built: transformers imports torchao, where that is installed, and it complains."""


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
    loggers = [logging.getLogger(name) for name in _LOGGERS]
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
