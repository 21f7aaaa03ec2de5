"""Run lengths to arrays and back: by hand, against the server's own encoder, and what is none."""

from __future__ import annotations

import subprocess
import sys
from base64 import b64encode

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from isoline.client import Json, decode_layer, encode_layer, paint, slices_of
from isoline.domain import mask_rle
from isoline.exports.ohif import OHIF
from isoline.testing.contracts import results

BY_HAND: Json = {"label": 1, "box": [5, 1, 205, 3], "runs": "AALGAcgB"}
"""The example of the protocol: 0 not, 2 this label, 198 not, 200 this label."""

WITHOUT_NUMPY = """
import sys
import isoline_client
print("numpy" in sys.modules)
sys.modules["numpy"] = None
try:
    isoline_client.decode_layer({"label": 1, "box": [0, 0, 1, 1], "runs": "AAE="})
except ImportError as error:
    print(error)
"""


def layer(box: list[int], *lengths: int, label: int = 1) -> Json:
    return {"label": label, "box": box, "runs": b64encode(bytes(lengths)).decode()}


def test_the_example_of_the_protocol() -> None:
    inside = decode_layer(BY_HAND)
    assert inside.shape == (2, 200)
    assert np.flatnonzero(inside).tolist() == [0, 1, *range(200, 400)]
    assert encode_layer(inside, 1, offset=(5, 1)) == BY_HAND


def test_a_layer_is_cropped_to_its_label() -> None:
    mask = np.zeros((6, 9), np.bool_)
    mask[2, 3:7] = mask[4, 5] = True
    assert encode_layer(mask, 3, offset=(100, 20)) == layer(
        [103, 22, 107, 25], 0, 4, 6, 1, 1, label=3
    )


def test_a_slice_becomes_exactly_its_layers() -> None:
    labels = np.full((3, 4, 5), 7, np.uint8)
    paint(labels, 1, [layer([0, 0, 5, 2], 3, 7), layer([2, 1, 3, 4], 0, 3, label=2)])
    assert labels[1].tolist() == [
        [0, 0, 0, 1, 1],
        [1, 1, 2, 1, 1],
        [0, 0, 2, 0, 0],
        [0, 0, 2, 0, 0],
    ]
    assert (labels[[0, 2]] == 7).all()
    paint(labels, 2, [])
    assert not labels[2].any()


def test_slices_without_a_label_are_left_out() -> None:
    labels = np.zeros((4, 3, 2), np.int32)
    labels[2, 1, 0], labels[2, 2, 1], labels[3, 0] = 5, 2, 1
    assert slices_of(labels) == {
        2: [layer([1, 2, 2, 3], 0, 1, label=2), layer([0, 1, 1, 2], 0, 1, label=5)],
        3: [layer([0, 0, 2, 1], 0, 2)],
    }


@given(arrays(np.uint8, (2, 5, 300), elements=st.integers(0, 2)))
def test_there_and_back(labels: NDArray[np.uint8]) -> None:
    again = np.full_like(labels, 9)
    found = slices_of(labels)
    paint(again, 0, found.get(0, []))
    paint(again, 1, found.get(1, []))
    assert (again == labels).all()


def test_what_the_server_encodes_is_painted_as_it_was() -> None:
    labels = np.zeros((4, 40, 333), np.uint8)
    labels[0, 5:30, 7:320] = 1
    labels[2] = np.random.default_rng(5).integers(0, 4, labels[2].shape)
    event = mask_rle.encode(labels, range(4))
    sent = orjson.loads(b"[%b]" % OHIF().mask(event, results.STARTED))
    drawn = np.full_like(labels, 8)
    for each in sent:
        paint(drawn, each["k"], each["layers"])
    assert (drawn == labels).all()
    assert {each["k"]: each["layers"] for each in sent if each["layers"]} == slices_of(labels)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (layer([0, 0, 3, 3], 2, 6), r"label 1 have 8 pixels, its box \[0, 0, 3, 3\] has 9"),
        (layer([0, 0, 3, 3], 2, 0x87), "truncated"),
        (layer([0, 0, 3, 3]), "truncated"),
        (layer([0, 0, 3, 3], *[0xFF] * 5, 1), "longer than any slice"),
        ({"label": 1, "box": [0, 0, 3, 3], "runs": "A"}, "base64"),
    ],
)
def test_what_does_not_fill_its_box_is_refused(broken: Json, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode_layer(broken)


def test_a_layer_of_another_volume_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[2, 0, 6, 1\] extends beyond slice 0.* 5\s+columns"):
        paint(np.zeros((1, 4, 5), np.uint8), 0, [layer([2, 0, 6, 1], 0, 4)])


def test_a_label_that_does_not_occur_has_no_layer() -> None:
    with pytest.raises(ValueError, match="label 4 has no voxel"):
        encode_layer(np.zeros((3, 3), np.bool_), 4)


def test_numpy_is_imported_when_an_array_is_asked_for() -> None:
    told = subprocess.check_output([sys.executable, "-c", WITHOUT_NUMPY], text=True, timeout=60)
    assert told.splitlines() == ["False", "arrays need NumPy; run `pip install numpy`"]
