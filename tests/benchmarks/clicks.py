"""How well and how fast `click` follows a simulated user.

    python -m tests.benchmarks.clicks nuclei
    python -m tests.benchmarks.clicks slices      (needs mricron-data)
    python -m tests.benchmarks.clicks volumes     (needs mricron-data)
    python -m tests.benchmarks.clicks server

The user clicks at the deepest point of the object, then at the deepest point of the larger error,
five times. Printed are the mean intersection over union after 1, 3 and 5 clicks and the median time
of the model for one answer, the image's features kept; beside it a plain random walker in one
window of fixed size. `server` measures through a real server: alone, beside a job on the whole
slide, and twenty users at once.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import random_walker

from isoline import client as api
from isoline.client import Client
from isoline.demo.slide import SAMPLE_SLIDE
from isoline.domain.prompts import Prompt
from isoline.models import downloads
from isoline.models.click.features import colours
from isoline.models.click.model import Click
from isoline.models.promptable import Question
from isoline.testing.contracts import ArrayScene
from tests.benchmarks.measuring import describe_machine, median, spread
from tests.benchmarks.quality import labelled
from tests.serving import serving

Mask: TypeAlias = NDArray[np.bool_]
Clicked: TypeAlias = list[tuple[tuple[int, ...], bool]]
Segment: TypeAlias = Callable[[Clicked], Mask]

CLICKS = 5
TEMPLATES = Path("/usr/share/mricron/templates")
CSF = 45
"""What is darker inside the brain of ch2 is fluid."""
JHU_VENTRICLES = range(171, 181)
AAL = {"caudate": (71, 72), "putamen": (73, 74), "thalamus": (77, 78)}


@dataclass(frozen=True)
class Case:
    """One object of one image."""

    pixels: NDArray[np.generic]
    truth: Mask


def main() -> None:
    print(describe_machine())
    {"nuclei": nuclei, "slices": slices, "volumes": volumes, "server": server}[sys.argv[1]]()


# --- Accuracy ----------------------------------------------------------------------------------


def nuclei() -> None:
    rgb, labels = labelled()
    pixels = np.ascontiguousarray(rgb.transpose(2, 0, 1))
    sizes = np.bincount(labels.ravel())
    cases = [Case(pixels, labels == n) for n in range(1, len(sizes)) if sizes[n] >= 60]
    _report("H&E nuclei of patch1", cases, "0.70 0.80 0.85", window=26)


def slices() -> None:
    for name, head, truth in _structures():
        cases = [Case(head[None, k], cut) for k, cut in _cuts(truth)]
        _report(f"MR, {name}, slices", cases, "0.70 0.85 0.90", window=26)


def volumes() -> None:
    for name, head, truth in _structures():
        parts, _ = ndimage.label(truth)
        largest = np.argsort(np.bincount(parts.ravel())[1:])[::-1][:2] + 1
        least = 0.3 * (parts == largest[0]).sum()
        cases = [
            Case(head[None], parts == n) for n in sorted(largest) if (parts == n).sum() >= least
        ]
        _report(f"MR, {name}, whole", cases, "0.70 0.85 0.90", window=24)


def _report(name: str, cases: list[Case], goal: str, window: int) -> None:
    print(f"\n{name}: {len(cases)} objects; goal {goal}")
    scenes: dict[int, ArrayScene] = {}
    ours, plain = [], []
    for case in cases:
        scene = scenes.setdefault(id(case.pixels), ArrayScene(case.pixels))
        scene.forget("selection")
        ours.append(_simulate(partial(_click, scene), case.truth))
        plain.append(_simulate(partial(_plain, case.pixels, window), case.truth))
    for which, runs in {"click": ours, "plain random walker": plain}.items():
        scores = np.mean([run[0] for run in runs], axis=0)
        times = [each for run in runs for each in run[1]]
        print(
            f"  {which:22} IoU {scores[0]:.3f} {scores[2]:.3f} {scores[4]:.3f}"
            f"   {1e3 * median(times):.0f} ms an answer, at most {1e3 * max(times):.0f}"
        )


def _simulate(segment: Segment, truth: Mask) -> tuple[list[float], list[float]]:
    """Return the score after each click and the seconds of each answer."""
    clicked: Clicked = [(_deepest(truth)[1], True)]
    scores, times = [], []
    for _ in range(CLICKS):
        began = time.perf_counter()
        found = segment(clicked)
        times.append(time.perf_counter() - began)
        scores.append(float((found & truth).sum() / (found | truth).sum()))
        (missing, here), (excess, there) = _deepest(truth & ~found), _deepest(found & ~truth)
        clicked.append((here, True) if missing >= excess else (there, False))
    return scores, times


def _deepest(mask: Mask) -> tuple[float, tuple[int, ...]]:
    if not mask.any():
        return 0.0, (0,) * mask.ndim
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    depth = ndimage.distance_transform_edt(np.pad(mask[box], 1))
    at = np.unravel_index(int(depth.argmax()), depth.shape)
    place = tuple(int(a) - 1 + each.start for a, each in zip(at, box, strict=True))
    return float(depth.max()), place


def _click(scene: ArrayScene, clicked: Clicked) -> Mask:
    prompts = tuple(
        Prompt("point", (tuple(each + 0.5 for each in place),), include)
        for place, include in clicked
    )
    answer = Click({}, "cpu").answer(scene, Question(prompts, {"extent": "volume"}))
    assert answer.window.level == 0
    found = np.zeros(scene.size(0), np.bool_)
    found[tuple(map(slice, answer.window.low, answer.window.high))] = answer.mask
    return found


def _plain(pixels: NDArray[np.generic], window: int, clicked: Clicked) -> Mask:
    """Grady's random walker (scikit-image) in one window; its rim is not the object."""
    size = pixels.shape[1:]
    middle = np.mean([place for place, include in clicked if include], axis=0)
    low = np.maximum(np.rint(middle).astype(int) - window, 0)
    part = tuple(slice(a, min(a + 2 * window + 1, n)) for a, n in zip(low, size, strict=True))
    cut = np.stack([channel[part] for channel in pixels])
    values = colours(cut.reshape(len(cut), -1, *cut.shape[2:])[:3])
    values = values.reshape(-1, *cut.shape[1:])[:3]
    values = np.stack([ndimage.gaussian_filter(channel, 1.0) for channel in values])
    values = (values - values.mean()) / (values.std() + 1e-6)
    seeds = np.full(cut.shape[1:], 2, np.int32)
    seeds[(slice(1, -1),) * seeds.ndim] = 0
    for place, include in clicked:
        away = np.indices(seeds.shape).T - (np.array(place) - low)
        seeds[((away**2).sum(axis=-1) <= 4).T] = 1 if include else 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = random_walker(values, seeds, beta=1000, mode="cg_j", tol=1e-2, channel_axis=0)
    whole = np.zeros(size, np.bool_)
    whole[part] = ndimage.binary_fill_holes(found == 1)
    return whole


