"""Read-only routes: health, models, images and their pixels, the OpenAPI document, the viewer."""

from __future__ import annotations

from dataclasses import astuple
from importlib import resources

import numpy as np
from flask import Response, request

from isoline import __version__
from isoline.errors import Broken
from isoline.geometry.grid import Rect
from isoline.models.catalogue import ModelCatalogue
from isoline.protocol import openapi, responses
from isoline.protocol.region_query import parse_region
from isoline.protocol.responses import (
    BrokenModelJson,
    HealthJson,
    ImagesJson,
    ModelJson,
    ModelsJson,
    ReadinessJson,
    ServerStatus,
)
from isoline.server import metrics
from isoline.server.declarations import Routes
from isoline.server.http import caller, json_response
from isoline.server.rendering import Regions
from isoline.server.services import Services


def serve_catalogue(routes: Routes, services: Services) -> None:
    """Add the routes for health, models, images, regions, the OpenAPI document and the viewer."""
    images, settings = services.images, services.settings
    regions = Regions(settings)

    @routes.get("/v1/health", scope=None)
    def health() -> Response:
        """Report that this process is alive, and its status."""
        body: HealthJson = {
            "status": _status(services),
            "version": __version__,
            "workers": services.engine.workers,
        }
        return json_response(body)

    @routes.get("/v1/health/ready", scope=None)
    def ready() -> Response:
        """Report whether requests should be sent here, with status 503 while they should not."""
        body: ReadinessJson = {"status": _status(services)}
        return json_response(body, 200 if body["status"] == "ready" else 503)

    @routes.get("/metrics")
    def prometheus() -> Response:
        return Response(services.metrics.text(), content_type=metrics.CONTENT_TYPE)

    @routes.get("/v1/models")
    def models() -> Response:
        names = services.models.names()
        body: ModelsJson = {"models": [_model(name, services.models) for name in names]}
        return json_response(body)

    @routes.get("/v1/images")
    def list_images() -> Response:
        body: ImagesJson = {"images": [*images.names()], "archives": sorted(settings.dicomweb)}
        return json_response(body)

    @routes.get("/v1/images/<path:name>")
    def image(name: str) -> Response:
        return json_response(responses.image_json(name, images.find(name, caller()).info))

    @routes.get("/v1/images/<path:name>/region")
    def region(name: str) -> Response:
        query = parse_region(request.args.to_dict(flat=False))
        found = images.find(name, caller()).of_series(query.series)
        if not query.is_raw:
            picture = regions.picture(found, query)
            return _placed(Response(picture.png, content_type="image/png"), picture.rect)
        pixels = regions.read(found, query)
        dtype = pixels.values.dtype
        values = np.ascontiguousarray(pixels.values, dtype.newbyteorder("<"))
        response = Response(values.tobytes(), content_type="application/octet-stream")
        response.headers["X-Isoline-Shape"] = ",".join(map(str, values.shape))
        response.headers["X-Isoline-Dtype"] = dtype.name
        return _placed(response, pixels.rect)

    @routes.get("/v1/openapi.json")
    def document() -> Response:
        return json_response(openapi.document())

    @routes.get("/", scope=None)
    def viewer() -> Response:
        page = resources.files("isoline.server").joinpath("web/viewer.html").read_bytes()
        return Response(page, content_type="text/html; charset=utf-8")


def _placed(response: Response, rect: Rect) -> Response:
    """Return `response` with the position of its pixels, in image coordinates."""
    response.headers["X-Isoline-Box"] = ",".join(map(str, astuple(rect)))
    return response


def _status(services: Services) -> ServerStatus:
    if services.engine.broken:
        return "broken"
    if services.jobs.closing:
        return "closing"
    return "ready" if services.engine.ready else "starting"


def _model(name: str, models: ModelCatalogue) -> ModelJson | BrokenModelJson:
    """Return what a viewer needs to offer the model, with the reason if it cannot run."""
    try:
        spec = models.get(name).spec
    except Broken as error:
        return {"name": name, "problem": str(error)}
    return responses.model_json(spec, models.problem(spec))
