"""The grammar of recipes: what is read, how it is recorded, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertprof.compress import recipe
from bertprof.compress.methods import FLOAT_BITS, METHODS, SEMI_STRUCTURED, STAGES, WIDEST, Method
from bertprof.errors import UsageError

# What can be written, and what comes of it ----------------------------------------------------------------------------

NUMBERS = st.integers(1, recipe.MOST)
WIDTHS = st.integers(1, WIDEST) | st.just(FLOAT_BITS)
SPACE = st.sampled_from(["", " "])


@st.composite
def values(draw: st.DrawFn, kind: str, choices: tuple[str, ...]) -> tuple[Any, ...]:
    match kind:
        case "none":
            return ()
        case "choice":
            return (draw(st.sampled_from(choices)),)
        case "count":
            return (draw(NUMBERS),)
        case "counts":
            return tuple(draw(st.lists(NUMBERS, min_size=1, max_size=13)))
        case "indices":
            several = st.sets(st.integers(0, recipe.MOST), min_size=2, max_size=13).map(sorted)
            return tuple(draw(NUMBERS.map(lambda count: [count]) | several))
        case "width":
            return (draw(WIDTHS),)
        case "widths":
            return tuple(draw(st.lists(WIDTHS, min_size=1, max_size=13)))
        case "zeros":
            return (draw(st.floats(0, 1, exclude_min=True, exclude_max=True) | st.just(SEMI_STRUCTURED)),)
    assert kind == "model"
    return (draw(st.sampled_from(["distilbert-base-uncased", "google/x_1.2", "./a+b", "../a,b/c d"])),)


@st.composite
def written(draw: st.DrawFn) -> tuple[str, Method, tuple[Any, ...], dict[str, Any], tuple[int, ...] | None]:
    """A recipe as somebody may type it, and what it means."""
    method = draw(st.sampled_from(list(METHODS.values())))
    gap, comma = draw(SPACE), draw(st.sampled_from(",/"))
    own = draw(values(method.kind, method.choices))
    text = method.name
    if own:
        text += f"{gap}={gap}{f'{gap}{comma}'.join(map(str, own))}"
    given_ = {}
    for name in draw(st.lists(st.sampled_from(sorted(method.options) or [""]), unique=True)):
        if name:
            option = method.options[name]
            (given_[name],) = draw(values(option.kind, option.choices))
            text += f",{gap}{name}{gap}={given_[name]}"
    units = None
    if method.scoped and draw(st.booleans()):
        first, length = draw(st.integers(0, 30)), draw(st.integers(1, 5))
        units = (*range(first, first + length), first + length + 1)
        text = f"units={first}-{first + length - 1},{gap}{first + length + 1}:{gap}{text}"
    return text, method, own, given_, units


@given(written())
def test_what_is_written_is_understood_and_its_record_reads_the_same(found):
    text, method, own, options, units = found
    needed = ["decompose-attention=9"] if method.stage == "cache" else []
    *_, read = recipe.parse_all([*needed, text])
    assert read.method is method
    assert read.values == own
    assert {key: read.options[key] for key in options} == options
    assert read.options.keys() == method.options.keys()
    assert read.units == units
    assert recipe.parse(read.text) == read
    assert recipe.parse_all([*needed, read.text])[-1] == read


@given(st.text(max_size=40) | st.lists(st.sampled_from([*METHODS, *"=+,:/ 0123456789."]), max_size=12).map("".join))
def test_any_text_is_read_or_refused(text: str):
    try:
        found = recipe.parse_all([text])
    except UsageError:
        return
    assert found == recipe.parse_all([read.text for read in found])


def texts(*given_: str) -> list[str]:
    return [read.text for read in recipe.parse_all(given_)]


@pytest.mark.parametrize(
    ("text", "recorded"),
    [
        ("heads=6+int8", ["heads=6", "int8"]),
        ("heads = 6 + int8", ["heads=6", "int8"]),
        ("heads=12/12/8", ["heads=12,12,8"]),
        ("bits=2/3/3/2,embedding=8", ["bits=2,3,3,2,embedding=8"]),
        ("sparsity=60%,storage=csr", ["sparsity=0.6,storage=csr"]),
        ("units=0-5:ffn=1024+units=6-11:ffn=512", ["units=0-5:ffn=1024", "units=6-11:ffn=512"]),
        ("student=./a+b+int8", ["student=./a+b", "int8"]),
        ("vocabulary=30000+factor-embedding=128,layout=albert+share-units", None),
    ],
)
def test_joined_recipes(text: str, recorded: list[str] | None):
    assert texts(text) == (recorded or text.split("+"))


def test_recipes_of_several_options_follow_each_other():
    assert texts("heads=6", "ffn=1024+int8") == ["heads=6", "ffn=1024", "int8"]


def test_defaults():
    (bits,) = recipe.parse_all(["bits=4"])
    assert bits.options == {"embedding": None, "head": None, "groups": 128}
    (sparsity,) = recipe.parse_all(["sparsity=.5,embedding=yes"])
    own = {"embedding": "yes", "head": "yes", "by": "matrix"}
    assert sparsity.options == {**own, "storage": "dense", "execute": "dense"}
    (shared,) = recipe.parse_all(["share-units"])
    assert (shared.value, shared.text) == ("all", "share-units")
    (layers,) = recipe.parse_all(["layers=6"])
    assert layers.options == {"keep": "every-other"}


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_the_catalogue_is_sound(method: Method):
    assert method.stage in STAGES
    assert bool(method.value) == (method.kind != "none")
    assert bool(method.choices) == (method.kind == "choice")
    assert set(method.changes) <= {"parameters", "bytes", "macs", "time"}
    assert method.targets
    for name, option in method.options.items():
        assert bool(option.choices) == (option.kind == "choice"), name
        assert not option.choices or option.default == option.choices[0]
    *needed, example = recipe.parse_all([method.example])
    assert example.method is method
    assert "+".join(one.text for one in (*needed, example)) == method.example


# A model and what stands behind it ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "model", "recipes"),
    [
        ("bert-base-uncased", "bert-base-uncased", []),
        ("bert-base-uncased+heads=6+int8", "bert-base-uncased", ["heads=6", "int8"]),
        ("google-bert/bert-base-uncased+int8", "google-bert/bert-base-uncased", ["int8"]),
        ("my.own:model+units=0-1:heads=2", "my.own:model", ["units=0-1:heads=2"]),
        ("bert-base-uncased+student=a/b+int8", "bert-base-uncased", ["student=a/b", "int8"]),
        ("./nowhere+else", "./nowhere+else", []),
        ("./nowhere+else+int8", "./nowhere+else", ["int8"]),
        ("a\0b+int8", "a\0b", ["int8"]),
        ("x" * 9999, "x" * 9999, []),
    ],
)
def test_a_model_and_its_recipes(text: str, model: str, recipes: list[str]):
    assert recipe.split_model(text) == (model, recipes)


def test_a_path_that_exists_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b+int8", "c+d"):
        (tmp_path / name).mkdir()
    assert recipe.split_model("a+int8") == ("a", ["int8"])
    assert recipe.split_model("b+int8") == ("b+int8", [])
    assert recipe.split_model("b+int8+heads=2") == ("b+int8", ["heads=2"])
    assert recipe.split_model("./b+int8+heads=2+int8") == ("./b+int8", ["heads=2", "int8"])
    assert recipe.split_model("c+d+int8") == ("c+d", ["int8"])
    assert recipe.split_model(f"{tmp_path}/c+d") == (f"{tmp_path}/c+d", [])


# What is refused ------------------------------------------------------------------------------------------------------

REFUSED = [
    # unknown
    ("heds=6", ["no method 'heds'", "did you mean heads?", "`bertprof methods`"]),
    ("int9", ["did you mean int8?"]),
    ("INT8", ["did you mean int8?"]),
    ("share_units", ["did you mean share-units?"]),
    ("shrink", ["no method 'shrink'; `bertprof methods`"]),
    ("heads=6+int9", ["recipe 'int9'", "did you mean int8?"]),
    ("heads=6,keep=top", ["heads has no option 'keep'; it has none"]),
    ("bits=4,emb=8", ["bits has no option 'emb'; it has embedding, head, groups"]),
    # empty
    ("", ["a recipe is empty"]),
    ("heads=6++int8", ["a recipe is empty"]),
    ("heads=6+", ["a recipe is empty"]),
    ("int8,", ["recipe int8,: there is nothing behind its comma"]),
    ("units=0-5:", ["write a method behind units=0-5:, as units=0-5:heads=6"]),
    ("heads=" + "9" * 2000, [f"recipe heads={'9' * 73}…: heads is"]),
    ("heads", ["write it as heads=...: attention heads to keep"]),
    ("heads=", ["nothing behind heads="]),
    ("share-units=", ["nothing behind share-units="]),
    ("bits=4,embedding=", ["nothing behind embedding="]),
    ("sparsity=0.5,storage=", ["nothing behind storage="]),
    # out of bounds
    ("heads=0", ["recipe heads=0: heads is 0; it must be at least 1"]),
    ("heads=12,0", ["heads is 0"]),
    ("ffn=-1", ["ffn is '-1'; write whole numbers"]),
    ("ffn=1000001", ["ffn is 1,000,001; it must be", "at most 1,000,000"]),
    (f"ffn={'9' * 50}", ["at most 1,000,000"]),
    (f"ffn={'9' * 5000}", ["write whole numbers"]),
    ("layers=0", ["layers is 0; it must be at least 1"]),
    ("sparsity=1.5", ["sparsity is 1.5; it is a share above 0 and below 1"]),
    ("sparsity=1", ["sparsity is 1;"]),
    ("sparsity=0", ["sparsity is 0;"]),
    ("sparsity=-0.1", ["sparsity is -0.1;"]),
    ("sparsity=100%", ["sparsity is 100%;"]),
    ("sparsity=nan", ["sparsity is nan;"]),
    ("bits=0", ["bits is 0; a weight has 1 to 16 bits, or 32"]),
    ("bits=17", ["bits is 17;"]),
    ("bits=4,embedding=0", ["embedding is 0;"]),
    ("bits=4,groups=0", ["groups is 0; it must be at least 1"]),
    # of another kind
    ("heads=six", ["heads is 'six'; write whole numbers, such as heads=8"]),
    ("heads=6.5", ["heads is '6.5'"]),
    ("heads=6,,6", ["heads is '6,,6'"]),
    ("vocabulary=many", ["vocabulary is 'many'; write a whole number"]),
    ("vocabulary=5,6", ["vocabulary takes one number, not 2"]),
    ("sparsity=half", ["sparsity is 'half'; write a share, such as sparsity=0.6"]),
    ("int8=4", ["int8 takes no value"]),
    ("share-units=norms", ["share-units is 'norms'; use one of all, attention, ffn"]),
    ("sparsity=0.5,storage=coo", ["storage is 'coo'; use one of dense, bitmap, csr"]),
    ("layers=4,2", ["layers is 4,2; the indices of units must rise"]),
    ("layers=2,2", ["must rise"]),
    ("bits=4,groups=2,groups=3", ["groups is given twice"]),
    # units
    ("units=0-5:layers=3", ["layers is for the whole model; leave out units=0-5:"]),
    ("unit=0:heads=2", ["write the units as units=0-5:"]),
    ("units=:heads=2", ["write the units as units=0-5:"]),
    ("units=a:heads=2", ["write the units as units=0-5:"]),
    ("units=0-:heads=2", ["write the units as units=0-5:"]),
    ("units=3-1:heads=2", ["the first is behind the last"]),
    ("units=1,0-2:heads=2", ["a unit is named twice"]),
    # two that do not go together
    ("heads=6+heads=4", ["recipe heads=4: it cannot follow heads=6", "given twice"]),
    ("units=0-5:heads=6+units=5-7:heads=4", ["given twice"]),
    ("units=0-5:heads=6+heads=4", ["given twice"]),
    ("int8+heads=6", ["it cannot follow int8", "write heads=6+int8"]),
    ("sparsity=0.5+heads=6", ["write heads=6+sparsity=0.5"]),
    ("bits=4+sparsity=0.5", ["zeroed before they are cast or quantised", "write sparsity=0.5+bits=4"]),
    ("heads=6+student=distilbert-base-uncased", ["a student replaces the whole model"]),
    ("bits=4+fp16", ["write fp16+bits=4"]),
    ("int8+fp16", ["it does not go with int8", "float32 activations"]),
    ("bf16+int8", ["it does not go with bf16", "float32 activations"]),
    ("int8+bits=4", ["a weight is in one of both"]),
    ("fp16+bf16", ["a weight is in one of both"]),
    ("units=0-3:int8+units=3-5:bits=4", ["a weight is in one of both"]),
]


@pytest.mark.parametrize(("text", "parts"), REFUSED, ids=[text[:40] for text, _ in REFUSED])
def test_what_is_refused(text: str, parts: list[str]):
    with pytest.raises(UsageError) as error:
        recipe.parse_all([text])
    for part in parts:
        assert part in str(error.value)
    assert error.value.exit_code == 2
    # Behind a model the same is said.
    with pytest.raises(UsageError) as behind:
        recipe.split_model(f"bert-base-uncased+{text}")
    assert str(behind.value) == str(error.value)


def test_what_goes_together():
    joined = "student=distilbert-base-uncased+layers=3+heads=6+ffn=512+sparsity=0.5+fp16+bits=4"
    assert texts(joined) == joined.split("+")
    assert texts("units=0-5:int8+units=6-11:bits=4") == ["units=0-5:int8", "units=6-11:bits=4"]
    assert texts("units=0-5:heads=6+units=6-11:heads=8") == ["units=0-5:heads=6", "units=6-11:heads=8"]


def test_the_order_of_what_cuts_is_the_users():
    assert texts("heads=6+layers=6") == ["heads=6", "layers=6"]
    assert texts("layers=6+heads=6") == ["layers=6", "heads=6"]


def test_a_name_that_no_plus_can_be_in():
    for model in ("bert-base-uncased", "somebody/something", "my.own:model"):
        with pytest.raises(UsageError, match="did you mean heads"):
            recipe.split_model(f"{model}+heds=6")


def test_the_longest_path_that_exists_is_the_student(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "student+heads=6").mkdir()
    texts = [one.text for one in recipe.parse_all(["student=student+heads=6+int8"])]
    assert texts == ["student=student+heads=6", "int8"]
    assert [one.text for one in recipe.parse_all(["student=none+heads=6+int8"])] == ["student=none", "heads=6", "int8"]
