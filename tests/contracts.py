"""What every part of a kind must do: inherit a class, and pytest runs its tests on yours."""

from __future__ import annotations

import io
import json
import math
import pickle
from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import cc3d
import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from isoline.domain import mask_rle
from isoline.domain.events import Cancelled, Contours, Done, Objects, Progress, Started
from isoline.domain.prompts import Prompt
from isoline.domain.request import Value
from isoline.errors import IsolineError, RequestError, Unreadable
from isoline.exports.base import ContourFile, Encoder
from isoline.geometry.grid import XY, Box
from isoline.models.base import Bounded, Choice, Classes, Instances, Model, Number, Pointed, Voxels
from isoline.models.promptable import PointedModel, Question
from isoline.models.volumetric import Scan, VolumeModel
from isoline.sources.base import Level, Source
from isoline.sources.volume import VolumeSource
from tests import patches, results
from tests.array_scene import ArrayScene

# each inheritor runs the same function: examples of one must not be replayed on another
_SHARED = settings(
    max_examples=50,
    database=None,
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
)


class Seen(NamedTuple):
    """One object as a reader of the dialect sees it."""

    id: str
    label: str
    shape: BaseGeometry
    incomplete: bool
    nucleus: BaseGeometry | None = None


class EncoderContract(ABC):
    """What every encoder does. Inherit, name the encoder, and read its text back.

    `see` should use a reader that knows the dialect and nothing of isoline.
    """

    encoder: Encoder
    draws_nuclei: ClassVar[bool] = False
    """Whether the dialect has a place for the nuclei of cells."""

    @abstractmethod
    def see(self, features: list[Any]) -> list[Seen]:
        """Return the objects in parsed features, in their order."""

    @abstractmethod
    def features_in(self, document: Any) -> list[Any]:
        """Return the features in a parsed file."""

    def encoded(self, objects: Objects, started: Started, provisional: bool = False) -> list[Any]:
        text = self.encoder.features(objects, started, provisional)
        assert b"\n" not in text
        features = json.loads(b"[" + text + b"]", parse_constant=_refuse)
        assert isinstance(features, list)
        return features

    def test_it_has_a_name_a_suffix_and_a_media_type(self) -> None:
        assert self.encoder.name.isidentifier()
        assert self.encoder.suffix.startswith(".")
        assert "json" in self.encoder.media_type

    @pytest.mark.parametrize(
        ("scale", "bounds"),
        [
            (XY(1.0, 1.0), (3, 5, 4, 6)),
            (XY(2.0, 4.0), (6, 20, 8, 24)),
            (XY(4.0004, 16.006), (12.001, 80.03, 16.002, 96.036)),
        ],
    )
    def test_the_golden_pixel(self, scale: XY, bounds: tuple[float, ...]) -> None:
        """Pixel n spans [n, n + 1): a viewer that is half a pixel off is wrong here."""
        pixel = results.objects_of([[[results.rectangle(3, 5, 4, 6)]]])
        (seen,) = self.see(self.encoded(pixel, results.started(scale)))
        assert seen.shape.equals(shapely.box(*bounds))

    @pytest.mark.parametrize(
        ("scale", "bounds"),
        [(XY(1.0, 1.0), (3, 5, 4, 6)), (XY(4.0004, 16.006), (12.001, 80.03, 16.002, 96.036))],
    )
    def test_the_golden_cell(self, scale: XY, bounds: tuple[float, ...]) -> None:
        """A cell with a nucleus of one pixel, beside a cell without one."""
        cells = [[[results.rectangle(2, 4, 5, 7)]], [[results.rectangle(8, 4, 9, 5)]]]
        nuclei: list[results.Shape] = [[[results.rectangle(3, 5, 4, 6)]], []]
        started = results.started(scale)
        plain = self.see(self.encoded(results.objects_of(cells), started))
        seen = self.see(self.encoded(results.objects_of(cells, nuclei=nuclei), started))
        assert [s._replace(nucleus=None) for s in seen] == plain
        assert seen[1].nucleus is None
        if self.draws_nuclei:
            assert seen[0].nucleus is not None
            assert seen[0].nucleus.equals(shapely.box(*bounds))

    @_SHARED
    @given(objects=results.batches(), incomplete=st.booleans(), provisional=st.booleans())
    def test_ids_labels_and_exact_areas_come_back(
        self, objects: Objects, incomplete: bool, provisional: bool
    ) -> None:
        objects = replace(objects, incomplete=np.full(len(objects), incomplete))
        started = results.started(XY(2.0, 3.0))
        seen = self.see(self.encoded(objects, started, provisional))
        assert [s.id for s in seen] == [self.encoder.id_text(bytes(raw)) for raw in objects.ids]
        assert [s.label for s in seen] == [started.labels[k].name for k in objects.label]
        assert [s.shape.area for s in seen] == [6.0 * area for area in objects.area_px]
        assert all(s.shape.is_valid for s in seen)
        assert all(s.incomplete is incomplete for s in seen)

    def test_what_is_not_known_is_left_out(self) -> None:
        """A NaN is no JSON, and a null is a trap in more than one viewer."""
        shapes = [[[results.rectangle(0, 0, 2, 2)]], [[results.rectangle(4, 0, 6, 2)]]]
        numbers = {"contrast": [math.nan, 1.5], "depth": [math.inf, -math.inf]}
        objects = results.objects_of(shapes, measurements=numbers)
        text = self.encoder.features(objects, results.started(spacing_um=None), False)
        for word in (b"null", b"NaN", b"Infinity", b"depth"):
            assert word not in text
        assert text.count(b"contrast") == 1

    @pytest.mark.parametrize("end", [None, Done(2, 1, 0, 0, 0.5), Cancelled(1, 3)])
    def test_a_file_holds_what_is_final_and_is_whole_however_the_job_ended(
        self, end: Done | Cancelled | None
    ) -> None:
        first, second = (
            results.objects_of([[[results.rectangle(x, 0, x + 3, 3)]]], first=x) for x in (0, 10)
        )
        piece = results.objects_of([[[results.rectangle(20, 0, 23, 3)]]])
        nothing = results.objects_of([])
        stream = io.BytesIO()
        with ContourFile(stream, self.encoder) as file:
            file.write(results.STARTED)
            file.write(Progress(0, 2, None))
            for event in (Contours(nothing), Contours(piece, provisional=True), Contours(first)):
                file.write(event)
            file.write(Contours(second, replaces=piece.ids))
            if end is not None:
                file.write(end)
        features = self.features_in(json.loads(stream.getvalue()))
        assert [s.shape.bounds[0] for s in self.see(features)] == [0, 10]

    def test_a_file_without_results_is_whole(self) -> None:
        stream = io.BytesIO()
        with ContourFile(stream, self.encoder) as file:
            file.write(results.STARTED)
        assert self.features_in(json.loads(stream.getvalue())) == []


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


