"""Prompts as people write them: on the command line, in GeoJSON files, as masks to correct."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from shapely.geometry import shape

from isoline.cli.prompt_files import initial_mask, prompts_of
from isoline.domain.prompts import Prompt, check
from isoline.errors import BadPrompt
from isoline.sources.registry import open_image
from isoline.sources.volume import VolumeSource
from tests.serving import PLUGINS

pytestmark = pytest.mark.slow

COLLECTION = {
    "type": "FeatureCollection",
    "features": [
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [4.5, 6]}},
        {
            "type": "Feature",
            "geometry": {"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]},
            "properties": {"include": False},
        },
        {
            "type": "Feature",
            "geometry": {"type": "LineString", "coordinates": [[1, 2], [3, 4], [5, 6]]},
            "properties": {"classification": {"name": "Ignore*", "color": [0, 0, 0]}},
        },
        {
            "type": "Feature",
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 0]], [[2, 1], [3, 1], [3, 2], [2, 1]]],
            },
            "properties": {"classification": {"name": "Tumor"}},
        },
    ],
}


@pytest.mark.parametrize(
    ("said", "dimensions", "meant"),
    [
        ("point:3,4.5", 2, Prompt("point", ((3, 4.5),))),
        ("point:3,4,-", 2, Prompt("point", ((3, 4),), False)),
        ("point:-3,4,5", 3, Prompt("point", ((-3, 4, 5),))),
        ("box:1,2,3,4", 2, Prompt("box", ((1, 2), (3, 4)))),
        ("box:1,2,3,4,5,6,-", 3, Prompt("box", ((1, 2, 3), (4, 5, 6)), False)),
        ("scribble:1,2,3,4,5,6", 2, Prompt("scribble", ((1, 2), (3, 4), (5, 6)))),
        ("scribble:1,2,3,4,5,6", 3, Prompt("scribble", ((1, 2, 3), (4, 5, 6)))),
        ("polygon:0,0,9,0,9,9", 2, Prompt("polygon", ((0, 0), (9, 0), (9, 9)))),
    ],
)
def test_in_a_word(said: str, dimensions: int, meant: Prompt) -> None:
    assert prompts_of(said, dimensions) == (meant,)


def test_drawn_in_a_viewer(tmp_path: Path) -> None:
    path = tmp_path / "drawn.geojson"
    expected = (
        Prompt("point", ((4.5, 6),)),
        Prompt("point", ((1, 2),), False),
        Prompt("point", ((3, 4),), False),
        Prompt("scribble", ((1, 2), (3, 4), (5, 6)), False),
        Prompt("polygon", ((0, 0), (9, 0), (9, 9))),
    )
    for drawn in (COLLECTION, COLLECTION["features"]):
        path.write_text(json.dumps(drawn))
        assert prompts_of(str(path), 2) == expected
    path.write_text(json.dumps({"type": "Point", "coordinates": [1, 2, 3]}))
    assert prompts_of(str(path), 3) == (Prompt("point", ((1, 2, 3),)),)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("dot:1,2", "neither a prompt nor a file"),
        ("point:a,b", "expected numbers"),
        ("point:1,2,3", "3 numbers do not form positions of 2"),
        ("point:-", "0 numbers"),
        ("nowhere.geojson", "cannot read"),
    ],
)
def test_what_is_not_understood(said: str, message: str) -> None:
    with pytest.raises(BadPrompt, match=message) as refused:
        prompts_of(said, 2)
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("drawn", "message"),
    [
        ("{", "is not JSON"),
        ('{"type": "Feature", "geometry": null}', "expected a Point"),
        ('{"type": "Point", "coordinates": ["a", 2]}', "not a list of numbers"),
        ('[{"type": "MultiLineString", "coordinates": []}]', r"\[0\]: expected a Point"),
    ],
)
def test_what_is_wrong_in_a_file(tmp_path: Path, drawn: str, message: str) -> None:
    path = tmp_path / "drawn.geojson"
    path.write_text(drawn)
    with pytest.raises(BadPrompt, match=message):
        prompts_of(str(path), 2)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=9), lambda inner: (
    st.lists(inner, max_size=3)
    | st.fixed_dictionaries(
        {"type": st.sampled_from(["Feature", "Point", "LineString", "Polygon", "MultiPoint"])},
        optional={"coordinates": inner, "geometry": inner, "properties": inner},
    )
), max_leaves=12))  # fmt: skip
def test_any_file_is_understood_or_refused(
    tmp_path_factory: pytest.TempPathFactory, drawn: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.geojson"
    path.write_text(json.dumps(drawn))
    try:
        prompts = prompts_of(str(path), 2)
    except BadPrompt:
        return
    kinds = [prompt.kind for prompt in prompts]
    assert set(kinds) <= {"point", "scribble", "polygon"}
    assert [prompt.points for prompt in prompts if prompt.kind == "point"].count(()) == 0


def test_the_page_means_what_it_says() -> None:
    page = (Path(__file__).parents[2] / "docs" / "prompts.md").read_text(encoding="utf-8")
    commands = re.findall(r"isoline segment (\S+)((?:.*\\\n)*.*)", page)
    said = [
        (2 if image == "slide.svs" else 3, word)
        for image, rest in commands
        for word in re.findall(r"--prompt (\S+)", rest)
    ]
    assert len(said) == 9
    for dimensions, word in said:
        check(prompts_of(word, dimensions), dimensions)


def isoline(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [str(PLUGINS), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-m", "isoline", "segment", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path, "ISOLINE_DATA": str(folder), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_picture_on_the_command_line(tmp_path: Path) -> None:
    picture = np.full((50, 70, 3), 240, np.uint8)
    picture[10:14, 20:30] = picture[30:32, 40:44] = 20
    Image.fromarray(picture).save(tmp_path / "p.png")
    (tmp_path / "drawn.geojson").write_text(
        '{"type": "Feature", "geometry": {"type": "Point", "coordinates": [41, 31]},'
        ' "properties": {"classification": {"name": "Negative"}}}'
    )
    (tmp_path / "begun.geojson").write_text(
        '{"type": "Polygon", "coordinates": [[[1, 1], [3, 1], [3, 2], [1, 2], [1, 1]]]}'
    )
    given_ = ["--model", "flood", "--prompt", "point:21,11", "--prompt", "point:41,31"]
    out = tmp_path / "out.geojson"
    refused = isoline(
        tmp_path, tmp_path / "p.png", *given_, "--prompt", tmp_path / "drawn.geojson", "--out", out
    )
    assert refused.returncode == 2
    assert "prompts[1] includes and prompts[2] excludes the same pixel, 41, 31" in refused.stderr
    assert not out.exists()
    begun = ["--initial", tmp_path / "begun.geojson"]
    done = isoline(tmp_path, tmp_path / "p.png", *given_, *begun, "--out", out)
    assert done.returncode == 0, done.stderr
    (feature,) = json.loads(out.read_text())["features"]
    assert shape(feature["geometry"]).area == 40 + 8 + 2


def test_a_volume_on_the_command_line(tmp_path: Path) -> None:
    affine = np.diag([-0.8, -1.1, 2.5, 1.0])
    voxels = np.full((30, 25, 20), 900, np.int16)
    voxels[5:9, 6:12, 7:10] = -100
    begun = np.zeros(voxels.shape, np.uint8)
    begun[20:22, 3, 4] = 1
    nibabel.save(nibabel.Nifti1Image(voxels, affine), tmp_path / "v.nii.gz")
    nibabel.save(nibabel.Nifti1Image(begun, affine), tmp_path / "begun.nii.gz")
    done = isoline(
        tmp_path, tmp_path / "v.nii.gz", "--model", "flood", "--prompt", "point:6,7,8",
        "--initial", tmp_path / "begun.nii.gz", "--format", "nifti", "--out", tmp_path / "m.nii.gz",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = np.asarray(nibabel.load(tmp_path / "m.nii.gz").dataobj)
    np.testing.assert_array_equal(found, (voxels < 0) | (begun > 0))


def test_a_mask_to_correct_lies_on_the_grid_of_the_image(tmp_path: Path) -> None:
    for name, corner in (("a.nii", 1.0), ("b.nii", 2.0)):
        affine = np.diag([1.0, 1.0, corner, 1.0])
        nibabel.save(nibabel.Nifti1Image(np.ones((4, 5, 6), np.uint8), affine), tmp_path / name)
    Image.new("RGB", (9, 9)).save(tmp_path / "p.png")
    source = open_image(tmp_path / "a.nii")
    assert isinstance(source, VolumeSource)
    slices = initial_mask(tmp_path / "a.nii", source.volume)
    assert [(drawn.slice, drawn.box) for drawn in slices] == [(k, (0, 0, 4, 5)) for k in range(6)]
    for name, message in (
        ("b.nii", "not those"),
        ("p.png", "not a volume"),
        ("c.nii", "not exist"),
    ):
        with pytest.raises(BadPrompt, match=message):
            initial_mask(tmp_path / name, source.volume)
