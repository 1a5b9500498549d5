"""Models and inputs of a user's own code, named on the command line."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import bertprof
from bertprof.errors import ConfigurationError, UsageError

CODE = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.qkv, self.proj = nn.Linear(16, 48), nn.Linear(16, 16)
        self.up, self.down = nn.Linear(16, 64), nn.Linear(64, 16)

    def forward(self, x):
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        x = x + self.proj(torch.softmax(q @ k.transpose(1, 2) / 4, -1) @ v)
        return x + self.down(torch.relu(self.up(self.norm2(x))))

def model():
    return nn.Sequential(Block(), Block())

def inputs(batch_size=1, sequence_length=5):
    return torch.zeros(batch_size, sequence_length, 16)

class Factory:
    @staticmethod
    def make():
        return model()

def bert():
    import transformers
    return transformers.BertModel(transformers.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, vocab_size=100))

number = 3
def returns_a_number():
    return 3
def raises():
    raise RuntimeError("planted\\nand more")
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with a module of a user's."""
    (tmp_path / "mine.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    with torch.random.fork_rng():
        yield tmp_path
    assert sys.path == path
    sys.modules.pop("mine", None)


def test_a_model_and_its_inputs(mine: Path):
    found = bertprof.breakdown("mine:model", inputs="mine:inputs", batch_size=3, sequence_length=7, min_time_s=0)
    assert (found.workload.model, found.workload.weights) == ("mine:model", "module")
    assert (found.workload.batch_size, found.workload.sequence_length) == (3, 7)
    assert found.units == 2
    tokens = 3 * 7
    macs = {str(c): sum(cost.macs for cost in found.of(c)) for c in bertprof.Component if found.of(c)}
    assert macs["attention-linear-in"] == 2 * tokens * 16 * 48
    assert macs["softmax-attention"] == 2 * 2 * tokens * 7 * 16
    assert macs["attention-linear-out"] == 2 * tokens * 16 * 16
    assert macs["ffn"] == 2 * 2 * tokens * 16 * 64
    assert found.timed


def test_attributes_of_attributes_and_another_dtype(mine: Path):
    found = bertprof.breakdown("mine:Factory.make", inputs="mine:inputs", time=False)
    assert found.units == 2


def test_a_transformers_model_needs_no_inputs(mine: Path):
    found = bertprof.breakdown("mine:bert", sequence_length=9, time=False)
    assert found.workload.sequence_length == 9
    assert [caveat.code for caveat in found.caveats] == []


@pytest.mark.parametrize(
    ("model", "inputs", "kind", "message"),
    [
        ("nowhere:model", None, UsageError, "nowhere:model: nowhere cannot be imported: ModuleNotFoundError"),
        ("mine:nothing", None, UsageError, "mine has no nothing"),
        ("mine:number", None, UsageError, "mine:number is int; it must be callable"),
        ("mine:returns_a_number", None, UsageError, "returns int; it must return a torch.nn.Module"),
        ("mine:raises", None, ConfigurationError, "mine:raises fails: RuntimeError: planted$"),
        ("mine:model", None, UsageError, "mine:model needs --inputs"),
        ("mine:model", "mine:raises", ConfigurationError, "mine:raises fails"),
        ("mine:model", "mine:returns_a_number", UsageError, "inputs hold no tensor"),
        ("mine:bert", "mine:inputs", ConfigurationError, "the forward of mine:bert fails"),
        ("bert-base-uncased", "mine:inputs", UsageError, "--inputs goes with"),
    ],
)
def test_what_does_not_work_is_one_line(mine: Path, model: str, inputs: str | None, kind: Any, message: str):
    with pytest.raises(kind, match=message) as caught:
        bertprof.breakdown(model, inputs=inputs, time=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"padding": 0.5}, {"task": "masked-lm"}, {"overrides": {"a": "b"}}, {"weights": True}]
)
def test_what_ones_own_code_sets_itself(mine: Path, options: dict[str, Any]):
    with pytest.raises(UsageError, match="is your own code"):
        bertprof.breakdown("mine:model", inputs="mine:inputs", **options)
