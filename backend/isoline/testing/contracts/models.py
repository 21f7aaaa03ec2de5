"""The contracts of models: for patches, for volumes, and for prompts."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import cc3d
import numpy as np
import pytest
from numpy.typing import NDArray

from isoline.domain.prompts import Prompt
from isoline.domain.request import Value
from isoline.errors import RequestError
from isoline.geometry.grid import XY, Box
from isoline.models.model import Bounded, Choice, Classes, Instances, Model, Number, Voxels
from isoline.models.promptable import PromptableModel, Question
from isoline.models.volumetric import Scan, VolumeModel
from isoline.testing.contracts import patches
from isoline.testing.contracts.array_scene import ArrayScene


class ModelContract(ABC):
    """The contract of models of patches. Inherit it, and provide an image with something to find.

    Override the fixture `weights` if the model has any, and set `parameters` if it finds nothing
    with the defaults.
    """

    kind: type[Model]
    """The class under test."""
    spacing_um: XY | None
    """Micrometres per pixel of `pixels`."""
    parameters: ClassVar[Mapping[str, Value]] = {}
    """Values that replace the defaults of the model's parameters."""

    @pytest.fixture
    @abstractmethod
    def pixels(self) -> NDArray[np.generic]:
        """Return an image (c, y, x) that is not square, of about 300 to 600 pixels per side."""

    @pytest.fixture
    def weights(self) -> Mapping[str, Path]:
        """Return the paths of the model's weights by name; none by default."""
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
        """Return the box of a valid patch that contains the centre of the picture."""
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
        """Types and shapes are right, something is found, and instances are connected."""
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
    """The contract of models of volumes. Inherit it, and provide a scan with something to find."""

    kind: type[VolumeModel]
    """The class under test."""

    @pytest.fixture
    @abstractmethod
    def scan(self) -> Scan:
        """Return a scan in which the model finds something; its size differs along all axes."""

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


class PromptableModelContract(ABC):
    """The contract of promptable models. Inherit it, and provide an image and prompts."""

    kind: type[PromptableModel]
    """The class under test."""

    @abstractmethod
    def scene(self) -> ArrayScene:
        """Return a new view of the same image each time; it has an object to find."""

    @abstractmethod
    def question(self) -> Question:
        """Return prompts that indicate the object."""

    @pytest.fixture
    def model(self) -> PromptableModel:
        return self.kind({}, "cpu")

    def test_its_spec_is_whole(self) -> None:
        spec = self.kind.spec
        assert spec.name.isidentifier()
        assert spec.prompt_dimensions
        assert spec.prompts
        assert all((spec.title, spec.description, spec.version, spec.labels, spec.licence))
        assert all(parameter.help for parameter in spec.parameters)

    def test_the_same_question_has_one_answer(self, model: PromptableModel) -> None:
        scene = self.scene()
        answers = [model.answer(each, self.question()) for each in (scene, scene, self.scene())]
        first = answers[0]
        assert first.mask.any()
        assert first.mask.dtype == np.bool_
        assert first.mask.shape == first.window.shape
        for other in answers[1:]:
            assert other.window == first.window
            np.testing.assert_array_equal(other.mask, first.mask)

    def test_another_time_makes_nothing_anew(self, model: PromptableModel) -> None:
        scene = self.scene()
        model.answer(scene, self.question())
        made = scene.made
        model.answer(scene, self.question())
        assert scene.made == made

    def test_nothing_has_a_reason(self, model: PromptableModel) -> None:
        far = tuple(10 * float(n) for n in self.scene().size(0))
        question = replace(self.question(), prompts=(Prompt("point", (far,)),))
        answer = model.answer(self.scene(), question)
        assert not answer.mask.any()
        assert answer.reason
