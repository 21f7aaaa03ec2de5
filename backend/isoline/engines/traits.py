"""What a scheduler asks, answered for each kind of task."""

from __future__ import annotations

from dataclasses import dataclass

from isoline import registry
from isoline.models.base import Bounded, Voxels
from isoline.work import Task


@dataclass(frozen=True)
class TaskTraits:
    """The `scheduler.Traits` of a task."""

    task: Task

    @property
    def interactive(self) -> bool:
        return self.task.asked is not None

    @property
    def lasting(self) -> bool:
        return isinstance(self.task.output, Voxels)

    @property
    def divisible(self) -> bool:
        bounded = isinstance(self.task.output, Bounded)
        if not bounded:
            return False
        return not registry.model(self.task.model, self.task.bundles).spec.fixed_tile

    @property
    def on_gpu(self) -> bool:
        return self.task.on_gpu

    @property
    def image(self) -> str:
        return self.task.fingerprint
