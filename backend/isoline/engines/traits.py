"""What a scheduler asks, answered for each kind of task."""

from __future__ import annotations

from dataclasses import dataclass

from isoline.inference.task import Task
from isoline.models.base import Bounded, Voxels


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
        return isinstance(self.task.output, Bounded) and not self.task.spec.fixed_tile

    @property
    def on_gpu(self) -> bool:
        return self.task.on_gpu

    @property
    def image(self) -> str:
        return self.task.fingerprint
