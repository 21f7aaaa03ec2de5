"""The Girder plugin: one source for Girder 3.2 and Girder 5.

settings     the server's address and token
server       the isoline server as Girder passes it on
images       an item as the isoline server sees it
runs         what was asked for, kept in the database; a thread per run stores what arrives
annotations  elements appended at flat cost, locked while they grow, replaced by a later run
rest         /api/v1/isoline/...
page         how the panel gets into the page
web/         the panel: plain JavaScript
cli/         the same for slicer_cli_web
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
        """Hook into Girder, which calls this once at its start."""
        getPlugin("large_image_annotation").load(info)
        if (viewer := getPlugin("histomicsui")) is not None:
            viewer.load(info)  # its page must be there before the panel
        settings.register()
        refuse_harmful_edits()
        info["apiRoot"].isoline = IsolineResource()
        page.serve_panel(info)
