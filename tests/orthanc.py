"""A real Orthanc with its DICOMweb plugin, for the length of a block."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pydicom
import pytest
import requests

from isoline.demo.ohif import orthanc as archive
from isoline.demo.ohif.orthanc import USER
from isoline.errors import Broken

__all__ = ("PASSWORD", "USER", "orthanc", "store")
PASSWORD = "for a test"


@contextlib.contextmanager
def orthanc(folder: Path) -> Iterator[str]:
    """Run an archive that keeps its data below `folder`, and yield its DICOMweb URL.

    It wants USER and PASSWORD. The test is skipped where Orthanc is not installed, except in CI.
    """
    try:
        archive.find()
    except Broken as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    with archive.running(folder, PASSWORD) as reached:
        yield reached.url


def store(url: str, files: Iterable[Path]) -> None:
    """Send DICOM files to the archive (STOW-RS)."""
    from dicomweb_client.api import DICOMwebClient

    session = requests.Session()
    session.auth = (USER, PASSWORD)
    DICOMwebClient(url, session=session).store_instances([pydicom.dcmread(f) for f in files])
