"""Counting: multiply-accumulates and FLOPs of one forward, each operator given to its owner.

The forward of a *meta twin* (shapes without storage) is traced. fvcore's handles count the multiply-accumulates of
matrix products; our own count what it drops (scaled dot-product attention, baddbmm, every element-wise operator,
softmax) or rounds (einsum, which it takes from a printed text of five digits). Every node of the graph is given to its
owner by the same rule that gives time to components (`attribution`).

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

import itertools
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn

from bertprof.attribution import Crossing, Key, Owner, Region, Walker
from bertprof.errors import first_line
from bertprof.measure.dispatch import Operation, deciding_as_it_runs, follow
from bertprof.measure.inputs import Inputs, tensors_of
from bertprof.measure.lifetimes import Alive
from bertprof.measure.operators import (
    FUSED_ATTENTION,
    MATRIX_PRODUCTS,
    NO_ARITHMETIC,
    RECURRENT,
    SPARSE_LINEAR,
    Operand,
    attention_macs,
    einsum_macs,
    extra_flops,
    plain_name,
    recurrent_counts,
    sparse_macs,
)
from bertprof.measure.wrapping import target, wrap
from bertprof.record import Caveat, Operator


class Traffic(NamedTuple):
    """Bytes between memory and arithmetic, in theory.

    Attributes:
        moved_bytes: inputs and outputs of every operator, each once: what moves if nothing stays in a cache between
            operators and nothing is read twice within one. Views move nothing; a lookup reads its rows, not the table;
            fused attention reads queries, keys and values and writes its result, where eager attention writes and
            reads the scores. Weights are read once a call.
        activation_bytes: results that the operators write anew. Not all of them are alive at one time.
    """

    moved_bytes: int
    activation_bytes: int


@dataclass
class Counts:
    """What one forward does.

    Attributes:
        operators: owner → operator (`aten::linear`) → calls, MACs, FLOPs.
        traffic: owner → bytes moved and bytes of activations.
        largest: the most bytes that one operator reads and writes, which memory must hold at one time, and which it is.
        calls: module path → how often the module was called, modules without operators included.
        units: module path → the units that called it.
        alive_bytes: the most bytes of activations that are alive at a time while a row runs. Alive is what an operator
            made and the forward still holds, each storage once whatever views there are of it, and the inputs, which
            the caller holds. Weights and buffers are not in it, nor what a kernel takes for itself while it runs.
            Fused attention makes its result and no scores; eager attention makes them.
        uncounted: operator → how often it occurred without being counted.
        caveats: what a reader must know of how it was counted, uncounted operators aside.
    """

    operators: dict[Owner, dict[str, Operator]] = field(default_factory=dict)
    traffic: dict[Owner, Traffic] = field(default_factory=dict)
    largest: tuple[int, str] = (0, "")
    calls: Counter[str] = field(default_factory=Counter)
    units: dict[str, set[int | None]] = field(default_factory=dict)
    alive_bytes: dict[Key, int] = field(default_factory=dict)
    uncounted: Counter[str] = field(default_factory=Counter)
    caveats: list[Caveat] = field(default_factory=list)

    def add(self, owner: Owner, operator: str, macs: int, flops: int) -> None:
        """One call of an operator."""
        entry = self.operators.setdefault(owner, {}).setdefault(operator, Operator(calls=0, macs=0, flops=0))
        entry.calls += 1
        entry.macs += macs
        entry.flops += flops

    def move(self, owner: Owner, moved_bytes: int, activation_bytes: int) -> None:
        """The traffic of one call of an operator."""
        before = self.traffic.get(owner, Traffic(0, 0))
        self.traffic[owner] = Traffic(before.moved_bytes + moved_bytes, before.activation_bytes + activation_bytes)

    def uncounted_caveats(self) -> list[Caveat]:
        """A caveat for each operator that has no rule."""
        return [
            Caveat(
                code="uncounted-operator",
                text=f"{operator} has no rule and is counted neither in MACs nor in FLOPs; it occurred {number} times",
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


def count(twin: nn.Module, inputs: Inputs, regions: Mapping[str, Region]) -> Counts:
    """Counts one forward of a meta twin, along its trace, and checks that by the operators that it dispatches.

    Args:
        twin: the float model on the meta device, in eval mode.
        inputs: of its forward; its tensors on the meta device, or on the CPU where its values may be asked for.
        regions: module path → region.

    Raises:
        CountingError: the forward does not run without storage.
    """
    executed = count_by_dispatch(twin, inputs, regions)
    if any(region.split for region in regions.values()):
        reason = "a trace does not tell apart the components of one function"
    else:
        try:
            counts = count_by_trace(twin, inputs, regions)
            counts.traffic, counts.largest = executed.traffic, executed.largest
            counts.alive_bytes = executed.alive_bytes
            if counts.totals() == executed.totals():
                return counts
            reason = "its trace does other work than the forward itself"
        except CountingError as error:
            reason = f"this forward cannot be traced ({error})"
    text = f"counted once, operator by operator as torch dispatches them, and not checked against a trace: {reason}"
    executed.caveats.append(Caveat(code="counted-by-dispatch", text=text))
    return executed


def count_by_trace(twin: nn.Module, inputs: Inputs, regions: Mapping[str, Region]) -> Counts:
    """Counts along the traced graph. Arguments as `count`; no traffic, nothing alive.

    Raises:
        CountingError: the forward cannot be traced.
    """
    tape = _GraphTape(regions)
    try:
        with ExitStack() as stack:
            stack.enter_context(tape.scopes(twin, methods_of(regions)))
            stack.enter_context(deciding_as_it_runs())
            stack.enter_context(torch.inference_mode())
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            positional = _Positional(twin, inputs.mapped(lambda tensor: tensor.to("meta")))
            graph, _ = torch.jit._get_trace_graph(positional, positional.tensors)  # type: ignore
            return tape.counted(graph)
    except Exception as error:
        raise CountingError(f"{type(error).__name__}: {first_line(error)}") from error


class _Positional(nn.Module):
    """Takes the inputs' tensors by position and returns plain tensors, as tracing wants it."""

    def __init__(self, model: nn.Module, inputs: Inputs) -> None:
        super().__init__()
        self.model = model
        self._inputs = inputs
        self.tensors = tuple(tensor for _, tensor in inputs.tensors())

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given = {id(before): now for before, now in zip(self.tensors, tensors, strict=True)}
        inputs = self._inputs.mapped(lambda tensor: given.get(id(tensor), tensor))
        return tuple(tensors_of(self.model(*inputs.args, **inputs.kwargs)))


