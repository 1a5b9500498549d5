"""Sparse execution: linears of which the kernels read and multiply the weights alone that are stored.

A pruned model is faster only where a kernel skips its zeros. Two kinds are here: those of torch for CSR weights, and
those of NVIDIA's tensor cores for 2:4 (semi-structured) ones.
"""

import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

from bertprof.attribution import Region, region_of
from bertprof.components import Component
from bertprof.compress.recipe import Recipe
from bertprof.compress.subjects import restructured
from bertprof.errors import first_line
from bertprof.measure.sparse import CountedLinear
from bertprof.measure.subject import Subject
from bertprof.record import Caveat


class Kernel(NamedTuple):
    """How linears run with weights that are stored without their zeros, on one device.

    Attributes:
        name: as a record calls it.
        linear: weight of shape (outputs, inputs), bias, and whether its product stays as the kernel writes it → the
            module that stands for the linear.
        rows, columns: outputs and inputs are multiples of these.
    """

    name: str
    linear: Callable[[Tensor, nn.Parameter | None, bool], nn.Module]
    rows: int = 1
    columns: int = 1

    @property
    def taken(self) -> str:
        """Which weights it takes, in words."""
        shapes = f" in multiples of {self.rows} × {self.columns}" if self.rows > 1 else ""
        return f"the weights of an nn.Linear alone{shapes}"


class Work(NamedTuple):
    """What a kernel does with a weight: how many of its scalars it multiplies, and how many bytes it reads."""

    multiplied: int
    read_bytes: int


def check_floats(subject: Subject, recipe: Recipe) -> None:
    """Refuses to quantise a model of which linears run sparse: their kernels read floats.

    Raises:
        UsageError: it is one, and the recipe quantises.
    """
    if recipe.method.stage != "quantization" or subject.twin is None:
        return
    if any(isinstance(module, CountedLinear) for module in subject.twin.modules()):
        raise recipe.refused(
            f"the kernels that run what is pruned ({subject.workload.backend}) read no quantised weights; leave out one"
        )


Linears = Mapping[tuple[str, int], list[str]]
"""A weight's name and the identity of a bias → the paths of the linears that hold both."""


def run_by(kernel: Kernel, linears: Linears, subject: Subject, recipe: Recipe, work: Mapping[str, Work]) -> Subject:
    """The subject with linears that run by a kernel; `macs` are then those of the weights that it multiplies.

    What else was pruned is executed dense, and a caveat says so.

    Args:
        kernel: runs them.
        linears: those that it takes, as `linears_of` found them.
        subject: with the pruned weights.
        recipe: in whose name.
        work: of each pruned parameter of the twin, by name.
    """
    runs = {name for name, _ in linears}
    dense = [name for name in work if name not in runs]

    def change(model: nn.Module, regions: Mapping[str, Region]) -> None:
        for (name, _), paths in linears.items():
            linear: Any = model.get_submodule(paths[0])
            if linear.weight.is_meta:
                module: nn.Module = CountedLinear(linear, *work[name])
            else:
                _, component = region_of(paths[0], regions)
                widens = component is Component.FFN and linear.out_features > linear.in_features
                module = kernel.linear(linear.weight.detach(), linear.bias, widens)
            for path in paths:
                holder, _, leaf = path.rpartition(".")
                setattr(model.get_submodule(holder), leaf, module.eval())

    caveats = []
    if dense:
        why = f"{kernel.name} takes {kernel.taken}"
        text = f"{len(dense)} pruned weights are executed dense, since {why}: {listed(dense)}"
        caveats = [Caveat(code="partly-dense", text=text, value=float(len(dense)))]
    found = restructured(subject, recipe, change, caveats=caveats)
    backend = subject.workload.backend
    if kernel.name not in backend:
        backend = f"{backend}, {kernel.name}"
    # Every path is where it was: what an unknown family is made of needs not be found again.
    return replace(found, regions=subject.regions, workload=msgspec.structs.replace(found.workload, backend=backend))