class SourceContract:
    """Inherit, name the source, and give a good and a damaged file as fixtures.

    class TestMySource(SourceContract):
        source = MySource

        @pytest.fixture
        def path(self) -> Path: ...

        @pytest.fixture
        def damaged(self) -> Path: ...
    """

    source: ClassVar[type[Source]]

    @pytest.fixture
    def path(self) -> Path:
        """An image of at least two tiles, not square, its size no multiple of the tile's."""
        raise NotImplementedError

    @pytest.fixture
    def damaged(self) -> Path:
        """A file of the same kind that cannot be opened, or not be read everywhere."""
        raise NotImplementedError

    def test_metadata_makes_sense(self, path: Path) -> None:
        info = self.source.open(path).info
        assert info.reader == self.source.name
        bytes.fromhex(info.fingerprint)
        assert info.levels[0] == Level(info.size, XY(1.0, 1.0))
        widths = [level.size[0] for level in info.levels]
        assert widths == sorted(widths, reverse=True)
        for level in info.levels:
            for whole, part, scale in zip(info.size, level.size, level.downsample, strict=True):
                assert abs(whole / scale - part) < 1
        assert len(set(info.channels)) == len(info.channels) == len(info.background)
        assert info.dtype in (np.uint8, np.uint16)
        assert info.z_planes >= 1
        assert info.spacing_um is None or min(info.spacing_um) > 0
        assert all(problem and problem[-1] != "." for problem in info.problems)

    def test_a_read_has_the_shape_of_its_box(self, path: Path) -> None:
        source = self.source.open(path)
        for index, level in enumerate(source.info.levels):
            width, height = level.size
            for box in (Box(0, 0, 1, 1), Box(width - 7, height - 3, width, height)):
                for z in range(source.info.z_planes):
                    pixels = source.read_level(index, box, z)
                    assert pixels.shape == (len(source.info.channels), box.height, box.width)
                    assert pixels.dtype == source.info.dtype

    def test_a_pixel_depends_only_on_its_place(self, path: Path) -> None:
        source = self.source.open(path)
        for index, level in enumerate(source.info.levels):
            whole = _corner(level, 700)
            expected = source.read_level(index, whole)
            for box in _boxes(whole):
                rows, columns = whole.slices_of(box)
                np.testing.assert_array_equal(
                    source.read_level(index, box), expected[:, rows, columns]
                )

    def test_what_is_read_is_the_callers(self, path: Path) -> None:
        source = self.source.open(path)
        box = Box(0, 0, 9, 5)
        first = source.read_level(0, box)
        kept = first.copy()
        first[:] = 17
        np.testing.assert_array_equal(source.read_level(0, box), kept)

    def test_eight_threads_read_what_one_reads(self, path: Path) -> None:
        alone, shared = self.source.open(path), self.source.open(path)
        jobs = [
            (index, box)
            for index, level in enumerate(alone.info.levels)
            for box in _boxes(_corner(level, 500))
        ]
        with ThreadPoolExecutor(8) as threads:
            together = list(threads.map(lambda job: shared.read_level(*job), jobs))
        for job, pixels in zip(jobs, together, strict=True):
            np.testing.assert_array_equal(pixels, alone.read_level(*job))

    def test_reading_after_close_is_an_error(self, path: Path) -> None:
        source = self.source.open(path)
        source.close()
        with pytest.raises(ValueError, match="closed"):
            source.read_level(0, Box(0, 0, 1, 1))

    def test_a_damaged_file_is_unreadable(self, damaged: Path) -> None:
        with pytest.raises(Unreadable, match=damaged.name.split(".")[0]):
            _read_everything(self.source.open(damaged))

    def test_a_file_that_is_not_there_is_unreadable(self, tmp_path: Path) -> None:
        with pytest.raises(Unreadable):
            self.source.open(tmp_path / "nothing.tif")

    def test_a_file_of_something_else_is_refused(self, tmp_path: Path) -> None:
        for content in (b"", b"II*\0", b"not an image at all" * 99, bytes(4096)):
            file = tmp_path / "other.tif"
            file.write_bytes(content)
            with pytest.raises(IsolineError):
                self.source.open(file)


