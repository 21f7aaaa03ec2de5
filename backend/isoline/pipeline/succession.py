"""A run in place of an earlier one: which of the earlier results disappear when, and what remains.

    plan.events  ->  succession: `replaces` filled in, provisional results cleared  ->  journal

Countable objects disappear with the tile that computes their place anew, everything else at the
end. What has not been replaced when a run is cancelled or fails stays. Provisional results that
will not become final are taken back before the last event.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from isoline.domain import mask_rle
from isoline.domain.batch import Batch
from isoline.domain.events import (
    Contours,
    Done,
    Event,
    Layer,
    Mask,
    Objects,
    Started,
    Warned,
)
from isoline.engines.engine import Agenda, Engine
from isoline.geometry.grid import Grid
from isoline.pipeline.kinds import Plan

_ID = np.dtype("S16")
_NO_IDS = np.empty((0, 16), np.uint8)


@dataclass(frozen=True)
class Shown:
    """The final results of a job, as viewers show them when it has ended."""

    ids: NDArray[np.uint8] = field(default_factory=_NO_IDS.copy)
    """(n, 16), without duplicates."""
    anchors: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)))
    """(n, 2) x, y of the anchors' centres in image coordinates; NaN where they are unknown."""
    slices: Mapping[int, list[Layer]] = field(default_factory=dict)
    """The layers of each slice k."""

    def and_features(self, ids: Sequence[bytes]) -> Shown:
        """Return these and the features with `ids`, whose anchors are not known."""
        given = np.frombuffer(b"".join(ids), np.uint8).reshape(-1, 16)
        new = given[~np.isin(_names(given), _names(self.ids))]
        anchors = np.concatenate([self.anchors, np.full((len(new), 2), np.nan)])
        return replace(self, ids=np.concatenate([self.ids, new]), anchors=anchors)

    @classmethod
    def after(cls, batches: Iterable[Batch], earlier: Shown) -> Shown:
        """Return what is shown after the `batches` of a job that took the place of `earlier`."""
        collected = _Collected(earlier)
        for batch in batches:
            for event in batch.events:
                collected.add(event)
        return collected.shown()


NOTHING = Shown()


class _Collected:
    """The results of one job, collected from its events."""

    def __init__(self, earlier: Shown) -> None:
        self._ids, self._anchors = [earlier.ids], [earlier.anchors]
        self._replaced: list[NDArray[np.uint8]] = []
        self._slices = dict(earlier.slices)
        self._grid: Grid | None = None

    def add(self, event: Event) -> None:
        match event:
            case Started():
                self._grid = event.grid
            case Contours(objects, provisional, replaces):
                self._replaced.append(replaces)
                if not provisional:
                    assert self._grid is not None, "contours come after the first event"
                    self._ids.append(objects.ids)
                    self._anchors.append(self._grid.to_image(objects.anchor + 0.5))
            case Mask(provisional=False):
                if event.whole:
                    self._slices.clear()
                self._slices.update(mask_rle.layers(event))

    def shown(self) -> Shown:
        ids, anchors = np.concatenate(self._ids), np.concatenate(self._anchors)
        _, first = np.unique(_names(ids), return_index=True)
        ids, anchors = ids[first], anchors[first]
        gone = np.concatenate([_NO_IDS, *self._replaced])
        keep = ~np.isin(_names(ids), _names(gone))
        return Shown(ids[keep], anchors[keep], self._slices)


def succeed(
    plan: Plan,
    earlier: Shown,
    engine: Engine,
    agenda: Agenda,
    replay: Iterable[Batch] = (),
    turn: AbstractContextManager[object] = nullcontext(),  # noqa: B008  it has no state
) -> Iterator[Batch]:
    """Run `plan` in place of `earlier` and yield its events; the other arguments are as in
    `Plan.events`."""
    succession = Succession(plan, earlier)

    def noted() -> Iterator[Batch]:
        for batch in replay:
            succession.note(batch)
            yield batch

    for batch in plan.events(engine, agenda, noted(), turn):
        yield succession.amend(batch)


class Succession:
    """The state of one run: what is left of the earlier results, and what is still provisional."""

    def __init__(self, plan: Plan, earlier: Shown) -> None:
        self._earlier = _Earlier(plan, earlier.and_features(plan.replaces))
        self._by_tile = plan.settles_by_tile
        self._provisional = Provisional()
        self._next_seq = 0

    def note(self, batch: Batch) -> None:
        """Restore the state from a batch that an interrupted run has yielded."""
        self._next_seq = batch.last_seq + 1
        self._provisional.note(batch)
        self._earlier.note(batch)

    def amend(self, batch: Batch) -> Batch:
        """Return `batch` with the results that it replaces, numbered anew."""
        self._earlier.note(batch)
        events = [*batch.events]
        if batch.ends:
            *events, end = events
            if isinstance(end, Done):
                _replace(events, self._earlier.take_rest())
                events += self._earlier.emptied()
            self._provisional.note(replace(batch, events=tuple(events)))
            events += [*self._provisional.cleared(self._earlier.slices), end]
        elif self._by_tile and batch.tile is not None and not _failed(batch):
            _replace(events, self._earlier.take_tile(batch.tile))
        amended = replace(batch, seq=self._next_seq, events=tuple(events))
        self._next_seq = amended.last_seq + 1
        self._provisional.note(amended)
        return amended


