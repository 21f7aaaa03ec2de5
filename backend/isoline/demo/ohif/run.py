"""The demonstration on a volume: OHIF, an archive with a real head, and isoline at one origin."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset
from rich.console import Console

from isoline.config.settings import DicomWeb, Settings
from isoline.demo import child_server
from isoline.demo.ohif import head, orthanc, viewer
from isoline.errors import Broken

ARCHIVE = "demo"
"""The archive's name in image names: `dicomweb:demo/STUDY/SERIES`."""
_AT_ONCE = 64
"""Instances per message to the archive."""


@dataclass(frozen=True)
class Open:
    """The address of the running demonstration."""

    url: str
    """The URL of OHIF's list of studies."""
    study: str
    """StudyInstanceUID of the head."""

    @property
    def viewer(self) -> str:
        return f"{self.url}/isoline?StudyInstanceUIDs={self.study}"


def run(settings: Settings, *, once: bool) -> None:
    """Start everything, print the address of a study, and serve until Ctrl-C.

    Raises Broken, stating what to install, if something is missing; this is checked before anything
    is started.
    """
    console = Console(stderr=True, highlight=False)
    _check()
    pages = viewer.fetch(settings.data / "ohif")
    with opened(settings, pages, console) as there:
        console.print(
            f"\nOpen {there.viewer}\n"
            f"choose a model on the right and press Run. All studies: {there.url}\n"
            "Press Ctrl-C to stop the viewer, the archive and the server.",
            soft_wrap=True,
        )
        if not once:
            with contextlib.suppress(KeyboardInterrupt):
                while True:
                    time.sleep(3600)


def _check() -> None:
    """Raise one error that lists everything that is missing."""
    missing: list[Broken] = []
    for find in (viewer.find_npm, orthanc.find, head.find):
        try:
            find()
        except Broken as error:
            missing.append(error)
    if missing:
        what = "; ".join(each.what for each in missing)
        raise Broken(what, "; ".join(each.remedy for each in missing))


@contextlib.contextmanager
def opened(settings: Settings, pages: Path, console: Console) -> Iterator[Open]:
    """Run an archive that contains the head, and a server; yield their address."""
    with tempfile.TemporaryDirectory(prefix="isoline-") as scratch:
        folder = Path(scratch)
        with orthanc.running(folder) as archive:
            console.print("storing the head in the archive ...")
            study = store(archive, head.series(head.find()))
            port = child_server.free_port(settings.server.port)
            config = folder / "isoline.toml"
            config.touch(0o600)
            config.write_text(site_config(settings.data, port, ARCHIVE, archive), encoding="utf-8")
            command = site_command(config, pages, ARCHIVE)
            with child_server.running(command, port, console) as url:
                yield Open(url, study)


def store(archive: DicomWeb, series: Iterable[Dataset]) -> str:
    """Store the instances of one study in the archive; return its StudyInstanceUID."""
    client = DICOMwebClient(archive.url, headers=dict(archive.headers))
    waiting: list[Dataset] = []
    study = ""
    for instance in series:
        study = str(instance.StudyInstanceUID)
        waiting.append(instance)
        if len(waiting) == _AT_ONCE:
            client.store_instances(waiting)
            waiting = []
    if waiting:
        client.store_instances(waiting)
    return study


def site_config(data: Path, port: int, name: str, archive: DicomWeb) -> str:
    """Return an isoline.toml that serves the series of `archive` as `dicomweb:NAME/...`."""
    headers = ", ".join(
        f"{_quoted(key)} = {_quoted(value)}" for key, value in archive.headers.items()
    )
    return (
        f"data = {_quoted(str(data))}\n[server]\nport = {port}\n"
        f"[dicomweb.{name}]\nurl = {_quoted(archive.url)}\nheaders = {{ {headers} }}\n"
    )


def site_command(config: Path, pages: Path, name: str) -> list[str]:
    """Return the command that serves isoline, OHIF's `pages` and the archive `name`."""
    command = [sys.executable, "-m", "isoline.demo.ohif.site", "--config", str(config)]
    return [*command, "--pages", str(pages), "--archive", name]


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
