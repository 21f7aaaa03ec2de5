"""Kill a server at random moments; the result has to be that of an undisturbed run.

    python -m tests.benchmarks.soak [KILLS]

Server and workers by turns, by SIGKILL, while two jobs run: areas that are united over seams and
instances of any size. One reader stays on the first and ten on the second, and each has to hear
every event once. Then a reader stops reading for a minute, while the server computes on in flat
memory.
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from isoline import client as api
from isoline.client import Options
from tests.benchmarks.measuring import describe_machine, spread
from tests.killable import Server, digest, running
from tests.slides import disks
from tests.stalled import Stalled, noise

SLIDE, NOISE = "slides/disks.tif", "slides/noise.png"
WORK: tuple[tuple[str, Options], ...] = (
    ("slow", {"parameters": {"seconds": 0.15}, "region": [0, 0, 2560, 2560]}),
    ("threshold", {"parameters": {"below": 180, "output": "instances"}, "tile": 256}),
)
READING = (0, *[1] * 10)
"""Which job each reader follows."""
GONE_SECONDS = 5.0
"""So long after the server was killed its workers may still be there."""
STALLED_SECONDS = 60.0
MORE = "[engine]\nworkers = 2\n"


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        images, calm, rough = (Path(folder) / name for name in ("images", "calm", "rough"))
        for directory in (images, calm, rough):
            directory.mkdir()
        disks(images / "disks.tif")
        with running(images, calm, more=MORE) as server:
            jobs = [server.client.submit(SLIDE, model, **options) for model, options in WORK]
            undisturbed = [list(job.events()) for job in jobs]
        with running(images, rough, more=MORE) as server:
            _disturb(server, kills, undisturbed)
            _stall(server)


def _disturb(server: Server, kills: int, undisturbed: list[list[api.Event]]) -> None:
    moments = random.Random(7)
    done_kills, rounds, orphans = 0, 0, 0
    restarts: list[float] = []
    while done_kills < kills:
        rounds += 1
        jobs = [server.client.submit(SLIDE, model, **options) for model, options in WORK]
        heard: list[list[api.Event]] = [[] for _ in READING]
        readers = [
            threading.Thread(target=_hear, args=(jobs[which], into), daemon=True)
            for which, into in zip(READING, heard, strict=True)
        ]
        for reader in readers:
            reader.start()
        while done_kills < kills and any(reader.is_alive() for reader in readers):
            time.sleep(moments.uniform(0.1, 2.0))
            if done_kills % 3 == 2:
                for worker in server.workers[: moments.choice([1, 2, 3])]:
                    worker.kill()
            else:
                workers = server.kill()
                orphans += len(psutil.wait_procs(workers, timeout=GONE_SECONDS)[1])
                restarts.append(server.start())
            done_kills += 1
            print(f"  kill {done_kills}, round {rounds}", flush=True)
        for reader in readers:
            reader.join(300)
        for which, events in zip(READING, heard, strict=True):
            assert isinstance(events[-1], api.Done), events[-1]
            assert [event.seq for event in events] == list(range(len(events)))
            assert digest(events) == digest(undisturbed[which])
            assert events[-1].tiles_failed == 0
    print(f"\n{done_kills} kills in {rounds} rounds: every result is that of an undisturbed run,")
    print("every event was heard once")
    print(f"  workers left behind     {orphans}")
    print(f"  until ready again       {spread(restarts)} s")


def _stall(server: Server) -> None:
    """Let a reader stop in the middle of a long stream."""
    noise(server.images / "noise.png")
    options: Options = {"parameters": {"below": 128}, "tile": 256}
    whole = [event.seq for event in server.client.submit(NOISE, "threshold", **options).events()]
    before = server.main.memory_info().rss
    job = server.client.submit(NOISE, "threshold", **options)
    most, jobs_done = before, 0
    until = time.monotonic() + STALLED_SECONDS
    with Stalled(server.port, job.id) as reader:
        while time.monotonic() < until:
            end = list(server.client.submit(SLIDE, "threshold", **WORK[1][1]).events())[-1]
            assert isinstance(end, api.Done), end
            jobs_done += 1
            most = max(most, server.main.memory_info().rss)
        assert job.state()["state"] == "done"
        assert [event["seq"] for event in reader.read_on()] == whole
    print(f"a reader that did not read for {STALLED_SECONDS:g} s: its job and {jobs_done} others")
    print(f"were done, memory grew by {(most - before) / 2**20:.0f} MiB, it then heard everything")


def _hear(job: api.Job, into: list[api.Event]) -> None:
    into.extend(_patiently(job))


def _patiently(job: api.Job) -> Iterator[api.Event]:
    after = -1
    while True:
        try:
            for event in job.events(after):
                after = event.seq
                yield event
            return
        except api.ClientError as error:
            if error.status != 0:
                raise


if __name__ == "__main__":
    main()
