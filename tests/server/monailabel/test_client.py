"""The real Python client of MONAI Label, every method, against a real server."""

from __future__ import annotations

import http.client
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.serving import serving
from tests.slides import Shapes

pytestmark = pytest.mark.slow

TOKEN = "open sesame"


@dataclass(frozen=True)
class Server:
    """A server, the client that speaks to it, and a folder of the client's own."""

    url: str
    client: Any
    module: Any
    mine: Path
    token: str

    @property
    def refusal(self) -> type[Exception]:
        refusal: type[Exception] = self.module.MONAILabelClientException
        return refusal


@pytest.fixture(scope="module", params=["open", "token"])
def server(
    request: pytest.FixtureRequest,
    monailabel: Any,
    disk_slide: Shapes,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    images, data, mine = (tmp_path_factory.mktemp(name) for name in ("images", "data", "mine"))
    shutil.copy(disk_slide.path, images / "disks.tif")
    flat = np.full((300, 400, 3), 230, np.uint8)
    flat[100:120, 50:90] = 40
    Image.fromarray(flat).save(mine / "flat.png")
    token = TOKEN if request.param == "token" else ""
    more = '[engine]\nworkers = 1\n[monailabel]\ntrusted = ["127.0.0.2"]\n'
    with serving(images, data, more=more, token=token) as url:
        client = monailabel.MONAILabelClient(url, tmpdir=str(mine), client_id="tester")
        if token:
            client.update_auth(client.auth_token("anyone", TOKEN))
        yield Server(url, client, monailabel, mine, token)


def test_access(server: Server) -> None:
    stranger = server.module.MONAILabelClient(server.url)
    assert stranger.auth_enabled() is bool(server.token)
    assert server.client.auth_valid_token()
    assert stranger.auth_valid_token() is not bool(server.token)
    if not server.token:
        assert stranger.auth_token("anyone", "x") == {"access_token": None, "token_type": None}
        return
    with pytest.raises(server.refusal) as wrong:
        stranger.auth_token("anyone", "guess")
    assert wrong.value.status_code == 401  # type: ignore[attr-defined]
    with pytest.raises(server.refusal) as refused:
        stranger.info()
    assert refused.value.status_code == 401  # type: ignore[attr-defined]
    assert "credentials" in refused.value.msg  # type: ignore[attr-defined]


def test_info_after_a_body_was_sent(server: Server) -> None:
    # from here on the client sends the length of this body with every GET
    assert server.client.next_sample("random", {}) == {}
    info = server.client.info()
    assert info["name"] == "isoline"
    assert info["models"]["threshold"]["labels"] == {"Foreground": 1}
    assert info["models"]["threshold"]["config"]["output"] == ["instances", "mask"]
    assert info["models"]["threshold"]["type"] == "segmentation"
    assert "epithelium" not in info["models"]  # its weights are not here
    assert "Foreground" in info["labels"]
    assert (info["trainers"], info["strategies"], info["scoring"]) == ({}, {}, {})


def test_a_session_from_upload_to_removal(server: Server) -> None:
    # the body goes out as multipart under the content type of the call before
    server.client.next_sample("random", {})
    created = server.client.create_session(str(server.mine / "flat.png"), {"any": "thing"})
    session = created["session_id"]
    assert created["session_info"]["image"] == "flat.png"
    assert server.client.get_session(session)["expiry"] == 3600
    params = {"result_extension": ".nrrd", "result_dtype": "uint8", "below": 100}
    file, said = server.client.infer("threshold", "", params, session_id=session)
    header, _, pixels = Path(file).read_bytes().partition(b"\n\n")
    assert b"sizes: 400 300" in header
    assert b"encoding: raw" in header
    mask = np.frombuffer(pixels, np.uint8).reshape(300, 400)
    truth = np.zeros((300, 400), np.uint8)
    truth[100:120, 50:90] = 1
    assert (mask == truth).all()
    assert said["label_names"] == {"Foreground": 1}
    assert server.client.remove_session(session)["name"] == session
    with pytest.raises(server.refusal, match="404"):
        server.client.get_session(session)


def test_images_and_labels(server: Server) -> None:
    client, flat = server.client, str(server.mine / "flat.png")
    assert client.upload_image(flat, "case 1", {"site": "lung"}) == {"image": "case 1"}
    file, said = client.infer("threshold", "case 1", {"below": 100, "result_extension": ".tif"})
    assert tifffile.imread(file).sum() == 20 * 40
    (annotation,) = said["annotations"]
    (element,) = annotation["annotation"]["elements"]
    assert element["contours"] == [[[50, 100], [90, 100], [90, 120], [50, 120]]]

    saved = client.save_label("case 1", file, "final", {"reader": "A"})
    assert saved == {"image": "case 1", "label": "case 1"}
    listed = client.datastore()["objects"]["case 1"]
    assert listed["image"]["info"]["site"] == "lung"
    assert listed["labels"]["final"]["info"]["reader"] == "A"
    back = client.download_label("case 1", "final")
    assert Path(back).read_bytes() == Path(file).read_bytes()
    assert back.endswith(".tif")
    assert client.info()["datastore"] == {
        "total": 1,
        "completed": 1,
        "label_tags": {"final": 1},
    }
    with pytest.raises(server.refusal, match="404"):
        client.download_label("case 1", "none")


def test_a_file_with_the_request(server: Server) -> None:
    flat = str(server.mine / "flat.png")
    file, _ = server.client.infer(
        "threshold", "", {"below": 100, "image": "/etc/passwd"}, file=flat
    )
    assert np.asarray(Image.open(file)).sum() == 20 * 40


def test_what_cannot_be_run_is_said(server: Server) -> None:
    flat = str(server.mine / "flat.png")
    volume = server.mine / "volume.nii.gz"
    volume.write_bytes(b"\x1f\x8b" + bytes(200))
    with pytest.raises(server.refusal, match="is not a NIfTI file") as refused:
        server.client.infer("threshold", "", {}, file=str(volume))
    assert "sessions" not in str(refused.value), "a path of the server is told"
    with pytest.raises(server.refusal, match=r"did you mean .*nuclei"):
        server.client.infer("nucleii", "", {}, file=flat)
    with pytest.raises(server.refusal, match="no pixel size"):
        server.client.infer("nuclei", "", {}, file=flat)
    with pytest.raises(server.refusal, match="cannot be written as"):
        server.client.infer("threshold", "", {"result_extension": ".nii.gz"}, file=flat)
    with pytest.raises(server.refusal, match=r"nobody.* not found"):
        server.client.infer("threshold", "nobody", {})
    with pytest.raises(server.refusal, match="Status: 404"):
        server.client.infer("threshold", "../../etc/passwd", {})


def test_regions_of_slides(server: Server, disk_slide: Shapes) -> None:
    body = {"location": [1000, 1000], "size": [500, 400], "params": {"below": 180}}
    if server.token:
        with pytest.raises(server.refusal, match="Status: 401"):
            server.client.wsi_infer("threshold", "disks", body, output="json")
        return
    nothing, answer = server.client.wsi_infer("threshold", "disks", body, output="json")
    assert nothing is None
    assert isinstance(answer, bytes)
    assert json.loads(answer)["annotations"][0]["annotation"]["elements"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has 127.0.0.2 by itself")
def test_a_trusted_address_needs_no_token_for_slides_alone(server: Server) -> None:
    def ask(address: str, method: str, path: str, body: str | None) -> int:
        host = server.url.removeprefix("http://")
        connection = http.client.HTTPConnection(host, source_address=(address, 0), timeout=20)
        connection.request(method, path, body, {"X-Forwarded-For": "127.0.0.2"})
        return connection.getresponse().status

    path = "/infer/wsi/threshold?image=disks&output=json"
    body = '{"location": [1000, 1000], "size": [100, 100]}'
    refused = 401 if server.token else 200
    assert ask("127.0.0.2", "POST", path, body) == 200
    assert ask("127.0.0.1", "POST", path, body) == refused
    assert ask("127.0.0.2", "GET", "/datastore/", None) == refused
    assert ask("127.0.0.2", "POST", path.replace("/wsi/", "/wsi/../wsi_v2/"), body) != 200


def test_what_there_is_not(server: Server) -> None:
    client = server.client
    assert client.train_status(check_if_running=True) is False
    with pytest.raises(server.refusal, match="training is not available"):
        client.train_status()
    with pytest.raises(server.refusal, match="training is not available"):
        client.train_start("nuclei", {"epochs": 1})
    with pytest.raises(server.refusal, match="training is not available"):
        client.train_start("", {})
    assert client.train_stop() is None


def test_every_method_was_called(monailabel: Any) -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    methods = [name for name in vars(monailabel.MONAILabelClient) if not name.startswith("_")]
    local = {"get_server_url", "set_server_url"}  # these speak to no server
    assert [name for name in methods if f".{name}(" not in here and name not in local] == []
