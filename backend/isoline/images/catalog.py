"""Images by name: which files a request may refer to, and their metadata.

A name is `root/path/below/it`, or `scheme:rest` if there is a resolver for that scheme.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

from isoline.domain.request import SegmentRequest
from isoline.errors import NotAllowed, NotSupported, UnknownImage
from isoline.images.listing import Listings
from isoline.sources.fingerprint import state_of
from isoline.sources.registry import open_image
from isoline.sources.source import ImageInfo, Remote

log = logging.getLogger(__name__)

_REMEMBERED = 4096


@dataclass(frozen=True)
class Found:
    """An image that exists and may be read."""

    name: str
    path: Path | Remote
    info: ImageInfo

    def of_series(self, series: str | int | None) -> Found:
        """Return the image `series` of the same file, by name or index; None is this one.

        Raises NotSupported if the file does not contain it.
        """
        if series is None:
            return self
        from isoline.sources.tiff import TiffSeries, TiffSource  # loads the decoders

        if not isinstance(self.path, Path) or self.info.reader != TiffSource.name:
            raise NotSupported(f"series: {self.name} contains only one image", "leave it out")
        chosen = TiffSeries(self.path, series)
        with contextlib.closing(chosen.open()) as source:
            return Found(self.name, chosen, source.info)

    def as_shown(self, request: SegmentRequest) -> Found:
        """Return the image in the frame of the viewer that sent `request`.

        QuPath shows only the scanned part of a slide whose file names it, from its corner.
        """
        bounds = self.info.bounds
        shown = request.image_size
        is_qupath = shown is None and request.format == "qupath"
        if bounds is None or not (is_qupath or shown == (bounds.width, bounds.height)):
            return self
        from isoline.sources.openslide import CroppedSlide  # loads the decoders

        assert isinstance(self.path, Path), "only files have bounds"
        cropped = CroppedSlide(self.path)
        with contextlib.closing(cropped.open()) as source:
            return Found(self.name, cropped, source.info)


@dataclass(frozen=True)
class Caller:
    """The sender of a request: credentials to present wherever the image is stored. Never
    stored."""

    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Tokens by the scheme of the image's name."""


ANYONE = Caller()


class Resolver(Protocol):
    """Finds the images whose names begin with one scheme, such as `upload:`."""

    def find(self, name: str, caller: Caller) -> Found:
        """Return the image called `name`, including its scheme, if `caller` may read it.

        The permission is checked each time, before cached data is used. The path is what
        `open_image` opens in a worker, which knows no caller: a `Remote` carries the caller's
        credentials with it.

        Raises UnknownImage, NotAllowed or Unreadable.
        """


@runtime_checkable
class Guarded(Protocol):
    """A resolver whose images are restricted to some callers."""

    def check(self, name: str, caller: Caller) -> None:
        """Check with the store of the image called `name` whether `caller` may read it now.

        Raises NotAllowed, UnknownImage or Unreadable.
        """


class Descriptions:
    """Metadata of files, cached until a file changes. Thread-safe."""

    def __init__(self) -> None:
        self._described = lru_cache(_REMEMBERED)(_describe)

    def of(self, path: Path) -> ImageInfo:
        """Return the metadata of the file at `path`. Raises Unreadable."""
        return self._described(path, state_of(path))


def _describe(path: Path, _unchanged: tuple[int, ...]) -> ImageInfo:
    source = open_image(path)
    source.close()
    return source.info