def linears_of(kernel: Kernel, twin: nn.Module, names: Collection[str]) -> Linears:
    """The linears that a kernel takes: every `nn.Linear` whose weight is one of these names and held by nothing else.

    None are tables, bare parameters (XLNet, `nn.MultiheadAttention`), GPT-2's `Conv1D`, convolutions (SqueezeBERT), and
    what is in `nn.TransformerEncoderLayer`, whose fused path reads the weights of its linears itself.
    """
    known = {id(parameter): name for name, parameter in twin.named_parameters() if name in names}
    found: dict[tuple[str, int], list[str]] = {}
    others: set[str] = set()
    for path, module in twin.named_modules(remove_duplicate=False):
        for leaf, parameter in module._parameters.items():
            if parameter is None or id(parameter) not in known:
                continue
            name = known[id(parameter)]
            if leaf == "weight" and path and type(module) is nn.Linear and _takes(kernel, twin, path, parameter):
                found.setdefault((name, id(module.bias)), []).append(path)
            else:
                others.add(name)
    return {key: paths for key, paths in found.items() if key[0] not in others}


def _takes(kernel: Kernel, twin: nn.Module, path: str, weight: Tensor) -> bool:
    above = twin.get_submodule(path.rpartition(".")[0])
    fused = isinstance(above, nn.TransformerEncoderLayer | nn.MultiheadAttention)
    return not fused and weight.shape[0] % kernel.rows == 0 and weight.shape[1] % kernel.columns == 0


def listed(names: list[str]) -> str:
    """The first three names, and how many more."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


# CSR ------------------------------------------------------------------------------------------------------------------


def csr_kernel(device: torch.device, dtype: torch.dtype) -> Kernel | str:
    """The kernel for CSR weights, or why there is none: whether it runs is tried on a weight of 2 × 2.

    It is MKL's on a CPU of which torch is built with it, else torch's own; that of cuSPARSE on CUDA. Those of MKL take
    float32 and float64 alone (torch 2.13).
    """
    if device.type == "cuda":
        name = "CSR by cuSPARSE"
    else:
        mkl = torch.backends.mkl.is_available() and sys.platform != "win32"  # where torch uses none of its sparse part
        name = "CSR by MKL" if mkl else "CSR by torch"
    if device.type == "meta":
        return Kernel("CSR", CsrLinear)
    try:
        with torch.inference_mode():
            CsrLinear(torch.eye(2, dtype=dtype, device=device), None)(torch.ones(1, 2, dtype=dtype, device=device))
    except (RuntimeError, NotImplementedError) as error:
        kind = str(dtype).removeprefix("torch.")
        return f"torch runs no CSR weights of {kind} on this {device.type} ({first_line(error)})"
    return Kernel(name, CsrLinear)


class CsrLinear(nn.Module):
    """A linear on a weight in CSR: y = (W · xᵀ)ᵀ + b, the weight's values with their columns and where rows begin.

    Of what torch has, `addmm` of a broadcast bias, a CSR weight and xᵀ is the fastest for 128 × 768 by 768 × 3072 at
    95 % zeros (MKL, one thread of a Xeon with AVX-512): 0.75 ms, and 3.7 ms for the dense linear. The product and then
    the bias take 0.95 ms; x · Wᵀ, as `functional.linear` has it for rows, 3.1 ms. Indices are of 32 bits, as they are
    counted: those of 64 are up to 10 % slower, since MKL takes 32 and torch would narrow them in each call.

    The kernel writes the numbers of one output neuron side by side, of all tokens. They are put into the usual order,
    as attention, sums and norms read them, but on the wide side of an FFN: its activation takes any order, and the next
    linear reads this one (BERT-base at 95 %: 11 % of the latency; all left as written would save 0 to 3 %).
    """

    values: Tensor
    columns: Tensor
    begins: Tensor

    def __init__(self, weight: Tensor, bias: nn.Parameter | None, as_written: bool = False) -> None:
        """
        Args:
            weight: (outputs, inputs), dense, with zeros.
            bias: of the outputs; the same parameter is held.
            as_written: the product stays as the kernel writes it, a transposed view.
        """
        super().__init__()
        self.out_features, self.in_features = weight.shape
        with _without_warnings():
            compressed = weight.to_sparse_csr()
        self.register_buffer("values", compressed.values())
        self.register_buffer("columns", compressed.col_indices().to(torch.int32))
        self.register_buffer("begins", compressed.crow_indices().to(torch.int32))
        self.bias = bias
        self.as_written = as_written

    @property
    def weight(self) -> Tensor:
        """The weight, a CSR tensor of what is held: torch cannot copy a module that holds one itself."""
        return torch.sparse_csr_tensor(
            self.begins, self.columns, self.values, (self.out_features, self.in_features), check_invariants=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """From (..., inputs) to (..., outputs)."""
        tokens = x.reshape(-1, self.in_features).t()
        weight, bias = self.weight, self.bias
        product = weight @ tokens if bias is None else torch.addmm(bias[:, None], weight, tokens)
        rows = product.t() if self.as_written else product.t().contiguous()
        return rows.view(*x.shape[:-1], self.out_features)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """While open, torch does not say that sparse tensors are in beta."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# 2:4 ------------------------------------------------------------------------------------------------------------------