def _corner(level: Level, side: int) -> Box:
    """Return the far corner of the level, where tiles are cut."""
    width, height = level.size
    return Box(max(0, width - side), max(0, height - side), width, height)


def _boxes(whole: Box) -> list[Box]:
    rng = np.random.default_rng(5)
    boxes = [Box(whole.x0, whole.y0, whole.x0 + 1, whole.y1)]
    for _ in range(6):
        x0, y0 = rng.integers(0, whole.width - 1), rng.integers(0, whole.height - 1)
        x1, y1 = rng.integers(x0 + 1, whole.width), rng.integers(y0 + 1, whole.height)
        boxes.append(Box(int(x0), int(y0), int(x1), int(y1)).shift(whole.x0, whole.y0))
    return boxes


def _read_everything(source: Source) -> None:
    for index, level in enumerate(source.info.levels):
        width, height = level.size
        for top in range(0, height, 512):
            source.read_level(index, Box(0, top, width, min(top + 512, height)))


class ModelContract(ABC):
    """What every model does. Inherit, name the class, and give a picture it finds things in.

    Override the fixture `weights` where the model has any, and `parameters` where the defaults
    find nothing.
    """

    kind: type[Model]
    spacing_um: XY | None
    parameters: ClassVar[Mapping[str, Value]] = {}

    @pytest.fixture
    @abstractmethod
    def pixels(self) -> NDArray[np.generic]:
        """Return (c, y, x): not square, some 300 to 600 pixels a side."""

    @pytest.fixture
    def weights(self) -> Mapping[str, Path]:
        return {}

    @pytest.fixture
    def model(self, weights: Mapping[str, Path]) -> Model:
        return self.kind(weights, "cpu")

    @pytest.fixture
    def picture(self, model: Model, pixels: NDArray[np.generic]) -> patches.Picture:
        parameters = patches.defaults(self.kind, **self.parameters)
        picture = patches.Picture(pixels, self.spacing_um, parameters)
        statistics = model.statistics([picture.patch(picture.bounds)])
        return replace(picture, statistics=statistics)

    def read(self, picture: patches.Picture) -> Box:
        """Return a box that a patch may have and that holds the middle of the picture."""
        spec = self.kind.spec
        if not spec.fixed_tile:
            return picture.bounds.grow(patches.halo_of(self.kind, picture))
        side = spec.tile_px + 2 * spec.reach_px
        x, y = (picture.bounds.width - side) // 2, (picture.bounds.height - side) // 2
        return Box(x, y, x + side, y + side)

    def test_its_spec_is_whole(self) -> None:
        spec = self.kind.spec
        assert spec.name.isidentifier()
        assert all((spec.title, spec.description, spec.version, spec.labels, spec.licence))
        names = [parameter.name for parameter in spec.parameters]
        assert len(set(names)) == len(names)
        assert list(spec.spacings_um) == sorted(spec.spacings_um)
        for parameter in spec.parameters:
            assert parameter.help
            if isinstance(parameter, Number):
                assert parameter.minimum <= parameter.default <= parameter.maximum
            elif isinstance(parameter, Choice):
                assert parameter.default in parameter.choices
        for weights in spec.weights:
            assert len(bytes.fromhex(weights.sha256)) == 32
            assert len(bytes.fromhex(weights.archive_sha256)) == 32
            assert "==" in weights.requirement

    def test_it_answers_in_kind(self, model: Model, picture: patches.Picture) -> None:
        """Right types and shapes; something is found; instances lie on the image, each whole."""
        patch = picture.patch(self.read(picture))
        shape = patch.pixels.shape[1:]
        prediction = model.infer(patch)
        if isinstance(model.output(picture.parameters), Bounded):
            assert isinstance(prediction, Instances)
            labels = prediction.labels
            n = int(labels.max())
            assert labels.dtype == np.int32
            assert labels.shape == shape
            assert n > 0
            assert np.array_equal(np.unique(labels), np.arange(n + 1))
            assert cc3d.connected_components(labels, connectivity=4, return_N=True)[1] == n
            beyond = np.ones(shape, np.bool_)
            beyond[patch.image.y0 : patch.image.y1, patch.image.x0 : patch.image.x1] = False
            assert not labels[beyond].any()
            if prediction.classes is not None:
                assert prediction.classes.shape == (n,)
                assert prediction.classes.max() < len(self.kind.spec.labels)
            if prediction.nuclei is not None:
                nuclei = prediction.nuclei
                assert nuclei.dtype == np.int32
                assert nuclei.shape == shape
                assert np.array_equal(np.where(nuclei > 0, labels, 0), nuclei)
            for column in prediction.measurements.values():
                assert column.dtype == np.float32
                assert column.shape == (n,)
                assert np.isfinite(column).all()
        else:
            assert isinstance(prediction, Classes)
            assert prediction.classes.dtype == np.uint8
            assert prediction.classes.shape == shape
            assert 0 < prediction.classes.max() <= len(self.kind.spec.labels)

    def test_it_repeats_itself_and_touches_nothing(
        self, model: Model, picture: patches.Picture
    ) -> None:
        patch = picture.patch(self.read(picture))
        before = patch.pixels.copy()
        first, second = (pickle.dumps(model.infer(patch)) for _ in range(2))
        assert first == second
        assert np.array_equal(patch.pixels, before)

    def test_its_statistics_are_small_arrays(self, picture: patches.Picture) -> None:
        assert bool(picture.statistics) == self.kind.spec.has_statistics
        assert len(pickle.dumps(dict(picture.statistics))) < 2**20

    @pytest.mark.parametrize("side", [97, 160])
    def test_tiles_equal_the_whole(self, model: Model, picture: patches.Picture, side: int) -> None:
        if self.kind.spec.fixed_tile:
            with pytest.raises(RequestError):
                model.infer(picture.patch(Box(0, 0, side, side)))
            return
        bounded = isinstance(self.kind.spec.output, Bounded)
        tiled = patches.objects_by_tile if bounded else patches.classes_by_tile
        halo = patches.halo_of(self.kind, picture)
        area = picture.bounds
        whole = tiled(model, picture, area, max(area.width, area.height), halo)
        assert len(whole) > 1
        assert np.array_equal(tiled(model, picture, area, side, halo), whole)


