"""Loads the panel into HistomicsUI and into Girder's settings, without rebuilding either."""

from __future__ import annotations

import atexit
import logging
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

WEB = Path(__file__).parent / "web"
MODULES = (
    *("page", "attempt", "retry", "dom", "api", "shapes", "layers", "fields", "pointer", "objects"),
    *("prompting", "regions", "runs", "panel", "settings", "main"),
)
"""The files of the panel, each after those that it imports."""


def serve_panel(info: dict[str, Any]) -> None:
    """Have every page of Girder load the panel, which appears only in HistomicsUI."""
    try:
        from girder.plugin import registerPluginStaticContent
    except ImportError:
        _copy_into_built()
        return
    folder = Path(tempfile.mkdtemp(prefix="isoline-panel-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _write_into(folder)
    registerPluginStaticContent(
        plugin="isoline",
        css=["/plugin.min.css"],
        js=["/plugin.min.js"],
        staticDir=folder,
        tree=info["serverRoot"],
    )


def script() -> bytes:
    """Return the modules of the panel as one script that defines no global names.

    Girder 3 loads exactly one script per plugin, and not as a module.
    """
    joined = "\n".join((WEB / f"{name}.js").read_text(encoding="utf-8") for name in MODULES)
    plain = re.sub(r"^import .*;\n|^export ", "", joined, flags=re.MULTILINE)
    return f"(function () {{\n'use strict';\n{plain}}})();\n".encode()


def _copy_into_built() -> None:
    """Copy the panel to the folder in which Girder 3 looks for built plugins.

    Girder lists a plugin's file only while the plugin is loaded, so the file of an uninstalled
    plugin is never sent.
    """
    from girder.constants import STATIC_ROOT_DIR

    folder = Path(STATIC_ROOT_DIR) / "built" / "plugins" / "isoline"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_into(folder)
    except OSError as error:
        made = Path(tempfile.mkdtemp(prefix="isoline-panel-"))
        _write_into(made)
        log.error(
            "the Isoline panel cannot be installed: %s. Copy the two files in %s to %s, then "
            "restart Girder",
            error,
            made,
            folder,
        )


def _write_into(folder: Path) -> None:
    _replace(folder / "plugin.min.js", script())
    _replace(folder / "plugin.min.css", (WEB / "isoline.css").read_bytes())


def _replace(path: Path, content: bytes) -> None:
    """Write `path` atomically, since several processes may start at the same time."""
    if path.is_file() and path.read_bytes() == content:
        return
    handle, scratch = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    Path(scratch).chmod(0o644)
    Path(scratch).replace(path)
