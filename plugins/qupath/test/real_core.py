"""Run the client with QuPath's own core, compiled from its sources; manually before a release.

    python plugins/qupath/test/real_core.py [--objects 100000] JAR CORE [CORE...]

JAR is the result of `plugins/qupath/build`. CORE is a classpath: the classes of qupath-core and its
dependencies (gson, JTS, guava, commons-math3, picocli, ImageJ, slf4j). Unmodified qupath-core 0.5
compiles with javac 17, 0.6 with 21, 0.7 with 25; the `java` on the PATH must be as new as the
newest of them. The output is to be read by a person.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.benchmarks.qupath_stream import serving_nuclei
from tests.serving import serving
from tests.slides import disks

SOURCE = Path(__file__).parent / "RealCore.java"


def main(jar: str, cores: list[str], objects: int) -> None:
    """Start two servers, and run RealCore with each of `cores`."""
    with tempfile.TemporaryDirectory() as folder:
        room = {name: Path(folder) / name for name in ("slides", "data", "nuclei")}
        for each in room.values():
            each.mkdir()
        shapes = disks(room["slides"] / "disks.tif")
        y, x = (shapes.labels[2000:2400, 2000:2400] > 0).nonzero()
        place = str(2000.5 + int(x[0])), str(2000.5 + int(y[0]))
        mapping = "[file_uris]\n'/scans' = 'slides'\n"
        with (
            serving(room["slides"], room["data"], more=mapping) as url,
            serving_nuclei(room["nuclei"], objects) as many,
        ):
            asked = url, "file:///scans/disks.tif", *place, many, "file:///slides/white.tif"
            for core in cores:
                classes = tempfile.mkdtemp(dir=folder)
                classpath = os.pathsep.join([classes, core, jar])
                subprocess.run(["javac", "-cp", classpath, "-d", classes, SOURCE], check=True)
                sys.stdout.write(f"--- {core.split(os.pathsep)[0]}\n")
                sys.stdout.flush()
                subprocess.run(["java", "-Xmx4g", "-cp", classpath, "RealCore", *asked], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("jar")
    parser.add_argument("cores", nargs="+")
    given = parser.parse_args()
    main(given.jar, given.cores, given.objects)
