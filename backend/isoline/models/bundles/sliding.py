"""Sliding-window inference over one volume: rows of windows from the focus outward.

The planes that a row of windows covers stay open until every row that touches them has run; then
they are closed, and the slices of the scan that lie between closed planes are final.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

import numpy as np
from numpy.typing import NDArray

from isoline.errors import Broken
from isoline.geometry.reorient import Orientation
from isoline.models.bundles import windows
from isoline.models.bundles.inverse import Back, activated, decided
from isoline.models.bundles.network import Network
from isoline.models.bundles.recipe import Recipe
from isoline.models.bundles.transforms import Input
from isoline.models.bundles.windows import Blend, Place, Windows
from isoline.models.volumetric import SLAB, Scan, Step

IMPATIENCE_SECONDS = 1.0
"""If a row takes longer, its result is shown as a preview before its neighbours have run."""


class Sliding:
    """The state of inference over one volume."""

    def __init__(
        self,
        network: Network,
        batch: int,
        recipe: Recipe,
        labels: NDArray[np.uint8],
        scan: Scan,
        orientation: Orientation,
        given: Input,
    ) -> None:
        """Plan the windows over the input `given`; nothing is computed yet."""
        self._network = network
        self._batch = batch
        self._recipe = recipe
        self._labels = labels
        self._scan = scan
        self._axes = orientation.axes
        self._values = np.asarray(given.values, np.float32)
        k, j, i = scan.voxels.shape
        self._back = Back.of(given, (k, j, i), orientation)
        self._outside = self._back.outside()
        depth, height, width = self._values.shape
        self._windows = Windows.over(
            (depth, height, width),
            orientation.of_array(recipe.window),
            orientation.of_array(recipe.overlap),
        )
        size = self._windows.size
        weights = windows.gaussian(size, recipe.sigma) if recipe.sigma else windows.constant(size)
        self._blend = Blend(self._windows, weights, len(labels))
        self._lock = threading.Lock()
        self._missing = {k: self._back.planes(k) for k in scan.missing}
        self._wanted = frozenset(plane for needs in self._missing.values() for plane in needs)
        self._rows = {
            row
            for row in self._windows.rows
            if not self._wanted.isdisjoint(self._windows.planes(row))
        }
        self._closed: dict[int, NDArray[np.float32]] = {}

    def steps(self) -> Iterator[Step]:
        """Yield slices as they become final and, if a row takes long, previews."""
        rows = len(self._rows)
        yield from self._finish(0.0 if rows else 1.0)
        while self._rows:
            row = min(self._rows, key=self._distance)
            done, began = 1 - len(self._rows) / rows, time.monotonic()
            for share in self._run(row):
                yield Step(done + 0.999 * share / rows)
            self._rows.remove(row)
            self._close()
            done = 1 - len(self._rows) / rows
            if time.monotonic() - began > IMPATIENCE_SECONDS:
                yield from self._preview(row, done)
            yield from self._finish(done)

    def _distance(self, row: int) -> tuple[float, int]:
        middle = row + (self._windows.size[0] - 1) / 2
        return abs(middle - self._back.k[self._scan.look]), row

    def _run(self, row: int) -> Iterator[float]:
        """Run every window of `row`; yield the share that is done."""
        places = self._windows.row(row)
        # batches must not depend on the order of rows: a batch's size can change the last bits
        batches = [places[n : n + self._batch] for n in range(0, len(places), self._batch)]
        pool = ThreadPoolExecutor(self._scan.threads, "window")
        try:
            pending = [pool.submit(self._add, batch) for batch in batches]
            for count, each in enumerate(as_completed(pending), 1):
                each.result()
                yield count / len(batches)
        finally:
            pool.shutdown(cancel_futures=True)

    def _add(self, places: Sequence[Place]) -> None:
        cut = np.stack([self._windows.cut(self._values, place) for place in places])
        answers = self._network(cut, self._axes)
        if answers.shape[1] != len(self._labels):
            raise Broken(
                f"the network returns {answers.shape[1]} channels, and its channel_def names"
                f" {len(self._labels)}",
                "correct the bundle's metadata",
            )
        with self._lock:
            for place, values in zip(places, answers, strict=True):
                self._blend.add(place, values, self._wanted)

    def _close(self) -> None:
        """Turn the sums of planes that no remaining window touches into network outputs."""
        still = {plane for row in self._rows for plane in self._windows.planes(row)}
        for plane in [plane for plane in self._blend.planes if plane not in still]:
            self._closed[plane] = activated(self._blend.mean(plane), self._recipe)
            self._blend.drop(plane)

    def _finish(self, done: float) -> Iterator[Step]:
        """Yield the missing slices between closed planes, and drop planes that no slice needs."""
        ready = [k for k, needs in self._missing.items() if self._closed.keys() >= set(needs)]
        for slices in self._slabs(ready):
            yield Step(done, slices, self._labels_of(slices, self._closed))
            for k in slices:
                del self._missing[k]
            needed = {plane for needs in self._missing.values() for plane in needs}
            for plane in self._closed.keys() - needed:
                del self._closed[plane]

    def _preview(self, row: int, done: float) -> Iterator[Step]:
        """Yield the slices that `row` has touched and that are not final yet."""
        touched = set(self._windows.planes(row))
        here = self._closed.keys() | set(self._blend.planes)
        for slices in self._slabs(
            [
                k
                for k, needs in self._missing.items()
                if here >= set(needs) and not touched.isdisjoint(needs)
                if not self._closed.keys() >= set(needs)
            ]
        ):
            planes = {
                plane: self._closed[plane]
                if plane in self._closed
                else activated(self._blend.mean(plane), self._recipe)
                for k in slices
                for plane in self._missing[k]
            }
            yield Step(done, slices, self._labels_of(slices, planes), provisional=True)

    def _slabs(self, slices: list[int]) -> Iterator[tuple[int, ...]]:
        """Yield `slices` a few at a time, nearest to the focus first."""
        order = sorted(slices, key=lambda k: (abs(k - self._scan.look), k))
        for first in range(0, len(order), SLAB):
            yield tuple(sorted(order[first : first + SLAB]))

    def _labels_of(
        self, slices: tuple[int, ...], planes: dict[int, NDArray[np.float32]]
    ) -> NDArray[np.uint8]:
        labels = np.zeros((len(slices), *self._scan.voxels.shape[1:]), np.uint8)
        for place, k in enumerate(slices):
            if self._missing[k]:
                values = self._back.slice(k, planes)
                labels[place] = decided(values, self._recipe, self._labels)
                labels[place][self._outside] = 0
        return labels
