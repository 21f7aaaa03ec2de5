"""Readers by name, and choosing the first that can open an image."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from isoline.errors import Broken, IsolineError, NotFound, Unreadable
from isoline.plugins import Plugins
from isoline.sources.dicom_head import read_head
from isoline.sources.source import Remote, Source

log = logging.getLogger(__name__)

SOURCES: Plugins[Source] = Plugins("source")
"""The installed readers."""
READERS = ("openslide", "tiff", "large_image", "plain")
"""The order in which readers are tried; tests/benchmarks/readers.py shows why.

Readers from other packages come after them."""
_PLAIN = {b"\x89PNG": (".png",), b"\xff\xd8\xff": (".jpg", ".jpeg", ".jpe")}


def open_image(path: Path | Remote, reader: str | None = None) -> Source:
    """Open the image at `path` with `reader`, or with the first of `READERS` that can.

    A remote image opens itself.

    Raises Unreadable with every reader's reason if none can, NotFound for a reader that does not
    exist, and TooLarge for a plain image over the limit.
    """
    if isinstance(path, Remote):
        return _opened(path.name, path.open)
    path = Path(path)
    if not path.exists():
        raise Unreadable(f"{path.name} does not exist", "check the path")
    if reader is not None:
        return _opened(path.name, partial(SOURCES.load(reader).open, path))
    reasons: list[str] = []
    for name in _readers_for(path):
        try:
            return _opened(path.name, partial(SOURCES.load(name).open, path))
        except (Unreadable, Broken, NotFound) as error:
            reasons.append(f"{name}: {error}")
    raise Unreadable(
        f"no reader understands {path.name} ({'; '.join(reasons)})",
        "use an image that OpenSlide reads, a tiled TIFF, a DICOM whole slide, PNG or JPEG",
    )


def _opened(name: str, opening: Callable[[], Source]) -> Source:
    """Open the image called `name`. Raises nothing but IsolineError."""
    try:
        return opening()
    except IsolineError:
        raise
    except Exception as error:  # libraries raise errors of any kind for damaged images
        # log the place, not the message, which may contain patient data
        place = "".join(traceback.format_tb(error.__traceback__))
        log.warning("%s cannot be opened: %s\n%s", name, type(error).__name__, place)
        raise Unreadable(
            f"{name} cannot be read ({type(error).__name__})",
            "check that the file is complete and readable; the server's log has details",
        ) from error


def _readers_for(path: Path) -> Iterable[str]:
    """Return the readers to try; a PNG or JPEG needs no slide library.

    Both the first bytes and the suffix must match: a MIRAX slide starts with a JPEG header too.
    """
    if path.is_dir():
        return ("dicom",)
    if path.name.lower().endswith((".nii", ".nii.gz")):
        return ("nifti",)
    with path.open("rb") as file:
        head = file.read(132)
    for magic, suffixes in _PLAIN.items():
        if head.startswith(magic) and path.suffix.lower() in suffixes:
            return ("plain",)
    if head.endswith(b"DICM"):
        dicom = read_head(path)
        if dicom is None or not dicom.is_slide:
            return ("dicom",)
    return (*READERS, *SOURCES.added())
