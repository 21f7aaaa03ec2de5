"""A result returned from memory, without a directory or a journal.

The caller receives the batches as they arrive; a crash of the server interrupts them, and the
client repeats the request.
"""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Iterator

from isoline.domain.batch import Batch
from isoline.domain.events import Failed
from isoline.engines.engine import Engine
from isoline.errors import failure_of
from isoline.pipeline.kinds import Plan
from isoline.pipeline.succession import NOTHING, succeed


class Answer:
    """The result of one transient plan, computed while it is followed."""

    def __init__(self, plan: Plan, engine: Engine, owner: str = "") -> None:
        """Start computing for `owner`."""
        self.id = secrets.token_hex(12)
        self.plan = plan.named(self.id)
        self._engine = engine
        self._agenda = self.plan.agenda(owner)
        self._batches = queue.SimpleQueue[Batch | None]()
        thread = threading.Thread(target=self._run, name=f"answer-{self.id}", daemon=True)
        thread.start()

    def follow(self, wait: float) -> Iterator[Batch | None]:
        """Yield the batches until the end; None whenever `wait` seconds pass without one."""
        while True:
            try:
                batch = self._batches.get(timeout=wait)
            except queue.Empty:
                yield None
                continue
            if batch is None:
                return
            yield batch

    def stop(self) -> None:
        """Cancel the computation."""
        self._agenda.cancel()

    def _run(self) -> None:
        last_seq = -1
        try:
            for batch in succeed(self.plan, NOTHING, self._engine, self._agenda):
                last_seq = batch.last_seq
                self._batches.put(batch)
        except Exception as error:  # a kind of work may be third-party code
            self._batches.put(Batch(last_seq + 1, None, (Failed(*failure_of(error)),)))
        finally:
            self._batches.put(None)
