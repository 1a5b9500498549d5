"""What is made of other counters' answers, and that the published row of bertprof is today's."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from peers import BERT_MACS, DUE, PRODUCTS, SUBJECTS, TOOLS, changes, parts, state
from peers_page import asked, counts_in, difference, in_macs, page, read
from torch import nn

import bertprof

PUBLISHED = (Path(__file__).parents[2] / "reports" / "peers.md").read_text(encoding="utf-8")


def test_what_is_due_by_hand():
    assert PRODUCTS == 12 * 2 * 128 * 128 * 768 == 301_989_888
    # By component: linears in, attention, linear out, FFN, pooler.
    assert BERT_MACS == 2_717_908_992 + PRODUCTS + 905_969_664 + 7_247_757_312 + 768 * 768 == 11_174_215_680
    assert DUE["albert"] == (BERT_MACS + 128 * 128 * 768, 11_683_584)


def test_the_parts_are_the_whole():
    due = {name: sum(part.times * part.macs for part in kinds) for name, kinds in parts().items()}
    assert due["linears"] == due["linears with biases"]
    assert due["linears"] + due["SDPA's products"] == BERT_MACS
    assert due["SDPA's products"] == PRODUCTS
    with torch.random.fork_rng():  # weights are drawn
        weights = sum(
            part.times * parameter.numel()
            for name, kinds in parts().items()
            if name in ("linears with biases", "LayerNorm", "embedding tables")
            for part in kinds
            for parameter in part.make().parameters()
        )
    assert weights == DUE["sdpa"][1]


def test_an_answer_is_the_last_marked_line():
    assert read('[INFO] Register\n### {"figure": 1}\n### {"figure": 2}\n-----') == {"figure": 2}
    with pytest.raises(ValueError, match="no answer"):
        read("[INFO] Register")


def test_figures_become_macs():
    assert (counts_in(1.0), in_macs(2048, 1.0)) == ("MACs", 2048)
    assert (counts_in(2.0), in_macs(4096, 2.0)) == ("FLOPs: 2 a MAC", 2048)
    assert counts_in(0.5) == "0.5 a MAC"


def test_a_difference_is_told_by_part():
    """In FLOPs: linears right, 10 a bias, 3 MACs of products missing, and 1 too many that no part explains."""
    found = {
        "unit": 2.0,
        "parts": {"linears": [40, 60], "linears with biases": [50, 60], "products": [0], "GELU": [None]},
    }
    due = {"linears": 50, "linears with biases": 50, "products": 3, "GELU": 0}
    assert difference(found, due, off=5 - 3 + 1) == [("biases", 5), ("products", -3), ("elsewhere", 1)]


def test_a_part_on_which_a_tool_fails_is_elsewhere():
    found = {"unit": 1.0, "parts": {"linears": [50], "linears with biases": [50], "products": [None]}}
    assert difference(found, {"linears": 50, "products": 3}, off=-3) == [("elsewhere", -3)]


def test_a_tool_that_gives_no_answer_has_an_error(monkeypatch: pytest.MonkeyPatch):
    def fails(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert command[-2:] == ["thop", "sdpa"]
        return subprocess.CompletedProcess(command, 1, "", "Traceback\nModuleNotFoundError: No module named 'thop'\n")

    monkeypatch.setattr(subprocess, "run", fails)
    assert asked("thop", "sdpa") == {"error": "ModuleNotFoundError: No module named 'thop'"}


def test_a_tool_that_fails_has_rows_that_say_so():
    answers = {"thop": {subject: {"error": "No module named 'thop'"} for subject in (*SUBJECTS, "parts", "failing")}}
    rows = [line for line in page(answers, {}).splitlines() if line.startswith("| thop")]
    assert len(rows) == 4
    assert "failed: No module named 'thop'" in rows[0]
    tables = re.findall(r"(?:^\|.*\n)+", page(answers, {}), re.MULTILINE)
    assert all(len({line.count("|") for line in table.splitlines()}) == 1 for table in tables)


def test_what_is_left_in_a_model_is_seen(monkeypatch: pytest.MonkeyPatch):
    model = nn.Sequential(nn.LayerNorm(2), nn.ReLU())
    before = state(model)
    assert changes(before, state(model)) == ""

    model[0].total_ops = 1
    assert changes(before, state(model)) == "`total_ops` in 1 of its modules"
    del model[0].total_ops

    handle = model[1].register_forward_hook(lambda *_: None)
    assert changes(before, state(model)) == "hooks in 1 of its modules"
    handle.remove()

    model[0].register_buffer("total_params", torch.zeros(1))
    assert changes(before, state(model)) == "`total_params` in 1 of its modules"
    del model[0].total_params

    model[1].eval()
    assert changes(before, state(model)) == "modes in 1 of its modules"
    model[1].train()

    monkeypatch.setattr(torch, "bmm", lambda *_: None)
    assert changes(before, state(model)) == "patched: torch.bmm"
    monkeypatch.undo()
    assert changes(before, state(model)) == ""


# What is published ----------------------------------------------------------------------------------------------------


def rows_of(tool: str) -> list[list[str]]:
    """The cells of its rows, one a table."""
    lines = [line for line in PUBLISHED.splitlines() if line.startswith(f"| {tool}")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("tool", TOOLS)
def test_every_tool_stands_in_every_table(tool: str):
    assert len(rows_of(tool)) == 4


def test_all_differences_are_explained():
    assert "elsewhere" not in PUBLISHED


@pytest.mark.slow
def test_the_published_row_of_bertprof_is_todays():
    counted = {
        subject: bertprof.breakdown(name, attention=attention, device="cpu", time=False)
        for subject, (name, attention) in SUBJECTS.items()
    }
    found = {subject: (b.total("macs"), b.total("parameters")) for subject, b in counted.items()}
    assert found == DUE
    counts, why, shared, tells = rows_of("bertprof")
    assert counts == ["bertprof", "MACs", f"{found['sdpa'][0]:,}", "0", "0", f"{found['sdpa'][1]:,}"]
    assert why == ["bertprof", "none"]
    assert shared == ["bertprof", f"{found['albert'][0]:,}", "0", f"{found['albert'][1]:,}", "0"]
    modules = sum(1 for module in counted["sdpa"].modules or [] if module.macs)
    assert tells == ["bertprof", f"yes, {modules}", "yes", "yes", "yes", "yes", "nothing", "nothing"]
