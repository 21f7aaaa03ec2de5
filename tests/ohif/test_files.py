"""The plugin's files, as any server lends them."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient

from isoline.server.routes import ohif_plugin
from tests.serving import serving


@pytest.fixture
def client(tmp_path: Path) -> FlaskClient:
    plugin = tmp_path / "plugin"
    plugin.mkdir()
    (plugin / "index.js").write_text("export default {}")
    (plugin / "panel.mjs").write_text("export default {}")
    (plugin / "panel.css").write_text("isoline-panel {}")
    (tmp_path / "secret.txt").write_text("secret")
    app = Flask("files")
    app.register_blueprint(ohif_plugin.blueprint(plugin))
    return app.test_client()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("index.js", "text/javascript; charset=utf-8"),
        ("panel.mjs", "text/javascript; charset=utf-8"),
        ("panel.css", "text/css; charset=utf-8"),
    ],
)
def test_a_browser_takes_them_for_what_they_are(client: FlaskClient, name: str, kind: str) -> None:
    assert client.get(f"/ohif/{name}").headers["Content-Type"] == kind


def test_a_browser_asks_each_time_and_fetches_what_changed(
    client: FlaskClient, tmp_path: Path
) -> None:
    first = client.get("/ohif/index.js")
    assert "no-cache" in first.headers["Cache-Control"]
    known = {"If-None-Match": first.headers["ETag"]}
    assert client.get("/ohif/index.js", headers=known).status_code == 304
    (tmp_path / "plugin" / "index.js").write_text("export default { id: 'isoline' }")
    assert client.get("/ohif/index.js", headers=known).status_code == 200


@pytest.mark.parametrize("name", ["gone.js", "", "../secret.txt", "..%2fsecret.txt", "%2e%2e/x"])
def test_there_is_nothing_else(client: FlaskClient, name: str) -> None:
    assert client.get(f"/ohif/{name}").status_code == 404


def test_a_server_with_tokens_lends_them_to_everybody(tmp_path: Path) -> None:
    # a browser sends no token with `import`
    with serving(tmp_path, tmp_path, token="secret") as url:
        assert requests.get(f"{url}/ohif/gone.js", timeout=10).status_code == 404
        assert requests.get(f"{url}/v1/models", timeout=10).status_code == 401
