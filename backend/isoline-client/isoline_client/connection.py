"""Requests to one server, with retries by the policy."""

from __future__ import annotations

from collections.abc import Callable

from isoline_client.options import Json
from isoline_client.retry import Attempts, Listener, Policy, Stop, ask
from isoline_client.transport import Headers, Reply, Transport


class Connection:
    """The server as shared by a client and its jobs. Thread-safe."""

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
        """Return the attempts at one request, of which the first begins now."""
        return Attempts(self.policy, patience_seconds, stop, listener or self.listener)

    def exchange(
        self,
        method: str,
        path: str,
        body: Json | bytes | None = None,
        headers: Headers | None = None,
        stop: Stop | None = None,
    ) -> Reply:
        """Send a short request, with retries, and return the complete response.

        Raises ClientError if it is refused or given up.
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
