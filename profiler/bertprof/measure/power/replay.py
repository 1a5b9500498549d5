"""Replaying: a forward as CUDA graphs, whole and in pieces, so that one component can run again and again by itself.

Softmax attention is no module, it is what is left of one. So the forward is captured as a sequence of graphs, cut at
the boundary marks where the component changes: the pieces of a component, in turn, are its work and nothing else.

Each graph has a memory pool of its own. From a shared one, a block that a piece has freed is given to a later piece;
then a piece that is replayed by itself would read what others left there, and grow or fade from replay to replay. That
would not change its time, but its power: the data of a matrix product change it by up to 40 % (Gregersen et al. 2024,
arXiv 2409.18324). From pools of their own, a piece finds what the last pass over all pieces wrote, and computes the
same again; an in-place operator across a cut is the exception. The price is memory: what crosses a cut stays allocated.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

from bertprof.attribution import Walker
from bertprof.components import Component
from bertprof.errors import DeviceError
from bertprof.measure.clocks import Tape
from bertprof.measure.dispatch import deciding_as_it_runs
from bertprof.measure.graphs import Cuda
from bertprof.measure.timing import WARM_UP_ROUNDS, Marked, undisturbed, watched


class Piece(NamedTuple):
    """A stretch of the forward: whose work it is, and the graph that was captured; its `replay()` launches it."""

    component: Component
    graph: Any


@contextmanager
def captured(marked: Marked, cuda: Cuda) -> Iterator[tuple[Any, list[Piece]]]:
    """A forward as one graph, and the same cut where the component changes, in order; both freed on leaving.

    Where nothing is launched, as in the views between the query's and the key's projection, no cut is needed.

    Raises:
        DeviceError: the forward launches nothing.
        Exception: it cannot be captured (it waits for the device, say), or does not fit into memory so.
    """
    graphs: list[Any] = []
    try:
        with undisturbed(), deciding_as_it_runs(), cuda.aside():
            for _ in range(WARM_UP_ROUNDS):  # what is made on first use must not be made in a capture
                _forward(marked)
            with cuda.strictly():  # fails before a capture would
                _forward(marked)
            owners = _owners(marked)
            cuda.make_room()
            (whole,) = _captured(marked, cuda, [Component.OTHER] * len(owners), graphs)
            pieces = _captured(marked, cuda, owners, graphs)
        cuda.synchronize()
        yield whole.graph, pieces
    finally:
        cuda.release(graphs)


def _forward(marked: Marked) -> None:
    args, kwargs = marked.inputs.fresh()
    marked.model(*args, **kwargs)


def _owners(marked: Marked) -> list[Component]:
    """Whose work is launched before the first mark, and behind each; where none is, that of the launch before."""
    watch, walker = watched(marked), Walker(marked.regions)
    owners = [walker.owner.component]
    for code in watch.codes:
        walker.cross(marked.crossings[code])
        owners.append(walker.owner.component)
    owner = next((owner for owner, launched in zip(owners, watch.launched, strict=True) if launched), None)
    if owner is None:
        raise DeviceError("the forward launches nothing on the device")
    found = []
    for component, launched in zip(owners, watch.launched, strict=True):
        owner = component if launched else owner
        found.append(owner)
    return found


def _captured(marked: Marked, cuda: Cuda, owners: Sequence[Component], graphs: list[Any]) -> list[Piece]:
    """One forward, cut wherever the owner of a stretch is another than that of the one before.

    Its graphs are added to `graphs` as they are captured.
    """
    cutter = _Cutter(cuda, owners)
    cutting = replace(marked, clock=cutter, style="wrappers")  # which mark every crossing, past hooks or not
    with warnings.catch_warnings(), cutting.marks():
        warnings.simplefilter("ignore")  # of a graph that is empty, since what seemed a launch was none
        try:
            with cutter.capturing:
                cutting.run()
        finally:
            graphs += [piece.graph for piece in cutter.pieces]
    return cutter.pieces


class _Cutter:
    """A clock that captures instead of timing: it ends a graph and begins the next where the owner changes.

    Attributes:
        capturing: what is open: the capture of the piece in hand.
        pieces: those that were begun.
    """

    name = "pieces"

    def __init__(self, cuda: Cuda, owners: Sequence[Component]) -> None:
        """
        Args:
            cuda: the device.
            owners: whose the work is before the first mark, and behind each.
        """
        self._cuda = cuda
        self._owners = owners
        self._at = 0
        self.capturing = ExitStack()
        self.pieces: list[Piece] = []

    def start(self) -> None:
        """Begins the first graph."""
        self._begin()

    def mark(self, code: int) -> None:
        """Cuts here if the owner changes."""
        self._at += 1
        if self._owners[self._at] is not self._owners[self._at - 1]:
            self.capturing.close()
            self._begin()

    def stop(self) -> Tape:
        """Ends the last graph."""
        self.capturing.close()
        return Tape([], [0])

    def _begin(self) -> None:
        graph = self.capturing.enter_context(self._cuda.capture(self._cuda.pool()))
        self.pieces.append(Piece(self._owners[self._at], graph))
