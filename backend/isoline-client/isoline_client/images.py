"""Images on the server: their metadata and their pixels. Pixels require NumPy.

Boxes are (x0, y0, x1, y1) in image coordinates: level-0 pixels, with the origin at the corner of
the first one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias
from urllib.parse import quote, urlencode

from isoline_client.arrays import Pixels, np
from isoline_client.errors import ClientError
from isoline_client.options import Json
from isoline_client.transport import Reply

Vector: TypeAlias = tuple[float, float, float]
Channels: TypeAlias = str | int | Sequence[str | int]
"""Names or indices; names take precedence."""


@dataclass(frozen=True)
class Level:
    """One resolution of an image."""

    size: tuple[int, int]
    """(width, height) in its own pixels."""
    downsample: tuple[float, float]
    """Image pixels per pixel of this level, (x, y)."""


@dataclass(frozen=True)
class Volume:
    """The grid of a volume in the patient, in LPS millimetres as in DICOM.

    The centre of voxel (i, j, k), in column i, row j and slice k, lies at `origin_mm` +
    i `step_i_mm` + j `step_j_mm` + k `step_k_mm`. Arrays of voxels are (k, j, i).
    """

    size: tuple[int, int, int]
    """The number of voxels along (i, j, k)."""
    origin_mm: Vector = (0.0, 0.0, 0.0)
    step_i_mm: Vector = (1.0, 0.0, 0.0)
    step_j_mm: Vector = (0.0, 1.0, 0.0)
    step_k_mm: Vector = (0.0, 0.0, 1.0)
    frame_of_reference: str = ""
    """The FrameOfReferenceUID; empty if there is none."""
    modality: str = ""
    slices: Sequence[Json] = ()
    """The `instance` and `frame` of each slice k; empty if slices have no names (NIfTI)."""

    @classmethod
    def of_json(cls, said: Json) -> Volume:
        """Return the `volume` of an image or of a `Started` event."""
        return cls(
            size=tuple(said["size"]),
            origin_mm=tuple(said["origin_mm"]),
            step_i_mm=tuple(said["step_i_mm"]),
            step_j_mm=tuple(said["step_j_mm"]),
            step_k_mm=tuple(said["step_k_mm"]),
            frame_of_reference=said["frame_of_reference"],
            modality=said["modality"],
            slices=said["slices"],
        )

    def to_json(self) -> Json:
        """Return the JSON object that `of_json` reads."""
        return asdict(self)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of an array of its voxels, (k, j, i)."""
        i, j, k = self.size
        return k, j, i

    @property
    def spacing_mm(self) -> Vector:
        """The distance between neighbours along (i, j, k)."""
        i, j, k = (math.hypot(*step) for step in (self.step_i_mm, self.step_j_mm, self.step_k_mm))
        return i, j, k

    def position_mm(self, i: float, j: float, k: float) -> Vector:
        """Return the position of the centre of voxel (i, j, k); the indices may be fractional."""
        x, y, z = (
            o + i * di + j * dj + k * dk
            for o, di, dj, dk in zip(
                self.origin_mm, self.step_i_mm, self.step_j_mm, self.step_k_mm, strict=True
            )
        )
        return x, y, z


@dataclass(frozen=True)
class ImageInfo:
    """The metadata of an image."""

    name: str
    kind: str
    """"slide", "image" or "volume"."""
    size: tuple[int, int]
    """(width, height) in image pixels."""
    levels: Sequence[Level]
    """Finest first."""
    spacing_um: tuple[float, float] | None
    """Micrometres per image pixel, (x, y); None if the file does not record them."""
    channels: Sequence[str]
    dtype: str
    """The name of a NumPy type, such as "uint8"."""
    z_planes: int
    fingerprint: str
    """A digest of the content; copies of a file share it."""
    problems: Sequence[str]
    """Warnings to show to the user, a sentence each."""
    volume: Volume | None

    @classmethod
    def of_json(cls, said: Json) -> ImageInfo:
        """Return the metadata in a response of `GET /v1/images/NAME`."""
        spacing, volume = said["spacing_um"], said.get("volume")
        return cls(
            name=said["name"],
            kind=said["kind"],
            size=_pair(said["size"]),
            levels=[
                Level(_pair(each["size"]), _pair(each["downsample"])) for each in said["levels"]
            ],
            spacing_um=None if spacing is None else _pair(spacing),
            channels=said["channels"],
            dtype=said["dtype"],
            z_planes=said["z_planes"],
            fingerprint=said["fingerprint"],
            problems=said["problems"],
            volume=None if volume is None else Volume.of_json(volume),
        )

    @property
    def is_rgb(self) -> bool:
        """Whether the channels are red, green and blue."""
        return [*self.channels] == ["red", "green", "blue"]


@dataclass(frozen=True)
class Region:
    """Pixels of an image, and their position."""

    pixels: Pixels
    """(c, y, x)"""
    box: tuple[float, float, float, float]
    """The part of the image that they cover: the requested box, widened to whole pixels."""

    @classmethod
    def of_reply(cls, reply: Reply) -> Region:
        """Return the region in a response with raw pixels. Raises ClientError if it has none."""
        headers = reply.headers
        if "X-Isoline-Dtype" not in headers:
            what, remedy = "the server does not send raw pixels", "update isoline on the server"
            raise ClientError(reply.status, "NotSupported", what, remedy)
        dtype = np.dtype(headers["X-Isoline-Dtype"])
        shape = [int(n) for n in headers["X-Isoline-Shape"].split(",")]
        pixels = np.frombuffer(reply.content, dtype.newbyteorder("<")).reshape(shape)
        x0, y0, x1, y1 = map(float, headers["X-Isoline-Box"].split(","))
        return cls(pixels.astype(dtype), (x0, y0, x1, y1))


def image_path(name: str) -> str:
    """Return the path of the image with this name."""
    return f"/v1/images/{quote(name, safe='/:')}"


def region_path(
    name: str,
    box: Sequence[float],
    size: int | None,
    form: Literal["png", "raw"],
    channel: Channels | None = None,
    z: int | None = None,
) -> str:
    """Return the path of a part of an image; if `size` is None, at full resolution."""
    x0, y0, x1, y1 = map(float, box)
    if size is None:
        x0, y0, x1, y1 = math.floor(x0), math.floor(y0), math.ceil(x1), math.ceil(y1)
        size = max(x1 - x0, y1 - y0)
    asked: dict[str, object] = {"box": f"{x0},{y0},{x1},{y1}", "size": size, "format": form}
    if channel is not None:
        several = [channel] if isinstance(channel, str | int) else channel
        asked["channel"] = ",".join(map(str, several))
    if z is not None:
        asked["z"] = z
    return f"{image_path(name)}/region?{urlencode(asked, safe=',')}"


def _pair(said: Sequence[int]) -> tuple[int, int]:
    x, y = said
    return x, y
