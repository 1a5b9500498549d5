from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers
from torch import nn

import bertprof
from bertprof import configuration
from bertprof.errors import ConfigurationError, DeviceError, UnsupportedModelError, UsageError
from bertprof.measure import build, live, subject
from bertprof.measure.subject import Request
from conftest import FAMILIES, TINY, tiny

CPU = torch.device("cpu")


def request_(**changes: Any) -> Request:
    return Request(2, 16, "float32", "sdpa", None, CPU, False)._replace(**changes)


def made(path: Path, overrides: dict[str, str] | None = None, **changes: Any) -> subject.Subject:
    return subject.from_configuration(configuration.resolve(str(path)), overrides or {}, request_(**changes))


@pytest.mark.parametrize("family", FAMILIES)
def test_from_a_folder(family: str, folder: Callable[..., Path]):
    found = made(folder(family))
    assert found.twin is not None
    assert {p.device.type for p in found.twin.parameters()} == {"meta"}
    assert not found.twin.training
    assert found.twin_inputs.kwargs["input_ids"].shape == (2, 16)
    with found.open() as (model, inputs, *_):
        assert not model.training
        assert [n for n, _ in model.named_parameters()] == [n for n, _ in found.twin.named_parameters()]
        with torch.inference_mode():
            output = model(**inputs.kwargs)[0]
        assert output.shape == (2, 16, 32)
        assert torch.isfinite(output).all()
        assert 0 < output.std() < 10
    assert [caveat.code for caveat in found.caveats] in ([], ["eager-only"])


def test_random_weights_are_random_where_the_model_wants_so_and_only_there():
    before = torch.get_rng_state()
    model = tiny("bert", vocab_size=30522)
    assert torch.equal(torch.get_rng_state(), before)
    weight = model.embeddings.word_embeddings.weight
    assert weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert torch.isfinite(weight).all()
    # Neither zeros nor denormals, which would be computed at another speed; the padding row is zero by design.
    assert (weight[1:].abs() > torch.finfo(torch.float32).tiny).all()
    assert (model.encoder.layer[0].output.LayerNorm.weight == 1).all()
    assert torch.equal(model.embeddings.position_ids, torch.arange(40)[None])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_dtype(dtype: str, folder: Callable[..., Path]):
    found = made(folder(), dtype=dtype)
    with found.open() as (model, *_):
        assert {p.dtype for p in model.parameters()} == {build.DTYPES[dtype]}
    assert found.twin is not None
    assert {p.dtype for p in found.twin.parameters()} == {build.DTYPES[dtype]}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_attention(attention: str, folder: Callable[..., Path]):
    found = made(folder(), attention=attention)
    with found.open() as (model, *_):
        assert model.config._attn_implementation == attention
    assert found.workload.attention == attention


def test_token_ids_hold_no_padding():
    config = transformers.AutoConfig.for_model("roberta", **TINY["roberta"])
    ids = subject.token_ids(config, (50, 40))
    assert (ids != config.pad_token_id).all()
    assert ids.min() >= 0
    assert ids.max() < 100


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("hidden_size", "banana", "hidden_size takes a whole number, such as 32"),
        ("hidden_size", "32.5", "takes a whole number"),
        ("hidden_size", "true", "takes a whole number"),
        ("hidden_sizes", "768", "no such field; did you mean hidden_size?"),
        ("model_type", "roberta", "no such field"),
        ("dtype", "bfloat16", "use --dtype"),
        ("layer_norm_eps", "small", "takes a number"),
        ("is_decoder", "yes", "takes true or false"),
    ],
)
def test_overrides_that_do_not_fit(key: str, text: str, message: str, folder: Callable[..., Path]):
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        made(folder(), {key: text})


def test_overrides_take_the_type_of_what_they_replace(folder: Callable[..., Path]):
    config = build.checked_config(
        configuration.resolve(str(folder())),
        {"hidden_size": "64", "layer_norm_eps": "1", "hidden_act": "relu", "classifier_dropout": "0.5"},
    )
    assert (config.hidden_size, config.layer_norm_eps, config.hidden_act) == (64, 1.0, "relu")
    assert type(config.layer_norm_eps) is float
    assert config.classifier_dropout == 0.5


def test_the_number_of_labels_can_be_set(folder: Callable[..., Path]):
    found = made(folder(), {"num_labels": "7"}, task="sequence-classification")
    assert found.twin is not None
    assert found.twin.classifier.out_features == 7


def test_distilbert_takes_both_names_of_a_field(folder: Callable[..., Path]):
    for key in ("dim", "hidden_size"):
        assert build.checked_config(configuration.resolve(str(folder("distilbert"))), {key: "64"}).dim == 64


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": -5}, "hidden_size is -5"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"hidden_size": 30}, "hidden_size 30 is not divisible by num_attention_heads 4"),
        ({"vocab_size": "many"}, "not valid|whole number"),
        ({"type_vocab_size": 0}, "type_vocab_size is 0"),
        ({"pad_token_id": 70000}, "pad_token_id is 70000"),
        ({"hidden_act": "nope"}, "hidden_act is 'nope'; transformers knows .*gelu"),
        ({"add_cross_attention": True}, "no model can be built"),
    ],
)
def test_configurations_from_which_no_model_can_be_built(
    fields: dict[str, Any], message: str, folder: Callable[..., Path]
):
    with pytest.raises(ConfigurationError, match=message):
        made(folder(**fields))


