import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertprof.attribution import Crossing, Owner, Region, Walker, boundaries, region_of, split_intervals
from bertprof.components import COMPONENT_ORDER, DESCRIPTIONS, GROUPS, Component

REGIONS = {
    "": Region(Component.OTHER),
    "unit": Region(Component.OTHER, unit=True),
    "unit.attention": Region(Component.SOFTMAX_ATTENTION, after={"dense": Component.ADD_NORM}),
    "unit.attention.query": Region(Component.ATTENTION_LINEAR_IN),
    "unit.attention.dense": Region(Component.ATTENTION_LINEAR_OUT),
    "unit.attention.norm": Region(Component.ADD_NORM),
}


def enter(path: str) -> Crossing:
    return Crossing(path, True)


def leave(path: str) -> Crossing:
    return Crossing(path, False)


ONE_UNIT = [
    enter("unit"),
    enter("unit.attention"),
    enter("unit.attention.query"),
    leave("unit.attention.query"),
    enter("unit.attention.dense"),
    leave("unit.attention.dense"),
    leave("unit.attention"),
    leave("unit"),
]


def test_each_interval_belongs_to_the_innermost_component():
    #           before unit attn q   attn dense after  unit after
    intervals = [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert split_intervals(ONE_UNIT, intervals, REGIONS) == {
        Owner(None, Component.OTHER, ""): 1 + 256,
        Owner(0, Component.OTHER, "unit"): 2 + 128,
        Owner(0, Component.SOFTMAX_ATTENTION, "unit.attention"): 4 + 16,
        Owner(0, Component.ATTENTION_LINEAR_IN, "unit.attention.query"): 8,
        Owner(0, Component.ATTENTION_LINEAR_OUT, "unit.attention.dense"): 32,
        # Behind the output projection the same module computes the residual sum.
        Owner(0, Component.ADD_NORM, "unit.attention"): 64,
    }


def test_one_module_called_three_times_is_three_units_and_starts_afresh_each_time():
    split = split_intervals(ONE_UNIT * 3, [1] * (8 * 3 + 1), REGIONS)
    assert {owner.unit for owner in split} == {None, 0, 1, 2}
    for unit in range(3):
        assert split[Owner(unit, Component.SOFTMAX_ATTENTION, "unit.attention")] == 2
        assert split[Owner(unit, Component.ADD_NORM, "unit.attention")] == 1


def test_walker_counts_calls_and_units():
    walker = Walker(REGIONS)
    for crossing in ONE_UNIT * 2:
        walker.cross(crossing)
    assert walker.calls["unit.attention.query"] == 2
    assert walker.units["unit.attention.query"] == {0, 1}
    assert walker.owner == Owner(None, Component.OTHER, "")


def test_a_module_without_region_inherits():
    walker = Walker(REGIONS)
    walker.enter("unit")
    walker.enter("unit.attention")
    walker.enter("unit.attention.dropout")
    assert walker.owner == Owner(0, Component.SOFTMAX_ATTENTION, "unit.attention.dropout")


def test_leaving_an_outer_module_leaves_the_inner_ones_too():
    walker = Walker(REGIONS)
    walker.enter("unit")
    walker.enter("unit.attention")
    walker.enter("unit.attention.query")
    walker.leave("unit")  # an exception passed through
    assert walker.owner.path == ""


def test_leaving_what_was_not_entered_is_an_error():
    with pytest.raises(ValueError, match="unit"):
        Walker(REGIONS).leave("unit")


@pytest.mark.parametrize("number", [8, 10])
def test_intervals_must_be_one_more_than_crossings(number: int):
    with pytest.raises(ValueError, match="intervals than boundary crossings"):
        split_intervals(ONE_UNIT, [1] * number, REGIONS)


def test_only_boundaries_that_change_the_owner_are_marked():
    assert boundaries(REGIONS) == [
        "unit",
        "unit.attention",
        "unit.attention.query",
        "unit.attention.dense",
        # add-norm inside a module whose own work becomes add-norm only half way
        "unit.attention.norm",
    ]
    inside = {
        "out": Region(Component.ADD_NORM),
        "out.dense": Region(Component.FFN),
        "out.norm": Region(Component.ADD_NORM),
    }
    assert boundaries(inside) == ["out", "out.dense"]


def test_region_of_what_stands_still():
    assert region_of("unit.attention.query", REGIONS) == ("unit.attention.query", Component.ATTENTION_LINEAR_IN)
    assert region_of("unit.attention.query.deeper", REGIONS) == ("unit.attention.query", Component.ATTENTION_LINEAR_IN)
    assert region_of("elsewhere", REGIONS) == ("", Component.OTHER)


PATHS = st.sampled_from(sorted(set(REGIONS) - {""}))


@st.composite
def nested_crossings(draw: st.DrawFn) -> list[Crossing]:
    """Any well-nested sequence of calls."""
    crossings: list[Crossing] = []
    stack: list[str] = []
    for _ in range(draw(st.integers(0, 40))):
        if stack and draw(st.booleans()):
            crossings.append(leave(stack.pop()))
        else:
            stack.append(draw(PATHS))
            crossings.append(enter(stack[-1]))
    return crossings + [leave(path) for path in reversed(stack)]


@given(nested_crossings(), st.data())
def test_parts_always_sum_to_the_whole(crossings: list[Crossing], data: st.DataObject):
    intervals = data.draw(st.lists(st.integers(0, 10**12), min_size=len(crossings) + 1, max_size=len(crossings) + 1))
    assert sum(split_intervals(crossings, intervals, REGIONS).values()) == sum(intervals)


def test_vocabulary_is_complete():
    assert set(Component) == set(DESCRIPTIONS) == set(COMPONENT_ORDER)
    assert sorted(c for members in GROUPS.values() for c in members) == sorted(Component)
