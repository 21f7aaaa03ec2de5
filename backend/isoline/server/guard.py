"""Checks before a request reaches its route: the caller, the route's declaration, the body."""

from __future__ import annotations

import time

from flask import Flask, Response, g, request
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType

from isoline.config.settings import Settings
from isoline.server.access import ANYBODY, RUN, VIEW, Access
from isoline.server.declarations import SAFE, Body, Declaration, declaration_of
from isoline.server.metrics import Metrics


def guard(app: Flask, access: Access, metrics: Metrics, settings: Settings) -> None:
    """Check each request to `app` against the declaration of its route, and count responses."""

    @app.before_request
    def check() -> None:
        g.began, g.user = time.perf_counter(), ANYBODY
        access.check_host(request.host)
        if request.method not in SAFE:
            access.check_origin(request.headers.get("Origin"), request.host)
        declared = declaration_of(app.view_functions.get(request.endpoint or ""))
        if request.method == "OPTIONS":
            return
        _check_user(access, declared)
        if declared is not None and request.method not in SAFE:
            _check_body(declared.body)

    @app.after_request
    def measure(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule is not None else ""
        seconds = time.perf_counter() - g.get("began", time.perf_counter())
        metrics.answered(route, request.method, response.status_code, seconds)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        return response

    @app.after_request
    def allow_origin(response: Response) -> Response:
        origin = request.headers.get("Origin")
        if origin and origin in settings.server.allow_origins:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Methods"] = "GET, POST, PUT, PATCH, DELETE"
            response.headers["Access-Control-Allow-Headers"] = (
                "Authorization, Content-Type, Idempotency-Key"
            )
            response.headers["Access-Control-Expose-Headers"] = (
                "Retry-After, X-Isoline-Box, X-Isoline-Dtype, X-Isoline-Shape"
            )
            response.vary.add("Origin")
        return response


def _check_user(access: Access, declared: Declaration | None) -> None:
    """Identify the caller. Raises NotAuthenticated, NotAllowed, or Busy beyond the rate limit."""
    if declared is None:  # no such route, which only authorised callers may learn
        scope = VIEW if request.method in SAFE else RUN
    elif declared.scope is None or declared.trusts(request.remote_addr or ""):
        return
    else:
        scope = declared.scope
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    g.user = access.user(token.strip() if kind.lower() == "bearer" else "")
    g.user.must(scope)


def _check_body(body: Body) -> None:
    """Reject a body that is too long or has the wrong type before any of it is read.

    Raises RequestEntityTooLarge or UnsupportedMediaType.
    """
    request.max_content_length = body.bytes
    request.max_form_parts = body.parts
    request.max_form_memory_size = body.fields_bytes
    if request.method == "DELETE":  # MONAI Label's client sends the length of an earlier call
        return
    if (request.content_length or 0) > body.bytes:
        raise RequestEntityTooLarge
    if body.is_json and request.mimetype not in ("", "application/json"):
        raise UnsupportedMediaType("the content type of the body is not JSON")
