"""What a route requires of its callers, declared where it is registered, for the guard to check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from flask import Blueprint, Flask

from isoline.server.access import RUN, VIEW

View = TypeVar("View", bound=Callable[..., Any])

SAFE = ("GET", "HEAD", "OPTIONS")
"""Methods that do not change anything."""


@dataclass(frozen=True)
class Body:
    """The largest request body that a route accepts."""

    bytes: int
    parts: int = 0
    """Largest number of parts in a form; 0 if forms are not accepted."""
    fields_bytes: int = 0
    """Largest total size of the form fields that are not files."""
    is_json: bool = True
    """Whether the content type must be JSON, since a form of another site can send any other
    type."""


NO_BODY = Body(0, is_json=False)


@dataclass(frozen=True)
class Declaration:
    """What one route requires of its callers."""

    scope: str | None
    """The scope that the caller's token must have; None if no token is required."""
    body: Body = NO_BODY
    trusts: Callable[[str], bool] = lambda _: False
    """Whether callers from an address are trusted without a token."""


class Routes:
    """Registers views with their declarations on an app or a blueprint."""

    def __init__(self, target: Flask | Blueprint) -> None:
        self._target = target

    def get(self, rule: str, scope: str | None = VIEW) -> Callable[[View], View]:
        """Register a view that reads."""
        return self.route(rule, "GET", Declaration(scope))

    def post(self, rule: str, body: Body, scope: str | None = RUN) -> Callable[[View], View]:
        """Register a view that accepts `body` and performs an action."""
        return self.route(rule, "POST", Declaration(scope, body))

    def put(self, rule: str, body: Body, scope: str | None = RUN) -> Callable[[View], View]:
        """Register a view that accepts `body` and stores it."""
        return self.route(rule, "PUT", Declaration(scope, body))

    def patch(self, rule: str, body: Body, scope: str | None = RUN) -> Callable[[View], View]:
        """Register a view that accepts `body` and changes something."""
        return self.route(rule, "PATCH", Declaration(scope, body))

    def delete(self, rule: str, scope: str | None = RUN) -> Callable[[View], View]:
        """Register a view that removes or stops something."""
        return self.route(rule, "DELETE", Declaration(scope))

    def route(
        self, rule: str, method: str, declaration: Declaration, endpoint: str | None = None
    ) -> Callable[[View], View]:
        """Register a view for one method; a view may have several rules with the same
        declaration."""

        def register(view: View) -> View:
            view.__dict__["declaration"] = declaration
            name = endpoint or f"{view.__name__}:{method}:{rule}".replace(".", "_")
            self._target.add_url_rule(rule, name, view, methods=[method])
            return view

        return register


def declaration_of(view: Callable[..., Any] | None) -> Declaration | None:
    """Return the declaration of `view`, None if it has none."""
    return getattr(view, "declaration", None)


def check_declared(app: Flask) -> None:
    """Raise RuntimeError if a route of `app` has no declaration."""
    for rule in app.url_map.iter_rules():
        if declaration_of(app.view_functions[rule.endpoint]) is None:
            raise RuntimeError(f"the route {rule.rule} does not declare who may call it")
