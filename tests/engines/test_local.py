"""The engine of worker processes under the contract of engines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from isoline.engines.engine import Engine
from isoline.engines.local import LocalEngine
from isoline.models.catalogue import ModelCatalogue
from isoline.testing.contracts import EngineContract

pytestmark = pytest.mark.slow


class TestLocalEngine(EngineContract):
    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
        engine = LocalEngine(2, ModelCatalogue(tmp_path_factory.mktemp("weights")))
        yield engine
        engine.close()
