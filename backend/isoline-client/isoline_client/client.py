"""A server and its jobs."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from isoline_client.errors import ClientError
from isoline_client.events import Event, event_of
from isoline_client.options import Json, Options, request_body
from isoline_client.retry import PROTOCOL, Attempts, Listener, Policy, Stop, answer, ask, follow
from isoline_client.transport import Headers, Transport

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Client:
    """A client of one server. Thread-safe."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        headers: Callable[[], Headers] = dict,
        policy: Policy = PROTOCOL,
        listener: Listener | None = None,
    ) -> None:
        """Use the server at `url`; `token` is the access token, if the server requires one.

        `headers` is called for each request and returns additional headers, such as a
        `Girder-Token`. `listener` is notified when the connection is lost and restored. A client
        keeps no connection open, so each viewer of a job may have its own.
        """
        self._http = Transport(url, token, headers, policy.silence_seconds)
        self._policy = policy
        self.listener = listener or Listener()

    def health(self) -> Json:
        """Return the server's status, its version and the number of its workers.

        This method and all others raise ClientError if the server refuses the request or cannot be
        reached.
        """
        return self._ask("GET", "/v1/health")

    def models(self) -> list[Json]:
        """Return all models, with their labels and parameters."""
        answer: list[Json] = self._ask("GET", "/v1/models")["models"]
        return answer

    def images(self) -> list[str]:
        """Return the names of the images on the server."""
        answer: list[str] = self._ask("GET", "/v1/images")["images"]
        return answer

    def jobs(self, ended: int = 100) -> list[Json]:
        """Return your jobs, oldest first: those that have not ended and the last `ended` others."""
        answer: list[Json] = self._ask("GET", f"/v1/jobs?ended={ended}")["jobs"]
        return answer

    def submit(
        self,
        image: str | PurePath,
        model: str,
        *,
        stop: Stop | None = None,
        **options: Unpack[Options],
    ) -> Job:
        """Queue a request and return its job. Raises ClientError if the server refuses it.

        The request is retried, but creates only one job. Setting `stop`, a `threading.Event`, ends
        the retries.
        """
        return self.submit_request(request_body(image, model, options), stop=stop)

    def submit_request(self, request: Json, *, stop: Stop | None = None) -> Job:
        """Queue `request`, a JSON object as in the protocol, and return its job; see `submit`."""
        once = {"Idempotency-Key": secrets.token_urlsafe(16)}
        answer = self._ask("POST", "/v1/jobs", request, once, stop)
        return Job(self, answer["job"], answer["position"])

    def segment(
        self,
        image: str | PurePath,
        model: str,
        *,
        stop: Stop | None = None,
        **options: Unpack[Options],
    ) -> Iterator[Event]:
        """Submit a request and yield its events.

        Leaving the loop closes the connection, which cancels the request; so does `stop`, a
        `threading.Event`, at the next event or heartbeat. If the connection is lost, a request with
        prompts is sent again, and events that were already yielded are skipped. Any other request,
        and one with `keep`, cannot be resumed once its events have begun. Raises ClientError if the
        server refuses the request or the connection is lost.
        """
        body = request_body(image, model, options)
        attempts = Attempts(self._policy, self._policy.request_seconds, stop, self.listener)
        said = answer(
            attempts,
            lambda: self._http.lines("POST", "/v1/segment", body),
            repeatable=bool(body.get("prompts")) and not body.get("keep"),
        )
        return _typed(said)

    def save(
        self,
        image: str,
        segments: Sequence[Json],
        slices: Sequence[Json],
        *,
        format: str = "dicomseg",  # noqa: A002
        description: str = "isoline",
    ) -> Json:
        """Store a labelmap in the archive of the series `image`.

        `slices` are those of mask events, and `segments` describe their labels, as in the protocol.
        Returns the UIDs of `study`, `series` and `instance`, and whether it is `new` there. Raises
        ClientError if the server or the archive refuses it.
        """
        body = {
            "image": image,
            "segments": [*segments],
            "slices": [*slices],
            "format": format,
            "description": description,
        }
        return self._http.answer("POST", "/v1/segmentations", body)

    def job(self, job_id: str) -> Job:
        """Return a job that was submitted earlier, perhaps by another client. Sends nothing."""
        return Job(self, job_id, 0)

    def _ask(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        headers: Headers | None = None,
        stop: Stop | None = None,
    ) -> Json:
        attempts = Attempts(self._policy, self._policy.request_seconds, stop, self.listener)
        return ask(attempts, lambda: self._http.answer(method, path, body, headers))


class Job:
    """One job on the server."""

    def __init__(self, client: Client, job_id: str, position: int) -> None:
        """Do not call this; use `Client.submit` or `Client.job`."""
        self.client = client
        self.id = job_id
        self.position = position
        """The number of jobs before it in the queue when it was submitted."""
        self._path = f"/v1/jobs/{job_id}"
        self._lock = threading.Lock()
        self._outdated = threading.Event()
        """Set when a later focus or slice replaces the one being sent."""

    def events(
        self,
        after: int = -1,
        *,
        format: str | None = None,  # noqa: A002
        stop: Stop | None = None,
        listener: Listener | None = None,
    ) -> Iterator[Event]:
        """Yield every event after number `after` to the end of the job, each once, in order.

        A lost connection is taken up again where it broke off; `listener` hears of it, or else that
        of the client. Leaving the loop cancels nothing, nor does `stop`, a `threading.Event`: set,
        it ends a pause at once and the loop at the next sign of life. Raises ClientError when the
        server stays away or does not know the job any more.
        """
        return _typed(self.events_json(after, format=format, stop=stop, listener=listener))

    def events_json(
        self,
        after: int = -1,
        *,
        format: str | None = None,  # noqa: A002
        stop: Stop | None = None,
        listener: Listener | None = None,
    ) -> Iterator[Json]:
        """Yield the events as the JSON objects of the protocol, those not known here too."""
        policy, dialect = self.client._policy, f"&format={format}" if format else ""
        heard_by = listener or self.client.listener
        attempts = Attempts(policy, policy.stream_seconds, stop, heard_by)
        path = f"{self._path}/events?after="
        return follow(
            attempts, lambda seq: self.client._http.lines("GET", f"{path}{seq}{dialect}"), after
        )

    def state(self) -> Json:
        """Return the state and progress of the job, as in the protocol."""
        return self.client._ask("GET", self._path)

    def focus(self, x: float, y: float) -> None:
        """Move the focus to a point in image pixels: the tiles nearest to it are computed first.

        While it is being retried, a later `focus` or `look` replaces it.
        """
        self._look({"focus": [x, y]})

    def look(self, slice: int | Mapping[str, Any]) -> None:  # noqa: A002
        """Move the focus to a slice of the volume: k, or its `instance` and `frame`."""
        self._look({"slice": slice})

    def cancel(self) -> None:
        """Cancel the job; the results so far are kept."""
        self.client._ask("DELETE", self._path)

    def _look(self, place: Json) -> None:
        with self._lock:
            self._outdated.set()
            self._outdated = outdated = threading.Event()
        try:
            self.client._ask("PATCH", self._path, place, stop=outdated)
        except ClientError as error:
            if not (error.is_passing and outdated.is_set()):
                raise


def _typed(said: Iterator[Json]) -> Iterator[Event]:
    for each in said:
        event = event_of(each)
        if event is not None:
            yield event