class _GraphTape:
    """Gives the nodes of a traced graph to their owners.

    A traced node does not know which call it belongs to, and one module may be called by several units. So every
    crossing of a boundary replaces the trace's scope by one with the number of crossings so far; each node carries it.
    """

    def __init__(self, regions: Mapping[str, Region]) -> None:
        self._regions = regions
        self._crossings: list[Crossing] = []
        self._depth = 0

    @contextmanager
    def scopes(self, model: nn.Module, methods: Iterable[str]) -> Iterator[None]:
        """While open, what is traced is scoped by the calls of the modules of `model` and of these methods."""
        with ExitStack() as stack:
            for path in (*dict(model.named_modules()), *methods):
                entering, leaving = self._crossing(path, True), self._crossing(path, False)
                stack.callback(wrap(*target(model, path), entering, leaving))
            yield

    def _crossing(self, path: str, entering: bool) -> Callable[[], None]:
        crossing = Crossing(path, entering)

        def cross() -> None:
            state = torch._C._get_tracing_state()
            if state:
                if self._depth:
                    state.pop_scope()
                self._depth += 1 if entering else -1
                self._crossings.append(crossing)
                if self._depth:
                    state.push_scope(str(len(self._crossings)))

        return cross

    def counted(self, graph: Any) -> Counts:
        """The counts of all nodes of a graph that was traced under `scopes`."""
        walker = Walker(self._regions)
        counts = Counts(calls=walker.calls, units=walker.units)
        owners = [walker.owner]
        for crossing in self._crossings:
            walker.cross(crossing)
            owners.append(walker.owner)
        for node in graph.nodes():  # in no order that could be relied on
            scope = node.scopeName().rpartition("/")[2]
            owner = owners[int(scope) if scope.isdecimal() else 0]
            operator = node.kind()
            name = plain_name(operator)
            if operator.startswith("prim::") or name in NO_ARITHMETIC:
                continue
            found = _arithmetic(name, node)
            if found is None:
                counts.uncounted[operator] += 1
            else:
                counts.add(owner, operator, *found)
        return counts


