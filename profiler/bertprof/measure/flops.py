"""Counting: multiply-accumulates and FLOPs of one forward, each operator given to its owner.

The forward of a *meta twin* (shapes without storage) is traced by fvcore. fvcore's handles count the multiply-
accumulates of matrix products; our own handles count what it drops (scaled dot-product attention, baddbmm, every
element-wise operator, softmax). The traced graph is walked in node order and every node given to its owner by the same
rule that gives time to components (`attribution`).

Two figures, never mixed:

- `macs`: multiply-accumulates in matrix products, as the executed kernels do them (dense, masked scores included).
- `flops` = 2 · macs + floating-point arithmetic of everything else, by the table of `operators`. An operator whose
  result is no floating-point number (position ids, masks of booleans) does no *floating-point* operation and counts 0.

An operator that the table does not know is not counted; it becomes a caveat with its name and how often it occurred.

Every count is made twice. The twin also runs, untraced, under a dispatch mode that takes the MACs from torch's own
formulas (`torch.utils.flop_counter`) and the rest from the same table. The two must agree for every owner. Where they
do not, tracing has changed what the model computes; there, and where there is no trace (torch.jit ends with Python
3.14), the forward as it runs is what counts, and a caveat says so.
"""

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from bertprof.attribution import Owner, Region, Walker
from bertprof.errors import first_line
from bertprof.measure.operators import (
    FUSED_ATTENTION,
    MATRIX_PRODUCTS,
    NO_ARITHMETIC,
    PER_INPUT_ELEMENT,
    PER_OUTPUT_ELEMENT,
    Operand,
    attention_macs,
    extra_flops,
    plain_name,
)
from bertprof.record import Caveat, Operator


