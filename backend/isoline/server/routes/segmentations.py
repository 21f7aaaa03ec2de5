"""Storing label maps in the archive of their series."""

from __future__ import annotations

from flask import Response, g, request

from isoline.protocol import requests
from isoline.protocol.responses import saved_json
from isoline.server.access import SAVE
from isoline.server.declarations import Body, Routes
from isoline.server.http import json_response
from isoline.server.services import Services


def serve_segmentations(routes: Routes, services: Services) -> None:
    """Add /v1/segmentations."""
    body = Body(services.settings.limits.body_mib << 20)

    @routes.post("/v1/segmentations", body, scope=SAVE)
    def save() -> Response:
        """Store a label map; storing the same one again returns 200 instead of 201."""
        from isoline.exports import archive

        saved = archive.save(requests.parse_save(request.get_data()), services.archives)
        services.audit.note(g.user.name, "save", saved.instance, series=saved.series)
        return json_response(saved_json(saved), 201 if saved.is_new else 200)
