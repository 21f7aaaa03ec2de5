"""A server: its images, its models and its jobs."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from isoline_client.arrays import Pixels, np
from isoline_client.connection import Connection
from isoline_client.events import Event, typed
from isoline_client.images import Channels, ImageInfo, Region, Volume, image_path, region_path
from isoline_client.job import Job
from isoline_client.options import Json, Options, request_body
from isoline_client.pyramid import SlideLevel
from isoline_client.retry import PROTOCOL, Listener, Policy, Stop, answer
from isoline_client.transport import Headers, Lines
from isoline_client.uploads import ArrayPixels, Read, upload_region, upload_volume

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
        self._server = Connection(url, token, headers, policy, listener or Listener())

    def health(self) -> Json:
        """Return the server's status, its version and the number of its workers.

        This method and all others raise ClientError if the server refuses the request or cannot be
        reached.
        """
        return self._server.ask("GET", "/v1/health")

    def models(self) -> list[Json]:
        """Return all models, with their labels and parameters."""
        answer: list[Json] = self._server.ask("GET", "/v1/models")["models"]
        return answer

    def images(self) -> list[str]:
        """Return the names of the images on the server."""
        answer: list[str] = self._server.ask("GET", "/v1/images")["images"]
        return answer

    def image(self, name: str) -> ImageInfo:
        """Return the metadata of an image."""
        return ImageInfo.of_json(self._server.ask("GET", image_path(name)))

    def read(
        self,
        name: str,
        box: Sequence[float],
        size: int | None = None,
        channel: Channels | None = None,
        z: int | None = None,
    ) -> Pixels:
        """Return the (c, y, x) pixels of `box`, (x0, y0, x1, y1) in image coordinates.

        `size` is the number of pixels along the longer side; None is full resolution. Values are
        those of the image, in a volume after rescaling (HU in CT). `channel` is a name, an index or
        a list of them, by default all; `z` is the plane of a stack or the slice of a volume, by
        default the middle one. Requires NumPy.
        """
        return self.region(name, box, size, channel, z).pixels

    def region(
        self,
        name: str,
        box: Sequence[float],
        size: int | None = None,
        channel: Channels | None = None,
        z: int | None = None,
    ) -> Region:
        """Return the pixels that `read` returns, with their exact position."""
        return Region.of_reply(
            self._server.exchange("GET", region_path(name, box, size, "raw", channel, z))
        )

    def picture(
        self,
        name: str,
        box: Sequence[float],
        size: int | None = None,
        channel: Channels | None = None,
        z: int | None = None,
    ) -> bytes:
        """Return a PNG of the pixels that `read` returns."""
        return self._server.exchange("GET", region_path(name, box, size, "png", channel, z)).content

    def slide_levels(
        self, name: str, channel: str | int | None = None, z: int | None = None
    ) -> list[SlideLevel]:
        """Return the levels of a slide, finest first, as arrays that are read when indexed.

        They are (y, x, 3) for an image in colour, (c, y, x) for others, and (y, x) if `channel` is
        given. Requires NumPy.
        """
        info = self.image(name)

        def read(box: tuple[float, float, float, float], size: int) -> Region:
            return self.region(name, box, size, channel, z)

        one = channel is not None
        return [SlideLevel(read, info, n, one_channel=one) for n in range(len(info.levels))]

    def read_volume(self, name: str) -> Pixels:
        """Return the (k, j, i) voxels of a volume, after rescaling (HU in CT).

        Sends one request per slice. Raises ValueError if the image is not a volume. Requires NumPy.
        """
        volume = self.image(name).volume
        if volume is None:
            raise ValueError(f"{name!r} is not a volume; call read() or slide_levels()")
        columns, rows, slices = volume.size
        box = (0, 0, columns, rows)
        return np.concatenate([self.read(name, box, z=k) for k in range(slices)])

    def upload_array(
        self,
        pixels: Pixels,
        model: str,
        *,
        channels: Sequence[str] | None = None,
        is_slide: bool = False,
        **options: Unpack[Options],
    ) -> str:
        """Upload the pixels that a request needs, and return the name of the image for the request.

        `pixels` are (y, x, 3) uint8 in colour, or (c, y, x) uint8 or uint16 with the names of the
        `channels`. Pass the same `options` to the request. `spacing_um` is the size of a pixel;
        `is_slide` means that there is glass around the tissue. Raises ValueError for other pixels,
        and ClientError before the upload if the server would refuse the request. Requires NumPy.
        """
        array = ArrayPixels(pixels, channels)
        return upload_region(
            self._server,
            array.read,
            array.size,
            model,
            options,
            channels=channels,
            dtype=pixels.dtype.name,
            is_slide=is_slide,
        )

    def upload_region(
        self,
        read: Read,
        size: Sequence[int],
        model: str,
        *,
        channels: Sequence[str] | None = None,
        dtype: str = "uint8",
        is_slide: bool = True,
        **options: Unpack[Options],
    ) -> str:
        """Upload the pixels that a request needs of a slide that only the caller can read.

        `read(downsample, (x0, y0, x1, y1))` returns the pixels of a box, as in `upload_array` and
        of type `dtype`. The box is in pixels that are `downsample` image pixels wide. It is called
        for parts of the region at full resolution, and of the whole slide as a small overview.
        `size` is the (width, height) of the slide. See `upload_array` for the rest.
        """
        return upload_region(
            self._server,
            read,
            size,
            model,
            options,
            channels=channels,
            dtype=dtype,
            is_slide=is_slide,
        )

    def upload_volume(
        self, voxels: Pixels, volume: Volume, model: str, **options: Unpack[Options]
    ) -> str:
        """Upload the (k, j, i) voxels of a volume, and return its name for the request.

        They are uint8, int8, uint16, int16 or float32, in HU for CT; `volume` is their grid. Pass
        the same `options` to the request. Raises ValueError for other voxels, and ClientError
        before the upload if the server would refuse the request. Requires NumPy.
        """
        return upload_volume(self._server, voxels, volume, model, options)

    def delete_upload(self, name: str) -> None:
        """Delete the upload called `name`. Otherwise the server deletes it after some hours."""
        self._server.exchange("DELETE", f"/v1/uploads/{name.removeprefix('upload:')}")

    def jobs(self, ended: int = 100) -> list[Json]:
        """Return your jobs, oldest first: those that have not ended and the last `ended` others."""
        answer: list[Json] = self._server.ask("GET", f"/v1/jobs?ended={ended}")["jobs"]
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

    def submit_request(
        self, request: Json, *, key: str | None = None, stop: Stop | None = None
    ) -> Job:
        """Queue `request`, a JSON object as in the protocol, and return its job; see `submit`.

        Submitting it again with the same `key` does not create another job; each call has a key of
        its own by default.
        """
        once = {"Idempotency-Key": key or secrets.token_urlsafe(16)}
        answer = self._server.ask("POST", "/v1/jobs", request, once, stop)
        return Job(self._server, answer["job"], answer["position"])

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
        said = answer(
            self._server.attempts(self._server.policy.request_seconds, stop=stop),
            lambda: self._server.http.lines("POST", "/v1/segment", body),
            repeatable=bool(body.get("prompts")) and not body.get("keep"),
        )
        return typed(said)

    def segment_lines(self, request: Json) -> Lines:
        """Yield the lines of the events of `request` as they arrive, for a server that relays them.

        Nothing is retried. Closing the generator cancels the request. Raises ClientError.
        """
        return self._server.http.lines("POST", "/v1/segment", request)

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
        return self._server.http.answer("POST", "/v1/segmentations", body)

    def job(self, job_id: str) -> Job:
        """Return a job that was submitted earlier, perhaps by another client. Sends nothing."""
        return Job(self._server, job_id, 0)
