"""Authentication and authorisation: tokens with scopes, an OpenID Connect issuer, rate limits.

Without tokens and an issuer, the server listens on loopback only, and any caller may do everything.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from isoline.config.settings import LOOPBACK, SCOPES, Oidc, Settings
from isoline.errors import Broken, Busy, NotAllowed, NotAuthenticated

VIEW, RUN, SAVE, ADMIN = SCOPES
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA")
"""Signature algorithms that an issuer may use: none with a shared secret, and never "none"."""
KEYS_SECONDS = 600.0
"""How long the issuer's keys are cached."""
KEYS_PAUSE_SECONDS = 30.0
"""How soon they may be fetched again because of an unknown key."""
KEYS_BYTES = 1 << 20
SKEW_SECONDS = 30
BURST_SECONDS = 2.0
"""After a pause, a caller may send a burst of as many requests as are allowed in this time."""


@dataclass(frozen=True)
class User:
    """A caller."""

    name: str
    scopes: frozenset[str]
    is_known: bool = True
    """Whether the caller is authenticated, which an open server does not require."""

    def may(self, scope: str) -> bool:
        return scope in self.scopes or ADMIN in self.scopes

    def must(self, scope: str) -> None:
        """Raise NotAllowed unless the user has `scope`."""
        if not self.may(scope):
            raise NotAllowed(
                f"{self.name} may not do this", f"use a token with the scope {scope!r}"
            )


ANYBODY = User("", frozenset(SCOPES), is_known=False)


def new_token() -> tuple[str, str]:
    """Return a random token, and its hash for isoline.toml."""
    token = secrets.token_urlsafe(32)
    return token, digest(token)


def digest(token: str) -> str:
    """Return the hash of `token`, as in isoline.toml."""
    # tokens are long and random: a slow hash, as for passwords, would add no security
    return hashlib.sha256(token.encode()).hexdigest()


class Access:
    """Identifies callers by their credentials."""

    def __init__(self, settings: Settings) -> None:
        self._server = settings.server
        self._known = {name: (t.sha256, frozenset(t.scopes)) for name, t in settings.tokens.items()}
        if settings.server.token:
            self._known[""] = digest(settings.server.token), frozenset(SCOPES)
        self._issuer = Issuer(settings.oidc) if settings.oidc.issuer else None
        self._rates = Rates(settings.limits.requests_per_second)
        listens = settings.server.host
        self._hosts = frozenset(map(str.lower, settings.server.hosts))
        if listens in LOOPBACK:
            self._hosts |= LOOPBACK

    @property
    def is_open(self) -> bool:
        """Whether no credentials are required."""
        return not self._known and self._issuer is None

    def user(self, token: str) -> User:
        """Return the caller with `token`, "" if there is none.

        Raises NotAuthenticated, or Busy beyond the rate limit.
        """
        if self.is_open:
            return ANYBODY
        user = self._of_token(token) or (self._issuer.user(token) if self._issuer else None)
        if not token or user is None:
            what = "the token is not valid" if token else "this server requires a token"
            raise NotAuthenticated(what, "send Authorization: Bearer TOKEN")
        self._rates.count(user.name)
        return user

    def check_host(self, host: str) -> None:
        """Reject a host name that is not this server's.

        This blocks pages whose own name was made to resolve to this server (DNS rebinding). Raises
        NotAllowed.
        """
        name = (urlsplit(f"//{host}").hostname or "").lower()
        if self._hosts and name not in self._hosts:
            raise NotAllowed(f"this server is not called {name!r}", "add the name to server.hosts")

    def check_origin(self, origin: str | None, host: str) -> None:
        """Reject changes requested by a page of another site. Raises NotAllowed."""
        if origin is None or origin in self._server.allow_origins:
            return
        if urlsplit(origin).netloc != host:
            raise NotAllowed(
                f"pages of {origin} may not call this server", "add it to server.allow_origins"
            )

    def _of_token(self, token: str) -> User | None:
        presented, found = digest(token), None
        for name, (
            known,
            scopes,
        ) in self._known.items():  # always all, so that timing reveals nothing
            if hmac.compare_digest(presented, known):
                found = User(name, scopes)
        return found


