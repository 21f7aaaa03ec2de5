"""`sam`, with graphs of a few operators that take and give what SAM's and SAM 2's do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from isoline.domain.prompts import Prompt, PromptKind
from isoline.errors import WeightsMissing
from isoline.models.promptable import PromptableModel, Question, Window
from isoline.models.sam import Sam
from isoline.models.weights import weight_files
from isoline.testing.contracts import ArrayScene, PromptableModelContract

onnx = pytest.importorskip("onnx", reason="no onnx here to write graphs with")

RADIUS = 60
"""Of the disk that the decoder draws around the first position, in pixels of its frame."""


@pytest.fixture(scope="session", params=["sam", "sam2", "whole"])
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of weights; its graphs have the names of SAM's and of SAM 2's tensors.

    Those of `whole` are SAM's, in an export that takes sizes as whole numbers.
    """
    directory = tmp_path_factory.mktemp(request.param)
    (directory / "sam").mkdir()
    embedding = "image_embed" if request.param == "sam2" else "image_embeddings"
    write(
        directory / "sam",
        embedding,
        onnx.TensorProto.INT64 if request.param == "whole" else onnx.TensorProto.FLOAT,
    )
    return directory


def write(folder: Path, embedding: str, size_type: int) -> None:
    """Write an encoder of averages and a decoder that knows two masks.

    A disk around the first position, and what is dark plus a quarter of the mask to start from.
    The disk scores best for one position, the other for more.
    """
    h, t = onnx.helper, onnx.TensorProto.FLOAT
    is_first = embedding == "image_embeddings"
    pool = h.make_node("AveragePool", ["image"], [embedding], kernel_shape=[4, 4], strides=[4, 4])
    image = h.make_tensor_value_info("image", t, [1, 3, 1024, 1024])
    embedded = h.make_tensor_value_info(embedding, t, [1, 3, 256, 256])
    _save(folder / "encoder.onnx", [pool], [image], [embedded], [])
    across = (np.arange(256, dtype=np.float32) + 0.5) * 4
    constants = {
        "x": across.reshape(1, 1, 1, 256),
        "y": across.reshape(1, 1, 256, 1),
        "square": np.float32(RADIUS**2),
        "start": np.array([0, 0], np.int64),
        "one": np.array([0, 1], np.int64),
        "stop_x": np.array([1, 1], np.int64),
        "stop_y": np.array([1, 2], np.int64),
        "four": np.array([1, 1, 1, 1], np.int64),
        "quarter": np.float32(0.25),
        "none": np.zeros((1, 1), np.float32),
        "most": np.float32(2.5),
        "channels": np.array([1], np.int64),
        "row": np.array([1, 1], np.int64),
    }
    n = h.make_node
    nodes = [
        n("Slice", ["point_coords", "start", "stop_x", "last"], ["px1"]),
        n("Slice", ["point_coords", "one", "stop_y", "last"], ["py1"]),
        n("Reshape", ["px1", "four"], ["px"]),
        n("Reshape", ["py1", "four"], ["py"]),
        n("Sub", ["x", "px"], ["dx"]),
        n("Sub", ["y", "py"], ["dy"]),
        n("Mul", ["dx", "dx"], ["dx2"]),
        n("Mul", ["dy", "dy"], ["dy2"]),
        n("Add", ["dx2", "dy2"], ["away"]),
        n("Sub", ["square", "away"], ["disk"]),
        n("ReduceMean", [embedding, "channels"], ["bright"], keepdims=1),
        n("Neg", ["bright"], ["dark"]),
        n("Mul", ["mask_input", "has_mask_input"], ["begun"]),
        n("Mul", ["begun", "quarter"], ["some"]),
        n("Sign", ["some"], ["side"]),
        n("Mul", ["side", "quarter"], ["hint"]),
        n("Add", ["dark", "hint"], ["other"]),
        n("Concat", ["disk", "other"], ["masks"], axis=1),
        n("Shape", ["point_labels"], ["size"]),
        n("Slice", ["size", "channels", "two"], ["count"]),
        n("Cast", ["count"], ["tokens"], to=t),
        n("Sub", ["tokens", "most"], ["score1"]),
        n("Reshape", ["score1", "row"], ["score"]),
        n("Concat", ["none", "score"], ["iou_predictions"], axis=1),
        n("Identity", ["masks"], ["low_res_masks"]),
    ]
    constants |= {"last": np.array([1, 2], np.int64), "two": np.array([2], np.int64)}
    shapes: dict[str, list[int | str]] = {
        embedding: [1, 3, 256, 256],
        "point_coords": [1, "n", 2],
        "point_labels": [1, "n"],
        "mask_input": [1, 1, 256, 256],
        "has_mask_input": [1],
    }
    if is_first:
        shapes["orig_im_size"] = [2]
    results: dict[str, list[int | str]] = {"masks": [1, 2, 256, 256], "iou_predictions": [1, 2]}
    if is_first:
        results["low_res_masks"] = [1, 2, 256, 256]
    else:
        nodes.pop()
    _save(
        folder / "decoder.onnx",
        nodes,
        [
            h.make_tensor_value_info(name, size_type if name == "orig_im_size" else t, shape)
            for name, shape in shapes.items()
        ],
        [h.make_tensor_value_info(name, t, shape) for name, shape in results.items()],
        [
            onnx.numpy_helper.from_array(np.asarray(value), name)
            for name, value in constants.items()
        ],
    )


