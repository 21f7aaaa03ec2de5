from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isoline.config import settings as config
from isoline.domain.request import SegmentRequest
from isoline.errors import IsolineError, Malformed, NotAllowed, UnknownImage, WrongImage
from isoline.images.catalog import ANYONE, Images
from isoline.images.file_uris import FileUris
from tests.planning import any_plan


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "slides" / "case 7"
    folder.mkdir(parents=True)
    Image.fromarray(np.full((20, 30, 3), 200, np.uint8)).save(folder / "größe 1.png")
    (tmp_path / "secret.png").write_bytes((folder / "größe 1.png").read_bytes())
    return tmp_path / "slides"


NAME = "slides/case 7/größe 1.png"


@pytest.mark.parametrize(
    ("prefix", "uri"),
    [
        ("/home/me/scans", "file:///home/me/scans/case%207/gr%C3%B6%C3%9Fe%201.png"),
        ("file:///home/me/scans/", "file:/home/me/scans/case%207/gr%C3%B6%C3%9Fe%201.png"),
        ("/home/me/scans", "file://localhost/home/me/scans/case 7/größe 1.png"),
        ("S:\\scans", "file:/S:/scans/case%207/gr%C3%B6%C3%9Fe%201.png"),
        ("S:\\Scans\\", "file:///s:/scans/case%207/gr%C3%B6%C3%9Fe%201.png"),
        ("file:///S:/scans", "file:///S:/scans/./case%207//gr%C3%B6%C3%9Fe%201.png"),
        (r"\\nas\pathology", "file:////NAS/pathology/case%207/gr%C3%B6%C3%9Fe%201.png"),
        ("//nas/pathology", "file://nas/pathology/case%207/gr%C3%B6%C3%9Fe%201.png"),
        ("file://nas/pathology", "file://///nas/pathology/case%207/gr%C3%B6%C3%9Fe%201.png"),
        ("/", "file:///case%207/gr%C3%B6%C3%9Fe%201.png"),
    ],
)
def test_a_uri_is_found_however_it_is_spelt(root: Path, prefix: str, uri: str) -> None:
    found = FileUris({prefix: "slides"}, Images({"slides": root})).find(uri, ANYONE)
    assert found.name == NAME
    assert found.info.size == (30, 20)


@pytest.mark.parametrize(
    "uri",
    [
        "file:///elsewhere/a.png",
        "file:///home/me/scansion/case%207/a.png",
        "file:///Home/me/scans/case%207/a.png",  # POSIX tells capitals apart
        "file://nas/home/me/scans/a.png",
        "file:///home/me/scans/case%207/other.png",
        "file:///home/me/scans/../../secret.png",
        "file:///home/me/scans/%2E%2E/secret.png",
        "file:",
        "file:///home/me/scans/a%00.png",
        "file:///home/me/scans/%ff%fe.png",
    ],
)
def test_what_is_not_there_is_unknown_and_can_be_uploaded(root: Path, uri: str) -> None:
    uris = FileUris({"/home/me/scans": "slides"}, Images({"slides": root}))
    with pytest.raises(UnknownImage):
        uris.find(uri, ANYONE)


def test_a_link_out_of_the_root_is_refused(root: Path) -> None:
    (root / "link.png").symlink_to(root.parent / "secret.png")
    uris = FileUris({"/data": "slides"}, Images({"slides": root}))
    with pytest.raises(NotAllowed):
        uris.find("file:///data/link.png", ANYONE)


def test_the_longest_prefix_wins(root: Path) -> None:
    folders = {"/data": "slides", "/data/old": "slides/case 7"}
    uris = FileUris(folders, Images({"slides": root}))
    assert uris.find("file:///data/old/größe%201.png", ANYONE).name == NAME


def test_a_file_of_another_size_is_another_image(root: Path) -> None:
    images = Images({"slides": root})
    images = Images({"slides": root}, {"file": FileUris({"/data": "slides"}, images)})
    uri = "file:///data/case%207/gr%C3%B6%C3%9Fe%201.png"

    def prepare(size: tuple[int, int]) -> None:
        request = SegmentRequest(uri, "threshold", image_size=size)
        any_plan(request, images, root)

    prepare((30, 20))
    with pytest.raises(WrongImage, match="30 x 20 pixels here, and 30 x 21 in the viewer"):
        prepare((30, 21))


def test_the_table_is_read_from_the_configuration(tmp_path: Path, root: Path) -> None:
    text = "[images]\nslides = 'slides'\n[file_uris]\n'S:\\scans' = 'slides/case 7'\n"
    (tmp_path / "isoline.toml").write_text(text)
    settings = config.load(tmp_path / "isoline.toml", {})
    uris = FileUris(settings.file_uris, Images(settings.images))
    assert uris.find("file:/S:/scans/gr%C3%B6%C3%9Fe%201.png", ANYONE).name == NAME


@pytest.mark.parametrize("target", ["'nowhere'", "7"])
def test_a_prefix_must_lead_to_a_root(tmp_path: Path, root: Path, target: str) -> None:
    text = f"[images]\nslides = 'slides'\n[file_uris]\n'/data' = {target}\n"
    (tmp_path / "isoline.toml").write_text(text)
    with pytest.raises(Malformed, match="file_uris") as caught:
        config.load(tmp_path / "isoline.toml", {})
    assert isinstance(caught.value, IsolineError)
