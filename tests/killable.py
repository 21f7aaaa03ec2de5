"""A real server that tests may kill and start again on the same data."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from isoline import client as api
from isoline.client import Client, ClientError
from tests.serving import PLUGINS, free_port


@dataclass
class Server:
    """One data directory, and the server that runs on it or does not."""

    images: Path
    data: Path
    more: str = ""
    token: str = ""
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def client(self) -> Client:
        return Client(self.url, self.token)

    def start(self) -> float:
        """Start the server and wait until it is ready; return how many seconds that took."""
        began = time.monotonic()
        self.launch()
        self.wait_until("ready")
        return time.monotonic() - began

    def launch(self) -> None:
        """Start the server; it needs a while before it answers."""
        config = self.data / "isoline.toml"
        config.write_text(
            f'data = "{self.data.as_posix()}"\n[images]\nslides = "{self.images.as_posix()}"\n'
            f"[server]\nport = {self.port}\n{self.more}",
            encoding="utf-8",
        )
        code = (
            "from pathlib import Path; from isoline.config.settings import load;"
            f" from isoline.server.wsgi import serve; serve(load(Path({str(config)!r})))"
        )
        path = os.pathsep.join(filter(None, [str(PLUGINS), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "ISOLINE_TOKEN": self.token, "PYTHONPATH": path}
        self.process = subprocess.Popen([sys.executable, "-c", code], env=environment)

    def wait_until(self, *states: str) -> None:
        """Wait until the server answers and is in one of `states`."""
        for _ in range(4500):
            with contextlib.suppress(ClientError):
                if self.client.health()["status"] in states:
                    return
            time.sleep(0.02)
        raise AssertionError(f"the server is not {' or '.join(states)} after 90 s")

    @property
    def main(self) -> psutil.Process:
        """The process that answers HTTP."""
        assert self.process is not None
        children = psutil.Process(self.process.pid).children()
        return next(child for child in children if not _computes(child))

    @property
    def workers(self) -> list[psutil.Process]:
        """The processes that compute tiles."""
        return [child for child in self.main.children() if _computes(child)]

    def kill(self) -> list[psutil.Process]:
        """Kill the server at once, all but its workers; return these."""
        assert self.process is not None
        workers, main = self.workers, self.main
        self.process.kill()
        main.kill()
        self.process.wait(10)
        return workers

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def _computes(process: psutil.Process) -> bool:
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except psutil.Error:
        return False  # it is dead, or just dying


@contextlib.contextmanager
def running(images: Path, data: Path, *, more: str = "", token: str = "") -> Iterator[Server]:
    """Start a server and end whatever runs in its place when the block is left."""
    server = Server(images, data, more, token)
    try:
        server.start()
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.stop()


def features(events: list[api.Event]) -> list[dict[str, Any]]:
    """Return the final results of a job."""
    return [
        feature
        for event in events
        if isinstance(event, api.Contours) and not event.provisional
        for feature in event.features
    ]


def digest(events: list[api.Event]) -> str:
    """Return what two runs share if and only if they gave the same results."""
    rows = sorted(json.dumps(each, sort_keys=True) for each in features(events))
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()
