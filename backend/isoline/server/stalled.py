"""Callers that stop reading: after a while they lose their connection, and their thread is free.

The events of a job are not lost to them: they come back with `after`.
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
"""So many times within its limit a connection of waitress is looked at."""


def gunicorn_worker(seconds: float) -> type[ThreadWorker]:
    """Return gunicorn's worker that gives up a send when nothing was taken for `seconds`; 0: never.

    It also hangs up in the thread of the request. gunicorn waits up to two seconds for the caller
    to hang up too, and does that in the thread that accepts: everyone would wait for one.
    """
    from gunicorn.workers.gthread import ThreadWorker

    whole, rest = divmod(seconds, 1)
    limit = struct.pack("@ll", int(whole), int(rest * 1e6))  # a timeval; zero is no limit

    class Worker(ThreadWorker):  # type: ignore[misc]
        def handle(self, conn: Any) -> Any:
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            goes_on = super().handle(conn)
            if not goes_on:
                with contextlib.suppress(OSError):  # it is closed already
                    conn.close(graceful=True)
            return goes_on

        def handle_request(self, req: Any, conn: Any) -> Any:
            try:
                return super().handle_request(req, conn)
            except BlockingIOError:  # what a send raises at the limit
                _say_dropped(seconds)
                return False

        def finish_request(self, conn: Any, fs: Any) -> None:
            if not fs.cancelled() and fs.exception() is None and not fs.result():
                self.nr_conns -= 1  # `handle` has closed it
            else:
                super().finish_request(conn, fs)

    return Worker


def watch_waitress(sockets: Mapping[int, object], seconds: float) -> None:
    """Close, from now on, what of waitress's `sockets` takes nothing for `seconds`; 0: none."""
    if seconds:
        watch = threading.Thread(target=_watch, args=(sockets, seconds), name="stalled")
        watch.daemon = True
        watch.start()


def _watch(sockets: Mapping[int, object], seconds: float) -> None:
    from waitress.channel import HTTPChannel

    def drop(channel: HTTPChannel, activity: float) -> None:
        if channel.connected and channel.last_activity == activity:  # still
            _say_dropped(seconds)
            channel.handle_close()

    unsent: dict[tuple[HTTPChannel, float], float] = {}
    """Where something waits to be sent, with the time of the last send: since when that is so."""
    while True:
        time.sleep(seconds / LOOKS)
        now = time.monotonic()
        channels = [each for each in list(sockets.values()) if isinstance(each, HTTPChannel)]
        waiting = [(each, each.last_activity) for each in channels if each.total_outbufs_len]
        unsent = {key: unsent.get(key, now) for key in waiting}
        for (channel, activity), since in unsent.items():
            if now - since >= seconds:
                # in the thread that owns the socket
                channel.server.trigger.pull_trigger(functools.partial(drop, channel, activity))


def _say_dropped(seconds: float) -> None:
    log.info("a connection was closed: nothing of what it was sent was read for %g s", seconds)
