"""A Digital Slide Archive out of packages alone: Girder 3, HistomicsUI, a database, their page.

    python -m tests.dsa.stack           build it, and say where it is

MongoDB itself is in no package; SecantusDB speaks its protocol. Building the web client takes
minutes, so the finished environment is kept under $ISOLINE_DATA/girder, in a folder named by a
hash of everything it is made from.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from isoline.datasets import default_directory
from tests.serving import free_port

PLUGIN = Path(__file__).parents[2] / "plugins" / "dsa"
PASSWORD = "isoline-test"

PINS = (
    "girder==3.2.18",
    "girder-client==3.2.18",
    "histomicsui==1.8.1",
    "girder-large-image==1.35.6",
    "girder-large-image-annotation==1.35.6",
    "girder-slicer-cli-web==1.5.14",
    "girder-worker[girder]<5",
    "large-image-source-openslide==1.35.6",
    "large-image-source-tiff==1.35.6",
    "openslide-bin",
    "SecantusDB==0.7.0b3",
    "setuptools<80",
    "setuptools-scm",
    "wheel",
)

NPM = """#!/bin/sh
# Girder's client breaks when a plugin brings its own copy of what the page already has.
npm "$@" || exit $?
if [ "$1" = install ]; then
  find node_modules -mindepth 2 -type d -path '*@girder/*' \\( -path '*/node_modules/backbone' \\
    -o -path '*/node_modules/jquery' -o -path '*/node_modules/underscore' \\) -prune \\
    -exec rm -rf {} +
fi
"""

WEBPACK = ("exclude: /node_modules/", r"exclude: /node_modules(?!\/@girder\/core)/")
"""npm copies Girder's own sources into node_modules, where webpack would not translate them."""


CONFIG = """
[global]
server.socket_host = "127.0.0.1"
server.socket_port = {port}
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


class BuildFailed(Exception):
    """The end of the log says why."""


def environment() -> Path:
    """Return the virtual environment with the finished stack, built now if it is not there."""
    recipe = "\n".join([*PINS, NPM, *WEBPACK, sys.version])
    folder = default_directory() / "girder" / hashlib.sha256(recipe.encode()).hexdigest()[:16]
    ready = folder / "ready"
    if not ready.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _build(folder)
        ready.touch()
    return folder / "venv"


def _build(folder: Path) -> None:
    venv, log = folder / "venv", folder / "build.log"
    _run(log, sys.executable, "-m", "venv", str(venv))
    _run(log, str(venv / "bin/pip"), "install", "--quiet", *PINS)
    client = next(venv.glob("lib/python*/site-packages/girder/web_client"))
    webpack = client / "grunt_tasks" / "webpack.config.js"
    webpack.write_text(webpack.read_text().replace(*WEBPACK))
    npm = folder / "npm"
    npm.write_text(NPM)
    npm.chmod(0o755)
    _run(
        log,
        *(str(venv / "bin/girder"), "build", "--mode", "production", "--npm", str(npm)),
        npm_config_ignore_scripts="true",
        npm_config_audit="false",
        npm_config_fund="false",
        NODE_OPTIONS="--openssl-legacy-provider",
    )
    for modules in (client / "node_modules", client / "src" / "node_modules"):
        shutil.rmtree(modules, ignore_errors=True)


def _run(log: Path, *command: str, **variables: str) -> None:
    with log.open("ab") as output:
        ran = subprocess.run(
            ["nice", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**_environment(), **variables},
            check=False,
        )
    if ran.returncode:
        tail = log.read_text(errors="replace")[-3000:]
        raise BuildFailed(f"{' '.join(command[:3])} exited with {ran.returncode}:\n{tail}")


def _environment() -> dict[str, str]:
    """Return the variables of this process without those that lead Python to its packages."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


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
        self, method: str, route: str, *, json: object = None, stream: bool = False, **query: Any
    ) -> requests.Response:
        """Return the answer of a route, whatever it is."""
        return self._session.request(
            method,
            f"{self.url}/api/v1/{route}",
            params=query,
            json=json,
            headers={"Girder-Token": self.token},
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
    inside: Callable[[Path, str], str]
    """Run a script, with one argument, in Girder's Python and return what it prints."""


@contextlib.contextmanager
def running(home: Path, slide: Path) -> Iterator[Stack]:
    """Run a database and a Girder with the plugin as it stands, and import `slide`."""
    venv = environment()
    database, port = free_port(), free_port()
    log = home / "stack.log"
    packages = home / "packages"
    pip = ("install", "--quiet", "--no-deps", "--no-build-isolation", "--no-cache-dir")
    source = shutil.copytree(
        PLUGIN, home / "plugin", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    )  # setuptools would leave a folder beside the sources
    _run(log, str(venv / "bin/pip"), *pip, "--target", str(packages), str(source))
    config = home / "girder.cfg"
    config.write_text(CONFIG.format(port=port, database=database, logs=home / "logs"))
    variables = {"GIRDER_CONFIG": str(config), "PYTHONPATH": str(packages)}
    url = f"http://127.0.0.1:{port}"
    with contextlib.ExitStack() as processes:
        storage = ("--storage-path", str(home / "database"), "--standalone")
        where = ("--host", "127.0.0.1", "--port", str(database))
        processes.enter_context(_process(log, venv, "-m", "secantus", *where, *storage))

        def start() -> subprocess.Popen[bytes]:
            girder = processes.enter_context(
                _process(log, venv, str(venv / "bin/girder"), "serve", **variables)
            )
            _await(url, girder, log)
            return girder

        girder = start()

        def restart() -> None:
            nonlocal girder
            girder.kill()
            girder.wait()
            girder = start()

        def inside(script: Path, argument: str) -> str:
            ran = subprocess.run(
                [str(venv / "bin/python"), str(script), argument],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                env={**_environment(), **variables},
                text=True,
                check=True,
            )
            return ran.stdout

        admin, item = _furnish(url, slide, home)
        yield Stack(url, item, admin, Girder(url, "guest"), home, restart, inside)


def _furnish(url: str, slide: Path, home: Path) -> tuple[Girder, str]:
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
    folder = home / "slides"
    folder.mkdir()
    (folder / slide.name).symlink_to(slide)
    store = admin.call("POST", "assetstore", name="files", type=0, root=str(home / "assets"))
    collection = admin.call("POST", "collection", name="Slides", public=True)
    place = admin.call(
        "POST",
        "folder",
        parentType="collection",
        parentId=collection["_id"],
        name="Glioma",
        public=True,
    )
    admin.call(
        "POST",
        f"assetstore/{store['_id']}/import",
        importPath=str(folder),
        destinationId=place["_id"],
        destinationType="folder",
        leafFoldersAsItems=False,
    )
    (item,) = admin.call("GET", "item", folderId=place["_id"])
    if "largeImage" not in item:
        admin.call("POST", f"item/{item['_id']}/tiles")
    return admin, str(item["_id"])


@contextlib.contextmanager
def _process(
    log: Path, venv: Path, *arguments: str, **variables: str
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(venv / "bin/python"), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**_environment(), **variables},
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
    raise BuildFailed(f"Girder does not answer:\n{log.read_text(errors='replace')[-3000:]}")


if __name__ == "__main__":
    print(environment())
