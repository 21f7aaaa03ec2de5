"""Jobs: submitting, following, looking elsewhere, cancelling."""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from flask import Response, g, request

from isoline.domain.batch import Batch
from isoline.domain.events import Contours, Mask, Started
from isoline.domain.request import SegmentRequest
from isoline.errors import NotSupported, StreamsTaken
from isoline.exports.encoder import Encoder
from isoline.exports.registry import EXPORTS
from isoline.jobs.job import Job, State
from isoline.jobs.queue import Jobs
from isoline.pipeline.kinds import Plan
from isoline.protocol import requests
from isoline.protocol.events import encode_event
from isoline.protocol.responses import CreatedJobJson, JobJson, JobsJson
from isoline.server.access import ADMIN, User
from isoline.server.declarations import Body, Routes
from isoline.server.http import caller as who_calls
from isoline.server.http import json_response
from isoline.server.services import Services

HEARTBEAT_SECONDS = 1.0
NDJSON, SSE = "application/x-ndjson", "text/event-stream"


def serve_jobs(routes: Routes, services: Services) -> None:
    """Add /v1/jobs and /v1/segment."""
    jobs, limits = services.jobs, services.settings.limits
    body_limit = Body(limits.body_mib << 20)
    streams = threading.BoundedSemaphore(limits.streams)
    prompt_streams = threading.BoundedSemaphore(limits.prompt_streams)

    def parsed() -> tuple[SegmentRequest, Plan, Encoder]:
        asked = requests.parse_request(request.get_data())
        plan = services.planner.plan(asked, who_calls())
        return asked, plan, EXPORTS.load(plan.format)()

    def note_run(job: str, plan: Plan) -> None:
        scope = plan.started.scope
        services.audit.note(g.user.name, "run", job, image=scope.image, model=scope.model)

    def submit(asked: SegmentRequest, plan: Plan, *, lasting: bool, key: str = "") -> Job:
        parks = bool(who_calls().tokens) and services.images.is_guarded(asked.image)
        if replaced := asked.replaces if isinstance(asked.replaces, str) else "":
            find(replaced).check_replaceable(plan)
        job = jobs.submit(
            request.get_data(),
            plan,
            owner=g.user.name,
            lasting=lasting,
            parks=parks,
            key=key,
            replaces=replaced,
        )
        note_run(job.id, plan)
        return job

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
        caller = who_calls()
        services.images.check(job.card.image, caller)
        if job.state is State.PARKED:
            jobs.resume(job, services.planner.plan(requests.parse_request(job.request), caller))

    def stream(
        places: threading.BoundedSemaphore,
        begin: Callable[[], _Followed],
        encoder: Encoder,
        after: int = -1,
    ) -> Response:
        """Answer with the events of what `begin` begins, which is called once a place is taken."""
        if not places.acquire(blocking=False):
            raise StreamsTaken("all event streams are taken", "try again in a few seconds")
        try:
            followed = begin()
        except BaseException:
            places.release()
            raise
        sse = request.accept_mimetypes.best_match([NDJSON, SSE]) == SSE
        lines = _lines(followed, jobs, encoder, after, sse=sse)
        services.metrics.stream_opened()

        def closed() -> None:
            places.release()
            services.metrics.stream_closed()
            followed.when_left()

        response = Response(lines, content_type=SSE if sse else NDJSON)
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Accel-Buffering"] = "no"  # nginx would hold events back
        response.call_on_close(closed)
        return response

    def follow(job: Job, after: int = -1) -> _Followed:
        return _Followed(job.follow(after, HEARTBEAT_SECONDS), lambda: job.started)

    @routes.post("/v1/jobs", body_limit)
    def create() -> Response:
        key = requests.parse_key(request.headers.get("Idempotency-Key", ""))
        job = jobs.submitted(g.user.name, key, request.get_data())
        if job is None:
            asked, plan, _ = parsed()
            job = submit(asked, plan, lasting=True, key=key)
        said: CreatedJobJson = {
            **_job_json(job, jobs.position(job)),
            "events": f"/v1/jobs/{job.id}/events",
            "share": job.card.share,
        }
        return json_response(said, 201)

    @routes.get("/v1/jobs")
    def list_jobs() -> Response:
        ended = requests.parse_integer(request.args.get("ended", "100"), "ended", 0, 100_000)
        positions = jobs.positions()
        latest = jobs.latest(partial(_owns, g.user), ended)
        said: JobsJson = {"jobs": [_job_json(job, positions.get(job.id, 0)) for job in latest]}
        return json_response(said)

    @routes.get("/v1/jobs/<job_id>")
    def state(job_id: str) -> Response:
        return json_response(_job_json(job := find(job_id), jobs.position(job)))

    @routes.patch("/v1/jobs/<job_id>", body_limit)
    def look(job_id: str) -> Response:
        job = find(job_id)
        job.focus(requests.parse_focus(request.get_data()))
        return json_response(_job_json(job, jobs.position(job)))

    @routes.delete("/v1/jobs/<job_id>")
    def cancel(job_id: str) -> Response:
        job = find(job_id)
        jobs.cancel(job)
        services.audit.note(g.user.name, "cancel", job.id)
        return json_response(_job_json(job, jobs.position(job)), 202)

    @routes.get("/v1/jobs/<job_id>/events")
    def events(job_id: str) -> Response:
        job = find(job_id)
        read_again(job)
        after = requests.parse_integer(request.args.get("after", "-1"), "after", -1, 2**53)
        if last := request.headers.get("Last-Event-ID"):
            after = requests.parse_integer(last, "Last-Event-ID", -1, 2**53)
        if job.is_over_after(after):
            return Response(status=204)
        name = request.args.get("format", job.card.format)
        encoder = EXPORTS.load(name)
        if encoder.kinds != EXPORTS.load(job.card.format).kinds:
            raise NotSupported(
                f"{name} cannot say what this job finds", f"ask for {job.card.format}"
            )
        return stream(streams, lambda: follow(job, after), encoder(), after)

    @routes.post("/v1/segment", body_limit)
    def segment() -> Response:
        asked, plan, encoder = parsed()

        def begin_job() -> _Followed:
            job = submit(asked, plan, lasting=False)
            return replace(follow(job), when_left=lambda: jobs.cancel(job))

        def begin_answer() -> _Followed:
            answer = jobs.answer(plan, g.user.name)
            note_run(answer.id, plan)
            batches = answer.follow(HEARTBEAT_SECONDS)
            return _Followed(batches, lambda: answer.plan.started, answer.stop)

        if asked.keep or not plan.transient or isinstance(asked.replaces, str):
            return stream(streams, begin_job, encoder)
        return stream(prompt_streams, begin_answer, encoder)


