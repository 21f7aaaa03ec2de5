"""The isoline server as Girder passes it on: each request once, since the browser tries again.

Needs no Girder. What the server says in errors is meant for users and passed on.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Generator, Iterator
from email.utils import formatdate
from typing import Any

from isoline_client import PROTOCOL, ClientError, Json
from isoline_client.transport import Headers, Transport

NO_ANSWER = 502

Lines = Generator[bytes, None, None]
"""Those of a stream of NDJSON, empty ones too. Closing them hangs up."""


class ServerError(Exception):
    """The server refused, or cannot be reached."""

    def __init__(self, status: int, message: str, retry_after: str = "") -> None:
        super().__init__(message)
        self.status = status
        """Of HTTP, for who asked; NO_ANSWER where the server gave none."""
        self.retry_after = retry_after
        """The header of that name, "" for none."""


class Server:
    """One server. Safe to use from several threads. Every method raises ServerError."""

    def __init__(
        self, url: str, token: str, silence_seconds: float = PROTOCOL.silence_seconds
    ) -> None:
        """Speak to the server at `url`; `token` is what it wants to hear, "" for nothing."""
        self._url = url
        self._token = token
        self._silence = silence_seconds

    def health(self) -> Json:
        """Return whether it is ready, its version and its workers."""
        return self._answer("GET", "/v1/health")

    def models(self) -> Any:
        """Return every model, with its labels and parameters."""
        return self._answer("GET", "/v1/models")["models"]

    def submit(self, request: Json, key: str, girder_token: str) -> str:
        """Queue `request` and return the id of its job; the pixels are read with `girder_token`.

        However often a request is submitted with the same `key`, there is one job.
        """
        headers = {"Girder-Token": girder_token, "Idempotency-Key": key}
        return str(self._answer("POST", "/v1/jobs", request, headers)["job"])

    def segment(self, request: Json, girder_token: str) -> Lines:
        """Return the events that answer `request`; hanging up cancels it."""
        return self._lines("POST", "/v1/segment", request, girder_token)

    def events(self, job: str, after: int, girder_token: str) -> Lines:
        """Return the events of `job` that follow event `after`.

        The server asks with `girder_token` whether the image may be read; with it a job goes on
        that was parked when the server was restarted.
        """
        path = f"/v1/jobs/{job}/events?after={after}&format=dsa"
        return self._lines("GET", path, None, girder_token)

    def focus(self, job: str, point: list[float]) -> None:
        """Have the tiles nearest to `point`, in image pixels, run first."""
        self._answer("PATCH", f"/v1/jobs/{job}", {"focus": point})

    def cancel(self, job: str) -> None:
        """Stop `job`; what it has found stays."""
        self._answer("DELETE", f"/v1/jobs/{job}")

    def _answer(
        self, method: str, path: str, body: Json | None = None, headers: Headers | None = None
    ) -> Json:
        with self._explained():
            return self._http(headers or {}).answer(method, path, body)

    def _lines(self, method: str, path: str, body: Json | None, girder_token: str) -> Lines:
        lines = self._http({"Girder-Token": girder_token}).lines(method, path, body)
        with self._explained():
            first = [*itertools.islice(lines, 1)]  # a refusal comes before it
        return _to_their_end(first, lines)

    def _http(self, headers: Headers) -> Transport:
        return Transport(self._url, self._token, lambda: headers, self._silence)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            raise explained(error, self._url) from error


def explained(error: ClientError, url: str) -> ServerError:
    """Return what to tell the users of a Girder whose isoline server is at `url`."""
    message = "; ".join(filter(None, (f"Isoline: {error.what}", error.remedy)))
    if error.status == 0 or (error.code == "NotIsoline" and error.is_passing):
        message = (
            f"The isoline server at {url} does not respond. Ask your administrator whether it runs."
        )
    elif error.code == "NotIsoline":
        message = (
            f"What answers at {url} is no isoline server ({error.status}). "
            "Ask your administrator to check the address."
        )
    return ServerError(_status(error), message, _header(error.retry_after))


def _status(error: ClientError) -> int:
    if error.status == 0:
        return NO_ANSWER
    # 401 and 403 would have the page log its user out: it is Girder that was refused
    if (error.code == "NotIsoline" and not error.is_passing) or error.status in (401, 403):
        return 500
    return error.status


def _header(retry_after: float) -> str:
    """Return what says as much as the server's own header did: seconds, or a date."""
    if retry_after.is_integer():
        return f"{retry_after:.0f}" if retry_after else ""
    return formatdate(round(time.time() + retry_after), usegmt=True)


def _to_their_end(first: list[bytes], lines: Lines) -> Lines:
    with contextlib.closing(lines), contextlib.suppress(ClientError):
        yield from first
        yield from lines  # where they are cut off, the browser asks again from where it is
