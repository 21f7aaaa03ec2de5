"""The audit log of who ran, cancelled, saved and deleted what and when; and JSON logging.

Neither contains image names, since file names may contain patient names. Jobs are identified by
their id, images by the fingerprint of their content.
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
        """Record that `user` performed `action` on `subject`, an id."""
        line = {"time": _now(), "user": user, "action": action, "subject": subject, **more}
        # a single write to a file opened for appending, so lines never interleave
        try:
            with self._path.open("ab", buffering=0) as file:
                file.write(orjson.dumps(line) + b"\n")
        except OSError as error:  # a full disk must not prevent anyone from cancelling
            log.error("the audit log cannot be written: %s: %s", error.strerror, line)


class JsonLines(logging.Formatter):
    """A machine-readable log: one JSON object per line, with the job it refers to."""

    def format(self, record: logging.LogRecord) -> str:
        name = record.threadName or threading.current_thread().name
        fields = {
            "time": _now(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "job": name.removeprefix("job-") if name.startswith("job-") else None,
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return orjson.dumps({key: value for key, value in fields.items() if value}).decode()


def _now(seconds: float | None = None) -> str:
    moment = time.time() if seconds is None else seconds
    return datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="milliseconds")
