"""Names -> sources, models and encoders, through entry points that are loaded at first use.

A package adds one by an entry point in the group `isoline.sources`, `isoline.models` or
`isoline.encoders`. Importing this file imports none of them; one that fails to import is listed
with its reason and leaves the others alone.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from isoline.errors import (
    Broken,
    IsolineError,
    NotFound,
    UnknownFormat,
    UnknownModel,
    Unreadable,
    nearest,
)
from isoline.models.bundles.files import Bundle
from isoline.sources.base import Remote

if TYPE_CHECKING:
    from isoline.exports.base import Encoder
    from isoline.models.base import Model
    from isoline.sources.base import Source

log = logging.getLogger(__name__)

READERS = ("openslide", "tiff", "large_image", "plain")
"""The order in which readers are tried: tests/benchmarks/readers.py says why.

Those of other packages come after them."""
_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
_PLAIN = {b"\x89PNG": (".png",), b"\xff\xd8\xff": (".jpg", ".jpeg", ".jpe")}

NO_BUNDLES: Mapping[str, Bundle] = MappingProxyType({})

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Installed(Generic[Kind]):
    """What is installed of one kind."""

    working: dict[str, type[Kind]]
    broken: dict[str, str]
    """Name -> why it can't be imported."""


def source(name: str) -> type[Source]:
    """Return the reader of that name; raises NotFound, or Broken when it does not import."""
    return cast("type[Source]", _load("source", name, NotFound))


def model(name: str, bundles: Mapping[str, Bundle] = NO_BUNDLES) -> type[Model]:
    """Return the model of that name, installed or one of `bundles`.

    Raises UnknownModel, or Broken when it does not import or the bundle cannot be used.
    """
    if name in bundles:
        from isoline.models.bundles.model import bundle_model  # only for those who have some

        return bundle_model(name, bundles[name], bundles[name].stamp())
    return cast("type[Model]", _load("model", name, UnknownModel, bundles))


def encoder(name: str) -> type[Encoder]:
    """Return the encoder of that name; raises UnknownFormat, or Broken when it won't import."""
    return cast("type[Encoder]", _load("encoder", name, UnknownFormat))


def source_names() -> tuple[str, ...]:
    """Return the names of the installed sources, also of those that may not import."""
    return tuple(sorted(_entry_points("source")))


def model_names(bundles: Mapping[str, Bundle] = NO_BUNDLES) -> tuple[str, ...]:
    """Return the names of `bundles` and the installed models, also of those that won't import."""
    return (*sorted(_entry_points("model")), *sorted(bundles))


def encoder_names() -> tuple[str, ...]:
    """Return the names of the installed encoders, also of those that may not import."""
    return tuple(sorted(_entry_points("encoder")))


def sources() -> Installed[Source]:
    """Load every reader that can be loaded."""
    return cast("Installed[Source]", _load_all("source", source_names()))


def models() -> Installed[Model]:
    """Load every model that can be loaded."""
    return cast("Installed[Model]", _load_all("model", model_names()))


def open_image(path: Path | Remote, reader: str | None = None) -> Source:
    """Open the image at `path` with `reader`, or with the first of `READERS` that can.

    A remote image opens itself.

    Raises Unreadable with every reader's reason when none can, NotFound for a reader that does
    not exist, TooLarge for a plain image over the limit.
    """
    if isinstance(path, Remote):
        return _opened(path.name, path.open)
    path = Path(path)
    if not path.exists():
        raise Unreadable(f"{path.name} does not exist", "check the path")
    if reader is not None:
        return _opened(path.name, partial(source(reader).open, path))
    reasons: list[str] = []
    for name in _readers_for(path):
        try:
            return _opened(path.name, partial(source(name).open, path))
        except (Unreadable, Broken, NotFound) as error:
            reasons.append(f"{name}: {error}")
    raise Unreadable(
        f"no reader understands {path.name} ({'; '.join(reasons)})",
        "use an image that OpenSlide reads, a tiled TIFF, a DICOM whole slide, PNG or JPEG",
    )


def _opened(name: str, opening: Callable[[], Source]) -> Source:
    """Open the image that is called `name`. Raises IsolineError, and nothing else."""
    try:
        return opening()
    except IsolineError:
        raise
    except Exception as error:  # there is no end to what libraries raise about damaged images
        # where, not what: what it says may be of the patient
        place = "".join(traceback.format_tb(error.__traceback__))
        log.warning("%s cannot be opened: %s\n%s", name, type(error).__name__, place)
        raise Unreadable(
            f"{name} cannot be read ({type(error).__name__})",
            "see that it is whole and readable; the log says more",
        ) from error


def _readers_for(path: Path) -> Iterable[str]:
    """Return the readers to try; a PNG or JPEG needs no library of slides.

    Both the first bytes and the suffix must say so: the head of a MIRAX slide is a JPEG too.
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
    if head.endswith(b"DICM") and not _is_slide(path):
        return ("dicom",)
    entries = _entry_points("source").items()
    added = [name for name, entry in entries if not entry.value.startswith("isoline.")]
    return (*READERS, *added)


def _is_slide(path: Path) -> bool:
    """Return whether a DICOM file is of a whole slide (VL Whole Slide Microscopy, PS3.4 B.5)."""
    from pydicom import dcmread

    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"], force=True)
        return bool(header.get("SOPClassUID", _SLIDE) == _SLIDE)
    except Exception:  # pydicom raises many things about damaged files
        return False


@cache
def _entry_points(kind: str) -> dict[str, metadata.EntryPoint]:
    return {entry.name: entry for entry in metadata.entry_points(group=f"isoline.{kind}s")}


def _load(kind: str, name: str, unknown: type[NotFound], others: Iterable[str] = ()) -> type[Any]:
    """Load what is installed as `name`; `others` of its kind are there too and not installed."""
    entries = _entry_points(kind)
    if name not in entries:
        suggestion = _suggestion(name, [*entries, *others])
        raise unknown(f"there is no {kind} named {name!r}", suggestion)
    try:
        return cast("type[Any]", entries[name].load())
    except Exception as error:  # a plugin is foreign code: importing it can raise anything
        raise Broken(
            f"the {kind} {name!r} is installed but cannot be imported: {error}",
            f"repair or remove the package behind {entries[name].value}",
        ) from error


def _suggestion(name: str, entries: Iterable[str]) -> str:
    existing = sorted(entries)
    if not existing:
        return "nothing is registered: install isoline with pip"
    close = nearest(name, existing)
    listed = f"there are {', '.join(existing)}"
    return f"did you mean {close!r}? {listed}" if close else listed


def _load_all(kind: str, names: Iterable[str]) -> Installed[Any]:
    working: dict[str, type[Any]] = {}
    broken: dict[str, str] = {}
    for name in names:
        try:
            working[name] = _load(kind, name, NotFound)
        except IsolineError as error:
            broken[name] = str(error)
    return Installed(working, broken)
