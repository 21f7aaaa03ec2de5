"""Requests to the isoline server. What it says in errors is meant for users and passed on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import requests

from isoline_dsa import settings

CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 15.0
"""A stream shows a sign of life each second; after this long without one it is lost."""


class ServerError(Exception):
    """The server refused, or cannot be reached."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        """Of HTTP; 502 where there was no answer that makes sense."""


class Server:
    """The server that the settings name. Safe to use from several threads."""

    def __init__(self) -> None:
        self._url = settings.url()
        self._token = settings.token()

    def health(self) -> Any:
        """Return whether it is ready, its version and its workers."""
        return self._json("GET", "/v1/health")

    def models(self) -> Any:
        """Return every model, with its labels and parameters."""
        return self._json("GET", "/v1/models")["models"]

    def submit(self, request: dict[str, Any], girder_token: str) -> str:
        """Queue `request` and return the id of its job; the pixels are read with `girder_token`."""
        headers = {"Girder-Token": girder_token}
        return str(self._json("POST", "/v1/jobs", request, headers)["job"])

    def segment(self, request: dict[str, Any], girder_token: str) -> requests.Response:
        """Return the stream of NDJSON that answers `request`; closing it cancels the job."""
        return self._open("POST", "/v1/segment", request, {"Girder-Token": girder_token})

    def focus(self, job: str, point: list[float]) -> None:
        """Have the tiles nearest to `point`, in image pixels, run first."""
        self._json("PATCH", f"/v1/jobs/{job}", {"focus": point})

    def cancel(self, job: str) -> None:
        """Stop `job`; what it has found stays."""
        self._json("DELETE", f"/v1/jobs/{job}")

    def open_events(self, job: str, after: int, girder_token: str) -> requests.Response:
        """Return the stream of NDJSON that follows event `after`; the caller closes it.

        The server asks with `girder_token` whether the image may be read; with it a job goes on
        that was parked when the server was restarted.
        """
        path = f"/v1/jobs/{job}/events?after={after}&format=dsa"
        return self._open("GET", path, headers={"Girder-Token": girder_token})

    def _json(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Any:
        with self._open(method, path, body, headers) as response:
            try:
                return response.json()
            except (requests.RequestException, ValueError):
                raise self._strange(response) from None

    def _open(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> requests.Response:
        with requests.Session() as session:
            # a proxy that the environment names cannot reach a server on this machine
            session.trust_env = urlsplit(self._url).hostname not in ("127.0.0.1", "localhost")
            try:
                response = session.request(
                    method,
                    self._url + path,
                    json=body,
                    headers=headers,
                    auth=self._authorise,
                    timeout=(CONNECT_SECONDS, SILENCE_SECONDS),
                    allow_redirects=False,
                    stream=True,
                )
            except requests.RequestException:
                raise ServerError(
                    502,
                    f"The isoline server at {self._url} does not answer. "
                    "Ask your administrator whether it runs.",
                ) from None
        if response.status_code >= 300:
            raise self._refusal(response)
        return response

    def _authorise(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request

    def _refusal(self, response: requests.Response) -> ServerError:
        with response:
            try:
                said = response.json()
                message = "; ".join(filter(None, (said["detail"], said.get("remedy"))))
                return ServerError(response.status_code, f"Isoline: {message}")
            except (requests.RequestException, ValueError, TypeError, KeyError):
                return self._strange(response)

    def _strange(self, response: requests.Response) -> ServerError:
        return ServerError(
            502,
            f"What answers at {self._url} is no isoline server ({response.status_code}). "
            "Ask your administrator to check the address.",
        )


def lines(response: requests.Response) -> Iterator[bytes]:
    """Yield the whole lines of a stream, empty ones too; one that was cut off is no line.

    Raises requests.RequestException when the connection breaks.
    """
    pending = b""
    for chunk in response.iter_content(None):
        *whole, pending = (pending + chunk).split(b"\n")
        yield from whole
