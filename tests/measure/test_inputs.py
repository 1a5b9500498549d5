"""Inputs as users give them: every form becomes arguments of a forward, and no run changes what was given."""

from collections import namedtuple
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from bertprof.errors import UsageError
from bertprof.measure.inputs import Inputs, read_inputs, size_of
from conftest import tiny

IDS = torch.ones(2, 5, dtype=torch.long)


class Takes(nn.Module):
    def forward(self, x: Tensor, scale: float = 1.0, *, mask: Tensor | None = None) -> Tensor:
        return x * scale


class Pipeline(nn.Module):
    """As sentence-transformers': one dict in, which the modules write into."""

    def forward(self, features: dict[str, Any], **options: Any) -> dict[str, Any]:
        features["embedding"] = features["input_ids"].float()
        return features


@pytest.mark.parametrize(
    ("given", "args", "kwargs"),
    [
        (IDS, (IDS,), {}),
        ((IDS, 2.0), (IDS, 2.0), {}),
        ([IDS], (IDS,), {}),
        ({"x": IDS, "mask": IDS}, (), {"x": IDS, "mask": IDS}),
        # It lacks what the forward demands, or has what the forward does not know: one argument.
        ({"scale": 2.0, "mask": IDS}, ({"scale": 2.0, "mask": IDS},), {}),
        ({"x": IDS, "other": IDS}, ({"x": IDS, "other": IDS},), {}),
    ],
)
def test_forms(given: Any, args: tuple[Any, ...], kwargs: dict[str, Any]):
    assert read_inputs(given, Takes()) == Inputs(args, kwargs)


def test_a_tokenizers_output_and_a_pipelines_dict():
    encoded = transformers.BatchEncoding({"input_ids": IDS, "attention_mask": IDS})
    assert read_inputs(encoded, tiny("bert")).kwargs == {"input_ids": IDS, "attention_mask": IDS}
    given = read_inputs(encoded, Pipeline())
    assert given.args == ({"input_ids": IDS, "attention_mask": IDS},)
    assert given.get("attention_mask") is IDS
    assert [name for name, _ in given.tensors()] == ["input_ids", "attention_mask"]


def test_a_run_changes_nothing_that_was_given():
    features = {"input_ids": IDS}
    given = read_inputs(features, Pipeline())
    args, kwargs = given.fresh()
    Pipeline()(*args, **kwargs)
    assert set(features) == set(given.args[0]) == {"input_ids"}
    assert args[0]["input_ids"] is IDS  # the tensors themselves are not copied


def test_a_cache_of_keys_and_values_does_not_grow():
    model = tiny("gpt2")
    with torch.no_grad():
        cache = model(IDS, use_cache=True).past_key_values
    given = Inputs(kwargs={"input_ids": IDS[:, :1], "past_key_values": cache})
    for _ in range(3):
        with torch.no_grad():
            out = model(**given.fresh().kwargs)
        assert out.past_key_values.get_seq_length() == 6
    assert cache.get_seq_length() == 5
    on_meta = given.mapped(lambda tensor: tensor.to("meta")).kwargs["past_key_values"]
    assert {layer.keys.device.type for layer in on_meta.layers} == {"meta"}
    assert {layer.keys.device.type for layer in cache.layers} == {"cpu"}


def test_named_tuples_stay_what_they_are():
    pair = namedtuple("pair", "a b")
    mapped = Inputs((pair(IDS, 3),)).mapped(lambda tensor: tensor + 1)
    assert isinstance(mapped.args[0], pair)
    assert mapped.args[0].b == 3
    assert (mapped.args[0].a == 2).all()


@pytest.mark.parametrize(
    ("given", "size"),
    [
        (IDS, (2, 5)),
        ({"input_ids": torch.ones(2, 3, 7)}, (6, 7)),  # three choices a question
        ({"inputs_embeds": torch.ones(2, 7, 32)}, (2, 7)),
        (torch.ones(4, 9, 32), (4, 9)),
        (torch.ones(4), (4, None)),
    ],
)
def test_sizes(given: Any, size: tuple[int, int | None]):
    assert size_of(read_inputs(given, tiny("bert"))) == size


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "a dict maps the names"),
        ({1: IDS}, "a dict maps the names"),
        ("text", "hold no tensor"),
        (None, "hold no tensor"),
        (([1, 2],), "hold no tensor"),
    ],
)
def test_what_is_no_input(given: Any, message: str):
    with pytest.raises(UsageError, match=message):
        read_inputs(given, Takes())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"input_ids": torch.ones(3)}, "input_ids must be a tensor of shape"),
        ({"inputs_embeds": torch.ones(3, 4)}, "inputs_embeds must be a tensor of shape"),
        (torch.ones(0, 4), "are empty"),
        (torch.ones(4, 0), "are empty"),
    ],
)
def test_inputs_without_a_size(given: Any, message: str):
    with pytest.raises(UsageError, match=message):
        size_of(read_inputs(given, tiny("bert")))
