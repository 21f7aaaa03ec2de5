"""Whether a checkout is faster or slower than another: benchmarks run in turn, pair by pair.

    python -m tests.benchmarks.against OTHER_CHECKOUT [overlap responsiveness ...] [--pairs 7]

Each program runs whole in both checkouts, one after the other, so that drift of the machine hits
both. Printed is the ratio of their figures, this checkout / the other, where less is faster: the
median of the pairs and the interval that their middle half spans.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.measuring import describe_machine, median

HERE = Path(__file__).parents[2]


@dataclass(frozen=True)
class Program:
    """A benchmark and the one figure of it that is compared."""

    figure: str
    """A pattern whose group is the number."""
    arguments: tuple[str, ...] = ()
    more_is_faster: bool = False
    less: str = ""
    """A pattern of what is subtracted from the figure."""

    def cost(self, printed: str) -> float:
        """Return the mean of its figures as a cost. Raises ValueError where there is none."""
        mean = statistics.geometric_mean(_numbers(self.figure, printed))
        if self.less:
            mean -= statistics.fmean(_numbers(self.less, printed))
        return 1 / mean if self.more_is_faster else mean


def _numbers(pattern: str, printed: str) -> list[float]:
    found = [float(each) for each in re.findall(pattern, printed)]
    if not found:
        raise ValueError(f"nothing in the output matches {pattern!r}:\n{printed}")
    return found


PROGRAMS = {
    "overlap": Program(r"  wall +([\d.]+) \(", ("nuclei", "--runs", "1")),
    "responsiveness": Program(r"  first contour +([\d.]+)"),
    "objects": Program(r"([\d.]+) objects/s", more_is_faster=True),
    "prompt_overhead": Program(
        # of the two figures the first is of an idle server
        r"\A(?s:.*?)  POST /v1/segment +([\d.]+)",
        less=r"of which the worker +([\d.]+)",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", type=Path)
    parser.add_argument("programs", nargs="*", default=list(PROGRAMS))
    parser.add_argument("--pairs", type=int, default=7)
    options = parser.parse_args()
    print(describe_machine())
    for name in options.programs:
        ratios = []
        for _ in range(options.pairs):
            mine, others = _cost(HERE, name), _cost(options.other.resolve(), name)
            ratios.append(mine / others)
            print(f"  {name}: {mine:.4g} against {others:.4g}", flush=True)
        low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        print(f"{name:16} {median(ratios):.3f} ({low:.3f} to {high:.3f}), {len(ratios)} pairs")


def _cost(checkout: Path, name: str) -> float:
    """Run the program in `checkout` and return its figure as a cost."""
    _make_installed(checkout)
    program = PROGRAMS[name]
    folders = (checkout / "backend", checkout / "backend" / "isoline-client")
    path = os.pathsep.join(str(each) for each in folders if each.is_dir())
    ran = subprocess.run(
        [sys.executable, "-m", f"tests.benchmarks.{name}", *program.arguments],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return program.cost(ran.stdout)


def _make_installed(checkout: Path) -> None:
    """See that the entry points of `checkout` are found when its folder is on the path."""
    if not list((checkout / "backend").glob("*.egg-info")):
        command = [sys.executable, "setup.py", "-q", "egg_info"]
        subprocess.run(command, cwd=checkout, check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
