"""Volume work in a worker: slices as they are labelled, coarse before fine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from isoline.domain import mask_rle
from isoline.domain.events import Mask
from isoline.errors import Broken
from isoline.geometry.tiling import Tile
from isoline.inference.resources import Resources
from isoline.inference.task import Attention, Result, Task
from isoline.models.volumetric import Gaze, Scan, Step, VolumeModel
from isoline.sources.volume import VolumeSource


@dataclass(frozen=True)
class VolumePart(Result):
    """The results in a volume since the last part, while its single tile is being computed."""

    tile: Tile
    done: float
    """Share of the work, 0 to 1."""
    mask: Mask | None = None
    notes: tuple[str, ...] = ()
    """What reading the volume has shown, and the user should know."""


@dataclass(frozen=True, kw_only=True)
class VolumeTask(Task):
    """A task for one volume, a single tile with many results."""

    look: int
    """The slice k that the user was looking at when they sent the request."""
    have: frozenset[int] = frozenset()
    """Slices already delivered before a restart."""

    lasting: ClassVar[bool] = True

    def without(self, have: frozenset[int]) -> VolumeTask:
        """Return the task with the slices `have` marked as already delivered."""
        return replace(self, have=have)

    def compute(
        self, resources: Resources, tile: Tile, attention: Attention
    ) -> Iterator[VolumePart]:
        source, model = self.source(resources), self.load_model(resources)
        if not isinstance(source, VolumeSource) or not isinstance(model, VolumeModel):
            raise Broken(f"{self.model} declares voxels but is not a volume model")
        volume, gaze = source.volume, Gaze(self.look)
        scan = Scan(
            source.voxels(),
            volume.grid,
            volume.modality,
            self.parameters,
            self.look,
            gaze,
            self.have,
            attention.threads,
        )
        if source.notes:
            yield VolumePart(tile, 0.0, notes=source.notes)
        for step in model.segment(scan):
            yield VolumePart(tile, step.done, self._mask(step))
            if attention.slice is not None:
                gaze.k = attention.slice

    def _mask(self, step: Step) -> Mask | None:
        """Return the slices of `step` that have not been delivered before, None if there are
        none."""
        new = [n for n, k in enumerate(step.slices) if k not in self.have]
        if step.labels is None or not new:
            return None
        slices = [step.slices[n] for n in new]
        return mask_rle.encode(step.labels[new], slices, provisional=step.provisional)
