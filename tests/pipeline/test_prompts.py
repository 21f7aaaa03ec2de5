"""Prompts: what is refused, where an answer lies, what is read again, and who asks whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from isoline.config.settings import Limits
from isoline.domain import mask_rle
from isoline.domain.prompts import KINDS, DrawnSlice, Prompt
from isoline.errors import BadPrompt, BadRegion, NotSupported
from isoline.geometry.grid import Box
from isoline.geometry.region import Region
from isoline.images.catalog import Images
from isoline.images.uploads import Uploads
from isoline.inference.resources import Resources
from isoline.models.catalogue import ModelCatalogue
from isoline.models.promptable import Window
from isoline.sources.byte_cache import ByteCache
from isoline.sources.plain import PlainSource
from isoline.sources.upload import UploadRequest
from tests import volumes
from tests.images.test_uploads import send
from tests.planning import footprint, prompt_plan
from tests.prompting import answer, asking, drawn, labelmap, models_for_tests, outline, point

WHERE = volumes.grid(size=(40, 30, 22), axes=volumes.turned(0.4, -0.3, 1.2))
THING = (slice(5, 9), slice(12, 15), slice(20, 27))
"""k, j, i of what is dark in the volumes."""


@pytest.fixture(scope="module", autouse=True)
def _flood() -> Iterator[None]:
    with models_for_tests():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with one dark pixel and a few dark boxes; a CT and an MR with one dark box."""
    folder = tmp_path_factory.mktemp("prompts")
    picture = np.full((203, 301, 3), 250, np.uint8)
    picture[50, 77] = 0
    picture[96:104, 200:216] = 20
    picture[100:102, 205:210] = 250
    picture[200:203, 296:301] = 20
    Image.fromarray(picture).save(folder / "p.png")
    voxels = np.full(WHERE.shape, 1000, np.int16)
    voxels[THING] = -500
    backwards = np.random.default_rng(2).permutation(22).tolist()
    volumes.write_classic(folder / "ct", WHERE, voxels, backwards)
    ras = np.diag([-1, -1, 1, 1.0]) @ WHERE.affine
    nibabel.save(nibabel.Nifti1Image(voxels.T, ras), folder / "ct.nii.gz")
    return folder


@pytest.fixture(scope="module")
def images(folder: Path) -> Images:
    return Images({"": folder})


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Resources]:
    bench = Resources(ModelCatalogue(tmp_path), "cpu")
    yield bench
    bench.close()


# --- Where answers lie -------------------------------------------------------------------------


def test_the_golden_pixel(images: Images, bench: Resources) -> None:
    found = answer(asking("p.png", point(77.5, 50.5)), images, bench)
    assert outline(found).equals(shapely.box(77, 50, 78, 51))
    missed = answer(asking("p.png", point(76.99, 50.5)), images, bench)
    assert (missed.found, missed.reason) == (None, "it is bright there")


def test_the_golden_pixel_of_a_coarse_level(images: Images, bench: Resources) -> None:
    parameters = {"level": 2, "below": 245}
    found = answer(asking("p.png", point(77.5, 50.5), parameters=parameters), images, bench)
    assert outline(found).equals(shapely.box(76, 48, 80, 52))


def test_a_hole_and_the_edge_of_the_image(images: Images, bench: Resources) -> None:
    box = shapely.box(200, 96, 216, 104) - shapely.box(205, 100, 210, 102)
    assert outline(answer(asking("p.png", point(201, 97)), images, bench)).equals(box)
    corner = asking("p.png", point(300.9, 202.9))
    assert outline(answer(corner, images, bench)).equals(shapely.box(296, 200, 301, 203))
    # at level 2 the last pixels reach beyond the image, and are cut there
    coarse = replace(corner, parameters={"level": 2, "below": 240})
    assert outline(answer(coarse, images, bench)).equals(shapely.box(296, 200, 301, 203))


