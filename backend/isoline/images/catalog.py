"""Images by name: which files a request may speak of, and what is in them.

A name is `root/path/below/it`, or `scheme:rest` where a resolver of that scheme can find it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

from isoline.errors import NotAllowed, UnknownImage
from isoline.sources.base import ImageInfo, Remote
from isoline.sources.registry import open_image

_SUFFIXES = (
    *(".svs", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif"),
    *(".czi", ".dcm", ".png", ".jpg", ".jpeg"),
)
"""What `Images.names` lists; a file of another kind can still be asked for by name."""

_REMEMBERED = 4096


@dataclass(frozen=True)
class Found:
    """An image that exists and may be read."""

    name: str
    path: Path | Remote
    info: ImageInfo


@dataclass(frozen=True)
class Caller:
    """Who asks: what came with the request to be shown where the image is kept. Never written."""

    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By the scheme of the image's name."""


ANYONE = Caller()


class Resolver(Protocol):
    """Finds the images whose names begin with one scheme, such as `upload:`."""

    def find(self, name: str, caller: Caller) -> Found:
        """Return the image called `name`, scheme and all, if `caller` may read it.

        Whether they may is asked each time, before anything that is remembered. The path is what
        `open_image` opens in a worker, which knows no caller: a `Remote` carries the
        caller's rights with it.
        Raises UnknownImage, NotAllowed or Unreadable.
        """


@runtime_checkable
class Guarded(Protocol):
    """A resolver whose images are for some callers and not for others."""

    def check(self, name: str, caller: Caller) -> None:
        """Ask where the image called `name` is kept whether `caller` may read it now.

        Raises NotAllowed, UnknownImage or Unreadable.
        """


class Descriptions:
    """What is in each file, remembered until the file changes. Thread-safe."""

    def __init__(self) -> None:
        self._described = lru_cache(_REMEMBERED)(_describe)

    def of(self, path: Path) -> ImageInfo:
        """Open the file just far enough to know what is in it. Raises Unreadable."""
        state = path.stat()
        return self._described(path, state.st_size, state.st_mtime_ns)


def _describe(path: Path, *_unchanged: int) -> ImageInfo:
    source = open_image(path)
    source.close()
    return source.info


class Images:
    """The files under a few named roots, and what resolvers find elsewhere."""

    def __init__(
        self,
        roots: Mapping[str, Path],
        resolvers: Mapping[str, Resolver] | None = None,
        descriptions: Descriptions | None = None,
    ) -> None:
        """Serve the files below `roots`; a root called "" lends its files without a prefix.

        A name whose part before the first colon is a key of `resolvers` is theirs to find. What is
        in a file is remembered in `descriptions`, which others may share.
        """
        self._resolvers = dict(resolvers or {})
        self._roots = {name: path.resolve() for name, path in roots.items()}
        self._descriptions = Descriptions() if descriptions is None else descriptions

    @classmethod
    def of_file(cls, path: Path) -> Images:
        """Serve the directory of `path`, so that the image is called by its file name."""
        return cls({"": path.resolve().parent})

    def also(self, resolvers: Mapping[str, Resolver]) -> Images:
        """Return the same images and those that `resolvers` find besides."""
        return Images(self._roots, {**self._resolvers, **resolvers}, self._descriptions)

    def names(self) -> Iterator[str]:
        """Yield the name of every image below the roots, sorted within each."""
        for root, directory in self._roots.items():
            for path in sorted(directory.rglob("*")):
                inside = path.resolve().is_relative_to(directory)
                if inside and path.suffix.lower() in _SUFFIXES and path.is_file():
                    relative = path.relative_to(directory).as_posix()
                    yield f"{root}/{relative}" if root else relative

    def find(self, name: str, caller: Caller = ANYONE) -> Found:
        """Open the image called `name` just far enough to know what is in it.

        Raises UnknownImage, NotAllowed outside the roots, or Unreadable.
        """
        scheme, colon, _ = name.partition(":")
        if colon and scheme in self._resolvers:
            return self._resolvers[scheme].find(name, caller)
        path = self.path(name)
        return Found(name, path, self._descriptions.of(path))

    def is_guarded(self, name: str) -> bool:
        """Return whether the image called `name` is for some callers and not for others."""
        return isinstance(self._resolvers.get(name.partition(":")[0]), Guarded)

    def check(self, name: str, caller: Caller) -> None:
        """Ask whether `caller` may still read the image called `name`.

        Raises NotAllowed, UnknownImage or Unreadable.
        """
        resolver: object = self._resolvers.get(name.partition(":")[0])
        if isinstance(resolver, Guarded):
            resolver.check(name, caller)

    def path(self, name: str) -> Path:
        """Return the path of the image called `name`; it exists and lies below its root."""
        root, _, relative = name.partition("/") if "" not in self._roots else ("", "", name)
        directory = self._roots.get(root)
        known = f"the roots are {', '.join(sorted(self._roots))}" if "" not in self._roots else ""
        if directory is None or "\0" in name:
            raise UnknownImage(f"no image is called {name!r}", known or "see `isoline images`")
        try:
            path = (directory / relative).resolve()
            exists = path.exists()
        except OSError:  # a name that no file system takes: too long, a loop of links
            raise UnknownImage(f"no image is called {name[:80]!r}", known) from None
        if not path.is_relative_to(directory):
            raise NotAllowed(f"{name!r} lies outside the configured roots", known)
        if not relative or not exists:
            raise UnknownImage(f"no image is called {name!r}", "see `isoline images`")
        return path
