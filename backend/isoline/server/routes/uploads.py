"""Uploads of pixels, for images that the server cannot see."""

from __future__ import annotations

from flask import Response, g, request

from isoline.images.uploads import MAX_SLICE_BYTES
from isoline.protocol.responses import (
    UploadJson,
    VolumeUploadJson,
    upload_json,
    volume_upload_json,
)
from isoline.protocol.upload_requests import parse_upload
from isoline.server.declarations import Body, Routes
from isoline.server.http import json_response
from isoline.server.services import Services
from isoline.sources.uploaded_volume import VolumeUploadRequest


def serve_uploads(routes: Routes, services: Services) -> None:
    """Add /v1/uploads."""
    uploads, audit = services.uploads, services.audit
    body = Body(services.settings.limits.body_mib << 20)

    @routes.post("/v1/uploads", body)
    def create_upload() -> Response:
        wanted = parse_upload(request.get_data())
        said: UploadJson | VolumeUploadJson
        if isinstance(wanted, VolumeUploadRequest):
            services.planner.check_upload(wanted)
            upload, volume = uploads.create_volume(wanted)
            said = volume_upload_json(upload, volume)
        else:
            upload, picture = uploads.create(wanted, services.planner.footprint(wanted))
            said = upload_json(upload, picture)
        audit.note(g.user.name, "upload", upload)
        return json_response(said, 201)

    @routes.put(
        "/v1/uploads/<upload>/tiles/<int:level>/<int:column>/<int:row>",
        Body(body.bytes, is_json=False),
    )
    def put_tile(upload: str, level: int, column: int, row: int) -> Response:
        uploads.put(upload, (level, column, row), request.get_data())
        return Response(status=204)

    @routes.put("/v1/uploads/<upload>/slices/<int:k>", Body(MAX_SLICE_BYTES, is_json=False))
    def put_slice(upload: str, k: int) -> Response:
        uploads.put(upload, (k,), request.get_data())
        return Response(status=204)

    @routes.delete("/v1/uploads/<upload>")
    def delete_upload(upload: str) -> Response:
        uploads.delete(upload)
        audit.note(g.user.name, "delete upload", upload)
        return Response(status=204)
