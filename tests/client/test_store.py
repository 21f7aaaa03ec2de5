"""What is shown of a job: the recorded streams of conformance, and what two runs share."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from isoline.client import (
    Cancelled,
    Change,
    Contours,
    Done,
    Event,
    Json,
    Mask,
    Started,
    Store,
    decode_event,
)
from isoline.exports.geojson import GeoJSON
from isoline.protocol.events import encode_event
from isoline.testing.conformance import ConformanceCase, cases
from isoline.testing.contracts import results

STREAMS = [
    pytest.param(dialect, case, id=f"{dialect}-{case.name}")
    for dialect in ("geojson", "qupath", "dsa")
    for case in cases(dialect)
    if case.mode == "events" and isinstance(case.expected, list)
    if all(isinstance(each, dict) for each in case.expected)
]


def started() -> Started:
    event = decode_event(encode_event(0, results.STARTED, results.STARTED, GeoJSON()))
    assert isinstance(event, Started)
    return event


STARTED = started()


def feature(name: str, corner: float = 0) -> Json:
    return {"type": "Feature", "id": name, "geometry": {"coordinates": [[[corner, 0]]]}}


def contours(
    seq: int, *names: str, replaces: Sequence[str] = (), provisional: bool = False
) -> Contours:
    return Contours(seq, [feature(name) for name in names], provisional, replaces)


def layer(label: int = 1) -> Json:
    return {"label": label, "box": [0, 0, 1, 1], "runs": "AAE="}


def mask(
    seq: int, slices: dict[int, list[Json]], *, provisional: bool = False, whole: bool = False
) -> Mask:
    said = [{"k": k, "layers": layers} for k, layers in slices.items()]
    return Mask(seq, said, provisional, whole)


def shown_of(change: Change) -> tuple[list[str], list[str]]:
    return [each["id"] for each in change.added], [*change.removed]


DONE, CANCELLED = Done(99, 1, 1, 0, 0, 1.0), Cancelled(99, 1, 2)


class Screen:
    """Draws changes as a viewer does: remove, add, paint."""

    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}
        self.slices: dict[int, Sequence[Json]] = {}
        self.wrong: list[str] = []

    def draw(self, change: Change) -> None:
        for name in change.removed:
            if self.objects.pop(name, None) is None:
                self.wrong.append(f"{name} is removed but not shown")
        for each in change.added:
            if each["id"] in self.objects:
                self.wrong.append(f"{each['id']} is added but shown")
            self.objects[each["id"]] = each
        self.slices.update(change.slices)


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize(("dialect", "case"), STREAMS)
def test_a_viewer_shows_what_is_expected(
    dialect: str, case: ConformanceCase, at_once: bool
) -> None:
    *lines, _ = case.sent.split(b"\n")  # what follows the last line break is cut off
    events = [decode_event(line) for line in lines if line.strip()]
    known: list[Event] = [event for event in events if event is not None]
    store, screen = Store(), Screen()
    for some in [known] if at_once else [[event] for event in known]:
        screen.draw(store.take(*some))
    assert isinstance(case.expected, list)
    objects = {
        (each.get("user") or {}).get("object", each["id"]) for each in store.objects.values()
    }
    assert screen.wrong == []
    assert screen.objects == store.objects
    assert objects == {each["id"] for each in case.expected}


def test_a_piece_gives_way_to_the_whole_in_one_change() -> None:
    store = Store()
    store.take(STARTED, contours(1, "left", "right", provisional=True), contours(2, "other"))
    assert {*store.provisional} == {"left", "right"}
    assert [each["id"] for each in store.final()] == ["other"]
    change = store.take(contours(3, "whole", replaces=["left", "right", "never seen"]))
    assert shown_of(change) == (["whole"], ["left", "right"])
    assert {*store.objects} == {"whole", "other"}
    assert not store.provisional


def test_what_comes_and_goes_in_one_update_is_never_drawn() -> None:
    store = Store()
    change = store.take(
        contours(0, "piece", "other", provisional=True), contours(1, "whole", replaces=["piece"])
    )
    assert shown_of(change) == (["other", "whole"], [])


def test_an_event_that_comes_again_changes_nothing() -> None:
    store = Store()
    told: list[Event] = [
        STARTED,
        contours(1, "a", provisional=True),
        contours(2, "b", replaces=["a"]),
        DONE,
    ]
    store.take(*told)
    assert not store.take(*told)
    assert not store.take(*told[1:3])
    assert ([*store.objects], store.last_seq, store.end) == (["b"], 99, DONE)


def test_a_feature_whose_outline_is_another_is_drawn_again() -> None:
    store = Store()
    store.take(contours(0, "a"))
    again = Contours(1, [feature("a", 5)], False, [])
    assert store.take(again) == Change([feature("a", 5)], ["a"], {})


def test_a_provisional_feature_becomes_final() -> None:
    store = Store()
    store.take(contours(0, "a", provisional=True))
    assert shown_of(store.take(contours(1, "a"))) == (["a"], ["a"])
    assert store.final() == [feature("a")]


def test_what_is_left_provisional_goes_at_the_end() -> None:
    store = Store()
    store.take(contours(0, "a"), contours(1, "b", provisional=True))
    assert shown_of(store.take(CANCELLED)) == ([], ["b"])
    assert store.end == CANCELLED


# A run again


def earlier() -> Store:
    store = Store()
    store.take(STARTED, contours(1, "a", "b", "c"), contours(2, "p", provisional=True))
    return store


def test_a_later_run_goes_on_from_what_the_earlier_shows() -> None:
    store = Store(earlier())
    assert (store.last_seq, store.started, store.end) == (-1, None, None)
    assert {*store.objects} == {"a", "b", "c", "p"}
    assert shown_of(store.take(STARTED)) == ([], ["p"])
    assert shown_of(store.take(contours(1, "a", "d", replaces=["b"]))) == (["d"], ["b"])
    store.take(CANCELLED)
    assert {*store.objects} == {"a", "c", "d"}


def test_the_earlier_run_is_left_as_it_was() -> None:
    before = earlier()
    Store(before).take(STARTED, contours(1, "d", replaces=["a", "b", "c"]))
    assert {*before.objects} == {"a", "b", "c", "p"}


def test_a_provisional_piece_that_is_final_already_stays_final() -> None:
    store = Store(earlier())
    store.take(STARTED)
    assert not store.take(contours(1, "a", provisional=True))
    assert not store.take(CANCELLED)
    assert {*store.objects} == {"a", "b", "c"}


def test_what_the_user_has_changed_is_never_replaced() -> None:
    before = earlier()
    before.keep("a")
    store = Store(before)
    change = store.take(STARTED, contours(1, "a", "d", replaces=["a", "b"]))
    assert shown_of(change) == (["d"], ["p", "b"])
    assert {*store.objects} == {"a", "c", "d"}


def test_a_provisional_piece_that_the_user_has_changed_stays() -> None:
    store = earlier()
    store.keep("p")
    assert not store.take(contours(3, replaces=["p"]), CANCELLED)
    assert {each["id"] for each in store.final()} == {"a", "b", "c", "p"}


def test_what_the_user_has_removed_does_not_come_back() -> None:
    before = earlier()
    before.drop("a")
    assert shown_of(Store(before).take(STARTED, contours(1, "a", "b"))) == ([], ["p"])


def test_elements_go_with_their_object() -> None:
    store = Store()
    first, second = ({"id": n, "user": {"object": "cell"}} for n in ("cell", "nucleus"))
    store.take(Contours(0, [first, second], False, []), contours(1, "other"))
    later = Store(store)
    assert shown_of(later.take(contours(0, replaces=["cell"]))) == ([], ["cell", "nucleus"])
    assert [*store.objects] == ["cell", "nucleus", "other"]


# Slices


def test_slices_are_painted_and_painted_over() -> None:
    store = Store()
    rough = store.take(mask(0, {3: [layer()], 4: [layer()]}, provisional=True))
    assert rough.slices == {3: [layer()], 4: [layer()]}
    assert store.final_slices() == {}
    assert store.take(mask(1, {3: [layer(2)], 4: [layer()]})).slices == {3: [layer(2)]}
    assert store.final_slices() == store.slices == {3: [layer(2)], 4: [layer()]}


def test_a_whole_mask_empties_the_slices_that_it_does_not_list() -> None:
    store = Store()
    store.take(mask(0, {3: [layer()], 4: [layer()]}))
    later = Store(store)
    change = later.take(mask(0, {4: [layer()], 5: [layer()]}, whole=True))
    assert change.slices == {3: [], 5: [layer()]}
    assert later.final_slices() == {3: [], 4: [layer()], 5: [layer()]}


def test_provisional_slices_go_back_to_what_they_were() -> None:
    store = Store()
    store.take(mask(0, {3: [layer()]}))
    later = Store(store)
    later.take(mask(0, {3: [layer(2)], 4: [layer(2)]}, provisional=True))
    assert later.take(CANCELLED).slices == {3: [layer()], 4: []}
    after_a_break = Store(store)
    after_a_break.take(mask(0, {3: [layer(2)]}, provisional=True))
    assert Store(after_a_break).take(STARTED).slices == {3: [layer()]}


def test_a_slice_that_the_user_has_painted_in_is_left_alone() -> None:
    store = Store()
    store.take(mask(0, {3: [layer()], 4: [layer()]}))
    store.take(mask(1, {4: [layer(2)]}, provisional=True))
    store.keep_slice(4)
    later = Store(store)
    change = later.take(STARTED, mask(1, {3: [layer(3)], 4: [layer(3)]}), mask(2, {}, whole=True))
    assert change.slices == {3: []}
    assert later.kept_slices == {4}
    assert later.final_slices() == {3: [], 4: [layer()]}


def test_a_viewer_that_was_closed_goes_on_with_what_it_stored() -> None:
    store = Store.showing([feature("a"), feature("k")], {3: [layer()]}, kept=["k"])
    store.last_seq = 7
    assert not store.take(contours(7, "b"))
    change = store.take(contours(8, "b", replaces=["a", "k"]), mask(9, {4: []}, whole=True))
    assert change == Change([feature("b")], ["a"], {3: [], 4: []})
