import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertprof import configuration
from bertprof.errors import ConfigurationError, UnknownModelError, UsageError


def test_a_known_name_needs_nothing():
    found = configuration.resolve("bert-base-uncased")
    assert found.origin == "catalog"
    assert found.source == "google-bert/bert-base-uncased"
    assert found.fields["model_type"] == "bert"
    assert found.fields["hidden_size"] == 768


def test_a_folder_wins_over_a_name(tmp_path: Path, folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch):
    folder("bert").rename(tmp_path / "bert-base-uncased")
    monkeypatch.chdir(tmp_path)
    assert configuration.resolve("bert-base-uncased").origin == "folder"
    (tmp_path / "bert-base-uncased" / "config.json").unlink()
    assert configuration.resolve("bert-base-uncased").origin == "catalog"


@pytest.mark.parametrize("name", ["", "   "])
def test_an_empty_name(name: str):
    with pytest.raises(UsageError, match="empty"):
        configuration.resolve(name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "cannot be read as JSON"),
        (b"\xff\xfe", "cannot be read as JSON"),
        (b"[1]", "holds no JSON object"),
        (b"{}", 'names no "model_type"'),
        (b'{"model_type": 3}', 'names no "model_type"'),
        (b'{"model_type": "bert", "auto_map": {"AutoModel": "evil.Model"}}', "asks for code"),
    ],
)
def test_a_broken_configuration(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        configuration.resolve(str(tmp_path))


def test_a_folder_without_and_a_file(tmp_path: Path):
    with pytest.raises(ConfigurationError, match=r"without config\.json"):
        configuration.resolve(str(tmp_path))
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="is a file"):
        configuration.resolve(str(tmp_path / "b.json"))


@pytest.mark.parametrize("name", ["./no/where", "two words", "a/b/c", "/tmp/absent-bertprof-folder"])
def test_what_cannot_be_a_hub_name_is_not_asked_for(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(configuration, "_fetch", lambda name: pytest.fail("the hub was asked"))
    with pytest.raises(UnknownModelError, match="neither a folder nor a model's name"):
        configuration.resolve(name)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    """Replaces the hub's download."""

    def answer_with(download: Callable[..., Any]) -> None:
        monkeypatch.setattr("huggingface_hub.hf_hub_download", download)

    return answer_with


def test_a_hub_name_fetches_its_configuration_only(tmp_path: Path, hub: Any):
    asked: list[tuple[str, str]] = []

    def download(name: str, file: str, **options: Any) -> str:
        asked.append((name, file))
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
        return str(tmp_path / "config.json")

    hub(download)
    found = configuration.resolve("somebody/some-bert")
    assert (found.origin, found.name) == ("hub", "somebody/some-bert")
    assert asked == [("somebody/some-bert", "config.json")]


def test_a_hub_that_hangs_is_given_up_and_near_names_are_named(hub: Any, monkeypatch: pytest.MonkeyPatch):
    release = threading.Event()
    hub(lambda *args, **options: release.wait(60))
    monkeypatch.setattr(configuration, "HUB_DEADLINE_S", 0.05)
    with pytest.raises(UnknownModelError, match=r"did not answer within 0\.05 s; did you mean bert-base-uncased"):
        configuration.resolve("bert-base-uncasd")
    release.set()
    time.sleep(0.01)


def test_what_the_hub_says_is_told(hub: Any):
    from huggingface_hub.errors import OfflineModeIsEnabled

    class RepositoryNotFoundError(Exception):
        pass

    def raising(error: Exception) -> Callable[..., Any]:
        def download(*args: Any, **options: Any) -> str:
            raise error

        return download

    for error, message in (
        (RepositoryNotFoundError("404"), "knows no model of that name"),
        (OfflineModeIsEnabled("Cannot reach it: offline mode"), "offline mode"),
        (ConnectionError("no route"), "cannot be reached"),
    ):
        hub(raising(error))
        with pytest.raises(UnknownModelError, match=message):
            configuration.resolve("zzz/zzz")
