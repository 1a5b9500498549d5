"""Sparse execution: it computes what the dense pruned model does, and counts what its kernels multiply and read."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from compressing import applied, drawn, ids, output
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.sparse import SparseSemiStructuredTensorCUSPARSELT, SparseSemiStructuredTensorCUTLASS
from torch.sparse._semi_structured_conversions import sparse_semi_structured_from_dense_cutlass

import bertprof
from bertprof import Component
from bertprof.compress import sparse_execution
from bertprof.compress.application import apply
from bertprof.compress.recipe import parse_all
from bertprof.compress.sparse_execution import CsrLinear, SemiStructuredLinear
from bertprof.compress.zeros import zero_smallest
from bertprof.errors import UsageError
from bertprof.measure import live, profiler
from bertprof.measure.subject import Subject
from bertprof.record import Breakdown
from conftest import FAMILIES, tiny_twin

BASE = "bert-base-uncased"
CSR = "sparsity=0.9,storage=csr,execute=csr"


def counted(subject: Subject) -> Breakdown:
    (found,) = profiler.measure([subject], profiler.Options(time=False))
    return found


def codes(record: Breakdown) -> list[str]:
    return [caveat.code for caveat in record.caveats]


# The linear ----------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(1, 4), max_size=3),
    st.integers(1, 9),
    st.integers(1, 9),
    st.floats(0, 1),
    st.booleans(),
    st.booleans(),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_it_is_the_dense_linear(
    leading: list[int], inputs: int, outputs: int, share: float, bias: bool, as_written: bool, dtype: torch.dtype
):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(outputs, inputs, generator=generator, dtype=dtype)
    zero_smallest([weight], round(share * weight.numel()))
    added = nn.Parameter(torch.randn(outputs, generator=generator, dtype=dtype)) if bias else None
    x = torch.randn(*leading, inputs, generator=generator, dtype=dtype)
    linear = CsrLinear(weight, added, as_written)
    with torch.inference_mode():
        found, wanted = linear(x), functional.linear(x, weight, added)
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    # As it is counted: a value and a column of 32 bits each, and where each row begins.
    nonzero = int(torch.count_nonzero(weight))
    held = {name: buffer.nbytes for name, buffer in linear.named_buffers()}
    assert held == {"values": dtype.itemsize * nonzero, "columns": 4 * nonzero, "begins": 4 * (outputs + 1)}
    assert torch.equal(linear.weight.to_dense(), weight)
    assert linear.bias is added


def test_it_can_be_copied_and_takes_what_is_not_contiguous():
    weight, x = torch.tensor([[0.0, 2.0], [0.0, 0.0], [3.0, 0.0]]), torch.tensor([[1.0, 10.0], [2.0, 20.0]])
    linear = copy.deepcopy(CsrLinear(weight, None))
    # Rows (1, 2) and (10, 20) of the transpose: 2 · the second, 0, 3 · the first.
    assert linear(x.t()).tolist() == [[4, 0, 3], [40, 0, 30]]
    assert linear(x.t()).is_contiguous()
    assert CsrLinear(weight, None, as_written=True)(x.t()).stride() == (1, 2)
    assert linear.state_dict().keys() == {"values", "columns", "begins"}


# The model -----------------------------------------------------------------------------------------------------------


def multiplied(subject: Subject) -> int:
    """MACs of the CSR linears of the opened model, each call by the values that it holds, and what a dense one has."""
    saved = 0

    def called(module: Any, args: Any, result: Tensor) -> None:
        nonlocal saved
        zeros = module.in_features * module.out_features - module.values.numel()
        saved += zeros * (result.numel() // module.out_features)

    with subject.open() as opened, torch.inference_mode():
        for module in opened.model.modules():
            if isinstance(module, CsrLinear):
                module.register_forward_hook(called)
        args, kwargs = opened.inputs.fresh()
        opened.model(*args, **kwargs)
    return saved


EXECUTED = [
    *((family, CSR) for family in FAMILIES if family != "gpt2"),
    ("bert", f"{CSR},by=all"),
    ("bert", f"{CSR},embedding=yes,head=no"),
    ("bert", f"units=1:{CSR}"),
    ("bert", f"heads=4,2,1+ffn=16+layers=2+{CSR}"),
    ("bert", f"share-units+{CSR}"),
    ("bert", f"share-units=ffn+heads=2+{CSR},by=all"),
    ("bert", f"vocabulary=50+factor-embedding=8,layout=albert+share-units+{CSR},embedding=yes"),
    ("bert", f"fixed-attention=3+{CSR}"),
    ("bert", f"decompose-attention=2+cache-segment=2+{CSR}"),
    ("bert", f"units=0:{CSR}+units=1:sparsity=0.5+units=2:sparsity=0.99,storage=csr,execute=csr"),
    ("albert", f"{CSR},embedding=yes"),
]


@pytest.mark.parametrize(("family", "recipes"), EXECUTED)
def test_the_dense_pruned_model_with_fewer_macs(family: str, recipes: str, untouched: Any):
    model = untouched(drawn(family))
    dense, sparse = applied(model, recipes.replace(",execute=csr", "")), applied(model, recipes)
    torch.testing.assert_close(output(sparse), output(dense), atol=1e-5, rtol=1e-4)
    before, after = counted(dense), counted(sparse)
    saved = multiplied(sparse)
    assert saved > 0
    assert after.total("macs") == before.total("macs") - saved
    for figure in ("parameters", "parameter_bytes", "nonzero_parameters"):
        assert after.total(figure) == before.total(figure)
    assert {(c.unit, c.component) for c in after.costs} == {(c.unit, c.component) for c in before.costs}
    assert after.total("macs") == sum(module.macs for module in after.modules or ())
    assert after.workload.backend == f"torch, {CSR_NAME}"
    # Twice in a row: each time from the model as it was.
    assert output(sparse).equal(output(sparse))


CSR_NAME = "CSR by MKL" if torch.backends.mkl.is_available() else "CSR by torch"


def test_macs_are_the_non_zeros():
    record = counted(applied(drawn("bert"), CSR))
    # round(0.9 · 1,024) = 922 and round(0.9 · 2,048) = 1,843 of 40 tokens; the pooler has two.
    square, wide = 1024 - 922, 2048 - 1843
    for unit in range(3):
        macs = {c.component: c.macs for c in record.costs if c.unit == unit and c.macs}
        assert macs == {
            Component.ATTENTION_LINEAR_IN: 3 * square * 40,
            Component.SOFTMAX_ATTENTION: 2 * 2 * 20 * 20 * 32,
            Component.ATTENTION_LINEAR_OUT: square * 40,
            Component.FFN: 2 * wide * 40,
        }
    (head,) = record.of(Component.HEAD)
    assert head.macs == square * 2
    (linear,) = (cost for cost in record.of(Component.ATTENTION_LINEAR_OUT) if cost.unit == 0)
    # And one addition of the bias a number that comes out.
    assert linear.flops == 2 * square * 40 + 40 * 32
    # Read: input, values with columns, where rows begin, bias; written: the output.
    assert linear.bytes_moved == 4 * 40 * 32 + 8 * square + 4 * 33 + 4 * 32 + 4 * 40 * 32


@pytest.mark.parametrize("by", ["matrix", "all"])
def test_zeros_that_a_checkpoint_has_are_not_multiplied(by: str, folder: Callable[..., Path]):
    path, model = folder("bert"), drawn("bert")
    with torch.no_grad():
        model.get_parameter("encoder.layer.0.intermediate.dense.weight")[:60] = 0  # 1,920 of 2,048
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(state, path / "model.safetensors")
    recipe = f"sparsity=0.5,by={by},storage=csr,execute=csr"
    found = bertprof.breakdown(str(path), recipes=[recipe], time=False, sequence_length=20, batch_size=2)
    own = applied(model, recipe)
    assert found.total("macs") == counted(own).total("macs")
    assert found.total("macs") == 1_138_688 - multiplied(own)
    (ffn,) = (cost for cost in found.of(Component.FFN) if cost.unit == 0)
    if by == "matrix":
        assert ffn.macs == (128 + 1024) * 40


def test_a_padded_batch_multiplies_as_many_a_token():
    mask = torch.ones(2, 20, dtype=torch.long)
    mask[1, 10:] = 0
    record = counted(applied(drawn("bert"), CSR, {"input_ids": ids(), "attention_mask": mask}))
    (linear,) = (cost for cost in record.of(Component.ATTENTION_LINEAR_OUT) if cost.unit == 0)
    assert (linear.macs, linear.useful_macs) == (102 * 40, 102 * 30)


@pytest.mark.parametrize(
    ("model", "recipe", "dense", "some"),
    [
        # q, k, v, o and r of three units; the FFN's are linears.
        (lambda: drawn("xlnet"), CSR, 15, "layer.0.rel_attn.q, layer.0.rel_attn.k"),
        (lambda: drawn("bert"), f"{CSR},embedding=yes", 3, "embeddings.word_embeddings.weight"),
        # Of six of a unit, all are convolutions; the pooler is left.
        (lambda: drawn("squeezebert"), CSR, 18, "encoder.layers.0.attention.query.weight"),
        (lambda: drawn("bert", task="masked-lm"), f"{CSR},embedding=yes", 3, "bert.embeddings.word_embeddings.weight"),
    ],
)
def test_what_is_no_linear_alone_is_executed_dense(model: Any, recipe: str, dense: int, some: str):
    record = counted(applied(model(), recipe, {"input_ids": ids()}))
    (caveat,) = (caveat for caveat in record.caveats if caveat.code == "partly-dense")
    assert caveat.value == dense
    start = f"{dense} pruned weights are executed dense, since {CSR_NAME} takes the weights of an nn.Linear alone: "
    assert caveat.text.startswith(start + some)


class Stacked(nn.Module):
    """A layer of torch's own, whose fused path reads the weights of its linears, and a linear."""

    def __init__(self, alone: bool) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = nn.Linear(16, 8) if alone else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.layer(x))
        return out


