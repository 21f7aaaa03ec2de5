"""Unmodified OHIF, a real Orthanc and a real isoline server at one origin.

    python -m tests.ohif.stack FILE_OR_FOLDER ...    run it with these series, until Ctrl-C

ISOLINE_OHIF names the version of OHIF, one of VERSIONS; without it, it is that of the demo.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from unittest import mock

import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from playwright.sync_api import Browser, Page
from pydicom.dataset import Dataset
from rich.console import Console

from isoline.client import Client
from isoline.config.data_directory import default_directory
from isoline.config.settings import DicomWeb
from isoline.demo import child_server
from isoline.demo.ohif import orthanc, run, viewer
from isoline.errors import Broken
from tests import browser
from tests.serving import PLUGINS, free_port

T = TypeVar("T")
ARCHIVE = "here"
VERSIONS = {
    "3.11.1": "0lJRyHguGuIR06PxeJ3rqnPWf1OAqsaXGuqT2kl5HkNjIOxBDnRTTMvyHnkn3ZyjcHlsIhY8gf0h7AhV"
    "ORqsSQ==",
    "3.12.10": "0kuF66Mq9c9dMD++bUsTjMrJpXJwaZhz9B4uS244DawAjSkTwIYFU93pxPuRUQixaRi7QAHlF3Fe1qud"
    "BlZrmA==",
    viewer.VERSION: viewer.INTEGRITY,
    "3.14.0-beta.6": "QwA0talqhh4VlUR+QgT2t8FP7NpX++4s6Z9Cp5VIcta3JMd2zGBPTp/R9t7JaX0Xi1AHAZAJxTv5"
    "02R+SawaBg==",
}
"""Of OHIF, each with the SHA-512 of its package."""
VERSION = os.environ.get("ISOLINE_OHIF", viewer.VERSION)
OPEN_MS = 90_000
"""A loaded machine without a GPU is slow to show the first image."""
_HAS_IMAGE = """() => {
    try {
        const { cornerstoneViewportService, viewportGridService } = window.services;
        const id = viewportGridService.getActiveViewportId();
        const viewport = cornerstoneViewportService.getCornerstoneViewport(id);
        return Boolean(viewport.getImageData());
    } catch {
        return false;  // OHIF is still putting itself together
    }
}"""


_IS_STILL = """() => {
    const { cornerstoneViewportService, viewportGridService } = window.services;
    const ids = [...viewportGridService.getState().viewports.keys()];
    const viewports = ids.map((id) => cornerstoneViewportService.getCornerstoneViewport(id));
    const places = viewports.filter(Boolean).map((viewport) => {
        const { left, top, width, height } = viewport.canvas.getBoundingClientRect();
        return [left, top, width, height, ...viewport.worldToCanvas([0, 0, 0])];
    });
    const before = window.places;
    window.places = places.join();
    return window.places === before;
}"""


def wait_until_still(page: Page) -> None:
    """Wait until no viewport moves any more, so that a pixel stays where it is on the page."""
    page.wait_for_function(_IS_STILL, polling=300)


@dataclass(frozen=True)
class Stack:
    """Where everything is."""

    url: str
    """Of OHIF, of /dicom-web and of isoline's /v1."""
    archive: DicomWeb
    """What isoline calls ARCHIVE."""

    @property
    def isoline(self) -> Client:
        return Client(self.url)

    def store(self, series: Iterable[Dataset]) -> str:
        """Send instances of one study to the archive and return its StudyInstanceUID."""
        return run.store(self.archive, series)

    def name(self, study: str, series: str) -> str:
        """Return what isoline calls a series."""
        return f"dicomweb:{ARCHIVE}/{study}/{series}"

    def segmentation(self, study: str) -> Dataset:
        """Return the one segmentation that the archive has of `study`."""
        client = DICOMwebClient(self.archive.url, headers=dict(self.archive.headers))
        (found,) = client.search_for_series(study, search_filters={"Modality": "SEG"})
        (series,) = found["0020000E"]["Value"]
        (stored,) = client.retrieve_series(study, series)
        return stored

    @contextlib.contextmanager
    def opened(self, chromium: Browser, study: str, mode: str = "viewer") -> Iterator[Page]:
        """Yield a page that shows `study`, its first image drawn; no page knows of another."""
        with browser.page_of(chromium, 1400, 900) as page:
            page.add_init_script("localStorage.shownTours = '[\"basicViewerTour\"]'")
            page.goto(f"{self.url}/{mode}?StudyInstanceUIDs={study}", timeout=OPEN_MS)
            page.wait_for_function(_HAS_IMAGE, timeout=OPEN_MS)
            wait_until_still(page)
            yield page


def pages() -> Path:
    """Return OHIF's pages; without npm CI fails, and others see why a test is skipped."""
    folder = default_directory() / "ohif"
    return needed(lambda: viewer.fetch(folder, VERSION, VERSIONS[VERSION]))


def needed(find: Callable[[], T]) -> T:
    """Return what `find` finds; where it is not installed CI fails and others skip."""
    try:
        return find()
    except Broken as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@contextlib.contextmanager
def running(folder: Path, more: str = "") -> Iterator[Stack]:
    """Run the archive, empty, and the server, which keeps its data in `folder`.

    `more` is added to isoline.toml.
    """
    shown = pages()
    needed(orthanc.find)
    home = folder / "archive"
    home.mkdir(parents=True)
    with orthanc.running(home) as archive:
        port, config = free_port(), folder / "isoline.toml"
        config.write_text(run.site_config(folder, port, ARCHIVE, archive) + more)
        command = run.site_command(config, shown, ARCHIVE)
        path = os.pathsep.join(filter(None, [str(PLUGINS), os.environ.get("PYTHONPATH")]))
        with (
            mock.patch.dict(os.environ, {"PYTHONPATH": path}),
            child_server.running(command, port, Console(stderr=True)) as url,
        ):
            yield Stack(url, archive)


def main(paths: list[str]) -> None:
    files = [file for path in map(Path, paths) for file in (path, *path.rglob("*"))]
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as stack:
        for study in {stack.store([pydicom.dcmread(file)]) for file in files if file.is_file()}:
            print(f"{stack.url}/isoline?StudyInstanceUIDs={study}")
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)


if __name__ == "__main__":
    main(sys.argv[1:])
