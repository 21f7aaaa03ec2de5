"""A real Orthanc with its DICOMweb plugin, for the length of a block."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pydicom
import pytest
import requests

from tests.serving import free_port

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "radiology", "for a test"


@contextlib.contextmanager
def orthanc(folder: Path) -> Iterator[str]:
    """Run an archive that keeps its data below `folder`, and yield its DICOMweb URL.

    It wants USER and PASSWORD. The test is skipped where Orthanc is not installed, except in CI.
    """
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    if program is None or not PLUGIN.exists():
        if os.environ.get("CI") == "true":
            raise AssertionError("apt-get install orthanc orthanc-dicomweb")
        pytest.skip("needs apt-get install orthanc orthanc-dicomweb")
    port = free_port()
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "Plugins": [str(PLUGIN)],
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "DicomServerEnabled": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "HttpThreadsCount": 16,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log)
    base = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            with contextlib.suppress(requests.ConnectionError):
                if requests.get(f"{base}/system", auth=(USER, PASSWORD), timeout=5).ok:
                    break
            time.sleep(0.1)
        yield f"{base}/dicom-web"
    finally:
        process.terminate()
        process.wait(20)


def store(url: str, files: Iterable[Path]) -> None:
    """Send DICOM files to the archive (STOW-RS)."""
    from dicomweb_client.api import DICOMwebClient

    session = requests.Session()
    session.auth = (USER, PASSWORD)
    DICOMwebClient(url, session=session).store_instances([pydicom.dcmread(f) for f in files])
