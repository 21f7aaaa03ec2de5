"""A reader that asks for the events of a job and then does not read."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

RECEIVE_BYTES = 1 << 16


def noise(path: Path, side: int = 800) -> Path:
    """Write a picture that gives more events than the buffers of a connection hold."""
    cells = np.random.default_rng(1).integers(0, 256, (side, side), np.uint8)
    Image.fromarray(cells.repeat(2, axis=0).repeat(2, axis=1)).save(path)
    return path


class Stalled:
    """Holds a connection whose server can send no more."""

    def __init__(self, port: int, job: str) -> None:
        self._socket = socket.socket()
        # before connecting, so that the window never grows
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        self._socket.settimeout(60)
        self._socket.connect(("127.0.0.1", port))
        self._socket.sendall(
            f"GET /v1/jobs/{job}/events HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode()
        )

    def __enter__(self) -> Stalled:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._socket.close()

    def read_on(self) -> Iterator[dict[str, Any]]:
        """Yield every event; one that the end of the connection cut off is left out."""
        with self._socket.makefile("rb") as stream, contextlib.suppress(ConnectionError):
            while stream.readline().strip():
                continue  # the headers
            for line in stream:
                if line.strip() and line.endswith(b"\n"):
                    yield json.loads(line)
