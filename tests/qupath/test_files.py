"""Files for QuPath: written by the command, packed or not, read by a reader of QuPath's GeoJSON."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import geojson  # type: ignore[import-untyped]
import pytest
import shapely
from qubalab.objects import ImageFeature

from tests.slides import Shapes


@pytest.mark.parametrize(("output", "kind"), [("instances", "detection"), ("mask", "annotation")])
def test_a_file_is_read_by_another_reader_packed_or_not(
    disk_slide: Shapes, tmp_path: Path, output: str, kind: str
) -> None:
    texts = []
    for name in ("out.geojson", "out.geojson.gz"):
        command = [
            *(sys.executable, "-m", "isoline", "segment", disk_slide.path, "--model", "threshold"),
            *("--param", "below=200", "--param", f"output={output}", "--workers", "1"),
            *("--region", "1000,1000,1800,1700", "--format", "qupath", "--out", tmp_path / name),
        ]
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
        content = (tmp_path / name).read_bytes()
        texts.append(gzip.decompress(content) if name.endswith(".gz") else content)
    features = geojson.loads(texts[0])["features"]
    objects = [ImageFeature.create_from_feature(feature) for feature in features]
    assert len(objects) > 30
    assert all(object_.is_detection == (kind == "detection") for object_ in objects)
    assert all(shapely.geometry.shape(object_.geometry).is_valid for object_ in objects)
    assert {feature["id"] for feature in features} == {
        feature["id"] for feature in json.loads(texts[1])["features"]
    }