def test_an_unknown_architecture(folder: Callable[..., Path]):
    path = folder()
    (path / "config.json").write_text('{"model_type": "t800"}')
    with pytest.raises(UnsupportedModelError, match=r"'t800', which .* does not have; known families: bert, roberta"):
        made(path)


@pytest.mark.parametrize(("family", "positions"), [("bert", 40), ("roberta", 38)])
def test_a_sequence_longer_than_the_positions(family: str, positions: int, folder: Callable[..., Path]):
    path = folder(family)
    with made(path, sequence_length=positions).open() as (model, inputs, *_), torch.inference_mode():
        model(**inputs.kwargs)  # the longest that fits does run
    raised = positions + 1 + (40 - positions)
    with pytest.raises(UsageError, match=f"beyond the model's {positions} positions.*={raised}"):
        made(path, sequence_length=positions + 1)
    longer = made(path, {"max_position_embeddings": str(raised)}, sequence_length=positions + 1)
    with longer.open() as (model, inputs, *_), torch.inference_mode():
        model(**inputs.kwargs)


def test_a_head_that_the_family_does_not_have(folder: Callable[..., Path]):
    with pytest.raises(UsageError, match="--task next-sentence-prediction: transformers has no such head"):
        made(folder("distilbert"), task="next-sentence-prediction")


def test_weights_of_a_folder(folder: Callable[..., Path]):
    path = folder()
    model = tiny("bert")
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[5] = 3.0
    model.save_pretrained(path)
    with made(path, weights=True).open() as (loaded, *_):
        assert (loaded.embeddings.word_embeddings.weight[5] == 3.0).all()
    with torch.random.fork_rng():
        generator = torch.get_rng_state()
        with made(path, weights=True, task="sequence-classification").open() as opened:
            (caveat,) = opened.caveats
            assert caveat.code == "incomplete-checkpoint"
            assert "classifier.bias, classifier.weight" in caveat.text
        assert torch.equal(torch.get_rng_state(), generator)
    with pytest.raises(ConfigurationError, match=r"do not fit its config.json: .*dense.weight is \(64, 32\)"):
        made(path, {"intermediate_size": "32"}, weights=True)
    safetensors.torch.save_file({"garbage.weight": torch.zeros(1)}, path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigurationError, match="of another model"):
        made(path, weights=True)
    (path / "model.safetensors").unlink()
    with pytest.raises(ConfigurationError, match=r"--weights: .* holds no model.safetensors"):
        made(path, weights=True)
    assert made(path, weights=None).workload.weights == "random"


def test_weights_of_a_hub_that_is_not_there(monkeypatch: pytest.MonkeyPatch):
    def unreachable(*args: Any, **options: Any) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    found = made(Path("bert_uncased_L-2_H-128_A-2"), weights=True)
    with pytest.raises(ConfigurationError, match=r"cannot be fetched: the hub cannot be reached.*random"), found.open():
        pass


def test_a_quantisation_that_is_not_applied_is_told(folder: Callable[..., Path]):
    found = made(folder(quantization_config={"quant_method": "gptq", "bits": 4}))
    assert [caveat.code for caveat in found.caveats] == ["quantisation-not-applied"]


@pytest.mark.parametrize("name", ["tpu", "cpu:0", "cuda:x", "gpu", ""])
def test_devices_that_are_none(name: str):
    with pytest.raises(UsageError, match="unknown; use auto, cpu, cuda or cuda:N"):
        subject.find_device(name)


def test_devices(monkeypatch: pytest.MonkeyPatch):
    assert subject.find_device("cpu") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert subject.find_device("auto") == CPU
    with pytest.raises(DeviceError, match=r"--device cuda: .*use --device cpu"):
        subject.find_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert subject.find_device("auto") == subject.find_device("cuda") == torch.device("cuda:1")
    assert subject.find_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(DeviceError, match=r"has 2 GPU\(s\)"):
        subject.find_device("cuda:2")


def test_one_model_has_one_digest_however_it_was_written_down(folder: Callable[..., Path]):
    short = made(folder()).workload.config_sha256
    path = folder()
    build.checked_config(configuration.resolve(str(path)), {}).save_pretrained(path)
    assert made(path).workload.config_sha256 == short
    assert made(path, {"num_hidden_layers": "2"}).workload.config_sha256 != short
    zeros = [made(folder(hidden_dropout_prob=zero)).workload.config_sha256 for zero in (0, 0.0)]
    assert zeros[0] == zeros[1] != short


