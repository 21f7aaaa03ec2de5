"""Formats 1, as the last isoline that knew of no version left them, and this one goes on with them.

`formats_1/data` holds one job that had ended, and one whose server was killed after four of sixteen
tiles. The digests are those of that server.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from isoline.config.data_directory import VERSION_FILE
from isoline.config.migrations import MIGRATIONS
from tests.killable import digest, features, running

pytestmark = pytest.mark.slow

LEFT = Path(__file__).parent / "formats_1"
MORE = "[engine]\nworkers = 1\n[limits]\njob_hours = 1e7\n"
JOBS = {
    "48f657036d973f737dbdd5b8": (
        36,
        "10dd765eeef622df8c017d45b4bbea6e2c0bf8626cb318a95881e0292bf1b0c2",
    ),
    "cc5f244258fb28e2b4dd1fbd": (
        16,
        "f229f426abda68c4c86fef44798e8e56917d26a412014c57562d170ff3a275ab",
    ),
}


def test_jobs_in_formats_1_are_replayed_and_go_on(tmp_path: Path) -> None:
    shutil.copytree(LEFT / "data", tmp_path / "data")
    with running(LEFT / "images", tmp_path / "data", more=MORE) as server:
        told = {job: list(server.client.job(job).events()) for job in JOBS}
    assert {job: (len(features(all_)), digest(all_)) for job, all_ in told.items()} == JOBS
    said = json.loads((tmp_path / "data" / VERSION_FILE).read_bytes())
    assert said["formats"] == 1 + len(MIGRATIONS) > 1
