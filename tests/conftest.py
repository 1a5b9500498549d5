"""What the tests share: tiny models of every family, and the proof that nothing is left changed."""

import gc
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rich.style  # noqa: F401 (draws from the global generator as it is imported)
import torch
import transformers
from hypothesis import HealthCheck, settings
from torch import nn

from bertprof.measure import build

# A slow machine is no failure.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

TINY: dict[str, dict[str, Any]] = {
    "bert": {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64},
    "roberta": {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64},
    "electra": {
        "embedding_size": 16,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    },
    "distilbert": {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 64},
    "albert": {
        "embedding_size": 16,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    },
}
for _fields in TINY.values():
    _fields |= {"vocab_size": 100, "max_position_embeddings": 40}
FAMILIES = tuple(TINY)


def tiny(family: str, attention: str = "sdpa", task: str | None = None, **overrides: Any) -> nn.Module:
    """A small model of a family with weights, in eval mode."""
    config = transformers.AutoConfig.for_model(family, **{**TINY[family], **overrides})
    return build.with_random_weights(config, task, attention, torch.float32)


def tiny_twin(family: str, attention: str = "sdpa", task: str | None = None, **overrides: Any) -> nn.Module:
    """The same without storage."""
    config = transformers.AutoConfig.for_model(family, **{**TINY[family], **overrides})
    return build.on_meta(config, task, attention, torch.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder with the config.json of a tiny model of a family."""

    def make(family: str = "bert", **overrides: Any) -> Path:
        path = tmp_path / family
        path.mkdir(exist_ok=True)
        (path / "config.json").write_text(json.dumps({"model_type": family, **TINY[family], **overrides}))
        return path

    return make


PLAIN = (bool, int, float, str, type(None))


def traces_of(model: nn.Module) -> dict[str, Any]:
    """Everything about a model that a measurement could leave changed."""
    hook_dicts = [name for name in vars(nn.Module()) if "hook" in name]
    return {
        path: (
            {name: value if isinstance(value, PLAIN) else id(value) for name, value in vars(module).items()},
            json.dumps(module.config.to_dict(), default=str) if hasattr(module, "config") else None,
            {name: list(getattr(module, name) or ()) for name in hook_dicts},
            vars(module).get("forward"),
            {
                name: (p.data_ptr(), p._version, p.requires_grad, p.grad is None)
                for name, p in module.named_parameters(recurse=False)
            },
        )
        for path, module in model.named_modules()
    }


@pytest.fixture
def untouched() -> Iterator[Callable[[nn.Module], nn.Module]]:
    """Watches models: at the end of the test each must be as it was when it was handed over."""
    watched: list[tuple[nn.Module, dict[str, Any], dict[str, torch.Tensor]]] = []

    def watch(model: nn.Module) -> nn.Module:
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        watched.append((model, traces_of(model), state))
        return model

    yield watch
    for model, traces, state in watched:
        assert traces_of(model) == traces
        assert model.state_dict().keys() == state.keys()
        assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


@pytest.fixture(autouse=True)
def nothing_global_changes() -> Iterator[None]:
    """No test leaves a setting of the process changed: of torch, of the libraries' noise, of Python."""
    import logging
    import warnings

    from huggingface_hub.utils import are_progress_bars_disabled
    from transformers import masking_utils
    from transformers.utils import logging as transformers_logging

    loggers = ("transformers", "huggingface_hub", "matplotlib.font_manager")

    def seen() -> tuple[Any, ...]:
        return (
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.get_default_dtype(),
            gc.isenabled(),
            random.getstate(),
            tuple(torch.get_rng_state().tolist()),
            len(nn.modules.module._global_forward_hooks),
            [logging.getLogger(name).level for name in loggers],
            are_progress_bars_disabled(),
            transformers_logging.is_progress_bar_enabled(),
            masking_utils.is_tracing,
            list(warnings.filters),
        )

    before = seen()
    yield
    assert seen() == before
