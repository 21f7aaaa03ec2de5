"""Run the client with QuPath's own core, compiled from its sources; by hand before a release.

    python plugins/qupath/test/real_core.py CORE JAR [JAVA OPTION...]

CORE is a classpath: the classes of qupath-core and what it needs (gson, JTS, guava, commons-math3,
picocli, ImageJ, slf4j). qupath-core 0.5 compiles with javac 17 as it is, later ones need 21. JAR
is what `plugins/qupath/build` makes. Prints what happened, to be read.
"""

from __future__ import annotations

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


def main(core: str, jar: str, *options: str) -> None:
    """Compile RealCore, start two servers, and show what it says."""
    with tempfile.TemporaryDirectory() as folder:
        room = {name: Path(folder) / name for name in ("classes", "slides", "data", "nuclei")}
        for each in room.values():
            each.mkdir()
        classpath = os.pathsep.join([str(room["classes"]), core, jar])
        subprocess.run(["javac", "-cp", classpath, "-d", room["classes"], SOURCE], check=True)
        shapes = disks(room["slides"] / "disks.tif")
        y, x = (shapes.labels[2000:2400, 2000:2400] > 0).nonzero()
        place = str(2000.5 + int(x[0])), str(2000.5 + int(y[0]))
        mapping = "[file_uris]\n'/scans' = 'slides'\n"
        with (
            serving(room["slides"], room["data"], more=mapping) as url,
            serving_nuclei(room["nuclei"], 1_000_000) as many,
        ):
            asked = url, "file:///scans/disks.tif", *place, many, "file:///slides/white.tif"
            java = ["java", "-Xmx4g", *options, "-cp", classpath, "RealCore"]
            subprocess.run([*java, *asked], check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
