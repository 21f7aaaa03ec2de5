"""The HTTP API: routes to calls and errors to problems, no logic of its own."""

from __future__ import annotations

import hmac
import io
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass
from functools import partial
from importlib import resources

import orjson
from flask import Flask, Request, Response, g, request
from PIL import Image
from werkzeug.exceptions import HTTPException, MethodNotAllowed, UnsupportedMediaType

from isoline import __version__
from isoline.config.settings import Settings
from isoline.domain.events import Contours, Mask, Started
from isoline.domain.request import SegmentRequest
from isoline.engines.local import Bounds, LocalEngine
from isoline.errors import Broken, IsolineError, NotSupported
from isoline.exports.base import Encoder
from isoline.exports.registry import EXPORTS
from isoline.images.catalog import Caller, Descriptions, Images, Resolver
from isoline.images.dicomweb import DicomWebImages
from isoline.images.file_uris import FileUris
from isoline.images.girder import GirderImages
from isoline.images.uploads import Uploads
from isoline.jobs.job import Job, State
from isoline.jobs.queue import Jobs, QueueFull
from isoline.models.catalogue import ModelCatalogue
from isoline.pipeline import tiled
from isoline.pipeline.surveys import Surveys
from isoline.protocol import openapi, requests
from isoline.protocol.problems import http_status
from isoline.server import metrics, rendering
from isoline.server.access import ADMIN, ANYBODY, RUN, SAVE, VIEW, Access, User
from isoline.server.audit import Audit
from isoline.server.metrics import Metrics
from isoline.server.monailabel import access as monailabel
from isoline.server.monailabel import routes as monailabel_routes
from isoline.server.routes import ohif_plugin as ohif_files
from isoline.sources.volume import check_size

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 1.0
NDJSON, SSE = "application/x-ndjson", "text/event-stream"


@dataclass(frozen=True)
class Backend:
    """What the routes call."""

    settings: Settings
    images: Images
    models: ModelCatalogue
    engine: LocalEngine
    jobs: Jobs
    uploads: Uploads
    access: Access
    metrics: Metrics
    audit: Audit

    @classmethod
    def start(cls, settings: Settings) -> Backend:
        """Start the workers and open the stores that `settings` name."""
        uploads = Uploads(settings.uploads, settings.limits)
        resolvers: dict[str, Resolver] = {
            "file": FileUris(settings.file_uris, Images(settings.images)),
            "upload": uploads,
            "dicomweb": DicomWebImages.configured(settings),
            "girder": GirderImages(settings.girder, Descriptions().of),
        }
        images = Images(settings.images, resolvers)
        models = ModelCatalogue.of(settings)

        def prepare(body: bytes) -> tiled.Prepared:
            # nobody asks any more: images that are kept elsewhere are not opened again
            asked = requests.parse_request(body)
            return tiled.prepare(asked, images, models)

        metrics = Metrics()
        given = settings.engine
        engine = LocalEngine(
            given.worker_count,
            models,
            given.device,
            urgent_workers=given.urgent_workers,
            bounds=Bounds(given.tile_seconds, given.memory_mib, given.seen_mib),
            metrics=metrics,
        )
        try:
            surveys = Surveys(settings.surveys, metrics.surveyed)
            jobs = Jobs(settings.jobs, engine, surveys, settings.limits, prepare)
        except BaseException:
            engine.close()
            raise
        metrics.watch(jobs)
        audit = Audit(settings.data / "audit.log")
        # beside the workers, which see to themselves: what has ended is served meanwhile
        threading.Thread(target=_warm, name="warm", daemon=True).start()
        return cls(
            settings, images, models, engine, jobs, uploads, Access(settings), metrics, audit
        )

    def close(self) -> None:
        self.jobs.close()
        self.engine.close()


def _warm() -> None:
    from isoline.inference import warmup

    warmup.assembly()


