from pathlib import Path

import pytest

from bertprof import limits, settings
from bertprof.errors import UsageError
from bertprof.settings import GateSettings


def test_the_nearest_project_counts(tmp_path: Path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text("[tool.bertprof.anatomy]\n'x\\..*' = 'ffn'\n")
    assert settings.anatomy(inner) == {"x\\..*": "ffn"}
    for without in ("", "tool = 3\n", "[project]\nname = 'other'\n[tool.ruff]\nline-length = 120\n"):
        (inner / "pyproject.toml").write_text(without)
        assert settings.anatomy(inner) == {"x\\..*": "ffn"}
    (inner / "pyproject.toml").write_text("[tool.bertprof]\n")
    assert settings.anatomy(inner) == {}


def test_an_error_names_the_file_that_has_the_table(tmp_path: Path):
    inner = tmp_path / "a"
    inner.mkdir()
    (inner / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    (tmp_path / "pyproject.toml").write_text("[tool.bertprof]\nstrict = 1\n")
    with pytest.raises(UsageError, match="strict is 1") as caught:
        settings.gates(inner)
    assert str(caught.value).startswith(f"{tmp_path / 'pyproject.toml'}: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[tool.bertprof.anatomy]\n'x' = 'banana'\n", "'x' is 'banana'; use one of embedding"),
        ("[tool.bertprof]\nanatomy = 3\n", "must be a table of expression = component"),
        ("[tool]\nbertprof = 3\n", r"\[tool.bertprof\] must be a table"),
        ("[tool\n", "cannot be read as TOML"),
    ],
)
def test_what_is_no_setting(content: str, message: str, tmp_path: Path):
    (tmp_path / "pyproject.toml").write_text(content)
    with pytest.raises(UsageError, match=message) as caught:
        settings.anatomy(tmp_path)
    assert str(tmp_path / "pyproject.toml") in str(caught.value)


def test_the_gates_of_a_project(tmp_path: Path):
    (tmp_path / "pyproject.toml").write_text(
        """
[tool.bertprof]
fail-on = ["parameters:+0", "ffn.time:+5%"]
warn-on = "*.time:+5%"
require = ["ffn.macs:1.5x"]
budget = ["total.bytes:100MB"]
strict = true
allow-mismatch = ["torch", "cpu"]
min-samples = 20

[tool.bertprof.anatomy]
x = "ffn"
"""
    )
    origin = str(tmp_path / "pyproject.toml")
    assert settings.gates(tmp_path) == GateSettings(
        specs=[
            limits.parse("fail-on", "parameters:+0", origin),
            limits.parse("fail-on", "ffn.time:+5%", origin),
            limits.parse("warn-on", "*.time:+5%", origin),
            limits.parse("require", "ffn.macs:1.5x", origin),
            limits.parse("budget", "total.bytes:100MB", origin),
        ],
        strict=True,
        allow_mismatch=["torch", "cpu"],
        min_samples=20,
    )
    assert settings.anatomy(tmp_path) == {"x": "ffn"}


@pytest.mark.parametrize("content", ["", "[tool.bertprof]\n", "[tool.bertprof]\nfail-on = []\nallow-mismatch = []\n"])
def test_without_gates_there_are_none(content: str, tmp_path: Path):
    (tmp_path / "pyproject.toml").write_text(content)
    assert settings.gates(tmp_path) == GateSettings([], strict=False, allow_mismatch=[], min_samples=10)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("fail-on = ['ffn.tmie:+5%']", r"fail-on 'ffn.tmie:\+5%': there is no metric 'tmie' \(did you mean time\?\)"),
        ("budget = 'bytes:+5MB'", "budget 'bytes:\\+5MB': a budget has no sign"),
        ("fail-on = 5", r"\[tool.bertprof\] fail-on must be a text or a list of texts, not 5"),
        ("require = [5]", r"\[tool.bertprof\] require must be a text or a list of texts, not \[5\]"),
        ("warn-on = {a = 1}", r"\[tool.bertprof\] warn-on must be a text"),
        ("strict = 'yes'", r"\[tool.bertprof\] strict is 'yes'; write true or false"),
        ("strict = 1", r"\[tool.bertprof\] strict is 1; "),
        ("allow-mismatch = ['batch']", r"\[tool.bertprof\] allow-mismatch has 'batch'; use one of batch_size, seq"),
        ("allow-mismatch = true", r"\[tool.bertprof\] allow-mismatch must be a text or a list of texts, not True"),
        ("min-samples = 0", r"\[tool.bertprof\] min-samples is 0; write a whole number from 1 on"),
        ("min-samples = true", r"\[tool.bertprof\] min-samples is True; "),
        ("min-samples = 10.0", r"\[tool.bertprof\] min-samples is 10.0; "),
        ("fail_on = []\nexit-zero = true", r"has no exit-zero, fail_on; it has: anatomy, fail-on, warn-on, require, "),
    ],
)
def test_what_is_no_setting_of_gates(content: str, message: str, tmp_path: Path):
    (tmp_path / "pyproject.toml").write_text(f"[tool.bertprof]\n{content}\n")
    with pytest.raises(UsageError, match=message) as caught:
        settings.gates(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'pyproject.toml'}: ")


def test_a_bad_gate_is_no_matter_of_the_anatomy(tmp_path: Path):
    (tmp_path / "pyproject.toml").write_text("[tool.bertprof]\nfail-on = 5\n")
    assert settings.anatomy(tmp_path) == {}