def _arithmetic(name: str, node: Any) -> tuple[int, int] | None:
    """MACs and FLOPs of a traced node; None where it has no rule."""
    inputs, outputs = list(node.inputs()), list(node.outputs())
    ins, outs = [_operand(v) for v in inputs], [_operand(v) for v in outputs]
    if name in RECURRENT:  # behind the input and its state, or sizes of packed batches and state: a list of weights
        weights = [_operand(v).shape or () for v in itertools.chain(*map(_listed, inputs[2:4]))]
        return recurrent_counts(name, math.prod((ins[0].shape or (0,))[:-1]), weights)
    extra = extra_flops(name, ins, outs)
    if extra is None:
        return None
    macs = 0
    if name in MATRIX_PRODUCTS:
        from fvcore.nn import jit_handles  # compiles scripts as it is imported

        macs = int(getattr(jit_handles, MATRIX_PRODUCTS[name])(inputs, outputs))
    elif name == "einsum":
        factors = [_operand(v).shape or () for v in _listed(inputs[1])]
        macs = einsum_macs(inputs[0].toIValue(), factors)
    elif name == "_convolution_mode":
        macs = outs[0].elements * math.prod((ins[1].shape or (0,))[1:])
    elif name == "baddbmm":
        macs = ins[1].elements * (ins[2].shape or (0,))[-1]
    elif name in FUSED_ATTENTION:
        macs = attention_macs(ins)
    elif name == SPARSE_LINEAR:
        macs = sparse_macs(ins[0], inputs[3].toIValue())
    return macs, 2 * macs + extra


def _listed(value: Any) -> list[Any]:
    """The values in a list; of what is no list none."""
    return list(value.node().inputs()) if value.node().kind() == "prim::ListConstruct" else []


def _operand(value: Any) -> Operand:
    """A torch._C.Value as an operand."""
    if not value.isCompleteTensor():
        numbers = [v.toIValue() for v in _listed(value) if v.node().kind() == "prim::Constant"]
        listed = tuple(number for number in numbers if type(number) is int)
        flag = value.node().kind() == "prim::Constant" and value.toIValue() is True
        return Operand(None, flag=flag, numbers=listed)
    kind = value.type()
    return Operand(tuple(kind.sizes()), kind.scalarType() in ("Float", "Double", "Half", "BFloat16"))


def count_by_dispatch(model: nn.Module, inputs: Inputs, regions: Mapping[str, Region]) -> Counts:
    """Counts the operators that a forward dispatches. Arguments as `count`; any device.

    Raises:
        CountingError: the forward fails.
    """
    follower = _Counting(regions, inputs)
    try:
        follow(model, inputs, follower, methods_of(regions))
    except Exception as error:
        raise CountingError(f"{type(error).__name__}: {first_line(error)}") from error
    return follower.counts


class _Counting:
    """Gives each operator that ran to the walker's owner of the moment."""

    def __init__(self, regions: Mapping[str, Region], inputs: Inputs) -> None:
        self._walker = Walker(regions)
        self._alive = Alive(tensor for _, tensor in inputs.tensors())
        self.counts = Counts(calls=self._walker.calls, units=self._walker.units)

    def enter(self, path: str) -> None:
        self._walker.enter(path)

    def leave(self, path: str) -> None:
        self._walker.leave(path)

    def operate(self, operation: Operation) -> None:
        owner = self._walker.owner_of(operation.parameters)
        if operation.flops is None:
            self.counts.uncounted[operation.operator] += 1
        elif operation.name not in NO_ARITHMETIC:
            self.counts.add(owner, operation.operator, operation.macs, operation.flops)
        self.counts.move(owner, operation.moved_bytes, operation.written_bytes)
        self.counts.largest = max(self.counts.largest, (operation.moved_bytes, operation.operator))
        alive, key = self.counts.alive_bytes, owner.key
        alive[key] = max(alive.get(key, 0), self._alive.ran(operation.name, operation.inputs, operation.outputs))


def methods_of(regions: Mapping[str, Region]) -> list[str]:
    """The bound methods among the regions."""
    return [path for path in regions if path.endswith("()")]