class VolumeModelContract(ABC):
    """What every model of volumes does. Inherit, name the class, and give a scan of something."""

    kind: type[VolumeModel]

    @pytest.fixture
    @abstractmethod
    def scan(self) -> Scan:
        """Return a scan in which the model finds something, not the same along any two axes."""

    @pytest.fixture
    def model(self) -> VolumeModel:
        return self.kind({}, "cpu")

    def test_its_spec_is_whole(self) -> None:
        spec = self.kind.spec
        assert spec.name.removeprefix("bundle:").isidentifier()
        assert isinstance(spec.output, Voxels)
        assert all((spec.title, spec.description, spec.version, spec.labels, spec.licence))
        assert all(parameter.help for parameter in spec.parameters)
        for weights in spec.weights:
            assert len(bytes.fromhex(weights.sha256)) == 32
            assert len(bytes.fromhex(weights.archive_sha256)) == 32

    def test_every_slice_comes_once_and_the_work_grows(
        self, model: VolumeModel, scan: Scan
    ) -> None:
        steps = list(model.segment(scan))
        done = [step.done for step in steps]
        assert done == sorted(done)
        assert done[-1] == pytest.approx(1.0)
        final: list[int] = []
        for step in steps:
            assert (step.labels is None) == (not step.slices)
            if step.labels is None:
                continue
            assert step.labels.dtype == np.uint8
            assert step.labels.shape == (len(step.slices), *scan.voxels.shape[1:])
            assert step.labels.max() <= len(self.kind.spec.labels)
            assert not (step.provisional and set(final).intersection(step.slices))
            final += () if step.provisional else step.slices
        assert sorted(final) == list(range(len(scan.voxels)))
        assert any(step.labels is not None and step.labels.any() for step in steps)

    def test_the_focus_comes_first_and_changes_nothing_else(
        self, model: VolumeModel, scan: Scan
    ) -> None:
        maps = []
        for focus in (0, len(scan.voxels) - 1):
            given = np.zeros(scan.voxels.shape, np.uint8)
            final = [
                step
                for step in model.segment(replace(scan, focus=focus))
                if step.labels is not None and not step.provisional
            ]
            assert focus in final[0].slices
            for step in final:
                assert step.labels is not None
                given[list(step.slices)] = step.labels
            maps.append(given)
        np.testing.assert_array_equal(maps[0], maps[1])


