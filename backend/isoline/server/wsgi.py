"""Serving the app: gunicorn's threads on Linux and macOS, waitress elsewhere.

One process serves HTTP: jobs, journals and streams live in it, tiles run in worker processes.
"""

from __future__ import annotations

import logging
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, TypeAlias

from flask import Flask

from isoline.config.data_directory import open_data_directory
from isoline.config.settings import Settings
from isoline.errors import Conflict, NotSupported
from isoline.server import stalled
from isoline.server.app import create_app
from isoline.server.audit import JsonLines
from isoline.server.lifeline import Lifeline
from isoline.server.services import Services

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

Around: TypeAlias = "Callable[[Flask], WSGIApplication]"
"""Wraps the app in a WSGI application that serves more at the same origin."""

log = logging.getLogger(__name__)

SWITCH_SECONDS = 0.0005
"""How long a thread may hold the interpreter lock; Python's default is ten times as long.
"""
SPARE_THREADS = 16
"""Threads for short requests while all streams are in use."""


def _nothing(app: Flask) -> WSGIApplication:
    return app


def serve(settings: Settings, kind: str | None = None, around: Around = _nothing) -> None:
    """Serve until interrupted. `kind` is "gunicorn" or "waitress"; the default suits the platform.

    Raises Conflict if the port is in use or the data directory cannot be used.
    """
    _check_port(settings)
    open_data_directory(settings.data, keeps_state=True)
    # while threads compute, a short request waits for several switches of the interpreter
    sys.setswitchinterval(SWITCH_SECONDS)
    if settings.server.json_log:
        _log_as_json()
    if (kind or _default_kind()) == "gunicorn":
        _serve_gunicorn(settings, around)
    else:
        _serve_waitress(settings, around)


def _log_as_json() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def _default_kind() -> str:
    return "waitress" if sys.platform == "win32" else "gunicorn"


def _check_port(settings: Settings) -> None:
    host, port = settings.server.host, settings.server.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Conflict(
                f"cannot listen on {host}:{port}: {error.strerror}", "choose another --port"
            ) from error


def _threads(settings: Settings) -> int:
    limits = settings.limits
    return limits.streams + limits.prompt_streams + settings.monailabel.waiting + SPARE_THREADS


def _serve_gunicorn(settings: Settings, around: Around) -> None:
    from gunicorn.app.base import BaseApplication

    lifeline = Lifeline()

    class Application(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            options = {
                "bind": f"{_bracketed(settings.server.host)}:{settings.server.port}",
                "workers": 1,
                "worker_class": stalled.gunicorn_worker(settings.limits.stalled_seconds),
                "threads": _threads(settings),
                "timeout": 0,  # a stream may be silent for as long as a tile takes
                "graceful_timeout": 5,
                "accesslog": None,
                "loglevel": "warning",
                "post_fork": lambda _server, _worker: lifeline.hold(),
                "post_worker_init": lambda worker: _wind_down_at_once(worker.app.backend),
                "certfile": settings.server.certificate or None,
                "keyfile": settings.server.key or None,
                "worker_exit": lambda _server, worker: worker.app.stop(),
            }
            for name, value in options.items():
                self.cfg.set(name, value)

        def load(self) -> WSGIApplication:
            # called in the forked process, where the backend's threads and pipes belong
            self.backend = Services.start(settings)
            return around(create_app(self.backend))

        def stop(self) -> None:
            self.backend.close()

    Application().run()


def _wind_down_at_once(backend: Services) -> None:
    """End streams as soon as the worker is asked to stop, since it waits for them first."""
    before = signal.getsignal(signal.SIGTERM)

    def handle(number: int, frame: FrameType | None) -> None:
        backend.jobs.wind_down()
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGTERM, handle)


def _serve_waitress(settings: Settings, around: Around) -> None:
    from waitress.server import create_server

    if settings.server.certificate:
        raise NotSupported(
            "waitress does not support TLS", "use a reverse proxy: see docs/hospital.md"
        )

    from isoline.server.monailabel.stale import accept_stale_lengths

    accept_stale_lengths()
    backend = Services.start(settings)
    sockets: dict[int, object] = {}
    stalled.watch_waitress(sockets, settings.limits.stalled_seconds)
    try:
        server = create_server(
            around(create_app(backend)),
            map=sockets,
            host=settings.server.host,
            port=settings.server.port,
            threads=_threads(settings),
            channel_request_lookahead=1,  # detects that a caller has disconnected
        )
        server.run()
    finally:
        backend.close()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
