"""Where weights, sample data, surveys and jobs are kept."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def default_directory() -> Path:
    """Return $ISOLINE_DATA, or where this platform keeps the data of a user's applications."""
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
