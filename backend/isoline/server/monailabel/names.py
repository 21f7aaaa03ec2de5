"""Image names of MONAI Label's clients: an id in the datastore, or the file name of a slide."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from pathlib import Path

from isoline.errors import IsolineError, NotSupported, UnknownImage
from isoline.images.catalog import Images
from isoline.images.dicomweb import DicomWebImages
from isoline.server.monailabel.datastore import SCHEME, Datastore
from isoline.server.monailabel.files import split

_SECONDS = 10.0
"""How long the list of file names is cached: roots may contain thousands, on slow disks."""


class Names:
    """Maps clients' image names to isoline's."""

    def __init__(self, datastore: Datastore, images: Images, archives: DicomWebImages) -> None:
        self._datastore = datastore
        self._archives = archives
        self._images = images
        self._lock = threading.Lock()
        self._by_file: dict[str, list[str]] = {}
        self._listed = -_SECONDS

    def find(self, image: str) -> str:
        """Return isoline's name of the image that a client calls `image`.

        That is an id in the datastore; or else isoline's own name of a slide, or its file name,
        with or without the suffix, if it is unique; or else the SeriesInstanceUID of a series in an
        archive. Raises UnknownImage or Unreadable.
        """
        if self._datastore.has(image):
            return f"{SCHEME}:{image}"
        try:
            self._images.path(image)
        except (IsolineError, OSError):  # OSError: the name is too long for the file system
            candidates = self._listing().get(image, [])
        else:
            return image
        if len(candidates) > 1:
            raise UnknownImage(
                f"{len(candidates)} images are called {image!r}", f"use {' or '.join(candidates)}"
            )
        if not candidates and (series := self._archives.named(image)):
            return series
        if not candidates:
            raise UnknownImage(
                f"Image {image!r} not found",
                "check the name: it is neither in the datastore nor below a configured root",
            )
        return candidates[0]

    def path(self, image: str) -> Path:
        """Return the file of the image that a client calls `image`. Raises UnknownImage."""
        name = self.find(image)
        if name.startswith(f"{SCHEME}:"):
            return self._datastore.image(image)
        if name.startswith("dicomweb:"):
            raise NotSupported("a series is not a file", "fetch it from the archive")
        path = self._images.path(name)
        if path.is_dir():
            raise NotSupported("a series is not a file", "name one of its files")
        return path

    def _listing(self) -> dict[str, list[str]]:
        with self._lock:
            if time.monotonic() - self._listed > _SECONDS:
                by_file: dict[str, list[str]] = defaultdict(list)
                for name in self._images.names():
                    file = name.rpartition("/")[2]
                    for called in {file, split(file)[0], file.partition(".")[0]}:
                        by_file[called].append(name)
                self._by_file, self._listed = dict(by_file), time.monotonic()
            return self._by_file
