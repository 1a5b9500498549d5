"""Checkpoints without some heads or FFN columns: measured as they are."""

import re
from pathlib import Path

import pytest
import torch
from checkpoints import (
    FAMILIES,
    FFN_IN,
    Unit,
    attention_of,
    config_of,
    lively,
    loaded,
    output_of,
    refusal,
    write,
)

from bertprof.measure import build
from bertprof.measure.weights.checkpoint import adapt, open_checkpoint, storage_of
from conftest import tiny


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "mpnet"])
def test_removed_heads_and_columns(family: str, tmp_path: Path):
    units = [0] if family == "albert" else [0, 2]
    model, same = lively(family), lively(family)
    for number in units:
        Unit(model, number).remove_heads([1] if number else [0, 3])
        Unit(same, number).ignore_heads([1] if number else [0, 3])
    Unit(model, units[-1]).remove_columns(24)
    Unit(same, units[-1]).ignore_columns(24)
    write(tmp_path, {name: tensor.clone() for name, tensor in model.state_dict().items()})
    found, caveats, load_ms = loaded(tmp_path, family)
    assert torch.allclose(output_of(found), output_of(same), atol=1e-5)
    assert not torch.allclose(output_of(found), output_of(lively(family)), atol=1e-2)
    assert load_ms is not None
    assert load_ms > 0
    parameters = {name: tuple(p.shape) for name, p in found.named_parameters()}
    assert parameters == {name: tuple(p.shape) for name, p in model.named_parameters()}
    # The twin takes the same shapes, and nothing else of it changes.
    twin = build.on_meta(config_of(family), None, attention_of(family), torch.bfloat16)
    opened = open_checkpoint(tmp_path)
    assert opened is not None
    assert adapt(twin, opened) == caveats
    assert {name: tuple(p.shape) for name, p in twin.named_parameters()} == parameters
    assert {(p.device.type, p.dtype, p.requires_grad) for p in twin.parameters()} == {("meta", torch.bfloat16, True)}
    assert repr(twin) == repr(found)
    assert sum(one.parameters for one in storage_of(opened, twin)[0].values()) == sum(
        p.numel() for p in model.parameters()
    )
    (caveat,) = caveats
    columns = ", ".join(["40 of 64 FFN columns"] * (2 if family == "mobilebert" else 1))
    assert (caveat.code, caveat.value) == ("pruned-shapes", len(units))
    if family == "albert":
        assert caveat.text == f"unit 0.0 is smaller than the configuration says: unit 0.0: 2 of 4 heads, {columns}"
    else:
        assert caveat.text == (
            "units 0 and 2 are smaller than the configuration says: unit 0: 2 of 4 heads; "
            f"unit 2: 3 of 4 heads, {columns}"
        )


def test_what_a_pruned_bert_is_left_with(tmp_path: Path):
    model = lively("bert")
    Unit(model, 1).remove_heads([0])
    Unit(model, 1).remove_columns(60)
    write(tmp_path, model.state_dict())
    found = loaded(tmp_path, dtype=torch.float64).model
    attention = found.encoder.layer[1].attention.self
    assert (attention.num_attention_heads, attention.all_head_size) == (3, 24)
    assert found.encoder.layer[0].attention.self.num_attention_heads == 4
    assert (attention.query.in_features, attention.query.out_features) == (32, 24)
    assert found.encoder.layer[1].output.dense.in_features == 4
    assert {p.dtype for p in found.parameters()} == {torch.float64}
    assert not found.training
    assert torch.equal(output_of(found), output_of(model.double()))


def test_position_biases_of_all_units_in_one_table(tmp_path: Path):
    model = lively("mpnet")
    Unit(model, 1).remove_columns(8)
    write(tmp_path, model.state_dict())
    assert "unit 1: 56 of 64 FFN columns" in loaded(tmp_path, "mpnet").caveats[0].text
    Unit(model, 1).remove_heads([2])
    write(tmp_path, model.state_dict())
    text = refusal(lambda: loaded(tmp_path, "mpnet"))
    assert text.startswith("unit 1 holds 3 of 4 heads, but one table of position biases serves")


QUERY = "encoder.layer.0.attention.self.query.weight"


@pytest.mark.parametrize(
    ("name", "shape", "configured"),
    [
        ("embeddings.word_embeddings.weight", (90, 32), (100, 32)),
        ("embeddings.LayerNorm.weight", (16,), (32,)),
        (QUERY, (16, 32), (32, 32)),  # key, value and output are not
        ("encoder.layer.2.attention.output.dense.weight", (32, 16), (32, 32)),
        ("encoder.layer.2.attention.output.dense.weight", (32, 12), (32, 32)),  # one head and a half
        ("encoder.layer.1.intermediate.dense.weight", (48, 32), (64, 32)),
        ("encoder.layer.1.output.dense.weight", (32, 48), (32, 64)),
        ("encoder.layer.1.output.dense.weight", (32, 80), (32, 64)),
        ("encoder.layer.1.output.dense.bias", (31,), (32,)),
        ("pooler.dense.weight", (32, 32, 1), (32, 32)),
    ],
)
def test_shapes_that_do_not_fit(name: str, shape: tuple[int, ...], configured: tuple[int, ...], tmp_path: Path):
    write(tmp_path, {**tiny("bert").state_dict(), name: torch.zeros(shape)})
    text = refusal(lambda: loaded(tmp_path))
    pattern = (
        r"the weights in (.*) do not fit its config.json: (\S+) is (\(.*?\)), the configuration makes it (\(.*?\));"
    )
    match = re.match(pattern, text)
    assert match is not None
    # Where linears disagree with each other, any of them may be named.
    where, *what = match.groups()
    assert where == str(tmp_path)
    assert what == [name, str(shape), str(configured)] or "attention" in name


def test_heads_and_columns_that_disagree_with_each_other(tmp_path: Path):
    state = lively("bert").state_dict()
    layer = "encoder.layer.0."
    state[layer + "intermediate.dense.weight"] = torch.zeros(40, 32)
    state[layer + "intermediate.dense.bias"] = torch.zeros(40)
    state[layer + "output.dense.weight"] = torch.zeros(32, 48)
    write(tmp_path, state)
    assert "intermediate.dense.weight is (40, 32), the configuration makes it (64, 32)" in refusal(
        lambda: loaded(tmp_path)
    )


def test_a_width_beyond_the_configuration(tmp_path: Path):
    state = lively("bert", num_attention_heads=8, intermediate_size=128).state_dict()
    write(tmp_path, state)
    assert f"{FFN_IN} is (128, 32), the configuration makes it (64, 32)" in refusal(lambda: loaded(tmp_path))
