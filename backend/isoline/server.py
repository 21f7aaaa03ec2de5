"""Serving the app: gunicorn's threads on Linux and macOS, waitress elsewhere.

One process answers HTTP: jobs, journals and streams live in it, tiles run in worker processes.
"""

from __future__ import annotations

import logging
import socket
import sys

from flask import Flask

from isoline.app import Backend, create_app
from isoline.config import Settings
from isoline.errors import Conflict

log = logging.getLogger(__name__)

SPARE_THREADS = 16
"""Threads for short requests while every stream is taken."""


def serve(settings: Settings, kind: str | None = None) -> None:
    """Serve until interrupted. `kind` is "gunicorn" or "waitress"; by default what suits here.

    Raises Conflict when the port is taken.
    """
    _check_port(settings)
    if (kind or _default_kind()) == "gunicorn":
        _serve_gunicorn(settings)
    else:
        _serve_waitress(settings)


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
    return settings.limits.streams + SPARE_THREADS


def _serve_gunicorn(settings: Settings) -> None:
    from gunicorn.app.base import BaseApplication

    class Application(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            options = {
                "bind": f"{_bracketed(settings.server.host)}:{settings.server.port}",
                "workers": 1,
                "worker_class": "gthread",
                "threads": _threads(settings),
                "timeout": 0,  # a stream may be quiet for as long as a tile takes
                "graceful_timeout": 5,
                "accesslog": None,
                "loglevel": "warning",
                "worker_exit": lambda _server, worker: worker.app.stop(),
            }
            for name, value in options.items():
                self.cfg.set(name, value)

        def load(self) -> Flask:
            # called in the forked process: threads and pipes of the backend belong there
            self.backend = Backend.start(settings)
            return create_app(self.backend)

        def stop(self) -> None:
            self.backend.close()

    Application().run()


def _serve_waitress(settings: Settings) -> None:
    import waitress

    backend = Backend.start(settings)
    try:
        waitress.serve(
            create_app(backend),
            host=settings.server.host,
            port=settings.server.port,
            threads=_threads(settings),
            channel_request_lookahead=1,  # notices a caller that hung up
            _quiet=True,
        )
    finally:
        backend.close()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
