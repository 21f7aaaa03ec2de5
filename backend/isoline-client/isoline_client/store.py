"""What a viewer shows of a job: a store turns each event into a change to draw."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from isoline_client.events import (
    Cancelled,
    Contours,
    Done,
    End,
    Event,
    Failed,
    Mask,
    Progress,
    Started,
    Warned,
)
from isoline_client.options import Json

Slices = Mapping[int, Sequence[Json]]
"""Layers by slice k; a slice without layers is empty."""


@dataclass(frozen=True)
class Change:
    """What to draw: remove, then add, then paint, in a single step."""

    added: Sequence[Json] = ()
    """Features in the dialect of the job. Once `removed` are gone, none of them is shown."""
    removed: Sequence[str] = ()
    """The ids of features that are shown."""
    slices: Slices = field(default_factory=dict)
    """Slices to replace; see `paint`."""

    def __bool__(self) -> bool:
        """Whether there is anything to draw."""
        return bool(self.added or self.removed or self.slices)


class Store:
    """The objects and slices that are shown of one job. Not thread-safe.

    Taking an event twice changes nothing, so a stream may be read again from any event. The store
    works in every dialect: its features have an `id`, and elements of the dialect `dsa` are removed
    with the object to which they belong.
    """

    def __init__(self, earlier: Store | None = None, *, is_known: bool = True) -> None:
        """Start with nothing, or with what an `earlier` run shows.

        Features and slices that are still provisional in the earlier run are removed with the first
        event. If the server does not know the earlier run (not `is_known`), its events cannot say
        what to remove: then all earlier results that this run does not find again are removed when
        it is done.
        """
        self.started: Started | None = None
        self.progress: Progress | None = None
        self.warnings: list[Warned] = []
        self.end: End | None = None
        self.last_seq = -1
        """The number of the last event taken, after which to resume; -1 before the first."""
        self._objects: dict[str, Json] = dict(earlier._objects) if earlier else {}
        self._provisional: dict[str, None] = dict(earlier._provisional) if earlier else {}
        self._kept: set[str] = set(earlier._kept) if earlier else set()
        self._kept_slices: set[int] = set(earlier._kept_slices) if earlier else set()
        self._slices: dict[int, Sequence[Json]] = dict(earlier._slices) if earlier else {}
        self._final_slices: dict[int, Sequence[Json]] = (
            dict(earlier._final_slices) if earlier else {}
        )
        self._unnamed: set[str] = set(earlier._unnamed) if earlier else set()
        self._unnamed_slices: set[int] = set(earlier._unnamed_slices) if earlier else set()
        """Earlier results that no event names, and that no run has found again so far."""
        if not is_known:
            self._unnamed.update(self._objects)
            self._unnamed_slices.update(self._slices)
        self._elements: dict[str, dict[str, None]] = {}
        """The ids of the elements of an object, in a dialect that draws it as several."""
        for feature in self._objects.values():
            self._note_element(feature)

    @classmethod
    def showing(
        cls,
        objects: Iterable[Json] = (),
        slices: Slices | None = None,
        *,
        kept: Iterable[str] = (),
        kept_slices: Iterable[int] = (),
    ) -> Store:
        """Return a store that starts with final features and slices that a viewer has saved.

        `kept` and `kept_slices` are the properties of the store that they come from.
        """
        stored = cls()
        stored._objects = {each["id"]: each for each in objects}
        stored._slices = stored._final_slices = dict(slices or {})
        stored._kept, stored._kept_slices = set(kept), set(kept_slices)
        return cls(stored)

    @property
    def objects(self) -> Mapping[str, Json]:
        """The features that are shown, by id, including provisional ones."""
        return self._objects

    @property
    def provisional(self) -> Set[str]:
        """The ids of features that a later event replaces: shown, but never saved."""
        return self._provisional.keys()

    @property
    def kept(self) -> Set[str]:
        """The ids given to `keep` and `drop`, in earlier runs too."""
        return self._kept

    @property
    def kept_slices(self) -> Set[int]:
        """The slices given to `keep_slice`, in earlier runs too."""
        return self._kept_slices

    @property
    def slices(self) -> Slices:
        """The layers of each slice that is shown, including provisional ones."""
        return self._slices

    def final(self) -> list[Json]:
        """Return the features that may be saved."""
        return [each for key, each in self._objects.items() if key not in self._provisional]

    def final_slices(self) -> dict[int, Sequence[Json]]:
        """Return the layers of each slice that may be saved."""
        return dict(self._final_slices)

    def keep(self, feature_id: str) -> None:
        """Leave a feature to the user, who has edited it.

        No event of this run, or of one that starts from it, adds, changes or removes it again.
        """
        self._kept.add(feature_id)
        self._provisional.pop(feature_id, None)

    def drop(self, feature_id: str) -> None:
        """Forget a feature that the user has deleted; otherwise like `keep`."""
        self.keep(feature_id)
        self._objects.pop(feature_id, None)

    def keep_slice(self, k: int) -> None:
        """Leave slice `k` to the user, who has painted in it; like `keep` for a feature."""
        self._kept_slices.add(k)

    def take(self, *events: Event) -> Change:
        """Take events, in their order, and return the change to draw for all of them."""
        change = _Collected()
        for event in events:
            if event.seq > self.last_seq:
                self.last_seq = event.seq
                self._take(event, change)
        return change.change()

    def take_replaced(self, *events: Event) -> Change:
        """Take the last events of the run that this one replaces, and return the change to draw.

        They come before the first event of this run, which replaces only what they leave.
        """
        change = _Collected()
        for event in events:
            self._show(event, change)
        return change.change()

    def _take(self, event: Event, change: _Collected) -> None:
        self._show(event, change)
        match event:
            case Started():
                self.started = event
            case Progress():
                self.progress = event
            case Warned():
                self.warnings.append(event)
            case Done() | Failed() | Cancelled():
                self.end = event

    def _show(self, event: Event, change: _Collected) -> None:
        match event:
            case Started():
                self._clear_provisional(change)
            case Contours():
                for feature_id in event.replaces:
                    self._remove(feature_id, change)
                for feature in event.features:
                    self._add(feature, event.provisional, change)
            case Mask():
                self._draw(event, change)
            case Done() | Failed() | Cancelled():
                self._clear_provisional(change)
                if isinstance(event, Done):
                    self._clear_unnamed(change)

    def _add(self, feature: Json, provisional: bool, change: _Collected) -> None:
        feature_id = feature["id"]
        if not provisional:
            self._unnamed.discard(feature_id)
        if feature_id in self._kept:
            return
        if feature_id in self._objects:
            was_provisional = feature_id in self._provisional
            if provisional and not was_provisional:
                return  # the same outline is final already, from an earlier run
            if provisional == was_provisional and feature == self._objects[feature_id]:
                return
            change.remove(feature_id)
        self._objects[feature_id] = change.added[feature_id] = feature
        if provisional:
            self._provisional[feature_id] = None
        else:
            self._provisional.pop(feature_id, None)
        self._note_element(feature)

    def _remove(self, object_id: str, change: _Collected) -> None:
        for each in (object_id, *self._elements.pop(object_id, ())):
            if each in self._objects and each not in self._kept:
                del self._objects[each]
                self._provisional.pop(each, None)
                change.remove(each)

    def _note_element(self, feature: Json) -> None:
        user = feature.get("user")
        if isinstance(user, dict) and "object" in user:
            self._elements.setdefault(user["object"], {})[feature["id"]] = None

    def _draw(self, mask: Mask, change: _Collected) -> None:
        said: dict[int, Sequence[Json]] = {each["k"]: each["layers"] for each in mask.slices}
        if mask.whole:
            said.update({k: [] for k in self._slices if k not in said})
        said = {k: layers for k, layers in said.items() if k not in self._kept_slices}
        for k, layers in said.items():
            self._paint(k, layers, change)
        if not mask.provisional:
            self._final_slices.update(said)
            self._unnamed_slices.difference_update(said)

    def _clear_unnamed(self, change: _Collected) -> None:
        for feature_id in self._unnamed:
            self._remove(feature_id, change)
        for k in self._unnamed_slices - self._kept_slices:
            self._final_slices[k] = []
            self._paint(k, [], change)
        self._unnamed, self._unnamed_slices = set(), set()

    def _clear_provisional(self, change: _Collected) -> None:
        for feature_id in [*self._provisional]:
            self._remove(feature_id, change)
        for k in self._slices:
            self._paint(k, self._final_slices.get(k, []), change)

    def _paint(self, k: int, layers: Sequence[Json], change: _Collected) -> None:
        if self._slices.get(k) != layers and k not in self._kept_slices:
            self._slices[k] = change.slices[k] = layers


@dataclass
class _Collected:
    """The change that several events make together, while it is collected."""

    added: dict[str, Json] = field(default_factory=dict)
    removed: dict[str, None] = field(default_factory=dict)
    slices: dict[int, Sequence[Json]] = field(default_factory=dict)

    def change(self) -> Change:
        return Change([*self.added.values()], [*self.removed], self.slices)

    def remove(self, feature_id: str) -> None:
        if self.added.pop(feature_id, None) is None:  # else the viewer has not seen this one yet
            self.removed[feature_id] = None