def test_torchs_own_layer_is_executed_dense():
    with torch.random.fork_rng():
        model, x = Stacked(alone=True).eval(), torch.randn(2, 5, 16)
        dense = applied(model, "sparsity=0.5,storage=csr", (x,))
        sparse = applied(model, "sparsity=0.5,storage=csr,execute=csr", (x,))
        with pytest.raises(UsageError, match=r"takes the weights of an nn\.Linear alone, and no other holds layer"):
            applied(Stacked(alone=False), "sparsity=0.5,storage=csr,execute=csr", (x,))
    torch.testing.assert_close(output(sparse), output(dense))
    # 64 of 128 of the head, a token; in_proj, out_proj, linear1 and linear2 stay.
    assert counted(sparse).total("macs") == counted(dense).total("macs") - 10 * 64
    (caveat,) = (caveat for caveat in counted(sparse).caveats if caveat.code == "partly-dense")
    assert caveat.value == 4


class Unit(nn.Module):
    """A unit of no known family: its components are found by what it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(32, 32) for _ in range(4))
        self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (linear(x).view(*x.shape[:-1], 4, -1).transpose(1, 2) for linear in (self.a, self.b, self.c))
        joined = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        x = functional.layer_norm(x + self.d(joined), (32,))
        out: Tensor = x + self.down(functional.gelu(self.up(x)))
        return out


def test_an_unknown_family_keeps_its_components():
    with torch.random.fork_rng():
        model, x = nn.Sequential(*(Unit() for _ in range(2))).eval(), torch.randn(2, 10, 32)
    dense, sparse = (applied(model, f"sparsity=0.9,storage=csr{more}", x) for more in ("", ",execute=csr"))
    assert sparse.regions == dense.regions
    torch.testing.assert_close(output(sparse), output(dense), atol=1e-5, rtol=1e-4)
    (ffn,) = (cost for cost in counted(sparse).of(Component.FFN) if cost.unit == 1)
    assert ffn.macs == 2 * 205 * 20  # 2,048 − 1,843 weights of each


@pytest.mark.parametrize(
    ("recipes", "why"),
    [
        ("sparsity=0.9,execute=csr", "kernels that skip zeros read weights that are stored as CSR; add storage=csr"),
        ("sparsity=0.9,storage=bitmap,execute=csr", "stored as CSR; add storage=csr"),
        (f"{CSR}+int8", r"recipe int8: .* \(torch, CSR by \w+\) read no quantised weights"),
        (f"{CSR}+bits=4", r"recipe bits=4: .* read no quantised weights"),
        (f"units=0:{CSR}+units=1:bits=4", r"read no quantised weights"),
    ],
)
def test_what_is_refused(recipes: str, why: str):
    with pytest.raises(UsageError, match=why):
        applied(drawn("bert"), recipes)


@pytest.mark.parametrize("cast", ["fp16", "bf16"])
def test_no_kernel_is_said_before_anything_is_built(cast: str, monkeypatch: pytest.MonkeyPatch):
    def no_kernel(self: CsrLinear, x: Tensor) -> Tensor:
        if x.dtype is torch.float32:
            return functional.linear(x, self.weight.to_dense(), self.bias)
        raise RuntimeError('"some kernel" not implemented for it')

    monkeypatch.setattr(CsrLinear, "forward", no_kernel)
    kind = {"fp16": "float16", "bf16": "bfloat16"}[cast]
    why = rf'torch runs no CSR weights of {kind} on this cpu \("some kernel" not implemented for it\); leave out'
    with pytest.raises(UsageError, match=why):
        applied(drawn("bert"), f"{CSR}+{cast}")
    monkeypatch.setattr("bertprof.measure.build.with_random_weights", None)
    with pytest.raises(UsageError, match=why):
        bertprof.breakdown(BASE, recipes=[CSR], dtype=kind, time=False)


def test_gpt2_has_no_linear():
    with pytest.raises(UsageError, match=r"h\.0\.attn\.c_attn\.weight, .* and 9 more; leave out execute=csr$"):
        applied(drawn("gpt2"), CSR)


def test_shapes_alone_can_be_counted():
    subject = applied(tiny_twin("bert"), CSR, {"input_ids": ids().to("meta")})
    assert counted(subject).total("macs") == counted(applied(drawn("bert"), CSR)).total("macs")


@pytest.mark.slow
def test_bert_base_holds_what_is_counted():
    def subject(recipe: str) -> Subject:
        from bertprof.configuration import resolve
        from bertprof.measure.subject import Request, from_configuration

        request = Request(1, 16, "float32", "sdpa", None, torch.device("cpu"), None)
        return apply(from_configuration(resolve(BASE), {}, request), parse_all([recipe]))

    sparse, dense = (subject(f"sparsity=0.95,storage=csr{more}") for more in (",execute=csr", ""))
    with sparse.open() as opened:
        held = [*opened.model.parameters(), *(b for n, b in opened.model.named_buffers() if "_ids" not in n)]
        assert sum(tensor.nbytes for tensor in held) == counted(sparse).total("parameter_bytes")
    torch.testing.assert_close(output(sparse), output(dense), atol=1e-4, rtol=1e-4)


# A user's own sparse weights ------------------------------------------------------------------------------------------


class Own(nn.Module):
    def __init__(self, weight: Tensor, how: str) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.ones(len(weight)))
        if how == "parameter":
            self.weight = nn.Parameter(weight, requires_grad=False)
        elif how == "buffer":
            self.register_buffer("weight", weight)
        else:
            self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias[:, None], self.weight, x.t()).t()


@pytest.mark.parametrize("how", ["parameter", "buffer", "attribute"])
@pytest.mark.parametrize("layout", ["csr", "coo", "bsr"])
@pytest.mark.filterwarnings("ignore:Sparse .* tensor support is in beta")
def test_a_live_model_that_is_sparse_is_counted_by_what_it_stores(layout: str, how: str):
    weight = torch.zeros(8, 6)
    weight[0, 1] = weight[3, 5] = weight[4, 4] = 2.0
    compress = {"csr": weight.to_sparse_csr, "coo": weight.to_sparse, "bsr": lambda: weight.to_sparse_bsr((2, 2))}
    # Three scalars, or three blocks of four; indices of 64 bits.
    stored = {"csr": 3, "coo": 3, "bsr": 12}[layout]
    index = {"csr": 8 * (3 + 9), "coo": 8 * 2 * 3, "bsr": 8 * (3 + 5)}[layout]
    found = bertprof.profile(Own(compress[layout](), how), torch.ones(5, 6), time=False)
    assert found.total("macs") == 5 * stored
    assert "counted-on-the-model" in codes(found)
    (product,) = (o for cost in found.costs for name, o in cost.operators.items() if name == "aten::addmm")
    assert product.macs == 5 * stored
    # The input, what is stored, the bias, the result.
    assert found.total("bytes_moved") == 4 * 30 + 4 * stored + index + 4 * 8 + 4 * 40
    if how == "parameter":
        assert found.total("nonzero_parameters") == 3 + 8
        assert found.total("parameter_bytes") == 4 * stored + index + 4 * 8


# 2:4 -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_it_is_stored_as_torch_compresses_it(dtype: torch.dtype):
    """By the conversion that torch's kernels of CUTLASS read."""
    with torch.random.fork_rng():
        model = nn.Sequential(nn.Linear(64, 32, bias=False), nn.Linear(32, 64, bias=False)).to(dtype)
    subject = applied(model, "sparsity=2:4", torch.ones(1, 64, dtype=dtype))
    with subject.open() as opened:
        values, places = sparse_semi_structured_from_dense_cutlass(opened.model.get_parameter("0.weight"))
    stored = subject.storage["0.weight"]
    # 2,048 scalars: half of them in two bytes, and two bits each.
    assert (values.nbytes, places.nbytes) == (2048, 256)
    assert stored == (2048, values.nbytes + places.nbytes, 1024, places.nbytes)


