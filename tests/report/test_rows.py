from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bertprof
from bertprof import formatting
from bertprof.components import Component
from bertprof.errors import UsageError
from bertprof.record import Breakdown, Module
from bertprof.report import rows, tabular
from bertprof.sampling import Estimate
from handmade import cost, made
from test_record import NULLABLE
from test_roofline import ATTENTION, LINEAR
from test_roofline import record as roofed

REAL = Path(__file__).parents[1] / "data" / "bert-base-uncased.json"


@pytest.mark.parametrize("by", rows.VIEWS)
def test_rows_of_every_view_sum_to_the_whole(by: str):
    breakdown = bertprof.load(REAL)
    table, total = rows.table(breakdown, by), rows.total(breakdown)
    for field in ("parameters", "macs", "flops"):
        assert sum(getattr(row, field) for row in table) == getattr(total, field)
    assert sum(row.parameters_share for row in table) == pytest.approx(1)
    if by != "module":
        assert sum(row.bytes or 0 for row in table) == total.bytes
        assert total.time_ms is not None
        assert sum(row.time_ms.value for row in table if row.time_ms) == pytest.approx(total.time_ms.value)


def test_labels_and_their_order():
    breakdown = bertprof.load(REAL)
    labels = {by: [row.label for row in rows.table(breakdown, by)] for by in ("group", "component", "unit")}
    assert labels["group"] == ["embedding", "attention-linear", "softmax-attention", "ffn", "rest"]
    assert labels["component"] == [str(c) for c in Component if breakdown.of(c)]
    assert labels["unit"] == [f"unit {i}" for i in range(12)] + ["outside the units"]


def test_what_costs_nothing_is_not_shown():
    breakdown = made(cost(Component.FFN, 0, parameters=1), cost(Component.OTHER))
    assert [row.label for row in rows.table(breakdown, "component")] == ["ffn"]


def test_modules_without_cost_are_left_out_and_those_above_cost_are_kept():
    labels = [row.label for row in rows.table(bertprof.load(REAL), "module")]
    assert "encoder.layer.3.attention" in labels
    assert "encoder.layer.3.attention.self.query" in labels
    assert not any("dropout" in label for label in labels)


def module(path: str, parameters: int = 0, macs: int = 0, time_ms: float | None = None) -> Module:
    return Module(
        path=path,
        type="M",
        unit=None,
        component=Component.OTHER,
        calls=1,
        parameters=parameters,
        macs=macs,
        flops=2 * macs,
        time_ms=time_ms,
    )


def tree(*modules: Module) -> Breakdown:
    """A record whose modules are these."""
    parameters, macs = sum(m.parameters for m in modules), sum(m.macs for m in modules)
    breakdown = made(cost(Component.OTHER, parameters=parameters, macs=macs, flops=2 * macs))
    breakdown.modules = list(modules)
    return breakdown


def test_inclusive_is_own_and_all_below():
    table = rows.table(
        tree(
            module("", time_ms=1.0),
            module("a", parameters=2, macs=3),
            module("a.b", parameters=5, macs=7, time_ms=11.0),
            module("a.b.c", parameters=13),
            module("a.bc", macs=17, time_ms=19.0),
            module("d", parameters=23),
        ),
        "module",
    )
    found = {
        row.label: (
            row.inclusive_parameters,
            row.inclusive_macs,
            row.inclusive_flops,
            row.inclusive_time_ms and row.inclusive_time_ms.value,
        )
        for row in table
    }
    assert found == {
        "(model)": (43, 27, 54, 31.0),
        "a": (20, 27, 54, 30.0),  # has no mark itself
        "a.b": (18, 7, 14, 11.0),  # and not a.bc, though its name begins so
        "a.b.c": (13, 0, 0, None),  # no mark at it or below
        "a.bc": (0, 17, 34, 19.0),
        "d": (23, 0, 0, None),
    }