class Images:
    """The files below named roots, and images that resolvers find elsewhere."""

    def __init__(
        self,
        roots: Mapping[str, Path],
        resolvers: Mapping[str, Resolver] | None = None,
        descriptions: Descriptions | None = None,
        files: Mapping[str, Path] | None = None,
    ) -> None:
        """Serve the files below `roots`, and single `files` by name.

        Files below a root called "" have no prefix.

        If the part of a name before the first colon is a key of `resolvers`, that resolver finds
        the image. Metadata of files is cached in `descriptions`, which may be shared.
        """
        self._resolvers = dict(resolvers or {})
        self._roots = {name: path.resolve() for name, path in roots.items()}
        self._descriptions = Descriptions() if descriptions is None else descriptions
        self._files = dict(files or {})
        self._listings = Listings()
        self._reported: set[tuple[str, str]] = set()
        """Problems that the log already has, by root."""

    @classmethod
    def of_file(cls, path: Path) -> Images:
        """Serve only the file or folder at `path`, a link or not, under its own name."""
        return cls({}, files={file_name(path): path.absolute()})

    def also(self, resolvers: Mapping[str, Resolver]) -> Images:
        """Return a catalogue with the same images and, in addition, those of `resolvers`."""
        resolvers = {**self._resolvers, **resolvers}
        return Images(self._roots, resolvers, self._descriptions, self._files)

    def names(self) -> Iterator[str]:
        """Yield the name of every image below the roots, sorted within each.

        Links that cannot be listed are reported in the log, once.
        """
        for root, directory in self._roots.items():
            listing = self._listings.of(directory)
            for problem in listing.problems:
                if (root, problem) not in self._reported:
                    self._reported.add((root, problem))
                    log.warning("[images] %s: %s", root or directory.name, problem)
            yield from (f"{root}/{name}" if root else name for name in listing.names)

    def find(self, name: str, caller: Caller = ANYONE) -> Found:
        """Return the image called `name`, with its metadata.

        Raises UnknownImage, NotAllowed outside the roots, or Unreadable.
        """
        scheme, colon, _ = name.partition(":")
        if colon and scheme in self._resolvers:
            return self._resolvers[scheme].find(name, caller)
        path = self.path(name)
        return Found(name, path, self._descriptions.of(path))

    def is_guarded(self, name: str) -> bool:
        """Return whether the image called `name` is restricted to some callers."""
        return isinstance(self._resolvers.get(name.partition(":")[0]), Guarded)

    def check(self, name: str, caller: Caller) -> None:
        """Check whether `caller` may still read the image called `name`.

        Raises NotAllowed, UnknownImage or Unreadable.
        """
        resolver: object = self._resolvers.get(name.partition(":")[0])
        if isinstance(resolver, Guarded):
            resolver.check(name, caller)

    def path(self, name: str) -> Path:
        """Return the path of the image called `name`, which exists and lies below its root."""
        if name in self._files:
            return _target(name, self._files[name])
        root, _, relative = name.partition("/") if "" not in self._roots else ("", "", name)
        directory = self._roots.get(root)
        known = f"the roots are {', '.join(sorted(self._roots))}" if "" not in self._roots else ""
        if directory is None or "\0" in name:
            raise UnknownImage(f"there is no image {name!r}", known or "see `isoline images`")
        try:
            path = (directory / relative).resolve()
            exists = path.exists()
        # a name that is invalid for the file system: too long, a loop of links
        except (OSError, RuntimeError):
            raise UnknownImage(f"there is no image {name[:80]!r}", known) from None
        if not path.is_relative_to(directory):
            raise NotAllowed(f"{name!r} lies outside the configured roots", known)
        if not relative or not exists:
            raise UnknownImage(f"there is no image {name!r}", "see `isoline images`")
        return _target(name, directory / relative)


def file_name(path: Path) -> str:
    """Return the name of the file or folder at `path`, as text that can be sent and printed."""
    name = path.name or path.resolve().name
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _target(name: str, path: Path) -> Path:
    """Return the file to open for the image called `name` at `path`, which may be a link.

    That is the link's target, beside which a format of several files finds the others; if the
    target has another suffix, as in stores that name files by their content, it is the link, since
    readers go by the suffix. Raises UnknownImage.
    """
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # Python before 3.13: RuntimeError for a loop of links
        why = "is a broken link or a loop of links" if path.is_symlink() else "does not exist"
        raise UnknownImage(f"{name!r} {why}", "check the path") from error
    return target if target.suffix.lower() == path.suffix.lower() else path