class PointedModelContract(ABC):
    """What every model that takes prompts does. Inherit, name the class, and give a question."""

    kind: type[PointedModel]

    @abstractmethod
    def scene(self) -> ArrayScene:
        """Return a new scene, always the same, that holds something to find."""

    @abstractmethod
    def question(self) -> Question:
        """Return prompts that point at it."""

    @pytest.fixture
    def model(self) -> PointedModel:
        return self.kind({}, "cpu")

    def test_its_spec_is_whole(self) -> None:
        spec = self.kind.spec
        assert spec.name.isidentifier()
        assert isinstance(spec.output, Pointed)
        assert spec.prompts
        assert all((spec.title, spec.description, spec.version, spec.labels, spec.licence))
        assert all(parameter.help for parameter in spec.parameters)

    def test_the_same_question_has_one_answer(self, model: PointedModel) -> None:
        scene = self.scene()
        answers = [model.answer(each, self.question()) for each in (scene, scene, self.scene())]
        first = answers[0]
        assert first.mask.any()
        assert first.mask.dtype == np.bool_
        assert first.mask.shape == first.window.shape
        for other in answers[1:]:
            assert other.window == first.window
            np.testing.assert_array_equal(other.mask, first.mask)

    def test_another_time_makes_nothing_anew(self, model: PointedModel) -> None:
        scene = self.scene()
        model.answer(scene, self.question())
        made = scene.made
        model.answer(scene, self.question())
        assert scene.made == made

    def test_nothing_has_a_reason(self, model: PointedModel) -> None:
        far = tuple(10 * float(n) for n in self.scene().size(0))
        question = replace(self.question(), prompts=(Prompt("point", (far,)),))
        answer = model.answer(self.scene(), question)
        assert not answer.mask.any()
        assert answer.reason


