"""The contract of engines, which compute the tiles of jobs."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from isoline.domain.events import Scope
from isoline.engines.engine import Agenda, Engine
from isoline.errors import Unreadable
from isoline.geometry.grid import XY, Grid, Overlap
from isoline.geometry.tiling import Lattice, Tile
from isoline.inference.resources import Resources
from isoline.inference.task import Attention, Result, Task, TileFailed
from isoline.models.model import ModelSpec

LATTICE = Lattice(Grid((40, 30), XY(1, 1)), tile_px=10, halo_px=0)
TILES = LATTICE.tiles(LATTICE.grid.bounds, lambda _: Overlap.ALL)
PARTS = 3
"""The number of results of each tile."""


@dataclass(frozen=True)
class TileFound(Result):
    """Result number `part` of a tile or, without a tile, the result of a survey."""

    name: str
    tile: Tile | None = None
    part: int = 0


@dataclass(frozen=True, kw_only=True)
class Work(Task):
    """A task that needs no image and whose results are all different."""

    name: str
    seconds: float = 0.0
    """How long each result takes."""
    damaged: tuple[int, int] | None = None
    """The place of the tile at which the model raises; if given, surveys fail too."""

    def compute(self, resources: Resources, tile: Tile, attention: Attention) -> Iterator[Result]:
        for part in range(PARTS):
            time.sleep(self.seconds)
            if tile.place == self.damaged:
                raise ValueError("the model fails")
            yield TileFound(self.name, tile, part)

    def survey(self, resources: Resources) -> Result:
        time.sleep(self.seconds)
        if self.damaged is not None:
            raise Unreadable("the image is damaged")
        return TileFound(self.name)


def work(name: str, seconds: float = 0.0, damaged: tuple[int, int] | None = None) -> Work:
    """Return a task for the tests of this contract."""
    spec = ModelSpec("work", "Work", "Results that can be told apart.", "1", ())
    return Work(
        path=Path("nowhere.tif"),
        reader="none",
        fingerprint="f1" * 16,
        model="work",
        spec=spec,
        parameters={},
        scope=Scope("f1" * 16, "work", "1", ()),
        name=name,
        seconds=seconds,
        damaged=damaged,
    )


def agenda(tiles: list[Tile]) -> Agenda:
    """Return an agenda of `tiles`, which are of `LATTICE`, in reading order."""
    return Agenda(LATTICE, tiles, None)


class EngineContract(ABC):
    """The contract of engines. Inherit it, and provide an engine with at most two workers."""

    @pytest.fixture
    @abstractmethod
    def engine(self) -> Iterator[Engine]:
        """Yield an engine that is ready, then close it."""

    def test_every_tile_gives_its_results_once_and_in_their_order(self, engine: Engine) -> None:
        found = list(engine.run(work("a"), agenda(TILES)))
        assert len(found) == len(TILES) * PARTS
        for tile in TILES:
            mine = [each for each in found if isinstance(each, TileFound) and each.tile == tile]
            assert mine == [TileFound("a", tile, part) for part in range(PARTS)]

    def test_tiles_that_are_added_meanwhile_are_computed(self, engine: Engine) -> None:
        first, *others = TILES
        waiting = agenda([first])
        seen: list[Tile] = []
        for each in engine.run(work("a"), waiting):
            assert isinstance(each, TileFound)
            assert each.tile is not None
            if each.tile == first and each.part == 0:
                waiting.add(others)
            seen.append(each.tile)
        assert sorted(seen) == sorted(TILES * PARTS)

    def test_the_focus_brings_a_tile_next(self, engine: Engine) -> None:
        waiting, last = agenda(TILES), TILES[-1]
        seen: list[Tile | None] = []
        for each in engine.run(work("a", 0.02), waiting):
            assert isinstance(each, TileFound)
            if not seen:
                waiting.focus(XY(35, 25))
            seen.append(each.tile)
        assert seen.index(last) < len(seen) / 2

    def test_what_the_model_raises_costs_one_tile(self, engine: Engine) -> None:
        bad, *good = TILES
        found = list(engine.run(work("a", damaged=bad.place), agenda(TILES)))
        (failed,) = [each for each in found if isinstance(each, TileFailed)]
        assert failed.tile == bad
        assert "the model fails" in failed.message
        whole = [each.tile for each in found if isinstance(each, TileFound)]
        assert sorted(map(str, whole)) == sorted(map(str, good * PARTS))

    def test_a_job_that_is_cancelled_ends_soon(self, engine: Engine) -> None:
        waiting, found = agenda(TILES), []
        for each in engine.run(work("a", 0.02), waiting):
            found.append(each)
            waiting.cancel()
        assert 0 < len(found) < len(TILES) * PARTS

    def test_leaving_the_loop_gives_up_what_is_in_flight(self, engine: Engine) -> None:
        left = engine.run(work("left", 0.05), agenda(TILES))
        next(left)
        left.close()  # type: ignore[attr-defined]
        found = list(engine.run(work("b"), agenda(TILES)))
        assert {each.name for each in found if isinstance(each, TileFound)} == {"b"}
        assert len(found) == len(TILES) * PARTS

    def test_jobs_that_run_together_are_kept_apart(self, engine: Engine) -> None:
        with ThreadPoolExecutor(2) as threads:
            a, b = threads.map(lambda name: [*engine.run(work(name), agenda(TILES))], "ab")
        for name, found in (("a", a), ("b", b)):
            assert {each.name for each in found if isinstance(each, TileFound)} == {name}
            assert len(found) == len(TILES) * PARTS

    def test_a_survey_is_made(self, engine: Engine) -> None:
        assert engine.survey(work("a"), agenda(TILES)) == TileFound("a")

    def test_a_survey_raises_what_the_image_raises(self, engine: Engine) -> None:
        with pytest.raises(Unreadable, match="the image is damaged"):
            engine.survey(work("a", damaged=(0, 0)), agenda(TILES))

    def test_a_survey_ends_when_nobody_waits_for_it(self, engine: Engine) -> None:
        waiting = agenda(TILES)
        timer = threading.Timer(0.3, waiting.cancel)
        timer.start()
        assert engine.survey(work("a", seconds=5), waiting) is None
        timer.join()
