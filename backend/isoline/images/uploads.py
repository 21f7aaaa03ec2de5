"""Pixels uploaded by a viewer, for images whose file the server cannot see.

    uploads/ID/upload.json     the image's metadata, written when the complete upload is first used
    uploads/ID/L-C-R.png       the tile in column C and row R of level L, as it was sent

    uploads/ID/volume.json     the same for a volume
    uploads/ID/K.slice         the values of slice K, as they were sent

An upload is filled part by part, and sealed when a request first refers to it: from then on, its
pixels and its fingerprint never change. A picture consists of the region at full resolution and the
whole image as a small overview, in which the tissue is detected; a volume, of all its slices.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

from isoline.config.settings import Limits
from isoline.errors import Busy, Malformed, NotSupported, TooLarge, UnknownImage, UploadState
from isoline.geometry.grid import Box
from isoline.images.catalog import Caller, Found
from isoline.sources.pyramid import RGB
from isoline.sources.upload import Manifest, UploadLevel, UploadRequest, UploadSource
from isoline.sources.upload_manifest import Part, UploadManifest
from isoline.sources.uploaded_volume import UploadedVolume, VolumeManifest, VolumeUploadRequest

TILE_PX = 512
"""Side of an uploaded tile; tiles at the far edges of an area are smaller."""
OVERVIEW_UM = 16.0
"""The overview has the coarsest power-of-two downsample that is no coarser than this, at which
tissue can be detected."""
OVERVIEW_PX = 1024
"""Largest longer side of an overview of an image without pixel size."""
MAX_SLICE_BYTES = 64 << 20
"""Largest slice of a volume: 4096 x 4096 of 4 bytes."""


_SOURCES: Mapping[str, type[UploadSource | UploadedVolume]] = {
    Manifest.file_name: UploadSource,
    VolumeManifest.file_name: UploadedVolume,
}
"""What reads an upload, by the name of its manifest."""


@dataclass
class _Filling:
    """An upload whose parts are still arriving."""

    manifest: UploadManifest
    digests: dict[Part, str] = field(default_factory=dict)
    """Key of a part -> digest of its values."""


class Uploads:
    """All uploads of this server; a `Resolver` for `upload:` names."""

    def __init__(self, directory: Path, limits: Limits) -> None:
        self._directory = directory
        self._limits = limits
        self._lock = threading.Lock()
        self._filling: dict[str, _Filling] = {}
        directory.mkdir(parents=True, exist_ok=True)
        for left in directory.iterdir():  # an incomplete upload cannot be resumed
            if _manifest_in(left) is None:
                shutil.rmtree(left, ignore_errors=True)

    def create(self, request: UploadRequest, area: Box) -> tuple[str, Manifest]:
        """Create an upload of `area` and an overview; return its id and the required tiles.

        Raises TooLarge, Busy, or NotSupported for colours of more than 8 bits.
        """
        if request.channels == RGB and request.dtype != "uint8":
            raise NotSupported(
                f"dtype: colours of {request.dtype} cannot be uploaded", "send 8-bit colours"
            )
        manifest = Manifest(
            size=request.size,
            spacing_um=request.spacing_um,
            channels=request.channels,
            dtype=request.dtype,
            kind="slide" if request.is_slide else "image",
            tile_px=TILE_PX,
            layers=(UploadLevel(1, area), _overview(request)),
        )
        pixels = sum(layer.area.area for layer in manifest.layers)
        if pixels > self._limits.upload_pixels:
            raise TooLarge(
                f"{pixels / 1e6:.0f} million pixels would have to be uploaded; "
                f"{self._limits.upload_pixels / 1e6:.0f} million are allowed",
                "choose a smaller region, or make the file visible to the server: [file_uris] in "
                "isoline.toml",
            )
        return self._create(manifest), manifest

    def create_volume(self, request: VolumeUploadRequest) -> tuple[str, VolumeManifest]:
        """Create an upload of a volume; return its id and the required slices.

        Raises TooLarge or Busy.
        """
        manifest = request.manifest
        if manifest.slice_bytes > MAX_SLICE_BYTES:
            raise TooLarge(
                f"a slice has {manifest.slice_bytes} bytes; {MAX_SLICE_BYTES} are allowed",
                "send a smaller volume, or values of a smaller type",
            )
        return self._create(manifest), manifest

    def _create(self, manifest: UploadManifest) -> str:
        self._sweep()
        upload = secrets.token_hex(12)
        with self._lock:
            if sum(1 for _ in self._directory.iterdir()) >= self._limits.uploads:
                raise Busy(
                    f"the server already has the maximum of {self._limits.uploads} uploads",
                    "try again later",
                )
            (self._directory / upload).mkdir()
            self._filling[upload] = _Filling(manifest)
        return upload

    def put(self, upload: str, part: Part, body: bytes) -> None:
        """Store one tile or slice, replacing it if it was sent before.

        Raises UnknownImage, Malformed if `body` does not fit the part, or UploadState if the upload
        is in use.
        """
        filling = self._open(upload)
        manifest = filling.manifest
        if not manifest.has(part):
            what = "tile" if len(part) == 3 else "slice"
            raise Malformed(
                f"upload {upload} has no {what} {_label(part)}",
                f"send the {manifest.noun}s listed when it was created",
            )
        values = manifest.decode(part, body)
        digest = hashlib.blake2b(values.tobytes(), digest_size=20).hexdigest()
        path = self._directory / upload / manifest.part_file(part)
        with self._lock:
            if upload not in self._filling:
                raise _in_use(upload)
            path.write_bytes(body)
            filling.digests[part] = digest

    def find(self, name: str, caller: Caller) -> Found:
        """Seal the upload called `name` and return it. Raises UnknownImage or UploadState."""
        upload = name.partition(":")[2]
        directory = self._path(upload)
        with self._lock:
            filling = self._filling.get(upload)
            if filling is not None:
                self._seal(name, directory, filling)
                del self._filling[upload]
        path = _manifest_in(directory)
        if path is None:
            raise _unknown(upload)
        directory.touch()
        source = _SOURCES[path.name].open(path)
        source.close()
        return Found(name, path, source.info)

    def _seal(self, name: str, directory: Path, filling: _Filling) -> None:
        manifest = filling.manifest
        first = next((part for part in manifest.parts if part not in filling.digests), None)
        if first is not None:
            missing = sum(1 for _ in manifest.parts) - len(filling.digests)
            raise UploadState(
                f"{manifest.noun}s of {name} are missing: {missing}, the first of them "
                f"{_label(first)}",
                "send them, then repeat the request",
            )
        (directory / manifest.file_name).write_text(_sealed(filling).to_json(), "utf-8")

    def delete(self, upload: str) -> None:
        """Delete an upload; a job that is still reading it fails at its remaining tiles."""
        path = self._path(upload)
        with self._lock:
            self._filling.pop(upload, None)
        if not path.exists():
            raise _unknown(upload)
        shutil.rmtree(path, ignore_errors=True)

    def _open(self, upload: str) -> _Filling:
        filling = self._filling.get(upload)
        if filling is None:
            raise _in_use(upload) if self._path(upload).exists() else _unknown(upload)
        return filling

    def _path(self, upload: str) -> Path:
        # ids are generated here: any other text might lead out of the directory
        if len(upload) != 24 or not set(upload) <= set("0123456789abcdef"):
            raise _unknown(upload)
        return self._directory / upload

    def _sweep(self) -> None:
        """Delete uploads that have not been used for a long time."""
        oldest = time.time() - self._limits.upload_hours * 3600
        with self._lock:
            for path in list(self._directory.iterdir()):
                if path.stat().st_mtime < oldest:
                    self._filling.pop(path.name, None)
                    shutil.rmtree(path, ignore_errors=True)


def _overview(request: UploadRequest) -> UploadLevel:
    downsample = 1
    width, height = request.size
    finest = None if request.spacing_um is None else max(request.spacing_um)
    while (
        2 * downsample * finest <= OVERVIEW_UM
        if finest is not None
        else max(width, height) > OVERVIEW_PX * downsample
    ):
        downsample *= 2
    size = (ceil(width / downsample), ceil(height / downsample))
    return UploadLevel(downsample, Box(0, 0, *size))


def _manifest_in(directory: Path) -> Path | None:
    """Return the manifest of a sealed upload."""
    paths = (directory / name for name in _SOURCES)
    return next((path for path in paths if path.exists()), None)


def _label(part: Part) -> str:
    return "/".join(map(str, part))


def _sealed(filling: _Filling) -> UploadManifest:
    digest = hashlib.blake2b(filling.manifest.to_json().encode(), digest_size=20)
    digest.update(json.dumps(sorted(filling.digests.items())).encode())
    return filling.manifest.with_fingerprint(digest.hexdigest())


def _unknown(upload: str) -> UnknownImage:
    return UnknownImage(
        f"there is no upload {upload!r}", "it may have expired: upload the pixels again"
    )


def _in_use(upload: str) -> UploadState:
    return UploadState(f"upload {upload} is in use and cannot be changed", "create another one")