def test_several_parts_are_one_object(images: Images, bench: Resources) -> None:
    both = asking("p.png", point(77.5, 50.5), point(201, 97))
    shape = outline(answer(both, images, bench))
    assert len(shape.geoms) == 2
    one = asking("p.png", *both.prompts, drawn("scribble", (203, 98), (204, 98), include=False))
    assert outline(answer(one, images, bench)).equals(shapely.box(77, 50, 78, 51))


@pytest.mark.parametrize("level", [0, 1])
def test_voxels_lie_where_they_were_asked_for(images: Images, bench: Resources, level: int) -> None:
    """An oblique, off-origin series, its files in no order, and the same as a NIfTI file."""
    truth = np.zeros(WHERE.shape, np.uint8)
    truth[THING] = 1
    at = (26, 12, 8)
    lps = tuple(WHERE.to_lps(np.array(at)).tolist())
    request = asking("ct", point(*at), format="ohif", parameters={"level": level, "below": 300})
    found = labelmap(answer(request, images, bench), WHERE.shape)
    if level == 0:
        np.testing.assert_array_equal(found, truth)
    else:
        assert found.any()
        assert (found >= truth)[:, 12:14].all()
    for same in (
        replace(request, prompts=(point(*lps),), frame_of_reference=volumes.FRAME),
        replace(request, prompts=(point(*np.add(at, (0.49, -0.49, 0.49)).tolist()),)),
        replace(request, image="ct.nii.gz"),
    ):
        np.testing.assert_array_equal(labelmap(answer(same, images, bench), WHERE.shape), found)
    beside = replace(request, prompts=(point(27, 12, 8),), parameters={})
    assert answer(beside, images, bench).found is None


def test_an_outline_to_start_from(images: Images, bench: Resources) -> None:
    begun = Region.rectangle(10, 20, 14, 22)
    request = asking("p.png", point(77.5, 50.5), initial=begun)
    shape = outline(answer(request, images, bench))
    assert shape.equals(
        shapely.union_all([shapely.box(10, 20, 14, 22), shapely.box(77, 50, 78, 51)])
    )
    thin = replace(request, initial=Region.rectangle(10.6, 20.6, 10.9, 20.9))
    with pytest.raises(BadPrompt, match="contains no pixel"):
        answer(thin, images, bench)


def test_slices_to_start_from(images: Images, bench: Resources) -> None:
    begun = np.zeros(WHERE.shape, np.uint8)
    begun[2:4, 25:30, 3:5] = 1
    begun[3, 27, 4] = 0
    coded = dict(mask_rle.layers(mask_rle.encode(begun, range(len(begun)))))
    slices = tuple(
        DrawnSlice(k, layer.box, layer.code) for k, layers in coded.items() for layer in layers
    )
    request = asking("ct", point(5, 5, 5, include=False), initial=slices, format="ohif")
    np.testing.assert_array_equal(labelmap(answer(request, images, bench), WHERE.shape), begun)


# --- What a model is shown ---------------------------------------------------------------------


def test_levels_of_a_slide_are_means_of_its_pixels(real_slide: Path, bench: Resources) -> None:
    request = asking(real_slide.name, point(5000, 6000))
    prepared = prompt_plan(request, Images.of_file(real_slide), real_slide)
    scene = prepared.task.view(bench)
    assert scene.factor(3) == (8, 8)
    assert scene.size(3) == (1730, 3984)
    whole = scene.read(Window(3, (700, 600), (790, 720)))
    part = scene.read(Window(3, (733, 611), (760, 700)))
    np.testing.assert_array_equal(part, whole[:, 33:60, 11:100])
    fine = scene.read(Window(2, (1400, 1200), (1580, 1440))).astype(float)
    means = fine.reshape(3, 90, 2, 120, 2).mean(axis=(2, 4))
    assert np.abs(means - whole).mean() < 1.5
    assert scene.size(scene.levels - 1)[1] >= 32


