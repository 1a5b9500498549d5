"""What the tests share: tiny models of every family, and the proof that nothing is left changed."""

import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

if "PYTEST_XDIST_WORKER" in os.environ:
    # As many workers as cores: with threads of its own as well, each would wait for those of the others.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# What is kept of this machine from run to run is no concern of the tests, and theirs none of its user.
if "PYTEST_XDIST_WORKER" not in os.environ:  # workers have that of who started them
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="bertprof-tests-")

import pytest
import rich.style  # noqa: F401 (draws from the global generator as it is imported)
import torch
import transformers
import transformers.modeling_utils  # (scipy, which it imports where there is some, adds a filter of warnings)
from hypothesis import HealthCheck, settings
from torch import nn
from typer.testing import CliRunner, Result

from bertprof import configuration
from bertprof.cli import app
from bertprof.formatting import plain
from bertprof.measure import build, host, noise, timing
from bertprof.record import Breakdown, now

# A slow machine is no failure.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest test first, so that the others run beside it."""
    items.sort(key=lambda item: not item.name.startswith("test_every_bertprof_command_runs_in_order"))


def pytest_collection_finish() -> None:
    """What is there before the first test stays: else the garbage collection before each timing would look it through.

    Of what the tests make, all is collected as ever.
    """
    gc.collect()
    gc.freeze()


_UNITS: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 100,
    "max_position_embeddings": 40,
}
_FACTORISED: dict[str, Any] = {**_UNITS, "embedding_size": 16}
_IDS = {"bos_token_id": 1, "eos_token_id": 2}  # below vocab_size, where a family's own are not
_RELATIVE = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
TINY: dict[str, dict[str, Any]] = {
    "bert": _UNITS,
    "roberta": _UNITS,
    "xlm-roberta": _UNITS,
    "camembert": _UNITS,
    "megatron-bert": _UNITS,
    "electra": _FACTORISED,
    "distilbert": {
        "dim": 32,
        "n_layers": 3,
        "n_heads": 4,
        "hidden_dim": 64,
        "vocab_size": 100,
        "max_position_embeddings": 40,
    },
    "albert": _FACTORISED,
    "mobilebert": {**_FACTORISED, "intra_bottleneck_size": 8, "true_hidden_size": 8},
    "squeezebert": {**_UNITS, "embedding_size": 32},
    "mpnet": _UNITS,
    # As published: relative positions, which the defaults leave off.
    "deberta": {**_UNITS, **_RELATIVE, "position_biased_input": False, "type_vocab_size": 0},
    "deberta-v2": {
        **_UNITS,
        **_RELATIVE,
        "position_biased_input": False,
        "type_vocab_size": 0,
        "position_buckets": 8,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
    },
    "xlnet": {"d_model": 32, "n_layer": 3, "n_head": 4, "d_inner": 64, "vocab_size": 100},
    "gpt2": {
        **_IDS,
        "n_embd": 32,
        "n_layer": 3,
        "n_head": 4,
        "n_inner": 64,
        "vocab_size": 100,
        "n_positions": 40,
        "pad_token_id": 0,
    },
    "modernbert": {
        **_UNITS,
        **_IDS,
        "pad_token_id": 0,
        "cls_token_id": 1,
        "sep_token_id": 2,
        "local_attention": 8,
    },
}
FAMILIES = tuple(TINY)


def tiny(family: str, attention: str = "sdpa", task: str | None = None, **overrides: Any) -> nn.Module:
    """A small model of a family with weights, in eval mode; eager where the family has nothing else."""
    config = tiny_config(family, **overrides)
    attention = attention if build.has_sdpa(config, task) else "eager"
    return build.with_random_weights(config, task, attention, torch.float32)


def tiny_twin(family: str, attention: str = "sdpa", task: str | None = None, **overrides: Any) -> nn.Module:
    """The same without storage."""
    config = tiny_config(family, **overrides)
    attention = attention if build.has_sdpa(config, task) else "eager"
    return build.on_meta(config, task, attention, torch.float32)


def tiny_config(family: str, **overrides: Any) -> Any:
    """The configuration of a small model of a family."""
    return transformers.AutoConfig.for_model(family, **{**TINY[family], **overrides})


