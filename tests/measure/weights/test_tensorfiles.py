"""Files of a checkpoint: which are read, what is refused."""

import io
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from checkpoints import (
    as_floats,
    halves,
    refusal,
    stored,
    write,
    write_index,
)
from torch import nn

from bertprof.measure.weights import tensorfiles
from bertprof.measure.weights.checkpoint import open_checkpoint
from conftest import tiny


def test_a_folder_without_weights(tmp_path: Path):
    assert open_checkpoint(tmp_path) is None


def test_what_headers_say(tmp_path: Path):
    write(tmp_path, {"a": torch.zeros(3, 5, dtype=torch.bfloat16), "b": torch.zeros(2, dtype=torch.int8)})
    found = open_checkpoint(tmp_path)
    assert found is not None
    path = tmp_path / "model.safetensors"
    assert (found.folder, found.format, found.files) == (tmp_path, "safetensors", (path,))
    assert found.file_bytes == path.stat().st_size > 3 * 5 * 2 + 2
    assert found.tensors == {"a": ((3, 5), torch.bfloat16, path), "b": ((2,), torch.int8, path)}
    assert [header.bytes for header in found.tensors.values()] == [30, 2]


def test_safetensors_come_first_and_one_file_before_several(tmp_path: Path):
    state = {"a": torch.zeros(1), "b": torch.zeros(1)}
    torch.save(state, tmp_path / "pytorch_model.bin")
    kinds = []
    for step in (
        lambda: write_index(tmp_path, halves(state, "safetensors")),
        lambda: write(tmp_path, state),
    ):
        kinds.append(open_checkpoint(tmp_path))
        step()
    kinds.append(open_checkpoint(tmp_path))
    assert [(found.format, len(found.files)) for found in kinds if found] == [
        ("pytorch", 1),
        ("safetensors", 2),
        ("safetensors", 1),
    ]


@pytest.mark.parametrize("kind", ["sharded", "bin", "old bin", "sharded bin"])
def test_every_way_to_write_the_same_weights(kind: str, tmp_path: Path):
    model = tiny("bert")
    state = model.state_dict()
    if kind == "sharded":
        write_index(tmp_path, halves(state, "safetensors"))
    elif kind == "sharded bin":
        write_index(tmp_path, halves(state, "bin"), "pytorch_model.bin")
    else:
        torch.save(state, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=kind == "bin")
    found = open_checkpoint(tmp_path)
    assert found is not None
    assert len(found.files) == (2 if "sharded" in kind else 1)
    assert found.file_bytes == sum(file.stat().st_size for file in tmp_path.iterdir() if file.suffix != ".json")
    assert found.format == ("pytorch" if "bin" in kind else "safetensors")
    assert stored(tmp_path) == as_floats(model)


def saved_safetensors() -> bytes:
    return safetensors.torch.save({"a": torch.zeros(64)})


