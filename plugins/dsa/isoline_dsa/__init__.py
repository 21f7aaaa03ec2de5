"""The Girder plugin, for Girder 3.2 and Girder 5.

settings     the server's address and token
server       a client of the isoline server
images       requests for an item, and the token that reads it
runs         runs in the database; a thread per run stores the results
annotations  appending elements at constant cost, locking, replacing the results of earlier runs
elements     annotation elements: grouping them, and detecting changes by a user
rest         /api/v1/isoline/...
page         loading the panel into the page
web/         the panel: plain JavaScript
cli/         a task for slicer_cli_web
"""

from __future__ import annotations

from typing import Any

from girder.plugin import GirderPlugin, getPlugin

from isoline_dsa import page, settings
from isoline_dsa.annotations import refuse_harmful_edits
from isoline_dsa.rest import IsolineResource

__all__ = ["IsolinePlugin"]


class IsolinePlugin(GirderPlugin):  # type: ignore[misc]
    """Adds /api/v1/isoline and the panel."""

    DISPLAY_NAME = "Isoline"

    def load(self, info: dict[str, Any]) -> None:
        """Register with Girder, which calls this once at startup."""
        getPlugin("large_image_annotation").load(info)
        if (viewer := getPlugin("histomicsui")) is not None:
            viewer.load(info)  # its page must be registered before the panel
        settings.register()
        refuse_harmful_edits()
        info["apiRoot"].isoline = IsolineResource()
        page.serve_panel(info)
