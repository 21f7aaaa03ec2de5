"""The examples, tested by the contracts that isoline's own parts fulfil."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from brown import Brown
from npy import NpySource
from numpy.typing import NDArray
from parts import Parts

from isoline.geometry.grid import XY
from isoline.testing.contracts import EncoderContract, ModelContract, Seen, SourceContract


class TestBrown(ModelContract):
    kind = Brown
    spacing_um = XY(0.5, 0.5)

    @pytest.fixture
    def pixels(self) -> NDArray[np.generic]:
        """Return (c, y, x) with something for the model to find."""
        return np.random.default_rng(7).integers(0, 256, (3, 301, 407)).astype(np.uint8)


class TestNpySource(SourceContract):
    source = NpySource

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "picture.npy"
        np.save(path, np.random.default_rng(7).integers(0, 256, (107, 231, 3)).astype(np.uint8))
        return path

    @pytest.fixture
    def damaged(self, path: Path, tmp_path: Path) -> Path:
        cut = tmp_path / "cut.npy"
        cut.write_bytes(path.read_bytes()[:5000])
        return cut


class TestParts(EncoderContract):
    encoder = Parts()

    def see(self, features: list[Any]) -> list[Seen]:
        return [
            Seen(
                feature["id"],
                feature["label"],
                shapely.MultiPolygon([(part[0], part[1:]) for part in feature["parts"]]),
                feature["incomplete"],
            )
            for feature in features
        ]

    def features_in(self, document: Any) -> list[Any]:
        assert isinstance(document, list)
        return document
