"""Dropping the connections of callers that stop reading, to free their threads.

They lose no events of a job, since they can reconnect with `after`.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
import struct
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gunicorn.workers.gthread import ThreadWorker

log = logging.getLogger(__name__)

LOOKS = 4
"""How many times within the time limit a connection of waitress is checked."""


def gunicorn_worker(seconds: float) -> type[ThreadWorker]:
    """Return a gunicorn worker that aborts a send if nothing is read for `seconds`; 0 means never.

    It also closes connections in the thread of the request. gunicorn waits up to two seconds for
    the caller to close too, and does so in the accepting thread, which would delay everyone.
    """
    from gunicorn.workers.gthread import ThreadWorker

    whole, rest = divmod(seconds, 1)
    limit = struct.pack("@ll", int(whole), int(rest * 1e6))  # a timeval; zero means no limit

    class Worker(ThreadWorker):  # type: ignore[misc]
        def handle(self, conn: Any) -> Any:
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            goes_on = super().handle(conn)
            if not goes_on:
                with contextlib.suppress(OSError):  # already closed
                    conn.close(graceful=True)
            return goes_on

        def handle_request(self, req: Any, conn: Any) -> Any:
            try:
                return super().handle_request(req, conn)
            except BlockingIOError:  # raised by a send at the limit
                _say_dropped(seconds)
                return False

        def finish_request(self, conn: Any, fs: Any) -> None:
            if not fs.cancelled() and fs.exception() is None and not fs.result():
                self.nr_conns -= 1  # `handle` has closed it
            else:
                super().finish_request(conn, fs)

    return Worker


def watch_waitress(sockets: Mapping[int, object], seconds: float) -> None:
    """From now on, close those of waitress's `sockets` that read nothing for `seconds`; 0: none."""
    if seconds:
        watch = threading.Thread(target=_watch, args=(sockets, seconds), name="stalled")
        watch.daemon = True
        watch.start()


def _watch(sockets: Mapping[int, object], seconds: float) -> None:
    from waitress.channel import HTTPChannel

    def drop(channel: HTTPChannel, activity: float) -> None:
        if channel.connected and channel.last_activity == activity:  # still stalled
            _say_dropped(seconds)
            channel.handle_close()

    unsent: dict[tuple[HTTPChannel, float], float] = {}
    """Channels with unsent data, with the time of their last send -> since when they are
    stalled."""
    while True:
        time.sleep(seconds / LOOKS)
        now = time.monotonic()
        channels = [each for each in list(sockets.values()) if isinstance(each, HTTPChannel)]
        waiting = [(each, each.last_activity) for each in channels if each.total_outbufs_len]
        unsent = {key: unsent.get(key, now) for key in waiting}
        for (channel, activity), since in unsent.items():
            if now - since >= seconds:
                # closed by the thread that owns the socket
                channel.server.trigger.pull_trigger(functools.partial(drop, channel, activity))


def _say_dropped(seconds: float) -> None:
    log.info("a connection was closed: the caller read nothing for %g s", seconds)
