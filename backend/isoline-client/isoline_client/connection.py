"""Requests to one server, with retries."""

from __future__ import annotations

from collections.abc import Callable

from isoline_client.options import Json
from isoline_client.retry import Attempts, Listener, Policy, Stop, ask
from isoline_client.transport import Headers, Reply, Transport


class Connection:
    """The connection that a client and its jobs share. Thread-safe."""

    def __init__(
        self,
        url: str,
        token: str | None,
        headers: Callable[[], Headers],
        policy: Policy,
        listener: Listener,
    ) -> None:
        """See `Client`."""
        self.http = Transport(url, token, headers, policy.silence_seconds)
        self.policy = policy
        self.listener = listener

    def attempts(
        self, patience_seconds: float, *, stop: Stop | None = None, listener: Listener | None = None
    ) -> Attempts:
        """Return the attempts at one operation; the first of them begins now."""
        return Attempts(self.policy, patience_seconds, stop, listener or self.listener)

    def exchange(
        self,
        method: str,
        path: str,
        body: Json | bytes | None = None,
        headers: Headers | None = None,
        stop: Stop | None = None,
    ) -> Reply:
        """Return the response to a short request, which is retried.

        Raises ClientError if the server refuses it or cannot be reached.
        """
        attempts = self.attempts(self.policy.request_seconds, stop=stop)
        return ask(attempts, lambda: self.http.exchange(method, path, body, headers))

    def ask(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        headers: Headers | None = None,
        stop: Stop | None = None,
    ) -> Json:
        """Return the JSON object of the response to a short request; see `exchange`."""
        attempts = self.attempts(self.policy.request_seconds, stop=stop)
        return ask(attempts, lambda: self.http.answer(method, path, body, headers))
