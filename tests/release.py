"""Build what a release consists of: every distribution as a wheel and an sdist, and their sums.

    python -m tests.release OUT        see CONTRIBUTING.md

The same commit gives the same bytes: the export has fixed modes and times, SOURCE_DATE_EPOCH is
the time of the commit, and what setuptools leaves to chance in an sdist is put in order.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
DISTRIBUTIONS = (".", "backend/isoline-client", "plugins/dsa")
"""Folders with a pyproject.toml; one that is not there is left out."""
SUMS = "SHA256SUMS"


def main(arguments: Sequence[str]) -> None:
    if len(arguments) != 1:
        sys.exit("usage: python -m tests.release OUT")
    if changes := _git("status", "--porcelain"):
        sys.exit(f"the checkout differs from its commit; commit first:\n{changes}")
    out = Path(arguments[0])
    if out.exists() and any(out.iterdir()):
        sys.exit(f"{out} is not empty; name a new folder")
    build_all(out)
    print((out / SUMS).read_text(), end="")


def build_all(out: Path) -> None:
    """Build every distribution from an export of the files that git tracks, and write the sums."""
    epoch = int(_git("log", "-1", "--format=%ct"))
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        source = export(Path(scratch) / "source", epoch)
        for folder in DISTRIBUTIONS:
            if (source / folder / "pyproject.toml").exists():
                _build(source / folder, out, epoch)
    for sdist in out.glob("*.tar.gz"):
        put_in_order(sdist, epoch)
    built = sorted(out.glob("*.whl")) + sorted(out.glob("*.tar.gz"))
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in built]
    (out / SUMS).write_text("".join(sums))


def export(target: Path, epoch: int) -> Path:
    """Copy the files that git tracks, as they are now, with modes and times that say nothing."""
    for name in _git("ls-files", "-z").split("\0"):
        if name and (ROOT / name).exists():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, path)
            path.chmod(0o755 if os.access(ROOT / name, os.X_OK) else 0o644)
            os.utime(path, (epoch, epoch))
    return target


def put_in_order(sdist: Path, epoch: int) -> None:
    """Pack `sdist` again: sorted, nobody's, with one time for everything."""
    with tarfile.open(sdist) as packed, tempfile.TemporaryFile() as plain:
        with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for member in sorted(packed.getmembers(), key=lambda member: member.name):
                clean = tarfile.TarInfo(member.name)
                clean.type, clean.size, clean.mtime = member.type, member.size, epoch
                clean.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
                tar.addfile(clean, packed.extractfile(member) if member.isfile() else None)
        plain.seek(0)
        content = plain.read()
    with sdist.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=epoch) as zipped:
        zipped.write(content)


def _build(source: Path, out: Path, epoch: int) -> None:
    """Build the sdist in `source`, and the wheel from it: the sdist is whole, or this fails."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
    ran = subprocess.run(
        command, env=environment, umask=0o022, capture_output=True, text=True, check=False
    )
    if ran.returncode:
        sys.exit(f"{source.name} cannot be built:\n{ran.stdout[-3000:]}{ran.stderr[-3000:]}")


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


if __name__ == "__main__":
    main(sys.argv[1:])