class Rates:
    """A token bucket per caller, which refills steadily and holds at most a short burst."""

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Allow `per_second` calls; 0 means no limit."""
        self._per_second = per_second
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}

    def count(self, name: str) -> None:
        """Count a call by `name`. Raises Busy if it comes too soon."""
        if not self._per_second:
            return
        most, now = self._per_second * BURST_SECONDS, self._clock()
        with self._lock:
            left, since = self._buckets.get(name, (most, now))
            left = min(most, left + (now - since) * self._per_second)
            self._buckets[name] = max(left - 1, 0.0), now
        if left < 1:
            raise Busy(f"more than {self._per_second:g} requests per second", "try again in 1 s")


@dataclass
class Issuer:
    """An OpenID Connect issuer whose ID or access tokens are accepted as JWT (RFC 7519)."""

    settings: Oidc
    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _keys: Any = None
    _fetched: float = float("-inf")

    def user(self, token: str) -> User | None:
        """Return the user named by `token`, None if its signature, iss, aud or exp is not valid.

        Raises Broken if the issuer's keys cannot be read.
        """
        import jwt  # an extra, not needed by servers without an issuer

        if token.count(".") != 2:
            return None
        try:
            head = jwt.get_unverified_header(token)
            key = self._key(str(head.get("kid", "")))
            if key is None:
                return None
            claims = jwt.decode(
                token,
                key.key,
                algorithms=list(ALGORITHMS),
                issuer=self.settings.issuer,
                audience=self.settings.audience,
                leeway=SKEW_SECONDS,
                options={"require": ["exp", "iss", "aud", self.settings.user_claim]},
            )
        except (jwt.PyJWTError, ValueError, TypeError):
            return None
        granted = claims.get(self.settings.scope_claim, "")
        words = granted.split() if isinstance(granted, str) else [str(word) for word in granted]
        prefix = self.settings.scope_prefix
        scopes = {word.removeprefix(prefix) for word in words if word.startswith(prefix)}
        name = str(claims[self.settings.user_claim])
        # prefixed, since a configured token may have the same name
        return User(f"{self.settings.issuer}#{name}", frozenset(scopes & set(SCOPES)))

    def _key(self, kid: str) -> Any:
        with self._lock:
            age = self.clock() - self._fetched
            found = self._find(kid)
            if age > KEYS_SECONDS or (found is None and age > KEYS_PAUSE_SECONDS):
                self._keys, self._fetched = self._load(), self.clock()
                found = self._find(kid)
            return found

    def _find(self, kid: str) -> Any:
        if self._keys is None:
            return None
        return next((key for key in self._keys.keys if key.key_id == (kid or None)), None)

    def _load(self) -> Any:
        import jwt

        where = self.settings.jwks
        try:
            text = _fetch(where) if where.startswith("https://") else Path(where).read_bytes()
            return jwt.PyJWKSet.from_dict(orjson.loads(text))
        except (OSError, ValueError, jwt.PyJWTError) as error:
            what = f"the issuer's keys cannot be read: {error}"
            raise Broken(what, "check oidc.jwks in isoline.toml") from error


def _fetch(url: str) -> bytes:
    """Return the content at `url`, without following redirects. Raises OSError."""
    import requests

    with requests.get(url, timeout=5, stream=True, allow_redirects=False) as response:
        if response.status_code != 200:
            raise OSError(f"{url} responded with status {response.status_code}")
        text = response.raw.read(KEYS_BYTES + 1, decode_content=True)
    if len(text) > KEYS_BYTES:
        raise OSError(f"the response of {url} is too long")
    return bytes(text)