# --- The head ----------------------------------------------------------------------------------


def _structures() -> Iterator[tuple[str, NDArray[np.generic], Mask]]:
    """Yield structures of ch2: those with a border in the image, then those with next to none."""
    head = _template("ch2")
    brain = ndimage.binary_fill_holes(_template("ch2bet") > 0)
    fluid = ndimage.binary_opening(_near_ventricles(brain.shape) & (head < CSF) & brain)
    yield "lateral ventricles", head, _largest(fluid, 2)
    yield "brain", head, brain
    yield "head", head, ndimage.binary_fill_holes(_largest(head > 25, 1))
    atlas = _template("aal")
    for name, labels in AAL.items():
        yield f"{name} (hardly a border in T1)", head, np.isin(atlas, labels)


def _template(name: str) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.asarray(nibabel.load(TEMPLATES / f"{name}.nii.gz").dataobj).T)


def _near_ventricles(shape: tuple[int, ...]) -> Mask:
    """Return where the lateral ventricles of the JHU atlas, of another head, or near them lie."""
    atlas, head = (nibabel.load(TEMPLATES / f"{name}.nii.gz") for name in ("jhu189", "ch2"))
    to_atlas = np.linalg.inv(atlas.affine) @ head.affine
    labels = np.isin(np.asarray(atlas.dataobj), JHU_VENTRICLES).astype(np.float32)
    there = ndimage.affine_transform(labels, to_atlas, output_shape=shape[::-1], order=0)
    near: Mask = ndimage.binary_dilation(there.T > 0, iterations=3)
    return near


def _largest(mask: Mask, count: int) -> Mask:
    parts, _ = ndimage.label(mask)
    order = np.argsort(np.bincount(parts.ravel())[1:])[::-1][:count] + 1
    return np.isin(parts, order)


