"""Label map slices, cropped and run-length encoded for transfer and storage.

A slice is encoded label by label. The pixels of a label's bounding box, row by row, form runs that
alternate between "outside" and "inside", starting with "outside"; each length is an unsigned LEB128
number. A slice without labels has no layer, which differs from a slice that is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from isoline.domain.events import Layer, Mask


def encode(labels: NDArray[np.uint8], slices: Sequence[int], *, provisional: bool = False) -> Mask:
    """Return (n, j, i) `labels` of the slices k in `slices` as an event."""
    rows: list[tuple[int, int, int, int, int, int]] = []
    runs: list[NDArray[np.int64]] = []
    for place, plane in enumerate(labels):
        for label in _labels_in(plane):
            it: NDArray[np.bool_] = plane == label
            box = _bounds(it)
            i0, j0, i1, j1 = box
            rows.append((place, label, *box))
            runs.append(_runs(it[j0:j1, i0:i1]))
    # all at once, since each NumPy call has a large overhead
    code, ends = _varints(np.concatenate(runs) if runs else np.empty(0, np.int64))
    start = np.zeros(len(runs) + 1, np.int64)
    start[1:] = ends[np.cumsum([len(each) for each in runs], dtype=np.int64) - 1]
    return Mask(
        np.array(slices, np.int32),
        np.array(rows, np.int32).reshape(-1, 6),
        code,
        start,
        provisional,
    )


def mask_of(slices: Mapping[int, Sequence[Layer]]) -> Mask:
    """Return the event that has these layers, already encoded, in each slice k."""
    rows = [
        (place, layer.label, *layer.box)
        for place, layers in enumerate(slices.values())
        for layer in layers
    ]
    codes = [layer.code for layers in slices.values() for layer in layers]
    start = np.cumsum([0, *map(len, codes)], dtype=np.int64)
    return Mask(
        np.array([*slices], np.int32),
        np.array(rows, np.int32).reshape(-1, 6),
        np.frombuffer(b"".join(codes), np.uint8),
        start,
    )


def layers(mask: Mask) -> Iterator[tuple[int, list[Layer]]]:
    """Yield each slice k with its layers."""
    by_place: list[list[Layer]] = [[] for _ in mask.slices]
    for (place, label, i0, j0, i1, j1), a, b in zip(
        mask.layers.tolist(), mask.start[:-1].tolist(), mask.start[1:].tolist(), strict=True
    ):
        by_place[place].append(Layer(label, (i0, j0, i1, j1), mask.code[a:b].tobytes()))
    return zip(mask.slices.tolist(), by_place, strict=True)


def draw(mask: Mask, labelmap: NDArray[np.uint8]) -> None:
    """Write the slices of `mask` into (k, j, i) `labelmap`, overwriting them."""
    for k, found in layers(mask):
        labelmap[k] = 0
        for label, box, code in found:
            i0, j0, i1, j1 = box
            labelmap[k, j0:j1, i0:i1][decode(code, box)] = label


def decode(code: bytes, box: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """Return (j, i) which pixels of `box` belong to the layer encoded in `code`.

    Raises ValueError if the runs do not fill the box.
    """
    i0, j0, i1, j1 = box
    runs = lengths(code, (j1 - j0) * (i1 - i0))
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(j1 - j0, i1 - i0)


def lengths(code: bytes, pixels: int) -> NDArray[np.int64]:
    """Return the run lengths in `code`. Raises ValueError unless they add up to `pixels`."""
    varints = np.frombuffer(code, np.uint8)
    if not len(varints) or varints[-1] >= 0x80:
        raise ValueError("the runs are truncated")
    runs = _lengths(varints)
    if runs.sum() != pixels:
        raise ValueError(f"the runs contain {runs.sum()} pixels, but the box has {pixels}")
    return runs


def _labels_in(plane: NDArray[np.uint8]) -> list[int]:
    highest = int(plane.max(initial=0))
    if highest <= 1:
        return [1] * highest
    present: list[int] = np.flatnonzero(np.bincount(plane.ravel(), minlength=2)[1:]).tolist()
    return [label + 1 for label in present]


def _bounds(it: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    import cv2  # needed only to create masks, not to forward them

    i0, j0, width, height = cv2.boundingRect(it.view(np.uint8))
    return i0, j0, i0 + width, j0 + height


def _runs(it: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the lengths of the runs of `it` in raster order; the first is a run of False."""
    flat = it.ravel()
    turns = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    first = np.zeros(1 if flat[0] else 0, np.int64)
    return np.diff(np.concatenate([first, [0], turns, [flat.size]]))


def _varints(values: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return `values`, below 2^35, as unsigned LEB128, and the end of each."""
    size = np.ones(len(values), np.int64)
    for shift in range(7, 35, 7):
        size += values >= 1 << shift
    end = np.cumsum(size)
    first = end - size
    code = np.empty(end[-1] if len(end) else 0, np.uint8)
    left = np.arange(len(values))
    for place in range(5):
        more = size[left] > place + 1
        code[first[left] + place] = (values[left] >> 7 * place & 0x7F) | np.where(more, 0x80, 0)
        left = left[more]
    return code, end


def _lengths(code: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Decode the output of `_varints`. Raises ValueError for larger numbers."""
    ends = np.flatnonzero(code < 0x80)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() > 4:
        raise ValueError("a run is longer than any slice")
    number = np.repeat(np.arange(len(ends)), ends - starts + 1)
    shift = 7 * (np.arange(len(code)) - starts[number])
    lengths = np.zeros(len(ends), np.int64)
    np.add.at(lengths, number, (code & 0x7F).astype(np.int64) << shift)
    return lengths
