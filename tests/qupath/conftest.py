"""One server for all tests of QuPath's client that leave its configuration alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import serving
from tests.slides import Shapes


@pytest.fixture(scope="session")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server finds what is below /crops."""
    return tmp_path_factory.mktemp("crops")


@pytest.fixture(scope="session")
def server(
    disk_slide: Shapes, crops: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    roots = f"crops = '{crops}'\n[file_uris]\n'S:\\scans' = 'slides'\n'/crops' = 'crops'\n"
    data = tmp_path_factory.mktemp("data")
    with serving(disk_slide.path.parent, data, more=roots) as url:
        yield url
