"""One real Digital Slide Archive and one isoline server for all tests of the plugin."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from isoline.client import Client
from tests import browser
from tests.dsa.builds import GIRDER_3, Edition
from tests.dsa.pages import HEIGHT, SLOW, WIDTH, log_in, show
from tests.dsa.stack import Girder, Stack, running
from tests.serving import serving

TOKEN = "shared-secret"
REGION = (6000.0, 6700.0, 6700.0, 7300.0)
"""A part of the slide with some 80 nuclei."""

OURS = "isoline"
"""In the address of every script of the panel."""
BUILD_SECONDS = 1800
"""Building Girder's web client takes minutes, and the first test that needs it waits for it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of this folder time for the build."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(BUILD_SECONDS))


@dataclass(frozen=True)
class Archive:
    """A running archive with its isoline server."""

    stack: Stack
    isoline: Client
    isoline_url: str

    @property
    def admin(self) -> Girder:
        return self.stack.admin

    @property
    def item(self) -> str:
        return self.stack.item

    def start(self, model: str, region: tuple[float, ...] = REGION, **more: Any) -> Any:
        """Start a run of the administrator's and return what Girder says of it."""
        body = {"model": model, "region": [*region], **more}
        return self.admin.call("POST", f"isoline/item/{self.item}/run", json=body)

    def state(self, run: Any) -> Any:
        return self.admin.call("GET", f"isoline/run/{run['_id']}")

    def ended(self, run: Any) -> Any:
        """Wait for the end of a run and return it."""
        return wait_for(lambda: self.state(run), lambda now: now["state"] != "running", 180)

    def accepted(self, run: Any) -> Any:
        """Wait for the end of a run, accept it, and return it."""
        self.ended(run)
        return self.admin.call("POST", f"isoline/run/{run['_id']}/accept")

    def elements(self, annotation: str) -> list[Any]:
        """Return the stored elements of an annotation."""
        found = self.admin.call("GET", f"annotation/{annotation}", limit=0)
        return list(found["annotation"]["elements"])

    def annotations(self) -> list[str]:
        return [each["_id"] for each in self.admin.call("GET", "annotation", itemId=self.item)]


def wait_for(ask: Callable[[], Any], good: Callable[[Any], bool], seconds: float = 60.0) -> Any:
    """Ask until the answer is good and return it."""
    deadline = time.monotonic() + seconds
    while not good(answer := ask()):
        assert time.monotonic() < deadline, f"still {answer} after {seconds} s"
        time.sleep(0.1)
    return answer


@contextlib.contextmanager
def serving_archive(
    directories: pytest.TempPathFactory, slide: Path, edition: Edition
) -> Iterator[Archive]:
    """Run a Girder with `slide`, and an isoline server that it knows."""
    home, data = directories.mktemp("girder"), directories.mktemp("isoline")
    with running(home, slide, edition) as stack:
        server = f'[girder.archive]\nurl = "{stack.url}"\n'
        with serving(data, data, more=server, token=TOKEN) as url:
            for key, value in (("url", url), ("token", TOKEN), ("name", "archive")):
                stack.admin.call("PUT", "system/setting", key=f"isoline.{key}", value=value)
            yield Archive(stack, Client(url, TOKEN), url)


@pytest.fixture(scope="session")
def running_archive(
    tmp_path_factory: pytest.TempPathFactory, real_slide: Path
) -> Iterator[Archive]:
    with serving_archive(tmp_path_factory, real_slide, GIRDER_3) as archive:
        yield archive


@pytest.fixture
def archive(running_archive: Archive) -> Iterator[Archive]:
    """The archive with no annotations and no runs."""
    running_archive.stack.clear()
    yield running_archive
    running_archive.stack.clear()


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """One browser for all tests: starting it, and logging in, takes as long as many a test."""
    expect.set_options(timeout=SLOW)
    with browser.launched() as opened:
        yield opened


@pytest.fixture(scope="package")
def administrators(chromium: Browser, running_archive: Archive) -> Iterator[Page]:
    """A page in which the administrator is logged in."""
    with browser.page_of(chromium, WIDTH, HEIGHT, OURS) as opened:
        opened.set_default_timeout(SLOW)
        log_in(opened, f"{running_archive.stack.url}/histomics", "admin")
        yield opened


@pytest.fixture
def empty_page(administrators: Page, archive: Archive) -> Iterator[Page]:
    """An empty page of the administrator's, beside an archive without annotations.

    A test fails if the panel throws an error, or leaves something on `window`. HistomicsUI throws
    errors of its own where a page is left while it still loads.
    """
    with browser.without_errors(administrators, OURS):
        yield administrators
        ours = "Object.keys(window).filter((key) => /isoline/i.test(key))"
        assert administrators.evaluate(ours) == []
        administrators.goto("about:blank")  # or it would go on asking Girder for news


@pytest.fixture
def page(empty_page: Page, archive: Archive) -> Page:
    """The slide in HistomicsUI, as the administrator sees it."""
    show(empty_page, archive.stack)
    return empty_page
