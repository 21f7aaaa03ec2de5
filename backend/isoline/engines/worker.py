"""The main loop of a worker process, which executes one order after the other."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from isoline.engines.messages import (
    Begin,
    Completed,
    Do,
    Dropped,
    Forget,
    Look,
    Part,
    Ready,
    Refusal,
    Reply,
)
from isoline.errors import Broken, IsolineError
from isoline.inference.task import Attention, Result, Task
from isoline.models.catalogue import ModelCatalogue

if TYPE_CHECKING:
    from isoline.inference.resources import Resources

log = logging.getLogger(__name__)


def serve(pipe: Connection, models: ModelCatalogue, device: str, seen_mib: int) -> None:
    """Execute orders until the pipe closes: the main function of a worker process."""
    import signal

    import cv2

    from isoline.inference import warmup
    from isoline.inference.resources import Resources

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    cv2.setNumThreads(1)
    resources = Resources(models, device, seen_mib)
    warmup.tiles()
    tasks: dict[int, Task] = {}
    attentions: dict[int, Attention] = {}
    waiting: deque[Do] = deque()

    def listen() -> None:
        match pipe.recv():
            case Begin(run, task):
                tasks[run], attentions[run] = task, Attention()
            case Look(run, slice_):
                attentions[run].slice = slice_
            case Do() as order:
                waiting.append(order)
            case Forget(run):
                tasks.pop(run, None)
                attentions.pop(run, None)
                for order in [order for order in waiting if order.run == run]:
                    waiting.remove(order)
                    # the scheduler may hold it for the one that is being computed
                    pipe.send(Dropped(order))

    def tell(order: Do, found: Result) -> bool:
        """Send an intermediate result; return whether the run still waits for more."""
        pipe.send(Part(order, found))
        while pipe.poll():
            listen()
        return order.run in tasks

    try:
        pipe.send(Ready())
        while True:
            # drain the pipe before each tile, so that cancelled runs are not computed to their end
            while not waiting or pipe.poll():
                listen()
            order = waiting.popleft()
            task, attention = tasks[order.run], attentions[order.run]
            pipe.send(Completed(order, _attempt(resources, task, attention, order, tell)))
    except (EOFError, ConnectionError):
        resources.close()


def _attempt(
    resources: Resources,
    task: Task,
    attention: Attention,
    order: Do,
    tell: Callable[[Do, Result], bool],
) -> Reply:
    tile = order.tile
    try:
        if tile is None:
            return task.survey(resources)
        if order.in_quarters:
            return task.compute_in_quarters(resources, tile)
        attention.threads = order.threads
        return _last(task.compute(resources, tile, attention), order, tell)
    except IsolineError as error:
        return Refusal(error)
    except MemoryError:
        return Refusal(Broken("out of memory", "use a smaller tile"), of_memory=True)
    except Exception as error:
        # models are third-party code: whatever one raises costs a tile, never the worker
        log.exception("%s failed on tile %s", task.model, tile and tile.place)
        return Refusal(Broken(f"{task.model} raised {type(error).__name__}: {error}"))


def _last(parts: Iterator[Result], order: Do, tell: Callable[[Do, Result], bool]) -> Result:
    """Send every part but the last, which is returned; stop if the run no longer waits."""
    last = next(parts)
    for part in parts:
        if not tell(order, last):
            break
        last = part
    return last
