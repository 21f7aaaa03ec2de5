"""/api/v1/isoline: the routes of the panel. Who may do what is for Girder to say.

Reading an item is enough to see its runs; segmenting, and all that follows from it, needs the
right to write to the item.
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

from isoline_dsa import images, settings
from isoline_dsa.runs import RUNNING, Run
from isoline_dsa.server import Lines, ServerError

REQUEST_KEYS = ("model", "title", "region", "focus", "parameters", "simplify_px")
"""What a browser may say in a request; the image is the route's item, never its own choice."""
PROMPT_KEYS = ("model", "parameters", "prompts", "initial", "simplify_px")


class IsolineResource(Resource):  # type: ignore[misc]
    """Models, runs of an item, and one run."""

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
    @autoDescribeRoute(Description("Say whether the isoline server answers."))
    def server(self) -> Any:
        return _asked(lambda: settings.server().health())

    @access.user(scope=TokenScope.DATA_READ)
    @autoDescribeRoute(Description("List the models of the isoline server."))
    def models(self) -> Any:
        return _asked(lambda: settings.server().models())

    @access.public(scope=TokenScope.DATA_READ)
    @autoDescribeRoute(
        Description("Tell the isoline server where the file of a large image lies.")
        .notes("The server shows the token that it shares with this plugin.")
        .modelParam("id", model=Item, level=AccessType.READ)
    )
    def file(self, item: Any) -> Any:
        shown = cherrypy.request.headers.get("Isoline-Token", "")
        token = settings.token()
        if not token or not hmac.compare_digest(shown.encode(), token.encode()):
            raise RestException("Only the isoline server may ask this.", 403)
        chosen = (item.get("largeImage") or {}).get("fileId")
        file = File().load(chosen, force=True) if chosen else None
        if file is None:
            raise RestException("The item is no large image.", 404)
        try:
            path = Path(File().getLocalFilePath(file))
        except Exception as error:  # an assetstore without files raises what it likes
            raise RestException("The file lies in no folder.", 404) from error
        return {"path": str(path), "size": file["size"]}

    @access.public(scope=TokenScope.DATA_READ)
    @autoDescribeRoute(
        Description("Say what the user may do, and which runs wait for a verdict.").modelParam(
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
        .jsonParam("request", f"Of these keys: {', '.join(REQUEST_KEYS)}.", paramType="body",
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
        Description("Segment the one object that prompts point at, and tell it as it comes.")
        .notes("Nothing is stored. One JSON object a line; hanging up gives the question up.")
        .modelParam("id", model=Item, level=AccessType.WRITE)
        .jsonParam("request", f"Of these keys: {', '.join(PROMPT_KEYS)}.", paramType="body",
                   requireObject=True)
    )  # fmt: skip
    def prompt(self, item: Any, request: dict[str, Any]) -> Any:
        _check_keys(request, PROMPT_KEYS)
        asked, token = images.segmenting(item, request), images.read_token(self.getCurrentUser())
        return _streamed(_asked(lambda: settings.server().segment(asked, token)))

    @access.public(scope=TokenScope.DATA_READ)
    @autoDescribeRoute(Description("Say how far a run is.").param("id", "", paramType="path"))
    def state(self, id: str) -> Any:  # noqa: A002  # autoDescribeRoute passes it by name
        run, _ = self._run(id, AccessType.READ)
        return Run().filter(Run().revived(run), self.getCurrentUser())

    @access.public(scope=TokenScope.DATA_READ)
    @autoDescribeRoute(
        Description("Follow a run: one JSON object a line, an empty line each second.")
        .param("id", "", paramType="path")
        .param("after", "The last event that is known.", dataType="integer", default=-1,
               required=False)
    )  # fmt: skip
    def events(self, id: str, after: int) -> Any:  # noqa: A002
        run, _ = self._run(id, AccessType.READ)
        user = self.getCurrentUser()
        token = images.read_token(user) if user else ""
        return _streamed(_asked(lambda: settings.server().events(run["job"], after, token)))

    @access.user(scope=TokenScope.DATA_WRITE)
    @autoDescribeRoute(
        Description("Look elsewhere: the tiles nearest to a point run first.")
        .param("id", "", paramType="path")
        .jsonParam("point", "[x, y] in image pixels.", paramType="body", requireArray=True)
    )
    def focus(self, id: str, point: list[float]) -> None:  # noqa: A002
        run, _ = self._run(id, AccessType.WRITE)
        _asked(lambda: settings.server().focus(run["job"], point))

    @access.user(scope=TokenScope.DATA_WRITE)
    @autoDescribeRoute(
        Description("Stop a run; what it has found stays.").param("id", "", paramType="path")
    )
    def cancel(self, id: str) -> None:  # noqa: A002
        run, _ = self._run(id, AccessType.WRITE)
        _asked(lambda: Run().stop(run))

    @access.user(scope=TokenScope.DATA_WRITE)
    @autoDescribeRoute(
        Description("Keep the results of a run, in place of its own earlier ones.").param(
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
            raise RestException("The run was accepted or discarded before.", 409)
        return Run().filter(verdict(run), self.getCurrentUser())

    def _run(self, run_id: str, level: int) -> tuple[Any, Any]:
        """Return the run and its item, for which the user has the rights of `level`."""
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
    """Return what has Girder pass on `lines` as they come."""
    setResponseHeader("Content-Type", "application/x-ndjson")
    setResponseHeader("Cache-Control", "no-store")
    setResponseHeader("X-Accel-Buffering", "no")  # nginx would hold events back

    def stream() -> Lines:
        with contextlib.closing(lines):
            for line in lines:
                yield line + b"\n"

    return stream


def _asked(call: Callable[[], Any]) -> Any:
    """Return what the isoline server says, its refusals as Girder's own."""
    try:
        return call()
    except ServerError as error:
        if error.retry_after:
            setResponseHeader("Retry-After", error.retry_after)
        raise RestException(str(error), error.status) from error
