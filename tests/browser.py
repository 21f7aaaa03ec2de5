"""A headless Chromium for tests of pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Error, Page, sync_playwright

EXECUTABLES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    # WebGL without a GPU
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)


@contextmanager
def launched() -> Iterator[Browser]:
    """Yield the Chromium of this machine, for pages that do not know of each other.

    Without a Chromium the test is skipped, in CI it fails: there it must be installed.
    """
    executable = next(filter(None, map(shutil.which, EXECUTABLES)), None)
    if executable is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI has no Chromium: install the package chromium")
        pytest.skip("no Chromium on this machine: install the package chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def page(width: int = 1280, height: int = 860) -> Iterator[Page]:
    """Yield an empty page of a browser of its own; an error on the page fails the test."""
    with launched() as browser, page_of(browser, width, height) as opened:
        yield opened


@contextmanager
def page_of(
    browser: Browser, width: int = 1280, height: int = 860, errors_of: str = ""
) -> Iterator[Page]:
    """Yield an empty page with storage of its own; an error on the page fails the test.

    Of `errors_of` where the page is someone else's: what must be in the stack of the error.
    """
    opened = browser.new_page(viewport={"width": width, "height": height})
    with without_errors(opened, errors_of):
        try:
            yield opened
        finally:
            opened.close()


@contextmanager
def without_errors(page: Page, of: str = "") -> Iterator[None]:
    """Fail where the page throws an error that nobody catches, with `of` in its stack."""
    errors: list[str] = []

    def note(error: Error) -> None:
        said = f"{error.message}\n{error.stack}"
        if of in said:
            errors.append(said)

    page.on("pageerror", note)
    yield
    page.remove_listener("pageerror", note)
    if errors:
        pytest.fail("the page threw: " + "; ".join(errors))
