"""Finding the components of a model that no table knows, by what it computes.

One forward is followed operator by operator, and the flow of data between them tells what each is for. Three kinds of
operator are the *nodes* of that flow: products with a parameter (linears, 1-wide convolutions), products of two
activations (QKᵀ, ·V, or fused attention: the *core*), and lookups in a table. Everything else passes on what came
before. Then:

- a linear whose result reaches a core, with no other linear between, is attention-linear-in;
- a linear that is fed by a core and nothing else is attention-linear-out;
- linears with an activation function between them are ffn, unless they stand outside of the encoder units;
- a linear inside a unit that is none of these only changes the width: bottleneck;
- a linear before the first unit is embedding, one after the last is head;
- a lookup is embedding, or softmax-attention if it reaches a core directly (a table of relative positions).

An encoder unit is the innermost call that holds a core and an ffn. What is left between nodes (softmax, masks, GELU,
residual sums) goes by the nodes on both sides. From the operators' components come the regions: of a module, and, where
one module does several things one after the other, of what follows each of its children (`Region.after`) or stands in
its methods. Where one stretch of code multiplies with weights of several components, they can be told apart in counts
but not in time (`Region.split`).
"""

import itertools
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import FrameType

from torch import Tensor, nn

from bertprof.attribution import Region, component_of_parameter, module_of
from bertprof.components import Component
from bertprof.measure.dispatch import Operation, follow
from bertprof.measure.inputs import Inputs
from bertprof.measure.operators import FUSED_ATTENTION, NOT_READ, RECURRENT
from bertprof.measure.traffic import memory_of

_NORM = re.compile(r"(Layer|RMS|Rms|No|Group|Batch)Norm(\d?d)?$")
_NORM_OPERATORS = frozenset(("native_layer_norm", "layer_norm", "rms_norm", "_fused_rms_norm", "native_group_norm"))
_NONLINEAR = frozenset(
    (
        *("gelu", "relu", "silu", "tanh", "sigmoid", "erf", "elu", "leaky_relu", "hardtanh", "hardswish", "softplus"),
        *("mish", "clamp_min", "celu", "prelu", "_prelu_kernel", "hardsigmoid"),
    )
)
_SHAPE_ONLY = NOT_READ | {"empty_like", "new_empty"}
"""Operators to which an input gives a shape and no data."""

_LOOKUPS = frozenset(("embedding", "embedding_bag", "_embedding_bag"))

Source = tuple[int, bool]
"""A node that data comes from, and whether it passed an activation function on the way."""


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a normalisation, by its class or its class's name."""
    return isinstance(module, nn.LayerNorm | nn.RMSNorm) or bool(_NORM.search(type(module).__name__))


@dataclass
class _Call:
    """A call of a module or method; `last` is the child that returned last, as a path seen from the module."""

    path: str
    around: int | None
    last: str | None = None


@dataclass
class _Event:
    """An operator that ran: where, behind which child, on what."""

    operation: Operation
    call: int
    behind: str | None
    kind: str | None = None  # of a node: linear, core, lookup, convolution or recurrent
    sources: frozenset[Source] = frozenset()
    reaches: set[int] = field(default_factory=set)  # nodes that its result feeds, with no node between
    component: Component | None = None


