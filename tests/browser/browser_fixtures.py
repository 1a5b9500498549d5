"""One Chromium and one folder of pages for all tests of a process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import Browser, Written


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = Browser(tmp_path_factory.mktemp("downloads"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("pages")

    def write(name: str, content: str) -> Path:
        path = folder / f"{name}.html"
        if not path.exists():
            path.write_text(content, encoding="utf-8")
        return path

    return write
