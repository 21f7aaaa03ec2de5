"""The contracts of encoders."""

from __future__ import annotations

import io
import json
import math
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from isoline.domain import mask_rle
from isoline.domain.events import Cancelled, Contours, Done, Objects, Progress, Started
from isoline.exports.encoder import ContourFile, Encoder
from isoline.geometry.grid import XY
from isoline.testing.contracts import results

# all subclasses run the same function: examples of one must not be replayed on another
_SHARED = settings(
    max_examples=50,
    database=None,
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
)


class Seen(NamedTuple):
    """One object as read by a reader of the dialect; shapes are in image pixels."""

    id: str
    label: str
    shape: BaseGeometry
    incomplete: bool
    nucleus: BaseGeometry | None = None


class EncoderContract(ABC):
    """The contract of encoders of contours. Inherit it, set `encoder`, and read its output back.

    `see` should use a reader of the dialect that is independent of isoline.
    """

    encoder: Encoder
    draws_nuclei: ClassVar[bool] = False
    """Whether the dialect can represent the nuclei of cells."""

    @abstractmethod
    def see(self, features: list[Any]) -> list[Seen]:
        """Return the objects in parsed features, in the same order."""

    @abstractmethod
    def features_in(self, document: Any) -> list[Any]:
        """Return the features in a parsed file."""

    def encoded(self, objects: Objects, started: Started, provisional: bool = False) -> list[Any]:
        """Return the parsed features that the encoder makes of `objects`."""
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
        """Pixel n spans [n, n + 1): an error of half a pixel fails here."""
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
        """NaN is not JSON, and several viewers do not expect null."""
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


class MaskEncoderContract(ABC):
    """The contract of encoders of masks. Inherit it, set `encoder`, and draw its output."""

    encoder: Encoder

    @abstractmethod
    def draw(self, slices: list[Any], plane: NDArray[np.uint8], k: int) -> None:
        """Draw the labels of slice `k` in the parsed `slices` into `plane`, (j, i)."""

    def test_labels_come_back(self) -> None:
        rng = np.random.default_rng(4)
        labels = rng.integers(0, 3, (4, 7, 200)).astype(np.uint8)
        labels[2] = 0
        assert self.encoder.kinds == {"mask"}
        text = self.encoder.mask(mask_rle.encode(labels, [5, 3, 4, 0]), results.STARTED)
        assert b"\n" not in text
        slices = json.loads(b"[" + text + b"]")
        for k, plane in zip((5, 3, 4, 0), labels, strict=True):
            drawn = np.zeros_like(plane)
            self.draw(slices, drawn, k)
            np.testing.assert_array_equal(drawn, plane)