def test_shapes_are_those_that_torch_asks_for():
    for made, rows, columns in (
        (SparseSemiStructuredTensorCUSPARSELT, 16, 16),
        (SparseSemiStructuredTensorCUTLASS, 32, 64),
    ):
        for dtype in (torch.float16, torch.bfloat16):
            wanted = made._DTYPE_SHAPE_CONSTRAINTS[dtype]
            assert (wanted.sparse_min_rows, wanted.sparse_min_cols) == (rows, columns)


class Packed(torch.Tensor):
    """As torch's semi-structured tensors: dense to whoever multiplies by it, with what it would hold beside."""

    packed: Tensor
    meta: Tensor | None


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A GPU of a compute capability that has kernels of these names."""

    def have(capability: tuple[int, int] = (8, 0), runs: tuple[str, ...] = ("cuSPARSELt", "CUTLASS")) -> None:
        def runs_not(kernel: sparse_execution.Kernel, device: torch.device, dtype: torch.dtype) -> str | None:
            return None if kernel.name.removeprefix("2:4 by ") in runs else "not built with it"

        def compressed(separate: bool) -> Callable[[Tensor], Tensor]:
            def from_dense(weight: Tensor) -> Tensor:
                values, places = sparse_semi_structured_from_dense_cutlass(weight)
                found = weight.clone().as_subclass(Packed)
                both = torch.cat([values.flatten(), places.flatten().view(values.dtype)])
                found.packed, found.meta = (values, places) if separate else (both, None)
                return found

            return from_dense

        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(sparse_execution, "_runs_not", runs_not)
        monkeypatch.setattr(SparseSemiStructuredTensorCUSPARSELT, "from_dense", compressed(False))
        monkeypatch.setattr(SparseSemiStructuredTensorCUTLASS, "from_dense", compressed(True))

    return have


def on_gpu(model: nn.Module, recipes: str, inputs: Any = None) -> Subject:
    """A model that stands on the CPU and says that it is on a GPU."""
    subject = live.from_module(model, {"input_ids": ids()} if inputs is None else inputs)
    return apply(replace(subject, device=torch.device("cuda")), parse_all([recipes]))


WIDE: Mapping[str, int] = {"hidden_size": 64, "intermediate_size": 128}


@pytest.mark.parametrize("kernel", ["cuSPARSELt", "CUTLASS"])
@pytest.mark.parametrize("recipes", ["sparsity=2:4+bf16", "bf16", "units=1:sparsity=2:4,embedding=yes+bf16"])
def test_a_gpu_multiplies_half(kernel: str, recipes: str, gpu: Callable[..., None]):
    gpu(runs=(kernel,))
    model = drawn("bert", **WIDE)
    if recipes == "bf16":  # the model has that dtype already
        model, recipes = model.bfloat16(), "sparsity=2:4"
    subject, dense = on_gpu(model, recipes), applied(model, recipes)
    record, before = counted(replace(subject, device=torch.device("cpu"))), counted(dense)
    assert record.workload.backend == f"torch, 2:4 by {kernel}"
    assert "semi-structured-dense" not in codes(record)
    assert "semi-structured-dense" in codes(before)
    pruned = [cost for cost in before.costs if cost.unit == 1 or "units" not in recipes]
    halved = sum(c.macs for c in pruned if c.component is not Component.SOFTMAX_ATTENTION)
    assert record.total("macs") == before.total("macs") - halved // 2
    for figure in ("parameter_bytes", "nonzero_parameters", "parameters"):
        assert record.total(figure) == before.total(figure)
    torch.testing.assert_close(output(subject), output(dense))
    with subject.open() as opened:
        linears = [m for m in opened.model.modules() if isinstance(m, SemiStructuredLinear)]
        assert len(linears) == (6 if "units" in recipes else 3 * 6 + 1)
        for linear in linears:
            # Half of the values of two bytes, and two bits for each.
            size = linear.in_features * linear.out_features
            assert sum(buffer.nbytes for buffer in linear.buffers()) == size + size // 8


def test_traffic_of_2_4_is_what_is_stored(gpu: Callable[..., None]):
    gpu()
    record = counted(replace(on_gpu(drawn("bert", **WIDE).half(), "sparsity=2:4"), device=torch.device("cpu")))
    (linear,) = (cost for cost in record.of(Component.ATTENTION_LINEAR_OUT) if cost.unit == 0)
    # 40 tokens of 64 numbers in and out, 2,048 values, 512 bytes of places, 64 biases.
    assert linear.bytes_moved == 2 * (2 * 40 * 64 + 2048 + 64) + 512
    assert linear.macs == 40 * 2048


def test_a_shape_that_the_kernel_does_not_take_is_executed_dense(gpu: Callable[..., None]):
    gpu(runs=("cuSPARSELt",))
    model = drawn("bert", task="sequence-classification", **WIDE).half()  # 2 × 64 of its head
    record = counted(replace(on_gpu(model, "sparsity=2:4"), device=torch.device("cpu")))
    (caveat,) = (caveat for caveat in record.caveats if caveat.code == "partly-dense")
    assert caveat.text == (
        "1 pruned weights are executed dense, since 2:4 by cuSPARSELt takes the weights of an nn.Linear alone in "
        "multiples of 16 × 16: classifier.weight"
    )
    assert caveat.value == 1


@pytest.mark.parametrize(
    ("dtype", "capability", "runs", "why"),
    [
        (torch.float32, (9, 0), ("CUTLASS",), "the kernels take float16 or bfloat16, and this is float32: add fp16"),
        (torch.float16, (7, 5), ("CUTLASS",), "the kernels need compute capability 8.0, and this GPU has 7.5"),
        (torch.float16, (9, 0), (), r"torch's kernels for them do not run here \(not built with it\)"),
    ],
)
def test_without_a_kernel_a_gpu_executes_dense(
    dtype: torch.dtype, capability: tuple[int, int], runs: tuple[str, ...], why: str, gpu: Callable[..., None]
):
    gpu(capability, runs)
    model = drawn("bert", **WIDE).to(dtype)
    subject, dense = on_gpu(model, "sparsity=2:4"), applied(model, "sparsity=0.5")
    record = counted(replace(subject, device=torch.device("cpu")))
    (caveat,) = (caveat for caveat in record.caveats if caveat.code == "semi-structured-dense")
    assert caveat.text.startswith(
        "2:4 weights are stored without their zeros and executed dense, as MACs and times say"
    )
    assert why.replace("\\", "") in caveat.text
    assert record.total("macs") == counted(dense).total("macs")
    assert record.workload.backend == "torch"


def test_quantising_what_runs_2_4_is_refused(gpu: Callable[..., None]):
    gpu()
    with pytest.raises(UsageError, match=r"recipe bits=4: the kernels .* \(torch, 2:4 by cuSPARSELt\) read no"):
        on_gpu(drawn("bert", **WIDE).half(), "sparsity=2:4+bits=4")


def test_gpt2_is_stored_so_and_executed_dense(gpu: Callable[..., None]):
    gpu()
    record = counted(replace(on_gpu(drawn("gpt2").half(), "sparsity=2:4"), device=torch.device("cpu")))
    (caveat,) = (caveat for caveat in record.caveats if caveat.code == "semi-structured-dense")
    assert "2:4 by CUTLASS" not in caveat.text
    assert "2:4 by cuSPARSELt takes the weights of an nn.Linear alone in multiples of 16 × 16" in caveat.text
