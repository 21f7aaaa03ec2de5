"""Images and their labels in one directory, in MONAI Label's layout.

    ID.EXT                     an image; putting a file here adds it
    labels/TAG/ID.EXT          its label with a tag: `final` by a person, `original` by a model
    datastore_v2.json          the metadata of images and labels

All files are replaced atomically, never written in place.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from isoline.errors import Broken, NotFound, NotSupported, UnknownImage
from isoline.images.catalog import Caller, Descriptions, Found
from isoline.server.monailabel.files import check_readable, safe_name, split

SCHEME = "datastore"
FINAL, ORIGINAL = "final", "original"
_FILE, _LABELS, _COMING = "datastore_v2.json", "labels", ".coming-"
IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".ome.tif", ".ome.tiff", ".svs", ".ndpi", ".scn"),
    *(".bif", ".dcm", ".nii", ".nii.gz", ".nrrd", ".mha"),
)
"""Suffixes of images; not every volume stored for clients can be segmented."""


@dataclass
class Item:
    """A file and the clients' metadata for it."""

    ext: str
    info: dict[str, Any] = field(default_factory=dict)


@dataclass
class Entry:
    """An image with its labels by tag."""

    image: Item
    labels: dict[str, Item] = field(default_factory=dict)


class Datastore:
    """A datastore in one directory; thread-safe; a `Resolver` for `datastore:ID`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.RLock()
        self._entries: dict[str, Entry] = {}
        self._seen: tuple[int, int] | None = None
        self._descriptions = Descriptions()

    # Overview

    def status(self) -> dict[str, object]:
        """Return the numbers of images and labels."""
        entries = self._current()
        tags: dict[str, int] = {}
        for entry in entries.values():
            for tag in entry.labels:
                tags[tag] = tags.get(tag, 0) + 1
        return {"total": len(entries), "completed": tags.get(FINAL, 0), "label_tags": tags}

    def everything(self) -> dict[str, object]:
        """Return the metadata of every image and label."""
        return _note(self._current())

    def pairs(self) -> list[dict[str, str]]:
        """Return the images labelled by a person, with their labels, as relative paths."""
        return [
            {
                "image": name + entry.image.ext,
                "label": f"{_LABELS}/{FINAL}/{name}{entry.labels[FINAL].ext}",
            }
            for name, entry in self._current().items()
            if FINAL in entry.labels
        ]

    def ids(self, which: str = "all") -> list[str]:
        """Return the ids of all images, or of the "labeled" or "unlabeled" ones, sorted."""
        labelled = {"labeled": (True,), "unlabeled": (False,)}.get(which, (True, False))
        entries = self._current()
        return sorted(
            name for name, entry in entries.items() if (FINAL in entry.labels) in labelled
        )

    def has(self, image: str) -> bool:
        return image in self._current()

    # Images

    def image(self, image: str) -> Path:
        """Return the file of an image. Raises UnknownImage."""
        return self._inside(self._directory / (image + self._entry(image).image.ext), image)

    def image_info(self, image: str) -> dict[str, Any]:
        """Return the metadata of an image; `path` is its file name, never a path on the server."""
        item = self._entry(image).image
        return {**copy.deepcopy(item.info), "path": image + item.ext}

    def update_image_info(self, image: str, info: Mapping[str, Any]) -> None:
        """Update the metadata of an image. Raises UnknownImage."""
        with self._changing() as entries:
            _expect(entries, image).image.info.update(info)

    def add_image(
        self, image: str | None, filename: str, content: IO[bytes], info: Mapping[str, Any]
    ) -> str:
        """Store an image as `image`, by default the stem of its file name; return its id.

        An image with the same id is replaced and keeps its labels. Raises Malformed or
        NotSupported.
        """
        stem, suffix = split(safe_name(filename))
        if suffix.lower() not in IMAGE_SUFFIXES:
            raise NotSupported(
                f"{filename!r} is not an image that can be stored",
                f"send {', '.join(IMAGE_SUFFIXES)}",
            )
        name = safe_name(image or stem)
        with self._arrived(content) as coming, self._changing() as entries:
            before = entries.get(name)
            coming.replace(self._directory / (name + suffix))
            if before is not None and before.image.ext != suffix:
                (self._directory / (name + before.image.ext)).unlink(missing_ok=True)
            item = Item(suffix, {**info, "ts": int(time.time()), "name": name + suffix})
            entries[name] = Entry(item, before.labels if before is not None else {})
        return name

    def remove_image(self, image: str) -> None:
        """Remove an image with its labels. Raises UnknownImage."""
        with self._changing() as entries:
            entry = _expect(entries, image)
            for tag, item in entry.labels.items():
                self._label_path(image, tag, item).unlink(missing_ok=True)
            (self._directory / (image + entry.image.ext)).unlink(missing_ok=True)
            del entries[image]

    # Labels

    def label(self, image: str, tag: str) -> Path:
        """Return the file of a label. Raises UnknownImage or NotFound."""
        return self._inside(self._label_path(image, tag, self._label(image, tag)), image)

    def label_info(self, image: str, tag: str) -> dict[str, Any]:
        """Return the metadata of a label. Raises UnknownImage or NotFound."""
        return copy.deepcopy(self._label(image, tag).info)

    def update_label_info(self, image: str, tag: str, info: Mapping[str, Any]) -> None:
        """Update the metadata of a label. Raises UnknownImage or NotFound."""
        with self._changing() as entries:
            _labelled(_expect(entries, image), image, tag).info.update(info)

    def save_label(
        self, image: str, tag: str, filename: str, content: IO[bytes], info: Mapping[str, Any]
    ) -> None:
        """Store the label of an image under `tag`, replacing an existing one.

        Raises UnknownImage or Malformed.
        """
        tag = safe_name(tag)
        _, suffix = split(safe_name(filename))
        self._entry(image)
        with self._arrived(content) as coming, self._changing() as entries:
            entry = _expect(entries, image)
            item = Item(suffix, {**info, "ts": int(time.time()), "name": image + suffix})
            path = self._label_path(image, tag, item)
            path.parent.mkdir(parents=True, exist_ok=True)
            coming.replace(path)
            before = entry.labels.get(tag)
            if before is not None and before.ext != suffix:
                self._label_path(image, tag, before).unlink(missing_ok=True)
            entry.labels[tag] = item

    def remove_label(self, image: str, tag: str) -> None:
        """Remove one label. Raises UnknownImage or NotFound."""
        with self._changing() as entries:
            entry = _expect(entries, image)
            item = _labelled(entry, image, tag)
            self._label_path(image, tag, item).unlink(missing_ok=True)
            del entry.labels[tag]

    def find(self, name: str, caller: Caller) -> Found:
        """Return the image called `datastore:ID`."""
        path = self.image(name.partition(":")[2])
        check_readable(path)
        return Found(name, path, self._descriptions.of(path))

    # The directory

    def _entry(self, image: str) -> Entry:
        return _expect(self._current(), image)

    def _label(self, image: str, tag: str) -> Item:
        return _labelled(self._entry(image), image, tag)

    def _label_path(self, image: str, tag: str, item: Item) -> Path:
        return self._directory / _LABELS / tag / (image + item.ext)

    def _inside(self, path: Path, image: str) -> Path:
        """Return `path` if it is a file in this directory and not a link to outside."""
        real = path.resolve()
        if not (real.is_file() and real.is_relative_to(self._directory.resolve())):
            raise UnknownImage(
                f"the file of {image!r} does not exist", "see /datastore/?output=all"
            )
        return real

    def _current(self) -> dict[str, Entry]:
        """Return the entries, read again if the directory has changed; callers must not alter
        them."""
        with self._lock:
            state = self._state()
            if state != self._seen:
                self._entries, self._seen = self._read(), state
            return self._entries

    def _state(self) -> tuple[int, int]:
        def changed(path: Path) -> int:
            try:
                return path.stat().st_mtime_ns
            except OSError:
                return 0

        return changed(self._directory), changed(self._directory / _FILE)

    def _read(self) -> dict[str, Entry]:
        noted = _parse(self._directory / _FILE)
        entries: dict[str, Entry] = {}
        if not self._directory.is_dir():
            return entries
        for path in sorted(self._directory.iterdir()):
            stem, suffix = split(path.name)
            is_image = suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
            if is_image and path.is_file() and stem not in entries:
                known = noted.get(stem)
                item = known.image if known is not None and known.image.ext == suffix else None
                entries[stem] = Entry(item or Item(suffix, {"name": path.name}))
        for path in sorted((self._directory / _LABELS).glob("*/*")):
            stem, suffix = split(path.name)
            if stem in entries and path.is_file() and not path.name.startswith("."):
                tag = path.parent.name
                known = noted.get(stem)
                item = known.labels.get(tag) if known is not None else None
                kept = item if item is not None and item.ext == suffix else None
                entries[stem].labels[tag] = kept or Item(suffix, {"name": path.name})
        return entries

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, Entry]]:
        """Yield the entries for changes, then write them; nothing changes if the block raises."""
        with self._lock, _disk_errors():
            entries = copy.deepcopy(self._current())
            yield entries
            with self._arrived(io.BytesIO(json.dumps(_note(entries), indent=1).encode())) as coming:
                coming.replace(self._directory / _FILE)
            self._entries, self._seen = entries, self._state()

    @contextlib.contextmanager
    def _arrived(self, content: IO[bytes]) -> Iterator[Path]:
        """Yield a temporary file with all of `content`, to be moved into place.

        Receiving the content may take long, so this must not block other callers.
        """
        with _disk_errors():
            self._directory.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=_COMING, dir=self._directory)
            coming = Path(name)
            try:
                with os.fdopen(handle, "wb") as file:
                    shutil.copyfileobj(content, file, 1 << 20)
                    file.flush()
                    os.fsync(file.fileno())
                yield coming
            finally:
                coming.unlink(missing_ok=True)


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    """Turn errors of the file system into Broken."""
    try:
        yield
    except OSError as error:
        raise Broken(
            f"the datastore cannot be written: {error.strerror or error}",
            "free disk space, or make the directory writable for the server",
        ) from error


def _note(entries: Mapping[str, Entry]) -> dict[str, object]:
    return {
        "name": "isoline",
        "description": "Images and labels of this server",
        "images_dir": ".",
        "labels_dir": _LABELS,
        "objects": {name: asdict(entry) for name, entry in entries.items()},
    }


def _parse(note: Path) -> dict[str, Entry]:
    """Parse the metadata file; if it is damaged, it counts as empty, since the files still
    exist."""
    try:
        objects = json.loads(note.read_text("utf-8"))["objects"]
        return {
            name: Entry(
                Item(entry["image"]["ext"], dict(entry["image"]["info"])),
                {
                    tag: Item(label["ext"], dict(label["info"]))
                    for tag, label in entry["labels"].items()
                },
            )
            for name, entry in objects.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _expect(entries: Mapping[str, Entry], image: str) -> Entry:
    try:
        return entries[image]
    except KeyError:
        raise UnknownImage(
            f"Image {image!r} not found in the datastore", "see /datastore/?output=all"
        ) from None


def _labelled(entry: Entry, image: str, tag: str) -> Item:
    try:
        return entry.labels[tag]
    except KeyError:
        raise NotFound(
            f"{image!r} has no label with the tag {tag!r}", f"it has {', '.join(entry.labels)}"
        ) from None
