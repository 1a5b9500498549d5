"""Live models that others compressed: the float model's counts, the stored bytes."""

import copy
import warnings
from typing import Any

import torch
from torch import nn

import bertprof
from bertprof.measure.weights.quantised import stand_in, stored_bytes
from bertprof.record import Breakdown
from conftest import codes_of, tiny

IDS = torch.ones(1, 8, dtype=torch.long)
LINEARS = 3 * (4 * 32 * 32 + 2 * 32 * 64) + 32 * 32  # weights of three units' linears and of the pooler
BIASES = 3 * (4 * 32 + 64 + 32) + 32


def counts(model: nn.Module) -> Breakdown:
    return bertprof.profile(model, IDS, time=False)


def dynamically_quantised(dtype: torch.dtype = torch.qint8) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao is deprecated, and in use
        return torch.ao.quantization.quantize_dynamic(tiny("bert"), {nn.Linear}, dtype=dtype)


def same_counts(found: Breakdown, model: nn.Module) -> None:
    expected = counts(model)
    for metric in ("parameters", "macs", "flops"):
        assert found.total(metric) == expected.total(metric)
    rows, wanted = (
        [(c.unit, c.component, c.parameters, c.macs) for c in b.costs if c.parameters or c.macs]
        for b in (found, expected)
    )
    assert rows == wanted


def test_a_dynamically_quantised_bert(untouched: Any):
    model = dynamically_quantised()
    found = bertprof.profile(model, IDS, min_time_s=0)
    same_counts(found, tiny("bert"))
    linears = 3 * 6 + 1
    # int8 weights with a float64 scale and an int64 zero point each; biases and all else stay float32
    rest = sum(p.numel() for p in tiny("bert").parameters()) - LINEARS
    assert found.total("parameter_bytes") == LINEARS + 16 * linears + 4 * rest
    assert codes_of(found) == ["quantised"]
    caveat = found.caveats[0]
    assert f"{linears} × torch.ao" in caveat.text
    assert found.workload.dtype == "float32"
    assert found.timed


def test_non_zeros_of_quantised_weights():
    model = tiny("bert")
    with torch.no_grad():
        model.encoder.layer[1].intermediate.dense.weight[:32] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    ffn = next(c for c in counts(quantised).costs if (c.unit, str(c.component)) == (1, "ffn"))
    dense = quantised.encoder.layer[1]
    weights = (dense.intermediate.dense.weight(), dense.output.dense.weight())
    nonzero = sum(int((w.dequantize() != 0).sum()) for w in weights)
    biases = sum(int((b != 0).sum()) for b in (dense.intermediate.dense.bias(), dense.output.dense.bias()))
    assert ffn.nonzero_parameters == nonzero + biases
    assert ffn.nonzero_parameters <= ffn.parameters - 32 * 32


def test_per_channel_and_half_precision():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weight = torch.quantize_per_channel(
            torch.ones(4, 3), torch.ones(4), torch.zeros(4, dtype=torch.long), 0, torch.qint8
        )
    # twelve bytes, and for each of four channels a float64 scale and an int64 zero point
    assert stored_bytes(weight) == 12 + 4 * (8 + 8)
    found = counts(dynamically_quantised(torch.float16))
    same_counts(found, tiny("bert"))


