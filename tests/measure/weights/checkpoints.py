"""Checkpoints that tests write, and what they ask of them."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from bertprof import configuration
from bertprof.attribution import component_of_parameter
from bertprof.components import Component
from bertprof.errors import ConfigurationError
from bertprof.measure import build
from bertprof.measure.anatomy import regions_of
from bertprof.measure.parameters import Storage
from bertprof.measure.weights import checkpoint
from bertprof.measure.weights.checkpoint import open_checkpoint, storage_of
from conftest import TINY, tiny, tiny_twin

FFN_IN = "encoder.layer.0.intermediate.dense.weight"
"""Of the tiny BERT: (64, 32), so 2,048 scalars."""


def write(folder: Path, tensors: Mapping[str, Tensor], name: str = "model.safetensors") -> Path:
    safetensors.torch.save_file({key: value.contiguous() for key, value in tensors.items()}, folder / name)
    return folder


def write_index(folder: Path, shards: Mapping[str, Mapping[str, Tensor]], kind: str = "model.safetensors") -> Path:
    for file, tensors in shards.items():
        if file.endswith(".bin"):
            torch.save(dict(tensors), folder / file)
        else:
            write(folder, tensors, file)
    weight_map = {name: file for file, tensors in shards.items() for name in tensors}
    (folder / f"{kind}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def halves(state: Mapping[str, Tensor], ending: str) -> dict[str, dict[str, Tensor]]:
    """A state dict over two shards."""
    names = list(state)
    middle = len(names) // 2
    return {
        f"part-{number}-of-2.{ending}": {name: state[name] for name in some}
        for number, some in enumerate((names[:middle], names[middle:]), start=1)
    }


def stored(folder: Path, model: nn.Module | None = None) -> dict[str, Storage]:
    """What the tiny BERT takes in that folder, of which there is nothing to say."""
    found = open_checkpoint(folder)
    assert found is not None
    storage, caveats = storage_of(found, model or tiny_twin("bert"))
    assert [caveat.code for caveat in caveats] in ([], ["unused-tensors"])
    return storage


def as_floats(model: nn.Module) -> dict[str, Storage]:
    return {
        name: Storage(p.numel(), p.numel() * p.element_size(), int(p.count_nonzero()))
        for name, p in model.named_parameters()
    }


def refusal(call: Callable[[], Any]) -> str:
    """The text of the error: one line."""
    with pytest.raises(ConfigurationError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write_quantised(folder: Path, fields: Mapping[str, Tensor]) -> None:
    """Stores one weight in these fields, in an otherwise plain checkpoint."""
    state = tiny("bert").state_dict()
    del state[FFN_IN]
    module = FFN_IN.removesuffix("weight")
    write(folder, {**state, **{module + field: tensor for field, tensor in fields.items()}})


FAMILIES: dict[str, dict[str, Any]] = {
    **{family: TINY[family] for family in ("bert", "roberta", "electra", "distilbert", "albert")},
    "megatron-bert": TINY["bert"],
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_inner": 64, "vocab_size": 100, "n_positions": 40},
    "mobilebert": {**TINY["bert"], "embedding_size": 16, "intra_bottleneck_size": 16, "num_feedforward_networks": 2},
    "deberta": {**TINY["bert"], "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": {**TINY["bert"], "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 8},
    "squeezebert": {
        **TINY["bert"],
        **dict.fromkeys(("q_groups", "k_groups", "v_groups", "intermediate_groups", "output_groups"), 1),
        "embedding_size": 32,
    },
    "modernbert": {**TINY["bert"], "pad_token_id": 0, "attention_bias": True, "mlp_bias": True},
    "mpnet": TINY["bert"],
}
"""FFNs have 64 columns but for modernbert's, whose two are of 64 each; heads are 4."""