# Live modules --------------------------------------------------------------------------------------------------------


def test_a_live_module_is_measured_where_and_as_it_is(untouched: Any):
    model = tiny("bert")
    model.train()
    model.encoder.layer[1].eval()
    untouched(model)
    found = live.from_module(model, torch.ones(2, 8, dtype=torch.long))
    assert (found.workload.batch_size, found.workload.sequence_length) == (2, 8)
    assert (found.workload.model, found.workload.weights) == ("BertModel", "module")
    with found.open() as (opened, inputs, *_):
        assert opened is model
        assert not any(module.training for module in opened.modules())
        assert set(inputs.args[0].shape) == {2, 8}
    assert model.training
    assert not model.encoder.layer[1].training


def test_a_pruned_module_gets_a_twin_that_is_pruned(untouched: Any):
    model = tiny("bert")
    with torch.random.fork_rng():
        model.encoder.layer[0].intermediate.dense = nn.Linear(32, 10)
        model.encoder.layer[0].output.dense = nn.Linear(10, 32)
    untouched(model)
    found = live.from_module(model, torch.ones(1, 8, dtype=torch.long))
    assert found.twin is not None
    assert found.twin.encoder.layer[0].intermediate.dense.weight.shape == (10, 32)
    assert {p.device.type for p in found.twin.parameters()} == {"meta"}
    assert found.caveats == []


def test_a_module_with_a_patched_forward_is_counted_itself():
    model = tiny("bert")
    model.pooler.forward = model.pooler.forward
    found = live.from_module(model, torch.ones(1, 8, dtype=torch.long))
    assert found.twin is None


def test_masks_are_told_apart():
    model = tiny("bert")
    ids = torch.ones(1, 8, dtype=torch.long)
    two = live.from_module(model, {"input_ids": ids, "attention_mask": torch.ones(1, 8)})
    assert two.workload.mask == "2d"
    # On CUDA it makes the forward wait for the GPU.
    assert two.caveats == []
    (caveat,) = live._mask_caveats(torch.ones(1, 8), torch.device("cuda"))
    assert caveat.code == "mask-2d"
    assert two.workload.padding == 0.0
    half = torch.tensor([[1, 1, 1, 1, 1, 1, 0, 0]])
    assert live.from_module(model, {"input_ids": ids, "attention_mask": half}).workload.padding == 0.25
    four = live.from_module(model, {"input_ids": ids, "attention_mask": torch.zeros(1, 1, 8, 8)})
    assert four.workload.mask == "4d"
    assert four.caveats == []
    assert four.workload.padding is None
    embedded = live.from_module(
        model, {"attention_mask": torch.zeros(2, 1, 8, 8), "inputs_embeds": torch.ones(2, 8, 32)}
    )
    assert (embedded.workload.batch_size, embedded.workload.sequence_length) == (2, 8)
    # Two questions with three choices each are six sequences.
    choices = live.from_module(model, {"input_ids": torch.ones(2, 3, 8, dtype=torch.long)})
    assert (choices.workload.batch_size, choices.workload.sequence_length) == (6, 8)


@pytest.mark.parametrize("task", ["masked-lm", "token-classification", None])
def test_the_task_of_a_live_model(task: str | None):
    assert live.from_module(tiny("bert", task=task), torch.ones(1, 8, dtype=torch.long)).workload.task == task


def test_a_model_on_two_devices_or_on_one_without_a_clock():
    model = tiny("bert")
    model.pooler.to("meta")
    with pytest.raises(DeviceError, match="spread over cpu, meta"):
        live.from_module(model, torch.ones(1, 8, dtype=torch.long))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "a dict maps the names"),
        ({"input_ids": torch.ones(1, 8), "attention_mask": [[1] * 8]}, "attention_mask must be a tensor"),
        ("text", "inputs hold no tensor"),
        ({"input_ids": [[1]]}, "inputs hold no tensor"),
        (torch.ones(0, 3, dtype=torch.long), "are empty"),
        (torch.ones(1, 8, dtype=torch.long, device="meta"), "is on meta, the model on cpu"),
    ],
)
def test_inputs_that_do_not_fit(inputs: Any, message: str):
    with pytest.raises(UsageError, match=message):
        live.from_module(tiny("bert"), inputs)


def test_parameters_that_no_row_places_are_a_caveat():
    model = tiny("bert")
    with torch.random.fork_rng():
        model.encoder.extra = nn.Linear(4, 4)
    (caveat,) = bertprof.profile(model, torch.ones(1, 8, dtype=torch.long), time=False).caveats
    assert caveat.code == "unrecognised-modules"
    share = 100 * 20 / sum(p.numel() for p in model.parameters())
    assert f"encoder.extra; they hold {share:.1f} % of the parameters, 0.0 % of the MACs" in caveat.text


def test_libraries_are_quiet_only_inside():
    import logging

    logger = logging.getLogger("transformers")
    level = logger.level
    with build.quiet():
        assert logger.level == logging.CRITICAL
    assert logger.level == level
