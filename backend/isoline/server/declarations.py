"""What a route asks of its callers, said where it is registered; the guard reads nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from flask import Blueprint, Flask

from isoline.server.access import RUN, VIEW

View = TypeVar("View", bound=Callable[..., Any])

SAFE = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing."""


@dataclass(frozen=True)
class Body:
    """The largest body that a route reads."""

    bytes: int
    parts: int = 0
    """How many parts a form may have; 0: it takes no form."""
    fields_bytes: int = 0
    """How long all fields of a form that are no files may be together."""
    is_json: bool = True
    """Whether it must be said to be JSON: a form of another site can send anything else."""


NO_BODY = Body(0, is_json=False)


@dataclass(frozen=True)
class Declaration:
    """What one route asks of its callers."""

    scope: str | None
    """What the caller's token must allow; None: anybody may call, without a token."""
    body: Body = NO_BODY
    trusts: Callable[[str], bool] = lambda _: False
    """Whether callers from an address need no token."""


class Routes:
    """Registers views, each with its declaration, on an app or a blueprint."""

    def __init__(self, target: Flask | Blueprint) -> None:
        self._target = target

    def get(self, rule: str, scope: str | None = VIEW) -> Callable[[View], View]:
        """Register a view that reads."""
        return self.route(rule, "GET", Declaration(scope))

    def post(self, rule: str, body: Body, scope: str | None = RUN) -> Callable[[View], View]:
        """Register a view that takes `body` and does something."""
        return self.route(rule, "POST", Declaration(scope, body))

    def put(self, rule: str, body: Body, scope: str | None = RUN) -> Callable[[View], View]:
        """Register a view that takes `body` and keeps it."""
        return self.route(rule, "PUT", Declaration(scope, body))

    def patch(self, rule: str, body: Body, scope: str | None = RUN) -> Callable[[View], View]:
        """Register a view that takes `body` and changes something."""
        return self.route(rule, "PATCH", Declaration(scope, body))

    def delete(self, rule: str, scope: str | None = RUN) -> Callable[[View], View]:
        """Register a view that removes or stops something."""
        return self.route(rule, "DELETE", Declaration(scope))

    def route(
        self, rule: str, method: str, declaration: Declaration, endpoint: str | None = None
    ) -> Callable[[View], View]:
        """Register a view for one method; one view may have several rules of one declaration."""

        def register(view: View) -> View:
            view.__dict__["declaration"] = declaration
            name = endpoint or f"{view.__name__}:{method}:{rule}".replace(".", "_")
            self._target.add_url_rule(rule, name, view, methods=[method])
            return view

        return register


def declaration_of(view: Callable[..., Any] | None) -> Declaration | None:
    """Return what the route of `view` declares, None where it declares nothing."""
    return getattr(view, "declaration", None)


def check_declared(app: Flask) -> None:
    """Raise RuntimeError where a route of `app` declares nothing."""
    for rule in app.url_map.iter_rules():
        if declaration_of(app.view_functions[rule.endpoint]) is None:
            raise RuntimeError(f"the route {rule.rule} does not declare who may call it")
