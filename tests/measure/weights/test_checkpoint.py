"""From a checkpoint to storage and to a model that runs."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import (
    FFN_IN,
    Unit,
    as_floats,
    config_of,
    halves,
    lively,
    loaded,
    output_of,
    refusal,
    stored,
    write,
    write_index,
    write_quantised,
)
from torch import Tensor

from bertprof import configuration
from bertprof.measure import build
from bertprof.measure.parameters import Storage
from bertprof.measure.weights import checkpoint
from bertprof.measure.weights.checkpoint import adapt, open_checkpoint, storage_of
from conftest import tiny, tiny_twin

# Names ---------------------------------------------------------------------------------------------------------------


def test_the_prefix_of_the_base_model_is_added_and_removed(tmp_path: Path):
    base, whole = tiny("bert"), tiny("bert", task="masked-lm")
    write(tmp_path, {f"bert.{name}": tensor for name, tensor in base.state_dict().items()})
    assert stored(tmp_path) == as_floats(base)
    write(tmp_path, base.state_dict())
    found = open_checkpoint(tmp_path)
    assert found is not None
    storage, (caveat, unused) = storage_of(found, whole)
    assert unused.code == "unused-tensors"  # the pooler, which a masked-lm model does not have
    assert storage["bert.encoder.layer.0.output.dense.bias"] == Storage(32, 128, 0)
    # The head is counted by its own dtype; what is not there has no zeros to be counted.
    assert storage["cls.predictions.transform.dense.weight"] == Storage(32 * 32, 32 * 32 * 4, None)
    assert caveat.code == "incomplete-checkpoint"
    assert caveat.value == 5  # dense and LayerNorm with a bias each, and the bias of the output; no pooler in either
    assert "the checkpoint lacks 5 of the model's tensors, which are random: cls.predictions.bias" in caveat.text


def test_heads_that_the_model_does_not_have_are_ignored(tmp_path: Path):
    whole = tiny("bert", task="sequence-classification")
    write(tmp_path, whole.state_dict())
    assert stored(tmp_path).keys() == as_floats(tiny("bert")).keys()


def test_old_names_of_layer_norms(tmp_path: Path):
    model = tiny("bert")
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in model.state_dict().items()
    }
    assert any(name.endswith("gamma") for name in old)
    write(tmp_path, old)
    assert stored(tmp_path) == as_floats(model)


@pytest.mark.parametrize("kept", ["first", "other", "both"])
def test_a_tied_weight_counts_once_under_whatever_name(kept: str, tmp_path: Path):
    model = tiny("bert", task="masked-lm")
    names = ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight")
    left_out = {"first": names[1:], "other": names[:1], "both": ()}[kept]
    write(tmp_path, {name: t.clone() for name, t in model.state_dict().items() if name not in left_out})
    assert stored(tmp_path, tiny_twin("bert", task="masked-lm")) == as_floats(model)


def test_weights_of_another_model(tmp_path: Path):
    write(tmp_path, {"garbage.weight": torch.zeros(1)})
    found = open_checkpoint(tmp_path)
    assert found is not None
    for call in (storage_of, lambda one, other: adapt(other, one)):
        text = refusal(lambda call=call: call(found, tiny_twin("bert")))
        assert text.startswith(f"the weights in {tmp_path} are of another model: no name fits")


# Floats --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "width"),
    [
        (torch.float64, 8),
        (torch.float16, 2),
        (torch.bfloat16, 2),
        (torch.float8_e4m3fn, 1),
        (torch.float8_e5m2, 1),
    ],
)
def test_bytes_are_those_stored_whatever_the_model_runs_in(dtype: torch.dtype, width: int, tmp_path: Path):
    weight = torch.arange(64 * 32).view(64, 32) % 4 - 1.0  # a quarter is zero
    weight[0, 5] = -0.0  # which is a zero too, and was one
    write(tmp_path, {**tiny("bert").state_dict(), FFN_IN: weight.to(dtype)})
    assert stored(tmp_path)[FFN_IN] == Storage(2048, 2048 * width, 1536)


def test_pruned_to_zero(tmp_path: Path):
    model = tiny("bert")
    with torch.no_grad():
        model.encoder.layer[1].output.dense.weight.view(-1)[: 2048 * 3 // 4] = 0
    write(tmp_path, model.state_dict())
    storage = stored(tmp_path)
    assert storage == as_floats(model)
    assert storage["encoder.layer.1.output.dense.weight"] == Storage(2048, 8192, 512)
    assert storage["encoder.layer.0.output.dense.weight"] == Storage(2048, 8192, 2048)


# Loading -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["one file", "sharded", "bin", "float16"])
def test_loading(kind: str, tmp_path: Path):
    model = lively("bert")
    state = model.state_dict()
    if kind == "sharded":
        write_index(tmp_path, halves(state, "safetensors"))
    elif kind == "bin":
        torch.save(state, tmp_path / "pytorch_model.bin")
    elif kind == "float16":
        write(tmp_path, {name: tensor.half() for name, tensor in state.items()})
        model.half().float()
    else:
        write(tmp_path, state)
    found, caveats, load_ms = loaded(tmp_path)
    assert caveats == []
    assert load_ms is not None
    assert load_ms > 0
    assert not found.training
    assert torch.equal(output_of(found), output_of(model))


def test_what_is_lacking_is_random_and_said_so(tmp_path: Path):
    state = lively("bert").state_dict()
    left = {name: tensor for name, tensor in state.items() if not name.startswith("pooler")}
    write(tmp_path, left)
    (caveat,) = loaded(tmp_path).caveats
    assert caveat.text == (
        "the checkpoint lacks 2 of the model's tensors, which are random: pooler.dense.bias, pooler.dense.weight"
    )
    opened = open_checkpoint(tmp_path)
    assert opened is not None
    assert storage_of(opened, tiny_twin("bert"))[1] == [caveat]
    # So it is for a pruned one, of which transformers loads nothing.
    model = lively("bert")
    Unit(model, 0).remove_columns(8)
    write(tmp_path, {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("pooler")})
    found, caveats, _ = loaded(tmp_path)
    assert caveats[1] == caveat
    assert found.pooler.dense.weight.count_nonzero() == 32 * 32
    assert torch.equal(output_of(found), output_of(model))


def test_no_weights_to_load(tmp_path: Path):
    assert "cannot be loaded: it holds no model.safetensors or pytorch_model.bin" in refusal(lambda: loaded(tmp_path))


@pytest.mark.parametrize(
    ("fields", "config", "method", "library"),
    [
        ({"qweight": torch.zeros(4, 64).int()}, {}, "gptq", "gptqmodel"),
        ({"qweight": torch.zeros(32, 8).int()}, {"quantization_config": {"quant_method": "awq"}}, "awq", "gptqmodel"),
        ({"weight_packed": torch.zeros(64, 4).int()}, {}, "compressed-tensors", "compressed-tensors"),
        (
            {"weight": torch.zeros(1024, 1).byte(), "weight.absmax": torch.ones(32)},
            {},
            "bitsandbytes",
            "bitsandbytes",
        ),
        ({"weight": torch.zeros(64, 32).char(), "SCB": torch.ones(64)}, {}, "bitsandbytes", "bitsandbytes"),
        ({"_weight_qdata": torch.zeros(64, 32).char()}, {}, "torchao", "torchao"),
        ({"weight": torch.zeros(64, 32).char(), "weight_scale": torch.ones(64)}, {}, "int8", None),
        ({"weight": torch.zeros(64, 32, dtype=torch.float8_e4m3fn)}, {}, "float8", None),
    ],
)
@pytest.mark.parametrize("installed", [False, True])
def test_quantised_weights_are_not_run_as_floats(
    fields: dict[str, Tensor],
    config: dict[str, Any],
    method: str,
    library: str | None,
    installed: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    write_quantised(tmp_path, fields)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if installed else None)
    (tmp_path / "config.json").write_text(json.dumps(config_of("bert", **config).to_dict()))
    resolved = configuration.resolve(str(tmp_path))
    text = refusal(lambda: checkpoint.load(resolved, config_of("bert", **config), None, "sdpa", torch.float32))
    needs = f" (a format of {library}, which is not installed)" if library and not installed else ""
    assert text == (
        f"the weights in {tmp_path} are quantised, {method}{needs}, and cannot be run as floats; "
        "--no-time reads their sizes, --no-weights times random ones"
    )


def test_floats_under_a_configuration_that_names_a_quantisation(tmp_path: Path):
    model = lively("bert")
    write(tmp_path, model.state_dict())
    config = config_of("bert", quantization_config={"quant_method": "gptq", "bits": 4})
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    with build.quiet():
        found = checkpoint.load(configuration.resolve(str(tmp_path)), config, None, "sdpa", torch.float32)
    assert torch.equal(output_of(found.model), output_of(model))


# Units ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("units", "message"),
    [
        (2, "they hold encoder.layer.2.attention.output.LayerNorm.bias, a unit that the configuration does not have"),
        (4, "they lack encoder.layer.3, which the configuration has"),
    ],
)
def test_units_that_only_one_of_both_has(units: int, message: str, tmp_path: Path):
    write(tmp_path, tiny("bert").state_dict())
    found = open_checkpoint(tmp_path)
    assert found is not None
    text = refusal(lambda: storage_of(found, tiny_twin("bert", num_hidden_layers=units)))
    assert text == f"the weights in {tmp_path} do not fit its config.json: {message}"


def test_a_head_of_which_the_model_has_no_use_is_told(tmp_path: Path):
    write(tmp_path, tiny("bert", task="sequence-classification").state_dict())
    found = open_checkpoint(tmp_path)
    assert found is not None
    _, (caveat,) = storage_of(found, tiny_twin("bert"))
    assert caveat.code == "unused-tensors"
    assert "holds 2 tensors" in caveat.text
    assert "--task builds a head): classifier.bias, classifier.weight" in caveat.text
