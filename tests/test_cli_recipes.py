"""Recipes on the command line: behind a model's name, in options, recorded, shown and refused."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

import bertprof
from bertprof.compress.methods import METHODS
from bertprof.measure import build
from conftest import failed

REAL = Path(__file__).parent / "data" / "bert-base-uncased.json"


def fine(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


COUNTED = ("--seq-length", 8, "--no-time")
TIMED = ("--seq-length", 8, "--min-time", "0s", "--device", "cpu")


# Asked for and recorded -----------------------------------------------------------------------------------------------


def recorded(run: Any, *arguments: Any) -> bertprof.Breakdown:
    fine(run("breakdown", *arguments, *COUNTED, "-o", "b.json"))
    return bertprof.load("b.json")


def test_recipes_of_the_name_then_those_of_options(run: Any, folder: Any):
    path = folder()
    found = recorded(run, f"{path}+heads=2", "--apply", "ffn=32+sparsity=60%", "--apply", "bits=4")
    assert found.workload.recipes == ["heads=2", "ffn=32", "sparsity=0.6", "bits=4"]
    assert found.workload.model == str(path)
    # 3 units of 4 · 32 · 16 + 3 · 16 + 32 in the attention, 2 · 32 · 32 + 32 + 32 in the FFN and 4 · 32 in the norms;
    # an embedding of (100 + 40 + 2 + 2) · 32, a pooler of 32 · 32 + 32
    assert found.total("parameters") == 3 * (2048 + 80 + 2112 + 128) + 144 * 32 + 1056


def test_the_same_model_in_python(folder: Any):
    path = folder()
    named = bertprof.breakdown(f"{path}+heads=2", sequence_length=8, time=False)
    given = bertprof.breakdown(path, recipes=["heads=2"], sequence_length=8, time=False)
    assert named.costs == given.costs
    assert named.name == given.name == f"{path}+heads=2"


@pytest.mark.parametrize("suffix", ["md", "html", "json"])
def test_recipes_and_kernels_stand_in_every_report(suffix: str, run: Any, folder: Any):
    path = folder()
    out = f"b.{suffix}"
    assert f"{path}+heads=2" in fine(run("breakdown", f"{path}+heads=2", *COUNTED, "-o", out)).replace("\n", "")
    assert "heads" in Path(out).read_text()
    shown = fine(run("breakdown", path, "--apply", "heads=2", "--label", "mine", *COUNTED, "-o", out))
    assert "with recipes heads=2" in " ".join(shown.split())
    assert "heads" in Path(out).read_text()


def test_a_diff_of_a_model_and_the_same_with_recipes(run: Any, folder: Any):
    path = folder()
    for arguments in (
        (path, f"{path}+heads=2+ffn=32"),
        (path, path, "--after", "apply=heads=2", "--after", "apply=ffn=32"),
    ):
        shown = fine(run("diff", *arguments, *COUNTED, "-o", "d.json"))
        data = json.loads(Path("d.json").read_text())
        assert data["before"]["workload"]["recipes"] == []
        assert data["after"]["workload"]["recipes"] == ["heads=2", "ffn=32"]
        assert "recipes heads=2, ffn=32" in shown
        assert "attention-linear -" in shown


def test_recipes_on_both_sides(run: Any, folder: Any):
    path = folder()
    shown = fine(run("diff", f"{path}+heads=2", f"{path}+heads=2", "--before", "apply=ffn=32", *COUNTED))
    assert "recipes heads=2, ffn=32" in shown


def test_a_record_beside_the_same_with_recipes(run: Any, folder: Any):
    path = folder()
    fine(run("breakdown", path, "--batch-size", 3, *COUNTED, "-o", "b.json"))
    fine(run("diff", "b.json", f"{path}+layers=1", "-o", "d.json"))
    after = json.loads(Path("d.json").read_text())["after"]
    assert (after["workload"]["batch_size"], after["workload"]["recipes"]) == (3, ["layers=1"])
    fine(run("diff", "b.json", path, "--after", "apply=layers=1", "-o", "d.json"))
    assert json.loads(Path("d.json").read_text())["after"]["workload"]["recipes"] == ["layers=1"]


def test_times_before_and_after_together_with_every_report(run: Any, folder: Any, tmp_path: Path):
    path = folder()
    outputs = [argument for suffix in ("json", "html", "md", "csv", "png", "svg") for argument in ("-o", f"d.{suffix}")]
    shown = fine(run("diff", path, f"{path}+heads=2+int8", *TIMED, *outputs))
    assert "latency" in shown
    diff = json.loads((tmp_path / "d.json").read_text())
    assert diff["times"] == "rounds"
    assert diff["after"]["workload"]["backend"] != "torch"
    for name in ("d.html", "d.md"):
        assert "int8" in (tmp_path / name).read_text()


def test_a_path_that_exists_wins(run: Any, folder: Any, tmp_path: Path):
    plain = recorded(run, folder())
    folder().rename(tmp_path / "bert+int8")
    found = recorded(run, tmp_path / "bert+int8")
    assert (found.workload.recipes, found.costs) == ([], plain.costs)
    found = recorded(run, f"{tmp_path}/bert+int8+layers=1")
    assert (found.workload.model, found.workload.recipes) == (f"{tmp_path}/bert+int8", ["layers=1"])


# Weights that no kernel runs ------------------------------------------------------------------------------------------


def test_without_a_kernel_a_time_is_marked_and_never_a_speed_up(run: Any, folder: Any, tmp_path: Path):
    path = folder()
    shown = fine(run("breakdown", f"{path}+bits=3", *TIMED, "-o", "b.json", "-o", "b.md", "-o", "b.html"))
    texts = [shown, *((tmp_path / name).read_text() for name in ("b.md", "b.html"))]
    fine(run("breakdown", path, *TIMED, "-o", "a.json"))
    texts.append(fine(run("report", "a.json", "b.json")))
    for text in texts:
        assert "no kernel: dequantised" in " ".join(text.replace("\\", "").split())
    result = run("diff", path, f"{path}+bits=3", *TIMED, "--fail-on", "time:+5%", "--require", "ffn.time:1.01x")
    assert result.exit_code == 3, result.output
    said = " ".join(result.stdout.split())
    assert "latency not compared: no kernel runs the weights of AFTER as they are stored" in said
    assert "no speed-up" in said
    assert "as fast" not in said
    assert "faster" not in said
    # What is stored does compare.
    fine(run("diff", path, f"{path}+bits=3", *TIMED, "--require", "bytes:4x"))


# Refused --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was built after all."""
    built: list[str] = []

    def with_random_weights(*args: Any, **options: Any) -> None:
        built.append("a model with weights")

    monkeypatch.setattr(build, "with_random_weights", with_random_weights)
    return built


