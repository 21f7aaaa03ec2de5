"""Values as scripts have them: numpy's, shapely's, paths."""

from __future__ import annotations

import json
from pathlib import PurePosixPath, PureWindowsPath

import numpy as np
import pytest
from shapely import Polygon, box

from isoline.protocol.requests import parse_request
from isoline_client.options import Options, request_body


def test_numpy_shapely_and_paths_become_json() -> None:
    options: Options = {
        "region": Polygon([(0, 0), (9, 0), (9, 9)], [[(5, 1), (8, 1), (8, 4)]]),
        "focus": np.array([4.5, 3.0]),  # type: ignore[typeddict-item]
        "parameters": {"below": np.int64(120), "min_score": np.float32(0.5)},
        "spacing_um": np.float64(0.25),
        "tile": np.int32(512),
    }
    body = request_body(PurePosixPath("slides/a.svs"), "nuclei", options)
    request = parse_request(json.dumps(body).encode())
    assert request.image == "slides/a.svs"
    assert (request.focus, request.tile, request.spacing_um) == ((4.5, 3.0), 512, (0.25, 0.25))
    assert request.parameters == {"below": 120, "min_score": 0.5}
    assert request.region is not None
    assert len(request.region.polygons[0]) == 2


@pytest.mark.parametrize("region", [(0, 0, 9, 9), np.array([0, 0, 9, 9]), box(0, 0, 9, 9)])
def test_a_rectangle_in_any_form(region: object) -> None:
    body = request_body("a", "m", {"region": region})  # type: ignore[typeddict-item]
    asked = parse_request(json.dumps(body).encode()).region
    assert asked is not None
    assert (asked.bounds.x1, asked.bounds.y1) == (9, 9)


def test_a_path_of_windows_is_a_name_of_the_protocol() -> None:
    assert request_body(PureWindowsPath("slides\\a.svs"), "m", {})["image"] == "slides/a.svs"
