"""After a worker has warmed up no click waits for a compiler, whatever it is on."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import numpy as np
import pytest
from numba.core.registry import CPUDispatcher

from isoline import kernels
from isoline.domain.prompts import Prompt, PromptKind
from isoline.inference import warmup
from isoline.models.click.model import Click
from isoline.models.promptable import Question, Window
from isoline.testing.contracts import ArrayScene

PIXELS = [
    (channels, shape, kind)
    for channels, shape in ((1, (60, 70)), (3, (60, 70)), (1, (24, 40, 50)))
    for kind in (np.uint8, np.int16, np.uint16, np.float32, np.float64)
]


def compiled() -> Iterator[tuple[str, int]]:
    """Yield the kernels and for how many kinds of arguments each is compiled."""
    for info in pkgutil.iter_modules(kernels.__path__, f"{kernels.__name__}."):
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            if isinstance(value, CPUDispatcher):
                yield f"{info.name}.{name}", len(value.signatures)


def prompts(shape: tuple[int, ...]) -> Iterator[tuple[Prompt, ...]]:
    """Yield prompts of every kind on the box in the middle, alone and with corrections."""
    middle = tuple(n / 2 for n in shape[:-2])
    y, x = shape[-2] / 2, shape[-1] / 2
    ring = [(y - 12, x - 12), (y - 12, x + 12), (y + 12, x + 12), (y + 12, x - 12)]
    kinds: dict[PromptKind, list[tuple[float, float]]] = {
        "point": [(y, x)],
        "scribble": [(y - 4, x), (y + 4, x + 2)],
        "box": [ring[0], ring[2]],
        "polygon": ring,
    }
    away = Prompt("point", ((*middle, y + 6, x),), False)
    for kind, places in kinds.items():
        first = Prompt(kind, tuple((*middle, *place) for place in places))
        yield (first,)
        yield first, away
    if middle:
        low, high = (middle[0] - 8, *ring[0]), (middle[0] + 8, *ring[2])
        yield (Prompt("box", (low, high)),)


@pytest.fixture(scope="module")
def warmed() -> dict[str, int]:
    warmup.tiles()
    return dict(compiled())


@pytest.mark.parametrize(("channels", "shape", "kind"), PIXELS)
def test_nothing_is_compiled(
    channels: int, shape: tuple[int, ...], kind: type[np.generic], warmed: dict[str, int]
) -> None:
    box = (slice(None), *(slice(n // 2 - 8, n // 2 + 8) for n in shape))
    drawn = np.random.default_rng(0).normal(20, 2, (channels, *shape))
    drawn[box] += 90
    scene, model = ArrayScene(drawn.astype(kind)), Click({}, "cpu")
    for extent in ("volume", "slice"):
        for asked in prompts(shape):
            model.answer(scene, Question(asked, {"extent": extent}))
        start = Window(0, (0,) * len(shape), shape), drawn[0] > 60
        more = (Prompt("point", (tuple(n / 2 + 9 for n in shape),)),)
        model.answer(scene, Question(more, {"extent": extent}, start))
    late = {name: n for name, n in compiled() if n != warmed[name]}
    assert late == {}