def create_app(backend: Backend) -> Flask:
    """Return the WSGI application that serves `backend`."""
    app = Flask("isoline", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = backend.settings.limits.body_mib << 20
    app.json.sort_keys = False  # type: ignore[attr-defined]
    _guard(app, backend)
    _explain(app, backend.settings)
    _serve_catalogue(app, backend)
    _serve_uploads(app, backend.uploads, backend.models, backend.audit)
    _serve_jobs(app, backend)
    _serve_segmentations(app, backend)
    app.register_blueprint(ohif_files.blueprint())
    if backend.settings.monailabel.enabled:
        app.register_blueprint(
            monailabel_routes.blueprint(backend), url_prefix=backend.settings.monailabel.prefix
        )
    return app


# --- Who may call, and what they hear when something is wrong ----------------------------------


PUBLIC = ("/", "/v1/health", "/v1/health/ready")
SAFE = ("GET", "HEAD", "OPTIONS")


def _guard(app: Flask, backend: Backend) -> None:
    access, settings = backend.access, backend.settings

    @app.before_request
    def check_access() -> None:
        g.began, g.user = time.perf_counter(), ANYBODY
        access.check_host(request.host)
        if request.method not in SAFE:
            access.check_origin(request.headers.get("Origin"), request.host)
        public = request.method == "OPTIONS" or request.path in PUBLIC
        public = public or request.path.startswith(ohif_files.PREFIX)
        if public or monailabel.is_open(request, settings.monailabel):
            return
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        g.user = access.user(token.strip() if kind.lower() == "bearer" else "")
        g.user.must(_scope_of(request))

    @app.before_request
    def check_content_type() -> None:
        # a form of another site can send anything but this
        body = request.method in ("POST", "PATCH") and request.path.startswith("/v1/")
        if (
            body
            and request.routing_exception is None
            and request.mimetype not in ("", "application/json")
        ):
            raise UnsupportedMediaType("the body is not said to be JSON")

    @app.after_request
    def measure(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule is not None else ""
        seconds = time.perf_counter() - g.get("began", time.perf_counter())
        backend.metrics.answered(route, request.method, response.status_code, seconds)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        return response

    @app.after_request
    def allow_origin(response: Response) -> Response:
        origin = request.headers.get("Origin")
        if origin and origin in settings.server.allow_origins:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Methods"] = "GET, POST, PUT, PATCH, DELETE"
            response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type"
            response.vary.add("Origin")
        return response


def _scope_of(asked: Request) -> str:
    """Return the scope that `asked` takes."""
    if asked.method in SAFE:
        return VIEW
    return SAVE if monailabel.keeps(asked) or asked.path == SEGMENTATIONS else RUN


def _explain(app: Flask, settings: Settings) -> None:
    """Turn errors into problems."""

    @app.errorhandler(IsolineError)
    def isoline_error(error: IsolineError) -> Response:
        if isinstance(error, Broken):
            log.error("%s", error)
        response = _problem(http_status(error), error)
        if response.status_code == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        if response.status_code == 429:
            wait = error.retry_after if isinstance(error, QueueFull) else 5
            response.headers["Retry-After"] = str(wait)
        return response

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        remedy = {
            404: "see /v1/openapi.json for the routes",
            405: "see /v1/openapi.json for the methods",
            413: f"send at most {settings.limits.body_mib} MiB",
            415: "send Content-Type: application/json",
        }
        code = error.code or 500
        what = IsolineError(error.description or error.name, remedy.get(code, ""))
        response = _problem(code, what)
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
        return response

    @app.errorhandler(Exception)
    def bug(error: Exception) -> Response:
        log.exception("%s %s", request.method, request.path)
        return _problem(500, Broken(f"{type(error).__name__} in the server", "see its log"))


def _problem(status: int, error: IsolineError) -> Response:
    body = requests.problem(error, status)
    if isinstance(error, QueueFull):
        body = orjson.dumps(orjson.loads(body) | {"position": error.position})
    return Response(body, status, content_type="application/problem+json")


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
        """Say that this process is alive, and what it is doing."""
        return _json(
            {
                "status": _status(backend),
                "version": __version__,
                "workers": backend.engine.workers,
            }
        )

    @app.get("/v1/health/ready")
    def ready() -> Response:
        """Say whether requests should be sent here: 503 while they should not."""
        status = _status(backend)
        return _json({"status": status}, 200 if status == "ready" else 503)

    @app.get("/metrics")
    def prometheus() -> Response:
        return Response(backend.metrics.text(), content_type=metrics.CONTENT_TYPE)

    @app.get("/v1/models")
    def models() -> Response:
        return _json({"models": [_model(name, backend.models) for name in backend.models.names()]})

    @app.get("/v1/images")
    def list_images() -> Response:
        return _json({"images": list(images.names()), "archives": sorted(settings.dicomweb)})

    @app.get("/v1/images/<path:name>")
    def image(name: str) -> Response:
        return _json(requests.image_json(name, images.find(name, _caller()).info))

    @app.get("/v1/images/<path:name>/region")
    def region(name: str) -> Response:
        box = requests.parse_box(request.args.get("box"))
        side = requests.parse_integer(request.args.get("size", "1024"), "size", 1, 8192)
        picture = rendering.render(
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
        page = resources.files("isoline.server").joinpath("web/viewer.html").read_bytes()
        return Response(page, content_type="text/html; charset=utf-8")


def _status(backend: Backend) -> str:
    if backend.engine.broken:
        return "broken"
    if backend.jobs.closing:
        return "closing"
    return "ready" if backend.engine.ready else "starting"


def _model(name: str, models: ModelCatalogue) -> Mapping[str, object]:
    """Return what a viewer needs to offer the model, and why it cannot run, None where it can."""
    try:
        spec = models.get(name).spec
    except Broken as error:
        return {"name": name, "problem": str(error)}
    return requests.model_json(spec, models.problem(spec))


# --- Pixels of images that the server does not see ---------------------------------------------


def _serve_uploads(app: Flask, uploads: Uploads, models: ModelCatalogue, audit: Audit) -> None:
    @app.post("/v1/uploads")
    def create_upload() -> Response:
        asked = requests.parse_upload(request.get_data())
        upload, manifest = uploads.create(asked, tiled.footprint(asked, models))
        audit.note(g.user.name, "upload", upload)
        return _json(requests.upload_json(upload, manifest), 201)

    @app.put("/v1/uploads/<upload>/tiles/<int:level>/<int:column>/<int:row>")
    def put_tile(upload: str, level: int, column: int, row: int) -> Response:
        uploads.put(upload, level, column, row, request.get_data())
        return Response(status=204)

    @app.delete("/v1/uploads/<upload>")
    def delete_upload(upload: str) -> Response:
        uploads.delete(upload)
        audit.note(g.user.name, "delete upload", upload)
        return Response(status=204)


# --- Keeping labelmaps in the archive ----------------------------------------------------------


SEGMENTATIONS = "/v1/segmentations"


def _serve_segmentations(app: Flask, backend: Backend) -> None:
    archives = DicomWebImages.configured(backend.settings)

    @app.post(SEGMENTATIONS)
    def save() -> Response:
        """Store a labelmap; the same one again is answered with 200 instead of 201."""
        from isoline.exports import archive

        saved = archive.save(requests.parse_save(request.get_data()), archives)
        backend.audit.note(g.user.name, "save", saved.instance, series=saved.series)
        return _json(requests.saved_json(saved), 201 if saved.is_new else 200)


# --- Jobs --------------------------------------------------------------------------------------


def _serve_jobs(app: Flask, backend: Backend) -> None:
    jobs, limits = backend.jobs, backend.settings.limits
    streams = threading.BoundedSemaphore(limits.streams)
    prompt_streams = threading.BoundedSemaphore(limits.prompt_streams)

    def prepare(asked: SegmentRequest, caller: Caller) -> tiled.Prepared:
        prepared = tiled.prepare(asked, backend.images, backend.models, caller)
        if prepared.started.volume is not None:
            check_size(asked.image, prepared.started.volume.grid, limits.volume_mib)
        return prepared

    def submit(*, lasting: bool) -> tuple[Job, Encoder]:
        body = request.get_data()
        asked = requests.parse_request(body)
        caller = _caller()
        prepared = prepare(asked, caller)
        parks = bool(caller.tokens) and backend.images.is_guarded(asked.image)
        job = jobs.submit(body, prepared, owner=g.user.name, lasting=lasting, parks=parks)
        scope = prepared.started.scope
        backend.audit.note(g.user.name, "run", job.id, image=scope.image, model=scope.model)
        return job, EXPORTS.load(asked.format)()

    def find(job_id: str) -> Job:
        """Return a job that the caller may see. Raises UnknownJob as if it were not there."""
        job = jobs.get(job_id)
        shown = request.headers.get("Isoline-Share") or request.args.get("share", "")
        shared = hmac.compare_digest(shown.encode(), job.card.share.encode())
        if not shared and not _owns(g.user, job):
            raise jobs.unknown(job_id)
        return job

    def read_again(job: Job) -> None:
        """Ask whether the caller may read the image of `job`; go on with it if it waits for that.

        Raises NotAllowed, UnknownImage or Unreadable.
        """
        caller = _caller()
        backend.images.check(job.card.image, caller)
        if job.state is State.PARKED:
            jobs.resume(job, prepare(requests.parse_request(job.request), caller))

    def stream(job: Job, encoder: Encoder, after: int, when_left: Callable[[], None]) -> Response:
        places = prompt_streams if job.card.prompted else streams
        if not places.acquire(blocking=False):
            when_left()
            busy = IsolineError("all event streams are taken", "try again in a few seconds")
            response = _problem(503, busy)
            response.headers["Retry-After"] = "5"
            return response
        sse = request.accept_mimetypes.best_match([NDJSON, SSE]) == SSE
        lines = _lines(jobs, job, encoder, after, sse=sse)

        backend.metrics.stream_opened()

        def closed() -> None:
            places.release()
            backend.metrics.stream_closed()
            when_left()

        response = Response(lines, content_type=SSE if sse else NDJSON)
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Accel-Buffering"] = "no"  # nginx would hold events back
        response.call_on_close(closed)
        return response

    @app.post("/v1/jobs")
    def create() -> Response:
        job, _ = submit(lasting=True)
        links = {"events": f"/v1/jobs/{job.id}/events", "share": job.card.share}
        return _json(_job(job, jobs.position(job)) | links, 201)

    @app.get("/v1/jobs")
    def list_jobs() -> Response:
        ended = requests.parse_integer(request.args.get("ended", "100"), "ended", 0, 100_000)
        positions = jobs.positions()
        latest = jobs.latest(partial(_owns, g.user), ended)
        return _json({"jobs": [_job(job, positions.get(job.id, 0)) for job in latest]})

    @app.get("/v1/jobs/<job_id>")
    def state(job_id: str) -> Response:
        return _json(_job(job := find(job_id), jobs.position(job)))

    @app.patch("/v1/jobs/<job_id>")
    def look(job_id: str) -> Response:
        job = find(job_id)
        job.focus(requests.parse_focus(request.get_data()))
        return _json(_job(job, jobs.position(job)))

    @app.delete("/v1/jobs/<job_id>")
    def cancel(job_id: str) -> Response:
        job = find(job_id)
        jobs.cancel(job)
        backend.audit.note(g.user.name, "cancel", job.id)
        return _json(_job(job, jobs.position(job)), 202)

    @app.get("/v1/jobs/<job_id>/events")
    def events(job_id: str) -> Response:
        job = find(job_id)
        read_again(job)
        last = request.headers.get("Last-Event-ID", request.args.get("after", "-1"))
        after = requests.parse_integer(last, "after", -1, 2**53)
        name = request.args.get("format", job.card.format)
        encoder = EXPORTS.load(name)
        if encoder.masks != EXPORTS.load(job.card.format).masks:
            raise NotSupported(
                f"{name} cannot say what this job finds", f"ask for {job.card.format}"
            )
        return stream(job, encoder(), after, lambda: None)

    @app.post("/v1/segment")
    def segment() -> Response:
        job, encoder = submit(lasting=False)
        return stream(job, encoder, -1, lambda: jobs.cancel(job))


def _lines(jobs: Jobs, job: Job, encoder: Encoder, after: int, *, sse: bool) -> Iterator[bytes]:
    """Yield the events of `job` as NDJSON lines or SSE messages, with a heartbeat between."""
    started: Started | None = None
    for batch in job.follow(after, HEARTBEAT_SECONDS):
        if batch is None:
            if jobs.closing:
                return  # the job is parked: readers come back to the next server
            yield b": heartbeat\n\n" if sse else b"\n"
            continue
        for seq, event in batch.numbered(after):
            if isinstance(event, Started | Contours | Mask):
                started = started or job.started
            line = requests.encode_event(seq, event, started, encoder)
            yield b"id: %d\ndata: %b\n\n" % (seq, line) if sse else line + b"\n"


def _owns(user: User, job: Job) -> bool:
    return user.may(ADMIN) or (user.is_known and job.card.owner == user.name)


def _job(job: Job, position: int) -> dict[str, object]:
    return {
        "job": job.id,
        "state": job.state.value,
        "image": job.card.image,
        "model": job.card.model,
        "position": position,
        "urgent": job.card.urgent,
        "waits_for": job.waits_for,
        "seconds_waiting": round(job.seconds_waiting, 3),
        "tiles_done": job.progress.tiles_done,
        "tiles": job.progress.tiles,
        "seconds_left": job.progress.seconds_left,
        "objects": job.objects,
    }
