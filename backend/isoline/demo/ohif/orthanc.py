"""A real archive for the duration of a `with` block: Orthanc with its DICOMweb plugin."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import requests

from isoline.config.settings import DicomWeb
from isoline.demo.child_server import free_port
from isoline.errors import Broken

_PLACES = ("/usr/share", "/usr/local/share", "/usr/lib", "/opt")
_LIBRARY = "orthanc/plugins/libOrthancDicomWeb.so"
USER = "isoline"
_SECONDS = 60


def find() -> tuple[str, Path]:
    """Return Orthanc's executable and its DICOMweb plugin. Raises Broken if one is missing."""
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    plugin = next(filter(Path.exists, (Path(place) / _LIBRARY for place in _PLACES)), None)
    if program is None or plugin is None:
        raise Broken(
            "Orthanc with DICOMweb is not installed",
            "on Debian and Ubuntu: apt-get install orthanc orthanc-dicomweb",
        )
    return program, plugin


@contextlib.contextmanager
def running(folder: Path, password: str = "") -> Iterator[DicomWeb]:
    """Run an archive that stores everything below `folder`, and yield its connection settings.

    It listens on loopback and requires USER and `password`, by default a random one. Raises Broken
    if Orthanc is not installed or does not start.
    """
    program, plugin = find()
    port, password = free_port(), password or secrets.token_urlsafe(16)
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "Plugins": [str(plugin)],
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "DicomServerEnabled": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: password},
        "HttpThreadsCount": 16,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    file, log = folder / "orthanc.json", folder / "orthanc.log"
    file.touch(0o600)
    file.write_text(json.dumps(settings))
    login = base64.b64encode(f"{USER}:{password}".encode()).decode()
    archive = DicomWeb(f"http://127.0.0.1:{port}/dicom-web", {"Authorization": f"Basic {login}"})
    with log.open("wb") as output:
        process = subprocess.Popen([program, str(file)], stdout=output, stderr=output)
    try:
        _await(process, archive, log)
        yield archive
    finally:
        process.terminate()
        process.wait(20)


def _await(process: subprocess.Popen[bytes], archive: DicomWeb, log: Path) -> None:
    for _ in range(_SECONDS * 10):
        if process.poll() is not None:
            break
        with contextlib.suppress(requests.ConnectionError):
            if requests.get(f"{archive.url}/studies", headers=archive.headers, timeout=5).ok:
                return
        time.sleep(0.1)
    reason = (log.read_text(errors="replace").strip().splitlines() or ["its log is empty"])[-1]
    raise Broken(f"Orthanc did not start: {reason}", f"see {log}")