def test_a_method_is_below_its_module_wherever_the_record_has_it():
    names = ["", "layer", "layer.0", "layer.0.rel_attn", "layer.0.ff", "layer.1"]
    methods = ["layer.1.rel_attn_core()", "layer.0.rel_attn.rel_attn_core()"]
    table = rows.table(tree(*(module(path, macs=1) for path in names + methods)), "module")
    assert [(depth, name, row.inclusive_macs) for depth, name, row in rows.in_tree(table)] == [
        (0, "(model)", 8),
        (1, "layer", 7),
        (2, "0", 4),
        (3, "rel_attn", 2),
        (4, "rel_attn_core()", 1),
        (3, "ff", 1),
        (2, "1", 2),
        (3, "rel_attn_core()", 1),
    ]


def test_a_module_whose_parent_is_unknown_keeps_its_path():
    table = rows.table(tree(module("a.b.c", 1), module("a.b.c.d", macs=1), module("e", 1)), "module")
    assert [(depth, name) for depth, name, _ in rows.in_tree(table)] == [(1, "a.b.c"), (2, "d"), (1, "e")]


def test_a_share_of_bytes_is_not_one_of_parameters():
    # Half of the parameters, quantised to a byte each: 100 of 100 + 400 bytes.
    quantised = made(
        cost(Component.FFN, 0, parameters=100, parameter_bytes=100),
        cost(Component.HEAD, None, parameters=100, parameter_bytes=400),
    )
    shares = {row.label: (row.parameters_share, row.bytes_share) for row in rows.table(quantised, "component")}
    assert shares == {"ffn": (0.5, 0.2), "head": (0.5, 0.8)}
    assert rows.total(quantised).bytes_share == 1
    assert rows.table(tree(module("a", 1)), "module")[0].bytes_share is None


def test_in_a_real_tree_inclusive_is_own_and_that_of_the_children():
    breakdown = bertprof.load(REAL)
    table = rows.table(breakdown, "module")
    whole = rows.total(breakdown)
    root = table[0]
    assert root.label == "(model)"
    assert (root.inclusive_parameters, root.inclusive_macs, root.inclusive_flops) == (
        whole.parameters,
        whole.macs,
        whole.flops,
    )
    assert root.inclusive_time_ms is not None
    assert whole.time_ms is not None
    assert root.inclusive_time_ms.value == pytest.approx(whole.time_ms.value, abs=1e-4)
    for parent in table:
        prefix = "" if parent is root else f"{parent.label}."
        children = [
            row
            for row in table
            if row is not root and row.label.startswith(prefix) and "." not in row.label.removeprefix(prefix)
        ]
        for own in ("parameters", "macs", "flops"):
            below = sum(getattr(child, f"inclusive_{own}") for child in children)
            assert getattr(parent, f"inclusive_{own}") == getattr(parent, own) + below
        times = [time.value for time in (parent.time_ms, *(c.inclusive_time_ms for c in children)) if time]
        if parent.inclusive_time_ms is None:
            assert times == []
        else:
            assert parent.inclusive_time_ms.value == pytest.approx(sum(times))
    by_label = {row.label: row for row in table}
    assert by_label["encoder.layer.3.intermediate"].inclusive_parameters == 768 * 3072 + 3072
    assert by_label["encoder.layer.3.attention.self"].inclusive_parameters == 3 * (768**2 + 768)
    assert by_label["encoder.layer.3"].inclusive_parameters == 7_087_872
    assert by_label["encoder.layer.3.intermediate.dense"].inclusive_time_ms is None
    assert by_label["encoder.layer.3"].type == "BertLayer"


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=4).map(".".join), unique=True))
def test_each_module_stands_after_the_one_above_it_and_with_those_beside_it(paths: list[str]):
    table = rows.table(tree(*(module(path, parameters=1) for path in paths)), "module")
    labels = ["" if row.label == "(model)" else row.label for row in table]
    assert sorted(labels) == sorted(paths)
    for path, row in zip(labels, table, strict=True):
        below = [i for i, other in enumerate(labels) if not path or f"{other}.".startswith(f"{path}.")]
        assert row.inclusive_parameters == len(below)
        assert below == list(range(below[0], below[0] + len(below)))
        assert labels[below[0]] == path


