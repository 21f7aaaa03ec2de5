"""Pixels uploaded by a viewer, for images whose file the server cannot see.

    uploads/ID/upload.json     the image's metadata, written when the complete upload is first used
    uploads/ID/L-C-R.png       the tile in column C and row R of level L, as it was sent

An upload is filled tile by tile, and sealed when a request first refers to it: from then on, its
pixels and its fingerprint never change. It contains the region at full resolution and the whole
image as a small overview, in which the tissue is detected.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import threading
import time
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

from isoline.config.settings import Limits
from isoline.errors import Busy, Malformed, TooLarge, UnknownImage, UploadState
from isoline.geometry.grid import Box
from isoline.images.catalog import Caller, Found
from isoline.sources.upload import (
    MANIFEST,
    Layer,
    Manifest,
    UploadRequest,
    UploadSource,
    decode,
    tile_file,
)

TILE_PX = 512
"""Side of an uploaded tile; tiles at the far edges of an area are smaller."""
OVERVIEW_UM = 16.0
"""The overview has the coarsest power-of-two downsample that is no coarser than this, at which
tissue can be detected."""
OVERVIEW_PX = 1024
"""Largest longer side of an overview of an image without pixel size."""


@dataclass
class _Filling:
    """An upload whose tiles are still arriving."""

    manifest: Manifest
    digests: dict[tuple[int, int, int], str] = field(default_factory=dict)
    """(level, column, row) -> digest of the pixels."""


class Uploads:
    """All uploads of this server; a `Resolver` for `upload:` names."""

    def __init__(self, directory: Path, limits: Limits) -> None:
        self._directory = directory
        self._limits = limits
        self._lock = threading.Lock()
        self._filling: dict[str, _Filling] = {}
        directory.mkdir(parents=True, exist_ok=True)
        for left in directory.iterdir():  # an incomplete upload cannot be resumed
            if not (left / MANIFEST).exists():
                shutil.rmtree(left, ignore_errors=True)

    def create(self, request: UploadRequest, area: Box) -> tuple[str, Manifest]:
        """Create an upload of `area` and an overview; return its id and the required tiles.

        Raises TooLarge or Busy.
        """
        self._sweep()
        manifest = Manifest(
            size=request.size,
            spacing_um=request.spacing_um,
            channels=request.channels,
            dtype=request.dtype,
            kind="slide" if request.is_slide else "image",
            tile_px=TILE_PX,
            layers=(Layer(1, area), _overview(request)),
        )
        pixels = sum(layer.area.area for layer in manifest.layers)
        if pixels > self._limits.upload_pixels:
            raise TooLarge(
                f"{pixels / 1e6:.0f} million pixels would have to be uploaded; "
                f"{self._limits.upload_pixels / 1e6:.0f} million are allowed",
                "choose a smaller region, or make the file visible to the server: [file_uris] in "
                "isoline.toml",
            )
        upload = secrets.token_hex(12)
        with self._lock:
            if sum(1 for _ in self._directory.iterdir()) >= self._limits.uploads:
                raise Busy(
                    f"the server already has the maximum of {self._limits.uploads} uploads",
                    "try again later",
                )
            (self._directory / upload).mkdir()
            self._filling[upload] = _Filling(manifest)
        return upload, manifest

    def put(self, upload: str, level: int, column: int, row: int, png: bytes) -> None:
        """Store one tile, replacing it if it was sent before.

        Raises UnknownImage, Malformed if the PNG does not fit the tile, or UploadState if the
        upload is in use.
        """
        filling = self._open(upload)
        manifest = filling.manifest
        if level >= len(manifest.layers) or manifest.tile(level, column, row).empty:
            raise Malformed(
                f"upload {upload} has no tile {level}/{column}/{row}",
                "send the tiles listed when it was created",
            )
        box = manifest.tile(level, column, row)
        pixels = decode(png, manifest, box)
        digest = hashlib.blake2b(pixels.tobytes(), digest_size=20).hexdigest()
        path = self._directory / upload / tile_file(level, column, row)
        with self._lock:
            if upload not in self._filling:
                raise _in_use(upload)
            path.write_bytes(png)
            filling.digests[level, column, row] = digest

    def find(self, name: str, caller: Caller) -> Found:
        """Seal the upload called `name` and return it. Raises UnknownImage or UploadState."""
        upload = name.partition(":")[2]
        path = self._path(upload) / MANIFEST
        with self._lock:
            filling = self._filling.get(upload)
            if filling is not None:
                missing = [tile for tile in filling.manifest.tiles if tile not in filling.digests]
                if missing:
                    level, column, row = missing[0]
                    raise UploadState(
                        f"{len(missing)} tiles of {name} are missing, "
                        f"the first of them {level}/{column}/{row}",
                        "send them, then repeat the request",
                    )
                path.write_text(_sealed(filling).to_json(), "utf-8")
                del self._filling[upload]
        if not path.exists():
            raise _unknown(upload)
        path.parent.touch()
        source = UploadSource.open(path)
        source.close()
        return Found(name, path, source.info)

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


def _overview(request: UploadRequest) -> Layer:
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
    return Layer(downsample, Box(0, 0, *size))


def _sealed(filling: _Filling) -> Manifest:
    digest = hashlib.blake2b(filling.manifest.to_json().encode(), digest_size=20)
    digest.update(json.dumps(sorted(filling.digests.items())).encode())
    return filling.manifest.with_fingerprint(digest.hexdigest())


def _unknown(upload: str) -> UnknownImage:
    return UnknownImage(
        f"there is no upload {upload!r}", "it may have expired: upload the pixels again"
    )


def _in_use(upload: str) -> UploadState:
    return UploadState(f"upload {upload} is in use and cannot be changed", "create another one")