@dataclass(frozen=True)
class _Followed:
    """Events on their way to a client."""

    batches: Iterator[Batch | None]
    started: Callable[[], Started]
    """Returns the first event, once there is one."""
    when_left: Callable[[], None] = lambda: None
    """Is called when the client has gone or has read everything."""


def _lines(
    followed: _Followed, jobs: Jobs, encoder: Encoder, after: int, *, sse: bool
) -> Iterator[bytes]:
    """Yield the events as NDJSON lines or SSE messages, with a heartbeat between."""
    started: Started | None = None
    for batch in followed.batches:
        if batch is None:
            if jobs.closing:
                return  # the job is parked: readers come back to the next server
            yield b": heartbeat\n\n" if sse else b"\n"
            continue
        for seq, event in batch.numbered(after):
            if isinstance(event, Started | Contours | Mask):
                started = started or followed.started()
            line = encode_event(seq, event, started, encoder)
            yield b"id: %d\ndata: %b\n\n" % (seq, line) if sse else line + b"\n"


def _owns(user: User, job: Job) -> bool:
    return user.may(ADMIN) or (user.is_known and job.card.owner == user.name)


def _job_json(job: Job, position: int) -> JobJson:
    return {
        "job": job.id,
        "state": job.state.value,
        "image": job.card.image,
        "model": job.card.model,
        "position": position,
        "urgent": job.card.lane.urgent,
        "waits_for": job.waits_for,
        "seconds_waiting": round(job.seconds_waiting, 3),
        "tiles_done": job.progress.tiles_done,
        "tiles": job.progress.tiles,
        "seconds_left": job.progress.seconds_left,
        "objects": job.objects,
        "last_seq": job.last_seq,
    }
