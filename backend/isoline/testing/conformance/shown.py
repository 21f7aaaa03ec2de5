"""The judgement of what a viewer shows: features of a slide, or the labels of a volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoline.errors import Malformed
from isoline.geometry.region import brief
from isoline.testing.streams import Json

# --- Features ----------------------------------------------------------------------------------


def judge_features(said: object, wanted: Sequence[Json]) -> str | None:
    """Return what is wrong with the features that a driver printed, None if they are correct."""
    expected = {each["id"]: each for each in wanted}
    try:
        features = _features(said)
    except Malformed as error:
        return str(error)
    shown = [feature["id"] for feature in features]
    if repeated := [name for name in expected if shown.count(name) > 1]:
        return f"it shows twice: {_named(repeated, expected)}"
    if foreign := [name for name in shown if name not in expected]:
        return f"it should not show: {_named(foreign, {f['id']: f for f in features})}"
    if missing := [name for name in expected if name not in shown]:
        return f"it does not show: {_named(missing, expected)}"
    for feature in features:
        if problem := _wrong_feature(feature, expected[feature["id"]]):
            return problem
    return None


def _wrong_feature(feature: Json, wanted: Json) -> str | None:
    if feature["label"] != wanted["label"]:
        return f"label of {feature['id']}: expected {wanted['label']}, got {feature['label']}"
    for key, tolerance in wanted["tolerance"].items():
        got, right = np.array(feature[key]), np.array(wanted[key])
        if not (np.abs(got - right) <= tolerance).all():
            return (
                f"{key} of {feature['id']}: expected {wanted[key]}, got {feature[key]} "
                f"(tolerance {tolerance:.2g})"
            )
    return None


def _named(names: Sequence[str], features: Mapping[str, Json]) -> str:
    return ", ".join(
        f"{name} ({features[name]['label']}, {features[name]['area']:g} px)" for name in names
    )


def _features(said: object) -> Sequence[Json]:
    """Return the features in the output of a driver. Raises Malformed for any other output."""
    if not isinstance(said, list):
        raise Malformed("it should print a list of features")
    for feature in said:
        match feature:
            case {
                "id": str(),
                "label": str(),
                "area": int() | float(),
                "bounds": [int() | float(), int() | float(), int() | float(), int() | float()],
            }:
                pass
            case _:
                raise Malformed(f"not a feature with id, label, area and bounds: {brief(feature)}")
    return said


# --- Labels ------------------------------------------------------------------------------------


def judge_labels(said: object, wanted: object) -> str | None:
    """Return what is wrong with the (k, j, i) labels that a driver printed, None if correct."""
    expected = np.array(wanted)
    got = _labels(said)
    if got is None:
        return "it should print the labels of all voxels: a list of slices of rows of numbers"
    if got.shape != expected.shape:
        turned = got.shape == expected.T.shape
        hint = " (the axes are slices, rows, columns)" if turned else ""
        return f"expected {_size(expected)}, got {_size(got)}{hint}"
    if (got == expected).all():
        return None
    k, j, i = np.argwhere(got != expected)[0]
    return (
        f"voxel i {i}, j {j}, k {k}: expected {expected[k, j, i]}, got {got[k, j, i]}; "
        f"{(got != expected).sum()} voxels differ{_hint(got, expected)}"
    )


def _labels(said: object) -> NDArray[Any] | None:
    try:
        labels = np.array(said)
    except ValueError:  # ragged
        return None
    return labels if labels.ndim == 3 and labels.dtype.kind in "iu" else None


def _size(labels: NDArray[Any]) -> str:
    slices, rows, columns = labels.shape
    return f"{slices} slices of {rows} rows of {columns}"


def _hint(got: NDArray[Any], expected: NDArray[Any]) -> str:
    for axis, name in enumerate(("slices", "rows", "columns")):
        if (got == np.flip(expected, axis)).all():
            return f" ({name} are in reverse order)"
        for step in (-1, 1):
            if (got == np.roll(expected, step, axis)).all():
                return f" ({name} are off by one)"
    return ""