# Of a model of 3 units, 4 heads, 64 FFN columns, 100 words in 32 dimensions.
NOT_OF_THIS_MODEL = [
    ("heads=5", ["recipe heads=5", "4 heads"]),
    ("heads=2,2", ["recipe heads=2,2", "2 values", "3"]),
    ("heads=2,2,9", ["unit 2", "4 heads"]),
    ("ffn=65", ["64"]),
    ("ffn=1/2", ["2 values", "3"]),
    ("bits=2/3", ["2 values", "3"]),
    ("units=0-1:bits=2/3/4", ["3 values", "2"]),
    ("layers=20", ["recipe layers=20", "3 units"]),
    ("layers=0,3", ["no unit 3"]),
    ("units=0-3:heads=2", ["no unit 3", "3, counted from 0"]),
    ("vocabulary=101", ["100 words"]),
    ("factor-embedding=33", ["32"]),
    ("heads=2+layers=4", ["recipe layers=4", "3 units"]),
    ("layers=2+heads=2,2,2", ["recipe heads=2,2,2", "3 values", "2"]),
    ("student=./nowhere", ["'./nowhere' is neither a folder nor"]),
]


@pytest.mark.parametrize(("text", "parts"), NOT_OF_THIS_MODEL, ids=[text for text, _ in NOT_OF_THIS_MODEL])
def test_what_the_model_does_not_have(text: str, parts: list[str], run: Any, folder: Any, nothing_is_built: list[str]):
    path = folder()
    failed(run("breakdown", f"{path}+{text}", *TIMED, "-o", "out/b.json"), *parts)
    failed(run("diff", path, path, "--after", f"apply={text}", *TIMED), *parts)
    assert nothing_is_built == []
    assert not Path("out").exists()


