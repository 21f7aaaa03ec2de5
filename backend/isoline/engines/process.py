"""One worker process as its engine sees it: start, tell, hear, measure, end."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import pickle
import signal
from collections.abc import Iterator
from typing import cast

import psutil

from isoline.engines import lifeline
from isoline.engines.messages import FromWorker, ToWorker
from isoline.models.catalogue import ModelCatalogue

log = logging.getLogger(__name__)

CLOSE_SECONDS = 5
"""How long a worker may take to end by itself."""


class WorkerProcess:
    """A process that serves orders, and our end of the pipe to it."""

    def __init__(self, models: ModelCatalogue, device: str, seen_mib: int, niceness: int) -> None:
        """Start it: it says when it is ready; `lifeline.serve` explains the arguments."""
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        arguments = (theirs, pickle.dumps(models), device, seen_mib, niceness)
        self._process = context.Process(target=lifeline.serve, args=arguments, daemon=True)
        # one worker per core: a library that starts threads of its own only gets in their way;
        # the variables must be there before the child imports anything
        one = _environment(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
        with one, _interrupts_held():
            self._process.start()
        theirs.close()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def tell(self, message: ToWorker) -> None:
        try:
            self.pipe.send(message)
        except ConnectionError:
            log.debug("worker %s is gone; its end of the pipe says so", self.pid)

    def hear(self) -> FromWorker | None:
        """Return what it says next, None where it has died."""
        try:
            return cast(FromWorker, self.pipe.recv())
        except (EOFError, ConnectionError):
            return None

    def memory_mib(self) -> float:
        """Return its resident memory."""
        try:
            return float(psutil.Process(self.pid).memory_info().rss) / 2**20
        except psutil.Error:
            return 0.0  # it has just died

    def kill(self) -> None:
        """End it at once; its pipe will say that it is gone."""
        self._process.kill()

    def bury(self) -> int:
        """Clean up after one that has died; return its exit code."""
        self._process.join()
        self.pipe.close()
        assert self._process.exitcode is not None
        return self._process.exitcode

    def hang_up(self) -> None:
        """Ask it to end once it has done what it is at."""
        self.pipe.close()

    def join(self) -> None:
        """Wait until it has ended, and see to that."""
        self._process.join(CLOSE_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let what is started in the block never hear Ctrl-C, which a terminal sends to all processes.

    A worker says so itself too, but only once it has imported something.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Set environment variables for the length of a block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
