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
        ("isoline.geometry.grid", "isoline.geometry.region"),
        ("geometry/test_grid.py", "geometry/test_tiling.py", "geometry/test_region.py"),
        (
            "geometry/test_region.py::test_tiles_are_chosen_as_one_by_one",
            "geometry/test_region.py::test_tiles_far_from_a_thin_diagonal_are_not_met",
        ),
    ),
    Target(
        "volume grid",
        (
            "isoline.geometry.volume_grid",
            "isoline.geometry.slice_stack",
            "isoline.geometry.reorient",
            "isoline.geometry.resampling",
        ),
        ("geometry/test_volume_grid.py", "geometry/test_reorient.py"),
    ),
    Target(
        "tiling",
        ("isoline.geometry.tiling",),
        ("geometry/test_tiling.py", "geometry/test_region.py"),
        ("geometry/test_region.py::test_tiles_far_from_a_thin_diagonal_are_not_met",),
    ),
    Target(
        "polygons",
        ("isoline.geometry.polygons",),
        ("geometry/test_polygons.py", "geometry/test_seams.py"),
        (
            "geometry/test_polygons.py::test_importing_compiles_nothing",
            "geometry/test_seams.py::test_a_large_tangle",
        ),
    ),
    Target(
        "seams",
        ("isoline.geometry.seams", "isoline.geometry.frontier"),
        ("geometry/test_seams.py",),
        ("geometry/test_seams.py::test_a_large_tangle",),
    ),
    Target(
        "kernels",
        (
            "isoline.kernels.trace",
            "isoline.kernels.anchors",
            "isoline.kernels.simplify",
            "isoline.kernels.unite",
        ),
        ("geometry/test_polygons.py", "geometry/test_seams.py"),
        (
            "geometry/test_polygons.py::test_importing_compiles_nothing",
            "geometry/test_seams.py::test_a_large_tangle",
        ),
        compiled=True,
    ),
    Target(
        "resolution",
        ("isoline.pipeline.resolution", "isoline.models.parameters"),
        ("pipeline/test_resolution.py", "models/test_parameters.py"),
    ),
    Target(
        "protocol",
        tuple(f"isoline.protocol.{name}" for name in ("requests", "strict", "events", "responses")),
        ("protocol/test_requests.py", "protocol/test_protocol.py"),
        (
            "protocol/test_requests.py::test_what_a_viewer_needs_is_light",
            "protocol/test_requests.py::test_no_json_whatever_gets_past_the_error_tree",
        ),
    ),
    Target(
        "jobs",
        ("isoline.jobs.job", "isoline.jobs.queue"),
        ("jobs/test_job.py", "jobs/test_queue.py"),
    ),
    Target("journal", ("isoline.jobs.journal",), ("jobs/test_journal.py",)),
)
