"""/api/v1/isoline: the routes of the panel, with Girder's permissions.

Read access to an item is enough to see its runs; segmenting it, and everything that follows,
requires write access.
"""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cherrypy
from girder.api import access
from girder.api.describe import Description, autoDescribeRoute
from girder.api.rest import Resource, setResponseHeader
from girder.constants import AccessType, TokenScope
from girder.exceptions import RestException
from girder.models.file import File
from girder.models.item import Item

from isoline_client.transport import Lines
from isoline_dsa import images, settings
from isoline_dsa.runs import RUNNING, Run
from isoline_dsa.server import ServerError

REQUEST_KEYS = ("model", "title", "region", "focus", "parameters", "simplify_px")
"""The keys that a browser may send in a request; the image is always the item in the route."""
PROMPT_KEYS = ("model", "parameters", "prompts", "initial", "simplify_px")


class IsolineResource(Resource):  # type: ignore[misc]
    """The routes for models, for the runs of an item, and for one run."""

    def __init__(self) -> None:
        super().__init__()
        self.resourceName = "isoline"
        self.route("GET", ("server",), self.server)
        self.route("GET", ("models",), self.models)
        self.route("GET", ("item", ":id", "file"), self.file)
        self.route("GET", ("item", ":id"), self.item)
        self.route("POST", ("item", ":id", "run"), self.start)
        self.route("POST", ("item", ":id", "prompt"), self.prompt)
        self.route("GET", ("run", ":id"), self.state)
        self.route("GET", ("run", ":id", "events"), self.events)
        self.route("PUT", ("run", ":id", "focus"), self.focus)
        self.route("POST", ("run", ":id", "cancel"), self.cancel)
        self.route("POST", ("run", ":id", "accept"), self.accept)
        self.route("POST", ("run", ":id", "discard"), self.discard)

    @access.admin
    @autoDescribeRoute(Description("Return the status of the isoline server."))
    def server(self) -> Any:
        return _asked(lambda: settings.server().health())

    @access.user(scope=TokenScope.DATA_READ)
    @autoDescribeRoute(Description("List the models of the isoline server."))
    def models(self) -> Any:
        return _asked(lambda: settings.server().models())

    @access.public(scope=TokenScope.DATA_READ)
    @autoDescribeRoute(
        Description("Return the path of a large image's file to the isoline server.")
        .notes("The server presents the token that it shares with this plugin.")
        .modelParam("id", model=Item, level=AccessType.READ)
    )
    def file(self, item: Any) -> Any:
        shown = cherrypy.request.headers.get("Isoline-Token", "")
        token = settings.token()
        if not token or not hmac.compare_digest(shown.encode(), token.encode()):
            raise RestException("Only the isoline server may call this.", 403)
        chosen = (item.get("largeImage") or {}).get("fileId")
        file = File().load(chosen, force=True) if chosen else None
        if file is None:
            raise RestException("The item is not a large image.", 404)
        try:
            path = Path(File().getLocalFilePath(file))
        except Exception as error:  # assetstores without files raise various errors
            raise RestException("The file is not in the file system.", 404) from error
        return {"path": str(path), "size": file["size"]}

    @access.public(scope=TokenScope.DATA_READ)
    @autoDescribeRoute(
        Description("Return the user's permissions, and the runs to accept or discard.").modelParam(
            "id", model=Item, level=AccessType.READ
        )
    )
    def item(self, item: Any) -> Any:
        user = self.getCurrentUser()
        return {
            "mayWrite": bool(user) and Item().hasAccess(item, user, AccessType.WRITE),
            "runs": [Run().filter(run, user) for run in Run().open_runs(item)],
        }

    @access.user(scope=TokenScope.DATA_WRITE)
    @autoDescribeRoute(
        Description("Segment an item, or a region of it.")
        .modelParam("id", model=Item, level=AccessType.WRITE)
        .jsonParam("request", f"The keys are {', '.join(REQUEST_KEYS)}.", paramType="body",
                   requireObject=True)
    )  # fmt: skip
    def start(self, item: Any, request: dict[str, Any]) -> Any:
        _check_keys(request, REQUEST_KEYS)
        title = str(request.pop("title", None) or request["model"])[:100]
        user = self.getCurrentUser()
        key = cherrypy.request.headers.get("Idempotency-Key", "")
        return Run().filter(_asked(lambda: Run().begin(item, user, request, title, key)), user)

    @access.user(scope=TokenScope.DATA_WRITE)
    @autoDescribeRoute(
        Description("Segment the object that prompts indicate, and stream the events.")
        .notes("Nothing is stored. One JSON object per line; disconnecting cancels the request.")
        .modelParam("id", model=Item, level=AccessType.WRITE)
        .jsonParam("request", f"The keys are {', '.join(PROMPT_KEYS)}.", paramType="body",
                   requireObject=True)
    )  # fmt: skip
    def prompt(self, item: Any, request: dict[str, Any]) -> Any:
        _check_keys(request, PROMPT_KEYS)
        asked, token = images.segmenting(item, request), images.read_token(self.getCurrentUser())
        return _streamed(_asked(lambda: settings.server().segment(asked, token)))

    @access.public(scope=TokenScope.DATA_READ)
    @autoDescribeRoute(
        Description("Return the state and progress of a run.").param("id", "", paramType="path")
    )
    def state(self, id: str) -> Any:  # noqa: A002  # autoDescribeRoute passes it by name
        run, _ = self._run(id, AccessType.READ)
        return Run().filter(Run().revived(run), self.getCurrentUser())

    @access.public(scope=TokenScope.DATA_READ)
    @autoDescribeRoute(
        Description("Follow a run: one JSON object per line, and an empty line each second.")
        .param("id", "", paramType="path")
        .param("after", "The number of the last event received.", dataType="integer", default=-1,
               required=False)
    )  # fmt: skip
    def events(self, id: str, after: int) -> Any:  # noqa: A002
        run, _ = self._run(id, AccessType.READ)
        user = self.getCurrentUser()
        token = images.read_token(user) if user else ""
        return _streamed(_asked(lambda: settings.server().events(run["job"], after, token)))

    @access.user(scope=TokenScope.DATA_WRITE)
    @autoDescribeRoute(
        Description("Move the focus: the tiles nearest to a point are computed first.")
        .param("id", "", paramType="path")
        .jsonParam("point", "[x, y] in image pixels.", paramType="body", requireArray=True)
    )
    def focus(self, id: str, point: list[float]) -> None:  # noqa: A002
        run, _ = self._run(id, AccessType.WRITE)
        _asked(lambda: settings.server().focus(run["job"], point))

    @access.user(scope=TokenScope.DATA_WRITE)
    @autoDescribeRoute(
        Description("Stop a run; its results are kept.").param("id", "", paramType="path")
    )
    def cancel(self, id: str) -> None:  # noqa: A002
        run, _ = self._run(id, AccessType.WRITE)
        _asked(lambda: Run().stop(run))

    @access.user(scope=TokenScope.DATA_WRITE)
    @autoDescribeRoute(
        Description("Keep the results of a run; they replace those of an earlier run.").param(
            "id", "", paramType="path"
        )
    )
    def accept(self, id: str) -> Any:  # noqa: A002
        return self._decide(id, Run().accept)

    @access.user(scope=TokenScope.DATA_WRITE)
    @autoDescribeRoute(
        Description("Remove the results of a run.").param("id", "", paramType="path")
    )
    def discard(self, id: str) -> Any:  # noqa: A002
        return self._decide(id, Run().discard)

    def _decide(self, run_id: str, verdict: Callable[[Any], Any]) -> Any:
        run, _ = self._run(run_id, AccessType.WRITE)
        if run["state"] == RUNNING:
            raise RestException("The run has not ended. Stop it first.", 409)
        if not run["open"]:
            raise RestException("The run has already been accepted or discarded.", 409)
        return Run().filter(verdict(run), self.getCurrentUser())

    def _run(self, run_id: str, level: int) -> tuple[Any, Any]:
        """Return the run and its item, to which the user has access of `level`.

        Raises RestException or AccessException.
        """
        run = Run().load(run_id)
        if run is None:
            raise RestException("There is no such run.", 404)
        user = self.getCurrentUser()
        item = Item().load(run["itemId"], user=user, level=level, exc=True)
        return run, item


def _check_keys(request: dict[str, Any], known: tuple[str, ...]) -> None:
    unknown = sorted(set(request) - set(known))
    if unknown or not isinstance(request.get("model"), str):
        what = f"unknown keys: {', '.join(unknown)}" if unknown else "no model"
        raise RestException(f"The request has {what}.", 400)


def _streamed(lines: Lines) -> Callable[[], Lines]:
    """Return a response with which Girder forwards `lines` as they arrive."""
    setResponseHeader("Content-Type", "application/x-ndjson")
    setResponseHeader("Cache-Control", "no-store")
    setResponseHeader("X-Accel-Buffering", "no")  # nginx would hold events back

    def stream() -> Lines:
        with contextlib.closing(lines):
            for line in lines:
                yield line + b"\n"

    return stream


def _asked(call: Callable[[], Any]) -> Any:
    """Return the result of `call`; raise a ServerError as Girder's RestException."""
    try:
        return call()
    except ServerError as error:
        if error.retry_after:
            setResponseHeader("Retry-After", error.retry_after)
        raise RestException(str(error), error.status) from error
