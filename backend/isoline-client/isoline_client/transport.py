"""Single HTTP requests and their responses; every failure is a ClientError."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests

from isoline_client.errors import ClientError, NothingMore
from isoline_client.options import Json
from isoline_client.retry import retry_after_seconds

Headers = Mapping[str, str]
Lines = Generator[bytes, None, None]
"""The lines of an NDJSON stream, including empty ones. Closing it closes the connection."""
NO_CONTENT = 204


@dataclass(frozen=True)
class Reply:
    """A response that was read to its end."""

    status: int
    reason: str
    headers: Headers
    content: bytes

    def json(self) -> Json:
        """Return the JSON object in it. Raises ClientError if it is none."""
        try:
            said = json.loads(self.content)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise _not_isoline(self.status, self.reason)
        return said


class Transport:
    """Sends requests to one server. Thread-safe."""

    def __init__(
        self, url: str, token: str | None, headers: Callable[[], Headers], silence_seconds: float
    ) -> None:
        """Use the server at `url`; `headers` is called for each request, for additional headers.

        A request fails if nothing arrives for `silence_seconds`.
        """
        self._url = url.rstrip("/")
        self._is_local = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
        self._token = token
        self._headers = headers
        self._silence = silence_seconds

    def exchange(
        self,
        method: str,
        path: str,
        body: Json | bytes | None = None,
        headers: Headers | None = None,
    ) -> Reply:
        """Return the response; a `body` that is not bytes is sent as JSON. Raises ClientError."""
        with self._open(method, path, body, headers) as response:
            try:
                return Reply(
                    response.status_code, response.reason, response.headers, response.content
                )
            except requests.RequestException as error:
                raise _broken(self._url, error) from error

    def answer(
        self, method: str, path: str, body: Json | None = None, headers: Headers | None = None
    ) -> Json:
        """Return the JSON object of the response. Raises ClientError."""
        return self.exchange(method, path, body, headers).json()

    def lines(self, method: str, path: str, body: Json | None = None) -> Lines:
        """Yield the complete lines of a stream, including empty ones; discard an incomplete one.

        Closing the generator closes the connection. Raises ClientError, and NothingMore if there
        are no more events.
        """
        with self._open(method, path, body) as response:
            if response.status_code == NO_CONTENT:
                raise NothingMore
            pending: list[bytes] = []
            try:
                for chunk in response.iter_content(1 << 16):
                    *whole, rest = chunk.split(b"\n")
                    if whole:
                        yield b"".join([*pending, whole[0]])
                        yield from whole[1:]
                        pending = []
                    pending.append(rest)
            except requests.RequestException as error:
                raise _broken(self._url, error) from error

    def _open(
        self,
        method: str,
        path: str,
        body: Json | bytes | None,
        headers: Headers | None = None,
    ) -> requests.Response:
        """Return a response whose body has not been read. Raises ClientError."""
        sent = {"Accept": "application/x-ndjson, application/json", **self._headers()}
        sent.update(headers or {})
        data = body if isinstance(body, bytes) else None
        if isinstance(body, dict):
            sent["Content-Type"] = "application/json"
            data = json.dumps(body, allow_nan=False).encode()
        with requests.Session() as session:
            # a proxy from the environment cannot reach a server on this machine
            session.trust_env = not self._is_local
            try:
                response = session.request(
                    method,
                    self._url + path,
                    data=data,
                    headers=sent,
                    auth=self._authorise,
                    timeout=self._silence,
                    stream=True,
                    allow_redirects=False,  # the headers may hold secrets for this server only
                )
            except requests.RequestException as error:
                raise _unreachable(self._url, error) from error
        if response.status_code >= 300:
            raise _refusal(response)
        return response

    def _authorise(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _refusal(response: requests.Response) -> ClientError:
    wait = retry_after_seconds(response.headers.get("Retry-After"), time.time())
    with response:
        try:
            said: Any = response.json()
            remedy = said.get("remedy", "")
            return ClientError(response.status_code, said["code"], said["detail"], remedy, wait)
        except (requests.RequestException, ValueError, TypeError, KeyError, AttributeError):
            return _not_isoline(response.status_code, response.reason, wait)


def _not_isoline(status: int, reason: str, wait: float = 0.0) -> ClientError:
    what = f"the server responded with {status} {reason}"
    return ClientError(status, "NotIsoline", what, "is this isoline's URL?", wait)


def _unreachable(url: str, error: requests.RequestException) -> ClientError:
    reason = "it does not respond" if isinstance(error, requests.Timeout) else "no connection"
    remedy = "is `isoline serve` running there?"
    return ClientError(0, "Unreachable", f"{url} cannot be reached: {reason}", remedy)


def _broken(url: str, error: requests.RequestException) -> ClientError:
    return ClientError(0, "Lost", f"the connection to {url} broke: {error}")
