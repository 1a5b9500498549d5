"""A headless Chromium for the tests: pages are opened from files, with the network off, and watched.

Needs `chromium` and `chromedriver`, and for one test axe-core, which `make browser` fetches. Where they are missing the
tests are skipped, but where CI says that it is one (CI=true): a CI that skips says nothing.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

ROOT = Path(__file__).parents[2]
AXE = ROOT / ".venv" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
WIDE, NARROW = 1280, 360

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    "--disable-dev-shm-usage",  # which is small in a container
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--lang=en-US"),
)
_STUBBED = """
window.copied = [];
Object.defineProperty(navigator, "clipboard", { value: { writeText: async (text) => { window.copied.push(text); } } });
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""

Mode = Literal["light", "dark"]
Written = Callable[[str, str], Path]
"""Writes a page by its name, once, and says where it is."""


def script(name: str) -> str:
    """One of the scripts beside this file, which look at a page."""
    return (Path(__file__).parent / f"{name}.js").read_text()


def missing(what: str) -> NoReturn:
    """Skips the test, or fails it where this is a CI."""
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(f"{what}; a CI must run these tests")
    pytest.skip(what)


def _chromium() -> tuple[str, str]:
    browsers = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(shutil.which, browsers)), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        missing("no chromium or no chromedriver; on Debian: apt-get install chromium chromium-driver")
    return browser, driver


MAIN = ".explorer:has(select[data-control=by])"
"""Where a page has one table a view."""


@dataclass(frozen=True)
class Table:
    """What is seen of a table.

    Attributes:
        caption: its caption.
        names: what a program calls the columns that are shown, that of the rows' names first.
        sorts: by which of them it says that it is sorted, and how.
        labels: the names of its rows.
        rows: of each the texts beside its name.
    """

    caption: str
    names: list[str]
    sorts: list[str | None]
    labels: list[str]
    rows: list[list[str]]

    def column(self, name: str) -> dict[str, str]:
        """A column by its rows."""
        at = self.names.index(name) - 1
        return {label: row[at] for label, row in zip(self.labels, self.rows, strict=True)}


class Browser:
    """One Chromium. `open` shows a page as it would first be seen; the other methods read it as a person would."""

    def __init__(self, downloads: Path) -> None:
        browser, driver = _chromium()
        self.downloads = downloads
        self._profile = tempfile.TemporaryDirectory(prefix="bertprof-chromium-", ignore_cleanup_errors=True)
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for flag in (*_FLAGS, f"--user-data-dir={self._profile.name}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self.driver.set_script_timeout(180)  # beside other tests axe takes its time
        self.tell("Network.enable")
        self.tell("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
        self.tell("Page.addScriptToEvaluateOnNewDocument", source=_STUBBED)
        self.tell("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))

    def close(self) -> None:
        self.driver.quit()
        self._profile.cleanup()

    def tell(self, command: str, **arguments: Any) -> Any:
        """A command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(command, arguments)

    def open(
        self, path: Path, width: int = WIDE, mode: Mode = "light", scripts: bool = True, media: str = "screen"
    ) -> None:
        """Shows a page.

        Args:
            path: the file.
            width: of the window in pixels.
            mode: what the person prefers.
            scripts: whether JavaScript is on.
            media: "screen" or "print".
        """
        self.tell(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
        )
        self.tell("Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": mode}])
        self.tell("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.driver.get("about:blank")
        for log in ("browser", "performance"):
            self.driver.get_log(log)  # what was, is not of this page
        self.driver.get(path.as_uri())

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def complaints(self) -> list[str]:
        """What stands in the console since the page was opened, and what its own policy forbade."""
        told = [f"{entry['level']}: {entry['message']}" for entry in self.driver.get_log("browser")]
        return told + self.run("return window.violations ?? []")

    def requests(self) -> list[str]:
        """What the page asked for beyond itself."""
        asked = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                asked.append(message["params"]["request"]["url"])
        return [url for url in asked if not url.startswith(("file:", "data:", "blob:", "about:"))]

    def press(self, *keys: str) -> None:
        """Presses keys: names of `selenium.webdriver.Keys` or letters."""
        chain = webdriver.ActionChains(self.driver, duration=0)
        for key in keys:
            chain.send_keys(getattr(webdriver.Keys, key.upper(), key))
        chain.perform()

    def point(self, element: Any) -> None:
        """Moves the pointer over an element."""
        self.run("arguments[0].scrollIntoView({ block: 'center' })", element)
        webdriver.ActionChains(self.driver, duration=0).move_to_element(element).perform()

    def texts(self, selector: str) -> list[str]:
        """The visible texts of elements."""
        return list(self.run(_TEXTS, selector))

    def choose(self, control: str, value: str, explorer: str = MAIN) -> None:
        """Chooses from one of the lists above a table."""
        self.run(_CHOOSE, explorer, control, value)

    def choices(self, control: str, explorer: str = MAIN) -> list[str]:
        """The values from which such a list lets choose; none where there is no such list."""
        return list(self.run(_CHOICES, explorer, control))

    def click(self, selector: str, within: str = MAIN) -> None:
        """Clicks on the first such element that is visible, with the mouse."""
        element = self.run(_FIRST, within, selector)
        assert element is not None, f"no visible {selector} in {within}"
        self.driver.execute_script("arguments[0].scrollIntoView({ block: 'center', inline: 'center' })", element)
        element.click()

    def table(self, explorer: str = MAIN) -> Table:
        """What is seen of the first table that is shown among some."""
        return Table(**self.run(script("table"), explorer))


_TEXTS = """
return [...document.querySelectorAll(arguments[0])].filter((e) => e.checkVisibility()).map((e) => e.innerText.trim());
"""
_FIRST = """
return [...document.querySelectorAll(`${arguments[0]} ${arguments[1]}`)].find((e) => e.checkVisibility()) ?? null;
"""
_CONTROL = "const control = document.querySelector(`${arguments[0]} select[data-control=${arguments[1]}]`);"
_CHOOSE = f"""{_CONTROL}
control.value = arguments[2];
if (control.value !== arguments[2]) throw new Error(`no such choice: ${{arguments[2]}}`);
control.dispatchEvent(new Event("change", {{ bubbles: true }}));
"""
_CHOICES = f"""{_CONTROL}
return [...(control?.options ?? [])].map((option) => option.value);
"""
