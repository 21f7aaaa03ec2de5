"""What MONAI Label's routes keep and read: the datastore, sessions, forms and masks."""

from __future__ import annotations

import gzip
import http.client
import io
import json
import os
import string
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import waitress
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from waitress import wasyncore
from waitress.channel import HTTPChannel
from werkzeug.datastructures import FileStorage
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from isoline.domain.events import Objects
from isoline.errors import (
    Broken,
    Busy,
    IsolineError,
    Malformed,
    NotAllowed,
    NotFound,
    NotSupported,
    RequestError,
    UnknownImage,
)
from isoline.geometry.grid import XY, Grid
from isoline.geometry.polygons import trace
from isoline.images.catalog import ANYONE
from isoline.models.catalogue import MODELS
from isoline.server.monailabel import forms, masks, points, sessions, wsi
from isoline.server.monailabel.datastore import Datastore
from isoline.server.monailabel.inference import whole_or_part
from isoline.server.monailabel.masks import Frame, Kind
from isoline.server.monailabel.sessions import Sessions
from isoline.server.monailabel.stale import accept_stale_lengths
from isoline.sources.base import ImageInfo, Level

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> Datastore:
    return Datastore(folder)


def add(store: Datastore, name: str = "a.png", content: bytes = b"pixels", **info: Any) -> str:
    return store.add_image(None, name, io.BytesIO(content), info)


def label(store: Datastore, image: str, tag: str = "final", name: str = "x.json") -> None:
    store.save_label(image, tag, name, io.BytesIO(b"{}"), {"by": "me"})


# The datastore


def test_nothing_is_written_before_something_is_kept(store: Datastore, folder: Path) -> None:
    assert store.status() == {"total": 0, "completed": 0, "label_tags": {}}
    assert not folder.exists()


def test_images_labels_tags_and_notes(store: Datastore, folder: Path) -> None:
    assert add(store, "a.png", site="lung") == "a"
    assert store.add_image("slide 2", "x.ome.tif", io.BytesIO(b"2"), {}) == "slide 2"
    label(store, "a")
    label(store, "a", "original", "model.seg.nrrd")
    store.update_image_info("a", {"seen": 1})
    store.update_label_info("a", "final", {"checked": True})
    assert store.status() == {
        "total": 2,
        "completed": 1,
        "label_tags": {"final": 1, "original": 1},
    }
    assert store.image("slide 2") == (folder / "slide 2.ome.tif").resolve()
    info = store.image_info("a")
    assert {key: info[key] for key in ("site", "seen", "name", "path")} == {
        "site": "lung",
        "seen": 1,
        "name": "a.png",
        "path": "a.png",
    }
    assert store.label_info("a", "final")["checked"] is True
    assert store.label("a", "original") == folder / "labels" / "original" / "a.seg.nrrd"
    assert store.pairs() == [{"image": "a.png", "label": "labels/final/a.json"}]
    assert store.ids("labeled") == ["a"]
    assert store.ids("unlabeled") == ["slide 2"]
    assert store.ids() == ["a", "slide 2"]

    again = Datastore(folder)
    assert again.everything() == store.everything()
    again.remove_label("a", "final")
    assert store.ids("labeled") == []
    again.remove_image("a")
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [
        "datastore_v2.json",
        "slide 2.ome.tif",
    ]


def test_what_is_kept_again_takes_the_place_of_the_old(store: Datastore, folder: Path) -> None:
    add(store, "a.png")
    label(store, "a")
    store.add_image("a", "a.tif", io.BytesIO(b"new"), {})
    label(store, "a", name="x.xml")
    assert store.image("a").read_bytes() == b"new"
    assert not (folder / "a.png").exists()
    assert [path.name for path in (folder / "labels" / "final").iterdir()] == ["a.xml"]


def test_files_that_somebody_puts_there_are_found(store: Datastore, folder: Path) -> None:
    add(store)
    (folder / "labels" / "final").mkdir(parents=True)
    (folder / "labels" / "final" / "b.png").write_bytes(b"label")
    (folder / "b.svs").write_bytes(b"slide")
    (folder / "notes.txt").write_bytes(b"no image")
    assert store.ids() == ["a", "b"]
    assert store.label("b", "final").read_bytes() == b"label"
    (folder / "b.svs").unlink()
    assert store.ids() == ["a"]


