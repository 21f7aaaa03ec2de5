"""`docs/examples/napari`, in napari's own viewer model, with a real server and real images."""

from __future__ import annotations

import importlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from isoline_client import ONCE, Cancelled, Client, Run
from tests import killable, volumes
from tests.serving import serving
from tests.slides import CHANNELS, Shapes, colour, disks, fluorescence, reduce_mean

components = pytest.importorskip("napari.components", reason="napari is not installed")
sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "examples" / "napari"))
napari_isoline = importlib.import_module("napari_isoline")

pytestmark = pytest.mark.slow

ONE_WORKER = "[engine]\nworkers = 1\nurgent_workers = 1\n"
PATIENCE_SECONDS = 60
SIZE = 1501, 1203
VOLUME = (24, 20, 9)
INSIDE = (300, 150, 1150, 800)
"""x0, y0, x1, y1 of the region that is drawn."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    things = np.full((120, 160, 3), 240, np.uint8)
    for n in range(4):
        things[20:40, 10 + 30 * n : 25 + 30 * n] = 20
    Image.fromarray(things).save(folder / "things.png")
    where = volumes.grid(VOLUME)
    ramp = nibabel.Nifti1Image(volumes.ramp(where.shape).T, np.diag([-0.8, -1.1, 2.5, 1]))
    nibabel.save(ramp, folder / "ramp.nii.gz")
    dark = np.full((9, 20, 24), 500, np.int16)
    dark[2:5, 3:7, 4:9] = dark[6:8, 12:15, 14:20] = 0
    nibabel.save(nibabel.Nifti1Image(dark.T, np.diag([-0.8, -1.1, 2.5, 1])), folder / "dark.nii.gz")
    return folder


@pytest.fixture(scope="module")
def slide(images: Path) -> Shapes:
    return disks(images / "disks.tif", SIZE)


@pytest.fixture(scope="module")
def stained(images: Path) -> NDArray[np.uint16]:
    return fluorescence(images / "stained.ome.tif")


@pytest.fixture(scope="module")
def url(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(images, tmp_path_factory.mktemp("data"), more=ONE_WORKER) as url:
        yield url


def opened(url: str, image: str) -> Any:
    return napari_isoline.Adapter(components.ViewerModel(), Client(url), f"slides/{image}")


@pytest.fixture
def adapter(url: str, slide: Shapes) -> Any:
    """The slide, open in a viewer."""
    return opened(url, slide.path.name)


def until(adapter: Any, happened: Callable[[], object]) -> str:
    """Let the timer tick until something has happened; return what the user is told then."""
    told, patience = "", time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < patience, told
        time.sleep(0.02)
        told = adapter.update()
    return str(adapter.update())


def finish(adapter: Any, model: str) -> str:
    return until(adapter, lambda: adapter.results[model].run.is_over)


def answered(adapter: Any, model: str) -> str:
    """Wait for the answer to what is marked; return what the user is told."""
    return until(adapter, lambda: not adapter.results[model].clicks.is_asking)


def shown(adapter: Any, model: str) -> NDArray[np.int32]:
    """Return what is painted at full resolution: (y, x) of a slide, (k, j, i) of a volume."""
    data = adapter.results[model].layer.data
    return np.asarray(data[0] if adapter.results[model].layer.multiscale else data)


def objects(numbers: NDArray[np.int32], labels: NDArray[np.int32]) -> dict[int, int]:
    """Return label -> number of what is shown. Fails if anything is not one of `labels`, whole."""
    found = np.unique(labels[numbers > 0])
    assert np.isin(labels, found[found > 0]).tolist() == (numbers > 0).tolist()
    pairs = np.unique(np.stack([labels[numbers > 0], numbers[numbers > 0]]), axis=1)
    assert pairs.shape[1] == len(found) == len(np.unique(pairs[1]))
    return dict(pairs.T.tolist())


def opacities(adapter: Any, model: str) -> set[float]:
    """Return the opacities of the objects that are shown."""
    layer = adapter.results[model].layer
    return {round(float(layer.get_color(n)[3]), 2) for n in np.unique(shown(adapter, model)) if n}


def zoom(layer: Any, y0: int, x0: int, y1: int, x1: int) -> None:
    """Look at a part of a layer, as the canvas does it when it draws, in 800 x 600 pixels."""
    layer._update_draw(1.0, np.array([[y0, x0], [y1, x1]]), np.array([600, 800]))


# Slides


def test_a_slide_is_the_pyramid_of_the_file(adapter: Any, slide: Shapes) -> None:
    layer = adapter.viewer.layers["slides/disks.tif"]
    pixels = colour(slide.labels)
    assert layer.multiscale
    assert layer.rgb
    np.testing.assert_array_equal(np.asarray(layer.data[1]), reduce_mean(pixels, 4))
    zoom(layer, 500, 700, 900, 1300)
    (top, left), (bottom, right) = layer.corner_pixels
    assert layer.data_level == 0
    np.testing.assert_array_equal(
        layer._slice.image.raw, pixels[top : bottom + 1, left : right + 1]
    )


def test_channels_are_layers(url: str, stained: NDArray[np.uint16]) -> None:
    adapter = opened(url, "stained.ome.tif")
    layers = [adapter.viewer.layers[name] for name in CHANNELS]
    seen = np.stack([np.asarray(layer.data[0]) for layer in layers])
    np.testing.assert_array_equal(seen, stained[1])


@pytest.mark.parametrize("kind", ["rectangle", "polygon"])
def test_a_region_is_what_is_drawn(adapter: Any, slide: Shapes, kind: str) -> None:
    """Objects wholly inside are all found, those wholly outside are not, each of them whole."""
    x0, y0, x1, y1 = INSIDE
    corners = [[y0, x0], [y0, x1], [y1, x1], [y1, x0]]
    if kind == "polygon":
        corners.pop()
    adapter.regions.add(corners, shape_type=kind)
    adapter.segment("threshold")
    told = finish(adapter, "threshold")
    found = objects(shown(adapter, "threshold"), slide.labels)
    y, x = np.mgrid[: SIZE[1], : SIZE[0]] + 0.5
    inside = (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
    if kind == "polygon":  # above the diagonal from the first to the third corner
        inside &= (y - y0) * (x1 - x0) < (x - x0) * (y1 - y0)
    touched = set(np.unique(slide.labels[inside]).tolist()) - {0}
    cut = set(np.unique(slide.labels[~inside]).tolist())
    assert touched - cut <= set(found) <= touched
    assert len(touched - cut) > 20
    assert re.fullmatch(r"threshold: (\d) of \1 tiles", told)


def test_everything_where_nothing_is_drawn(adapter: Any, slide: Shapes) -> None:
    adapter.segment("threshold")
    finish(adapter, "threshold")
    assert len(objects(shown(adapter, "threshold"), slide.labels)) == slide.count


def test_each_zoom_shows_the_same_objects(adapter: Any, slide: Shapes) -> None:
    adapter.segment("threshold")
    finish(adapter, "threshold")
    layer, full = adapter.results["threshold"].layer, shown(adapter, "threshold")
    coarse, factor = np.asarray(layer.data[-1]), SIZE[0] / layer.data[-1].shape[1]
    y, x = (((np.arange(n) + 0.5) * factor).astype(int) for n in coarse.shape)
    assert np.mean(coarse == full[np.ix_(y.clip(0, SIZE[1] - 1), x)]) > 0.99
    zoom(layer, 500, 700, 900, 1300)
    (top, left), (bottom, right) = layer.corner_pixels
    part = full[top : bottom + 1, left : right + 1]
    np.testing.assert_array_equal(layer._slice.image.raw, part)


def test_the_cursor_tells_what_it_is_on(adapter: Any, slide: Shapes) -> None:
    adapter.segment("threshold")
    finish(adapter, "threshold")
    layer, (label, number) = (
        adapter.results["threshold"].layer,
        [*objects(shown(adapter, "threshold"), slide.labels).items()][20],
    )
    y, x = np.argwhere(slide.labels == label)[0].tolist()
    zoom(layer, y - 20, x - 20, y + 20, x + 20)
    feature = adapter.results["threshold"].feature_at((y, x))
    told = layer.get_status((y, x), world=True)["value"]
    assert told == f"0, {number}; label: Foreground, id: {feature['id']}"


def begin(adapter: Any) -> Any:
    """Take up a run of small tiles, whose areas grow piece by piece; return what it finds."""
    parameters = {"output": "mask"}
    run = Run(adapter.client, adapter.image.name, "threshold", tile=64, parameters=parameters)
    adapter.resume("threshold", run.start().bookmark)
    store = adapter.results["threshold"].run.store
    until(adapter, lambda: store.provisional)
    return store


def test_pieces_are_faint_until_they_are_final(adapter: Any, slide: Shapes) -> None:
    store = begin(adapter)
    assert napari_isoline.FAINT in opacities(adapter, "threshold")
    finish(adapter, "threshold")
    assert not store.provisional
    assert opacities(adapter, "threshold") == {1.0}
    assert len(objects(shown(adapter, "threshold"), slide.labels)) == slide.count


def test_stopping_keeps_what_is_final(adapter: Any) -> None:
    store = begin(adapter)
    adapter.cancel()
    told = finish(adapter, "threshold")
    assert isinstance(store.end, Cancelled)
    assert opacities(adapter, "threshold") == {1.0}
    assert len(adapter.results["threshold"].layer.features) == len(store.objects) > 0
    done, tiles = re.findall(r"\d+", told)
    assert 0 < int(done) < int(tiles)


def test_a_second_run_replaces_the_first_but_not_what_was_edited(
    adapter: Any, slide: Shapes
) -> None:
    adapter.segment("threshold")
    finish(adapter, "threshold")
    hollow = next(
        feature
        for feature in adapter.results["threshold"].run.store.objects.values()
        if len(feature["geometry"]["coordinates"]) == 2
    )
    x, y = hollow["geometry"]["coordinates"][0][0]
    zoom(adapter.results["threshold"].layer, y - 20, x - 20, y + 20, x + 20)
    adapter.edit((y, x))
    assert (
        0
        < np.count_nonzero(shown(adapter, "threshold"))
        == (slide.area_px.sum() - signed_area(adapter.edited.data[0]))
    )
    adapter.segment("threshold", below=60)
    finish(adapter, "threshold")
    assert not shown(adapter, "threshold").any()
    assert len(adapter.edited.data) == 1


def signed_area(corners: NDArray[np.float64]) -> float:
    """The shoelace formula: holes, which turn the other way, are left out."""
    y, x = corners.T.astype(float)
    return abs(float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))) / 2


def test_a_second_run_with_the_same_settings_changes_nothing(adapter: Any) -> None:
    adapter.segment("threshold")
    finish(adapter, "threshold")
    first = shown(adapter, "threshold")
    adapter.segment("threshold")
    finish(adapter, "threshold")
    np.testing.assert_array_equal(shown(adapter, "threshold"), first)


def test_a_run_is_taken_up_in_another_session(url: str, adapter: Any, slide: Shapes) -> None:
    begin(adapter)
    later = opened(url, slide.path.name)
    later.resume("threshold", adapter.results["threshold"].run.bookmark)
    finish(later, "threshold")
    assert len(objects(shown(later, "threshold"), slide.labels)) == slide.count


def test_a_killed_server_costs_nothing(images: Path, slide: Shapes, tmp_path: Path) -> None:
    with killable.running(images, tmp_path, more=ONE_WORKER) as server:
        adapter = opened(server.url, slide.path.name)
        begin(adapter)
        server.kill()
        adapter.update()
        assert len(np.unique(shown(adapter, "threshold"))) - 1 < slide.count
        server.start()
        finish(adapter, "threshold")
    assert adapter.results["threshold"].run.error is None
    assert len(objects(shown(adapter, "threshold"), slide.labels)) == slide.count
    assert len(adapter.results["threshold"].layer.features) == slide.count


def test_a_run_that_was_given_up_goes_on(images: Path, slide: Shapes, tmp_path: Path) -> None:
    with killable.running(images, tmp_path, more=ONE_WORKER) as server:
        adapter = opened(server.url, slide.path.name)
        adapter.client = Client(server.url, policy=ONCE)
        begin(adapter)
        server.kill()
        told = finish(adapter, "threshold")
        server.start()
        adapter.resume("threshold")
        finish(adapter, "threshold")
    assert told.startswith("threshold: the events broke off")
    assert len(objects(shown(adapter, "threshold"), slide.labels)) == slide.count


# Clicks


def thing(*numbers: int) -> NDArray[np.bool_]:
    """Return (y, x) where these of the four things are."""
    mask = np.zeros((120, 160), np.bool_)
    for n in numbers:
        mask[20:40, 10 + 30 * n : 25 + 30 * n] = True
    return mask


def on(n: int, y: float = 30.5) -> list[list[float]]:
    """Return a place on a thing, as image coordinates y, x."""
    return [[y, 15.5 + 30 * n]]


@pytest.fixture
def clicking(url: str) -> Any:
    adapter = opened(url, "things.png")
    adapter.click("flood")
    return adapter


def test_points_include_and_exclude(clicking: Any) -> None:
    seen = []
    for include, n in ((True, 0), (True, 1), (False, 0)):
        clicking.points.feature_defaults = {"include": include}
        clicking.points.add(on(n, y=30.5 if include else 25.5))
        answered(clicking, "flood")
        seen.append(shown(clicking, "flood") > 0)
    expected = [thing(0), thing(0, 1), thing(1)]
    np.testing.assert_array_equal(seen, expected)


def test_a_mark_that_is_refused_tells_why_and_changes_nothing(clicking: Any) -> None:
    clicking.points.add(on(0))
    answered(clicking, "flood")
    clicking.points.feature_defaults = {"include": False}
    clicking.points.add(on(0))
    assert "prompts[1]" in answered(clicking, "flood")
    np.testing.assert_array_equal(shown(clicking, "flood") > 0, thing(0))


def test_undo_and_no_marks_at_all(clicking: Any) -> None:
    clicking.points.add([*on(0), *on(2)])
    answered(clicking, "flood")
    clicking.undo()
    answered(clicking, "flood")
    np.testing.assert_array_equal(shown(clicking, "flood") > 0, thing(0))
    clicking.undo()
    clicking.update()
    assert not shown(clicking, "flood").any()


def test_what_is_accepted_stays_and_is_not_faint_any_more(clicking: Any) -> None:
    clicking.points.add(on(0))
    answered(clicking, "flood")
    assert opacities(clicking, "flood") == {napari_isoline.FAINT}
    clicking.accept()
    assert opacities(clicking, "flood") == {1.0}
    assert len(clicking.points.data) == 0
    clicking.points.add(on(3))
    answered(clicking, "flood")
    np.testing.assert_array_equal(shown(clicking, "flood") > 0, thing(0, 3))
    clicking.undo()
    clicking.update()
    np.testing.assert_array_equal(shown(clicking, "flood") > 0, thing(0))


def test_a_lasso_and_a_moved_point(clicking: Any) -> None:
    corners = [on(n)[0] for n in (0, 1)] + [[31.5, 20.5]]
    clicking.regions.add(corners, shape_type="polygon")
    answered(clicking, "flood")
    np.testing.assert_array_equal(shown(clicking, "flood") > 0, thing(0, 1))
    clicking.points.add(on(2))
    answered(clicking, "flood")
    clicking.points.data = on(3)
    answered(clicking, "flood")
    np.testing.assert_array_equal(shown(clicking, "flood") > 0, thing(0, 1, 3))


def test_a_click_on_nothing_tells_why(clicking: Any) -> None:
    clicking.points.add([[100.5, 100.5]])
    assert answered(clicking, "flood") == "flood: it is bright there"


# Volumes


def test_a_volume_is_labelled_voxel_by_voxel(url: str) -> None:
    adapter = opened(url, "ramp.nii.gz")
    layer = adapter.viewer.layers["slides/ramp.nii.gz"]
    np.testing.assert_array_equal(layer.data, volumes.ramp((9, 20, 24)))
    np.testing.assert_allclose(layer.scale, [2.5, 1.1, 0.8], rtol=1e-6)
    adapter.segment("threshold3d", above=900)
    finish(adapter, "threshold3d")
    np.testing.assert_array_equal(shown(adapter, "threshold3d"), layer.data >= 900)
    np.testing.assert_allclose(adapter.results["threshold3d"].layer.scale, layer.scale)


def test_slices_that_the_user_painted_stay(url: str) -> None:
    adapter = opened(url, "ramp.nii.gz")
    voxels = adapter.viewer.layers["slides/ramp.nii.gz"].data
    adapter.segment("threshold3d", above=900)
    finish(adapter, "threshold3d")
    layer = adapter.results["threshold3d"].layer
    layer.brush_size = 1
    layer.paint((3, 2, 2), 1)
    touched = layer.data[3].copy()
    adapter.segment("threshold3d", above=100)
    finish(adapter, "threshold3d")
    expected = (voxels >= 100).astype(np.uint8)
    expected[3] = touched
    np.testing.assert_array_equal(layer.data, expected)
    assert touched[2, 2] == 1


def test_a_click_in_a_volume(url: str) -> None:
    adapter = opened(url, "dark.nii.gz")
    adapter.click("flood")
    adapter.points.add([[3, 4, 6]])
    answered(adapter, "flood")
    first = np.zeros((9, 20, 24), np.uint8)
    first[2:5, 3:7, 4:9] = 1
    np.testing.assert_array_equal(shown(adapter, "flood"), first)
    adapter.accept()
    adapter.points.add([[7, 13, 15]])
    answered(adapter, "flood")
    both = first.copy()
    both[6:8, 12:15, 14:20] = 2
    np.testing.assert_array_equal(shown(adapter, "flood"), both)
    adapter.undo()
    adapter.update()
    np.testing.assert_array_equal(shown(adapter, "flood"), first)
