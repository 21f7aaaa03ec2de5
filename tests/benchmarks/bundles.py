"""What MONAI bundles cost, and whether windows leave a trace.

python -m tests.benchmarks.bundles exact     seams, orders and cores: sums of bits
python -m tests.benchmarks.bundles memory    the peak of a large volume against its bound
python -m tests.benchmarks.bundles time      against the bare network; a coarse answer
"""

from __future__ import annotations

import hashlib
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from isoline.models.bundles.files import Bundle
from isoline.models.bundles.model import BundleModel, bundle_model
from isoline.models.bundles.network import Network
from isoline.models.threshold3d import Threshold3D
from isoline.models.volumetric import Gaze, Scan, VolumeModel
from tests import bundles, volumes

WINDOWS = ((48, 40, 24), (96, 96, 64), (31, 57, 19))
LARGE = (512, 512, 240)
CLASSES = 3


class Wide(torch.nn.Module):
    """A network that costs nothing: what is measured is everything else."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, 1 - x, x * 0.5], 1)


def main() -> None:
    chosen = {"exact": exact, "memory": memory, "peak": peak, "time": against_network}
    chosen[sys.argv[1]]()


def exact() -> None:
    """Windows of three sizes against no windows; then a network with a reach, in many orders."""
    where = volumes.grid((150, 130, 90), (0.8, 0.9, 1.5))
    scan = Scan(
        np.random.default_rng(0).integers(-500, 1500, where.shape).astype(np.int16),
        where,
        "CT",
        {},
        0,
    )
    truth = _labels(
        Threshold3D({}, "cpu"), replace(scan, parameters={"above": 200.1, "below": 9e4})
    )
    same = 0
    for number, window in enumerate(WINDOWS):
        for overlap in (0.25, 0.5):
            model = _bundle(window, overlap, bundles.Above(), ("background", "bright"))
            for focus in (0, 45, 89):
                found = _labels(model, replace(scan, focus=focus))
                assert np.array_equal(found, truth), (number, overlap, focus)
                same += 1
    print(
        f"threshold by a network: {same} of {same} runs (3 windows, 2 overlaps, 3 orders) as whole"
    )
    model = _bundle((48, 40, 24), 0.5, bundles.tiny(), ("background", "a", "b"))
    seen = {}
    for focus, threads in ((0, 1), (45, 2), (89, 1), (20, 3), (60, 2)):
        gaze = Gaze(focus)
        steps = model.segment(replace(scan, gaze=gaze, threads=threads))
        labels = np.zeros(where.shape, np.uint8)
        for n, step in enumerate(steps):
            gaze.k = (focus + 37 * n) % 90  # the user looks around
            if step.labels is not None and not step.provisional:
                labels[list(step.slices)] = step.labels
        seen[focus, threads] = hashlib.sha256(labels.tobytes()).hexdigest()[:16]
    assert len(set(seen.values())) == 1, seen
    print(f"a network with a reach: {len(seen)} orders on 1 to 3 cores, all {seen[0, 1]}")


def memory() -> None:
    """Run `peak` in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.bundles", "peak"]
    subprocess.run(command, check=True)


def peak() -> None:
    where = volumes.grid(LARGE, (0.7, 0.7, 1.2))
    model = _bundle((96, 96, 64), 0.5, Wide(), ("background", "a", "b"), spacing=(0.8, 0.8, 1.2))
    small = volumes.grid((96, 96, 64), (0.7, 0.7, 1.2))
    _labels(model, Scan(np.zeros(small.shape, np.int16), small, "CT", {}, 0))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    voxels = np.random.default_rng(0).integers(-500, 1500, where.shape, np.int16)
    for _ in model.segment(Scan(voxels, where, "CT", {}, 120)):
        pass
    used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    volume = 4 * voxels.size / 2**20
    plane = 4 * np.ceil(LARGE[0] * 0.7 / 0.8) * np.ceil(LARGE[1] * 0.7 / 0.8) / 2**20
    # the row at work, and below and above it what waits for its neighbours
    slabs = (CLASSES + 1) * plane * 2 * 64
    bound = 3 * volume + slabs
    print(
        f"peak of a volume of {volume:.0f} MiB as float32, {CLASSES} classes: {used:.0f} MiB beside"
        f" the network; the bound is {bound:.0f}: {used / bound:.2f} of it"
    )


def against_network() -> None:
    """The tiny network over a volume: windows as isoline runs them, and its bare time for them."""
    where = volumes.grid((150, 130, 90), (1.6, 1.3, 2.0))
    voxels = np.random.default_rng(0).integers(-500, 1500, where.shape).astype(np.int16)
    model = _bundle((64, 64, 48), 0.5, bundles.Tiny(3).eval(), ("background", "a", "b"))
    scan = Scan(voxels, where, "CT", {}, 45)
    bare = [0.0]
    compute = Network.__call__

    def timed(network: Network, cut: NDArray[np.float32], axes: Any) -> NDArray[np.float32]:
        began = time.perf_counter()
        answer = compute(network, cut, axes)
        bare[0] += time.perf_counter() - began
        return answer

    Network.__call__ = timed  # type: ignore[assignment,method-assign]
    began, first = time.perf_counter(), 0.0
    for step in model.segment(scan):
        if step.labels is not None:
            first = first or time.perf_counter() - began
    whole = time.perf_counter() - began
    print(
        f"{whole:.2f} s, of which the network {bare[0]:.2f} s: {whole / bare[0]:.2f};"
        f" the first slices after {first / whole:.2f} of it"
    )


def _bundle(
    window: tuple[int, int, int],
    overlap: float,
    network: torch.nn.Module,
    names: tuple[str, ...],
    spacing: tuple[float, float, float] | None = None,
) -> BundleModel:
    config = bundles.inference(spacing=spacing, overlap=overlap)
    config["window"] = list(window)
    with tempfile.TemporaryDirectory() as folder:
        path = bundles.write(Path(folder) / "b", bundles.metadata(names), config, network)
        bundle = Bundle(path)
        return bundle_model("bundle:b", bundle, bundle.stamp())({}, "cpu")


def _labels(model: VolumeModel, scan: Scan) -> NDArray[np.uint8]:
    labels = np.zeros(scan.voxels.shape, np.uint8)
    for step in model.segment(scan):
        if step.labels is not None and not step.provisional:
            labels[list(step.slices)] = step.labels
    return labels


if __name__ == "__main__":
    main()
