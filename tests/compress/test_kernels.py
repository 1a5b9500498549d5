"""The modules that run quantised weights: numbers against the rounded weight, bytes, shapes, and what they restore."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bertprof.compress import kernels
from bertprof.measure.weights.quantised import stand_in

CPU = torch.device("cpu")
KERNELS = {
    "int8": kernels.dynamic_int8(CPU),
    "int8-weight": kernels.weight_int8(CPU),
    "int4-weight": kernels.weight_int4(CPU, 32),
}
BF16 = 2.0**-8
"""Relative error of a number in bfloat16: 8 bits of mantissa, one of them implied."""


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def linear(outputs: int, inputs: int, *, bias: bool = True) -> nn.Linear:
    made = nn.Linear(inputs, outputs, bias=bias, device="meta")
    made.weight = nn.Parameter(drawn(outputs, inputs))
    made.bias = nn.Parameter(drawn(outputs, seed=2)) if bias else None
    return made.eval().requires_grad_(False)


def run(module: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        found: Tensor = module(x)
    return found


def close(found: Tensor, wanted: Tensor, share: float) -> bool:
    """Whether all errors are below a share of the largest number."""
    return float((found - wanted).abs().max()) <= share * float(wanted.abs().max())


@given(
    rows=st.integers(1, 5), columns=st.integers(1, 40), seed=st.integers(0, 99), size=st.sampled_from([1e-3, 1, 1e3])
)
@settings(max_examples=40)
def test_rows_are_rounded_by_at_most_half_a_step_and_zero_stays_zero(rows: int, columns: int, seed: int, size: float):
    weight = drawn(rows, columns, seed=seed) * size
    weight[:, 0] = 0
    levels, scales = kernels.rounded_rows(weight)
    assert levels.dtype is torch.int8
    assert scales.shape == (rows,)
    assert int(levels.abs().max()) <= 127
    assert not levels[:, 0].any()
    error = (levels * scales[:, None] - weight).abs()
    assert bool((error <= scales[:, None] * (0.5 + 1e-4)).all())


@given(seed=st.integers(0, 99), group=st.sampled_from([32, 64]), low=st.floats(-2, 2))
@settings(max_examples=40)
def test_groups_of_inputs_are_rounded_within_their_range(seed: int, group: int, low: float):
    weight = drawn(16, 128, seed=seed) + low
    levels, ranges = kernels.rounded_groups(weight, group)
    assert int(levels.min()) >= 0
    assert int(levels.max()) <= 15
    assert ranges.shape == (128 // group, 16, 2)
    assert ranges.dtype is torch.bfloat16
    # Half a step, and what bfloat16 is off at the ends of the range: the zero point's error and 8 steps' of the scale.
    groups = weight.unflatten(1, (-1, group))
    step = (groups.amax(-1) - groups.amin(-1)) / 15
    bound = step * (0.5 + 8 * BF16) + (groups.amin(-1) + 8 * step).abs() * BF16 + 1e-4
    error = (kernels.dequantised_groups(levels, ranges) - weight).abs().unflatten(1, (-1, group)).amax(-1)
    assert bool((error <= bound).all())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 64), (3, 64), (2, 5, 64), (1, 40, 64), (2, 2, 2, 64)])
def test_a_linear_on_8_bit_weights_and_activations(shape: tuple[int, ...], bias: bool):
    """(rows, and so fewer than the 17 of the kernel as well)"""
    float_ = linear(48, 64, bias=bias)
    made = kernels.Int8Linear(float_.weight, float_.bias)
    x = drawn(*shape, seed=1)
    # By hand: each token and each output neuron in 127 steps of its largest number, integers multiplied exactly.
    step = x.abs().amax(-1, keepdim=True) / 127
    scales = float_.weight.abs().amax(1) / 127
    integers = (x / step).round().double() @ (float_.weight / scales[:, None]).round().double().t()
    wanted = (integers * step * scales).float() + (float_.bias if bias else 0)
    torch.testing.assert_close(run(made, x), wanted, rtol=1e-5, atol=1e-5)
    assert close(run(made, x), run(float_, x), 0.02)


def test_activations_of_zero_give_the_bias():
    float_ = linear(16, 16)
    made = kernels.Int8Linear(float_.weight, float_.bias)
    torch.testing.assert_close(run(made, torch.zeros(2, 16)), float_.bias.expand(2, 16))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_linears_on_float_activations_multiply_with_the_rounded_weight(dtype: torch.dtype):
    float_ = linear(48, 64).to(dtype)
    x = drawn(2, 5, 64, seed=1).to(dtype)
    rows = kernels.Int8WeightLinear(float_.weight, float_.bias)
    # The scales are bfloat16, and the weight was rounded with them.
    scales = (float_.weight.float().abs().amax(1) / 127).bfloat16().float()
    weights = {rows: (float_.weight.float() / scales[:, None]).round().clamp(-127, 127) * scales[:, None]}
    groups = kernels.Int4WeightLinear(float_.weight, float_.bias, 32)
    weights[groups] = kernels.dequantised_groups(*kernels.rounded_groups(float_.weight, 32))
    for made, weight in weights.items():
        found = run(made, x)
        wanted = x.bfloat16().double() @ weight.double().t() + float_.bias.double()
        assert found.dtype is dtype
        assert close(found.double(), wanted, 2 * BF16)  # of the product and of the sum with the bias


@pytest.mark.parametrize("name", KERNELS)
def test_bytes_are_those_that_the_module_holds(name: str):
    kernel, float_ = KERNELS[name], linear(48, 64)
    by_hand = {
        "int8": 48 * 64 + 48 * (8 + 8),  # a float64 scale and an int64 zero point a row, as torch keeps them
        "int8-weight": 48 * 64 + 48 * 2,  # a bfloat16 scale a row
        "int4-weight": 48 * 64 // 2 + 48 * 2 * (2 + 2),  # two groups of 32 inputs, a bfloat16 scale and zero point each
    }
    found = stand_in(kernel.linear(float_.weight, float_.bias), torch.float32)
    assert found is not None
    assert found.storage["weight"].parameters == 48 * 64
    assert found.storage["weight"].parameter_bytes == kernel.weight_bytes(48, 64) == by_hand[name]
    assert found.storage["bias"].parameter_bytes == 4 * 48


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_come_close_to_the_float_linear_and_leave_it_as_it_is(name: str):
    kernel, float_ = KERNELS[name], linear(48, 64)
    before = float_.weight.clone()
    made = kernel.linear(float_.weight, float_.bias)
    x = drawn(1, 20, 64, seed=1)
    assert run(made, x).shape == (1, 20, 48)
    # 4 bits: 15 steps over 4 standard deviations are 0.27, an error of 0.27 / 12 ** 0.5 = 8 % of a weight.
    assert close(run(made, x), run(float_, x), 0.15 if name == "int4-weight" else 0.03)
    assert not made.training
    assert torch.equal(float_.weight, before)


@pytest.mark.parametrize("name", KERNELS)
@given(outputs=st.integers(1, 70), inputs=st.integers(1, 70), rows=st.integers(1, 3))
@settings(max_examples=25)
def test_a_kernel_takes_every_shape_that_it_does_not_refuse(name: str, outputs: int, inputs: int, rows: int):
    """(the kernel for 8-bit weights reads beyond those of other shapes, which ends the process)"""
    kernel = KERNELS[name]
    if kernel.misfit(outputs, inputs) is None:
        found = run(kernel.linear(drawn(outputs, inputs), None), drawn(rows, inputs))
        assert found.shape == (rows, outputs)
        assert bool(found.isfinite().all())


def test_what_kernels_refuse():
    assert KERNELS["int8"].misfit(3, 5) is None
    assert KERNELS["int8-weight"].misfit(3, 24) == "inputs in multiples of 16"
    assert KERNELS["int4-weight"].misfit(16, 48) == "inputs in multiples of its group-size 32"
    assert KERNELS["int4-weight"].misfit(24, 64) == "outputs in multiples of 16"
    assert kernels.unknown_group(32) is None
    assert kernels.unknown_group(48) == "group-size=48: the kernels know 32, 64, 128, 256"


@pytest.mark.parametrize(("vnni", "engine"), [(True, "onednn"), (False, torch.backends.quantized.engine)])
def test_the_engine_is_chosen_by_what_the_cpu_multiplies(vnni: bool, engine: str, monkeypatch: pytest.MonkeyPatch):
    if vnni and "onednn" not in torch.backends.quantized.supported_engines:
        pytest.skip("torch was built without oneDNN")
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: vnni)
    kernel = kernels.dynamic_int8(CPU)
    assert kernel.name == f"int8 by torch.ao ({engine})"
    before = torch.backends.quantized.engine
    float_, x = linear(48, 64), drawn(2, 64, seed=1)
    assert close(run(kernel.linear(float_.weight, float_.bias), x), run(float_, x), 0.03)
    assert torch.backends.quantized.engine == before


def test_the_engine_is_restored_after_a_failure():
    before = torch.backends.quantized.engine
    with pytest.raises(RuntimeError):
        KERNELS["int8"].linear(drawn(8, 16), nn.Parameter(drawn(9)))  # a bias that does not fit
    assert torch.backends.quantized.engine == before


# Tables ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("width", [1, 7, 32])
def test_rows_of_a_table_are_rounded_within_their_range(width: int, dtype: torch.dtype):
    weight = drawn(50, width).to(dtype)
    made = kernels.Int8Embedding(weight)
    every = torch.arange(50).view(5, 10)
    found = run(made, every)
    assert found.shape == (5, 10, width)
    assert found.dtype is dtype
    step = (weight.float().amax(1) - weight.float().amin(1)) / 255
    bound = (0.5 * step + weight.float().abs().amax(1) * torch.finfo(dtype).eps + 1e-6)[:, None]
    assert bool(((found.view(50, width).float() - weight.float()).abs() <= bound).all())
    # Ids of which all are one number in memory, as the types of tokens are.
    assert torch.equal(run(made, torch.tensor([[3]]).expand(2, 6)), run(made, torch.full((2, 6), 3)))


def test_bytes_of_a_table_are_those_that_the_module_holds():
    found = stand_in(kernels.Int8Embedding(drawn(50, 20)), torch.float32)
    assert found is not None
    assert found.storage["weight"].parameters == 50 * 20
    assert found.storage["weight"].parameter_bytes == kernels.table_bytes(50, 20) == 50 * 20 + 50 * (4 + 4)


# On a GPU -------------------------------------------------------------------------------------------------------------


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("rows", [1, 17, 40])
def test_kernels_of_a_gpu_come_close_to_the_float_linear(rows: int):
    gpu = torch.device("cuda")
    float_, x = linear(256, 128).to(gpu), drawn(rows, 128, seed=1).to(gpu)
    for kernel in (kernels.dynamic_int8(gpu), kernels.weight_int8(gpu), kernels.weight_int4(gpu, 32)):
        made = kernel.linear(float_.weight, float_.bias)
        assert close(run(made, x), run(float_, x), 0.15 if "4-bit" in kernel.name else 0.03), kernel.name
        held = sum(tensor.nbytes for tensor in (*made.parameters(), *made.buffers()))
        assert not kernel.exists or held == kernel.weight_bytes(256, 128) + 4 * 256
    table = kernels.Int8Embedding(float_.weight)
    ids = torch.arange(rows, device=gpu)
    assert close(run(table, ids), float_.weight[ids], 0.02)


@pytest.mark.parametrize("name", ["_dequantised_rows", "_dequantised_groups"])
def test_where_a_kernel_is_not_there_the_rounded_weight_runs(name: str):
    float_ = linear(48, 64)
    if name == "_dequantised_rows":
        made = kernels._dequantised_rows(float_.weight, float_.bias)
        levels, scales = kernels.rounded_rows(float_.weight)
        wanted = levels * scales[:, None]
    else:
        made = kernels._dequantised_groups(float_.weight, float_.bias, 32)
        wanted = kernels.dequantised_groups(*kernels.rounded_groups(float_.weight, 32))
    assert type(made) is nn.Linear
    assert torch.equal(made.weight, wanted)
    assert made.bias is float_.bias
