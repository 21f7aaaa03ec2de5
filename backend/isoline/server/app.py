"""Assembling the HTTP API."""

from __future__ import annotations

from flask import Flask

from isoline.server.declarations import Routes, check_declared
from isoline.server.guard import guard
from isoline.server.monailabel import routes as monailabel
from isoline.server.problems import explain
from isoline.server.routes import ohif_plugin
from isoline.server.routes.catalogue import serve_catalogue
from isoline.server.routes.jobs import serve_jobs
from isoline.server.routes.segmentations import serve_segmentations
from isoline.server.routes.uploads import serve_uploads
from isoline.server.services import Services


def create_app(services: Services) -> Flask:
    """Return the WSGI application that serves `services`."""
    app = Flask("isoline", static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    guard(app, services.access, services.metrics, services.settings)
    explain(app)
    routes = Routes(app)
    serve_catalogue(routes, services)
    serve_uploads(routes, services)
    serve_jobs(routes, services)
    serve_segmentations(routes, services)
    app.register_blueprint(ohif_plugin.blueprint())
    if services.settings.monailabel.enabled:
        app.register_blueprint(
            monailabel.blueprint(services), url_prefix=services.settings.monailabel.prefix
        )
    check_declared(app)
    return app
