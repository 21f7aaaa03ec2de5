"""How long a server with a thousand finished jobs needs to know them again.

python -m tests.benchmarks.restart [JOBS]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import requests

from tests.benchmarks.measuring import describe_machine, spread
from tests.killable import Server, running
from tests.slides import disks

STARTS = 3


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        images, data = Path(folder) / "images", Path(folder) / "data"
        images.mkdir()
        data.mkdir()
        disks(images / "disks.tif", (1500, 1200))
        with running(images, data, more="[engine]\nworkers = 2\n") as server:
            job = server.client.submit("slides/disks.tif", "threshold", tile=256)
            events = list(job.events())
            server.stop()
            few = _starts(server)
            original = data / "jobs" / job.id
            for number in range(count - 1):
                shutil.copytree(original, data / "jobs" / f"{number:024x}")
            many = _starts(server)
            server.start()
            listed = requests.get(f"{server.url}/v1/jobs", timeout=30).json()["jobs"]
            again = list(server.client.job(f"{count // 2:024x}").events())
    assert len(listed) == count
    assert [event.seq for event in again] == [event.seq for event in events]
    print(f"\nuntil ready with one job        {spread(few)} s")
    print(f"until ready with {count} jobs     {spread(many)} s")
    print(f"what the jobs add, least        {min(many) - min(few):.2f} s   (at most 2 s)")


def _starts(server: Server) -> list[float]:
    """Return how long each of a few starts took; the server is stopped again."""
    taken = []
    for _ in range(STARTS):
        taken.append(server.start())
        server.stop()
    return taken


if __name__ == "__main__":
    main()
