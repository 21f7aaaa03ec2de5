"""Who may call what: tokens, scopes, an issuer, other sites' pages, and other users' jobs."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa

from isoline import client as api
from isoline.client import Client, ClientError
from isoline.config import settings as config
from isoline.config.settings import Limits, Oidc, Settings, Token
from isoline.config.settings import ServerSettings as Listening
from isoline.errors import Broken, Busy, Malformed, NotAuthenticated
from isoline.server.access import Access, Issuer, Rates, digest, new_token
from isoline.server.audit import Audit
from tests.killable import Server, running
from tests.slides import disks

pytestmark = pytest.mark.slow

ANN, BOB, EVE, ROOT = (f"{name}-{'x' * 32}" for name in ("ann", "bob", "eve", "root"))
SLIDE = "slides/disks.tif"
JSON = {"Content-Type": "application/json"}
VIEWER = "https://viewer.example"


def tables() -> str:
    scopes = {ANN: ["view", "run"], BOB: ["view", "run"], EVE: ["view"], ROOT: ["admin"]}
    return "".join(
        f'[tokens.{token[:3]}]\nsha256 = "{digest(token)}"\nscopes = {json.dumps(scopes[token])}\n'
        for token in scopes
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    images = tmp_path_factory.mktemp("images")
    disks(images / "disks.tif", (900, 700))
    origins = f'allow_origins = ["{VIEWER}"]\n'
    more = f"{origins}[engine]\nworkers = 1\nurgent_workers = 0\n{tables()}"
    with running(images, tmp_path_factory.mktemp("data"), more=more) as server:
        yield server


def ask(
    server: Server, method: str, path: str, token: str = "", **options: Any
) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    headers |= options.pop("headers", {})
    return requests.request(method, server.url + path, headers=headers, timeout=20, **options)


def submit(server: Server, token: str, model: str = "threshold") -> dict[str, Any]:
    body = json.dumps({"image": SLIDE, "model": model})
    answer = ask(server, "POST", "/v1/jobs", token, data=body, headers=JSON)
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


# Tokens


@pytest.mark.parametrize("token", ["", "wrong", ANN[:-1], ANN + "x", "ä", "a.b.c"])
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images", "/v1/models", "/metrics", "/v1/nope"])
def test_nothing_is_told_without_a_token(server: Server, path: str, token: str) -> None:
    answer = ask(server, "GET", path, headers={"Authorization": f"Bearer {token}".encode()})
    assert answer.status_code == 401
    assert answer.json()["code"] == "NotAuthenticated"
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_health_is_public_and_says_when_to_come(server: Server) -> None:
    assert ask(server, "GET", "/v1/health").json()["status"] == "ready"
    assert ask(server, "GET", "/v1/health/ready").status_code == 200


def test_scopes(server: Server) -> None:
    assert ask(server, "GET", "/v1/models", EVE).status_code == 200
    body = json.dumps({"image": SLIDE, "model": "threshold"})
    for path in ("/v1/jobs", "/v1/segment", "/v1/uploads"):
        answer = ask(server, "POST", path, EVE, data=body, headers=JSON)
        assert answer.status_code == 403
        assert "'run'" in answer.json()["remedy"]
    assert ask(server, "GET", "/v1/jobs", ROOT).status_code == 200


def test_one_user_cannot_touch_the_job_of_another(server: Server) -> None:
    job = submit(server, ANN, "slow")
    path = f"/v1/jobs/{job['job']}"
    focus = json.dumps({"focus": [1, 1]})
    for method, where, body in (
        ("GET", path, None),
        ("GET", f"{path}/events", None),
        ("PATCH", path, focus),
        ("DELETE", path, None),
    ):
        for guess in ({}, {"share": "guess"}, {"share": ""}):
            answer = ask(server, method, where, BOB, data=body, headers=JSON, params=guess)
            assert answer.status_code == 404
            unknown = ask(
                server, method, where.replace(job["job"], "0" * 24), BOB, data=body, headers=JSON
            )
            assert answer.text.replace(job["job"], "0" * 24) == unknown.text
    assert job["job"] not in ask(server, "GET", "/v1/jobs", BOB).text
    assert job["job"] in ask(server, "GET", "/v1/jobs", ANN).text
    assert job["job"] in ask(server, "GET", "/v1/jobs", ROOT).text

    assert ask(server, "GET", path, BOB, headers={"Isoline-Share": job["share"]}).status_code == 200
    assert ask(server, "GET", path, BOB, params={"share": job["share"]}).status_code == 200
    assert ask(server, "GET", path, ROOT).status_code == 200
    assert ask(server, "DELETE", path, ANN).status_code == 202


def test_the_client_with_a_token(server: Server) -> None:
    events = list(Client(server.url, ANN).submit(SLIDE, "threshold").events())
    assert isinstance(events[-1], api.Done)
    with pytest.raises(ClientError, match="token"):
        Client(server.url, "nobody's").models()


def test_the_jobs_of_a_user_stay_theirs_after_a_restart(server: Server) -> None:
    job = submit(server, ANN)
    server.stop()
    server.start()
    path = f"/v1/jobs/{job['job']}"
    assert ask(server, "GET", path, BOB).status_code == 404
    assert ask(server, "GET", path, ANN).status_code == 200


# Pages of other sites


def test_a_page_of_another_site_changes_nothing(server: Server) -> None:
    body = json.dumps({"image": SLIDE, "model": "threshold"})
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        headers = {**JSON, "Origin": origin}
        answer = ask(server, "POST", "/v1/jobs", ANN, data=body, headers=headers)
        assert answer.status_code == 403
        assert "Access-Control-Allow-Origin" not in answer.headers
    same = {**JSON, "Origin": server.url}
    assert ask(server, "POST", "/v1/jobs", ANN, data=body, headers=same).status_code == 201


def test_a_viewer_of_another_site_may_do_all_that_the_protocol_says(server: Server) -> None:
    wanted = "authorization,content-type,idempotency-key"
    preflight = {
        "Origin": VIEWER,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": wanted,
    }
    allowed = ask(server, "OPTIONS", "/v1/jobs", headers=preflight)
    assert allowed.ok
    names = allowed.headers["Access-Control-Allow-Headers"].lower().replace(" ", "")
    assert set(wanted.split(",")) <= set(names.split(","))
    body = json.dumps({"image": SLIDE, "model": "threshold"})
    headers = {**JSON, "Origin": VIEWER}
    answer = ask(server, "POST", "/v1/jobs", ANN, data=body, headers=headers)
    assert answer.status_code == 201
    assert answer.headers["Access-Control-Allow-Origin"] == VIEWER
    assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"]
)
def test_a_form_starts_no_job(server: Server, kind: str) -> None:
    body = json.dumps({"image": SLIDE, "model": "threshold"})
    answer = ask(server, "POST", "/v1/jobs", ANN, data=body, headers={"Content-Type": kind})
    assert answer.status_code == 415
    assert answer.json()["remedy"] == "send Content-Type: application/json"


def test_a_name_that_was_made_to_point_here_is_refused(server: Server) -> None:
    for host in ("evil.example", "evil.example:8765", "127.0.0.1.evil.example", ""):
        assert ask(server, "GET", "/v1/health", ANN, headers={"Host": host}).status_code in (
            400,
            403,
        )
    assert ask(server, "GET", "/v1/health", headers={"Host": "LocalHost:1"}).status_code == 200


# What is written down


def test_the_audit_says_who_did_what_and_names_no_image(server: Server) -> None:
    job = submit(server, ANN, "slow")
    ask(server, "DELETE", f"/v1/jobs/{job['job']}", ROOT)
    text = (server.data / "audit.log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    about = [line for line in lines if line["subject"] == job["job"]]
    assert [(line["user"], line["action"]) for line in about] == [("ann", "run"), ("roo", "cancel")]
    assert all(re.match(r"\d{4}-\d\d-\d\dT.*\+00:00$", line["time"]) for line in about)
    assert "disks" not in text
    assert not any(token in text for token in (ANN, BOB, ROOT))


def test_an_audit_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "audit.log")
    (tmp_path / "audit.log").mkdir()
    audit.note("ann", "cancel", "job")


def test_metrics(server: Server) -> None:
    list(Client(server.url, ANN).submit(SLIDE, "threshold").events())
    text = ask(server, "GET", "/metrics", EVE).text
    for name in ("isoline_jobs{", "isoline_tile_seconds_count{", "isoline_request_seconds_bucket{"):
        assert name in text
    assert re.search(r'isoline_jobs\{state="done"\} [1-9]', text)
    assert re.search(r'isoline_tile_seconds_count\{stage="infer"\} [1-9]', text)


def test_no_token_is_written(server: Server) -> None:
    wrong = "nobody-knows-this-token"
    ask(server, "GET", "/v1/jobs", wrong)
    list(Client(server.url, ANN).submit(SLIDE, "threshold").events())
    said = ask(server, "GET", "/logs/", ROOT).content
    written = [path.read_bytes() for path in server.data.rglob("*") if path.is_file()]
    assert len(written) > 5
    for token in (ANN, BOB, EVE, ROOT, wrong):
        assert not any(token.encode() in text for text in [said, *written])


def test_every_promise_has_its_test() -> None:
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
    files = {letter: name for name, letter in re.findall(r"`tests/([\w/]+\.py)`\s\((\w)\)", page)}
    promises = [line for line in page.splitlines() if line.startswith("| ")]
    kept = [line.rsplit("|", 2)[1] for line in promises if line != "| promise | test |"]
    assert len(kept) > 20
    for tests in kept:
        named = re.findall(r"\b([A-Z]) ((?:`\w+`(?:, )?)+)", tests)
        assert named, tests
        for letter, names in named:
            text = (Path(__file__).parents[1] / files[letter]).read_text(encoding="utf-8")
            functions = re.findall(r"def (test_\w+)", text)
            for name in re.findall(r"\w+", names):
                assert any(name in function for function in functions), (files[letter], name)


# Without a server


def test_any_other_address_takes_a_token(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match="refusing to listen"):
        Settings(server=Listening(host="0.0.0.0"))
    token, known = new_token()
    assert len(token) >= 43
    settings = Settings(server=Listening(host="0.0.0.0"), tokens={"ann": Token(known, ("view",))})
    assert Access(settings).user(token).name == "ann"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[tokens.a]\nsha256 = "secret"\n', "not a SHA-256"),
        ("[tokens.a]\n", "has no sha256"),
        (f'[tokens.a]\nsha256 = "{"0" * 64}"\nscopes = ["write"]\n', "the scopes are"),
        ('[oidc]\nissuer = "https://i"\n', "audience and jwks"),
        ('[oidc]\nissuer = "https://i"\naudience = "x"\njwks = "http://i"\n', "cannot be trusted"),
    ],
)
def test_mistakes_in_the_configuration(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "isoline.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(Malformed, match=problem):
        config.load(path, {})


def test_a_rate_is_a_burst_and_then_a_trickle() -> None:
    now = 0.0
    rates = Rates(10, lambda: now)

    def passed(calls: int) -> int:
        count = 0
        for _ in range(calls):
            try:
                rates.count("ann")
                count += 1
            except Busy:
                continue
        return count

    assert passed(100) == 20
    rates.count("bob")
    now = 0.5
    assert passed(100) == 5
    now = 100.0
    assert passed(100) == 20


def test_beyond_the_rate_of_a_token(tmp_path: Path) -> None:
    token, known = new_token()
    limits = Limits(requests_per_second=1)
    access = Access(Settings(tokens={"a": Token(known)}, limits=limits))
    access.user(token)
    access.user(token)
    with pytest.raises(Busy):
        access.user(token)


# An issuer

ISSUER, AUDIENCE = "https://login.example", "isoline"
KEY, OTHER = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))


@pytest.fixture
def oidc(tmp_path: Path) -> Oidc:
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key()))
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"keys": [{**public, "kid": "1", "alg": "RS256", "use": "sig"}]}))
    return Oidc(ISSUER, AUDIENCE, str(keys), scope_prefix="isoline:")


def signed(key: Any = KEY, algorithm: str = "RS256", kid: str = "1", **changes: Any) -> str:
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "exp": time.time() + 300,
        "sub": "ann",
        "scope": "openid isoline:view isoline:run view:admin admin",
    }
    claims |= changes
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, algorithm, headers={"kid": kid})


def test_a_user_of_the_issuer(oidc: Oidc) -> None:
    user = Issuer(oidc).user(signed())
    assert user is not None
    assert user.name == f"{ISSUER}#ann"
    assert user.scopes == {"view", "run"}


@pytest.mark.parametrize(
    "token",
    [
        signed(OTHER),
        signed(kid="2"),
        signed(iss="https://other.example"),
        signed(aud="another"),
        signed(exp=time.time() - 300),
        signed(exp=None),
        signed(aud=None),
        signed(sub=None),
        signed("", "none"),
        signed("a shared secret of some length, 32 bytes", "HS256"),
        signed()[:-4] + "AAAA",
        "a.b.c",
        "..",
    ],
)
def test_who_is_no_user_of_the_issuer(oidc: Oidc, token: str) -> None:
    assert Issuer(oidc).user(token) is None
    with pytest.raises(NotAuthenticated):
        Access(Settings(oidc=oidc)).user(token)


def test_keys_that_cannot_be_read(oidc: Oidc) -> None:
    Path(oidc.jwks).write_text("{", encoding="utf-8")
    with pytest.raises(Broken, match="issuer's keys"):
        Issuer(oidc).user(signed())
