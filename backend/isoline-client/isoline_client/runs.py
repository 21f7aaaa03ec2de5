"""Runs: a request that can be started again with other options."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

from isoline_client.client import Client
from isoline_client.errors import ClientError
from isoline_client.events import Started, event_of
from isoline_client.follower import Follower
from isoline_client.job import Job
from isoline_client.options import Json, Options
from isoline_client.store import Change, Slices, Store

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Run:
    """A request, its job, and what is shown of it. Not thread-safe.

        run = Run(client, "slide.svs", "nuclei", region=[0, 0, 4096, 4096]).start()
        while not run.is_over:
            draw(run.update(0.1))
        run.again(parameters={"min_score": 0.7})

    When a run is started again, its results replace the earlier ones as they arrive, as the
    protocol describes under "Running again".
    """

    def __init__(
        self,
        client: Client,
        image: str,
        model: str,
        *,
        on_lost: Callable[[str, float], object] | None = None,
        on_back: Callable[[], object] | None = None,
        **options: Unpack[Options],
    ) -> None:
        """Prepare a request; `start` sends it. `on_lost` and `on_back` are as in `Follower`."""
        self.client = client
        self.image = image
        self.model = model
        self.options = options
        self.store = Store()
        self._on_lost = on_lost
        self._on_back = on_back
        self._job: Job | None = None
        self._follower: Follower | None = None
        self._replaced: list[Follower] = []
        """Followers of replaced jobs, oldest first, that have not ended yet. The new run replaces
        only what their last events leave."""

    @classmethod
    def resume(
        cls,
        client: Client,
        bookmark: str,
        *,
        objects: Iterable[Json] = (),
        slices: Slices | None = None,
        on_lost: Callable[[str, float], object] | None = None,
        on_back: Callable[[], object] | None = None,
    ) -> Run:
        """Return the run of a `bookmark`, and follow its job.

        `objects` and `slices` are what the viewer has saved: `store.final()` and
        `store.final_slices()` at the time of the bookmark. Only later results are sent then;
        without them, all results of the job are sent again. Raises ValueError if the text is not a
        bookmark.
        """
        noted = _noted(bookmark)
        run = cls(client, noted["image"], noted["model"], on_lost=on_lost, on_back=on_back)
        run.options = noted["options"]
        store = Store.showing(objects, slices, kept=noted["kept"], kept_slices=noted["kept_slices"])
        if store.objects or store.slices:
            store.last_seq = noted["seq"]
            store.started = noted["started"] and _started(noted["started"])
            for job, seq in noted.get("replaced", ()):
                run._replaced.append(run._following(client.job(job), seq))
        run._follow(client.job(noted["job"]), store)
        return run

    @property
    def job(self) -> Job:
        """The job on the server; the latest one if the run was started again."""
        if self._job is None:
            raise RuntimeError("the run has no job yet; call start()")
        return self._job

    @property
    def follower(self) -> Follower:
        """The follower of the job."""
        if self._follower is None:
            raise RuntimeError("the run is not followed yet; call start()")
        return self._follower

    @property
    def is_over(self) -> bool:
        """Whether no more events will arrive; `error` is set if they ended before the job did."""
        return self.follower.is_over and not self._replaced

    @property
    def error(self) -> ClientError | None:
        """The reason why the events ended before the job did, or None."""
        return self.follower.error

    @property
    def bookmark(self) -> str:
        """The run as JSON text, for `resume`; save it together with the results."""
        started = self.store.started
        noted = {
            "job": self.job.id,
            "seq": self.store.last_seq,
            "replaced": [(each.job.id, each.seq) for each in self._replaced],
            "image": self.image,
            "model": self.model,
            "options": self.options,
            "kept": sorted(self.store.kept),
            "kept_slices": sorted(self.store.kept_slices),
            "started": started and asdict(started),
        }
        return json.dumps(noted)

    def start(self) -> Run:
        """Send the request and follow its job; return self.

        Returns once the server has accepted it. Raises ClientError if the server refuses it or
        cannot be reached.
        """
        if self._job is not None:
            raise RuntimeError("the run has already been started; call again()")
        return self.again()

    def again(self, **changes: Unpack[Options]) -> Run:
        """Send the request again, with some options changed; return self.

        The new results replace the earlier ones as they arrive, except those that the store keeps
        for the user. An earlier job that is still running is cancelled; `update` returns its last
        changes first. If ClientError is raised, as by `start`, the earlier job and its results
        stay.
        """
        options: Options = {**self.options, **changes}
        if self._job is None:
            store, job = self.store, self.client.submit(self.image, self.model, **options)
        else:
            store, job = self._in_its_place(self._job, options)
        self.options = options
        self._follow(job, store)
        return self

    def _in_its_place(self, earlier: Job, options: Options) -> tuple[Store, Job]:
        """Submit `options` in place of `earlier`, which the server may be unable to replace."""
        replacing: Options = {**options, "replaces": earlier.id}
        try:
            job = self.client.submit(self.image, self.model, **replacing)
        except ClientError as error:
            if error.code not in ("UnknownJob", "NotSupported"):
                raise
            alone: Options = {**options, "replaces": None}
            job = self.client.submit(self.image, self.model, **alone)
            return Store(self.store, is_known=False), job
        if not self.follower.is_over:
            self._replaced.append(self.follower)
            self._follower = None
        return Store(self.store), job

    def follow(self) -> Run:
        """Follow the job again, after an `error`; return self."""
        self._follow(self.job, self.store)
        return self

    def update(self, seconds: float = 0.0) -> Change:
        """Take all events that have arrived, and return the change to draw.

        Waits at most `seconds` for the first event.
        """
        while self._replaced:
            follower = self._replaced[0]
            if events := follower.drain(seconds):
                return self.store.take_replaced(*events)
            if not follower.is_over:
                return Change()
            del self._replaced[0]
        return self.store.take(*self.follower.drain(seconds))

    def cancel(self) -> None:
        """Cancel the job; its results so far are kept. Its last events still arrive."""
        self.job.cancel()

    def _follow(self, job: Job, store: Store) -> None:
        if self._follower is not None:
            self._follower.stop()
        self._job, self.store = job, store
        self._follower = self._following(job, store.last_seq)

    def _following(self, job: Job, after: int) -> Follower:
        return Follower(job, after, on_lost=self._on_lost, on_back=self._on_back).start()


def _noted(bookmark: str) -> Json:
    """Parse a bookmark. Raises ValueError."""
    try:
        noted = json.loads(bookmark)
    except json.JSONDecodeError:
        noted = None
    keys = {"job", "seq", "image", "model", "options", "kept", "kept_slices", "started"}
    if not isinstance(noted, dict) or not keys <= noted.keys():
        raise ValueError(f"{bookmark[:60]!r} is not a bookmark; pass the text of `Run.bookmark`")
    return noted


def _started(noted: Json) -> Started | None:
    event = event_of({"event": "started", **noted})
    return event if isinstance(event, Started) else None
