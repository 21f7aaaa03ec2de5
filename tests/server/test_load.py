"""Fifty users for a minute: `tests.benchmarks.load` is the long form and prints the figures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.benchmarks.load import ENGINE, load, settle
from tests.killable import running
from tests.slides import disks

pytestmark = pytest.mark.slow

SECONDS, USERS = 40.0, 50


@pytest.mark.skipif(sys.platform != "linux", reason="counts what processes hold as on Linux")
def test_fifty_users(tmp_path: Path) -> None:
    images, data = tmp_path / "images", tmp_path / "data"
    images.mkdir()
    data.mkdir()
    shapes = disks(images / "disks.tif")
    with running(images, data, more=ENGINE) as server:
        load(server, shapes, 5, USERS)
        before = settle(server)
        tally = load(server, shapes, SECONDS, USERS)
        after = settle(server)
    assert tally.unannounced == []
    assert tally.did.keys() == {"click", "region", "list", "cancel"}
    assert tally.statuses[200] > USERS
    assert after.processes == before.processes
    assert after.threads <= before.threads + 20  # those of gunicorn come as they are needed
    assert after.files <= before.files + 5
    assert after.mib < before.mib + 200
