"""OHIF as published on npm: prebuilt, fetched once, never modified."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from isoline.errors import Broken

VERSION = "3.13.2"
INTEGRITY = (
    "WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
)
"""SHA-512 of the package in base64, as npm reports it."""
_ROOT = PurePosixPath("package/dist")
_LEFT_OUT = ("ort", "dicom-microscopy-viewer")
"""Folders of the package that a radiology viewer does not need: two thirds of its size."""


def fetch(directory: Path, version: str = VERSION, integrity: str = INTEGRITY) -> Path:
    """Return the folder of OHIF's pages below `directory`, fetching it with npm if necessary.

    Raises Broken if there is no npm or no network, or if the downloaded package is not the pinned
    one.
    """
    pages = directory / f"ohif-{version}"
    if pages.is_dir():
        return pages
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory, prefix=".ohif-") as scratch:
            package = _pack(f"@ohif/app@{version}", Path(scratch))
            _check(package, integrity)
            _unpack(package, Path(scratch) / "pages")
            try:
                (Path(scratch) / "pages").rename(pages)
            except OSError:
                if not pages.is_dir():  # another process was faster
                    raise
    except OSError as error:
        raise Broken(
            f"cannot store OHIF in {directory}: {error.strerror or error}",
            "set ISOLINE_DATA to a writable folder with enough free space",
        ) from error
    return pages


def find_npm() -> str:
    """Return the path of npm. Raises Broken if it is not installed."""
    npm = shutil.which("npm")
    if npm is None:
        raise Broken("OHIF is fetched with npm, which is not installed", "install Node.js")
    return npm


def _pack(name: str, scratch: Path) -> Path:
    npm = find_npm()
    print(f"fetching {name}", file=sys.stderr)  # noqa: T201
    ran = subprocess.run(
        [npm, "pack", "--silent", "--pack-destination", str(scratch), name],
        capture_output=True,
        text=True,
        check=False,
    )
    found = list(scratch.glob("*.tgz"))
    if ran.returncode or len(found) != 1:
        reason = (ran.stderr.strip().splitlines() or ["npm gave no reason"])[-1]
        raise Broken(
            f"npm could not download {name}: {reason}", "check the network and `npm config list`"
        )
    return found[0]


def _check(package: Path, integrity: str) -> None:
    with package.open("rb") as file:
        digest = hashlib.sha512()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if base64.b64encode(digest.digest()).decode() != integrity:
        raise Broken(
            "the downloaded OHIF package is not the pinned one: its sha512 differs",
            "check the registry that npm uses: `npm config get registry`",
        )


def _unpack(package: Path, pages: Path) -> None:
    with tarfile.open(package) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if not member.isfile() or ".." in path.parts or not path.is_relative_to(_ROOT):
                continue
            relative = path.relative_to(_ROOT)
            if relative.parts[0] in _LEFT_OUT:
                continue
            target = pages.joinpath(*relative.parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            content = tar.extractfile(member)
            assert content is not None
            with content, target.open("wb") as file:
                shutil.copyfileobj(content, file)