def semi_structured_kernel(device: torch.device, dtype: torch.dtype) -> Kernel | str:
    """The kernel for 2:4 weights, or why there is none: cuSPARSELt's where torch is built with it, else CUTLASS's.

    Sparse tensor cores came with compute capability 8.0 and take 2:4 weights of float16 and bfloat16 (and 1:2 ones of
    float32, which 2:4 is not). Shapes are those that torch asks for; whether the kernel runs is tried on the smallest.
    """
    kind = str(dtype).removeprefix("torch.")
    if device.type != "cuda":
        return "only CUDA devices have kernels for them"
    if dtype not in (torch.float16, torch.bfloat16):
        return f"the kernels take float16 or bfloat16, and this is {kind}: add fp16 or bf16"
    if (capability := torch.cuda.get_device_capability(device)) < (8, 0):
        return f"the kernels need compute capability 8.0, and this GPU has {'.'.join(map(str, capability))}"
    why = None
    for kernel in (
        Kernel("2:4 by cuSPARSELt", SemiStructuredLinear, 16, 16),
        Kernel("2:4 by CUTLASS", _by_cutlass, 32, 64),
    ):
        if (why := _runs_not(kernel, device, dtype)) is None:
            return kernel
    return f"torch's kernels for them do not run here ({why})"


def _runs_not(kernel: Kernel, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why a kernel for 2:4 weights does not run, tried on the smallest weight that it takes; None: it does."""
    row = torch.tensor([1, 0, 1, 0], dtype=dtype, device=device)
    weight = row.repeat(kernel.rows, kernel.columns // 4)
    try:
        with torch.inference_mode():
            kernel.linear(weight, None, False)(weight)
    except (RuntimeError, NotImplementedError) as error:
        return first_line(error)
    return None


class SemiStructuredLinear(nn.Module):
    """A linear on a 2:4 weight, of which it holds the kept half and 2 bits of place for each of that."""

    def __init__(
        self, weight: Tensor, bias: nn.Parameter | None, as_written: bool = False, cutlass: bool = False
    ) -> None:
        """
        Args:
            weight: (outputs, inputs) on CUDA, of each four in a row at most two not zero.
            bias: of the outputs; the same parameter is held.
            as_written: has no meaning here: the kernel writes the usual order.
            cutlass: compressed for the kernels of CUTLASS, not for those of cuSPARSELt.
        """
        super().__init__()
        self.out_features, self.in_features = weight.shape
        made = (
            torch.sparse.SparseSemiStructuredTensorCUTLASS
            if cutlass
            else torch.sparse.SparseSemiStructuredTensorCUSPARSELT
        )
        with _without_warnings():
            self._weight = made.from_dense(weight.contiguous())
        # What a model holds is what its parameters and buffers are, and the weight wraps these.
        self.register_buffer("packed", self._weight.packed)
        self.register_buffer("places", self._weight.meta)
        self.bias = bias

    @property
    def weight(self) -> Tensor:
        """The weight, as torch's kernels take it."""
        return self._weight

    def forward(self, x: Tensor) -> Tensor:
        """From (..., inputs) to (..., outputs)."""
        rows = functional.linear(x.reshape(-1, self.in_features), self._weight, self.bias)
        return rows.view(*x.shape[:-1], self.out_features)


def _by_cutlass(weight: Tensor, bias: nn.Parameter | None, as_written: bool) -> nn.Module:
    return SemiStructuredLinear(weight, bias, as_written, cutlass=True)