def test_a_note_of_monai_label_is_understood(folder: Path) -> None:
    folder.mkdir()
    (folder / "case.png").write_bytes(b"pixels")
    entry = {"image": {"ext": ".png", "info": {"site": "liver"}}, "labels": {}}
    note = {"name": "n", "description": "d", "images_dir": ".", "objects": {"case": entry}}
    (folder / "datastore_v2.json").write_text(json.dumps(note))
    assert Datastore(folder).image_info("case")["site"] == "liver"
    (folder / "datastore_v2.json").write_text("{ torn")
    assert Datastore(folder).ids() == ["case"]


NAMES = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["..", ".", "", "/etc/passwd", "..\\up", "a/b", "a\0b", ".hidden", "a\n", "C:x", "x" * 300]
    ),
)


@given(NAMES, NAMES, NAMES)
def test_names_never_leave_the_directory(
    tmp_path_factory: pytest.TempPathFactory, image: str, tag: str, file: str
) -> None:
    base = tmp_path_factory.mktemp("base")
    store = Datastore(base / "store")
    for act in (
        lambda: store.add_image(image, f"{file}.png", io.BytesIO(b"1"), {}),
        lambda: store.add_image("ok", "ok.png", io.BytesIO(b"1"), {}),
        lambda: store.save_label("ok", tag, file, io.BytesIO(b"2"), {}),
        lambda: store.label("ok", tag),
        lambda: store.image(image),
        lambda: store.remove_label(image, tag),
        lambda: store.remove_image(image),
    ):
        try:
            act()
        except (IsolineError, UnicodeEncodeError):
            continue
    assert [path.name for path in base.iterdir()] == ["store"]
    allowed = (base / "store", base / "store" / "labels")
    for path in (base / "store").rglob("*"):
        assert path.parent in allowed or path.parent.parent == allowed[1]
    assert (base / "store" / "ok.png").read_bytes() == b"1" or image == "ok"


def test_the_note_cannot_be_replaced_by_an_image(store: Datastore) -> None:
    with pytest.raises(NotSupported):
        store.add_image("datastore_v2", "datastore_v2.json", io.BytesIO(b"{}"), {})


def test_links_out_of_the_directory_are_no_images(store: Datastore, folder: Path) -> None:
    add(store)
    secret = folder.parent / "secret.png"
    secret.write_bytes(b"secret")
    (folder / "leak.png").symlink_to(secret)
    with pytest.raises(UnknownImage):
        store.image("leak")


def test_an_upload_that_breaks_off_leaves_what_was_there(store: Datastore, folder: Path) -> None:
    class Broke(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError(28, "No space left on device")

    add(store, "a.png", b"old")
    with pytest.raises(Broken, match="No space left"):
        store.add_image("a", "a.png", Broke(), {})  # type: ignore[arg-type]
    assert store.image("a").read_bytes() == b"old"
    assert sorted(path.name for path in folder.iterdir()) == ["a.png", "datastore_v2.json"]


def test_many_at_once_lose_nothing(store: Datastore, folder: Path) -> None:
    add(store)
    threads = [
        threading.Thread(target=store.update_image_info, args=("a", {str(k): k})) for k in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    info = Datastore(folder).image_info("a")
    assert all(info[str(k)] == k for k in range(16))


# Contents from outside


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("a.tif", b"[Virtual Microscope Specimen]\nImageFile=../../x.jpg\n", NotSupported),
        ("a.png", b"\x1f\x8b" + bytes(300), NotSupported),
        ("a.tif", b"II*\0" + bytes(300), NotSupported),
    ],
)
def test_formats_that_name_other_files_are_not_opened(
    store: Datastore, name: str, content: bytes, error: type[IsolineError]
) -> None:
    add(store, name, content)
    with pytest.raises(error):
        store.find("datastore:a", ANYONE)


def test_an_ome_tiff_that_names_files_elsewhere_is_not_opened(store: Datastore) -> None:
    for path in ("../../secret.tif", "&#46;&#46;&#47;secret.tif", r"C:\secret.tif"):
        described = f'<OME><UUID FileName="{path}">urn:uuid:1</UUID></OME>'
        file, pixels = io.BytesIO(), np.zeros((32, 32, 3), np.uint8)
        tifffile.imwrite(file, pixels, description=described, metadata=None)
        file.seek(0)
        store.add_image("x", "x.tif", file, {})
        with pytest.raises(NotAllowed):
            store.find("datastore:x", ANYONE)


# Sessions


def upload(name: str = "a.png", content: bytes = PNG) -> FileStorage:
    return FileStorage(io.BytesIO(content), name, "files")


@pytest.fixture
def kept(tmp_path: Path) -> Sessions:
    return Sessions(tmp_path / "sessions", most=2, longest_seconds=100)


