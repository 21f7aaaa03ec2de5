"""The client's parts on a real server: pixels, uploads, and runs in place of earlier ones."""

from __future__ import annotations

import shutil
import time

import nibabel
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from isoline.client import Cancelled, Client, Contours, Done, Run, paint
from tests.conftest import SharedServer
from tests.slides import Shapes

pytestmark = pytest.mark.slow

SLIDE = "slides/client-disks.tif"
REGION = [0, 0, 2048, 2048]
UNTIL = 120.0


@pytest.fixture(scope="module")
def client(shared_server: SharedServer, disk_slide: Shapes) -> Client:
    shutil.copy(disk_slide.path, shared_server.images / "client-disks.tif")
    return Client(shared_server.url)


@pytest.fixture(scope="module")
def ball(shared_server: SharedServer) -> NDArray[np.int16]:
    """The (k, j, i) voxels of slides/ball.nii.gz."""
    i, j, k = np.mgrid[:40, :30, :12]
    inside = (i - 25) ** 2 + (j - 10) ** 2 + (2 * k - 9) ** 2 < 70
    voxels: NDArray[np.int16] = np.where(inside, 200, 0).astype(np.int16)
    affine = np.diag([-0.5, -0.6, 2.0, 1.0])  # NIfTI is RAS
    nibabel.save(nibabel.Nifti1Image(voxels, affine), shared_server.images / "ball.nii.gz")
    return np.ascontiguousarray(voxels.T)


def to_the_end(run: Run) -> Run:
    limit = time.monotonic() + UNTIL
    while not run.is_over and time.monotonic() < limit:
        run.update(0.2)
    assert run.error is None
    return run


def fresh(client: Client, **parameters: int) -> set[str]:
    events = client.submit(SLIDE, "threshold", region=REGION, parameters=parameters).events()
    contours = [event for event in events if isinstance(event, Contours)]
    return {feature["id"] for event in contours for feature in event.features}


def test_a_level_has_the_pixels_of_the_file(client: Client, disk_slide: Shapes) -> None:
    levels = client.slide_levels(SLIDE)
    with tifffile.TiffFile(disk_slide.path) as tiff:
        pages = [page.asarray() for page in tiff.pages]
    assert [level.shape for level in levels] == [page.shape for page in pages]
    fine, middle, coarse = levels
    assert (fine[700:760, 5900:] == pages[0][700:760, 5900:]).all()
    off = [
        np.abs(middle[100:400, 900:1300].astype(int) - pages[1][100:400, 900:1300]),
        np.abs(coarse[...].astype(int) - pages[2]),
    ]
    assert [each.mean() < 2 for each in off] == [True, True]


def test_pixels_come_as_they_are(client: Client, disk_slide: Shapes) -> None:
    box = (5990, 4990, 6007, 5003)
    green = client.read(SLIDE, box, channel="green")
    whole = tifffile.imread(disk_slide.path)
    assert (green[0] == whole[4990:5003, 5990:6007, 1]).all()
    assert client.picture(SLIDE, box).startswith(b"\x89PNG")


def test_a_run_again_ends_with_what_a_fresh_run_finds(client: Client) -> None:
    run = to_the_end(
        Run(client, SLIDE, "threshold", region=REGION, parameters={"below": 200}).start()
    )
    before = {*run.store.objects}
    later = fresh(client, below=100)
    kept = min(before - later)
    run.store.keep(kept)
    to_the_end(run.again(parameters={"below": 100}))
    assert isinstance(run.store.end, Done)
    assert {*run.store.objects} == later | {kept}
    to_the_end(run.again(parameters={"below": 200}))
    assert {*run.store.objects} == before


def test_a_run_again_that_is_cancelled_leaves_nothing_provisional(client: Client) -> None:
    options = {"seconds": 0.3}
    run = Run(client, SLIDE, "slow", region=REGION, parameters=options).start()
    while not run.store.objects:
        run.update(UNTIL)
    run.again()
    while run.store.started is None:
        run.update(UNTIL)
    run.cancel()
    to_the_end(run)
    assert isinstance(run.store.end, Cancelled)
    assert not run.store.provisional
    assert {*run.store.objects} == {each["id"] for each in run.store.final()}


def test_an_uploaded_volume_gives_what_its_file_gives(
    client: Client, ball: NDArray[np.int16]
) -> None:
    info = client.image("slides/ball.nii.gz")
    assert info.volume is not None
    read = client.read_volume("slides/ball.nii.gz")
    assert (read == ball).all()
    found: list[NDArray[np.uint8]] = []
    for name in (
        "slides/ball.nii.gz",
        client.upload_volume(read.astype(np.float32), info.volume, "threshold3d"),
    ):
        run = to_the_end(Run(client, name, "threshold3d", parameters={"above": 100}).start())
        labels = np.zeros(info.volume.shape, np.uint8)
        for plane, layers in run.store.final_slices().items():
            paint(labels, plane, layers)
        found.append(labels)
    assert (found[0] == (ball > 100)).all()
    assert (found[1] == found[0]).all()


@pytest.mark.usefixtures("ball")
def test_a_run_again_in_a_volume_empties_what_it_does_not_find(client: Client) -> None:
    run = Run(client, "slides/ball.nii.gz", "threshold3d", parameters={"above": 100}).start()
    to_the_end(run)
    assert any(run.store.slices.values())
    to_the_end(run.again(parameters={"above": 1000}))
    assert not any(run.store.slices.values())
