"""The layers of `mask` events as arrays, and arrays as layers. Requires NumPy.

A *layer* is one label in one slice, as in the protocol: `label`, `box` and `runs`. A slice is a
list of layers. Arrays are (k, j, i): slice, row, column.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence

from isoline_client.arrays import Inside, Labels, np
from isoline_client.options import Json

_LONGEST = 5
"""The largest number of bytes of a run length."""


def decode_layer(layer: Json) -> Inside:
    """Return the voxels of the layer's box, (j, i), that have its label.

    Raises ValueError if the runs do not fill the box.
    """
    i0, j0, i1, j1 = layer["box"]
    lengths = _lengths(b64decode(layer["runs"]))
    if lengths.sum() != (i1 - i0) * (j1 - j0):
        raise ValueError(
            f"the runs of label {layer['label']} have {lengths.sum()} pixels, "
            f"its box {layer['box']} has {(i1 - i0) * (j1 - j0)}"
        )
    inside = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return inside.reshape(j1 - j0, i1 - i0)


def encode_layer(mask: Inside, label: int, offset: Sequence[int] = (0, 0)) -> Json:
    """Return a layer of `label` for the true voxels of (j, i) `mask`, with their bounds as its box.

    `offset` is the (i, j) of the first voxel of `mask` in its slice. Raises ValueError if no voxel
    is true: a slice has no layer for a label that does not occur in it.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise ValueError(f"label {label} has no voxel in this slice; leave the layer out")
    i0, j0, i1, j1 = (int(n) for n in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    flat = mask[j0:j1, i0:i1].ravel()
    turns = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = [0] * (1 + bool(flat[0])) + turns.tolist() + [flat.size]
    i, j = offset
    return {
        "label": int(label),
        "box": [i0 + i, j0 + j, i1 + i, j1 + j],
        "runs": b64encode(bytes(_leb128(np.diff(edges).tolist()))).decode("ascii"),
    }


def paint(labels: Labels, k: int, layers: Iterable[Json]) -> None:
    """Replace slice `k` of (k, j, i) `labels` by these layers; with no layers, empty it.

    Raises ValueError if a layer extends beyond the slice, or its runs do not fill its box.
    """
    labels[k] = 0
    for layer in layers:
        i0, j0, i1, j1 = layer["box"]
        inside, part = decode_layer(layer), labels[k, j0:j1, i0:i1]
        if part.shape != inside.shape:
            raise ValueError(
                f"the box {layer['box']} extends beyond slice {k}, which has {labels.shape[2]} "
                f"columns and {labels.shape[1]} rows; does the array belong to this volume?"
            )
        part[inside] = layer["label"]


def slices_of(labels: Labels) -> dict[int, list[Json]]:
    """Return the layers of every slice k of (k, j, i) `labels` that is not empty."""
    found = {k: _layers(plane) for k, plane in enumerate(labels)}
    return {k: layers for k, layers in found.items() if layers}


def _layers(plane: Labels) -> list[Json]:
    return [encode_layer(plane == label, label) for label in np.unique(plane).tolist() if label]


def _lengths(code: bytes) -> Labels:
    """Decode unsigned LEB128. Raises ValueError if it is truncated or a number is too large."""
    raw = np.frombuffer(code, np.uint8)
    if not len(raw) or raw[-1] >= 0x80:
        raise ValueError("the runs are truncated")
    is_first = np.concatenate([[True], raw[:-1] < 0x80])
    starts = np.flatnonzero(is_first)
    place = np.arange(len(raw)) - starts[np.cumsum(is_first) - 1]
    if place.max() >= _LONGEST:
        raise ValueError("a run is longer than any slice")
    return np.add.reduceat((raw & 0x7F).astype(np.int64) << 7 * place, starts)


def _leb128(lengths: Iterable[int]) -> Iterator[int]:
    for length in lengths:
        while length >= 0x80:
            yield length & 0x7F | 0x80
            length >>= 7
        yield length