def test_a_linear_that_packs_its_weight_away_in_some_other_way():
    class Packed(nn.Module):  # as of a library that is not here: two weights of 4 bits in a byte, a scale for each row
        def __init__(self, linear: nn.Linear) -> None:
            super().__init__()
            self.in_features, self.out_features = linear.in_features, linear.out_features
            self.qweight = nn.Buffer(torch.zeros(linear.weight.numel() // 2, dtype=torch.uint8))
            self.scales = nn.Buffer(torch.ones(linear.out_features, dtype=torch.float16))
            self.bias = nn.Parameter(linear.bias.detach())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(x, torch.zeros(self.out_features, self.in_features), self.bias)

    model = tiny("bert")
    for layer in model.encoder.layer:
        layer.intermediate.dense = Packed(layer.intermediate.dense)
    found = counts(model)
    same_counts(found, tiny("bert"))
    ffn = next(c for c in found.costs if (c.unit, str(c.component)) == (0, "ffn"))
    assert ffn.parameter_bytes == 32 * 64 // 2 + 64 * 2 + 64 * 4 + 4 * (32 * 64 + 32)
    assert ffn.nonzero_parameters is None  # how it packs them is not known
    assert "3 × " in found.caveats[0].text


def test_what_is_no_quantised_linear():
    assert stand_in(nn.Linear(2, 3, device="meta"), torch.float32) is None
    assert stand_in(nn.Bilinear(2, 2, 3, device="meta"), torch.float32) is None
    assert stand_in(nn.Embedding(2, 3, device="meta"), torch.float32) is None
    assert stand_in(nn.LayerNorm(3, device="meta"), torch.float32) is None


def test_quantised_embeddings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.ao.nn.quantized import Embedding

        table = Embedding(10, 16)
    found = stand_in(table, torch.float32)
    assert found is not None
    assert found.module.weight.shape == (10, 16)
    assert found.storage["weight"].parameters == 160


def test_torchao(untouched: Any):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchao.quantization import Int8WeightOnlyConfig, quantize_

    model = tiny("bert")
    quantize_(model, Int8WeightOnlyConfig())
    found = bertprof.profile(model, IDS, min_time_s=0)
    same_counts(found, tiny("bert"))
    # int8 weights and one float32 scale a row; whatever else the version keeps is small
    rows = BIASES
    rest = sum(p.numel() for p in tiny("bert").parameters()) - LINEARS
    stored = found.total("parameter_bytes")
    assert LINEARS + 4 * rows + 4 * rest <= stored <= LINEARS + 8 * rows + 4 * rest
    assert "quantised" in [caveat.code for caveat in found.caveats]


def test_adapters():
    before = tiny("bert")
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")  # of other libraries' deprecations
        import peft

        settings = peft.LoraConfig(r=4, target_modules=["query", "value"], init_lora_weights=False)
        model = peft.get_peft_model(copy.deepcopy(before), settings).eval()
    found = bertprof.profile(model, IDS, min_time_s=0)
    adapters = 3 * 2 * (4 * 32 + 32 * 4)  # three units, query and value, down to rank 4 and up again
    assert found.total("parameters") == sum(p.numel() for p in before.parameters()) + adapters
    assert found.total("parameter_bytes") == 4 * found.total("parameters")
    expected = counts(before)
    timed_only = [c for c in found.costs if c.parameters or c.macs or c.flops]
    for cost, plain in zip(timed_only, expected.costs, strict=True):
        grown = str(cost.component) == "attention-linear-in" and cost.unit is not None
        assert cost.parameters == plain.parameters + (adapters // 3 if grown else 0)
        assert cost.macs == plain.macs + (8 * adapters // 3 if grown else 0)  # on eight tokens
    assert codes_of(found) == []


def test_a_quantised_model_with_a_padded_batch():
    model = dynamically_quantised()
    ids = torch.ones(2, 8, dtype=torch.long)
    mask = torch.tensor([[1] * 8, [1] * 5 + [0] * 3])
    found = bertprof.profile(model, {"input_ids": ids, "attention_mask": mask}, time=False)
    plain = bertprof.profile(tiny("bert"), {"input_ids": ids, "attention_mask": mask}, time=False)
    for metric in ("parameters", "macs", "useful_macs"):
        assert found.total(metric) == plain.total(metric)


def test_a_quantised_model_that_has_no_twin():
    model = dynamically_quantised()
    model.pooler.register_forward_pre_hook(lambda module, args: None)
    found = bertprof.profile(model, IDS, time=False)
    plain = counts(tiny("bert"))
    assert found.total("macs") == plain.total("macs")
