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
import psutil
import requests
from numpy.typing import NDArray

from isoline.domain import mask_rle
from isoline.exports.ohif import OHIF
from isoline.images.dicomweb import DicomWebImages
from isoline.models import brain, downloads
from isoline.models.brain import Brain
from isoline.models.volumetric import Scan
from isoline.sources.archive import Archive
from isoline.sources.dicomweb import DicomWebSource
from isoline.sources.nifti import NiftiSource
from isoline.sources.volume_cache import VolumeCache
from isoline.testing.contracts import results
from tests import volumes
from tests.benchmarks import measuring
from tests.orthanc import PASSWORD, USER, orthanc, store

T = TypeVar("T")

HEAD = Path("/usr/share/mricron/templates/ch2.nii.gz")
BET = HEAD.with_name("ch2bet.nii.gz")


def main() -> None:
    {"encoding": encoding, "archive": archive, "brain": brain_extraction}[sys.argv[1]]()


def encoding() -> None:
    """A brain of 240 x 512 x 512 voxels as `ohif` and as gzip (what NRRD holds)."""
    labels = _brain_of_512()

    def encoded() -> bytes:
        return OHIF().mask(mask_rle.encode(labels, range(240)), results.STARTED)

    def packed() -> bytes:
        return gzip.compress(labels.tobytes(), 6)

    back = np.zeros_like(labels)
    mask_rle.draw(mask_rle.encode(labels, range(240)), back)
    assert np.array_equal(back, labels)
    took = measuring.interleaved(
        {"ohif": lambda: measuring.seconds(encoded), "gzip": lambda: measuring.seconds(packed)}, 9
    )
    ohif, gzip_ = (measuring.median(took[name]) for name in ("ohif", "gzip"))
    print(
        f"ohif {1e3 * ohif:.0f} ms, gzip level 6 {1e3 * gzip_:.0f} ms: {ohif / gzip_:.3f} of the"
        f" time, {len(encoded()) / len(packed()):.2f} of the bytes"
    )


def _brain_of_512() -> NDArray[np.uint8]:
    """The BET brain by nearest neighbours, smoothed so that its edges are those of a scan."""
    from scipy.ndimage import gaussian_filter

    small = NiftiSource.open(BET).voxels().astype(bool)
    at = [np.arange(n) * size // n for n, size in zip((240, 512, 512), small.shape, strict=True)]
    large = small[np.ix_(*at)].astype(np.float32)
    smooth: NDArray[np.uint8] = (gaussian_filter(large, 2) > 0.5).astype(np.uint8)
    return smooth


def archive() -> None:
    """240 slices of 512 x 512 from Orthanc, into memory, and what the wire alone takes.

    The opening of the series is left out.
    """
    where = volumes.grid(size=(512, 512, 240), spacing=(0.7, 0.7, 1.2))
    voxels = np.random.default_rng(0).integers(-1000, 2000, where.shape).astype(np.int16)
    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    print(measuring.describe_machine())
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = volumes.write_classic(folder / "ct", where, voxels)
        with orthanc(folder) as url:
            store(url, files)
            here = Archive(url, (("Authorization", f"Basic {login}"),))
            one, eight = _opened(replace(here, parallel=1)), _opened(here)
            read = np.empty(where.shape, np.int16)
            slices = range(len(read))
            ways: dict[str, Callable[[], None]] = {
                "one request at a time": partial(one._fetch_frames, read, slices),
                "eight requests at once": partial(eight._fetch_frames, read, slices),
                "the series at once": partial(eight._fetch, read),
                "its bytes alone": partial(_wire, url),
            }
            for name, way in ways.items():
                read.fill(0)
                way()
                assert np.array_equal(read, voxels) or name == "its bytes alone"
            took = measuring.interleaved(
                {name: partial(measuring.seconds, way) for name, way in ways.items()}, runs=7
            )
            spent = measuring.interleaved(
                {name: partial(_cpu_seconds, way) for name, way in ways.items()}, runs=3
            )
    print("seconds: median (least to most); CPU-seconds here and in Orthanc: median")
    for name, seconds in took.items():
        print(f"{name:24}{measuring.spread(seconds)}; {measuring.median(spent[name]):.2f}")
    first, _, series, wire = (measuring.median(seconds) for seconds in took.values())
    print(
        f"the series is there {first / series:.1f} times as fast as by one request at a time:"
        f" at least 3 wanted, or the limit of the wire, here {first / wire:.1f} times"
    )


def _opened(archive: Archive) -> DicomWebSource:
    name = f"dicomweb:here/{volumes.STUDY}/{volumes.SERIES}"
    return DicomWebImages({"here": archive}, VolumeCache(Path())).series(name).open()


def _cpu_seconds(way: Callable[[], None]) -> float:
    """Return the CPU-seconds that this process and those that it has started spend."""

    def spent() -> float:
        me = psutil.Process()
        return float(sum(sum(each.cpu_times()[:2]) for each in [me, *me.children()]))

    before = spent()
    way()
    return spent() - before


def _wire(url: str) -> None:
    """Take the bytes of the whole series and do nothing with them."""
    accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    with requests.get(
        f"{url}/studies/{volumes.STUDY}/series/{volumes.SERIES}",
        auth=(USER, PASSWORD),
        headers={"Accept": accept, "Accept-Encoding": "identity"},
        stream=True,
        timeout=60,
    ) as answer:
        assert sum(map(len, answer.iter_content(1 << 20))) > 240 * 512 * 512 * 2


def brain_extraction() -> None:
    """The ch2 head: against BET, against the network in one go, and against its time alone."""
    source = NiftiSource.open(HEAD)
    weights = downloads.fetch(Brain.spec.weights[0])
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
