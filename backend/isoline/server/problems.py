"""Error responses: problems in the format of RFC 9457."""

from __future__ import annotations

import logging

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from isoline.errors import Broken, Busy, IsolineError, NotAuthenticated, TooLarge
from isoline.jobs.queue import QueueFull
from isoline.protocol.problems import PROBLEM, http_status, problem
from isoline.server.declarations import declaration_of

log = logging.getLogger(__name__)


def explain(app: Flask) -> None:
    """Make `app` respond to errors with problems."""

    @app.errorhandler(IsolineError)
    def isoline_error(error: IsolineError) -> Response:
        if isinstance(error, Broken):
            log.error("%s", error)
        response = problem_response(http_status(error), error)
        say_what_helps(response, error)
        return response

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        remedy = {
            404: "see /v1/openapi.json for the routes",
            405: "see /v1/openapi.json for the methods",
            413: _largest(app),
            415: "send Content-Type: application/json",
        }
        code = error.code or 500
        kind = TooLarge if code == 413 else IsolineError
        what = kind(error.description or error.name, remedy.get(code, ""))
        response = problem_response(code, what)
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
        return response

    @app.errorhandler(Exception)
    def bug(error: Exception) -> Response:
        log.exception("%s %s", request.method, request.path)
        return problem_response(
            500, Broken(f"{type(error).__name__} in the server", "see the server's log")
        )


def say_what_helps(response: Response, error: IsolineError) -> None:
    """Add the headers that tell a client what to do about `error`."""
    if isinstance(error, NotAuthenticated):
        response.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, Busy):
        response.headers["Retry-After"] = str(error.retry_after)


def problem_response(status: int, error: IsolineError) -> Response:
    """Return `error` as a problem response."""
    position = error.position if isinstance(error, QueueFull) else None
    return Response(problem(error, status, position), status, content_type=PROBLEM)


def _largest(app: Flask) -> str:
    """Return the largest body that the route of this request accepts."""
    declared = declaration_of(app.view_functions.get(request.endpoint or ""))
    if declared is None or not declared.body.bytes:
        return "this route accepts no body"
    return f"send at most {max(1, declared.body.bytes >> 20)} MiB"
