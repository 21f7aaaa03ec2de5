"""How long a server with a thousand finished jobs needs to know them again.

python -m tests.benchmarks.restart [JOBS]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import requests

from tests.benchmarks.measuring import describe_machine
from tests.killable import running
from tests.slides import disks


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
            empty = server.start()
            server.stop()
            original = data / "jobs" / job.id
            for number in range(count - 1):
                shutil.copytree(original, data / "jobs" / f"{number:024x}")
            full = server.start()
            listed = requests.get(f"{server.url}/v1/jobs", timeout=30).json()["jobs"]
            again = list(server.client.job(f"{count // 2:024x}").events())
    assert len(listed) == count
    assert [event.seq for event in again] == [event.seq for event in events]
    print(f"\nuntil ready with one job        {empty:.2f} s")
    print(f"until ready with {count} jobs     {full:.2f} s")
    print(f"what the jobs add               {full - empty:.2f} s   (at most 2 s)")


if __name__ == "__main__":
    main()