def test_a_session_lives_as_long_as_it_is_used(kept: Sessions, tmp_path: Path) -> None:
    session = kept.create([upload()], 50)
    assert session.expiry == 50
    assert kept.create([upload()], 5000).expiry == 100
    with pytest.raises(Busy):
        kept.create([upload()])
    note = tmp_path / "sessions" / session.name / "session.json"
    os.utime(note, (note.stat().st_mtime - 45,) * 2)
    assert kept.file(session.name).read_bytes() == PNG  # which is a use
    assert kept.get(session.name).last_access_ts > note.stat().st_mtime - 2
    os.utime(note, (note.stat().st_mtime - 60,) * 2)
    with pytest.raises(NotFound):
        kept.get(session.name)
    assert kept.create([upload()]).name != session.name  # there is room again
    assert not note.exists()


def test_no_path_of_the_server_is_told(kept: Sessions, tmp_path: Path) -> None:
    told = sessions.session_json(kept.create([upload()]))
    assert str(tmp_path) not in json.dumps(told)


def test_several_files_are_a_series_or_nothing(kept: Sessions) -> None:
    session = kept.create([upload("1.dcm"), upload("2.dcm")])
    with pytest.raises(NotSupported, match="not a DICOM series"):
        kept.file(session.name)


@pytest.mark.parametrize("files", [[], [upload(), upload()], [upload("../a.png")], [upload("")]])
def test_uploads_that_make_no_session(
    kept: Sessions, tmp_path: Path, files: list[FileStorage]
) -> None:
    with pytest.raises(Malformed):
        kept.create(files)
    assert not (tmp_path / "sessions").exists()


@given(st.text(string.printable, max_size=40))
def test_no_session_but_those_made_here(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    base = tmp_path_factory.getbasetemp()
    with pytest.raises(NotFound):
        Sessions(base, 5, 100).file(name)


# Forms


def request_of(body: bytes, content_type: str) -> Request:
    builder = EnvironBuilder(method="PUT", data=body, content_type=content_type)
    return Request(builder.get_environ())


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "multipart/form-data; boundary=of-an-earlier-call", "text/plain", ""],
)
def test_the_first_line_says_what_a_body_is(tmp_path: Path, content_type: str) -> None:
    body = (
        b"----------lImIt_of_THE_fIle_eW_$\r\n"
        b'Content-Disposition: form-data; name="params"\r\n\r\n{"a": 1}\r\n'
        b"----------lImIt_of_THE_fIle_eW_$\r\n"
        b'Content-Disposition: form-data; name="files"; filename="C:\\Users\\me\\x.png"\r\n'
        b"Content-Type: image/png\r\n\r\n" + bytes(range(256)) * 999 + b"\r\n"
        b"----------lImIt_of_THE_fIle_eW_$--\r\n\r\n"
    )
    form = forms.read(request_of(body, content_type), 1 << 20, tmp_path)
    assert form.json("params") == {"a": 1}
    file = form.file("files")
    assert file is not None
    assert file.filename == "x.png"
    assert file.read() == bytes(range(256)) * 999
    assert list(tmp_path.iterdir()) == []


def test_url_encoded_forms(tmp_path: Path) -> None:
    body = b"password=open%20sesame&info=%7B%22a%22%3A1%7D"
    form = forms.read(request_of(body, "application/x-www-form-urlencoded"), 1000, tmp_path)
    assert form.fields["password"] == "open sesame"
    assert form.json("info") == {"a": 1}
    assert form.json("params") == {}
    with pytest.raises(Malformed):
        form.json("password")


