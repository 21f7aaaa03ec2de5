"""What a volume costs: brain extraction against its network alone, encoding, an archive.

    python -m tests.benchmarks.volumes encoding
    python -m tests.benchmarks.volumes archive
    python -m tests.benchmarks.volumes brain       (a minute of two cores; needs mricron-data)

Every line is a ratio of two things measured in this run.
"""

from __future__ import annotations

import base64
import gzip
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from isoline import datasets, masks
from isoline.encoders.ohif import OHIF
from isoline.models import brain
from isoline.models.brain import Brain
from isoline.models.volume import Scan
from isoline.sources.dicomweb import Archive, DicomWebImages
from isoline.sources.nifti import NiftiSource
from isoline.volume_cache import VolumeCache
from tests import results, volumes
from tests.orthanc import PASSWORD, USER, orthanc, store

T = TypeVar("T")

HEAD = Path("/usr/share/mricron/templates/ch2.nii.gz")
BET = HEAD.with_name("ch2bet.nii.gz")


def main() -> None:
    {"encoding": encoding, "archive": archive, "brain": brain_extraction}[sys.argv[1]]()


def encoding() -> None:
    """A brain of 240 x 512 x 512 voxels as `ohif` and as gzip (what NRRD holds)."""
    labels = _brain_of_512()
    seconds, text = _timed(lambda: OHIF().mask(masks.encode(labels, range(240)), results.STARTED))
    gzip_seconds, packed = _timed(lambda: gzip.compress(labels.tobytes(), 6))
    back = np.zeros_like(labels)
    masks.draw(masks.encode(labels, range(240)), back)
    assert np.array_equal(back, labels)
    print(
        f"ohif {1e3 * seconds:.0f} ms, gzip level 6 {1e3 * gzip_seconds:.0f} ms:"
        f" {seconds / gzip_seconds:.3f} of the time"
    )
    print(f"ohif {len(text)} bytes, gzip {len(packed)}: {len(text) / len(packed):.2f} of the bytes")


def _brain_of_512() -> NDArray[np.uint8]:
    """The BET brain by nearest neighbours, smoothed so that its edges are those of a scan."""
    from scipy.ndimage import gaussian_filter

    small = NiftiSource.open(BET).voxels().astype(bool)
    at = [np.arange(n) * size // n for n, size in zip((240, 512, 512), small.shape, strict=True)]
    large = small[np.ix_(*at)].astype(np.float32)
    smooth: NDArray[np.uint8] = (gaussian_filter(large, 2) > 0.5).astype(np.uint8)
    return smooth


def archive() -> None:
    """240 slices of 512 x 512 from Orthanc: one request at a time, and eight."""
    where = volumes.grid(size=(512, 512, 240), spacing=(0.7, 0.7, 1.2))
    voxels = np.random.default_rng(0).integers(-1000, 2000, where.shape).astype(np.int16)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = volumes.write_classic(folder / "ct", where, voxels)
        with orthanc(folder) as url:
            store(url, files)
            login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            eight = Archive(url, (("Authorization", f"Basic {login}"),))
            name = f"dicomweb:here/{volumes.STUDY}/{volumes.SERIES}"
            took: dict[int, float] = {}
            for parallel in (1, 8, 1, 8):
                here = {"here": replace(eight, parallel=parallel)}
                cache = VolumeCache(folder / f"cache{len(list(folder.iterdir()))}")
                source = DicomWebImages(here, cache).series(name).open()
                seconds, read = _timed(source.voxels)
                assert np.array_equal(read, voxels)
                took[parallel] = min(took.get(parallel, seconds), seconds)
    print(
        f"240 frames, one at a time {took[1]:.2f} s, eight {took[8]:.2f} s:"
        f" {took[1] / took[8]:.2f} times the speed;"
        f" {voxels.nbytes / took[8] / 2**20:.0f} MiB/s over loopback"
    )


def brain_extraction() -> None:
    """The ch2 head: against BET, against the network in one go, and against its time alone."""
    source = NiftiSource.open(HEAD)
    weights = datasets.fetch(Brain.spec.weights[0])
    model = Brain({"synthstrip-1.pt": weights}, "cpu")
    scan = Scan(source.voxels(), source.volume.grid, "MR", {"border": 1.0}, 90)
    labels = np.zeros(scan.voxels.shape, np.uint8)
    first, longest, network = 0.0, 0.0, 0.0
    began = last = time.perf_counter()
    for step in model.segment(scan):
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
        if step.labels is not None:
            first = first or now - began
            labels[list(step.slices)] = step.labels
    whole = time.perf_counter() - began
    for spacing in brain.SPACINGS_MM:
        values = brain._Input.of(scan, spacing)
        seconds, distance = _timed(partial(_plain, model, values.values))
        network += seconds
    plain = values.labels(distance, scan.grid, 1.0)
    bet = NiftiSource.open(BET).voxels().astype(bool)
    print(
        f"Dice against the network in one go {_dice(labels > 0, plain > 0):.5f},"
        f" against BET {_dice(labels > 0, bet):.4f}; {labels.sum() / 1000:.0f} cm3"
    )
    print(
        f"{whole:.1f} s, of which the network of both passes takes {network:.1f} s in one go:"
        f" {whole / network:.2f}; first impression after {first:.1f} s, {first / whole:.2f} of it;"
        f" longest time between two looks at Stop {longest:.2f} s"
    )


def _plain(model: Brain, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The network layer by layer on the whole."""
    import torch
    from torch.nn import functional as f

    def block(x: torch.Tensor, name: str, count: int, last: bool = False) -> torch.Tensor:
        for conv in range(count):
            weight, bias = (
                model._network[f"{name}.{conv}.conv.{each}"] for each in ("weight", "bias")
            )
            x = f.conv3d(x, weight, bias, padding=1)
            x = x if last and conv == count - 1 else f.leaky_relu(x, 0.2, inplace=True)
        return x

    with torch.inference_mode():
        x, skips = torch.from_numpy(values)[None, None], []
        for level in range(7):
            x = block(x, f"encoder.{level}", 2)
            if level < 6:
                skips.append(x)
                x = f.max_pool3d(x, 2)
        for level in range(6):
            x = torch.cat([f.interpolate(x, scale_factor=2, mode="nearest"), skips.pop()], 1)
            x = block(x, f"decoder.{level}", 3 if level == 5 else 2, last=level == 5)
        return np.asarray(x[0, 0])


def _dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    began = time.perf_counter()
    made = work()
    return time.perf_counter() - began, made


if __name__ == "__main__":
    main()