class Unit:
    """The linears of a unit of a live model, to be pruned by hand."""

    def __init__(self, model: Any, number: int, heads: int = 4) -> None:
        self.heads = heads
        regions = regions_of(model)
        path = [path for path, region in regions.items() if region.unit][number]
        self.family = model.config.model_type
        self.module = model.get_submodule(path)
        self.linears: dict[Component, list[Any]] = {}
        for below, module in self.module.named_modules():
            if getattr(module, "weight", None) is not None and module.weight.dim() > 1:
                component = component_of_parameter(f"{path}.{below}.weight", regions)
                self.linears.setdefault(component, []).append(module)

    def remove_heads(self, heads: Sequence[int]) -> None:
        (out,) = self.linears[Component.ATTENTION_LINEAR_OUT]
        width = out.weight.shape[inputs_of(out)]
        left = [head for head in range(self.heads) if head not in heads]
        stay = torch.arange(width).view(self.heads, -1)[left].flatten()
        keep(out, inputs_of(out), stay)
        for module in (
            *self.linears[Component.ATTENTION_LINEAR_IN],
            *self.linears.get(Component.SOFTMAX_ATTENTION, ()),
        ):
            axis = 1 - inputs_of(module)
            rows = torch.arange(module.weight.shape[axis])
            if self.family == "deberta" and len(rows) == 3 * width:  # query, key and value of a head stand together
                keep(module, axis, rows.view(self.heads, -1)[left].flatten())
            elif len(rows) % width == 0:
                keep(module, axis, rows.view(-1, width)[:, stay].flatten())
        for module in self.module.modules():
            for name in ("q_bias", "v_bias"):
                if hasattr(module, name):
                    setattr(module, name, nn.Parameter(getattr(module, name).detach()[stay]))

    def remove_columns(self, count: int) -> None:
        for first, second in self.ffns():
            width = second.weight.shape[inputs_of(second)]
            stay = torch.arange(width - count)
            keep(second, inputs_of(second), stay)
            axis = 1 - inputs_of(first)
            keep(first, axis, torch.arange(first.weight.shape[axis]).view(-1, width)[:, stay].flatten())

    def ignore_heads(self, heads: Sequence[int]) -> None:
        """What these heads find no longer counts, which is all the same to the model."""
        (out,) = self.linears[Component.ATTENTION_LINEAR_OUT]
        silence(out, torch.arange(out.weight.shape[inputs_of(out)]).view(self.heads, -1)[list(heads)].flatten())

    def ignore_columns(self, count: int) -> None:
        for _, second in self.ffns():
            width = second.weight.shape[inputs_of(second)]
            silence(second, torch.arange(width - count, width))

    def ffns(self) -> list[tuple[Any, Any]]:
        linears = self.linears[Component.FFN]
        return list(zip(linears[::2], linears[1::2], strict=True))


def inputs_of(module: Any) -> int:
    """The axis of inputs of a linear's weight."""
    return 0 if isinstance(module, Conv1D) else 1


def keep(module: Any, axis: int, index: Tensor) -> None:
    """Leaves only these rows or columns of a linear."""
    module.weight = nn.Parameter(module.weight.detach().index_select(axis, index))
    if axis != inputs_of(module) and module.bias is not None:
        module.bias = nn.Parameter(module.bias.detach()[index])


def silence(module: Any, index: Tensor) -> None:
    weight = module.weight.detach()
    (weight if inputs_of(module) == 0 else weight.transpose(0, 1))[index] = 0


def attention_of(family: str) -> str:
    return "eager" if family in ("megatron-bert", "deberta", "deberta-v2", "squeezebert", "mpnet") else "sdpa"


def lively(family: str, **overrides: Any) -> Any:
    """A tiny model whose every parameter makes a difference; always the same."""
    model = build.with_random_weights(config_of(family, **overrides), None, attention_of(family), torch.float32)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3, generator=generator)
    return model


def config_of(family: str, **overrides: Any) -> Any:
    return transformers.AutoConfig.for_model(family, **{**FAMILIES[family], **overrides})


def output_of(model: Any) -> Tensor:
    with torch.inference_mode():
        result: Tensor = model(input_ids=torch.arange(1, 17).view(2, 8))[0]
    assert torch.isfinite(result).all()
    return result


def loaded(folder: Path, family: str = "bert", dtype: torch.dtype = torch.float32) -> checkpoint.Loaded:
    config = config_of(family)
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    with build.quiet():
        return checkpoint.load(configuration.resolve(str(folder)), config, None, attention_of(family), dtype)
