"""What the site of the demo passes on, and to whom."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.test import Client

from isoline.config.settings import DicomWeb, Settings
from isoline.demo.ohif.site import Site

Asked = list[tuple[str, str, str | None, bytes]]


@pytest.fixture(scope="module")
def archive() -> Iterator[tuple[str, Asked]]:
    """Where an archive answers, and what it was asked."""
    asked: Asked = []

    class Archive(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append((self.command, self.path, self.headers.get("Authorization"), body))
            self.send_response(302 if "moved" in self.path else 200)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"DICM")

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Archive) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/dicom-web", asked
        server.shutdown()
        thread.join()


@pytest.fixture
def client(archive: tuple[str, Asked], tmp_path: Path) -> Client:
    (tmp_path / "index.html").write_text("<title>OHIF</title>")
    (tmp_path / "app.js").write_text("run()")
    app = Flask("isoline")
    app.add_url_rule("/v1/health", view_func=lambda: "isoline")
    settings = Settings(dicomweb={"demo": DicomWeb(archive[0], {"Authorization": "Basic x"})})
    return Client(Site(app, settings, tmp_path, "demo"))


def test_each_path_goes_where_it_belongs(client: Client) -> None:
    assert client.get("/v1/health").text == "isoline"
    assert client.get("/app.js").content_type == "text/javascript; charset=utf-8"
    assert "OHIF" in client.get("/isoline?StudyInstanceUIDs=1.2").text
    assert "OHIF" in client.get("/").text
    assert client.get("/gone.js").status_code == 404
    assert client.get("/../secret.txt").status_code == 404
    assert '"qidoRoot": "/dicom-web"' in client.get("/app-config.js").text


def test_the_archive_hears_its_own_credentials(client: Client, archive: tuple[str, Asked]) -> None:
    assert client.get("/dicom-web/studies?limit=3&x=a%2Fb").data == b"DICM"
    client.post("/dicom-web/studies", data=b"part", headers={"Authorization": "Bearer mine"})
    assert archive[1][-2:] == [
        ("GET", "/dicom-web/studies?limit=3&x=a%2Fb", "Basic x", b""),
        ("POST", "/dicom-web/studies", "Basic x", b"part"),
    ]


def test_nothing_else_is_reached(client: Client, archive: tuple[str, Asked]) -> None:
    before = len(archive[1])
    for path in ("/dicom-web/../system", "/dicom-web/%2e%2e/system"):
        assert client.get(path).status_code == 403
    assert client.get("/dicom-web/studies", headers={"Host": "evil.example"}).status_code == 403
    stranger = {"Origin": "https://evil.example"}
    assert client.post("/dicom-web/studies", headers=stranger).status_code == 403
    assert len(archive[1]) == before
    assert client.get("/dicom-web/moved").status_code == 302
    assert len(archive[1]) == before + 1


def test_an_archive_that_is_down(tmp_path: Path) -> None:
    settings = Settings(dicomweb={"demo": DicomWeb("http://127.0.0.1:9/dicom-web")})
    client = Client(Site(Flask("isoline"), settings, tmp_path, "demo"))
    assert client.get("/dicom-web/studies").status_code == 502
