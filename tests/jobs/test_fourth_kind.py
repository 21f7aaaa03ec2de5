"""A kind of work that isoline does not have, in this one file: its plan, its task, its events.

Nothing of isoline was changed for it. It is registered by an entry point, and a real server runs
it: through HTTP and the engine into the journal, and on after `kill -9`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from isoline import client as api
from isoline.domain.batch import Batch
from isoline.domain.events import Cancelled, Done, Progress, Scope, Started, Warned
from isoline.domain.request import SegmentRequest
from isoline.engines.engine import Agenda, Engine
from isoline.errors import Broken, NotSupported
from isoline.exports.encoder import Encoder
from isoline.geometry.grid import XY, Grid, Overlap
from isoline.geometry.tiling import Lattice, Tile
from isoline.geometry.volume_grid import SliceName
from isoline.inference.resources import Resources
from isoline.inference.sampling import Sampler, choose
from isoline.inference.task import Attention, Result, Task, TileFailed
from isoline.models.model import Model, ModelSpec, Patch, Prediction
from isoline.pipeline.kinds import Context, Kind, Lane, Plan
from tests.killable import Server

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TILE_PX = 64
TILES = 12
SLOW_SECONDS = 0.2


class Brightness(Model):
    """Declares no output that isoline knows: a kind of its own takes it."""

    spec = ModelSpec(
        name="brightness",
        title="Brightness",
        description="The mean of each tile.",
        version="1",
        labels=(),
        channels=(1, 3),
    )

    def infer(self, patch: Patch) -> Prediction:
        raise Broken("nothing is segmented here")


@dataclass(frozen=True)
class Mean(Result):
    """What one tile gave."""

    tile: Tile
    mean: float


@dataclass(frozen=True, kw_only=True)
class BrightnessTask(Task):
    """The means of tiles."""

    grid: Grid

    lasting: ClassVar[bool] = False

    def compute(self, resources: Resources, tile: Tile, attention: Attention) -> Iterator[Result]:
        source = self.source(resources)
        sampler = Sampler(source, self.grid, choose(source.info, (1, 3), None, None))
        time.sleep(SLOW_SECONDS)
        yield Mean(tile, float(sampler.read(tile.write).astype(np.float64).mean()))


@dataclass(frozen=True, kw_only=True)
class BrightnessPlan(Plan):
    """A row of tiles."""

    task: BrightnessTask
    lattice: Lattice

    @property
    def lane(self) -> Lane:
        return Lane.LARGE

    @property
    def tile_count(self) -> int:
        return TILES

    def agenda(self, owner: str = "") -> Agenda:
        row = self.lattice.tiles(self.lattice.grid.bounds, lambda _: Overlap.ALL)
        return Agenda(self.lattice, row, None, owner=owner)

    def look(self, agenda: Agenda, at: XY | SliceName | int) -> None:
        raise NotSupported("brightness looks at everything", "wait for it")

    def events(
        self,
        engine: Engine,
        agenda: Agenda,
        replay: Iterable[Batch] = (),
        turn: AbstractContextManager[object] = nullcontext(),  # noqa: B008
    ) -> Iterator[Batch]:
        seq, done = 0, set[tuple[int, int]]()
        for earlier in replay:
            seq = earlier.last_seq + 1
            if earlier.tile is not None:
                done.add(earlier.tile)
        if seq == 0:
            yield Batch(0, None, (self.started,))
            seq = 1
        agenda.drop(lambda tile: tile.place in done)
        for result in engine.run(self.task, agenda):
            assert isinstance(result, Mean | TileFailed)
            done.add(result.tile.place)
            said = (
                f"{result.tile.place[0]} {result.mean:.6f}"
                if isinstance(result, Mean)
                else result.message
            )
            batch = Batch(
                seq, result.tile.place, (Warned("Mean", said), Progress(len(done), TILES, None))
            )
            yield batch
            seq = batch.last_seq + 1
        whole = len(done) == TILES
        end = Done(0, TILES, 0, 0, 0.0) if whole else Cancelled(len(done), TILES)
        yield Batch(seq, None, (end,))


class BrightnessWork(Kind):
    """Requests for the model of that name."""

    @classmethod
    def accepts(cls, request: SegmentRequest, model: type[Model]) -> bool:
        return issubclass(model, Brightness)

    @classmethod
    def plan(cls, context: Context, encoder: type[Encoder]) -> BrightnessPlan:
        found, spec = context.found, context.spec
        grid = Grid((TILES * TILE_PX, TILE_PX), XY(1.0, 1.0))
        scope = Scope(found.info.fingerprint, spec.name, spec.full_version, ())
        task = BrightnessTask(
            path=found.path,
            reader=found.info.reader,
            fingerprint=found.info.fingerprint,
            model=context.request.model,
            spec=spec,
            parameters=context.parameters,
            scope=scope,
            grid=grid,
        )
        started = Started(
            job="",
            image=context.request.image,
            scope=scope,
            labels=(),
            grid=grid,
            tiles=TILES,
            spacing_um=None,
            kind="objects",
        )
        return BrightnessPlan(
            started=started,
            format=encoder.name,
            task=task,
            lattice=Lattice(grid, TILE_PX, 0),
        )


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that registers this file's classes as an installed package would."""
    folder = tmp_path_factory.mktemp("installed")
    info = folder / "fourth_kind-0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fourth-kind\nVersion: 0.0\n")
    (info / "entry_points.txt").write_text(
        f"[isoline.models]\nbrightness = {__name__}:Brightness\n\n"
        f"[isoline.kinds]\nbrightness = {__name__}:BrightnessWork\n"
    )
    return folder


@pytest.fixture
def server(registered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    images, data = tmp_path / "images", tmp_path / "data"
    images.mkdir()
    data.mkdir()
    steps = np.repeat(np.arange(TILES, dtype=np.uint8) * 20, TILE_PX)
    Image.fromarray(np.broadcast_to(steps, (TILE_PX, len(steps))).copy()).save(images / "steps.png")
    monkeypatch.setenv("PYTHONPATH", f"{registered}:{ROOT}")
    server = Server(images, data)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def means(events: list[api.Event]) -> dict[str, str]:
    said = [each.message.split() for each in events if isinstance(each, api.Warned)]
    found = dict(said)
    assert len(found) == len(said), "a tile was told twice"
    return found


def test_it_is_listed_and_run_and_its_events_are_followed(server: Server) -> None:
    listed = {each["name"]: each for each in server.client.models()}
    assert (listed["brightness"]["automatic"], listed["threshold"]["automatic"]) == (False, True)
    events = list(server.client.submit("slides/steps.png", "brightness").events())
    assert isinstance(events[0], api.Started)
    assert isinstance(events[-1], api.Done)
    found = means(events)
    assert len(found) == TILES
    assert {k: float(mean) for k, mean in found.items()} == {str(k): 20.0 * k for k in range(TILES)}
    with pytest.raises(api.ClientError, match="looks at everything"):
        server.client.submit("slides/steps.png", "brightness").focus(1, 1)


def test_it_goes_on_after_a_kill(server: Server) -> None:
    whole = means(list(server.client.submit("slides/steps.png", "brightness").events()))
    job = server.client.submit("slides/steps.png", "brightness")
    heard: list[api.Event] = []
    for event in job.events():
        heard.append(event)
        if len(means(heard)) == 3:
            break
    server.kill()
    server.start()
    heard += server.client.job(job.id).events(after=heard[-1].seq)
    assert isinstance(heard[-1], api.Done)
    assert means(heard) == whole
    assert [event.seq for event in heard] == list(range(len(heard)))
