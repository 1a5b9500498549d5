"""Quantised weights as formats pack them: bytes and non-zeros by closed form."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import (
    FFN_IN,
    as_floats,
    stored,
    write_quantised,
)
from torch import Tensor, nn

from bertprof.measure.parameters import Storage
from bertprof.measure.weights import packing
from bertprof.measure.weights.checkpoint import open_checkpoint, storage_of
from conftest import tiny, tiny_twin


def numbers(rows: int, columns: int, low: int, high: int) -> Tensor:
    return torch.randint(low, high, (rows, columns), generator=torch.Generator().manual_seed(0))


def packed(values: Tensor, bits: int) -> Tensor:
    """Rows of values as rows of int32 words, the first value in the lowest bits: through one long integer a row."""
    words = -(-values.shape[1] * bits // 32)
    rows = [sum(int(value) << bits * at for at, value in enumerate(row)) for row in values]
    return torch.tensor([[(row >> 32 * word) % 2**32 for word in range(words)] for row in rows]).int()


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
