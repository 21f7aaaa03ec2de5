"""A server in a child process, for the duration of a `with` block."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence

from rich.console import Console

from isoline import client as api
from isoline.errors import Broken

_TENTHS = 2400
_PATIENT_TENTHS = 40


def free_port(wish: int = 0) -> int:
    """Return `wish` if that loopback port is free, else another port. Raises Broken."""
    for port in (wish, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise Broken("no port of 127.0.0.1 is free", "stop another server")


@contextlib.contextmanager
def running(command: Sequence[str], port: int, console: Console) -> Iterator[str]:
    """Run `command`, which serves isoline at the loopback port `port`, and yield its URL.

    Raises Broken if it does not start.
    """
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(command)
    try:
        _await(process, api.Client(url, policy=api.ONCE), console)
        yield url
    finally:
        process.terminate()
        process.wait(15)


def _await(process: subprocess.Popen[bytes], client: api.Client, console: Console) -> None:
    for tenths in range(_TENTHS):
        if tenths == _PATIENT_TENTHS:
            console.print("compiling, which happens once after installation ...")
        if process.poll() is not None:
            break
        with contextlib.suppress(api.ClientError):
            if client.health()["status"] == "ready":
                return
        time.sleep(0.1)
    raise Broken("the server did not start", "run `isoline -v serve --images .` to see why")
