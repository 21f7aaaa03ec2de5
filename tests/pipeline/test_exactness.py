"""The same result whatever the tiles, their order and the workers: seen through the pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely

from isoline.domain.events import Contours
from isoline.domain.request import SegmentRequest
from isoline.engines.engine import Engine
from isoline.engines.local import LocalEngine
from isoline.geometry.grid import XY
from isoline.geometry.region import Region
from isoline.images.catalog import Images
from isoline.models.catalogue import ModelCatalogue
from tests.running import Outcome, SerialEngine, run, shapes
from tests.slides import Shapes

OUTPUTS = ("instances", "mask")


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = SerialEngine(tmp_path_factory.mktemp("weights"), seed=7)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEngine]:
    engine = LocalEngine(2, ModelCatalogue(tmp_path_factory.mktemp("weights")))
    yield engine
    engine.close()


def threshold(slide: Shapes, output: str, **options: object) -> SegmentRequest:
    parameters = {"below": 180, "output": output}
    return SegmentRequest(slide.path.name, "threshold", parameters=parameters, **options)  # type: ignore[arg-type]


def ran(slide: Shapes, engine: Engine, tmp_path: Path, request: SegmentRequest) -> Outcome:
    return run(request, Images.of_file(slide.path), engine, tmp_path)


@pytest.fixture(scope="module")
def untiled(
    disk_slide: Shapes, serial: Engine, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Outcome]:
    images, data = Images.of_file(disk_slide.path), tmp_path_factory.mktemp("data")
    return {
        output: run(threshold(disk_slide, output), images, serial, data, untiled=True)
        for output in OUTPUTS
    }


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_truth_is_found(disk_slide: Shapes, untiled: dict[str, Outcome], output: str) -> None:
    whole = untiled[output]
    assert whole.count == disk_slide.count >= 4000
    areas = np.concatenate([objects.area_px for objects in whole.final])
    assert sorted(areas) == sorted(disk_slide.area_px)


@pytest.mark.parametrize(
    "tile",
    [
        256,
        1000,
        pytest.param(512, marks=pytest.mark.slow),
        pytest.param(2048, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("output", OUTPUTS)
def test_tiles_and_their_order_change_nothing(
    disk_slide: Shapes,
    serial: Engine,
    untiled: dict[str, Outcome],
    tmp_path: Path,
    tile: int,
    output: str,
) -> None:
    tiled = ran(disk_slide, serial, tmp_path, threshold(disk_slide, output, tile=tile))
    assert tiled.done.tiles == -(-6007 // tile) * -(-5003 // tile)
    assert tiled.digest() == untiled[output].digest()


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.slow
def test_workers_change_nothing(
    disk_slide: Shapes,
    two_workers: LocalEngine,
    untiled: dict[str, Outcome],
    tmp_path: Path,
    output: str,
) -> None:
    request = threshold(disk_slide, output, tile=512, focus=XY(3000.0, 1000.0))
    assert ran(disk_slide, two_workers, tmp_path, request).digest() == untiled[output].digest()


@pytest.mark.parametrize("tile", [256, 700])
def test_a_region_keeps_whole_objects_by_their_anchor(
    disk_slide: Shapes, serial: Engine, untiled: dict[str, Outcome], tmp_path: Path, tile: int
) -> None:
    """Objects that leave the region are whole, also where they leave its tiles."""
    lasso = {
        "type": "Polygon",
        "coordinates": [[[701, 655], [3333, 900], [2900, 3100], [701, 655]]],
    }
    region = Region.from_geojson(lasso)
    request = threshold(disk_slide, "instances", tile=tile, region=region)
    inside = ran(disk_slide, serial, tmp_path, request)
    expected = [
        objects.select(region.contains(objects.anchor + 0.5))
        for objects in untiled["instances"].final
    ]
    wanted = Outcome(inside.prepared, [Contours(objects) for objects in expected])
    assert 100 < inside.count < disk_slide.count
    assert inside.digest() == wanted.digest()


@pytest.mark.parametrize("tile", [256, 700])
def test_a_region_cuts_masks_at_pixel_centres(
    disk_slide: Shapes, serial: Engine, tmp_path: Path, tile: int
) -> None:
    region = Region.rectangle(1000.5, 1000.0, 2300.25, 1999.5)
    request = threshold(disk_slide, "mask", tile=tile, region=region)
    outcome = ran(disk_slide, serial, tmp_path, request)
    # centres n + 0.5 in [1000.5, 2300.25) x [1000, 1999.5)
    truth = disk_slide.labels[1000:1999, 1000:2300] > 0
    assert outcome.area_px == truth.sum()
    assert not any(objects.incomplete.any() for objects in outcome.final)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.slow
def test_a_scale_that_is_not_whole(
    disk_slide: Shapes, serial: Engine, tmp_path: Path, output: str
) -> None:
    images = Images.of_file(disk_slide.path)
    options = {"at_um": 0.37, "focus": XY(1.0, 1.0)}
    whole = run(threshold(disk_slide, output, **options), images, serial, tmp_path, untiled=True)
    for tile in (256, 600):
        request = threshold(disk_slide, output, tile=tile, **options)
        assert run(request, images, serial, tmp_path).digest() == whole.digest()
    assert whole.count > 3900


def test_every_geometry_is_valid_and_has_the_area_of_its_pixels(
    untiled: dict[str, Outcome],
) -> None:
    assert untiled["instances"].count > 3900
    for objects in untiled["instances"].final:
        geometries = np.array(shapes(objects))
        assert shapely.is_valid(geometries).all()
        assert (shapely.area(geometries) == objects.area_px).all()


def test_provisional_pieces_are_all_replaced(
    disk_slide: Shapes, serial: Engine, tmp_path: Path
) -> None:
    outcome = ran(disk_slide, serial, tmp_path, threshold(disk_slide, "mask", tile=256))
    shown: set[bytes] = set()
    pieces = 0
    for event in outcome.events:
        if isinstance(event, Contours):
            for raw in event.replaces:
                shown.remove(raw.tobytes())
            shown |= {raw.tobytes() for raw in event.objects.ids}
            pieces += len(event.objects) if event.provisional else 0
    assert pieces > 1000  # or nothing was there to replace
    assert len(shown) == disk_slide.count


@pytest.mark.slow
def test_the_same_nuclei_from_any_tiles(
    real_slide: Path, serial: Engine, two_workers: LocalEngine, tmp_path: Path
) -> None:
    images = Images.of_file(real_slide)
    region = Region.rectangle(7001, 6003, 9049, 8051)
    request = SegmentRequest(real_slide.name, "nuclei", region=region)
    outcomes = [
        run(SegmentRequest(**{**vars(request), "tile": tile}), images, engine, tmp_path)
        for engine, tile in ((serial, 512), (serial, 700), (two_workers, 1024))
    ]
    assert outcomes[0].count > 300
    assert len({outcome.digest() for outcome in outcomes}) == 1


@pytest.mark.slow
def test_the_same_cells_with_the_same_nuclei_from_any_tiles(
    real_slide: Path, serial: Engine, two_workers: LocalEngine, tmp_path: Path
) -> None:
    images = Images.of_file(real_slide)
    region = Region.rectangle(6161, 6153, 7185, 7177)  # within one tile of 2048
    request = SegmentRequest(
        real_slide.name, "nuclei", region=region, parameters={"cell_expansion_um": 5.0}
    )
    outcomes = [
        run(SegmentRequest(**{**vars(request), "tile": tile}), images, engine, tmp_path)
        for engine, tile in ((serial, 2048), (serial, 256), (two_workers, 512))
    ]
    assert outcomes[0].done.tiles == 1
    assert outcomes[0].count > 50
    assert len({outcome.digest() for outcome in outcomes}) == 1
    for objects in outcomes[0].final:
        assert objects.nuclei is not None
        for cell, nucleus in zip(
            shapes(objects), shapes(replace(objects, polygons=objects.nuclei)), strict=True
        ):
            assert cell.covers(nucleus)
            assert 0 < nucleus.area < cell.area
