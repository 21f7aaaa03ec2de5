"""Prompts at their places in an image, whatever its dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from isoline.domain.prompts import Prompt
from isoline.errors import BadPrompt
from isoline.models.promptable import Index


def placed(
    prompts: Sequence[Prompt], places: Sequence[NDArray[np.float64]], size: Index, shown: str
) -> tuple[Prompt, ...]:
    """Return `prompts` at `places`, each (n, axes) in array order, clipped near the image.

    Raises BadPrompt for one that lies outside, or that contradicts another.
    """
    seen: dict[tuple[int, ...], int] = {}
    for number, (prompt, at) in enumerate(zip(prompts, places, strict=True)):
        where = f"prompts[{number}]"
        low, high = at.min(axis=0), at.max(axis=0)
        # half-open like the image, but a line along its border still counts
        if (high < 0).any() or (low >= size).any():
            raise BadPrompt(f"{where} lies outside the image", shown)
        if prompt.kind != "point":
            continue
        if (low < 0).any():
            raise BadPrompt(f"{where} lies outside the image", shown)
        pixel = tuple(np.floor(at[0]).astype(int).tolist())
        other = seen.setdefault(pixel, number)
        if prompts[other].include != prompt.include:
            includes, excludes = (number, other) if prompt.include else (other, number)
            raise BadPrompt(
                f"prompts[{includes}] includes and prompts[{excludes}] excludes the same"
                f" {'pixel' if len(pixel) == 2 else 'voxel'},"
                f" {', '.join(map(str, reversed(pixel)))}",
                "remove one of them",
            )
    reach = np.array(size)
    return tuple(
        replace(prompt, points=tuple(map(tuple, at.clip(-reach, 2 * reach).tolist())))
        for prompt, at in zip(prompts, places, strict=True)
    )