def test_beyond_the_image_the_nearest_pixels_are_repeated(images: Images, bench: Resources) -> None:
    for name, changes in (("p.png", {}), ("ct", {"format": "ohif"})):
        at = (1, 1) if name == "p.png" else (1, 1, 1)
        task = prompt_plan(asking(name, point(*at), **changes), images, Path()).task
        scene = task.view(bench)
        assert scene.levels > 0
        for level in range(scene.levels):
            size = scene.size(level)
            whole = scene.read(Window(level, (0,) * len(size), size))
            wider = scene.read(Window(level, (-5,) * len(size), tuple(each + 7 for each in size)))
            pad = ((0, 0), *(((5, 7),) * len(size)))
            np.testing.assert_array_equal(wider, np.pad(whole, pad, "edge"))


def test_levels_of_a_volume_become_cubes(images: Images, bench: Resources) -> None:
    task = prompt_plan(asking("ct", point(1, 1, 1), format="ohif"), images, Path()).task
    scene = task.view(bench)
    np.testing.assert_allclose(scene.spacing, (2.5, 1.1, 0.8))
    assert [scene.factor(level) for level in range(scene.levels)] == [(1, 1, 1)]
    voxels = np.random.default_rng(0).integers(-900, 900, (96, 200, 130)).astype(np.int16)
    thick = np.diag([1.0, 1.0, 3.0, 1.0])
    path = bench.catalogue.weights / "thick.nii.gz"
    nibabel.save(nibabel.Nifti1Image(voxels.T, thick), path)
    task = prompt_plan(
        asking(path.name, point(1, 1, 1), format="ohif"),
        Images.of_file(path),
        Path(),
    ).task
    scene = task.view(bench)
    factors = [scene.factor(level) for level in range(scene.levels)]
    assert factors == [(1, 1, 1), (1, 2, 2), (2, 4, 4)]
    means = scene.read(Window(2, (3, 5, 7), (40, 45, 32)))[0]
    block = voxels[6:80, 20:180, 28:128].reshape(37, 2, 40, 4, 25, 4)
    np.testing.assert_allclose(means, block.mean(axis=(1, 3, 5)), atol=1e-3)


# --- What is remembered ------------------------------------------------------------------------