class VolumeSourceContract(ABC):
    """What every source of volumes does. Inherit, name the source, and write a file."""

    source: type[VolumeSource]

    @pytest.fixture
    @abstractmethod
    def path(self, tmp_path: Path) -> Path:
        """Return a volume of 24 x 20 x 9 voxels."""

    def test_it_is_an_image_of_planes(self, path: Path) -> None:
        source = self.source.open(path)
        assert isinstance(source, VolumeSource)
        info, voxels = source.info, source.voxels()
        assert info.reader == self.source.name
        bytes.fromhex(info.fingerprint)
        assert (info.kind, info.size, info.z_planes) == ("volume", (24, 20), 9)
        assert voxels.shape == source.volume.grid.shape == (9, 20, 24)
        assert voxels.dtype == info.dtype
        assert len(source.volume.slices) in (0, 9)
        box = Box(3, 2, 9, 7)
        for z in (0, 8):
            plane = source.read_level(0, box, z)
            np.testing.assert_array_equal(plane[0], voxels[z, 2:7, 3:9])
            plane[:] = 0

    def test_reading_after_close_is_an_error(self, path: Path) -> None:
        source = self.source.open(path)
        source.close()
        with pytest.raises(ValueError, match="closed"):
            source.read_level(0, Box(0, 0, 1, 1))

    def test_a_file_that_is_not_there_is_unreadable(self, tmp_path: Path) -> None:
        with pytest.raises(Unreadable):
            self.source.open(tmp_path / "nothing.nii")


class MaskEncoderContract(ABC):
    """What every encoder of masks does. Inherit, name the encoder, and draw what it says."""

    encoder: Encoder

    @abstractmethod
    def draw(self, slices: list[Any], plane: NDArray[np.uint8], k: int) -> None:
        """Put the slice k of parsed `slices` into (j, i) `plane`."""

    def test_labels_come_back(self) -> None:
        rng = np.random.default_rng(4)
        labels = rng.integers(0, 3, (4, 7, 200)).astype(np.uint8)
        labels[2] = 0
        assert self.encoder.masks
        text = self.encoder.mask(mask_rle.encode(labels, [5, 3, 4, 0]), results.STARTED)
        assert b"\n" not in text
        slices = json.loads(b"[" + text + b"]")
        for k, plane in zip((5, 3, 4, 0), labels, strict=True):
            drawn = np.zeros_like(plane)
            self.draw(slices, drawn, k)
            np.testing.assert_array_equal(drawn, plane)
