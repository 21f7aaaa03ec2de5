"""The directory for weights, sample data, surveys and jobs, and the version of its formats.

    DATA/version.json          the version of the formats, and the isoline version that wrote them
    DATA/backup/formats-N/     the original files that a migration from formats N has changed

One number versions all formats in the directory: jobs, uploads, surveys, volumes, weights and MONAI
Label's datastore. A directory without version.json has formats 1. A change of a format needs a
`Migration`; code that uses the directory must call `open_data_directory` first.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from isoline import __version__
from isoline.config.file_lock import Exclusive
from isoline.config.migrations import MIGRATIONS, Migration
from isoline.errors import Conflict

log = logging.getLogger(__name__)

VERSION_FILE = "version.json"
LOCK_FILE = "jobs.lock"
"""Locked by the server that uses the directory, and by a migration."""
_WAIT_SECONDS = 10.0


def default_directory() -> Path:
    """Return $ISOLINE_DATA or, if it is not set, the platform's directory for application data."""
    if chosen := os.environ.get("ISOLINE_DATA"):
        return Path(chosen)
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData/Local")
    elif sys.platform == "darwin":
        base = home / "Library/Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share")
    return base / "isoline"


def open_data_directory(
    directory: Path, migrations: Sequence[Migration] = MIGRATIONS, *, keeps_state: bool = False
) -> None:
    """Create `directory`, or bring its formats up to date.

    An interrupted migration is resumed. Raises Conflict if the formats are newer than this isoline,
    if they are older and cannot be migrated because the directory is in use or read-only, or if a
    server, which `keeps_state`, could not write to it.
    """
    if keeps_state:
        _check_writable(directory)
    current = 1 + len(migrations)
    held = _held(directory, current)
    if held > current:
        raise Conflict(
            f"{directory} has formats {held}, written by isoline {_writer(directory)}; "
            f"isoline {__version__} reads formats up to {current}",
            "install that version or a later one, or choose another `data`",
        )
    if held < current:
        _migrate(directory, held, migrations)
    elif not (directory / VERSION_FILE).exists():
        with contextlib.suppress(OSError):  # a read-only directory can still be used
            directory.mkdir(parents=True, exist_ok=True)
            _state(directory, current)


def _held(directory: Path, current: int) -> int:
    """Return the version of the formats in `directory`, `current` if it is empty."""
    try:
        held = json.loads((directory / VERSION_FILE).read_bytes())["formats"]
    except NotADirectoryError:  # it cannot be made; only a server needs it
        return current
    except FileNotFoundError:
        return 1 if directory.is_dir() and any(directory.iterdir()) else current
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(directory) from error
    if type(held) is not int or held < 1:
        raise _unreadable(directory)
    return held


def _check_writable(directory: Path) -> None:
    """Raise Conflict unless files can be made in `directory`, which is made if necessary."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise Conflict(
            f"the data directory {directory} cannot be used: {error.strerror}",
            "make it writable, or choose another: `data` in isoline.toml, or ISOLINE_DATA",
        ) from error


def _unreadable(directory: Path) -> Conflict:
    return Conflict(
        f"{directory / VERSION_FILE} does not state the version of the directory's formats",
        "restore that file, or choose another `data`",
    )


def _writer(directory: Path) -> str:
    content = json.loads((directory / VERSION_FILE).read_bytes())
    return str(content.get("isoline", "of an unknown version"))


def _migrate(directory: Path, held: int, migrations: Sequence[Migration]) -> None:
    try:
        with contextlib.closing(Exclusive(directory / LOCK_FILE, _WAIT_SECONDS)):
            # another process may have migrated while this one waited
            held = _held(directory, 1 + len(migrations))
            for formats, migration in enumerate(migrations[held - 1 :], held):
                backup = directory / "backup" / f"formats-{formats}"
                log.info("%s: formats %d become %d", directory, formats, formats + 1)
                for path in sorted(directory.glob(migration.files)):
                    _rewrite(path, backup / path.relative_to(directory), migration)
                _state(directory, formats + 1)
    except OSError as error:
        raise Conflict(
            f"{directory} has formats {held} and cannot be migrated: {error.strerror}",
            "make it writable and free some disk space, or choose another `data`",
        ) from error


def _rewrite(path: Path, backup: Path, migration: Migration) -> None:
    """Migrate `path`, keeping its previous content as `backup`."""
    content = path.read_bytes()
    if backup.exists() and content == migration.rewrite(backup.read_bytes()):
        return  # done before this migration was interrupted
    backup.parent.mkdir(parents=True, exist_ok=True)
    _replace(backup, content)
    _replace(path, migration.rewrite(content))


def _state(directory: Path, formats: int) -> None:
    content = {"formats": formats, "isoline": __version__}
    _replace(directory / VERSION_FILE, json.dumps(content).encode() + b"\n")


def _replace(path: Path, content: bytes) -> None:
    """Write a file that appears under its name only once it is complete and on disk."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with fresh.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
