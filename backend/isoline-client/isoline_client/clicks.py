"""Click sessions: objects that the user points at, one after another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING

from isoline_client.client import Client
from isoline_client.errors import ClientError
from isoline_client.events import Failed
from isoline_client.options import Json, Options
from isoline_client.store import Change, Slices, Store

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True)
class ClickedObject:
    """The object that prompts indicate."""

    features: Sequence[Json] = ()
    """Its outline on a slide or a picture; empty if nothing was found, and in a volume."""
    slices: Slices = field(default_factory=dict)
    """Its slices in a volume, with the labels of the model."""
    message: str = ""
    """A warning to show to the user, such as the reason why nothing was found."""

    def __bool__(self) -> bool:
        """Whether there is an object."""
        return bool(self.features or self.slices)


@dataclass(frozen=True)
class Answer:
    """The result of the latest prompts."""

    object: ClickedObject
    """The current object."""
    change: Change
    """What to draw, compared with the previous answer."""
    error: ClientError | None = None
    """The reason why the latest prompts have no result; `object` is then the previous one."""


class ClickSession:
    """Requests the object at the user's prompts, in the background. Thread-safe.

        session = ClickSession(client, "slide.svs", "click")
        session.add(point(4512, 5210))
        ...
        if answer := session.poll():      # in a timer of the user interface
            draw(answer.change)

    Only the latest prompts count: a request with earlier ones is cancelled, and its result dropped.
    In a volume, the slices of a change contain all objects of the session; the accepted ones have
    the labels 1, 2, ... in the order of their acceptance, and the current one has the next label.
    """

    def __init__(
        self,
        client: Client,
        image: str,
        model: str,
        *,
        on_answer: Callable[[Answer], object] | None = None,
        **options: Unpack[Options],
    ) -> None:
        """Start without prompts. `options` apply to every request.

        `on_answer` is called with each answer, one at a time, in the thread that received it or in
        the one that changed the prompts. It must not wait for another thread that uses the session.
        Without it, call `poll`.
        """
        self._client = client
        self._image = image
        self._model = model
        self._options = options
        self._on_answer = on_answer
        self._lock = threading.RLock()
        self._delivering = threading.RLock()
        self._prompts: list[Json] = []
        self._answers: dict[int, ClickedObject] = {}
        """The known objects, by the number of prompts."""
        self._accepted: list[ClickedObject] = []
        self._asking: threading.Event | None = None
        """The open request; set when later prompts replace it."""
        self._error: ClientError | None = None
        self._has_news = False
        self._drawn = _Drawing()

    @property
    def prompts(self) -> list[Json]:
        """The prompts of the current object, in their order."""
        with self._lock:
            return [*self._prompts]

    @property
    def accepted(self) -> list[ClickedObject]:
        """The accepted objects, in the order of their acceptance."""
        with self._lock:
            return [*self._accepted]

    @property
    def is_asking(self) -> bool:
        """Whether a request is open."""
        return self._asking is not None

    def add(self, prompt: Json) -> None:
        """Add a prompt, such as a `point`, to the current object."""
        with self._lock:
            self._set([*self._prompts, prompt])
        self._deliver()

    def undo(self) -> None:
        """Remove the last prompt, if there is one."""
        with self._lock:
            if self._prompts:
                self._set(self._prompts[:-1])
        self._deliver()

    def ask(self, prompts: Sequence[Json]) -> None:
        """Replace all prompts of the current object, for example after the user has moved one.

        If the result for these prompts is known, no request is sent.
        """
        with self._lock:
            self._set([*prompts])
        self._deliver()

    def clear(self) -> None:
        """Discard the current object and its prompts."""
        self.ask([])

    def accept(self) -> ClickedObject | None:
        """Keep the current object, start the next one, and return the object that was kept.

        An open request is cancelled. If there is no object, nothing changes, and None is returned.
        """
        with self._lock:
            found = self._current
            if not found:
                return None
            self._accepted.append(found)
            self._stop_asking()
            self._prompts, self._answers = [], {}
        return found

    def poll(self) -> Answer | None:
        """Return the answer since the last call, or None if there is none."""
        with self._lock:
            if not self._has_news:
                return None
            self._has_news = False
            before, self._drawn = self._drawn, _drawing([*self._accepted, self._current])
            return Answer(self._current, _change(before, self._drawn), self._error)

    def close(self) -> None:
        """Cancel the open request. No more answers arrive."""
        with self._lock:
            self._on_answer = None
            self._has_news = False
            self._stop_asking()

    @property
    def _current(self) -> ClickedObject:
        known = [number for number in self._answers if number <= len(self._prompts)]
        return self._answers[max(known)] if known else ClickedObject()

    def _set(self, prompts: list[Json]) -> None:
        if self._asking is not None and prompts == self._prompts:
            return
        pairs = zip(self._prompts, prompts, strict=False)
        shared = len([*takewhile(lambda pair: pair[0] == pair[1], pairs)])
        self._answers = {n: found for n, found in self._answers.items() if n <= shared}
        self._prompts = prompts
        self._stop_asking()
        if prompts and len(prompts) not in self._answers:
            self._ask()
        else:
            self._note_news()

    def _note_news(self, error: ClientError | None = None) -> None:
        self._error, self._has_news = error, True

    def _stop_asking(self) -> None:
        if self._asking is not None:
            self._asking.set()
        self._asking = None

    def _ask(self) -> None:
        overtaken = self._asking = threading.Event()
        question = (overtaken, [*self._prompts])
        threading.Thread(target=self._answer, args=question, daemon=True).start()

    def _answer(self, overtaken: threading.Event, prompts: list[Json]) -> None:
        """Request the object at `prompts`, and note it unless `overtaken` is set by then."""
        found, error = None, None
        try:
            found = self._found(overtaken, prompts)
        except ClientError as refused:
            error = refused
        with self._lock:
            if overtaken.is_set():
                return
            self._asking = None
            if found is not None:
                self._answers[len(prompts)] = found
            self._note_news(error)
        self._deliver()

    def _found(self, overtaken: threading.Event, prompts: list[Json]) -> ClickedObject:
        asked: Options = {**self._options, "prompts": prompts}
        store = Store()
        for event in self._client.segment(self._image, self._model, stop=overtaken, **asked):
            store.take(event)
        if isinstance(store.end, Failed):
            raise ClientError(200, store.end.code, store.end.message, store.end.remedy)
        slices = {k: layers for k, layers in store.final_slices().items() if layers}
        return ClickedObject(store.final(), slices, "; ".join(w.message for w in store.warnings))

    def _deliver(self) -> None:
        with self._delivering:
            on_answer = self._on_answer
            if on_answer is not None and (answer := self.poll()) is not None:
                on_answer(answer)


@dataclass
class _Drawing:
    """All objects of a session, as they are shown."""

    features: dict[str, Json] = field(default_factory=dict)
    slices: dict[int, list[Json]] = field(default_factory=dict)


def _drawing(objects: Sequence[ClickedObject]) -> _Drawing:
    drawing = _Drawing()
    for number, each in enumerate(objects, start=1):
        drawing.features.update({feature["id"]: feature for feature in each.features})
        for k, layers in each.slices.items():
            numbered = [{**layer, "label": number} for layer in layers]
            drawing.slices[k] = [*drawing.slices.get(k, []), *numbered]
    return drawing


def _change(before: _Drawing, now: _Drawing) -> Change:
    gone = [each for each in before.features if before.features[each] != now.features.get(each)]
    new = [
        feature for each, feature in now.features.items() if before.features.get(each) != feature
    ]
    slices = {
        k: now.slices.get(k, [])
        for k in sorted(before.slices.keys() | now.slices.keys())
        if before.slices.get(k, []) != now.slices.get(k, [])
    }
    return Change(new, gone, slices)
