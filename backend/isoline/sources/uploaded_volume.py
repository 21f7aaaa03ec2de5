"""Volumes uploaded by a viewer, slice by slice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from isoline.domain.request import SegmentRequest
from isoline.errors import BadSeries, BadSpacing, Malformed, Unreadable
from isoline.geometry.volume_grid import LPS, SliceName, VolumeGrid, VolumeInfo
from isoline.sources.source import ImageInfo
from isoline.sources.upload_manifest import Part, UploadManifest
from isoline.sources.volume import VolumeSource, volume_image

READER = "uploaded_volume"
VoxelType: TypeAlias = Literal["uint8", "int8", "uint16", "int16", "float32"]
_SHORTEST_MM, _LONGEST_MM = 1e-6, 1e6
_FLAT = 1e-6
"""Volume of a voxel, as a share of the product of its sides, below which it is flat."""


@dataclass(frozen=True, kw_only=True)
class VolumeManifest(UploadManifest):
    """The metadata of an uploaded volume, without its voxels."""

    noun: ClassVar[str] = "slice"
    file_name: ClassVar[str] = "volume.json"

    volume: VolumeInfo
    dtype: VoxelType
    """The type of the values as they are sent."""

    @property
    def slice_bytes(self) -> int:
        columns, rows, _ = self.volume.grid.size
        return columns * rows * np.dtype(self.dtype).itemsize

    @property
    def parts(self) -> Iterator[Part]:
        return ((k,) for k in range(self.volume.grid.size[2]))

    def has(self, part: Part) -> bool:
        return len(part) == 1 and 0 <= part[0] < self.volume.grid.size[2]

    def decode(self, part: Part, body: bytes) -> NDArray[np.generic]:
        columns, rows, _ = self.volume.grid.size
        if len(body) != self.slice_bytes:
            raise Malformed(
                f"got {len(body)} bytes for slice {part[0]}; expected {self.slice_bytes}:"
                f" {rows} rows of {columns} {self.dtype}",
                "send the values row by row, in little endian, without a header",
            )
        return np.frombuffer(body, np.dtype(self.dtype).newbyteorder("<")).reshape(rows, columns)

    def part_file(self, part: Part) -> str:
        return f"{part[0]}.slice"

    @classmethod
    def of_json(cls, text: str) -> VolumeManifest:
        """Parse the output of `to_json`. Raises ValueError, TypeError or KeyError for other
        text."""
        parsed = json.loads(text)
        volume = parsed["volume"]
        given = volume["grid"]
        columns, rows, slices = given["size"]
        grid = VolumeGrid(
            size=(columns, rows, slices),
            origin_mm=LPS(*given["origin_mm"]),
            step_i_mm=LPS(*given["step_i_mm"]),
            step_j_mm=LPS(*given["step_j_mm"]),
            step_k_mm=LPS(*given["step_k_mm"]),
            frame_of_reference=given["frame_of_reference"],
        )
        names = tuple(SliceName(*name) for name in volume["slices"])
        return cls(
            volume=VolumeInfo(grid, names, volume["modality"]),
            dtype=parsed["dtype"],
            fingerprint=parsed["fingerprint"],
        )


@dataclass(frozen=True)
class VolumeUploadRequest:
    """An announcement of a volume that a viewer will send because the server cannot see it."""

    volume: VolumeInfo
    dtype: VoxelType
    request: SegmentRequest
    """The request that it is for."""

    def __post_init__(self) -> None:
        """Raise BadSpacing or BadSeries if the voxels do not form a volume."""
        grid, names = self.volume.grid, self.volume.slices
        if not _spans_voxels(grid):
            raise BadSpacing(
                "volume: step_i_mm, step_j_mm and step_k_mm do not span voxels",
                "send the steps from voxel to voxel along i, j and k, in millimetres",
            )
        if names and (len(names) != grid.size[2] or len(set(names)) < len(names)):
            raise BadSeries(
                f"volume.slices: expected {grid.size[2]} different names, got {len(names)}",
                "name every slice, in the order of k, or leave slices out",
            )

    @property
    def info(self) -> ImageInfo:
        """The metadata that the image will have once it has been uploaded."""
        return _info(self.manifest)

    @property
    def manifest(self) -> VolumeManifest:
        return VolumeManifest(volume=self.volume, dtype=self.dtype)


class UploadedVolume(VolumeSource):
    """A sealed upload of a volume, opened by the path of its manifest."""

    name = READER

    def __init__(self, path: Path) -> None:
        try:
            self._manifest = VolumeManifest.of_json(path.read_text("utf-8"))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise Unreadable(f"{path.parent.name}: not an upload: {error}") from error
        self._directory = path.parent
        super().__init__(_info(self._manifest))

    @classmethod
    def open(cls, path: Path) -> UploadedVolume:
        return cls(path)

    def _read(self) -> NDArray[np.generic]:
        voxels = np.empty(self.volume.grid.shape, self.info.dtype)
        for part in self._manifest.parts:
            name = self._manifest.part_file(part)
            try:
                body = (self._directory / name).read_bytes()
                voxels[part[0]] = self._manifest.decode(part, body)
            except (OSError, Malformed) as error:
                raise Unreadable(f"upload {self._directory.name}, {name}: {error}") from error
        return voxels


def _spans_voxels(grid: VolumeGrid) -> bool:
    """Return whether the steps of `grid` are of a sensible length and lie in no common plane."""
    if np.abs(grid.affine).max() > _LONGEST_MM:
        return False
    sides = grid.spacing_mm
    volume = abs(float(np.linalg.det(grid.affine[:3, :3])))
    return min(sides) > _SHORTEST_MM and volume > _FLAT * float(np.prod(sides))


def _info(manifest: VolumeManifest) -> ImageInfo:
    is_small = np.can_cast(np.dtype(manifest.dtype), np.int16)
    dtype = np.dtype(np.int16 if is_small else np.float32)
    return volume_image(READER, manifest.fingerprint, manifest.volume, dtype)
