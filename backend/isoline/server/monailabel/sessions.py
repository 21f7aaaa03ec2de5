"""Sessions: files that a client sends once and then refers to until they expire.

    ID/session.json     when it was created and how long it is kept; touched at each use
    ID/files/NAME       the files

All state is on disk, so sessions survive a restart.
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
from isoline.server.monailabel.files import check_readable, safe_name
from isoline.sources.dicom_head import is_dicom

SCHEME = "session"
_NOTE, _FILES = "session.json", "files"


@dataclass(frozen=True)
class Session:
    """A session as reported to its client, without paths on the server."""

    name: str
    path: str
    image: str
    meta: dict[str, str]
    create_ts: int
    last_access_ts: int
    expiry: int
    """Seconds after the last use when it expires."""


class Sessions:
    """All sessions of this server; a `Resolver` for `session:ID`."""

    def __init__(self, directory: Path, most: int, longest_seconds: float) -> None:
        self._directory = directory
        self._most = most
        self._longest = int(longest_seconds)
        self._lock = threading.Lock()
        self._descriptions = Descriptions()

    def create(self, files: Sequence[FileStorage], expiry: int = 0) -> Session:
        """Keep `files` for `expiry` seconds after their last use; 0 means as long as allowed.

        Raises Malformed if there are no files, or Busy.
        """
        if not files:
            raise Malformed("the form has no file", "send one in the field 'files'")
        names = [safe_name(file.filename) for file in files]
        if len(set(names)) < len(names):
            raise Malformed("two files have the same name", "rename one of them")
        self._sweep()
        session = str(uuid.uuid4())
        folder = self._directory / session
        with self._lock:
            if self._directory.exists() and len(list(self._directory.iterdir())) >= self._most:
                raise Busy(
                    f"the server already has the maximum of {self._most} sessions",
                    "remove one, or try again later",
                )
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
        """Return the session with that id. Raises NotFound."""
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
        """Return the only file of a session, or the folder of a DICOM series.

        Raises NotFound or NotSupported.
        """
        known = self.get(session, touch=True)
        folder = self._folder(session) / _FILES
        if known.image:
            return folder / known.image
        if not all(map(is_dicom, folder.iterdir())):
            raise NotSupported(
                "the session has several files that are not a DICOM series",
                "send one file, or the instances of one series",
            )
        return folder

    def remove(self, session: str) -> Session:
        """Remove a session and return its last state. Raises NotFound."""
        known = self.get(session)
        shutil.rmtree(self._folder(session), ignore_errors=True)
        return known

    @contextlib.contextmanager
    def passing(self, file: FileStorage) -> Iterator[str]:
        """Keep one file for the duration of a block and yield its image name."""
        session = self.create([file])
        try:
            yield f"{SCHEME}:{session.name}"
        finally:
            shutil.rmtree(self._folder(session.name), ignore_errors=True)

    def find(self, name: str, caller: Caller) -> Found:
        """Return the image of `session:ID`; knowing the id grants access to it."""
        path = self.file(name.partition(":")[2])
        if path.is_file():
            check_readable(path)
        return Found(name, path, self._descriptions.of(path))

    def _folder(self, session: str) -> Path:
        # ids are generated here: any other text might lead out of the directory
        try:
            canonical = str(uuid.UUID(session))
        except ValueError:
            canonical = ""
        if canonical != session:
            raise _unknown(session)
        return self._directory / session

    def _sweep(self) -> None:
        """Remove sessions that have expired or whose upload was interrupted."""
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
    """Return the JSON form of a session."""
    return asdict(session)


def _unknown(session: str) -> NotFound:
    return NotFound(f"Session ({session}) Not Found", "it may have expired: create a new one")
