"""Sparse kernels of a GPU: what only one can prove. Their logic is tested on a fake one in tests/compress."""

from typing import Any

import pytest
import torch

import bertprof
from bertprof.compress.application import apply
from bertprof.compress.recipe import parse_all
from bertprof.compress.sparse_execution import (
    CsrLinear,
    Kernel,
    SemiStructuredLinear,
    csr_kernel,
    semi_structured_kernel,
)
from bertprof.configuration import resolve
from bertprof.measure.inputs import tensors_of
from bertprof.measure.subject import Request, Subject, from_configuration

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA GPU"),
]

MODEL = "bert-base-uncased"


def subject(recipe: str, dtype: str) -> Subject:
    request = Request(2, 64, dtype, "sdpa", None, torch.device("cuda", torch.cuda.current_device()), None)
    return apply(from_configuration(resolve(MODEL), {}, request), parse_all([recipe]))


def run(made: Subject, kind: type[Any]) -> tuple[torch.Tensor, int, int]:
    """What it computes, how many linears are of that kind, and the bytes that these hold but for their biases."""
    with made.open() as opened, torch.inference_mode():
        args, kwargs = opened.inputs.fresh()
        linears = [module for module in opened.model.modules() if isinstance(module, kind)]
        held = sum(buffer.nbytes for linear in linears for buffer in linear.buffers())
        return next(tensors_of(opened.model(*args, **kwargs))), len(linears), held


def half_precision() -> Kernel:
    """The kernel for 2:4 weights; skips where there is none."""
    kernel = semi_structured_kernel(torch.device("cuda", torch.cuda.current_device()), torch.float16)
    if isinstance(kernel, str):
        pytest.skip(f"2:4 weights are executed dense: {kernel}")
    return kernel


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_2_4_computes_what_the_dense_model_does(dtype: str, monkeypatch: pytest.MonkeyPatch):
    kernel = half_precision()
    sparse = subject("sparsity=2:4", dtype)
    assert sparse.workload.backend == f"torch, {kernel.name}"
    found, linears, held = run(sparse, SemiStructuredLinear)
    assert linears == 12 * 6 + 1
    weights = 49 * 768 * 768 + 24 * 768 * 3072
    # Half of the values of two bytes, and two bits for each.
    assert held == weights + weights // 8
    monkeypatch.setattr("bertprof.compress.sparse_execution._runs_not", lambda *args: "as if there were none")
    dense = subject("sparsity=2:4", dtype)
    wanted, none, _ = run(dense, SemiStructuredLinear)
    assert none == 0
    torch.testing.assert_close(found, wanted, atol=5e-2, rtol=5e-2)


def test_2_4_is_measured():
    kernel = half_precision()
    found = bertprof.breakdown(MODEL, recipes=["sparsity=2:4+fp16"], device="cuda", min_time_s=0)
    assert found.workload.backend == f"torch, {kernel.name}"
    # Half of the linears' MACs; those of the softmax attention stay.
    assert found.total("macs") == (11_174_215_680 - 301_989_888) // 2 + 301_989_888
    assert found.end_to_end_ms
    assert found.peak_memory_bytes is not None


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_csr_computes_what_the_dense_model_does(dtype: str):
    kernel = csr_kernel(torch.device("cuda", torch.cuda.current_device()), getattr(torch, dtype))
    if isinstance(kernel, str):
        pytest.skip(kernel)
    sparse, dense = (subject(f"sparsity=0.95,storage=csr{more}", dtype) for more in (",execute=csr", ""))
    assert sparse.workload.backend == "torch, CSR by cuSPARSE"
    found, linears, held = run(sparse, CsrLinear)
    assert linears == 12 * 6 + 1
    pruned = [stored for stored in sparse.storage.values() if stored.index_bytes]
    assert held == sum(stored.parameter_bytes for stored in pruned)
    wanted, _, _ = run(dense, CsrLinear)
    tolerance = 1e-3 if dtype == "float32" else 5e-2
    torch.testing.assert_close(found, wanted, atol=tolerance, rtol=tolerance)
