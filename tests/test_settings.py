from pathlib import Path

import pytest

from bertprof import settings
from bertprof.errors import UsageError


def test_the_nearest_project_counts(tmp_path: Path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text("[tool.bertprof.anatomy]\n'x\\..*' = 'ffn'\n")
    assert settings.anatomy(inner) == {"x\\..*": "ffn"}
    (inner / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    assert settings.anatomy(inner) == {}


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
