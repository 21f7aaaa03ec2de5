"""How the panel gets into HistomicsUI and Girder's settings, with nothing to rebuild."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

WEB = Path(__file__).parent / "web"


def serve_panel(info: dict[str, Any]) -> None:
    """Have every page of Girder load the panel; it shows itself in HistomicsUI only."""
    try:
        from girder.plugin import registerPluginStaticContent
    except ImportError:
        _copy_into_built()
        return
    registerPluginStaticContent(
        plugin="isoline",
        css=["/isoline.css"],
        js=["/isoline.js"],
        staticDir=WEB,
        tree=info["serverRoot"],
    )


def _copy_into_built() -> None:
    """Put the panel where Girder 3 looks for what plugins have built.

    Girder lists a plugin's file only while the plugin is loaded, so one that was left behind by
    an uninstalled plugin is never sent.
    """
    from girder.constants import STATIC_ROOT_DIR

    folder = Path(STATIC_ROOT_DIR) / "built" / "plugins" / "isoline"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for suffix in ("js", "css"):
            _write(folder / f"plugin.min.{suffix}", (WEB / f"isoline.{suffix}").read_bytes())
    except OSError as error:
        log.error(
            "the Isoline panel cannot be installed: %s. Copy %s/isoline.js and isoline.css to %s "
            "as plugin.min.js and plugin.min.css, then restart Girder",
            error,
            WEB,
            folder,
        )


def _write(path: Path, content: bytes) -> None:
    """Replace `path` in one step: several processes may start at once."""
    if path.is_file() and path.read_bytes() == content:
        return
    handle, scratch = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    Path(scratch).chmod(0o644)
    Path(scratch).replace(path)
