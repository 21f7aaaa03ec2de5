"""Sessions: files that a client sends once and then asks about, until they expire.

    ID/session.json     when it was made and how long it is kept; touched at each use
    ID/files/NAME       what was sent

All state is on disk, so a session outlives a restart.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from werkzeug.datastructures import FileStorage

from isoline.errors import Busy, Malformed, NotFound, NotSupported
from isoline.images.catalog import Caller, Descriptions, Found
from isoline.server.monailabel.files import check_readable, is_dicom, safe_name

SCHEME = "session"
_NOTE, _FILES = "session.json", "files"


@dataclass(frozen=True)
class Session:
    """What a client hears of its session; no path of the server is in it."""

    name: str
    path: str
    image: str
    meta: dict[str, str]
    create_ts: int
    last_access_ts: int
    expiry: int
    """Seconds after the last use."""


class Sessions:
    """Every session of this server; a `Resolver` of `session:ID`."""

    def __init__(self, directory: Path, most: int, longest_seconds: float) -> None:
        self._directory = directory
        self._most = most
        self._longest = int(longest_seconds)
        self._lock = threading.Lock()
        self._descriptions = Descriptions()

    def create(self, files: Sequence[FileStorage], expiry: int = 0) -> Session:
        """Keep `files` for `expiry` seconds after their last use; 0: as long as is allowed.

        Raises Malformed when there is none, or Busy.
        """
        if not files:
            raise Malformed("the form has no file", "send one under the name 'files'")
        names = [safe_name(file.filename) for file in files]
        if len(set(names)) < len(names):
            raise Malformed("two files have the same name", "rename one of them")
        self._sweep()
        session = str(uuid.uuid4())
        folder = self._directory / session
        with self._lock:
            if self._directory.exists() and len(list(self._directory.iterdir())) >= self._most:
                raise Busy(f"{self._most} sessions are kept already", "remove one, or try later")
            (folder / _FILES).mkdir(parents=True)
        try:
            for name, file in zip(names, files, strict=True):
                file.save(folder / _FILES / name)
            lasts = min(expiry, self._longest) if expiry > 0 else self._longest
            note = {"create_ts": int(time.time()), "expiry": lasts}
            (folder / _NOTE).write_text(json.dumps(note), "utf-8")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return self.get(session)

    def get(self, session: str, *, touch: bool = False) -> Session:
        """Return the session of that id. Raises NotFound."""
        folder = self._folder(session)
        try:
            note = json.loads((folder / _NOTE).read_text("utf-8"))
            if touch:
                (folder / _NOTE).touch()
            used = int((folder / _NOTE).stat().st_mtime)
            names = sorted(path.name for path in (folder / _FILES).iterdir())
        except FileNotFoundError:
            raise _unknown(session) from None
        if used + note["expiry"] < time.time():
            raise _unknown(session)
        image = names[0] if len(names) == 1 else ""
        return Session(session, "", image, {}, note["create_ts"], used, note["expiry"])

    def file(self, session: str) -> Path:
        """Return the one file of a session, or the folder of a DICOM series.

        Raises NotFound or NotSupported.
        """
        known = self.get(session, touch=True)
        folder = self._folder(session) / _FILES
        if known.image:
            return folder / known.image
        if not all(map(is_dicom, folder.iterdir())):
            raise NotSupported(
                "a session of several files that are no DICOM series",
                "send one file, or the instances of one series",
            )
        return folder

    def remove(self, session: str) -> Session:
        """Forget a session and return what it was. Raises NotFound."""
        known = self.get(session)
        shutil.rmtree(self._folder(session), ignore_errors=True)
        return known

    @contextlib.contextmanager
    def passing(self, file: FileStorage) -> Iterator[str]:
        """Keep one file for the length of a block and yield its image name."""
        session = self.create([file])
        try:
            yield f"{SCHEME}:{session.name}"
        finally:
            shutil.rmtree(self._folder(session.name), ignore_errors=True)

    def find(self, name: str, caller: Caller) -> Found:
        """Return the image of the session in `session:ID`: its id is the right to see it."""
        path = self.file(name.partition(":")[2])
        if path.is_file():
            check_readable(path)
        return Found(name, path, self._descriptions.of(path))

    def _folder(self, session: str) -> Path:
        # ids are made here: anything else could climb out of the directory
        try:
            canonical = str(uuid.UUID(session))
        except ValueError:
            canonical = ""
        if canonical != session:
            raise _unknown(session)
        return self._directory / session

    def _sweep(self) -> None:
        """Forget what has expired, and what was cut off on its way in."""
        if not self._directory.exists():
            return
        for folder in self._directory.iterdir():
            note, now = folder / _NOTE, time.time()
            with contextlib.suppress(OSError, ValueError):
                lasts = json.loads(note.read_text("utf-8"))["expiry"] if note.exists() else 3600
                used = (note if note.exists() else folder).stat().st_mtime
                if used + lasts < now:
                    shutil.rmtree(folder, ignore_errors=True)


def session_json(session: Session) -> dict[str, object]:
    """Return what a client is told."""
    return asdict(session)


def _unknown(session: str) -> NotFound:
    return NotFound(f"Session ({session}) Not Found", "it never was, or has expired")
