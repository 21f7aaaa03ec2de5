"""The HTTP API: routes to calls and errors to problems, no logic of its own."""

from __future__ import annotations

import hmac
import io
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass
from importlib import resources

import orjson
from flask import Flask, Response, request
from PIL import Image
from werkzeug.exceptions import HTTPException

from isoline import __version__, openapi, pictures, pipeline, registry, wire
from isoline.config import Settings
from isoline.encoders.base import Encoder
from isoline.engines.local import LocalEngine
from isoline.errors import Broken, IsolineError, NotAllowed, http_status
from isoline.file_uris import FileUris
from isoline.images import Caller, Descriptions, Images, Resolver
from isoline.jobs import Job, Jobs
from isoline.sources.girder import GirderImages
from isoline.surveys import Surveys
from isoline.uploads import Uploads
from isoline.weights import weight_files

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 1.0
NDJSON, SSE = "application/x-ndjson", "text/event-stream"


@dataclass(frozen=True)
class Backend:
    """What the routes call."""

    settings: Settings
    images: Images
    engine: LocalEngine
    jobs: Jobs
    uploads: Uploads

    @classmethod
    def start(cls, settings: Settings) -> Backend:
        """Start the workers and open the stores that `settings` name."""
        engine = LocalEngine(settings.engine.worker_count, settings.weights, settings.engine.device)
        jobs = Jobs(settings.jobs, engine, Surveys(settings.surveys), settings.limits)
        uploads = Uploads(settings.uploads, settings.limits)
        resolvers: dict[str, Resolver] = {
            "file": FileUris(settings.file_uris, Images(settings.images)),
            "upload": uploads,
            "girder": GirderImages(settings.girder, settings.server.token, Descriptions().of),
        }
        return cls(settings, Images(settings.images, resolvers), engine, jobs, uploads)

    def close(self) -> None:
        self.jobs.close()
        self.engine.close()


