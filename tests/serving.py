"""A real server in a process of its own, for the length of a block."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from isoline.client import Client, ClientError

PLUGINS = Path(__file__).parent / "plugins"
"""Models for tests, installed on the path of the servers that tests start."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(
    images: Path, data: Path, *, kind: str = "gunicorn", more: str = "", token: str = ""
) -> Iterator[str]:
    """Serve `images` as the root "slides" and yield the URL; `more` is added to isoline.toml."""
    port = free_port()
    config = data / f"isoline-{port}.toml"
    config.write_text(
        f'data = "{data.as_posix()}"\n'
        f"[server]\nport = {port}\n"
        f'[images]\nslides = "{images.as_posix()}"\n{more}',
        encoding="utf-8",
    )
    code = (
        "from pathlib import Path; from isoline.config.settings import load;"
        f" from isoline.server.wsgi import serve; serve(load(Path({str(config)!r})), {kind!r})"
    )
    path = os.pathsep.join(filter(None, [str(PLUGINS), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "ISOLINE_TOKEN": token, "PYTHONPATH": path}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        _await_ready(process, Client(url, token))
        yield url
    finally:
        process.terminate()
        process.wait(20)


READY_SECONDS = 270
"""The first start after an installation compiles, which takes minutes on a busy machine."""


def _await_ready(process: subprocess.Popen[bytes], client: Client) -> None:
    for _ in range(10 * READY_SECONDS):
        if process.poll() is not None:
            raise AssertionError(f"the server ended with {process.returncode}")
        with contextlib.suppress(ClientError):
            if client.health()["status"] == "ready":
                return
        time.sleep(0.1)
    raise AssertionError(f"the server is not ready after {READY_SECONDS} s")
