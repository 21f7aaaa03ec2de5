"""OHIF, an archive and isoline at one origin, for the demonstration and for tests.

    /v1, /ohif, /metrics    isoline
    /dicom-web              the archive, with the headers that it requires
    /app-config.js          OHIF's configuration: the archive, and the plugin
    everything else         OHIF's pages

Hospitals have their own viewer and reverse proxy; a normal server includes none of this.

    python -m isoline.demo.ohif.site --config isoline.toml --pages DIRECTORY --archive NAME
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import click
import urllib3
from flask import Flask
from werkzeug.datastructures import Headers
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Request, Response

from isoline.config import settings as config
from isoline.config.settings import DicomWeb, Settings
from isoline.errors import IsolineError
from isoline.protocol.problems import http_status
from isoline.server import wsgi
from isoline.server.access import Access
from isoline.server.routes import ohif_plugin

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ARCHIVE = "/dicom-web"
MODULES = ("index.js", "mode.js")
"""The plugin's modules: its extension and its mode."""
_API = re.compile(r"/(v1|ohif)/|/metrics$")
_HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host")
)
_CHUNK = 1 << 16
_ISOLATED = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}
"""Headers that a browser requires before it shares memory between OHIF's threads."""


class Site:
    """A WSGI application that wraps isoline's."""

    def __init__(self, app: Flask, settings: Settings, pages: Path, archive: str) -> None:
        """Serve OHIF's `pages`, and the archive named `archive` in `settings`."""
        self._app = app
        self._access = Access(settings)
        self._pages = pages
        self._config = app_config(archive)
        self._archive = Forwarding(settings.dicomweb[archive])

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if _API.match(path):
            return self._app(environ, start)
        return self._answer(Request(environ))(environ, start)

    def _answer(self, request: Request) -> Response:
        try:
            self._access.check_host(request.host)
            if request.method not in ("GET", "HEAD"):
                self._access.check_origin(request.headers.get("Origin"), request.host)
        except IsolineError as error:
            return Response(str(error), http_status(error))
        if request.path.startswith(f"{ARCHIVE}/"):
            return self._archive.answer(request)
        if request.path == "/app-config.js":
            return Response(self._config, headers=_ISOLATED, mimetype="text/javascript")
        return self._page(request)

    def _page(self, request: Request) -> Response:
        """Return a file of OHIF; its client-side routes, such as /viewer, all return index.html."""
        name = request.path.lstrip("/")
        if not Path(name).suffix or not (self._pages / name).is_file():
            name = "index.html" if not Path(name).suffix else name
        try:
            page = ohif_plugin.send(self._pages, name, request.environ)
        except NotFound:
            return Response(f"OHIF has no {name}", 404)
        page.headers.update(_ISOLATED)
        return page


class Forwarding:
    """Forwards requests to one archive only."""

    def __init__(self, archive: DicomWeb) -> None:
        url = urlsplit(archive.url)
        self._root = url.path.rstrip("/")
        self._headers = dict(archive.headers)
        self._seconds = archive.timeout_seconds
        self._pool = urllib3.connection_from_url(f"{url.scheme}://{url.netloc}", maxsize=16)

    def answer(self, request: Request) -> Response:
        """Forward `request` to the archive and stream its response."""
        path = quote(request.path.removeprefix(ARCHIVE), safe="/")
        if ".." in path.split("/"):
            return Response("only paths below the archive's root are allowed", 403)
        query = request.query_string.decode("ascii", "replace")
        sent = dict(request.headers) if request.content_length else _without_body(request.headers)
        sent = {key: value for key, value in sent.items() if key.lower() not in _HOP_BY_HOP}
        try:
            answer = self._pool.urlopen(
                request.method,
                f"{self._root}{path}" + (f"?{query}" if query else ""),
                body=request.stream if request.content_length else None,
                headers={**sent, **self._headers},
                preload_content=False,
                redirect=False,
                retries=False,
                timeout=self._seconds,
                decode_content=False,
            )
        except urllib3.exceptions.HTTPError as error:
            return Response(f"the archive does not respond: {error}", 502)
        headers = [
            (key, value) for key, value in answer.headers.items() if key.lower() not in _HOP_BY_HOP
        ]
        response = Response(_chunks(answer), answer.status, headers, direct_passthrough=True)
        response.call_on_close(answer.release_conn)
        return response


def _without_body(headers: Headers) -> dict[str, str]:
    about = ("content-length", "content-type")
    return {key: value for key, value in headers.items() if key.lower() not in about}


def _chunks(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    yield from answer.stream(_CHUNK, decode_content=False)


def app_config(archive: str) -> str:
    """Return OHIF's app-config.js for this origin, with the plugin if it is installed."""
    plugin = ohif_plugin.plugin_directory()
    extension, mode = (
        [f"{ohif_plugin.PREFIX}{name}"] if (plugin / name).exists() else [] for name in MODULES
    )
    source: dict[str, Any] = {
        "friendlyName": archive,
        "name": archive,
        "qidoRoot": ARCHIVE,
        "wadoRoot": ARCHIVE,
        "wadoUriRoot": ARCHIVE,
        "qidoSupportsIncludeField": False,
        "supportsReject": False,
        "supportsFuzzyMatching": False,
        "supportsWildcard": True,
        "imageRendering": "wadors",
        "thumbnailRendering": "wadors",
        "enableStudyLazyLoad": True,
        "omitQuotationForMultipartRequest": True,
        "bulkDataURI": {"enabled": True},
    }
    settings: dict[str, Any] = {
        "routerBasename": "/",
        "extensions": extension,
        "modes": mode,
        "showStudyList": True,
        "investigationalUseDialog": {"option": "never"},
        "showWarningMessageForCrossOrigin": False,
        "strictZSpacingForVolumeViewport": True,
        "defaultDataSourceName": "dicomweb",
        "dataSources": [
            {
                "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
                "sourceName": "dicomweb",
                "configuration": source,
            }
        ],
        "isoline": {"server": "", "source": archive},
    }
    return f"window.config = {json.dumps(settings, indent=2)};\n"


@click.command()
@click.option("--config", "config_path", required=True, type=click.Path(path_type=Path))
@click.option("--pages", required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--archive", required=True, help="Name of an archive under [dicomweb].")
def main(config_path: Path, pages: Path, archive: str) -> None:
    """Serve isoline, OHIF and an archive at one origin."""
    settings = config.load(config_path)

    def around(app: Flask) -> WSGIApplication:
        return Site(app, settings, pages, archive)

    wsgi.serve(settings, around=around)


if __name__ == "__main__":
    main()