def test_other_views_have_nothing_inclusive():
    for by in ("group", "component", "unit"):
        row = rows.table(bertprof.load(REAL), by)[0]
        assert (row.inclusive_parameters, row.inclusive_macs, row.inclusive_flops, row.inclusive_time_ms) == (None,) * 4
        assert (row.type, row.component, row.calls) == (None,) * 3


def test_rows_add_counts_that_may_not_be_known():
    known = cost(Component.FFN, 0, parameters=9, nonzero_parameters=4, flops=30, bytes_moved=20, activation_bytes=2)
    also = cost(Component.FFN, 1, parameters=1, nonzero_parameters=1, flops=10, bytes_moved=12, activation_bytes=3)
    unknown = cost(Component.FFN, 2, parameters=5, flops=1)
    breakdown = made(known, also, unknown)
    some, all_ = rows.row_of(breakdown, "", [known, also]), rows.row_of(breakdown, "", breakdown.costs)
    assert [getattr(some, name) for name in NULLABLE] == [5, None, 32, 5]
    assert (some.nonzero_share, some.intensity) == (0.5, 40 / 32)
    assert [getattr(all_, name) for name in NULLABLE] == [None] * 4
    assert (all_.nonzero_share, all_.intensity) == (None, None)


def test_intensity_and_share_of_nothing():
    nothing = cost(Component.OTHER, parameters=0, nonzero_parameters=0, flops=5, bytes_moved=0)
    row = rows.row_of(made(nothing), "", [nothing])
    assert (row.intensity, row.nonzero_share) == (None, None)


WIDE = ["bytes_moved", "intensity", "activation_bytes"]


def columns(breakdown: Breakdown, wide: bool = False) -> list[str]:
    """The columns that not every table has."""
    return [f for f in rows.headers(breakdown, "component", wide) if f in ("nonzero_share", "useful_macs", *WIDE)]


@pytest.mark.parametrize(
    ("nonzero", "useful", "padding", "usual", "wide"),
    [
        (None, None, 0.0, [], WIDE),
        (None, None, 0.3, [], WIDE),
        (1000, 100, 0.0, [], ["nonzero_share", *WIDE]),
        (980, 100, None, ["nonzero_share"], ["nonzero_share", *WIDE]),
        (980, 70, 0.3, ["nonzero_share", "useful_macs"], ["nonzero_share", "useful_macs", *WIDE]),
        (None, 70, 0.0, [], ["useful_macs", *WIDE]),
        (None, 100, 0.3, ["useful_macs"], ["useful_macs", *WIDE]),
    ],
)
def test_columns_that_are_shown_where_they_say_something(
    nonzero: int | None, useful: int | None, padding: float | None, usual: list[str], wide: list[str]
):
    breakdown = made(
        cost(Component.FFN, 0, parameters=1000, nonzero_parameters=nonzero, macs=100, useful_macs=useful),
        cost(Component.ADD_NORM, 0, parameters=0, nonzero_parameters=0, flops=9),
    )
    breakdown.workload.padding = padding
    assert columns(breakdown) == usual
    assert columns(breakdown, wide=True) == wide


def test_a_few_zeros_need_no_column():
    breakdown = made(cost(Component.EMBEDDING, parameters=23_440_896, nonzero_parameters=23_440_896 - 768))
    assert columns(breakdown) == []
    assert columns(breakdown, wide=True) == ["nonzero_share", *WIDE]


def test_the_tree_has_columns_of_its_own():
    breakdown = bertprof.load(REAL)
    assert list(rows.headers(breakdown, "module")) == list(rows.MODULE_HEADERS)
    assert rows.headers(breakdown, "module", wide=True) == rows.headers(breakdown, "module")
    breakdown.instrumented_ms = None
    assert not any("time" in field for field in rows.headers(breakdown, "module"))


