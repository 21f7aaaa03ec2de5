"""Who ran, cancelled, saved and deleted what, when; and the log as JSON.

Neither names an image: file names may hold the names of patients. A job is named by its id, an
image by the fingerprint of its content.
"""

from __future__ import annotations

import logging
import threading
import time
from datetime import datetime, timezone
from pathlib import Path

import orjson

log = logging.getLogger(__name__)


class Audit:
    """An append-only file of JSON lines."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path

    def note(self, user: str, action: str, subject: str, **more: str) -> None:
        """Write that `user` did `action` to `subject`, an id."""
        line = {"time": _now(), "user": user, "action": action, "subject": subject, **more}
        # one write to a file that is opened for appending: lines never mix
        try:
            with self._path.open("ab", buffering=0) as file:
                file.write(orjson.dumps(line) + b"\n")
        except OSError as error:  # a full disk must not keep anyone from cancelling
            log.error("the audit log cannot be written: %s: %s", error.strerror, line)


class JsonLines(logging.Formatter):
    """A log for machines: one object a line, with the job it is about."""

    def format(self, record: logging.LogRecord) -> str:
        name = record.threadName or threading.current_thread().name
        said = {
            "time": _now(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "job": name.removeprefix("job-") if name.startswith("job-") else None,
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return orjson.dumps({key: value for key, value in said.items() if value}).decode()


def _now(seconds: float | None = None) -> str:
    moment = time.time() if seconds is None else seconds
    return datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="milliseconds")
