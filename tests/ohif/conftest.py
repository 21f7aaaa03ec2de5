"""One archive, one server and one browser for all tests of OHIF."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, expect
from pydicom.dataset import Dataset

from isoline.demo.ohif import head
from tests import browser
from tests.ohif import stack
from tests.ohif.stack import Stack

EVERY = 3
"""The head is thinned to every third voxel: OHIF shows it sooner."""
PATIENCE_MS = 60_000
"""How long a test waits for what is to appear: a loaded machine without a GPU is slow."""


@dataclass(frozen=True)
class Series:
    """A series in the archive."""

    study: str
    series: str
    image: str
    """What isoline calls it."""
    instances: Sequence[Dataset]


@pytest.fixture(scope="package")
def ohif(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """OHIF, an archive and isoline at one origin, until the last test of this folder."""
    with stack.running(tmp_path_factory.mktemp("ohif")) as running:
        yield running


@pytest.fixture(scope="package")
def mr_head(ohif: Stack, tmp_path_factory: pytest.TempPathFactory) -> Series:
    """A real head in the archive: MR, axial, 61 slices of 73 x 61 voxels of 3 mm."""
    import nibabel

    whole = nibabel.load(stack.needed(head.find))
    thin = nibabel.Nifti1Image(
        np.asarray(whole.dataobj)[::EVERY, ::EVERY, ::EVERY],
        whole.affine @ np.diag([EVERY, EVERY, EVERY, 1]),
    )
    path: Path = tmp_path_factory.mktemp("head") / "head.nii"
    nibabel.save(thin, path)
    instances = list(head.series(path))
    study, series = ohif.store(instances), str(instances[0].SeriesInstanceUID)
    return Series(study, series, ohif.name(study, series), instances)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser; playwright allows one at a time, so it is closed with the module."""
    expect.set_options(timeout=PATIENCE_MS)
    with browser.launched() as opened:
        yield opened
