"""Which tensors are still there: by weak references, against what is really held."""

import gc
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bertprof.measure.lifetimes import Alive, Forgetting


def test_memory_counts_until_the_last_view_of_it_is_gone():
    alive = Alive()
    tensor = torch.zeros(3, 5)
    alive.made([tensor])
    assert alive.bytes == 60
    view = tensor.t()[1:]
    alive.made([view])
    assert alive.bytes == 60
    del tensor
    assert alive.bytes == 60
    del view
    assert alive.bytes == 0


def test_what_was_there_before_does_not_count_nor_do_views_of_it():
    alive = Alive()
    weight = torch.zeros(8)
    alive.given([weight])
    alive.made([weight.view(2, 4), weight])
    assert alive.bytes == 0


def test_memory_that_another_had_before_is_new():
    alive = Alive()
    given = torch.zeros(1000)
    alive.given([given])
    del given
    for _ in range(10):  # in the same place, likely
        made = torch.zeros(1000)
        alive.made([made])
        assert alive.bytes == 4000
        del made
    assert alive.bytes == 0


@pytest.mark.filterwarnings("ignore")  # of a beta state
def test_a_sparse_tensor_shows_no_storage_and_counts_as_stored():
    alive = Alive()
    made = torch.eye(4).to_sparse_csr()
    alive.made([made])
    assert alive.bytes == 4 * 4 + 8 * 5 + 8 * 4  # values, and 64-bit indices of rows and columns
    del made
    assert alive.bytes == 0


VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "itself": lambda tensor: tensor,
    "part": lambda tensor: tensor[1:],
    "transposed": lambda tensor: tensor.t(),
    "expanded": lambda tensor: tensor[:, None].expand(-1, 3, -1),
    "copy": lambda tensor: tensor.clone(memory_format=torch.contiguous_format),
}


@given(st.lists(st.tuples(st.sampled_from([*VIEWS, "new", "gone"]), st.integers(0, 9)), max_size=30))
def test_alive_is_what_is_held(steps: list[tuple[str, int]]):
    alive, held = Alive(), [torch.zeros(2, 3)]
    alive.given(held)
    there_before = held[0].untyped_storage()._cdata
    for what, which in steps:
        source = held[which % len(held)]
        if what == "new":
            held.append(torch.zeros(2 + which, 3))
        elif what == "gone" and len(held) > 1:
            del held[1 + which % (len(held) - 1)]
        elif what in VIEWS and source.ndim == 2:
            held.append(VIEWS[what](source))
        del source
        alive.made(held)
        storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in held}
        storages.pop(there_before)
        assert alive.bytes == sum(storages.values())


def test_what_is_known_is_forgotten_with_the_tensor():
    names: dict[int, str] = {}
    constant: set[int] = set()
    forgetting = Forgetting(names, constant)
    first, second = torch.zeros(1), torch.zeros(1)
    names |= {id(first): "first", id(second): "second"}
    constant.add(id(first))
    forgetting.watch([first, second])
    forgetting.watch([first])
    key = id(first)
    del first
    assert key not in names
    assert key not in constant
    assert names == {id(second): "second"}


@pytest.mark.parametrize("kept", ["an output of autograd", "a view's base"])
def test_a_tensor_that_only_torch_still_holds_is_known(kept: str):
    known = {}
    forgetting = Forgetting(known)
    tensor = torch.zeros(3, requires_grad=True) if kept == "an output of autograd" else torch.zeros(3)
    result = tensor * 2 if kept == "an output of autograd" else tensor[1:]
    known[id(tensor)] = "leaf"
    forgetting.watch([tensor])
    key = id(tensor)
    del tensor
    gc.collect()
    assert key in known
    del result
    assert key not in known