@dataclass
class Counts:
    """What one forward does.

    Attributes:
        operators: owner → operator (`aten::linear`) → calls, MACs, FLOPs.
        calls: module path → how often the module was called, modules without operators included.
        units: module path → the units that called it.
        uncounted: operator → how often it occurred without being counted.
        caveats: what a reader must know of how it was counted, uncounted operators aside.
    """

    operators: dict[Owner, dict[str, Operator]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    units: dict[str, set[int | None]] = field(default_factory=dict)
    uncounted: Counter[str] = field(default_factory=Counter)
    caveats: list[Caveat] = field(default_factory=list)

    def add(self, owner: Owner, operator: str, macs: int, flops: int) -> None:
        """One call of an operator."""
        entry = self.operators.setdefault(owner, {}).setdefault(operator, Operator(calls=0, macs=0, flops=0))
        entry.calls += 1
        entry.macs += macs
        entry.flops += flops

    def uncounted_caveats(self) -> list[Caveat]:
        """A caveat for each operator that has no rule."""
        return [
            Caveat(
                code="uncounted-operator",
                text=f"{operator} has no rule and is not counted in FLOPs; it occurred {number} times",
                value=float(number),
            )
            for operator, number in sorted(self.uncounted.items())
        ]

    def totals(self) -> dict[Owner, tuple[int, int]]:
        """MACs and FLOPs of every owner that has some."""
        sums = {
            owner: (sum(o.macs for o in operators.values()), sum(o.flops for o in operators.values()))
            for owner, operators in self.operators.items()
        }
        return {owner: pair for owner, pair in sums.items() if any(pair)}


class CountingError(Exception):
    """The forward cannot be followed by this way of counting."""


def count(twin: nn.Module, inputs: Mapping[str, Any], regions: Mapping[str, Region]) -> Counts:
    """Counts one forward of a meta twin, along fvcore's trace, and checks that by the operators that it dispatches.

    Args:
        twin: the float model on the meta device, in eval mode. Its hooks may be left changed after a failure.
        inputs: keyword arguments of its forward; its tensors on the meta device.
        regions: module path → region.

    Raises:
        CountingError: the forward does not run on meta tensors.
    """
    executed = count_by_dispatch(twin, inputs, regions)
    try:
        counts = count_by_trace(twin, inputs, regions)
        reason = "" if counts.totals() == executed.totals() else "the trace does other work than the forward itself"
    except CountingError as error:
        reason = f"fvcore could not trace this forward: {error}"
    if reason:
        counts = executed
        text = f"{reason}; counted with torch's flop formulas as it runs"
        counts.caveats.append(Caveat(code="counted-by-dispatch", text=text))
    return counts


def count_by_trace(twin: nn.Module, inputs: Mapping[str, Any], regions: Mapping[str, Region]) -> Counts:
    """Counts along fvcore's traced graph. Arguments as `count`.

    Raises:
        CountingError: the forward cannot be traced.
    """
    counts = Counts()
    graph = _GraphTape(counts, regions)
    try:
        with graph.scopes(twin), _unseen(), torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from fvcore.nn.jit_analysis import JitModelAnalysis  # compiles scripts as it is imported, and warns of that

            tensors = {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}
            analysis = JitModelAnalysis(_Positional(twin, tuple(tensors), inputs), tuple(tensors.values()))
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            analysis.set_op_handle(**graph.handles())
            analysis.total()
            counts.uncounted = Counter(analysis.unsupported_ops())
    except Exception as error:
        raise CountingError(f"{type(error).__name__}: {first_line(error)}") from error
    return counts


@contextmanager
def _unseen() -> Iterator[None]:
    """While open, transformers decides about masks as if it were not traced.

    Some versions (5.17) add a mask while they are traced that they leave out when they run.
    """
    masking = sys.modules.get("transformers.masking_utils")
    asked = getattr(masking, "is_tracing", None)
    if masking is None or asked is None:
        yield
        return
    setattr(masking, "is_tracing", lambda *tensors: False)  # noqa: B010 (no attribute that a type checker knows)
    try:
        yield
    finally:
        setattr(masking, "is_tracing", asked)  # noqa: B010


class _Positional(nn.Module):
    """Takes the model's tensors by position and returns plain tensors, as tracing wants it."""

    def __init__(self, model: nn.Module, names: tuple[str, ...], arguments: Mapping[str, Any]) -> None:
        super().__init__()
        self.model = model
        self._names = names
        self._arguments = dict(arguments)

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        arguments = {**self._arguments, **dict(zip(self._names, tensors, strict=True))}
        return tuple(tensors_of(self.model(**arguments)))


def tensors_of(output: Any) -> Iterator[torch.Tensor]:
    """All tensors of an output, so that nothing that it depends on vanishes from the trace as dead code."""
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from tensors_of(value)
    elif isinstance(output, tuple | list):
        for value in output:
            yield from tensors_of(value)


class _GraphTape:
    """Walks the nodes of a traced graph in order and gives each to its owner.

    fvcore names the module of a node but not the call, and one module may be called by several units. So each call
    pushes a scope of its own, numbered, around fvcore's: the scopes of a node are then the stack of calls in which it
    was recorded, and two stacks differ by exactly the boundaries crossed between them.
    """

    _PREFIX = "call:"

    def __init__(self, counts: Counts, regions: Mapping[str, Region]) -> None:
        self._counts = counts
        self._walker = Walker(regions)
        self._census = Walker(regions)
        self._paths: list[str] = []
        self._stack: list[int] = []
        counts.calls, counts.units = self._census.calls, self._census.units

    @contextmanager
    def scopes(self, model: nn.Module) -> Iterator[None]:
        """While open, each call of a module of `model` is a numbered scope."""
        handles = []
        try:
            for path, module in model.named_modules():
                handles.append(module.register_forward_pre_hook(self._entering(path)))
                handles.append(module.register_forward_hook(self._leaving(path)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _entering(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            state = torch._C._get_tracing_state()
            if state:
                state.push_scope(f"{self._PREFIX}{len(self._paths)}")
                self._paths.append(path)
                self._census.enter(path)

        return hook

    def _leaving(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            state = torch._C._get_tracing_state()
            if state:
                state.pop_scope()
                self._census.leave(path)

        return hook

    def handles(self) -> dict[str, Any]:
        """For fvcore: operator → handle that records the node, or None for what does no arithmetic."""
        counted = {*MATRIX_PRODUCTS, *PER_OUTPUT_ELEMENT, *PER_INPUT_ELEMENT, *FUSED_ATTENTION}
        counted |= {"layer_norm", "native_layer_norm", "baddbmm"}
        names = [f"aten::{name}{suffix}" for name in counted for suffix in ("", "_")]
        ignored = [f"aten::{name}{suffix}" for name in NO_ARITHMETIC for suffix in ("", "_")]
        return {**dict.fromkeys(names, self._record), **dict.fromkeys(ignored)}

    def _record(self, inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        from fvcore.nn import jit_handles

        node = outputs[0].node()
        operator = node.kind()
        name = plain_name(operator)
        ins, outs = [_operand(v) for v in inputs], [_operand(v) for v in outputs]
        if name in MATRIX_PRODUCTS:
            macs = int(getattr(jit_handles, MATRIX_PRODUCTS[name])(inputs, outputs))
        elif name == "baddbmm":
            macs = ins[1].elements * (ins[2].shape or (0,))[-1]
        elif name in FUSED_ATTENTION:
            macs = attention_macs(ins)
        else:
            macs = 0
        extra = extra_flops(name, ins, outs)
        assert extra is not None  # a handle is set for listed operators only
        self._move_to([int(s[len(self._PREFIX) :]) for s in node.scopeName().split("/") if s.startswith(self._PREFIX)])
        self._counts.add(self._walker.owner, operator, macs, 2 * macs + extra)
        return Counter()

    def _move_to(self, stack: list[int]) -> None:
        common = 0
        while common < min(len(stack), len(self._stack)) and stack[common] == self._stack[common]:
            common += 1
        for call in reversed(self._stack[common:]):
            self._walker.leave(self._paths[call])
        for call in stack[common:]:
            self._walker.enter(self._paths[call])
        self._stack = stack


def _operand(value: Any) -> Operand:
    """A torch._C.Value as an operand."""
    if not value.isCompleteTensor():
        return Operand(None)
    kind = value.type()
    return Operand(tuple(kind.sizes()), kind.scalarType() in ("Float", "Double", "Half", "BFloat16"))


def count_by_dispatch(model: nn.Module, inputs: Mapping[str, Any], regions: Mapping[str, Region]) -> Counts:
    """Counts the operators that a forward dispatches. Arguments as `count`; any device.

    Raises:
        CountingError: the forward fails.
    """
    counts = Counts()
    walker = Walker(regions)
    counts.calls, counts.units = walker.calls, walker.units
    handles = []

    def entering(path: str) -> Callable[..., None]:
        return lambda module, args: walker.enter(path)

    def leaving(path: str) -> Callable[..., None]:
        return lambda module, args, output: walker.leave(path)

    try:
        for path, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(entering(path)))
            handles.append(module.register_forward_hook(leaving(path)))
        # Inference mode shows composite operators whole, so that fused attention is counted by its definition and not
        # by whichever decomposition this device would run; the rest is decomposed by hand.
        with torch.inference_mode(), _DispatchTape(counts, walker):
            model(**inputs)
    except Exception as error:
        raise CountingError(f"{type(error).__name__}: {first_line(error)}") from error
    finally:
        for handle in handles:
            handle.remove()
    return counts


class _DispatchTape(TorchDispatchMode):
    """Gives each dispatched operator to the walker's owner of the moment."""

    def __init__(self, counts: Counts, walker: Walker) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._counts = counts
        self._walker = walker

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func._overloadpacket
        operator = f"{func.namespace}::{packet.__name__}"
        name = plain_name(operator)
        if packet not in flop_registry and name not in FUSED_ATTENTION:
            with self:
                decomposed = func.decompose(*args, **kwargs)
            if decomposed is not NotImplemented:
                return decomposed
        result = func(*args, **kwargs)
        ins = [_dispatched(a) for a in args]
        outs = [_dispatched(r) for r in (result if isinstance(result, tuple | list) else (result,))]
        extra = extra_flops(name, ins, outs)
        if name in FUSED_ATTENTION:
            macs = attention_macs(ins)
        elif packet in flop_registry:
            macs = flop_registry[packet](*args, **kwargs, out_val=result) // 2
        else:
            macs = 0
        if extra is None and macs == 0:
            self._counts.uncounted[operator] += 1
        elif name not in NO_ARITHMETIC:
            self._counts.add(self._walker.owner, operator, macs, 2 * macs + (extra or 0))
        return result


def _dispatched(value: Any) -> Operand:
    if not isinstance(value, torch.Tensor):
        return Operand(None)
    return Operand(tuple(value.shape), value.is_floating_point())
