"""Readers by name, and choosing the first that can open an image."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Callable, Iterable, Mapping
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
_TIFF_READERS = ("openslide", "tiff", "plain")
_GENERIC_TIFF_READERS = ("tiff", "plain")
"""Readers of TIFFs. OpenSlide alone knows what the files of scanners contain; of other TIFFs it
ignores OME-XML, the orientation and whether levels fit. large_image ignores colour models."""
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_INDEX_SUFFIXES = (".mrxs", ".vms", ".vmu")
"""Slides whose file names others, and whose first bytes say nothing."""
_FOLDERS = re.compile(
    r"(?<![\w.])(?:\.{0,2}/|[A-Za-z]:[\\/]|\\\\)(?:[^\s'\"<>|:;]+[\\/])*(?=[^\s/\\])"
)
"""The part of a path before its last name."""
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
    refusals: dict[str, IsolineError] = {}
    for name in _readers_for(path):
        try:
            return _opened(path.name, partial(SOURCES.load(name).open, path))
        except (Unreadable, Broken, NotFound) as error:
            refusals[name] = error
    raise _refusal(path, refusals)


def _refusal(path: Path, refusals: Mapping[str, IsolineError]) -> IsolineError:
    """Return the error for a file that no reader opens, with the reason of the one that knows."""
    if len(refusals) == 1:
        return next(iter(refusals.values()))
    with path.open("rb") as file:
        head = file.read(132)
    if not head.strip(b"\0"):
        what = "contains only zeros" if head else "is empty"
        return Unreadable(f"{path.name} {what}", "copy it again, and check that it arrives whole")
    if head[:4] in _TIFF_MAGIC and set(refusals) <= set(_TIFF_READERS):
        return refusals["tiff"]
    is_known = head.endswith(b"DICM") or path.suffix.lower() in _INDEX_SUFFIXES
    if set(refusals) <= set(READERS) and not is_known:
        return Unreadable(
            f"{path.name} is not an image: it begins with {head[:12]!r}",
            "copy it again, or use an image that OpenSlide reads, a TIFF, a DICOM whole slide, PNG "
            "or JPEG",
        )
    reasons = "; ".join(f"{name}: {error.what}" for name, error in refusals.items())
    return Unreadable(
        f"no reader understands {path.name} ({reasons})",
        "use an image that OpenSlide reads, a tiled TIFF, a DICOM whole slide, PNG or JPEG",
    )


def _opened(name: str, opening: Callable[[], Source]) -> Source:
    """Open the image called `name`. Raises nothing but IsolineError."""
    try:
        return opening()
    except IsolineError as error:
        if error.what != (what := without_folders(error.what)):
            raise type(error)(what, error.remedy) from error
        raise
    except Exception as error:  # libraries raise errors of any kind for damaged images
        # log the place, not the message, which may contain patient data
        place = "".join(traceback.format_tb(error.__traceback__))
        log.warning("%s cannot be opened: %s\n%s", name, type(error).__name__, place)
        raise Unreadable(
            f"{name} cannot be read ({type(error).__name__})",
            "check that the file is complete and readable; the server's log has details",
        ) from error


def without_folders(text: str) -> str:
    """Return `text`, from a library, with the names of files but not of the folders they are in."""
    return _FOLDERS.sub("", text)


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
    if head[:4] in _TIFF_MAGIC:
        return (*_tiff_readers(path), *SOURCES.added())
    return (*READERS, *SOURCES.added())


def _tiff_readers(path: Path) -> tuple[str, ...]:
    from openslide import OpenSlide

    generic = OpenSlide.detect_format(path) in (None, "generic-tiff")
    return _GENERIC_TIFF_READERS if generic else _TIFF_READERS