def saved_bin(content: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", b"", "it is empty"),
        ("model.safetensors", saved_safetensors()[:-4], "it is cut short or no safetensors file (.*not fully covered)"),
        ("model.safetensors", saved_safetensors()[:20], "it is cut short or no safetensors file"),
        ("model.safetensors", b"\xff" * 100, "it is cut short or no safetensors file (.*header too large)"),
        (
            "model.safetensors",
            saved_safetensors().replace(b'"F32"', b'"Q32"'),
            "it is cut short or no safetensors file (.*unknown variant",
        ),
        ("model.safetensors.index.json", b"{", "it is no JSON"),
        ("model.safetensors.index.json", b"\xff\xfe", "it is no JSON"),
        ("model.safetensors.index.json", b"[" * 100_000, "it is no JSON"),
        ("model.safetensors.index.json", b"[]", "it has no weight_map"),
        ("model.safetensors.index.json", b"{}", "it has no weight_map"),
        ("model.safetensors.index.json", b'{"weight_map": []}', "does not map tensors to files of this folder"),
        ("model.safetensors.index.json", b'{"weight_map": {}}', "does not map tensors to files of this folder"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": 1}}', "does not map tensors to files"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "../a"}}', "does not map tensors to files"),
        ("pytorch_model.bin", b"", "it is empty"),
        ("pytorch_model.bin", b"garbage" * 9, "it is no checkpoint of torch"),
        ("pytorch_model.bin", b"PK\x03\x04 and no more", "it is cut short or no checkpoint of torch"),
        ("pytorch_model.bin", saved_bin({"a": torch.zeros(64)})[:-100], "it is cut short or no checkpoint of torch"),
        (
            "pytorch_model.bin",
            saved_bin({"a": torch.zeros(64)}, _use_new_zipfile_serialization=False)[:-100],
            "it is cut short or no checkpoint of torch",
        ),
        ("pytorch_model.bin", saved_bin([torch.zeros(1)]), "it holds no dict of tensors, as model.state_dict"),
        ("pytorch_model.bin", saved_bin({"state_dict": {"a": torch.zeros(1)}}), "it holds no dict of tensors"),
        ("pytorch_model.bin", saved_bin({1: torch.zeros(1)}), "it holds no dict of tensors"),
    ],
)
def test_broken_files(name: str, content: bytes, message: str, tmp_path: Path):
    (tmp_path / name).write_bytes(content)
    text = refusal(lambda: open_checkpoint(tmp_path))
    expression = ".*".join(re.escape(part) for part in message.split(".*"))
    assert re.search(rf"^{re.escape(str(tmp_path / name))} cannot be read: .*{expression}.*; fetch or save", text)


def test_a_shard_that_is_not_there(tmp_path: Path):
    write_index(tmp_path, halves({"a": torch.zeros(1), "b": torch.zeros(1)}, "safetensors"))
    (tmp_path / "part-2-of-2.safetensors").unlink()
    text = refusal(lambda: open_checkpoint(tmp_path))
    assert f"{tmp_path} lacks part-2-of-2.safetensors, one of the 2 files that model.safetensors.index.json" in text


def test_a_shard_without_a_tensor_of_the_index(tmp_path: Path):
    write_index(tmp_path, halves({"a": torch.zeros(1), "b": torch.zeros(1)}, "safetensors"))
    write(tmp_path, {"c": torch.zeros(1)}, "part-2-of-2.safetensors")
    text = refusal(lambda: open_checkpoint(tmp_path))
    assert "part-2-of-2.safetensors cannot be read: it lacks b, which model.safetensors.index.json says" in text


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "model.safetensors.index.json"])
def test_a_file_that_may_not_be_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def denied(*args: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / name).write_bytes(b"something")
    # No permission stops the superuser, as whom tests may run.
    monkeypatch.setattr(tensorfiles, "safe_open", denied)
    monkeypatch.setattr(torch, "load", denied)
    monkeypatch.setattr(Path, "read_text", denied)
    text = refusal(lambda: open_checkpoint(tmp_path))
    assert text == f"{tmp_path / name} cannot be read: Permission denied; make it readable"


class Malicious:
    """Creates a file as it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize(
    "write_it",
    [
        saved_bin,
        lambda content: saved_bin(content, _use_new_zipfile_serialization=False),
        lambda content: pickle.dumps(content, protocol=2),
        lambda content: pickle.dumps(content, protocol=5),
    ],
)
def test_code_in_a_pickle_is_refused_and_not_run(write_it: Callable[[Any], bytes], tmp_path: Path):
    proof = tmp_path / "it-ran"
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(write_it({"a": torch.zeros(1).tolist(), "b": Malicious(proof)}))
    text = refusal(lambda: open_checkpoint(tmp_path))
    assert text.startswith(f"{path} is refused: loading it would run {os.system.__module__}.system, and bertprof never")
    assert "save the weights alone, as safetensors" in text
    assert not proof.exists()


def test_a_whole_pickled_model_is_refused(tmp_path: Path):
    torch.save(nn.Linear(2, 2, device="meta"), tmp_path / "pytorch_model.bin")
    assert "would run torch.nn.modules.linear.Linear" in refusal(lambda: open_checkpoint(tmp_path))