def _cuts(truth: Mask, most: int = 8) -> Iterator[tuple[int, Mask]]:
    """Yield evenly spaced slices, each with its largest part, of 60 pixels or more."""
    large = np.flatnonzero(truth.sum(axis=(1, 2)) >= 60)
    for k in large[np.linspace(0, len(large) - 1, most + 2).astype(int)[1:-1]]:
        part = _largest(truth[k], 1)
        if part.sum() >= 60:
            yield int(k), part


# --- Through a server --------------------------------------------------------------------------

IMAGE = "slides/slide.svs"
AREA = ((2600, 3900), (10700, 12000))
"""Tissue of the sample slide."""
BLOCK = (slice(26, 154), slice(41, 169), slice(21, 149))
"""128 voxels a side in the middle of the head."""
USERS = 20


def server() -> None:
    with tempfile.TemporaryDirectory() as folder:
        images, data = Path(folder) / "images", Path(folder) / "data"
        images.mkdir()
        data.mkdir()
        slide = downloads.fetch(SAMPLE_SLIDE)
        shutil.copy(slide, images / "slide.svs")
        for n in range(USERS):
            (images / f"slide{n}.svs").hardlink_to(images / "slide.svs")
        if (TEMPLATES / "ch2.nii.gz").exists():
            head = nibabel.load(TEMPLATES / "ch2.nii.gz")
            nibabel.save(head, images / "head.nii.gz")
            nibabel.save(head.slicer[BLOCK], images / "block.nii.gz")
        with serving(images, data, more="[engine]\nworkers = 2\n") as url:
            _one_user(Client(url))
            _many_users(url)


def _one_user(client: Client) -> None:
    random = np.random.default_rng(0)
    places = random.uniform(*AREA, (20, 2))
    cold = [_timed(client, IMAGE, place) for place in places]
    warm = [_timed(client, IMAGE, place + 1) for place in places]
    print(f"\nslide: cold {spread(cold, 0)} ms, warm {spread(warm, 0)} ms (goal 60)")
    job = client.submit(IMAGE, "nuclei", region=None)
    busy = [_timed(client, IMAGE, place + 2) for place in places]
    running = job.state()["state"] == "running"
    job.cancel()
    ratio = median(busy) / median(warm)
    print(f"beside a whole slide ({'running' if running else 'already done'}): {ratio:.2f} times")
    if (TEMPLATES / "ch2.nii.gz").exists():
        voxels = random.uniform((60, 60, 60), (120, 150, 110), (12, 3))
        block = voxels - [each.start for each in BLOCK]
        for name, image, where in (
            ("128 voxels a side", "slides/block.nii.gz", block),
            ("the whole head", "slides/head.nii.gz", voxels),
        ):
            cold = [_timed(client, image, place) for place in where]
            warm = [_timed(client, image, place + 1) for place in where]
            print(f"{name}: cold {spread(cold, 0)} ms, warm {spread(warm, 0)} ms (goal 250)")


def _many_users(url: str) -> None:
    places = np.random.default_rng(1).uniform(*AREA, (8, 2))

    def work(user: int) -> int:
        client = Client(url)
        for place in places:
            _timed(client, f"slides/slide{user}.svs", place)
        return len(places)

    work(0)
    began = time.perf_counter()
    for user in range(3):
        work(user)
    alone = 3 * len(places) / (time.perf_counter() - began)
    with ThreadPoolExecutor(USERS) as pool:
        list(pool.map(work, range(USERS)))
        began = time.perf_counter()
        total = sum(pool.map(work, range(USERS)))
    together = total / (time.perf_counter() - began)
    print(
        f"{USERS} users {together:.1f} clicks/s, one {alone:.1f}: {together / alone:.2f} (goal 0.9)"
    )


def _timed(client: Client, image: str, place: NDArray[np.float64]) -> float:
    """Return the milliseconds from a click to the end of its answer."""
    began = time.perf_counter()
    is_volume = len(place) == 3
    prompts = [api.point(*place.tolist())]
    events = list(
        client.segment(image, "click", prompts=prompts, format="ohif" if is_volume else "geojson")
    )
    assert isinstance(events[-1], api.Done), events[-1]
    return 1e3 * (time.perf_counter() - began)


if __name__ == "__main__":
    main()
