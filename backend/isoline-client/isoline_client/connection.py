"""One server, asked for as long as the policy allows."""

from __future__ import annotations

from collections.abc import Callable

from isoline_client.options import Json
from isoline_client.retry import Attempts, Listener, Policy, Stop, ask
from isoline_client.transport import Headers, Reply, Transport


class Connection:
    """What a client and its jobs share. Safe to use from several threads."""

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
        """Return the attempts at one thing, of which the first begins now."""
        return Attempts(self.policy, patience_seconds, stop, listener or self.listener)

    def exchange(
        self,
        method: str,
        path: str,
        body: Json | bytes | None = None,
        headers: Headers | None = None,
        stop: Stop | None = None,
    ) -> Reply:
        """Return the whole answer to a short request, sent as often as it takes.

        Raises ClientError when it is refused or given up.
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
        """Return the JSON object that answers a short request, as `exchange` does."""
        attempts = self.attempts(self.policy.request_seconds, stop=stop)
        return ask(attempts, lambda: self.http.answer(method, path, body, headers))