class _Recorder:
    """Keeps calls and operators in order. Tensors are kept too, so that none takes the identity of another."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = dict(model.named_modules())
        self._stack: list[int] = []
        self.calls: list[_Call] = []
        self.events: list[_Event] = []
        self.methods: set[str] = set()

    def enter(self, path: str) -> None:
        self.calls.append(_Call(path, self._stack[-1] if self._stack else None))
        self._stack.append(len(self.calls) - 1)

    def leave(self, path: str) -> None:
        call = self._stack.pop()
        assert self.calls[call].path == path
        if self._stack:
            around = self.calls[self._stack[-1]]
            module = module_of(around.path)
            around.last = path.removeprefix(f"{module}.") if module else path

    def operate(self, operation: Operation) -> None:
        if not self._stack:
            return
        call = self.calls[self._stack[-1]]
        self.events.append(_Event(operation, self._stack[-1], call.last))
        if (operation.macs or operation.name in _LOOKUPS) and not call.path.endswith("()"):
            method = _method_of(self._modules[call.path], sys._getframe(1))
            if method is not None:
                self.methods.add(f"{call.path}.{method}()" if call.path else f"{method}()")


def _method_of(module: nn.Module, frame: FrameType | None) -> str | None:
    """The method of the module, called by its forward, in which an operator was called; None in the forward itself."""
    method = None
    while frame is not None:
        if frame.f_locals.get("self") is module:
            name = frame.f_code.co_name
            if name == "forward":
                return method
            function = next((vars(c)[name] for c in type(module).__mro__ if name in vars(c)), None)
            method = name if callable(function) and not isinstance(function, staticmethod) else method
            if name in ("_call_impl", "_wrapped_call_impl", "_slow_forward", "__call__"):
                return None
        frame = frame.f_back
    return None


def regions_of(model: nn.Module, inputs: Inputs) -> dict[str, Region]:
    """The regions of any model.

    Args:
        model: in eval mode, on any device; one on the meta device is followed on fake tensors.
        inputs: of its forward, on its device.

    Returns:
        module path → region.

    Raises:
        Exception: whatever the forward raises.
    """
    first = _Recorder(model)
    follow(model, inputs, first)
    recorder = first
    if first.methods:
        recorder = _Recorder(model)
        follow(model, inputs, recorder, sorted(first.methods))
    events, calls = recorder.events, recorder.calls
    _flow(events)
    _sort_linears(events)
    units = _units(events, calls)
    _place(events, calls, units, model)
    regions = _regions(events, calls, model)
    for path, joins in units.paths.items():
        region = regions.get(path, Region())
        regions[path] = Region(region.component, not joins, region.after, region.parameters, region.split, joins)
    return regions


# The flow of data -----------------------------------------------------------------------------------------------------


def _kind(operation: Operation) -> str | None:
    if operation.name in RECURRENT:
        return "recurrent"
    if operation.name in _LOOKUPS:
        return "lookup"
    if not operation.macs:
        return None
    if operation.name in FUSED_ATTENTION or not operation.parameters:
        return "core"
    if operation.name in ("convolution", "_convolution"):
        weight = operation.inputs[1]
        return "linear" if all(size == 1 for size in weight.shape[2:]) else "convolution"
    return "linear"


def _flow(events: list[_Event]) -> None:
    """Which nodes feed which, forwards and backwards.

    What is written into a part of a tensor (heads, one after the other) is in every view of it.
    """
    state: dict[object, frozenset[Source]] = {}
    nothing: frozenset[Source] = frozenset()
    for number, event in enumerate(events):
        operation = event.operation
        event.kind = _kind(operation)
        if operation.name not in _SHAPE_ONLY:
            event.sources = nothing.union(*(state.get(key, nothing) for t in operation.inputs for key in _keys(t)))
        passed = event.sources
        if event.kind is not None:
            passed = frozenset({(number, False)})
        elif operation.name in _NONLINEAR or (operation.name == "mul" and any(active for _, active in passed)):
            passed = frozenset((node, True) for node, _ in passed)
        for tensor in operation.outputs:
            state[id(tensor)] = passed
        for tensor in operation.inputs[: operation.writes]:
            place = _keys(tensor)[1]
            state[place] = state.get(place, nothing) | passed
    reached: dict[object, set[int]] = defaultdict(set)
    for number, event in reversed(list(enumerate(events))):
        written = event.operation.inputs[: event.operation.writes]
        event.reaches = set().union(*(reached[id(t)] for t in event.operation.outputs))
        event.reaches |= set().union(*(reached[_keys(t)[1]] for t in written))
        onward = {number} if event.kind is not None else event.reaches
        for tensor in () if event.operation.name in _SHAPE_ONLY else event.operation.inputs:
            for key in _keys(tensor):
                reached[key] |= onward


def _keys(tensor: Tensor) -> tuple[object, object]:
    """The tensor, and the memory that it is in."""
    return id(tensor), ("memory", memory_of(tensor))


def _sort_linears(events: list[_Event]) -> None:
    """The components that the flow alone tells: those of attention, and what is a candidate for ffn."""
    cores = {n for n, event in enumerate(events) if event.kind == "core"}
    linears = {n for n, event in enumerate(events) if event.kind == "linear"}
    for number, event in enumerate(events):
        sources = {node for node, _ in event.sources}
        if event.kind == "core":
            event.component = Component.SOFTMAX_ATTENTION
        elif event.kind == "lookup":
            direct = bool(event.reaches) and event.reaches <= cores
            event.component = Component.SOFTMAX_ATTENTION if direct else Component.EMBEDDING
        elif event.kind == "recurrent":
            event.component = Component.RECURRENT
        elif event.kind == "linear" and event.reaches & cores:
            between = bool(sources) and sources <= cores
            event.component = Component.SOFTMAX_ATTENTION if between else Component.ATTENTION_LINEAR_IN
        elif (
            event.kind == "linear"
            and sources & cores
            and all(node in cores or (active and events[node].reaches == {number}) for node, active in event.sources)
        ):  # from a core alone, or past a gate that is for it alone
            event.component = Component.ATTENTION_LINEAR_OUT
    for event in events:
        if event.kind == "linear" and event.component is None:
            for node, active in event.sources:
                if active and node in linears and events[node].component in (None, Component.FFN):
                    events[node].component = event.component = Component.FFN


# Units ----------------------------------------------------------------------------------------------------------------


@dataclass
class _Units:
    """Which calls are units, and the first and last operator inside one.

    `paths` maps the paths of units to whether they join the unit that came before: an FFN that stands beside its
    attention and not in one module with it.
    """

    calls: set[int]
    paths: dict[str, bool]
    first: int
    last: int


def _units(events: list[_Event], calls: list[_Call]) -> _Units:
    holds: dict[int, set[str]] = defaultdict(set)
    cores: Counter[int] = Counter()
    for event in events:
        what = {Component.SOFTMAX_ATTENTION: "core", Component.FFN: "ffn"}.get(event.component or Component.OTHER)
        what = "lookup" if event.kind == "lookup" and event.component is Component.EMBEDDING else what
        # A chain of products that feed each other (QKᵀ, then ·V) is one core.
        starts = event.kind == "core" and not any(events[n].kind == "core" for n, _ in event.sources)
        for call in _around(event.call, calls):
            if what is not None:
                holds[call].add(what)
            cores[call] += starts
    found: dict[int, bool] = {}
    for event in events:
        if event.kind != "core":
            continue
        chain = [c for c in _around(event.call, calls) if not calls[c].path.endswith("()")]
        both = next((c for c in chain if "ffn" in holds[c]), None)
        both = _widened(both, calls, cores, holds)
        if both is not None and "lookup" not in holds[both] and not _repeats(both, events, calls):
            found[both] = False
        elif both is not None:
            inside = [c for c in chain if "ffn" not in holds[c] and calls[c].path]
            if inside:
                found[inside[-1]] = False
                beside = (c for c, call in enumerate(calls) if call.around == both and c > inside[-1])
                for joined in itertools.takewhile(lambda c: "core" not in holds[c], beside):
                    if "ffn" in holds[joined]:
                        found[joined] = True
        elif any(calls[c].path for c in chain):
            alone = next((c for c in reversed(chain) if calls[c].path and cores[c] == 1), None)
            if alone is not None:
                found[alone] = False
    inside_units = [n for n, e in enumerate(events) if any(c in found for c in _around(e.call, calls))]
    if not found:  # a student without attention: its backbone stands for the units
        inside_units = [n for n, event in enumerate(events) if event.kind in ("recurrent", "convolution")]
    return _Units(
        set(found),
        {calls[call].path: joins for call, joins in found.items()},
        min(inside_units, default=len(events)),
        max(inside_units, default=-1),
    )


def _around(call: int | None, calls: list[_Call]) -> Iterable[int]:
    """A call and those around it, innermost first."""
    while call is not None:
        yield call
        call = calls[call].around


def _widened(both: int | None, calls: list[_Call], cores: Counter[int], holds: dict[int, set[str]]) -> int | None:
    """A call around it with no further attention and with an ffn beside: what looked like the ffn is a gate."""
    if both is None:
        return None
    around = calls[both].around
    while around is not None and calls[around].path and cores[around] == cores[both] and "lookup" not in holds[around]:
        if any("ffn" in holds[c] for c, call in enumerate(calls) if call.around == around and c != both):
            return around
        around = calls[around].around
    return both


def _repeats(both: int, events: list[_Event], calls: list[_Call]) -> bool:
    """Whether a call holds several units one after the other: an attention that follows an ffn."""
    order = [
        event.kind == "core"
        for event in events
        if (event.kind == "core" or event.component is Component.FFN) and both in _around(event.call, calls)
    ]
    return any(core and not before for before, core in itertools.pairwise(order))


# Components -----------------------------------------------------------------------------------------------------------


def _place(events: list[_Event], calls: list[_Call], units: _Units, model: nn.Module) -> None:
    """The component of every operator that has one."""
    norms = {path for path, module in model.named_modules() if is_norm(module)}
    for number, event in enumerate(events):
        inside = any(call in units.calls for call in _around(event.call, calls))
        place = None if inside else _outside(number, event, units)
        if event.kind == "convolution" and not units.calls:
            event.component = Component.CONVOLUTION
        if event.kind in ("linear", "convolution") and event.component in (None, Component.FFN):
            event.component = place or event.component or _of_linear(event, inside)
        if calls[event.call].path in norms or event.operation.name in _NORM_OPERATORS:
            event.component = Component.ADD_NORM
    _pair_up(events)
    for event in reversed(events):
        reached = {events[node].component for node in event.reaches}
        if event.operation.constant and len(reached) == 1 and event.component in (None, Component.BOTTLENECK):
            (event.component,) = reached  # a weight in the making: adapters that were merged, a scaled one
    for number, event in enumerate(events):
        if event.component is None:
            inside = any(call in units.calls for call in _around(event.call, calls))
            event.component = _between(event, events) or (None if inside else _outside(number, event, units))


def _of_linear(event: _Event, inside: bool) -> Component:
    if event.kind == "convolution":
        return Component.CONVOLUTION
    return Component.BOTTLENECK if inside else Component.OTHER


def _pair_up(events: list[_Event]) -> None:
    """The other half of a linear that was factorised: one that feeds a single linear, or is fed by one, and no more."""
    for _ in range(2):
        for event in events:
            if event.kind != "linear" or event.component is not Component.BOTTLENECK:
                continue
            onward = [events[n] for n in event.reaches if events[n].kind == "linear"]
            before = [(events[n], active) for n, active in event.sources]
            if len(event.reaches) == len(onward) == 1 and len(onward[0].sources) == 1:
                active = next(iter(onward[0].sources))[1]
                if not active and onward[0].component is not None:
                    event.component = onward[0].component
            if event.component is Component.BOTTLENECK and len(before) == 1:
                ((source, active),) = before
                if source.kind == "linear" and not active and len(source.reaches) == 1 and source.component is not None:
                    event.component = source.component


def _outside(number: int, event: _Event, units: _Units) -> Component | None:
    """Of what computes outside of the units: before the first or after the last."""
    if units.first > units.last or not (event.sources or event.kind):
        return None
    if number < units.first:
        return Component.EMBEDDING
    return Component.HEAD if number > units.last else None


def _between(event: _Event, events: list[_Event]) -> Component | None:
    """Of what is no node, by the nodes before and behind it."""
    if event.operation.name == "add" and event.operation.parameters and len(event.sources) == 1:
        ((node, _),) = event.sources
        if events[node].kind == "linear" and events[node].call == event.call:
            return events[node].component  # its bias
    sources = {events[node].component for node, _ in event.sources}
    reached = {events[node].component for node in event.reaches}
    core, ffn = {Component.SOFTMAX_ATTENTION}, {Component.FFN}
    if (reached and reached <= core) or (sources and sources <= core):
        return Component.SOFTMAX_ATTENTION
    activations = [t for t in event.operation.inputs if t.ndim > 1 and not event.operation.parameters]
    summed = event.operation.name in ("add", "sub") and len(activations) == 2
    if summed and activations[0].shape == activations[1].shape and sources - {Component.EMBEDDING}:
        return Component.ADD_NORM
    if event.operation.name in _NONLINEAR and ffn & sources:
        return Component.FFN
    if sources and sources <= ffn and reached <= ffn:
        return Component.FFN
    return None


# Regions --------------------------------------------------------------------------------------------------------------


def _regions(events: list[_Event], calls: list[_Call], model: nn.Module) -> dict[str, Region]:
    own: dict[str, dict[str | None, Counter[Component]]] = defaultdict(lambda: defaultdict(Counter))
    weights: dict[str, Counter[tuple[bool, Component]]] = defaultdict(Counter)
    products: dict[tuple[str, str | None], set[Component]] = defaultdict(set)
    free: dict[str, Counter[Component]] = defaultdict(Counter)
    for event in events:
        path, operation = calls[event.call].path, event.operation
        if event.component is None:
            continue
        # What does no arithmetic still says where it is, if nothing else does.
        weight = 1 + 1000 * (operation.flops or 0)
        own[path][event.behind][event.component] += weight
        for position, names in enumerate(operation.named):
            # Of a product of two parameters the second is the weight, the first a table of positions that it projects.
            projected = operation.macs and operation.constant and position == len(operation.named) - 2
            to_core = projected and event.component is Component.ATTENTION_LINEAR_IN
            component = Component.SOFTMAX_ATTENTION if to_core else event.component
            for name in names:
                # Of the uses of a tied weight a lookup says where it stands, or the module of its first name.
                home = event.kind == "lookup" or path == name.rpartition(".")[0]
                weights[name][home, component] += weight
        if operation.macs:
            products[path, event.behind].add(event.component)
        if not operation.parameters:
            free[path][event.component] += weight
    regions: dict[str, Region] = {}
    for path, segments in own.items():
        split = any(len(products[path, behind]) > 1 for behind in segments)
        if split:
            # Counts of weights go where the weights stand; the rest, and all of the time, where most of the rest is.
            most = free[path] or sum(segments.values(), Counter())
            regions[path] = Region(most.most_common(1)[0][0], split=True)
            continue
        found = {behind: counter.most_common(1)[0][0] for behind, counter in segments.items()}
        start = found.get(None)
        after = {behind: component for behind, component in found.items() if behind is not None}
        if start is not None and len(set(found.values())) == 1:
            start, after = next(iter(found.values())), {}
        regions[path] = Region(start, after=after)
    _stand(regions, weights, model)
    return regions


def _stand(regions: dict[str, Region], weights: dict[str, Counter[tuple[bool, Component]]], model: nn.Module) -> None:
    """Gives parameters to the component that uses them, where that is not their module's."""
    called = set(regions)
    own: dict[str, dict[str, Component]] = defaultdict(dict)
    for name, _ in model.named_parameters():
        if name in weights:
            path, _, leaf = name.rpartition(".")
            at_home = Counter({key: amount for key, amount in weights[name].items() if key[0]})
            own[path][leaf] = (at_home or weights[name]).most_common(1)[0][0][1]
    for path, components in own.items():
        if path not in called and len(set(components.values())) == 1:
            regions[path] = Region(next(iter(components.values())))  # used without being called
            continue
        region = regions.get(path, Region())
        differing = {
            leaf: component
            for leaf, component in components.items()
            if component_of_parameter(f"{path}.{leaf}" if path else leaf, regions) is not component
        }
        if differing:
            regions[path] = Region(region.component, region.unit, region.after, differing, region.split)