@pytest.mark.parametrize(
    ("field", "value", "text", "exact"),
    [
        ("macs", 7_247_757_312, "7.248G", "7,247,757,312"),
        ("useful_macs", None, "–", "–"),
        ("bytes_moved", 257_500_000, "257.5 MB", "257.5 MB"),
        ("nonzero_share", 0.4, "40.0", "40.0"),
        ("inclusive_time_ms", Estimate(2.0, 2.0, 2.0), "2.00", "2.00"),
        ("inclusive_time_ms", Estimate(12.34, 12.34, 12.34), "12.3", "12.3"),
        ("inclusive_time_ms", Estimate(0.0042, 0.0042, 0.0042), "0.004", "0.004"),
        ("type", "Linear\x1b[31m", "Linear�[31m", "Linear�[31m"),
    ],
)
def test_cells(field: str, value: object, text: str, exact: str):
    class Fake:
        pass

    row = Fake()
    setattr(row, field, value)
    assert rows.cell(row, field) == text  # type: ignore[arg-type]
    assert rows.cell(row, field, exact=True) == exact  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0.00"), (0.25, "0.25"), (9.994, "9.99"), (9.996, "10.0"), (99.96, "100"), (1240.4, "1,240")],
)
def test_intensities_have_three_digits(value: float, text: str):
    assert formatting.intensity(value) == text


@pytest.mark.parametrize(
    ("ms", "text"), [(0.5, "0.50 ms"), (123.4, "123 ms"), (999.6, "1.00 s"), (1234, "1.23 s"), (61_000, "61.0 s")]
)
def test_durations_have_three_digits(ms: float, text: str):
    assert formatting.duration(ms) == text


ROOFLINE = ["flops_per_s", "bytes_per_s", "roof_share", "bound"]


def test_a_roofline_has_columns_where_there_is_one():
    breakdown = roofed(ATTENTION, LINEAR)

    def shown(wide: bool = False, by: str = "component") -> list[str]:
        return [field for field in rows.headers(breakdown, by, wide) if field in ROOFLINE]

    assert shown() == ["roof_share", "bound"]
    assert shown(wide=True) == ROOFLINE
    assert shown(by="unit") == shown(by="group") == ["roof_share", "bound"]
    breakdown.workload.backend = "fbgemm"
    assert shown(wide=True) == []
    breakdown.workload.backend = "torch"
    breakdown.modules = [module("", time_ms=10.0)]
    assert shown(wide=True, by="module") == []
    breakdown.peaks = None
    assert shown(wide=True) == []


def test_a_row_beside_its_roof():
    # Attention: 10 MFLOP and 10 MB in 4 ms, of which the roof is 0.25 ms. The other: 390 MFLOP and 1 MB in 6, of 3.9.
    breakdown = roofed(ATTENTION, LINEAR)
    attention, linear = rows.table(breakdown, "component")
    assert [rows.cell(attention, field) for field in ROOFLINE] == ["2.50", "2.50", "6.2", "memory"]
    assert [rows.cell(linear, field) for field in ROOFLINE] == ["65.0", "0.17", "65.0", "compute"]
    # All of it: 400 MFLOP and 11 MB in 10 ms, of 4.15.
    assert [rows.total_cell(rows.total(breakdown), field) for field in ROOFLINE] == ["40.0", "1.10", "41.5", ""]
    assert [rows.cell(rows.table(roofed(ATTENTION, peaks=None), "component")[0], f) for f in ROOFLINE] == ["–"] * 4


def test_a_program_is_told_of_the_roofline_always():
    keys = ["achieved_flops_per_s", "achieved_bytes_per_s", "roof_share", "bound"]
    breakdown = roofed(ATTENTION, LINEAR)
    first = tabular.records(breakdown, "cost")[0]
    assert [first[key] for key in keys] == pytest.approx([2.5e9, 2.5e9, 0.0625, "memory"])
    breakdown.peaks = None
    assert [tabular.records(breakdown, "component")[0][key] for key in keys] == [None] * 4
    assert [tabular.records(bertprof.load(REAL), "module")[0][key] for key in keys] == [None] * 4


def test_views_that_there_are_not():
    with pytest.raises(UsageError, match="no view by 'colour'"):
        rows.table(bertprof.load(REAL), "colour")
    with pytest.raises(UsageError, match="holds no modules"):
        rows.table(made(), "module")