def codes_of(breakdown: Breakdown) -> list[str]:
    """The codes of its caveats, but for those of a machine that does other things beside the tests."""
    return [caveat.code for caveat in breakdown.caveats if caveat.code not in noise.CODES]


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder with the config.json of a tiny model of a family."""

    def make(family: str = "bert", **overrides: Any) -> Path:
        path = tmp_path / family
        path.mkdir(exist_ok=True)
        (path / "config.json").write_text(json.dumps({"model_type": family, **TINY[family], **overrides}))
        return path

    return make


PLAIN = (bool, int, float, str, type(None))


def traces_of(model: nn.Module) -> dict[str, Any]:
    """Everything about a model that a measurement could leave changed."""
    hook_dicts = [name for name in vars(nn.Module()) if "hook" in name]
    return {
        path: (
            {name: value if isinstance(value, PLAIN) else id(value) for name, value in vars(module).items()},
            json.dumps(module.config.to_dict(), default=str) if hasattr(module, "config") else None,
            {name: list(getattr(module, name) or ()) for name in hook_dicts},
            vars(module).get("forward"),
            {
                name: (p.data_ptr(), p._version, p.requires_grad, p.grad is None)
                for name, p in module.named_parameters(recurse=False)
            },
        )
        for path, module in model.named_modules()
    }


@pytest.fixture
def untouched() -> Iterator[Callable[[nn.Module], nn.Module]]:
    """Watches models: at the end of the test each must be as it was when it was handed over."""
    watched: list[tuple[nn.Module, dict[str, Any], dict[str, torch.Tensor]]] = []

    def watch(model: nn.Module) -> nn.Module:
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        watched.append((model, traces_of(model), state))
        return model

    yield watch
    for model, traces, state in watched:
        assert traces_of(model) == traces
        assert model.state_dict().keys() == state.keys()
        assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


@pytest.fixture(autouse=True)
def nothing_global_changes() -> Iterator[None]:
    """No test leaves a setting of the process changed: of torch, of the libraries' noise, of Python."""
    import logging
    import warnings

    from huggingface_hub.utils import are_progress_bars_disabled
    from transformers import masking_utils
    from transformers.utils import logging as transformers_logging

    loggers = ("transformers", "huggingface_hub", "matplotlib.font_manager")

    def seen() -> tuple[Any, ...]:
        return (
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.get_default_dtype(),
            gc.isenabled(),
            random.getstate(),
            tuple(torch.get_rng_state().tolist()),
            len(nn.modules.module._global_forward_hooks),
            [logging.getLogger(name).level for name in loggers],
            are_progress_bars_disabled(),
            transformers_logging.is_progress_bar_enabled(),
            masking_utils.is_tracing,
            list(warnings.filters),
        )

    before = seen()
    yield
    assert seen() == before


# What benchmarks write down -------------------------------------------------------------------------------------------

REPORT = Path(__file__).parents[1] / "reports" / "benchmarks.md"

Note = Callable[[str, str, str], None]


@pytest.fixture(scope="session")
def note() -> Iterator[Note]:
    """Notes a claim of `make bench`, its bar and what was measured; all are written down at the end."""
    rows: list[str] = []

    def add(claim: str, bar: str, measured: str) -> None:
        rows.append(f"| {claim} | {bar} | {measured} |")
        print(f"\n{claim}: {measured} (bar: {bar})")

    yield add
    machine = host.describe(torch.device("cpu"))
    lines = [
        "# Benchmarks",
        "",
        f"Written by `make bench` on {now()[:10]}: {plain(machine.cpu)}, {machine.cores} cores, "
        f"torch {machine.torch}, transformers {machine.transformers}, Python {machine.python}.",
        "",
        "| claim | bar | measured |",
        "| --- | --- | --- |",
        *rows,
    ]
    REPORT.write_text("\n".join(lines) + "\n")


@pytest.fixture
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Runs a command line in an empty folder, never with a network or in CI, as wide as the module's COLUMNS or 120."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", str(getattr(request.module, "COLUMNS", 120)))
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.setattr(configuration, "HUB_DEADLINE_S", 0.2)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *args, **options: time.sleep(1))
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """As few rounds as a record can have, for tests in which no figure of a time is read."""
    monkeypatch.setattr(timing, "FEWEST_ROUNDS", 3)
    monkeypatch.setattr(timing, "WARM_UP_ROUNDS", 1)


def failed(result: Result, *parts: str) -> None:
    """Exit 2, one line on stderr that holds `parts`, nothing on stdout."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("bertprof: ")
    for part in parts:
        assert part in line


HEAVY = ("torch", "transformers", "fvcore", "pandas", "matplotlib", "scipy")


def run_light(folder: Path, *arguments: str) -> None:
    """Runs a command line in a fresh process, which ends well and has imported nothing heavy."""
    code = f"""
import sys
from bertprof.__main__ import main
sys.argv = ["bertprof", *{arguments!r}]
try:
    main()
except SystemExit as done:
    assert not done.code, done.code
heavy = {HEAVY!r}
assert not {{*heavy}} & set(sys.modules), sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
