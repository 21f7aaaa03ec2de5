"""Who may call which of MONAI Label's routes: scopes, the audit log, and what is public."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from isoline.config.settings import MonaiLabel, Settings, Token
from isoline.domain.request import SegmentRequest
from isoline.errors import Busy
from isoline.images.catalog import Caller, Found, Images
from isoline.images.dicomweb import DicomWebImages
from isoline.jobs.queue import QueueFull
from isoline.models.catalogue import ModelCatalogue
from isoline.server.access import Access, new_token
from isoline.server.app import create_app
from isoline.server.audit import Audit
from isoline.server.declarations import check_declared, declaration_of
from isoline.server.metrics import Metrics
from isoline.server.monailabel.http import attachment
from isoline.server.monailabel.runs import FinishedRun, Runner
from isoline.server.services import Services
from tests.planning import planner

SCOPES = {"viewer": ("view",), "runner": ("view", "run"), "keeper": ("view", "run", "save")}
TOKENS = {name: new_token() for name in (*SCOPES, "chief")}


def app(folder: Path, images: Images | None = None, **monailabel: Any) -> Flask:
    """Return an app without workers: nothing is run."""
    images = Images({}) if images is None else images
    scopes = {**SCOPES, "chief": ("admin",)}
    configured = Settings(
        data=folder,
        tokens={name: Token(digest, scopes[name]) for name, (_, digest) in TOKENS.items()},
        monailabel=MonaiLabel(**monailabel),
    )
    nothing = cast(Any, None)
    return create_app(
        Services(
            settings=configured,
            images=images,
            archives=DicomWebImages.configured(configured),
            models=ModelCatalogue(folder),
            planner=planner(images, folder),
            engine=nothing,
            jobs=nothing,
            uploads=nothing,
            access=Access(configured),
            metrics=Metrics(),
            audit=Audit(folder / "audit.log"),
        )
    )


@pytest.fixture
def client(tmp_path: Path) -> FlaskClient:
    return app(tmp_path).test_client()


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[name][0]}"} if name else {}


def form(**files: str) -> dict[str, Any]:
    return {name: (io.BytesIO(b"content"), file) for name, file in files.items()}


@pytest.mark.parametrize(
    ("method", "path", "least"),
    [
        ("GET", "/auth/", ""),
        ("GET", "/info/", "viewer"),
        ("GET", "/datastore/", "viewer"),
        ("GET", "/auth/token/valid", "viewer"),
        ("PUT", "/session/", "runner"),
        ("POST", "/infer/threshold", "runner"),
        ("POST", "/infer/wsi/threshold", "runner"),
        ("DELETE", "/train/", "runner"),
        ("PUT", "/datastore/", "keeper"),
        ("DELETE", "/datastore/image?id=x", "keeper"),
        ("PUT", "/datastore/label?image=x", "keeper"),
        ("PUT", "/datastore/updatelabelinfo?label=x&tag=y", "keeper"),
        ("DELETE", "/datastore/label?id=x&tag=y", "keeper"),
        ("POST", "/batch/infer/threshold", "keeper"),
        ("GET", "/logs/", "chief"),
    ],
)
def test_each_route_takes_its_scope(
    client: FlaskClient, method: str, path: str, least: str
) -> None:
    ladder = ["", *SCOPES, "chief"]
    assert ladder == ["", "viewer", "runner", "keeper", "chief"]
    for name in ladder:
        answer = client.open(path, method=method, headers=bearer(name))
        if ladder.index(name) >= ladder.index(least):
            assert answer.status_code not in (401, 403), (name, answer.text)
        else:
            assert answer.status_code == (403 if name else 401), (name, answer.text)
            assert answer.get_json()["detail"]


def test_every_route_declares_who_may_call_it_and_how_much_it_takes(tmp_path: Path) -> None:
    """The whole of what is declared: a new route needs a line here."""
    server = app(tmp_path)
    declared: dict[str | None, set[str]] = {}
    takes = set()
    for rule in server.url_map.iter_rules():
        declaration = declaration_of(server.view_functions[rule.endpoint])
        assert declaration is not None, rule.rule
        (method,) = (rule.methods or set()) - {"HEAD", "OPTIONS"}
        declared.setdefault(declaration.scope, set()).add(f"{method} {rule.rule}")
        if declaration.body.bytes:
            takes.add(method)
    assert declared[None] == {
        *("GET /", "GET /v1/health", "GET /v1/health/ready", "GET /ohif/<path:name>"),
        *("GET /auth/", "POST /auth/token"),
    }
    assert declared["admin"] == {"GET /logs/"}
    assert declared["save"] == {
        *("POST /v1/segmentations", "POST /batch/infer/<model>"),
        *("PUT /datastore/", "PUT /datastore/image", "PUT /datastore/image/info"),
        *("DELETE /datastore/", "DELETE /datastore/image", "DELETE /datastore/label"),
        *("PUT /datastore/label", "PUT /datastore/label/info", "PUT /datastore/updatelabelinfo"),
    }
    assert {line.split()[0] for line in declared["view"]} == {"GET"}
    assert takes == {"POST", "PUT", "PATCH"}


def test_a_route_that_declares_nothing_is_refused_at_the_start() -> None:
    bare = Flask("bare", static_folder=None)
    bare.add_url_rule("/forgotten", "forgotten", lambda: "")
    with pytest.raises(RuntimeError, match="/forgotten does not declare"):
        check_declared(bare)


def test_a_token_is_the_password(client: FlaskClient) -> None:
    token = TOKENS["runner"][0]
    said = client.post("/auth/token", data={"username": "me", "password": token}).get_json()
    assert said == {"access_token": token, "token_type": "Bearer"}
    assert client.post("/auth/token", data={"password": "guess"}).status_code == 401
    assert client.post("/auth/token", data={}).status_code == 401
    user = client.get("/auth/token/valid", headers=bearer("runner")).get_json()
    assert (user["username"], user["roles"]) == ("runner", ["run", "view"])


def test_the_audit_log_says_who_and_names_no_image(client: FlaskClient, tmp_path: Path) -> None:
    keeper = bearer("keeper")
    for method, path, data in (
        ("PUT", "/datastore/", form(file="Doe^John.png")),
        ("PUT", "/datastore/label?image=Doe^John", form(label="Doe^John.json")),
        ("DELETE", "/datastore/?id=Doe^John", None),
    ):
        answer = client.open(path, method=method, data=data, headers=keeper)
        assert answer.status_code == 200, answer.text
    text = (tmp_path / "audit.log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["action"] for line in lines] == ["save image", "save label", "delete image"]
    assert {line["user"] for line in lines} == {"keeper"}
    assert len({line["subject"] for line in lines}) == 1
    assert "Doe" not in text


def test_another_prefix_leaves_the_root_alone(tmp_path: Path) -> None:
    client = app(tmp_path, prefix="/monai", trusted=("127.0.0.0/8",)).test_client()
    assert client.get("/monai/auth/").get_json()["enabled"] is True
    assert client.get("/monai/info/", headers=bearer("viewer")).status_code == 200
    assert client.get("/info/", headers=bearer("viewer")).status_code == 404
    # trusted, so that what is missing is an image and not a token
    assert client.post("/monai/infer/wsi/threshold", json={}).status_code == 400
    assert client.post("/monai/infer/wsi_v2/threshold", json={}).status_code == 401
    assert client.post("/infer/wsi/threshold", json={}).status_code in (401, 403)


ROUTES = [
    ("GET", "/datastore/", ("output",)),
    ("PUT", "/datastore/", ("image",)),
    ("DELETE", "/datastore/", ("id",)),
    ("GET", "/datastore/image", ("image", "check_sum")),
    ("GET", "/datastore/image/info", ("image",)),
    ("PUT", "/datastore/image/info", ("image",)),
    ("PUT", "/datastore/label", ("image", "tag")),
    ("GET", "/datastore/label", ("label", "tag")),
    ("PUT", "/datastore/label/info", ("label", "tag")),
    ("DELETE", "/datastore/label", ("id", "tag")),
    ("PUT", "/session/", ("expiry", "uncompress")),
    ("GET", "/session/x", ("image", "update_ts")),
    ("GET", "/batch/infer", ("all", "check_if_running")),
    ("POST", "/auth/token", ()),
    ("GET", "/logs/", ("lines",)),
    ("GET", "/model/info/x", ()),
]
WORDS = st.text(max_size=300) | st.sampled_from(
    [
        *("a", "final", "all", "../x", "/etc/passwd", "a" * 300, "\0"),
        *("true", "1", "-1", "{}", '{"a":1}'),
    ]
)
FILE = st.tuples(WORDS, st.binary(max_size=50))
BODIES = st.binary(max_size=300) | st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("params", "info", "password"), WORDS),
        **dict.fromkeys(("file", "label", "files"), FILE),
    },
)


@given(st.lists(st.tuples(st.sampled_from(ROUTES), st.data(), BODIES), min_size=1, max_size=4))
@settings(max_examples=60)
def test_nothing_that_is_sent_breaks_the_server(
    tmp_path_factory: pytest.TempPathFactory, calls: list[Any]
) -> None:
    client = app(tmp_path_factory.mktemp("fuzz")).test_client()
    assert calls
    for (method, path, keys), data, body in calls:
        query = {key: data.draw(WORDS) for key in keys if data.draw(st.booleans())}
        if isinstance(body, dict):
            body = {
                key: (io.BytesIO(value[1]), value[0]) if isinstance(value, tuple) else value
                for key, value in body.items()
            }
        answer = client.open(
            path, method=method, query_string=query, data=body, headers=bearer("chief")
        )
        assert answer.status_code < 500, (method, path, query, body, answer.text)


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    client = app(tmp_path, enabled=False, trusted=("127.0.0.1",)).test_client()
    assert client.get("/info/", headers=bearer("chief")).status_code == 404
    assert client.get("/auth/").status_code == 401


@pytest.mark.parametrize("name", ["plain.png", 'a"b.png', "schön.png", "a\nb.png", "a\\b.png"])
def test_file_names_in_headers(name: str) -> None:
    header = attachment(name)
    assert "\n" not in header
    if name == "plain.png":
        assert header == 'attachment; filename="plain.png"'  # the client fails without quotes
    else:
        assert unquote(header.partition("utf-8''")[2]) == name


def test_callers_that_wait_are_counted() -> None:
    nothing = cast(Any, None)
    settings = Settings(monailabel=MonaiLabel(waiting=1))
    runner = Runner(nothing, nothing, settings, nothing)
    with runner.seat(), pytest.raises(Busy), runner.seat():
        pass
    with runner.seat():
        pass


def test_an_inference_finds_its_image_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(np.full((40, 50, 3), 200, np.uint8)).save(tmp_path / "a.png")
    found, planned = list[str](), list[str]()
    find = Images.find

    def counted(self: Images, name: str, *caller: Caller) -> Found:
        found.append(name)
        return find(self, name, *caller)

    def plan_only(self: Runner, asked: SegmentRequest, image: Found, *_: object) -> FinishedRun:
        planned.append(self._planner.plan_on(image, asked).started.image)
        raise Busy("planned", "that is all")

    monkeypatch.setattr(Images, "find", counted)
    monkeypatch.setattr(Runner, "run", plan_only)
    client = app(tmp_path, images=Images({"": tmp_path})).test_client()
    said = client.post(
        "/infer/threshold?image=a&output=json",
        data={"params": '{"spacing_um": 0.5}'},
        headers=bearer("runner"),
    )
    assert (said.status_code, said.get_json()["detail"]) == (429, "planned; that is all")
    assert planned == ["a.png"]
    assert found == ["a.png"]


@pytest.mark.parametrize(
    ("error", "wait"), [(Busy("no place", "come back"), "5"), (QueueFull(7, 42), "42")]
)
def test_who_comes_too_early_is_told_when_to_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Busy, wait: str
) -> None:
    Image.fromarray(np.full((40, 50, 3), 200, np.uint8)).save(tmp_path / "a.png")

    def refuse(*_: object) -> FinishedRun:
        raise error

    monkeypatch.setattr(Runner, "run", refuse)
    client = app(tmp_path, images=Images({"": tmp_path})).test_client()
    said = client.post(
        "/infer/threshold?image=a&output=json",
        data={"params": '{"spacing_um": 0.5}'},
        headers=bearer("runner"),
    )
    assert (said.status_code, said.headers["Retry-After"]) == (429, wait)


def test_who_is_not_known_is_told_what_to_send(client: FlaskClient) -> None:
    said = client.get("/info/")
    assert (said.status_code, said.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert said.get_json()["detail"].startswith("Could not validate credentials: ")
