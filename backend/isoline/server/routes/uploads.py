"""Uploads of pixels, for images that the server cannot see."""

from __future__ import annotations

from flask import Response, g, request

from isoline.protocol import requests
from isoline.protocol.responses import upload_json
from isoline.server.declarations import Body, Routes
from isoline.server.http import json_response
from isoline.server.services import Services


def serve_uploads(routes: Routes, services: Services) -> None:
    """Add /v1/uploads."""
    uploads, audit = services.uploads, services.audit
    body = Body(services.settings.limits.body_mib << 20)

    @routes.post("/v1/uploads", body)
    def create_upload() -> Response:
        wanted = requests.parse_upload(request.get_data())
        upload, manifest = uploads.create(wanted, services.planner.footprint(wanted))
        audit.note(g.user.name, "upload", upload)
        return json_response(upload_json(upload, manifest), 201)

    @routes.put(
        "/v1/uploads/<upload>/tiles/<int:level>/<int:column>/<int:row>",
        Body(body.bytes, is_json=False),
    )
    def put_tile(upload: str, level: int, column: int, row: int) -> Response:
        uploads.put(upload, level, column, row, request.get_data())
        return Response(status=204)

    @routes.delete("/v1/uploads/<upload>")
    def delete_upload(upload: str) -> Response:
        uploads.delete(upload)
        audit.note(g.user.name, "delete upload", upload)
        return Response(status=204)