def test_a_form_that_is_cut_off(tmp_path: Path) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="params"\r\n\r\n{"a"'
    with pytest.raises(Malformed):
        forms.read(request_of(body, ""), 1000, tmp_path)


# Masks


def objects(labels: NDArray[np.int32], classes: list[int]) -> Objects:
    """Return the labels 1 .. n as objects of the given classes."""
    traced = trace(labels)
    n = len(traced.label)
    return Objects(
        traced.polygons,
        np.zeros((n, 16), np.uint8),
        np.array(classes, np.uint16)[traced.label - 1],
        traced.area_px,
        np.zeros((n, 2), np.int32),
        np.zeros(n, np.bool_),
    )


@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 2.0, 1.5, 4.0004]))
def test_a_mask_says_what_lies_under_the_centre_of_each_pixel(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    labels = np.zeros((9, 11), np.int32)
    labels[1:5, 2:8], labels[2:4, 3:6], labels[5:8, 2:4] = 1, 0, 2
    labels[rng.random(labels.shape) < 0.05] = 0
    labels[8, 10] = 3
    found = objects(labels, [0, 1, 0])
    grid = Grid((int(11 * scale) + 3, int(9 * scale) + 3), XY(scale, scale))
    x0, y0 = rng.integers(-5, 10, 2)
    step = float(rng.choice([1.0, 2.0, 0.7]))
    frame = Frame(XY(float(x0), float(y0)), (17, 13), XY(step, step))
    mask = masks.draw([found], grid, frame)
    values = np.array([0, 1, 2, 1])
    for j in range(13):
        for i in range(17):
            x, y = (x0 + (i + 0.5) * step) / scale, (y0 + (j + 0.5) * step) / scale
            if min(abs(x - round(x)), abs(y - round(y))) < 1e-6:
                continue  # on an edge: either side is right
            inside = 0 <= x < 11 and 0 <= y < 9
            truth = values[labels[int(y), int(x)]] if inside else 0
            assert mask[j, i] == truth


def test_files_of_masks() -> None:
    mask = np.arange(12, dtype=np.int32).reshape(3, 4)
    body, _ = masks.encode(mask, Kind.of({}))
    assert (np.asarray(Image.open(io.BytesIO(body))) == mask).all()
    body, _ = masks.encode(mask * 100, Kind.of({"result_extension": "tif"}))
    assert (tifffile.imread(io.BytesIO(body)) == mask * 100).all()
    asked = {"result_extension": ".nrrd", "result_dtype": "uint16", "result_compress": True}
    body, _ = masks.encode(mask, Kind.of(asked))
    header, _, raw = body.partition(b"\n\n")
    assert b"encoding: gzip" in header
    assert b"sizes: 4 3" in header
    assert gzip.decompress(raw) == mask.astype("<u2").tobytes()
    for suffix, dtype in ((".nii.gz", None), (".png", "int32"), (".nrrd", "float99"), ([], {})):
        with pytest.raises(NotSupported):
            Kind.of({"result_extension": suffix, "result_dtype": dtype})


# What clients say of a region

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
INFO = ImageInfo(
    reader="plain",
    fingerprint="",
    kind="slide",
    levels=(Level((1000, 800), XY(1.0, 1.0)), Level((249, 199), XY(4.016, 4.02))),
    spacing_um=None,
    channels=("red", "green", "blue"),
    dtype=np.dtype(np.uint8),
    background=(255, 255, 255),
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            key: JSON | st.lists(st.floats(-2000, 2000) | st.integers(0, 3000), max_size=4)
            for key in ("level", "location", "size", "tile_size", "min_poly_area", "params", "roi")
        },
    ),
    st.booleans(),
)
def test_whatever_is_said_of_a_region_is_a_request_or_a_mistake(
    said: dict[str, Any], whole: bool
) -> None:
    try:
        asked = whole_or_part(said) if whole else wsi.parse(said)
        where = wsi.place(asked, "x", INFO)
        spec = MODELS.load("threshold").spec
        wsi.request(asked, where, "x", INFO, "threshold", spec, 0.5)
        points.prompts(asked.params, replace(spec, prompts=("point",)), 2)
    except RequestError:
        return
    x0, y0, x1, y1 = where.corners
    assert 0 <= x0 < x1 < 1000 + 4.1
    assert 0 <= y0 < y1 < 800 + 4.1


# waitress


@pytest.fixture
def waitress_port() -> Iterator[int]:
    def echo(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read()
        start_response("200 OK", [("Content-Length", str(len(body) + 4))])
        return [environ["REQUEST_METHOD"].ljust(4)[:4].encode() + body]

    before = HTTPChannel.parser_class
    accept_stale_lengths()
    server = waitress.create_server(echo, host="127.0.0.1", port=0, threads=1)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server.effective_port
    # the loop ends when it has no socket left; only its own thread may take them away
    server.trigger.pull_trigger(lambda: wasyncore.close_all(server._map))
    thread.join(5)
    assert not thread.is_alive()
    HTTPChannel.parser_class = before


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_length_without_a_body_is_not_waited_for(waitress_port: int, method: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", waitress_port, timeout=5)
    connection.request(method, "/", headers={"Content-Length": "500"})
    assert connection.getresponse().read() == method.ljust(4)[:4].encode()


def test_what_follows_such_a_request_is_no_request(waitress_port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", waitress_port, timeout=5)
    smuggled = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    connection.request("GET", "/", smuggled)
    answer = connection.getresponse()
    assert answer.read() == b"GET "
    assert answer.headers["Connection"] == "close"
    assert connection.sock is None


def test_bodies_are_still_read(waitress_port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", waitress_port, timeout=5)
    connection.request("POST", "/", b"a body")
    assert connection.getresponse().read() == b"POSTa body"