class Reads:
    """Counts the reads of native pixels."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *kinds: type[Any]) -> None:
        self.count = 0
        for kind in kinds:
            read_level = kind.read_level

            def counted(*given: Any, _read: Any = read_level) -> NDArray[np.generic]:
                self.count += 1
                return _read(*given)  # type: ignore[no-any-return]

            monkeypatch.setattr(kind, "read_level", counted)


def test_a_second_click_reads_nothing(
    images: Images, bench: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = Reads(monkeypatch, PlainSource)
    answer(asking("p.png", point(201, 97)), images, bench)
    first = reads.count
    assert first > 0
    again = asking("p.png", point(201, 97), point(77.5, 50.5, include=False))
    answer(again, images, bench)
    # what the model kept is not in the way of another resolution, which has to be read
    assert reads.count == first
    # nor does it open the image, which other users' images may have closed meanwhile
    bench._sources.clear()
    answer(again, images, bench)
    assert len(bench._sources) == 0
    answer(replace(again, parameters={"level": 1}), images, bench)
    assert reads.count > first


def test_what_is_kept_is_bounded(images: Images, tmp_path: Path) -> None:
    bench = Resources(ModelCatalogue(tmp_path), "cpu", seen_mib=0)
    task = prompt_plan(asking("p.png", point(1, 1)), images, Path()).task
    made: list[int] = []
    bench.seen = ByteCache(1 << 16)
    scene = task.view(bench)
    for key in (1, 2, 1, 3, 1):
        scene.keep(key, lambda key=key: made.append(key) or np.zeros(30_000, np.uint8))  # type: ignore[func-returns-value, misc]
    assert made == [1, 2, 3]
    other = replace(task, model="click").view(bench)
    other.keep(1, lambda: made.append(9))
    assert made[-1] == 9
    bench.close()


# --- Pictures that a viewer uploads ------------------------------------------------------------


def test_an_upload_is_what_lies_around_the_prompts(tmp_path: Path, bench: Resources) -> None:
    pixels = np.full((3000, 4000, 3), 240, np.uint8)
    pixels[2000:2010, 3000:3007] = 20
    uploads = Uploads(tmp_path / "uploads", Limits())
    request = UploadRequest((4000, 3000), asking("upload:", point(3001, 2001)))
    upload, manifest = uploads.create(request, footprint(request))
    assert manifest.layers[0].area == Box(1977, 977, 4000, 3000)
    send(uploads, upload, manifest, pixels)
    images = Images({}, {"upload": uploads})
    name = f"upload:{upload}"
    found = answer(asking(name, point(3001, 2001)), images, bench)
    assert outline(found).equals(shapely.box(3000, 2000, 3007, 2010))
    with pytest.raises(BadPrompt, match="no pixels at the prompts"):
        answer(asking(name, point(100, 100)), images, bench)


# --- What is refused ---------------------------------------------------------------------------

INSIDE = point(3, 3)
CORNER = Region.rectangle(0, 0, 2, 2)
BOX = drawn("box", (1, 1), (9, 1))
WRONG: list[tuple[str, tuple[Prompt, ...], dict[str, Any]]] = [
    ("flood needs prompts", (), {}),
    ("threshold takes no prompts", (INSIDE,), {"model": "threshold"}),
    ("initial: threshold takes no", (), {"model": "threshold", "initial": CORNER}),
    ("every prompt excludes", (point(3, 3, include=False),), {}),
    (r"prompts\[1\]: flood does not support a box", (INSIDE, BOX), {}),
    ("region cannot be combined with prompts", (INSIDE,), {"region": CORNER}),
    ("tile cannot be combined", (INSIDE,), {"tile": 256}),
    ("at_um cannot be combined", (INSIDE,), {"at_um": 1.0}),
    (r"prompts\[1\]: a position has 3 numbers", (INSIDE, point(1, 2, 3)), {}),
    (r"prompts\[0\]: a polygon is three", (drawn("polygon", (1, 1)),), {}),
    (r"prompts\[0\]: a number is not finite", (point(float("nan"), 2),), {}),
    ("1001 prompts", (INSIDE,) * 1001, {}),
    ("more than 20000 points", (drawn("scribble", *((1, 1),) * 20001),), {}),
    (r"prompts\[1\] lies outside the image; p.png has 301 x 203", (INSIDE, point(301, 3)), {}),
    (r"prompts\[0\] lies outside", (point(-0.1, 3),), {}),
    (r"prompts\[0\] lies outside", (drawn("scribble", (400, 3), (500, 900)),), {}),
    (
        r"prompts\[2\] includes and prompts\[1\] excludes the same pixel, 7, 9",
        (INSIDE, point(7.1, 9.9, include=False), point(7.9, 9)),
        {},
    ),
    ("has no frame of reference", (INSIDE,), {"frame_of_reference": "1.2"}),
    ("initial: it has slices", (INSIDE,), {"initial": (DrawnSlice(0, (0, 0, 1, 1), b"\0\1"),)}),
    ("initial lies outside", (INSIDE,), {"initial": Region.rectangle(900, 0, 901, 1)}),
]


def begun(k: int, columns: int, runs: bytes) -> dict[str, Any]:
    return {"initial": (DrawnSlice(k, (0, 0, columns, 1), runs),)}


CENTRE = point(20, 15, 11)
RUNS = bytes([0, 4])
SKEW = drawn("polygon", (1, 1, 1), (9, 1, 1), (9, 9, 1), (1, 9, 4))
WRONG_IN_VOLUMES: list[tuple[str, str, tuple[Prompt, ...], dict[str, Any]]] = [
    ("ct", r"a position has 2 numbers", (INSIDE,), {}),
    ("ct", r"prompts\[0\] lies outside.*has 40 x 30 x 22", (point(20, 15, 21.5),), {}),
    ("ct", "same voxel, 20, 15, 11", (CENTRE, point(20.4, 15, 10.6, include=False)), {}),
    ("ct", "do not lie in one plane", (SKEW,), {}),
    ("ct", f"1.2.3 and ct in {volumes.FRAME}", (CENTRE,), {"frame_of_reference": "1.2.3"}),
    ("ct.nii.gz", "and ct.nii.gz in none", (CENTRE,), {"frame_of_reference": "1.2.3"}),
    ("ct", "initial: it is an outline, and ct", (CENTRE,), {"initial": CORNER}),
    ("ct", r"slices\[0\].box", (CENTRE,), begun(0, 41, RUNS)),
    ("ct", r"slices\[0\].runs: the runs contain 4", (CENTRE,), begun(0, 3, RUNS)),
    ("ct", "runs are truncated", (CENTRE,), begun(0, 3, b"\x83")),
    ("ct", "longer than any", (CENTRE,), begun(0, 3, b"\x83" * 9 + b"\0")),
    ("ct", "has no slice 22", (CENTRE,), begun(22, 4, RUNS)),
]


@pytest.mark.parametrize(("message", "prompts", "changes"), WRONG)
def test_what_is_refused_on_a_picture(
    images: Images, message: str, prompts: tuple[Prompt, ...], changes: dict[str, Any]
) -> None:
    with pytest.raises(BadPrompt, match=message) as refused:
        prompt_plan(asking("p.png", *prompts, **changes), images, Path())
    assert refused.value.remedy or "not finite" in refused.value.what


@pytest.mark.parametrize(("image", "message", "prompts", "changes"), WRONG_IN_VOLUMES)
def test_what_is_refused_in_a_volume(
    images: Images, image: str, message: str, prompts: tuple[Prompt, ...], changes: dict[str, Any]
) -> None:
    asked = asking(image, *prompts, format="ohif", **changes)
    with pytest.raises((BadPrompt, BadRegion), match=message):
        prompt_plan(asked, images, Path())


@pytest.mark.parametrize(
    ("image", "changes", "message"),
    [
        ("p.png", {"format": "ohif"}, "ohif supports masks"),
        ("p.png", {"slice": 3}, "slice does not apply"),
        ("ct", {"format": "geojson"}, "geojson supports outlines"),
        ("ct", {"z": 3}, "z does not apply"),
    ],
)
def test_image_and_format_have_to_suit(
    images: Images, image: str, changes: dict[str, Any], message: str
) -> None:
    prompt = INSIDE if image == "p.png" else CENTRE
    with pytest.raises(NotSupported, match=message):
        prompt_plan(asking(image, prompt, **changes), images, Path())


def test_hundreds_of_prompts_are_fine(images: Images, bench: Resources) -> None:
    around = [point(3 * k + 0.5, 2.5, include=k % 2 > 0) for k in range(99)]
    lines = [drawn("scribble", (k, k), (k + 90, k), include=False) for k in range(200)]
    request = asking("p.png", *around, *lines, point(77.5, 50.5))
    assert outline(answer(request, images, bench)).area == 1


@st.composite
def gestures(draw: st.DrawFn, dimensions: int) -> Prompt:
    kind = draw(st.sampled_from(KINDS))
    number = st.one_of(st.floats(-40, 340), st.floats(), st.integers(-3, 45).map(float))
    positions = st.tuples(*[number] * dimensions)
    return Prompt(kind, tuple(draw(st.lists(positions, max_size=5))), draw(st.booleans()))


@pytest.mark.parametrize("image", ["p.png", "ct"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_any_prompts_are_understood_or_refused(
    images: Images, bench: Resources, image: str, data: st.DataObject
) -> None:
    """Whatever is drawn, the answer is one of a model or a sentence; never another error."""
    is_volume = image == "ct"
    prompts = data.draw(st.lists(gestures(3 if is_volume else 2), max_size=4))
    changes = {"format": "ohif"} if is_volume else {}
    if is_volume and data.draw(st.booleans()):
        changes["frame_of_reference"] = volumes.FRAME
    try:
        found = answer(asking(image, *prompts, **changes), images, bench)
    except BadPrompt:
        return
    assert (found.found is None) == bool(found.reason)
