"""A client of the isoline server that sends each request once, since the browser retries.

Independent of Girder. The server's error messages are written for users and are passed on.
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
"""The lines of an NDJSON stream, including empty ones. Closing it closes the connection."""


class ServerError(Exception):
    """The server refused the request, or cannot be reached."""

    def __init__(self, status: int, message: str, retry_after: str = "") -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status for the caller; NO_ANSWER if the server did not respond."""
        self.retry_after = retry_after
        """The value of the Retry-After header, "" for none."""


class Server:
    """One server. Thread-safe. Every method raises ServerError."""

    def __init__(
        self, url: str, token: str, silence_seconds: float = PROTOCOL.silence_seconds
    ) -> None:
        """Use the server at `url`; `token` is the access token, "" for none."""
        self._url = url
        self._token = token
        self._silence = silence_seconds

    def health(self) -> Json:
        """Return its status, its version and the number of its workers."""
        return self._answer("GET", "/v1/health")

    def models(self) -> Any:
        """Return all models, with their labels and parameters."""
        return self._answer("GET", "/v1/models")["models"]

    def submit(self, request: Json, key: str, girder_token: str) -> str:
        """Queue `request` and return the id of its job; the pixels are read with `girder_token`.

        Submitting a request again with the same `key` does not create another job.
        """
        headers = {"Girder-Token": girder_token, "Idempotency-Key": key}
        return str(self._answer("POST", "/v1/jobs", request, headers)["job"])

    def segment(self, request: Json, girder_token: str) -> Lines:
        """Return the lines of the response to `request`; closing them cancels it."""
        return self._lines("POST", "/v1/segment", request, girder_token)

    def events(self, job: str, after: int, girder_token: str) -> Lines:
        """Return the lines of the events of `job` after event number `after`.

        The server checks with `girder_token` that the image may be read, and resumes the job with
        it if the job was parked when the server was restarted.
        """
        path = f"/v1/jobs/{job}/events?after={after}&format=dsa"
        return self._lines("GET", path, None, girder_token)

    def focus(self, job: str, point: list[float]) -> None:
        """Move the focus to `point`, in image pixels: the nearest tiles are computed first."""
        self._answer("PATCH", f"/v1/jobs/{job}", {"focus": point})

    def cancel(self, job: str) -> None:
        """Cancel `job`; the results so far are kept."""
        self._answer("DELETE", f"/v1/jobs/{job}")

    def _answer(
        self, method: str, path: str, body: Json | None = None, headers: Headers | None = None
    ) -> Json:
        with self._explained():
            return self._http(headers or {}).answer(method, path, body)

    def _lines(self, method: str, path: str, body: Json | None, girder_token: str) -> Lines:
        lines = self._http({"Girder-Token": girder_token}).lines(method, path, body)
        with self._explained():
            first = [*itertools.islice(lines, 1)]  # a refusal is raised before the first line
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
    """Return `error` with a message for users of Girder; `url` is that of the isoline server."""
    message = "; ".join(filter(None, (f"Isoline: {error.what}", error.remedy)))
    if error.status == 0 or (error.code == "NotIsoline" and error.is_passing):
        message = (
            f"The isoline server at {url} does not respond. "
            "Ask your administrator whether it is running."
        )
    elif error.code == "NotIsoline":
        message = (
            f"The server at {url} is not an isoline server ({error.status}). "
            "Ask your administrator to check the address."
        )
    return ServerError(_status(error), message, _header(error.retry_after))


def _status(error: ClientError) -> int:
    if error.status == 0:
        return NO_ANSWER
    # 401 and 403 would make the page log its user out, but they are about Girder's token
    if (error.code == "NotIsoline" and not error.is_passing) or error.status in (401, 403):
        return 500
    return error.status


def _header(retry_after: float) -> str:
    """Return a value for Retry-After: whole seconds, a date for a fraction, "" for none."""
    if retry_after.is_integer():
        return f"{retry_after:.0f}" if retry_after else ""
    return formatdate(round(time.time() + retry_after), usegmt=True)


def _to_their_end(first: list[bytes], lines: Lines) -> Lines:
    with contextlib.closing(lines), contextlib.suppress(ClientError):
        yield from first
        yield from lines  # if they are cut off, the browser resumes after the last event
