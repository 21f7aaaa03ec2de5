"""Talk to an isoline server from Python: results as typed events, as they come.

    client = Client("http://127.0.0.1:8765")
    for event in client.segment("slide.svs", "nuclei", region=[2600, 3900, 6696, 7996]):
        if isinstance(event, Contours):
            print(len(event.features), "contours")

Needs `requests` and nothing else of isoline. Coordinates are image coordinates throughout:
level-0 pixels, x to the right, y down, the origin at the corner of the first pixel.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict
from urllib.parse import urlsplit

import requests

if TYPE_CHECKING:
    from typing_extensions import Unpack

Json: TypeAlias = dict[str, Any]

CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 15.0
"""A stream shows a sign of life each second; after this long without one it is taken for dead."""
RETRIES = 6
"""How often in a row a lost stream is taken up again before the client gives up."""
FIRST_PAUSE_SECONDS = 0.2
"""Between the first two tries; it doubles from one to the next."""


# What a job says: `docs/protocol.md` has the meaning of each


@dataclass(frozen=True)
class Started:
    """The request was understood."""

    seq: int
    job: str
    image: str
    image_size: tuple[int, int]
    spacing_um: tuple[float, float] | None
    z: int
    model: str
    version: str
    parameters: Mapping[str, float | int | bool | str]
    fingerprint: str
    scope: str
    kind: str
    labels: Sequence[Json]
    scale: tuple[float, float]
    tiles: int
    format: str
    volume: Json | None = None
    """Of a volume: where its voxels lie and what its slices are called."""


@dataclass(frozen=True)
class Contours:
    """Results, in the dialect that was asked for."""

    seq: int
    features: Sequence[Json]
    provisional: bool
    """Shown until a later event replaces them, never stored."""
    replaces: Sequence[str]
    """Ids of provisional features that these take the place of."""


@dataclass(frozen=True)
class Mask:
    """Slices of labels of a volume, each whole; a later one of the same slice replaces it."""

    seq: int
    slices: Sequence[Json]
    provisional: bool
    """Shown until a final one comes, never stored."""


@dataclass(frozen=True)
class Progress:
    """How far the job is."""

    seq: int
    tiles_done: int
    tiles: int
    seconds_left: float | None


@dataclass(frozen=True)
class Warned:
    """Something went wrong and the job goes on."""

    seq: int
    code: str
    message: str
    area: tuple[float, float, float, float] | None


@dataclass(frozen=True)
class Done:
    """The job ran to its end."""

    seq: int
    objects: int
    tiles: int
    tiles_failed: int
    tiles_skipped: int
    seconds: float


@dataclass(frozen=True)
class Failed:
    """The job could not go on."""

    seq: int
    code: str
    message: str
    remedy: str


@dataclass(frozen=True)
class Cancelled:
    """Someone stopped the job."""

    seq: int
    tiles_done: int
    tiles: int


Event: TypeAlias = Started | Contours | Mask | Progress | Warned | Done | Failed | Cancelled
End: TypeAlias = Done | Failed | Cancelled

_EVENTS: Mapping[str, type[Event]] = {
    kind.__name__.lower(): kind
    for kind in (Started, Contours, Mask, Progress, Warned, Done, Failed, Cancelled)
}


class Options(TypedDict, total=False):
    """What a request may say beside image and model; the protocol has the meaning of each."""

    region: Sequence[float] | Mapping[str, Any] | None
    """[x0, y0, x1, y1] or a GeoJSON geometry; None is the whole image."""
    focus: Sequence[float] | None
    parameters: Mapping[str, float | int | bool | str] | None
    tile: int | None
    spacing_um: float | Sequence[float] | None
    at_um: float | None
    channel: Sequence[str | int] | None
    z: int | None
    slice: int | Mapping[str, str | int] | None
    """Where the user looks in a volume: k, or {"instance": SOPInstanceUID, "frame": 1}."""
    prompts: Sequence[Mapping[str, Any]] | None
    """What points at the one object: see `point`, `box`, `scribble` and `polygon`."""
    frame_of_reference: str | None
    """FrameOfReferenceUID of prompts in LPS millimetres; None: they are in pixels or voxels."""
    initial: Sequence[float] | Mapping[str, Any] | None
    """What the prompts correct: as `region`, or {"slices": [...]} in a volume."""
    format: str
    simplify_px: float | None


def point(*at: float, include: bool = True) -> Json:
    """Return the prompt at x, y, in a volume x, y, z; not `include`: the object is not there."""
    return _prompt("point", [at], include)


def box(first: Sequence[float], last: Sequence[float], include: bool = True) -> Json:
    """Return the prompt of a box between two opposite corners."""
    return _prompt("box", [first, last], include)


def scribble(way: Iterable[Sequence[float]], include: bool = True) -> Json:
    """Return the prompt of a line over the object."""
    return _prompt("scribble", way, include)


def polygon(corners: Iterable[Sequence[float]], include: bool = True) -> Json:
    """Return the prompt of a lasso around the object; its first corner is not repeated."""
    return _prompt("polygon", corners, include)


def _prompt(kind: str, points: Iterable[Sequence[float]], include: bool) -> Json:
    return {"kind": kind, "points": [[*each] for each in points], "include": include}


class ClientError(Exception):
    """The server refused, or cannot be reached."""

    def __init__(self, status: int, code: str, what: str, remedy: str = "") -> None:
        super().__init__(status, code, what, remedy)
        self.status = status
        """Of HTTP; 0 when there was no answer."""
        self.code = code
        """What to compare: stable across versions."""
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}" if self.remedy else self.what


def decode_event(line: bytes | str) -> Event | None:
    """Return the event that one line of a stream says, None for a kind not known here.

    Keys that are not known are passed over, so that an older client reads a newer server. Raises
    ValueError when the line is no event.
    """
    said = json.loads(line)
    if not isinstance(said, dict) or not isinstance(said.get("seq"), int):
        raise ValueError(f"no event: {line[:80]!r}")
    kind = _EVENTS.get(said.get("event", ""))
    if kind is None:
        return None
    try:
        told = {
            name: said[name]
            for name, each in kind.__dataclass_fields__.items()
            if name in said or each.default is MISSING
        }
        return kind(**{name: _frozen(name, value) for name, value in told.items()})
    except KeyError as missing:
        raise ValueError(f"event {said['event']!r} without {missing}") from None


_TUPLES = frozenset({"image_size", "spacing_um", "scale", "area"})


def _frozen(name: str, value: Any) -> Any:
    return tuple(value) if name in _TUPLES and value is not None else value


class Client:
    """One server. Safe to use from several threads."""

    def __init__(self, url: str, token: str | None = None) -> None:
        """Speak to the server at `url`; `token` is what it was started with, if it wants one."""
        self._url = url.rstrip("/")
        self._is_local = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
        self._token = token

    def health(self) -> Json:
        """Return whether the server is ready, its version and its workers."""
        answer: Json = self._call("GET", "/v1/health").json()
        return answer

    def models(self) -> list[Json]:
        """Return every model, with its labels and parameters."""
        answer: list[Json] = self._call("GET", "/v1/models").json()["models"]
        return answer

    def images(self) -> list[str]:
        """Return the names of the images that the server can see."""
        answer: list[str] = self._call("GET", "/v1/images").json()["images"]
        return answer

    def submit(self, image: str, model: str, **options: Unpack[Options]) -> Job:
        """Queue a request and return its job. Raises ClientError when the server refuses."""
        answer = self._call("POST", "/v1/jobs", _body(image, model, options)).json()
        return Job(self, answer["job"], answer["position"])

    def segment(self, image: str, model: str, **options: Unpack[Options]) -> Iterator[Event]:
        """Yield the events of one request in one call.

        Leaving the loop hangs up, which cancels it; when the connection is lost it cannot be taken
        up again. Raises ClientError when the server refuses or the connection is lost.
        """
        body = _body(image, model, options)
        lost = "the server closed the stream"
        try:
            with self._open("POST", "/v1/segment", body) as response:
                for event in _events(_lines(response)):
                    yield event
                    if isinstance(event, End):
                        return
        except requests.RequestException as error:
            lost = str(error)
        raise ClientError(0, "Lost", f"the events broke off: {lost}", "submit() can be resumed")

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
        told = json.dumps(body).encode()
        answer: Json = self._call("POST", "/v1/segmentations", told).json()
        return answer

    def job(self, job_id: str) -> Job:
        """Return a job that was submitted earlier, perhaps by someone else."""
        return Job(self, job_id, 0)

    def _call(self, method: str, path: str, body: bytes | None = None) -> requests.Response:
        with self._open(method, path, body) as response:
            try:
                response.content  # noqa: B018  # read before the connection goes
            except requests.RequestException as error:
                raise _unreachable(self._url, error) from error
            return response

    def _open(self, method: str, path: str, body: bytes | None = None) -> requests.Response:
        """Return an answer whose body is still to be read. Raises ClientError."""
        headers = {"Accept": "application/x-ndjson, application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        with requests.Session() as session:
            # a proxy that the environment names cannot reach a server on this machine
            session.trust_env = not self._is_local
            try:
                response = session.request(
                    method,
                    self._url + path,
                    data=body,
                    headers=headers,
                    auth=self._authorise,
                    timeout=(CONNECT_SECONDS, SILENCE_SECONDS),
                    stream=True,
                )
            except requests.RequestException as error:
                raise _unreachable(self._url, error) from error
        if not response.ok:
            raise _refusal(response)
        return response

    def _authorise(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


@dataclass(frozen=True)
class Job:
    """One job on the server."""

    client: Client
    id: str
    position: int
    """How many jobs stood before it when it was submitted."""

    def events(self, after: int = -1) -> Iterator[Event]:
        """Yield every event after number `after` to the end of the job, each once, in order.

        A lost connection is taken up again where it broke off. Leaving the loop cancels nothing.
        Raises ClientError when the server stays away or does not know the job any more.
        """
        failures = 0
        while True:
            lost: Exception | str = "the server closed the stream"
            try:
                path = f"/v1/jobs/{self.id}/events?after={after}"
                with self.client._open("GET", path) as response:
                    for event in _events(_lines(response)):
                        if event.seq > after:
                            after, failures = event.seq, 0
                            yield event
                        if isinstance(event, End):
                            return
            except requests.RequestException as error:
                lost = error
            except ClientError as error:
                if error.status not in (0, 429, 502, 503, 504):
                    raise
                lost = error
            failures += 1
            if failures > RETRIES:
                what = f"the events of job {self.id} broke off after number {after}: {lost}"
                raise ClientError(0, "Lost", what, f"call events(after={after}) later")
            time.sleep(FIRST_PAUSE_SECONDS * 2 ** (failures - 1))

    def state(self) -> Json:
        """Return where the job is in its life, as the server says it."""
        answer: Json = self.client._call("GET", f"/v1/jobs/{self.id}").json()
        return answer

    def focus(self, x: float, y: float) -> None:
        """Look at this point of the image from now on: tiles nearest to it run first."""
        body = json.dumps({"focus": [x, y]}).encode()
        self.client._call("PATCH", f"/v1/jobs/{self.id}", body)

    def look(self, slice: int | Mapping[str, Any]) -> None:  # noqa: A002
        """Look at this slice of the volume from now on: k, or its `instance` and `frame`."""
        body = json.dumps({"slice": slice}).encode()
        self.client._call("PATCH", f"/v1/jobs/{self.id}", body)

    def cancel(self) -> None:
        """Stop the job; what it has found stays readable."""
        self.client._call("DELETE", f"/v1/jobs/{self.id}")


def _body(image: str, model: str, options: Options) -> bytes:
    given = {key: value for key, value in options.items() if value is not None}
    return json.dumps({"image": image, "model": model, **given}, allow_nan=False).encode()


def _lines(response: requests.Response) -> Iterator[bytes]:
    """Yield the whole lines of a stream; one that the connection cut is no line."""
    pending: list[bytes] = []
    for chunk in response.iter_content(1 << 16):
        *whole, rest = chunk.split(b"\n")
        if whole:
            yield b"".join([*pending, whole[0]])
            yield from whole[1:]
            pending = []
        pending.append(rest)


def _events(lines: Iterable[bytes]) -> Iterator[Event]:
    for line in lines:
        event = decode_event(line) if line.strip() else None  # an empty line is a heartbeat
        if event is not None:
            yield event


def _refusal(response: requests.Response) -> ClientError:
    with response:
        try:
            said = response.json()
            return ClientError(
                response.status_code, said["code"], said["detail"], said.get("remedy", "")
            )
        except (requests.RequestException, ValueError, TypeError, KeyError):
            what = f"the server answered {response.status_code} {response.reason}"
            return ClientError(response.status_code, "NotIsoline", what, "is this isoline's URL?")


def _unreachable(url: str, error: requests.RequestException) -> ClientError:
    reason = "it does not answer" if isinstance(error, requests.Timeout) else "no connection"
    remedy = "is `isoline serve` running there?"
    return ClientError(0, "Unreachable", f"{url} cannot be reached: {reason}", remedy)
