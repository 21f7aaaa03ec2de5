"""A worker process as seen by its engine: starting, messages, monitoring and stopping."""

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
"""How long a worker may take to exit by itself."""


class WorkerProcess:
    """A process that executes orders, and the engine's end of the pipe to it."""

    def __init__(self, models: ModelCatalogue, device: str, seen_mib: int, niceness: int) -> None:
        """Start the process, which reports when it is ready; see `lifeline.serve` for arguments."""
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        arguments = (theirs, pickle.dumps(models), device, seen_mib, niceness)
        self._process = context.Process(target=lifeline.serve, args=arguments, daemon=True)
        # with one worker per core, threads started by libraries would only interfere; the variables
        # must be set before the child process imports anything
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
            log.debug("worker %s has exited and closed its end of the pipe", self.pid)

    def hear(self) -> FromWorker | None:
        """Return its next message, None if it has died."""
        try:
            return cast(FromWorker, self.pipe.recv())
        except (EOFError, ConnectionError):
            return None

    def memory_mib(self) -> float:
        """Return its resident memory."""
        try:
            return float(psutil.Process(self.pid).memory_info().rss) / 2**20
        except psutil.Error:
            return 0.0  # the process has just died

    def kill(self) -> None:
        """Kill it; its pipe will then report that it has exited."""
        self._process.kill()

    def bury(self) -> int:
        """Clean up after the process has died; return its exit code."""
        self._process.join()
        self.pipe.close()
        assert self._process.exitcode is not None
        return self._process.exitcode

    def hang_up(self) -> None:
        """Make it exit once its current order is done."""
        self.pipe.close()

    def join(self) -> None:
        """Wait until it has exited; kill it if that takes too long."""
        self._process.join(CLOSE_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Block Ctrl-C, which a terminal sends to all processes, in child processes started in the
    block.

    A worker also ignores it itself, but only once it has imported something.
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
    """Set environment variables for the duration of a block."""
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