def _save(path: Path, nodes: list, inputs: list, outputs: list, constants: list) -> None:  # type: ignore[type-arg]
    graph = onnx.helper.make_graph(nodes, path.stem, inputs, outputs, constants)
    opset = onnx.helper.make_opsetid("", 18)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9), path)


def load(directory: Path) -> Sam:
    return Sam(weight_files(Sam.spec, directory), "cpu")


def dark_square() -> ArrayScene:
    """A picture of 900 x 700 with a dark square of 100 at x, y = 400, 300."""
    pixels = np.full((3, 700, 900), 240, np.uint8)
    pixels[:, 300:400, 400:500] = 30
    return ArrayScene(pixels)


def ask(
    model: PromptableModel, scene: ArrayScene, *prompts: Prompt, view: int = 512
) -> NDArray[np.bool_]:
    """Return the answer in the pixels of the image."""
    answer = model.answer(scene, Question(prompts, {"view_px": view}))
    assert answer.window.level == 0
    whole = np.zeros(scene.size(0), np.bool_)
    whole[tuple(map(slice, answer.window.low, answer.window.high))] = answer.mask
    return whole


def at(y: float, x: float, kind: PromptKind = "point", include: bool = True) -> Prompt:
    return Prompt(kind, ((y, x),), include)


class TestSam(PromptableModelContract):
    kind = Sam

    @pytest.fixture
    def model(self, directory: Path) -> PromptableModel:
        return load(directory)

    def scene(self) -> ArrayScene:
        return dark_square()

    def question(self) -> Question:
        return Question((at(350, 450), at(340, 440)), {"view_px": 512})

    def test_nothing_has_a_reason(self, model: PromptableModel) -> None:
        question = Question((at(350, 450, include=False),), {"view_px": 512})
        answer = model.answer(self.scene(), question)
        assert not answer.mask.any()
        assert answer.reason


@pytest.mark.parametrize(("y", "x"), [(350.0, 450.0), (3.0, 5.0), (690.0, 880.0)])
def test_positions_reach_the_network_where_they_are(directory: Path, y: float, x: float) -> None:
    found = ask(load(directory), dark_square(), at(y, x))
    rows, columns = np.indices(found.shape) + 0.5
    radius = RADIUS / 1024 * 512
    truth = np.hypot(rows - y, columns - x) <= radius
    assert (found ^ truth).sum() <= 0.06 * truth.sum()


def test_a_wider_view_of_a_small_image_is_padded(directory: Path) -> None:
    found = ask(load(directory), dark_square(), at(100, 450), view=2048)
    rows, columns = np.indices(found.shape) + 0.5
    truth = np.hypot(rows - 100, columns - 450) <= RADIUS * 900 / 1024
    assert (found ^ truth).sum() <= 0.06 * truth.sum()


def test_pixels_reach_the_network_where_they_are(directory: Path) -> None:
    """The best mask of two positions is what is darker than the mean of the training images."""
    found = ask(load(directory), dark_square(), at(350, 450), at(340, 440))
    np.testing.assert_array_equal(np.argwhere(found).min(axis=0), (300, 400))
    np.testing.assert_array_equal(np.argwhere(found).max(axis=0), (399, 499))


def test_another_prompt_embeds_nothing(directory: Path) -> None:
    model, scene = load(directory), dark_square()
    ask(model, scene, at(350, 450))
    made = scene.made
    ask(model, scene, at(350, 450), at(349, 452, include=False))
    assert scene.made == made + 1
    ask(model, scene, at(357, 452))
    assert scene.made == made + 2, "a neighbour shares the square"


def test_a_mask_to_start_from_reaches_the_network(directory: Path) -> None:
    scene, model = ArrayScene(np.full((3, 512, 512), 116, np.uint8)), load(directory)
    start = Window(0, (100, 200), (180, 300)), np.ones((80, 100), np.bool_)
    question = Question((at(120, 220), at(130, 230)), {"view_px": 512}, start)
    answer = model.answer(scene, question)
    whole = np.zeros((512, 512), np.bool_)
    whole[tuple(map(slice, answer.window.low, answer.window.high))] = answer.mask
    # the first decoding gives a disk, the second what is grey, which is nothing, and that
    assert whole[120, 220]
    assert not whole[300, 300]


def test_a_box_needs_no_padding_and_scribbles_are_some_positions(directory: Path) -> None:
    model = load(directory)
    box = Prompt("box", ((290, 390), (410, 510)))
    found = ask(model, dark_square(), box)
    assert found[291, 391]  # the disk around the first corner: two tokens, none of padding
    scribble = Prompt("scribble", tuple((350.0, 410.0 + n) for n in range(80)))
    np.testing.assert_array_equal(
        ask(model, dark_square(), scribble),
        ask(model, dark_square(), at(350, 450), at(340, 440)),
    )


def test_files_that_are_missing_or_do_not_fit(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match=r"sam/encoder\.onnx") as missing:
        weight_files(Sam.spec, tmp_path)
    assert "samexporter" in str(missing.value.remedy)
    encoder = directory / "sam" / "encoder.onnx"
    with pytest.raises(WeightsMissing, match="do not fit"):
        Sam({"sam/encoder.onnx": encoder, "sam/decoder.onnx": encoder}, "cpu")
