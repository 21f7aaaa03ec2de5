"""The OHIF plugin's files, which `isoline serve` provides to any OHIF at `/ohif/`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flask import Blueprint, abort, request
from werkzeug.exceptions import NotFound
from werkzeug.utils import send_from_directory
from werkzeug.wrappers import Response

from isoline.server.declarations import Routes

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

PREFIX = "/ohif/"
_SHIPPED = Path(__file__).parents[1] / "web" / "ohif"
_CHECKOUT = Path(__file__).parents[4] / "plugins" / "ohif" / "src"
MEDIA_TYPES = {
    # the results of `mimetypes` depend on the machine, and browsers are strict with modules
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
    ".map": "application/json",
    ".html": "text/html",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".wasm": "application/wasm",
}


def plugin_directory() -> Path:
    """Return the directory of the plugin's modules: in the package if installed, or the
    checkout."""
    return _SHIPPED if _SHIPPED.is_dir() else _CHECKOUT


def send(directory: Path, path: str, environ: WSGIEnvironment) -> Response:
    """Return the file `path` below `directory`, or 304 if the browser already has it.

    Names contain no version, so a browser revalidates its copy each time. Raises NotFound.
    """
    kind = MEDIA_TYPES.get(Path(path).suffix.lower(), "application/octet-stream")
    return send_from_directory(directory, path, environ, mimetype=kind, max_age=0)


def blueprint(directory: Path | None = None) -> Blueprint:
    """Return the route for the files in `directory`, by default those of the plugin."""
    files = plugin_directory() if directory is None else directory
    plugin_files = Blueprint("ohif", __name__)

    @Routes(plugin_files).get(f"{PREFIX}<path:name>", scope=None)
    def plugin(name: str) -> Response:
        try:
            return send(files, name, request.environ)
        except NotFound:
            abort(404, f"the plugin has no file {name!r}")

    return plugin_files