NOT_OF_THIS_FAMILY = [
    ("squeezebert", "heads=2", ["recipe heads=2", "grouped convolution"]),
    ("squeezebert", "ffn=2", ["recipe ffn=2"]),
    ("squeezebert", "int8", ["recipe int8", "Conv1d"]),
    ("xlnet", "heads=2", ["recipe heads=2"]),
    ("xlnet", "int8", ["recipe int8", "bits="]),
    ("albert", "share-units", ["recipe share-units", "already"]),
    ("electra", "factor-embedding=8", ["recipe factor-embedding=8", "already"]),
]


@pytest.mark.parametrize(("family", "text", "parts"), NOT_OF_THIS_FAMILY)
def test_what_a_family_cannot_take(
    family: str, text: str, parts: list[str], run: Any, folder: Any, nothing_is_built: list[str]
):
    failed(run("breakdown", f"{folder(family)}+{text}", *TIMED), *parts)
    assert nothing_is_built == []


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("heds=6", ["no method 'heds'; did you mean heads? `bertprof methods`"]),
        ("heads=0", ["heads is 0; it must be at least 1"]),
        ("sparsity=1.5", ["sparsity is 1.5"]),
        ("bits=0", ["bits is 0"]),
        ("heads=6+int9", ["did you mean int8?"]),
        ("int8+heads=6", ["it cannot follow int8", "write heads=6+int8"]),
        ("int8,embedding=8,embedding=8", ["given twice"]),
    ],
)
def test_what_cannot_be_read(text: str, parts: list[str], run: Any):
    for arguments in (
        ("breakdown", f"bert-base-uncased+{text}"),
        ("breakdown", "bert-base-uncased", "--apply", text),
        ("diff", "bert-base-uncased", f"bert-base-uncased+{text}"),
        ("diff", "bert-base-uncased", "bert-base-uncased", "--after", f"apply={text}"),
        ("diff", REAL, f"bert-base-uncased+{text}"),
    ):
        failed(run(*arguments), *parts)


def test_what_cannot_be_read_is_told_before_torch_is_loaded(tmp_path: Path):
    code = (
        "import sys\nfrom bertprof.cli import app\n"
        "try:\n    app(['breakdown', 'bert-base-uncased+heads=0'])\n"
        "except SystemExit as done:\n    print(done.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.stdout == "2 False\n"


def test_a_record_takes_no_recipe(run: Any):
    failed(run("diff", REAL, REAL, "--after", "apply=heads=6"), "that side is a record")
    failed(run("diff", REAL, f"{REAL}+heads=6"), str(REAL))


def test_a_student_of_ones_own_code(run: Any):
    failed(run("breakdown", "my.own:model+student=distilbert-base-uncased"), "name the student as the model")


# What there is --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 120, 200])
def test_methods_fit(width: int, run: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", str(width))
    for arguments in ((), *((name,) for name in METHODS)):
        shown = fine(run("methods", *arguments))
        assert max(map(len, shown.splitlines())) <= width
        assert "…" not in shown


def test_methods_as_json(run: Any):
    found = json.loads(fine(run("methods", "--json")))
    assert [method["name"] for method in found] == list(METHODS)
    one = json.loads(fine(run("methods", "heads", "--json")))
    assert one == next(method for method in found if method["name"] == "heads")
    assert one["columns"] == ["PR-SP"]
    assert one["targets"] == ["attention-linear-in", "softmax-attention", "attention-linear-out"]
    assert found[-1]["options"] == {}
    assert found[2]["options"]["embedding"]["default"] == "32"


def test_an_unknown_method(run: Any):
    failed(run("methods", "head"), "no method 'head'", "did you mean heads?")
    failed(run("methods", "nonsense"), "no method 'nonsense'; `bertprof methods` lists them")


@pytest.mark.parametrize("command", ["breakdown", "diff"])
def test_help_tells_of_recipes(command: str, run: Any):
    shown = " ".join(fine(run(command, "--help")).split())
    assert "+heads=6+int8" in shown
    assert "`bertprof methods` lists" in shown
