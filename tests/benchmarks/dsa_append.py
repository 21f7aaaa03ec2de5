"""What a batch of 50 contours costs in an annotation that is empty, and in one that is full.

    python -m tests.benchmarks.dsa_append

To reach: at 9,500 elements at most 1.3 times the first batches.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from isoline.demo.slide import SAMPLE_SLIDE
from isoline.models import downloads
from tests.benchmarks.measuring import describe_machine, median, spread
from tests.dsa.stack import running

SCRIPT = Path(__file__).parents[1] / "dsa" / "inside_append.py"


def main() -> None:
    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        slide = downloads.fetch(SAMPLE_SLIDE)
        with running(Path(folder), slide) as stack:
            seconds = json.loads(stack.inside(SCRIPT, stack.item).splitlines()[-1])
    first, full = ([1000 * each for each in seconds[key]] for key in ("first", "full"))
    print(f"first batches     {spread(first, 1)} ms")
    print(f"at 9,500 elements {spread(full, 1)} ms")
    print(f"ratio             {median(full) / median(first):.2f}, to reach 1.3")


if __name__ == "__main__":
    main()
