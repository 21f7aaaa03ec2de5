"""One server and its jobs."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from isoline_client.errors import ClientError
from isoline_client.events import Event, event_of
from isoline_client.options import Json, Options, request_body
from isoline_client.retry import PROTOCOL, Attempts, Listener, Policy, Stop, answer, ask, follow
from isoline_client.transport import Headers, Transport

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Client:
    """One server. Safe to use from several threads."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        headers: Callable[[], Headers] = dict,
        policy: Policy = PROTOCOL,
        listener: Listener | None = None,
    ) -> None:
        """Speak to the server at `url`; `token` is what it was started with, if it wants one.

        `headers` is called for each request and returns what else to send, such as a
        `Girder-Token`. `listener` hears when the connection is lost and found again; each viewer
        of a job may have a client of its own, for a client keeps no connection.
        """
        self._http = Transport(url, token, headers, policy.silence_seconds)
        self._policy = policy
        self.listener = listener or Listener()

    def health(self) -> Json:
        """Return whether the server is ready, its version and its workers."""
        return self._ask("GET", "/v1/health")

    def models(self) -> list[Json]:
        """Return every model, with its labels and parameters."""
        answer: list[Json] = self._ask("GET", "/v1/models")["models"]
        return answer

    def images(self) -> list[str]:
        """Return the names of the images that the server can see."""
        answer: list[str] = self._ask("GET", "/v1/images")["images"]
        return answer

    def jobs(self, ended: int = 100) -> list[Json]:
        """Return your jobs, the oldest first: those that go on, and the last `ended` others."""
        answer: list[Json] = self._ask("GET", f"/v1/jobs?ended={ended}")["jobs"]
        return answer

    def submit(
        self, image: str, model: str, *, stop: Stop | None = None, **options: Unpack[Options]
    ) -> Job:
        """Queue a request and return its job. Raises ClientError when the server refuses.

        However often it has to be sent, there is one job. `stop`, a `threading.Event`, ends the
        trying.
        """
        return self.submit_request(request_body(image, model, options), stop=stop)

    def submit_request(self, request: Json, *, stop: Stop | None = None) -> Job:
        """Queue `request`, the JSON object of the protocol, and return its job."""
        once = {"Idempotency-Key": secrets.token_urlsafe(16)}
        answer = self._ask("POST", "/v1/jobs", request, once, stop)
        return Job(self, answer["job"], answer["position"])

    def segment(
        self, image: str, model: str, *, stop: Stop | None = None, **options: Unpack[Options]
    ) -> Iterator[Event]:
        """Yield the events of one request in one call.

        Leaving the loop hangs up, which cancels it; so does `stop`, a `threading.Event`, at the
        next sign of life. A request with prompts is asked again when the
        connection is lost; what it has yielded is not yielded twice. Any other, and one whose
        answer is a job that is kept, cannot be taken up again once its events have begun. Raises
        ClientError when the server refuses or the connection is lost.
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
        """Store a labelmap in the archive that the series `image` comes from.

        `slices` are those of mask events, `segments` say what their labels are: see the protocol.
        Returns the UIDs of `study`, `series` and `instance`, and whether it is `new` there. Raises
        ClientError when the server refuses, or the archive.
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
        """Return a job that was submitted earlier, perhaps by someone else."""
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
        """Use `Client.submit` or `Client.job`."""
        self.client = client
        self.id = job_id
        self.position = position
        """How many jobs stood before it when it was submitted."""
        self._path = f"/v1/jobs/{job_id}"
        self._lock = threading.Lock()
        self._outdated = threading.Event()
        """Set when the user has looked elsewhere since the last look."""

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
        """Return where the job is in its life, as the server says it."""
        return self.client._ask("GET", self._path)

    def focus(self, x: float, y: float) -> None:
        """Look at this point of the image from now on: tiles nearest to it run first.

        While it is being tried again, a later `focus` or `look` takes its place.
        """
        self._look({"focus": [x, y]})

    def look(self, slice: int | Mapping[str, Any]) -> None:  # noqa: A002
        """Look at this slice of the volume from now on: k, or its `instance` and `frame`."""
        self._look({"slice": slice})

    def cancel(self) -> None:
        """Stop the job; what it has found stays readable."""
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
