"""How long a server with a thousand finished jobs needs until it knows them again.

    python -m tests.benchmarks.restart [JOBS]

Killed and started again. *Alive*: it answers, lists every job and has replayed one of them.
*Ready*: its workers can compute as well. Starts with one job and with many take turns. The CPU time
is that of the server without its workers; on a busy machine it says more than the clock.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import psutil
import requests

from tests.benchmarks.measuring import describe_machine, spread
from tests.killable import Server, running
from tests.slides import disks

STARTS = 3


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        # as after an installation: not every start compiles isoline anew
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = f"{folder}/compiled"
        images, data = Path(folder) / "images", Path(folder) / "data"
        images.mkdir()
        data.mkdir()
        disks(images / "disks.tif", (1500, 1200))
        with running(images, data, more="[engine]\nworkers = 2\n") as server:
            job = server.client.submit("slides/disks.tif", "threshold", tile=256)
            said = [event.seq for event in job.events()]
            server.kill()
            others = data / "others"
            for number in range(count - 1):
                shutil.copytree(data / "jobs" / job.id, others / f"{number:024x}")
            few, many = [], []
            for _ in range(STARTS):
                few.append(_start(server, job.id, said, 1))
                _move(others, data / "jobs")
                many.append(_start(server, job.id, said, count))
                _move(data / "jobs", others, keep=job.id)
            server.start()
    for number, starts in ((1, few), (count, many)):
        alive, ready, cpu = zip(*starts, strict=True)
        print(f"\nwith {number} finished jobs, until")
        print(f"  alive, all listed, one replayed   {spread(list(alive))} s   (at most 2 s)")
        print(f"    of it CPU time of the server    {spread(list(cpu))} s")
        print(f"  ready                             {spread(list(ready))} s")


def _start(server: Server, job: str, said: list[int], jobs: int) -> tuple[float, float, float]:
    """Return the seconds until the server is alive and until it is ready, and of CPU; kill it."""
    began = time.monotonic()
    server.launch()
    server.wait_until("starting", "ready")
    listed = requests.get(f"{server.url}/v1/jobs?ended={jobs}", timeout=30).json()["jobs"]
    replayed = [event.seq for event in server.client.job(job).events()]
    alive, cpu = time.monotonic() - began, _cpu_seconds(server)
    server.wait_until("ready")
    ready = time.monotonic() - began
    assert len(listed) == jobs
    assert replayed == said
    server.kill()
    return alive, ready, cpu


def _cpu_seconds(server: Server) -> float:
    """Return what the server, without its workers, has used so far."""
    assert server.process is not None
    times = [each.cpu_times() for each in (psutil.Process(server.process.pid), server.main)]
    return float(sum(each.user + each.system for each in times))


def _move(source: Path, target: Path, keep: str = "") -> None:
    for directory in source.iterdir():
        if directory.name != keep:
            directory.rename(target / directory.name)


if __name__ == "__main__":
    main()
