"""What is mutated, and which tests have to notice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

BACKEND = Path(__file__).parents[2] / "backend"


@dataclass(frozen=True)
class Target:
    """Modules that one set of tests answers for."""

    name: str
    modules: tuple[str, ...]
    tests: tuple[str, ...]
    """Files below the directory of tests, or test ids; all of them quick and in one process."""
    but_for: tuple[str, ...] = ()
    """Tests of these that take too long to ask them about every mutant."""
    compiled: bool = False
    """Whether numba compiles the modules: their mutants run as Python."""


def path_of(module: str) -> Path:
    """Return where the source of an isoline module lies."""
    return BACKEND.joinpath(*module.split(".")).with_suffix(".py")


TARGETS = (
    Target(
        "geometry",
        ("isoline.geometry", "isoline.region"),
        ("test_plan.py", "test_region.py"),
        ("test_region.py::test_tiles_are_chosen_as_one_by_one",),
    ),
    Target(
        "volume geometry",
        ("isoline.volume_geometry", "isoline.orientation", "isoline.resampling"),
        ("test_volume_geometry.py",),
    ),
    Target("tiling", ("isoline.plan",), ("test_plan.py", "test_region.py")),
    Target(
        "polygons",
        ("isoline.contours",),
        ("test_contours.py", "test_stitch.py"),
        ("test_contours.py::test_importing_compiles_nothing",),
    ),
    Target("seams", ("isoline.stitch", "isoline.frontier"), ("test_stitch.py",)),
    Target(
        "kernels",
        (
            "isoline.kernels.trace",
            "isoline.kernels.anchors",
            "isoline.kernels.simplify",
            "isoline.kernels.unite",
        ),
        ("test_contours.py", "test_stitch.py"),
        (
            "test_contours.py::test_importing_compiles_nothing",
            "test_stitch.py::test_a_large_tangle",
        ),
        compiled=True,
    ),
    Target(
        "resolution",
        ("isoline.spacing", "isoline.parameters"),
        ("test_spacing.py", "models/test_parameters.py"),
    ),
    Target(
        "protocol",
        ("isoline.wire",),
        ("test_wire.py",),
        (
            "test_wire.py::test_what_a_viewer_needs_is_light",
            "test_wire.py::test_no_json_whatever_gets_past_the_error_tree",
        ),
    ),
    Target("jobs", ("isoline.job", "isoline.jobs"), ("jobs",)),
    Target("journal", ("isoline.journal",), ("test_journal.py",)),
)