def create_app(backend: Backend) -> Flask:
    """Return the WSGI application that serves `backend`."""
    app = Flask("isoline", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = backend.settings.limits.body_mib << 20
    app.json.sort_keys = False  # type: ignore[attr-defined]
    _guard(app, backend.settings)
    _serve_catalogue(app, backend)
    _serve_uploads(app, backend.uploads)
    _serve_jobs(app, backend)
    return app


# --- Who may call, and what they hear when something is wrong ----------------------------------


def _guard(app: Flask, settings: Settings) -> None:
    token = settings.server.token.encode()

    @app.before_request
    def check_token() -> None:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ").encode()
        public = request.method == "OPTIONS" or request.path in ("/v1/health", "/")
        if token and not public and not hmac.compare_digest(token, given):
            raise NotAllowed("this server wants a token", "send Authorization: Bearer TOKEN")

    @app.after_request
    def allow_origin(response: Response) -> Response:
        origin = request.headers.get("Origin")
        if origin and origin in settings.server.allow_origins:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Methods"] = "GET, POST, PUT, PATCH, DELETE"
            response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type"
            response.vary.add("Origin")
        return response

    @app.errorhandler(IsolineError)
    def isoline_error(error: IsolineError) -> Response:
        if isinstance(error, Broken):
            log.error("%s", error)
        response = _problem(http_status(error), error)
        if response.status_code == 429:
            response.headers["Retry-After"] = "5"
        return response

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        remedy = {
            404: "see /v1/openapi.json for the routes",
            405: "see /v1/openapi.json for the methods",
            413: f"send at most {settings.limits.body_mib} MiB",
        }
        code = error.code or 500
        return _problem(code, IsolineError(error.description or error.name, remedy.get(code, "")))

    @app.errorhandler(Exception)
    def bug(error: Exception) -> Response:
        log.exception("%s %s", request.method, request.path)
        return _problem(500, Broken(f"{type(error).__name__} in the server", "see its log"))


def _problem(status: int, error: IsolineError) -> Response:
    return Response(wire.problem(error), status, content_type="application/problem+json")


def _caller() -> Caller:
    """Return who asks, as the keepers of images elsewhere know them."""
    token = request.headers.get("Girder-Token")
    return Caller({"girder": token} if token else {})


def _json(value: object, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, content_type="application/json")


# --- What there is -----------------------------------------------------------------------------


def _serve_catalogue(app: Flask, backend: Backend) -> None:
    images, settings = backend.images, backend.settings

    @app.get("/v1/health")
    def health() -> Response:
        return _json(
            {
                "status": "ready" if backend.engine.ready else "starting",
                "version": __version__,
                "workers": backend.engine.workers,
            }
        )

    @app.get("/v1/models")
    def models() -> Response:
        return _json({"models": [_model(name, settings) for name in registry.model_names()]})

    @app.get("/v1/images")
    def list_images() -> Response:
        return _json({"images": list(images.names())})

    @app.get("/v1/images/<path:name>")
    def image(name: str) -> Response:
        return _json(wire.image_json(name, images.find(name, _caller()).info))

    @app.get("/v1/images/<path:name>/region")
    def region(name: str) -> Response:
        box = wire.parse_box(request.args.get("box"))
        side = wire.parse_integer(request.args.get("size", "1024"), "size", 1, 8192)
        picture = pictures.render(
            images.find(name, _caller()), box, side, settings.limits.region_pixels
        )
        buffer = io.BytesIO()
        Image.fromarray(picture.pixels).save(buffer, "PNG", compress_level=1)
        response = Response(buffer.getvalue(), content_type="image/png")
        response.headers["X-Isoline-Box"] = ",".join(map(str, astuple(picture.rect)))
        return response

    @app.get("/v1/openapi.json")
    def document() -> Response:
        return _json(openapi.document())

    @app.get("/")
    def viewer() -> Response:
        page = resources.files("isoline").joinpath("viewer.html").read_bytes()
        return Response(page, content_type="text/html; charset=utf-8")


def _model(name: str, settings: Settings) -> Mapping[str, object]:
    """Return what a viewer needs to offer the model, and why it cannot run, None where it can."""
    try:
        spec = registry.model(name).spec
    except Broken as error:
        return {"name": name, "problem": str(error)}
    try:
        weight_files(spec, settings.weights)
        problem = None
    except IsolineError as error:
        problem = str(error)
    return {**wire.model_json(spec), "problem": problem}


# --- Pixels of images that the server does not see ---------------------------------------------


def _serve_uploads(app: Flask, uploads: Uploads) -> None:
    @app.post("/v1/uploads")
    def create_upload() -> Response:
        asked = wire.parse_upload(request.get_data())
        upload, manifest = uploads.create(asked, pipeline.footprint(asked))
        return _json(wire.upload_json(upload, manifest), 201)

    @app.put("/v1/uploads/<upload>/tiles/<int:level>/<int:column>/<int:row>")
    def put_tile(upload: str, level: int, column: int, row: int) -> Response:
        uploads.put(upload, level, column, row, request.get_data())
        return Response(status=204)

    @app.delete("/v1/uploads/<upload>")
    def delete_upload(upload: str) -> Response:
        uploads.delete(upload)
        return Response(status=204)


# --- Jobs --------------------------------------------------------------------------------------


def _serve_jobs(app: Flask, backend: Backend) -> None:
    jobs, limits = backend.jobs, backend.settings.limits
    streams = threading.BoundedSemaphore(limits.streams)

    def submit() -> tuple[Job, Encoder]:
        body = request.get_data()
        asked = wire.parse_request(body)
        prepared = pipeline.prepare(asked, backend.images, backend.settings.weights, _caller())
        return jobs.submit(body, prepared), registry.encoder(asked.format)()

    def stream(job: Job, encoder: Encoder, after: int, when_left: Callable[[], None]) -> Response:
        if not streams.acquire(blocking=False):
            when_left()
            busy = IsolineError("all event streams are taken", "try again in a few seconds")
            response = _problem(503, busy)
            response.headers["Retry-After"] = "5"
            return response
        sse = request.accept_mimetypes.best_match([NDJSON, SSE]) == SSE
        lines = _lines(job, encoder, after, sse=sse)

        def closed() -> None:
            streams.release()
            when_left()

        response = Response(lines, content_type=SSE if sse else NDJSON)
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Accel-Buffering"] = "no"  # nginx would hold events back
        response.call_on_close(closed)
        return response

    @app.post("/v1/jobs")
    def create() -> Response:
        job, _ = submit()
        return _json(_job(jobs, job) | {"events": f"/v1/jobs/{job.id}/events"}, 201)

    @app.get("/v1/jobs")
    def list_jobs() -> Response:
        return _json({"jobs": [_job(jobs, job) for job in jobs.all()]})

    @app.get("/v1/jobs/<job_id>")
    def state(job_id: str) -> Response:
        return _json(_job(jobs, jobs.get(job_id)))

    @app.patch("/v1/jobs/<job_id>")
    def look(job_id: str) -> Response:
        job = jobs.get(job_id)
        job.focus(wire.parse_focus(request.get_data()))
        return _json(_job(jobs, job))

    @app.delete("/v1/jobs/<job_id>")
    def cancel(job_id: str) -> Response:
        job = jobs.get(job_id)
        jobs.cancel(job)
        return _json(_job(jobs, job), 202)

    @app.get("/v1/jobs/<job_id>/events")
    def events(job_id: str) -> Response:
        job = jobs.get(job_id)
        last = request.headers.get("Last-Event-ID") or request.args.get("after", "-1")
        after = wire.parse_integer(last, "after", -1, 2**53)
        name = request.args.get("format", job.prepared.format)
        return stream(job, registry.encoder(name)(), after, lambda: None)

    @app.post("/v1/segment")
    def segment() -> Response:
        job, encoder = submit()
        return stream(job, encoder, -1, lambda: jobs.cancel(job))


def _lines(job: Job, encoder: Encoder, after: int, *, sse: bool) -> Iterator[bytes]:
    """Yield the events of `job` as NDJSON lines or SSE messages, with a heartbeat between."""
    for batch in job.follow(after, HEARTBEAT_SECONDS):
        if batch is None:
            yield b": heartbeat\n\n" if sse else b"\n"
            continue
        for seq, event in batch.numbered(after):
            line = wire.encode_event(seq, event, job.prepared.started, encoder)
            yield b"id: %d\ndata: %b\n\n" % (seq, line) if sse else line + b"\n"


def _job(jobs: Jobs, job: Job) -> dict[str, object]:
    return {
        "job": job.id,
        "state": job.state.value,
        "image": job.prepared.started.image,
        "model": job.prepared.started.scope.model,
        "position": jobs.position(job),
        "tiles_done": job.progress.tiles_done,
        "tiles": job.progress.tiles,
        "seconds_left": job.progress.seconds_left,
        "objects": job.objects,
    }
