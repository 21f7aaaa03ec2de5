"""A worker process: it answers one order after the other with the images and models it has open."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from isoline.domain.events import Objects
from isoline.engines.messages import Answer, Begin, Do, Forget, Look, Part, Ready, Refusal, Reply
from isoline.errors import Broken, IsolineError
from isoline.geometry.tiling import Tile, quarters
from isoline.inference import results
from isoline.inference.task import Computed, Masked, Stages, Task
from isoline.models.base import Voxels
from isoline.models.catalogue import ModelCatalogue
from isoline.models.volumetric import Gaze

if TYPE_CHECKING:
    from isoline.inference.predictor import Workbench

log = logging.getLogger(__name__)


def serve(pipe: Connection, models: ModelCatalogue, device: str, seen_mib: int) -> None:
    """Answer orders until the pipe closes: the main function of a worker process."""
    import signal

    import cv2

    from isoline.inference import warmup
    from isoline.inference.predictor import Workbench

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    cv2.setNumThreads(1)
    bench = Workbench(models, device, seen_mib)
    warmup.tiles()
    tasks: dict[int, Task] = {}
    gazes: dict[int, Gaze] = {}
    waiting: deque[Do] = deque()

    def listen() -> None:
        match pipe.recv():
            case Begin(run, task):
                tasks[run], gazes[run] = task, Gaze(task.look or 0)
            case Look(run, slice_):
                gazes[run].k = slice_
            case Do() as order:
                waiting.append(order)
            case Forget(run):
                tasks.pop(run, None)
                gazes.pop(run, None)
                for order in [order for order in waiting if order.run == run]:
                    waiting.remove(order)

    def tell(order: Do, found: Masked) -> bool:
        """Pass on what was found in a volume; return whether anybody still waits for more."""
        pipe.send(Part(order, found))
        while pipe.poll():
            listen()
        return order.run in tasks

    try:
        pipe.send(Ready())
        while True:
            # drain the pipe before each tile, so that a run given up is not computed to its end
            while not waiting or pipe.poll():
                listen()
            order = waiting.popleft()
            task, gaze = tasks[order.run], gazes[order.run]
            pipe.send(Answer(order, _attempt(bench, task, gaze, order, tell)))
    except (EOFError, ConnectionError):
        bench.close()


def _attempt(
    bench: Workbench, task: Task, gaze: Gaze, order: Do, tell: Callable[[Do, Masked], bool]
) -> Reply:
    tile = order.tile
    try:
        if tile is None:
            return bench.survey(task)
        if task.asked is not None:
            return bench.answer(task, tile)
        if isinstance(task.output, Voxels):
            return _segment(bench.segment(task, tile, gaze, order.threads), order, tell)
        return _in_quarters(bench, task, tile) if order.in_quarters else bench.compute(task, tile)
    except IsolineError as error:
        return Refusal(error)
    except MemoryError:
        return Refusal(Broken("out of memory", "use a smaller tile"), of_memory=True)
    except Exception as error:
        # a model is someone else's code: whatever it raises costs one tile, never the worker
        log.exception("%s failed on tile %s", task.model, tile and tile.place)
        return Refusal(Broken(f"{task.model} raised {type(error).__name__}: {error}"))


def _in_quarters(bench: Workbench, task: Task, tile: Tile) -> Computed:
    """Return what `tile` gives; an object belongs to the quarter that its anchor lies in."""
    parts = [bench.compute(task, quarter) for quarter in quarters(tile)]
    stages = Stages(
        sum(part.stages.read for part in parts),
        sum(part.stages.infer for part in parts),
        sum(part.stages.contour for part in parts),
    )
    objects = [part.found for part in parts if isinstance(part.found, Objects)]
    return Computed(tile, results.concatenate(objects), stages)


def _segment(parts: Iterator[Masked], order: Do, tell: Callable[[Do, Masked], bool]) -> Masked:
    """Tell every part but the last, which is the answer; stop where nobody waits any more."""
    last = next(parts)
    for part in parts:
        if not tell(order, last):
            break
        last = part
    return last