class Provisional:
    """The provisional results that are shown at the moment."""

    def __init__(self, batches: Iterable[Batch] = ()) -> None:
        self._pieces = set[bytes]()
        self._slices = set[int]()
        for batch in batches:
            self.note(batch)

    def note(self, batch: Batch) -> None:
        for event in batch.events:
            if isinstance(event, Contours):
                self._pieces.difference_update(map(bytes, event.replaces))
                if event.provisional:
                    self._pieces.update(map(bytes, event.objects.ids))
            elif isinstance(event, Mask):
                if event.provisional:
                    self._slices.update(event.slices.tolist())
                elif event.whole:
                    self._slices.clear()
                else:
                    self._slices.difference_update(event.slices.tolist())

    def cleared(self, earlier: Mapping[int, list[Layer]]) -> Iterator[Event]:
        """Yield the events that take them back: slices are as in `earlier` again, or empty."""
        if self._pieces:
            ids = np.frombuffer(b"".join(sorted(self._pieces)), np.uint8).reshape(-1, 16)
            yield Contours(Objects.none(), replaces=ids)
        if self._slices:
            yield mask_rle.mask_of({k: earlier.get(k, []) for k in sorted(self._slices)})


class _Earlier:
    """The results of the earlier run: those that have neither been replaced nor found again yet."""

    def __init__(self, plan: Plan, shown: Shown) -> None:
        order = np.argsort(_names(shown.ids))
        self._ids = shown.ids[order]
        self._names = _names(self._ids)
        self._pending = np.ones(len(order), np.bool_)
        anchors = shown.anchors[order]
        known = np.flatnonzero(~np.isnan(anchors).any(axis=1))
        tiles = plan.tiles_of(anchors[known])
        self._is_due = np.ones(len(order), np.bool_)
        self._is_due[known] = (tiles >= 0).all(axis=1)
        self._in_tile = {place: known[rows] for place, rows in _grouped(tiles).items()}
        self.slices = shown.slices
        self._said = set[int]()

    def note(self, batch: Batch) -> None:
        """Take note of what a batch of the run finds again, has replaced, or fails to compute."""
        for event in batch.events:
            if isinstance(event, Contours):
                self._settle(event.replaces)
                if not event.provisional:
                    self._settle(event.objects.ids)
            elif isinstance(event, Mask) and not event.provisional:
                self._said.update(self.slices if event.whole else event.slices.tolist())
        if batch.tile is not None and _failed(batch):
            self._pending[self._in_tile.get(batch.tile, [])] = False

    def take_tile(self, place: tuple[int, int]) -> NDArray[np.uint8]:
        """Return the ids (n, 16) of what is left in a tile, which is then gone."""
        return self._take(np.asarray(self._in_tile.get(place, []), np.intp))

    def take_rest(self) -> NDArray[np.uint8]:
        """Return the ids (n, 16) of what is left in the region of the run, which is then gone."""
        return self._take(np.flatnonzero(self._is_due))

    def emptied(self) -> Iterator[Event]:
        """Yield the mask that empties the slices of the earlier run that this one has not sent."""
        if left := sorted(set(self.slices) - self._said):
            yield mask_rle.mask_of({k: [] for k in left})

    def _take(self, which: NDArray[np.intp]) -> NDArray[np.uint8]:
        which = which[self._pending[which]]
        self._pending[which] = False
        return self._ids[which]

    def _settle(self, ids: NDArray[np.uint8]) -> None:
        if not len(self._names) or not len(ids):
            return
        names = _names(ids)
        at = np.searchsorted(self._names, names).clip(max=len(self._names) - 1)
        self._pending[at[self._names[at] == names]] = False


def _replace(events: list[Event], ids: NDArray[np.uint8]) -> None:
    """Make the last final contours of `events` replace `ids`, or add contours that do."""
    if not len(ids):
        return
    for place in reversed(range(len(events))):
        event = events[place]
        if isinstance(event, Contours) and not event.provisional:
            events[place] = replace(event, replaces=np.concatenate([event.replaces, ids]))
            return
    events.append(Contours(Objects.none(), replaces=ids))


def _failed(batch: Batch) -> bool:
    """Return whether the tile of `batch` could not be computed."""
    return any(isinstance(event, Warned) for event in batch.events)


def _grouped(tiles: NDArray[np.int32]) -> dict[tuple[int, int], NDArray[np.intp]]:
    """Return the indices of the rows of (n, 2) `tiles` that lie in each tile."""
    if not len(tiles):
        return {}
    places, group, count = np.unique(tiles, axis=0, return_inverse=True, return_counts=True)
    members = np.split(np.argsort(group.ravel(), kind="stable"), np.cumsum(count)[:-1])
    return {
        (column, row): rows for (column, row), rows in zip(places.tolist(), members, strict=True)
    }


def _names(ids: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """Return (n, 16) bytes as n values that can be compared and sorted."""
    return np.ascontiguousarray(ids).view(_ID).reshape(-1)
