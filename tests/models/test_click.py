"""`click`: each kind of prompt does what it says, on pictures and in volumes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from isoline.domain.prompts import Prompt, PromptKind
from isoline.models.click.model import NO_BORDER, NOTHING_LEFT, ONLY_EXCLUDED, OUTSIDE, Click
from isoline.models.promptable import PromptedObject, Question, Window
from isoline.testing.contracts import ArrayScene, PromptableModelContract
from tests.conftest import Labelled

CLICK = Click({}, "cpu")
Mask = NDArray[np.bool_]


def disk(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> Mask:
    y, x = np.indices(shape) + 0.5
    inside: Mask = np.hypot(y - centre[0], x - centre[1]) <= radius
    return inside


def picture(*things: tuple[Mask, int], noise: float = 4.0, channels: int = 3) -> ArrayScene:
    """Return `things` of given brightness on 200, with noise."""
    drawn = np.full(things[0][0].shape, 200.0)
    for mask, value in things:
        drawn[mask] = value
    drawn = drawn + np.random.default_rng(0).normal(0, noise, (channels, *drawn.shape))
    return ArrayScene(drawn.clip(0, 255).astype(np.uint8))


def drawn(kind: PromptKind, *points: tuple[float, ...], include: bool = True) -> Prompt:
    return Prompt(kind, points, include)


def point(*at: float, include: bool = True) -> Prompt:
    return Prompt("point", (at,), include)


def ask(
    scene: ArrayScene,
    *prompts: Prompt,
    initial: tuple[Window, Mask] | None = None,
    extent: str = "volume",
) -> PromptedObject:
    return CLICK.answer(scene, Question(prompts, {"extent": extent}, initial))


def whole(scene: ArrayScene, answer: PromptedObject) -> Mask:
    """Return the answer in the pixels of level 0."""
    assert answer.window.level == 0
    mask = np.zeros(scene.size(0), np.bool_)
    window = answer.window
    mask[tuple(map(slice, window.low, window.high))] = answer.mask
    return mask


def iou(found: Mask, truth: Mask) -> float:
    return float((found & truth).sum() / (found | truth).sum())


class TestClick(PromptableModelContract):
    kind = Click

    def scene(self) -> ArrayScene:
        return picture((disk((90, 110), (40, 60), 14), 90))

    def question(self) -> Question:
        return Question((point(40.5, 60.5), point(70, 60, include=False)), {"extent": "volume"})


@pytest.mark.parametrize("radius", [5, 12, 30, 90, 200])
@pytest.mark.parametrize("channels", [1, 3])
def test_one_click_finds_a_thing_of_any_size(radius: int, channels: int) -> None:
    truth = disk((600, 640), (300, 310), radius)
    scene = picture((truth, 90), channels=channels)
    found = whole(scene, ask(scene, point(300 + radius / 4, 310)))
    assert iou(found, truth) > (0.75 if radius == 5 else 0.93)


def test_a_thing_at_the_border_of_the_image() -> None:
    truth = disk((90, 110), (2, 108), 17)
    scene = picture((truth, 90))
    assert iou(whole(scene, ask(scene, point(5, 104))), truth) > 0.9


def test_a_click_on_one_pixel() -> None:
    truth = np.zeros((50, 60), np.bool_)
    truth[20, 30] = True
    scene = picture((truth, 0), noise=0)
    found = whole(scene, ask(scene, point(20.5, 30.5)))
    assert found[20, 30]
    assert found.sum() < 40


@pytest.mark.parametrize("noise", [0, 3])
def test_a_click_on_nothing(noise: int) -> None:
    flat = picture((np.zeros((80, 80), np.bool_), 0), noise=noise)
    answer = ask(flat, point(40, 40))
    assert not answer.mask.any()
    assert answer.reason == NO_BORDER


def test_reasons() -> None:
    scene = picture((disk((80, 80), (40, 40), 14), 90))
    assert ask(scene, point(-3, 40)).reason == OUTSIDE
    assert ask(scene, point(40, 40, include=False)).reason == ONLY_EXCLUDED
    start = Window(0, (30, 30), (50, 50)), np.ones((20, 20), np.bool_)
    excluded = drawn("box", (0, 0), (80, 80), include=False)
    assert ask(scene, excluded, initial=start).reason == NOTHING_LEFT


# Two disks that touch, as alike as can be

LEFT, RIGHT = disk((120, 160), (60, 60), 22), disk((120, 160), (60, 100), 22)


def test_a_second_click_takes_away_or_adds() -> None:
    scene = picture((LEFT | RIGHT, 90))
    both = [point(60, 60), point(60, 104)]
    assert iou(whole(scene, ask(scene, *both)), LEFT | RIGHT) > 0.9
    without = whole(scene, ask(scene, *both, point(60, 108, include=False)))
    assert not without[60, 108]
    assert without[60, 60]


def test_a_box_bounds() -> None:
    scene = picture((LEFT | RIGHT, 90))
    found = whole(scene, ask(scene, drawn("box", (35, 36), (85, 80))))
    assert not found[:, 80:].any()
    assert iou(found, LEFT & (np.arange(160) < 80)) > 0.85
    kept = whole(scene, ask(scene, point(60, 60), drawn("box", (35, 36), (85, 80))))
    assert not kept[:, 80:].any()


def test_an_excluded_box_and_lasso_hold_nothing() -> None:
    scene = picture((LEFT | RIGHT, 90))
    box = drawn("box", (30, 80), (90, 130), include=False)
    found = whole(scene, ask(scene, point(60, 60), box))
    assert not found[30:90, 80:130].any()
    assert found[60, 60]
    lasso = drawn("polygon", (30, 80), (90, 80), (90, 130), (30, 130), include=False)
    np.testing.assert_array_equal(whole(scene, ask(scene, point(60, 60), lasso)), found)


def test_a_rough_lasso_is_drawn_tight() -> None:
    scene = picture((LEFT, 90))
    rough = [(60 + 30 * np.sin(a), 63 + 31 * np.cos(a)) for a in np.linspace(0, 6, 12)]
    found = whole(scene, ask(scene, drawn("polygon", *rough)))
    assert iou(found, LEFT) > 0.9


def test_a_scribble_is_on_the_object_all_along() -> None:
    """Two halves of different brightness that no click would unite."""
    scene = picture((LEFT, 90), (RIGHT & ~LEFT, 120))
    way = [(60.0, 48.0), (58.0, 80.0), (60.0, 112.0)]
    found = whole(scene, ask(scene, drawn("scribble", *way)))
    assert all(found[60, 48:112:4])
    assert iou(found, LEFT | RIGHT) > 0.85
    away = [(55.0, 100.0), (65.0, 104.0)]
    start = Window(0, (0, 0), (120, 160)), LEFT | RIGHT
    left = whole(scene, ask(scene, drawn("scribble", *away, include=False), initial=start))
    assert not left[60, 102]
    assert iou(left, LEFT) > iou(LEFT | RIGHT, LEFT)


def test_including_takes_nothing_and_excluding_adds_nothing() -> None:
    scene = picture((LEFT | RIGHT, 90), noise=25)
    random = np.random.default_rng(3).uniform((20, 20), (100, 140), (8, 2))
    prompts, before = [point(60, 60)], whole(scene, ask(scene, point(60, 60)))
    for n, (y, x) in enumerate(random):
        prompts.append(point(y, x, include=n % 2 == 0))
        after = whole(scene, ask(scene, *prompts))
        lost, won = (before & ~after).any(), (after & ~before).any()
        assert not (lost if n % 2 == 0 else won)
        before = after
    assert len(prompts) == 1 + 8


def spotted() -> tuple[ArrayScene, Mask]:
    """Return a large disk with bright spots, and where it is."""
    y, x = np.indices((300, 340))
    truth = disk((300, 340), (150, 165), 100)
    spots = truth & (np.hypot(x % 30 - 15, y % 30 - 15) < 10)
    return picture((np.ones_like(truth), 20), (truth, 100), (spots, 190), channels=1), truth


def test_a_large_thing_of_two_shades_in_a_few_clicks() -> None:
    """One click after another adds its spot; all of them lie on one thing."""
    scene, truth = spotted()
    clicks = [(75.5, 135.5), (163.5, 170.5), (108.5, 189.5), (131.5, 117.5)]
    assert iou(whole(scene, ask(scene, *(point(*at) for at in clicks))), truth) > 0.95


def test_clicks_on_an_initial_mask_correct_it_near_them() -> None:
    scene, truth = spotted()
    start = Window(0, (0, 0), (300, 340)), truth & (np.arange(340) < 130)
    found = whole(scene, ask(scene, point(150, 200), point(220, 180), initial=start))
    assert iou(found, truth) > 0.9


def test_a_long_scribble_along_what_is_missing() -> None:
    bar = np.zeros((60, 900), np.bool_)
    bar[20:40, 20:880] = True
    scene = picture((bar, 90))
    start = Window(0, (0, 0), (60, 900)), bar & (np.arange(60)[:, None] < 30)
    missing = drawn("scribble", (35, 30), (35, 870))
    assert iou(whole(scene, ask(scene, missing, initial=start)), bar) > 0.85


def test_an_initial_mask_changes_near_the_prompts_only() -> None:
    far = disk((300, 300), (240, 240), 30)
    near = disk((300, 300), (60, 60), 25)
    scene = picture((near, 90), noise=2)
    begun = far | disk((300, 300), (60, 60), 12)
    start = Window(0, (0, 0), (300, 300)), begun
    np.testing.assert_array_equal(whole(scene, ask(scene, initial=start)), begun)
    found = whole(scene, ask(scene, point(60, 78), initial=start))
    np.testing.assert_array_equal(found[150:, 150:], far[150:, 150:])
    assert iou(found[:150, :150], near[:150, :150]) > 0.85


def test_contradictions_and_hundreds_of_prompts() -> None:
    scene = picture((LEFT, 90))
    same = [point(60, 60), point(60, 60, include=False)]
    assert not whole(scene, ask(scene, *same))[60, 60]
    assert whole(scene, ask(scene, *reversed(same)))[60, 60]
    random = np.random.default_rng(1).uniform((0, 0), (120, 160), (300, 2))
    many = [point(y, x, include=bool(LEFT[int(y), int(x)])) for y, x in random]
    assert iou(whole(scene, ask(scene, *many)), LEFT) > 0.9


def test_nuclei(patch1: Labelled) -> None:
    """One click in the middle of each of the larger labelled nuclei."""
    rgb, labels = patch1
    scene = ArrayScene(np.ascontiguousarray(rgb.transpose(2, 0, 1)))
    scores = []
    for label in np.unique(labels)[1:]:
        truth = labels == label
        if truth.sum() >= 300:
            y, x = np.argwhere(truth).mean(axis=0) + 0.5
            scores.append(iou(whole(scene, ask(scene, point(y, x))), truth))
    assert np.median(scores) > 0.65


# Volumes


def ball(size: tuple[int, int, int], spacing: tuple[float, ...], radius: float) -> Mask:
    place = (np.indices(size).T + 0.5) * spacing - np.multiply(size, spacing) / 2
    inside: Mask = radius >= np.linalg.norm(place, axis=-1).T
    return inside


def scan(truth: Mask, spacing: tuple[float, ...]) -> ArrayScene:
    noise = np.random.default_rng(0).normal(0, 15, truth.shape)
    return ArrayScene((np.where(truth, 80, -20) + noise).astype(np.int16)[None], spacing)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (4.0, 0.8, 0.8)])
@pytest.mark.parametrize("radius", [6.0, 25.0])
def test_a_ball_in_a_volume(spacing: tuple[float, float, float], radius: float) -> None:
    size = tuple(int(80 / each) for each in spacing)
    truth = ball((size[0], size[1], size[2]), spacing, radius)
    scene = scan(truth, spacing)
    middle = tuple(n / 2 for n in size)
    assert iou(whole(scene, ask(scene, point(*middle))), truth) > (0.75 if radius < 10 else 0.9)


def test_a_slice_of_a_volume() -> None:
    truth = ball((40, 80, 80), (1, 1, 1), 15)
    scene = scan(truth, (1, 1, 1))
    found = whole(scene, ask(scene, point(24.5, 40, 40), extent="slice"))
    assert not np.delete(found, 24, axis=0).any()
    assert iou(found[24], truth[24]) > 0.9
    more = ask(scene, point(24.5, 40, 40), point(2, 5, 5), extent="slice")
    np.testing.assert_array_equal(whole(scene, more), found)


def test_boxes_and_lassos_in_a_volume() -> None:
    truth = ball((50, 60, 70), (1, 1, 1), 14)
    scene = scan(truth, (1, 1, 1))
    box = whole(scene, ask(scene, drawn("box", (10, 15, 20), (40, 45, 50))))
    assert iou(box, truth) > 0.9
    lasso = [(20.5, 30 + 15 * np.sin(a), 35 + 15 * np.cos(a)) for a in np.linspace(0, 6, 12)]
    assert iou(whole(scene, ask(scene, drawn("polygon", *lasso))), truth) > 0.85
    half = drawn("box", (25, 0, 0), (50, 60, 70), include=False)
    assert not whole(scene, ask(scene, point(20, 30, 35), half))[25:].any()


@pytest.mark.parametrize("across", [0, 1, 2])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.8, 1.1)])
def test_a_flat_box_is_answered_as_on_a_picture_and_finds_the_rest(
    across: int, spacing: tuple[float, float, float]
) -> None:
    k, j, i = (int(n / each) for n, each in zip((60, 66, 70), spacing, strict=True))
    truth = ball((k, j, i), spacing, 16)
    scene = scan(truth, spacing)
    along = [axis for axis in range(3) if axis != across]
    middle = truth.shape[across] // 2
    low, high = np.argwhere(truth).min(axis=0) - 1.0, np.argwhere(truth).max(axis=0) + 2.0
    low[across] = high[across] = middle + 0.5
    plane = ArrayScene(
        np.take(scene.read(Window(0, (0, 0, 0), truth.shape)), middle, 1 + across),
        tuple(spacing[axis] for axis in along),
    )
    for side in (0, truth.shape[along[0]] // 2):  # the second time half of it only
        low[along[0]] = max(side, low[along[0]])
        found = whole(scene, ask(scene, drawn("box", low, high)))
        picture = whole(plane, ask(plane, drawn("box", low[along], high[along])))
        np.testing.assert_array_equal(np.take(found, middle, across), picture)
        if not side:
            assert iou(picture, np.take(truth, middle, across)) > 0.95
            assert iou(found, truth) > 0.9


def test_a_flat_box_is_answered_where_the_object_has_no_end() -> None:
    bar = np.zeros((9, 60, 60), np.bool_)
    bar[:, 20:40, 15:45] = True
    scene = scan(bar, (5.0, 1.0, 1.0))
    box = drawn("box", (4.5, 17, 12), (4.5, 43, 48))
    found = whole(scene, ask(scene, box))
    assert iou(found[4], bar[4]) > 0.9
    np.testing.assert_array_equal(whole(scene, ask(scene, box, point(4.5, 30, 30))), found)
