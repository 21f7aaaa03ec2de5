"""Finding the images below a root: files, and folders of DICOM series, each once.

A link is listed under its own name if it leads to another place below the same root. Links in a
directory that was reached by a link are not followed: they are listed where they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from isoline.sources.dicom_head import is_dicom, read_head

_DICOM = ".dcm"
_OTHERS = (
    *(".svs", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif"),
    *(".czi", ".png", ".jpg", ".jpeg", ".nii", ".nii.gz", ".qptiff", ".btf", ".tf2", ".tf8"),
)
SUFFIXES = (_DICOM, *_OTHERS)
"""Files that are listed; files of other types can still be requested by name."""
_REMEMBERED = 16384
_SHOWN = 3


@dataclass(frozen=True)
class Listing:
    """The images below one root."""

    names: tuple[str, ...]
    """Paths relative to the root, with slashes, in order."""
    problems: tuple[str, ...]
    """Sentences about the links that are not listed."""


class Listings:
    """Lists roots, and remembers what DICOM folders contain until they change."""

    def __init__(self) -> None:
        self._slices = lru_cache(_REMEMBERED)(_slices_in)

    def of(self, root: Path) -> Listing:
        """Return the images below `root`, a resolved path."""
        walk = _Walk(root)
        walk.visit(root)
        names: list[str] = []
        for place in walk.places:
            slices = self._slices(place.path, place.path.stat().st_mtime_ns)
            if len(slices.series) == 1 and place.is_leaf and place.path != root:
                names.append(walk.name(place.path))
            else:
                first = [place.path / name for name in slices.series]
                names += map(walk.name, first)
            names += [
                walk.name(file)
                for file in place.files
                if file.name in slices.slides
                or (file.name not in slices.files and file.name.lower().endswith(SUFFIXES))
            ]
        # as paths, so that what is in a directory stays together
        names.sort(key=lambda name: name.split("/"))
        return Listing(tuple(names), tuple(walk.problems()))


@dataclass
class _Place:
    """One directory, under the name by which it was reached."""

    path: Path
    files: list[Path] = field(default_factory=list)
    is_leaf: bool = True
    """Whether it contains no directory."""


class _Walk:
    """The directories and files below a root, and the links that lead nowhere useful."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.places: list[_Place] = []
        self._outside: list[str] = []
        self._broken: list[str] = []
        self._circular: list[str] = []
        self._unreadable: list[str] = []
        self._unnameable: list[str] = []

    def name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def visit(self, directory: Path, *, is_linked: bool = False) -> None:
        """Collect `directory` and everything below it."""
        try:
            paths = sorted(directory.iterdir())
        except OSError:
            self._unreadable.append(self.name(directory))
            return
        place = _Place(directory)
        self.places.append(place)
        for path in paths:
            if not _is_utf_8(path.name):
                self._unnameable.append(ascii(path.name))
                continue
            is_link = path.is_symlink()
            if is_link and not self._leads_inside(path):
                continue
            if path.is_file():
                place.files.append(path)
            elif path.is_dir():
                place.is_leaf = False
                if not (is_link and is_linked):
                    self.visit(path, is_linked=is_link or is_linked)

    def _leads_inside(self, link: Path) -> bool:
        """Return whether `link` leads to another place below the root; note it otherwise."""
        try:
            target = link.resolve(strict=True)
        except (OSError, RuntimeError):  # RuntimeError: a loop of links, before Python 3.13
            self._broken.append(self.name(link))
            return False
        if not target.is_relative_to(self.root):
            self._outside.append(self.name(link))
            return False
        if link.parent.resolve().is_relative_to(target):
            self._circular.append(self.name(link))
            return False
        return True

    def problems(self) -> list[str]:
        """Return a sentence about each kind of link or directory that is not listed."""
        kinds = (
            ("links that lead out of it are not listed: {}; add their targets", self._outside),
            ("links that lead nowhere are not listed: {}", self._broken),
            ("links to a directory that contains them are not followed: {}", self._circular),
            ("directories that cannot be read: {}", self._unreadable),
            ("names that are not UTF-8 are not listed: {}; rename them", self._unnameable),
        )
        return [sentence.format(_some(names)) for sentence, names in kinds if names]


def _is_utf_8(name: str) -> bool:
    """Return whether a request can contain the name of a file; Linux allows any bytes."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _some(names: Sequence[str]) -> str:
    left = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {left} more" if left > 0 else "")


@dataclass(frozen=True)
class _Slices:
    """The DICOM files in one directory that are slices of a volume, not levels of a slide."""

    files: frozenset[str] = frozenset()
    series: tuple[str, ...] = ()
    """The first file of each series."""
    slides: frozenset[str] = frozenset()
    """The levels of slides whose names do not show what they are."""


def _slices_in(directory: Path, _unchanged: int) -> _Slices:
    files = sorted(_candidates(directory))
    if not files:
        return _Slices()
    heads = {file: read_head(file) for file in (files[0], files[len(files) // 2], files[-1])}
    head, *others = set(heads.values())
    slides: list[Path] = []
    if head is not None and head.series is not None and not others:
        # all of one series: reading every header of an archive would take minutes
        found = {} if head.is_slide else {head.series: files}
        slides = files if head.is_slide else []
    else:
        found = {}
        for file in files:
            head = heads[file] if file in heads else read_head(file)
            if head is not None and head.is_slide:
                slides.append(file)
            elif head is not None and head.series is not None:
                found.setdefault(head.series, []).append(file)
    return _Slices(
        frozenset(file.name for each in found.values() for file in each),
        tuple(each[0].name for each in found.values()),
        frozenset(file.name for file in slides if file.suffix.lower() != _DICOM),
    )


def _candidates(directory: Path) -> list[Path]:
    """Return the files that may be DICOM: scanners often write names without a suffix."""
    files = [path for path in sorted(directory.iterdir()) if path.is_file()]
    named = [path for path in files if path.suffix.lower() == _DICOM]
    others = [
        path
        for path in files
        if not path.name.lower().endswith(SUFFIXES)
        and not path.name.startswith(".")
        and path.name.upper() != "DICOMDIR"
    ]
    return named + (others if others and is_dicom(others[0]) else [])
