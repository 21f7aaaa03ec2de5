"""A client of the isoline server that sends each request once, since the browser retries.

Independent of Girder. The server's error messages are written for users and are passed on.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate

from isoline_client import ONCE, PROTOCOL, Client, ClientError, Json
from isoline_client.transport import Lines

NO_ANSWER = 502


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
        self._policy = replace(ONCE, silence_seconds=silence_seconds)

    def health(self) -> Json:
        """Return its status, its version and the number of its workers."""
        with self._asking() as client:
            return client.health()

    def models(self) -> list[Json]:
        """Return all models, with their labels and parameters."""
        with self._asking() as client:
            return client.models()

    def submit(self, request: Json, key: str, girder_token: str) -> str:
        """Queue `request` and return the id of its job; the pixels are read with `girder_token`.

        Submitting a request again with the same `key` does not create another job.
        """
        with self._asking(girder_token) as client:
            return client.submit_request(request, key=key).id

    def segment(self, request: Json, girder_token: str) -> Lines:
        """Return the lines of the response to `request`; closing them cancels it."""
        with self._asking(girder_token) as client:
            return _begun(client.segment_lines(request))

    def events(self, job: str, after: int, girder_token: str) -> Lines:
        """Return the lines of the events of `job` after event number `after`.

        The server checks with `girder_token` that the image may be read, and resumes the job with
        it if the job was parked when the server was restarted.
        """
        with self._asking(girder_token) as client:
            return _begun(client.job(job).lines(after, format="dsa"))

    def focus(self, job: str, point: list[float]) -> None:
        """Move the focus to `point`, in image pixels: the nearest tiles are computed first."""
        if len(point) != 2:
            raise ServerError(400, "The focus is a point, [x, y].")
        x, y = point
        with self._asking() as client:
            client.job(job).focus(x, y)

    def cancel(self, job: str) -> None:
        """Cancel `job`; the results so far are kept."""
        with self._asking() as client:
            client.job(job).cancel()

    @contextlib.contextmanager
    def _asking(self, girder_token: str = "") -> Iterator[Client]:
        headers = {"Girder-Token": girder_token} if girder_token else {}
        try:
            yield Client(self._url, self._token, headers=lambda: headers, policy=self._policy)
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


def _begun(lines: Lines) -> Lines:
    first = [*itertools.islice(lines, 1)]  # a refusal is raised before the first line
    return _to_their_end(first, lines)


def _to_their_end(first: list[bytes], lines: Lines) -> Lines:
    with contextlib.closing(lines), contextlib.suppress(ClientError):
        yield from first
        yield from lines  # if they are cut off, the browser resumes after the last event
