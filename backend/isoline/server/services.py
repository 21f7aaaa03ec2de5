"""The services that routes call, created once when the server starts and passed as one value."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from isoline.config.settings import Settings
from isoline.engines.base import Bounds
from isoline.engines.local import LocalEngine
from isoline.images.catalog import Descriptions, Images, Resolver
from isoline.images.dicomweb import DicomWebImages
from isoline.images.file_uris import FileUris
from isoline.images.girder import GirderImages
from isoline.images.uploads import Uploads
from isoline.jobs.queue import Jobs
from isoline.models.catalogue import ModelCatalogue
from isoline.pipeline.kinds import Plan
from isoline.pipeline.planner import Planner
from isoline.pipeline.surveys import Surveys
from isoline.protocol import requests
from isoline.server.access import Access
from isoline.server.audit import Audit
from isoline.server.metrics import Metrics


@dataclass(frozen=True)
class Services:
    """The services that routes call."""

    settings: Settings
    images: Images
    archives: DicomWebImages
    models: ModelCatalogue
    planner: Planner
    engine: LocalEngine
    jobs: Jobs
    uploads: Uploads
    access: Access
    metrics: Metrics
    audit: Audit

    @classmethod
    def start(cls, settings: Settings) -> Services:
        """Start the workers and open the stores configured in `settings`."""
        uploads = Uploads(settings.uploads, settings.limits)
        archives = DicomWebImages.configured(settings)
        images = _images(settings, uploads, archives)
        models, metrics = ModelCatalogue.of(settings), Metrics()
        surveys = Surveys(settings.surveys, metrics.surveyed)
        planner = Planner(images, models, surveys, settings.limits)

        def prepare(body: bytes) -> Plan:
            # there is no caller any more, so remote images cannot be opened again
            return planner.plan(requests.parse_request(body))

        given = settings.engine
        engine = LocalEngine(
            given.worker_count,
            models,
            given.device,
            urgent_workers=given.urgent_workers,
            bounds=Bounds(given.tile_seconds, given.memory_mib, given.seen_mib),
            observer=metrics,
        )
        try:
            jobs = Jobs(settings.jobs, engine, settings.limits, prepare)
        except BaseException:
            engine.close()
            raise
        metrics.watch(jobs)
        audit = Audit(settings.data / "audit.log")
        # in parallel with the workers' own warm-up; finished jobs are served meanwhile
        threading.Thread(target=_warm, name="warm", daemon=True).start()
        access = Access(settings)
        return cls(
            settings,
            images,
            archives,
            models,
            planner,
            engine,
            jobs,
            uploads,
            access,
            metrics,
            audit,
        )

    def close(self) -> None:
        self.jobs.close()
        self.engine.close()


def _images(settings: Settings, uploads: Uploads, archives: DicomWebImages) -> Images:
    """Return the catalogue of all configured image stores."""
    descriptions = Descriptions()
    roots = Images(settings.images, descriptions=descriptions)
    resolvers: dict[str, Resolver] = {
        "file": FileUris(settings.file_uris, roots),
        "upload": uploads,
        "dicomweb": archives,
        "girder": GirderImages(settings.girder, descriptions.of),
    }
    return roots.also(resolvers)


def _warm() -> None:
    from isoline.inference import warmup

    warmup.assembly()
