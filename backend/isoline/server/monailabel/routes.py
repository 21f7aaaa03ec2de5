"""The routes of MONAI Label's API. Clients of all versions call them, so parsing is lenient.

GET, HEAD and DELETE never wait for a body: the Python client sends the content length of an earlier
call with them, but no body.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

from flask import Blueprint, Response, g, request
from werkzeug.exceptions import HTTPException

from isoline import __version__
from isoline.domain.request import Value
from isoline.errors import Broken, IsolineError, NotAuthenticated, NotFound
from isoline.models.base import Choice, ModelSpec
from isoline.models.catalogue import ModelCatalogue
from isoline.protocol.problems import http_status
from isoline.server.access import ADMIN, RUN, VIEW, Access, User
from isoline.server.declarations import NO_BODY, Body, Declaration, Routes
from isoline.server.monailabel import datastore as store
from isoline.server.monailabel.access import MAX_PASSWORD_BYTES, is_trusted
from isoline.server.monailabel.datastore import Datastore
from isoline.server.monailabel.forms import TEXT, FormReader
from isoline.server.monailabel.http import as_json, detail, not_available, whole
from isoline.server.monailabel.inference import Inference, label_indices
from isoline.server.monailabel.inference_routes import serve_batches, serve_inference
from isoline.server.monailabel.logs import Recent
from isoline.server.monailabel.names import Names
from isoline.server.monailabel.runs import Runner
from isoline.server.monailabel.sessions import SCHEME as SESSION
from isoline.server.monailabel.sessions import Sessions
from isoline.server.monailabel.store_routes import serve_images, serve_labels, serve_sessions
from isoline.server.problems import say_what_helps
from isoline.server.services import Services

log = logging.getLogger(__name__)


def blueprint(services: Services) -> Blueprint:
    """Return the routes, to register under `settings.monailabel.prefix`."""
    settings = services.settings
    given, folder = settings.monailabel, settings.data / "monailabel"
    datastore = Datastore(Path(given.datastore) if given.datastore else folder / "datastore")
    sessions = Sessions(folder / "sessions", given.sessions, given.session_hours * 3600)
    images = services.images.also({store.SCHEME: datastore, SESSION: sessions})
    planner = replace(services.planner, images=images)
    names = Names(datastore, images, services.archives)
    inference = Inference(
        images,
        names,
        sessions,
        Runner(services.jobs, planner, settings, services.audit),
        given.spacing_um,
        settings.limits.region_pixels,
        services.models,
        folder / "coming",
    )

    read = FormReader(given.upload_mib << 20, folder / "coming")

    def note(action: str, image: str) -> None:
        # image ids may contain patient names
        subject = hashlib.sha256(image.encode()).hexdigest()[:16]
        services.audit.note(g.user.name, action, subject)

    adapter = Blueprint("monailabel", __name__)
    _handle_errors(adapter)
    routes = Routes(adapter)
    _serve_info(routes, services.models, datastore)
    _serve_access(routes, services.access, read)
    serve_inference(routes, inference, read, partial(is_trusted, networks=given.trusted))
    serve_batches(routes, inference, datastore)
    serve_sessions(routes, sessions, read)
    serve_images(routes, datastore, names, read, note)
    serve_labels(routes, datastore, read, note)
    _serve_logs(routes)
    _serve_what_is_not_there(routes, read)
    return adapter


# --- Errors in the format that clients show -------------------------------------------------------


def _handle_errors(routes: Blueprint) -> None:
    @routes.errorhandler(IsolineError)
    def isoline_error(error: IsolineError) -> Response:
        if isinstance(error, Broken):
            log.error("%s", error)
        is_unknown = isinstance(error, NotAuthenticated)
        said = f"Could not validate credentials: {error}" if is_unknown else str(error)
        response = detail(said, http_status(error))
        say_what_helps(response, error)
        return response

    @routes.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        return detail(error.description or error.name, error.code or 500)


# --- The server's abilities ----------------------------------------------------------------------


def _serve_info(routes: Routes, models: ModelCatalogue, datastore: Datastore) -> None:
    @routes.get("/info/")
    def info() -> Response:
        specs = [spec for spec in models.specs().values() if models.problem(spec) is None]
        labels = dict.fromkeys(label.name for spec in specs for label in spec.labels)
        return as_json(
            {
                "name": "isoline",
                "description": "Segments whole slides tile by tile, exact across seams",
                "version": __version__,
                "labels": list(labels),
                "models": {spec.name: _model(spec) for spec in specs},
                "trainers": {},
                "strategies": {},
                "scoring": {},
                "train_stats": {},
                "datastore": datastore.status(),
            }
        )

    @routes.get("/model/info/<model>")
    def model_info(model: str) -> Response:
        spec = models.get(model).spec
        if not spec.weights:
            raise NotFound(f"{model} has no weights file", "it does not need one")
        path = models.files(spec)[spec.weights[0].file]
        return as_json(
            {
                "checksum": f"SHA256:{spec.weights[0].sha256}",
                "modified_time": int(path.stat().st_mtime),
            }
        )


def _model(spec: ModelSpec) -> dict[str, object]:
    """Return the description from which clients build forms; a list is a choice, default first."""
    config: dict[str, Value | list[str]] = {}
    for parameter in spec.parameters:
        config[parameter.name] = parameter.default
        if isinstance(parameter, Choice):
            others = [word for word in parameter.choices if word != parameter.default]
            config[parameter.name] = [parameter.default, *others]
    return {
        "type": _type(spec),
        "labels": label_indices(spec),
        "dimension": max(spec.dimensions),
        "description": spec.description,
        "config": config,
    }


def _type(spec: ModelSpec) -> str:
    """Return the model type, by which clients choose their user interface."""
    if not spec.prompts:
        return "segmentation"
    return "deepgrow" if 3 in spec.dimensions else "nuclick"


# --- Tokens --------------------------------------------------------------------------------------


def _serve_access(routes: Routes, access: Access, read: FormReader) -> None:
    @routes.get("/auth/", scope=None)
    def enabled() -> Response:
        return as_json({"enabled": not access.is_open, "client_id": "isoline", "realm": ""})

    @routes.post("/auth/token", Body(MAX_PASSWORD_BYTES, is_json=False), scope=None)
    def log_in() -> Response:
        """Return the token that was sent as the password, since there are no accounts."""
        if access.is_open:
            return as_json({"access_token": None, "token_type": None})
        password = read().fields.get("password", "")
        access.user(password)
        return as_json({"access_token": password, "token_type": "Bearer"})

    @routes.get("/auth/token/valid")
    def valid() -> Response:
        user: User = g.user
        roles = sorted(user.scopes)
        return as_json({"username": user.name, "email": None, "name": None, "roles": roles})


# --- The rest ------------------------------------------------------------------------------------


def _serve_logs(routes: Routes) -> None:
    recent = Recent()
    logging.getLogger("isoline").addHandler(recent)

    @routes.get("/logs/", scope=ADMIN)
    def logs() -> Response:
        lines = whole(request.args.get("lines", "300"))
        return Response(recent.tail(lines), content_type="text/plain; charset=utf-8")


def _serve_what_is_not_there(routes: Routes, read: FormReader) -> None:
    """Add training, scoring and active learning, with the responses of a MONAI Label without
    them."""

    @routes.post("/activelearning/<strategy>", TEXT)
    def next_sample(**_: str) -> Response:
        return as_json({})  # clients then report that there is no image left to label

    for kind, route in (("training", "train"), ("scoring", "scoring")):
        _serve_nothing(routes, kind, route)

    for method, scope in (("GET", VIEW), ("PUT", RUN), ("DELETE", RUN)):

        @routes.route(
            "/model/<model>", method, Declaration(scope, read.body if method == "PUT" else NO_BODY)
        )
        def weights(**_: str) -> Response:
            return not_available("exchanging weights")


def _serve_nothing(routes: Routes, kind: str, route: str) -> None:
    def status(**_: str) -> Response:
        return detail(f"No {kind} tasks found: {kind} is not available on this server", 404)

    def start(**_: str) -> Response:
        return not_available(kind)

    def stop(**_: str) -> Response:
        return as_json(None)

    for method, view, scope in (
        ("GET", status, VIEW), ("POST", start, RUN), ("DELETE", stop, RUN)
    ):  # fmt: skip
        for rule in (f"/{route}/", f"/{route}/<name>"):
            routes.route(rule, method, Declaration(scope, TEXT if method == "POST" else NO_BODY))(
                view
            )
