"""`nninteractive`: its package as it is, with a network of known truth."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from isoline.domain.prompts import Prompt
from isoline.errors import Broken, WeightsMissing
from isoline.images.catalog import Images
from isoline.inference.prompts import PromptResult
from isoline.inference.resources import Resources
from isoline.inference.task import Attention
from isoline.models.catalogue import ModelCatalogue
from isoline.models.nninteractive.model import NnInteractive
from isoline.models.nninteractive.voxelise import box, outline, stroke
from isoline.models.promptable import PromptableModel, Question, Window
from isoline.models.weights import weight_files
from isoline.testing.contracts import ArrayScene, PromptableModelContract
from tests import prompting
from tests.planning import prompt_plan

pytestmark = pytest.mark.slow

nibabel = pytest.importorskip("nibabel", reason="volumes are not installed")
torch = pytest.importorskip("torch", reason="volumes are not installed")
pytest.importorskip("nnInteractive.trainer", reason="nnInteractive is not installed")

SIZE = (20, 36, 44)
REACH = 3
"""The network takes what is bright within so many voxels of a prompt, along each axis."""
POSITIVE, NEGATIVE = (2, 4, 6), (3, 5, 7)
"""Channels of lassos and boxes, points, and scribbles, behind the image and the mask so far."""


def plans_of(patch: int, reach: int) -> dict[str, Any]:
    """Return plans of a network of two stages that sees `patch` voxels along each axis."""
    architecture = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": 2,
            "features_per_stage": [8, 8],
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[2 * reach + 1] * 3, [1, 1, 1]],
            "strides": [[1, 1, 1], [2, 2, 2]],
            "n_conv_per_stage": [2, 1],
            "n_conv_per_stage_decoder": [1],
            "conv_bias": True,
            "norm_op": None,
            "norm_op_kwargs": {},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"negative_slope": 0.0},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    whole = {"patch_size": [patch] * 3, "spacing": [1.0, 1.0, 1.0], "architecture": architecture}
    return {
        "dataset_name": "Dataset001_Tiny",
        "plans_name": "nnUNetPlans",
        "label_manager": "LabelManager",
        "configurations": {"3d_fullres": whole, "3d_tiny": {"inherits_from": "3d_fullres"}},
    }


def network_weights(plans: dict[str, Any]) -> dict[str, Any]:
    """Return weights with which the network takes the mask so far and what is bright near what
    includes, and leaves what is near what excludes."""
    from nnInteractive.trainer.nnInteractiveTrainer import nnInteractiveTrainer_stub
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(plans)
    network = nnInteractiveTrainer_stub.build_network_architecture(
        manager, manager.get_configuration("3d_tiny"), 8, 2, False
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        first, second = (each.conv for each in network.encoder.stages[0][0].convs)
        decided, last = network.decoder.stages[0].convs[0].conv, network.decoder.seg_layers[0]
        middle = (first.kernel_size[0] // 2,) * 3
        everywhere = (slice(None),) * 3
        # two features each: their difference is 1 where the sum is more than a thousandth
        sums = ((POSITIVE, everywhere), ((1,), middle), (NEGATIVE, everywhere), ((0,), middle))
        for n, (channels, places) in enumerate(sums):
            for channel in channels:
                for feature in (2 * n, 2 * n + 1):
                    first.weight[feature, channel][places] = 1e3
            first.bias[2 * n + 1] = -1
        for out, terms in enumerate(((0, 3), (1,), (2,))):
            for n in terms:
                second.weight[out, 2 * n][middle] = 1
                second.weight[out, 2 * n + 1][middle] = -1
        second.bias[0] = -1  # near and bright
        for out, sign in enumerate((1, 1, -2)):
            decided.weight[0, 8 + out][middle] = sign  # behind what comes from below
        last.weight[1, 0] = 1
        last.bias[0] = 0.5
    return dict(network.state_dict())


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of weights, laid out as the published folder is."""
    return write(tmp_path_factory.mktemp("weights"), PLANS)


def write(directory: Path, plans: dict[str, Any], thickness: int = 2) -> Path:
    """Write the files of a tiny network, its checkpoint with all that nnU-Net puts in one."""
    folder = directory / "nninteractive"
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    dataset = {"channel_names": {"0": "any"}, "labels": {"background": 0, "object": 1}}
    (folder / "dataset.json").write_text(json.dumps(dataset))
    session = {"point_radius": 4, "preferred_scribble_thickness": thickness}
    (folder / "inference_session_class.json").write_text(json.dumps(session))
    checkpoint = {
        "network_weights": network_weights(plans),
        "grad_scaler_state": None,
        "logging": {"ema_fg_dice": [np.float64(0.5)], "train_losses": [np.float32(-0.25)]},
        "_best_ema": np.float64(0.5),
        "current_epoch": 10,
        "init_args": {"plans": plans, "configuration": "3d_tiny", "fold": 0},
        "trainer_name": "nnInteractiveTrainer_stub",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
    return directory


PLANS = plans_of(24, REACH)


def pinned(directory: Path) -> type[NnInteractive]:
    """Return the model with what lies in `directory` in the place of the published files."""
    files = tuple(
        replace(own, sha256=hashlib.sha256((directory / own.file).read_bytes()).hexdigest())
        for own in NnInteractive.spec.own_files
    )

    class Tiny(NnInteractive):
        spec = replace(NnInteractive.spec, own_files=files)

    return Tiny


def load(directory: Path) -> NnInteractive:
    kind = pinned(directory)
    return kind(weight_files(kind.spec, directory), "cpu")


@pytest.fixture(scope="module")
def loaded(directory: Path) -> NnInteractive:
    return load(directory)


def bright_block() -> NDArray[np.int16]:
    """A volume in which a block of 12 x 20 x 30 voxels at (4, 8, 6) is bright."""
    voxels = np.random.default_rng(5).integers(50, 150, SIZE).astype(np.int16)
    voxels[BLOCK] += 1000
    return voxels


BLOCK = np.s_[4:16, 8:28, 6:36]


def whole(model: PromptableModel, scene: ArrayScene, *prompts: Prompt) -> NDArray[np.bool_]:
    """Return the answer in the voxels of the image."""
    return placed(scene, model.answer(scene, Question(prompts, {})))


def placed(scene: ArrayScene, answer: Any) -> NDArray[np.bool_]:
    mask = np.zeros(scene.size(0), np.bool_)
    mask[tuple(map(slice, answer.window.low, answer.window.high))] = answer.mask
    return mask


def near(*drawn: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return what the network takes around voxels that were drawn."""
    marks = np.logical_or.reduce(drawn).astype(np.uint8)
    around: NDArray[np.bool_] = ndimage.maximum_filter(marks, 2 * REACH + 1, mode="constant") > 0
    bright = np.zeros(SIZE, np.bool_)
    bright[BLOCK] = True
    return around & bright


def ball(k: int, j: int, i: int) -> NDArray[np.bool_]:
    """Return the voxels of the point that the package draws."""
    away = np.indices(SIZE) - np.reshape((k, j, i), (3, 1, 1, 1))
    inside: NDArray[np.bool_] = (away**2).sum(axis=0) <= 16
    return inside


def drawn(window: Window, mask: NDArray[np.bool_] | bool = True) -> NDArray[np.bool_]:
    marks = np.zeros(SIZE, np.bool_)
    marks[tuple(map(slice, window.low, window.high))] = mask
    return marks


def at(k: float, j: float, i: float, include: bool = True) -> Prompt:
    return Prompt("point", ((k, j, i),), include)


@pytest.mark.slow
class TestNnInteractive(PromptableModelContract):
    kind = NnInteractive

    @pytest.fixture
    def model(self, loaded: NnInteractive) -> PromptableModel:
        return loaded

    def scene(self) -> ArrayScene:
        return ArrayScene(bright_block()[None])

    def question(self) -> Question:
        return Question((at(8.5, 14.5, 12.5), at(8.5, 22.5, 30.5), at(8.5, 14.5, 10.5, False)), {})


@pytest.fixture
def scene() -> ArrayScene:
    return ArrayScene(bright_block()[None])


def test_a_point_is_where_it_was_clicked(loaded: NnInteractive, scene: ArrayScene) -> None:
    for k, j, i in ((8, 14, 12), (5, 27, 35), (15, 8, 6)):
        found = whole(loaded, scene, at(k + 0.9, j + 0.1, i + 0.5))
        np.testing.assert_array_equal(found, near(ball(k, j, i)))


def test_further_points_add_and_take_away(loaded: NnInteractive, scene: ArrayScene) -> None:
    first, second, third = at(8.5, 14.5, 12.5), at(9.5, 18.5, 26.5), at(8.5, 14.5, 9.5, False)
    found = whole(loaded, scene, first, second, third)
    truth = near(ball(8, 14, 12), ball(9, 18, 26)) & ~near(ball(8, 14, 9))
    np.testing.assert_array_equal(found, truth)


def test_only_what_is_new_is_asked(
    loaded: NnInteractive, scene: ArrayScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = at(8.5, 14.5, 12.5), at(9.5, 18.5, 26.5), at(8.5, 14.5, 9.5, False)
    one = whole(loaded, scene, first)
    monkeypatch.setattr(scene, "read", lambda window: pytest.fail("read again"))
    made = scene.made
    whole(loaded, scene, first, second)
    assert scene.made == made + 1
    three = whole(loaded, scene, first, second, third)
    assert scene.made == made + 2
    np.testing.assert_array_equal(whole(loaded, scene, first), one)
    assert scene.made == made + 2, "what was undone is known"
    scene.forget("told")
    np.testing.assert_array_equal(whole(loaded, scene, first, second, third), three)


def test_two_images_and_two_objects_do_not_mix(loaded: NnInteractive, scene: ArrayScene) -> None:
    other = ArrayScene(bright_block()[None, :, ::-1].copy())
    prompts = at(8.5, 14.5, 12.5), at(9.5, 18.5, 26.5)
    alone = whole(loaded, ArrayScene(bright_block()[None]), *prompts)
    whole(loaded, scene, prompts[0])
    whole(loaded, other, at(8.5, 10.5, 10.5))
    whole(loaded, scene, at(12.5, 20.5, 30.5))
    np.testing.assert_array_equal(whole(loaded, scene, *prompts), alone)


def test_a_flat_box_is_told_as_it_is(loaded: NnInteractive, scene: ArrayScene) -> None:
    flat = Prompt("box", ((7.5, 12.0, 14.0), (7.5, 20.0, 24.0)))
    found = whole(loaded, scene, flat)
    np.testing.assert_array_equal(found, near(drawn(Window(0, (7, 12, 14), (8, 20, 24)))))


def test_a_deep_box_bounds(loaded: NnInteractive, scene: ArrayScene) -> None:
    deep = Prompt("box", ((6.0, 12.0, 14.0), (11.0, 20.0, 24.0)))
    found = whole(loaded, scene, deep)
    inside = drawn(Window(0, (6, 12, 14), (11, 20, 24)))
    np.testing.assert_array_equal(found, near(drawn(Window(0, (8, 12, 14), (9, 20, 24)))) & inside)
    corner = Prompt("box", ((6.0, 12.0, 14.0), (11.0, 16.0, 18.0)), include=False)
    left = whole(loaded, scene, deep, corner)
    assert not left[:, 12:16, 14:18].any()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_strokes_and_lassos_in_any_slice(
    loaded: NnInteractive, scene: ArrayScene, axis: int
) -> None:
    corners = np.array([[7.5, 12.5, 14.5], [7.5, 19.5, 14.5], [9.5, 19.5, 20.5]])
    corners[:, axis] = (9.5, 15.5, 16.5)[axis]
    line = Prompt("scribble", tuple(map(tuple, corners.tolist())))
    marks = stroke(corners, [2, 2, 2], SIZE)
    assert marks is not None
    assert marks[0].shape[axis] == 1
    np.testing.assert_array_equal(whole(loaded, scene, line), near(drawn(*marks)))
    lasso = Prompt("polygon", line.points)
    marks = outline(corners, SIZE)
    assert marks is not None
    assert marks[0].shape[axis] == 1
    np.testing.assert_array_equal(whole(loaded, scene, lasso), near(drawn(*marks)))
    not_this = replace(lasso, include=False)
    found = whole(loaded, scene, at(9.5, 15.5, 16.5), not_this)
    np.testing.assert_array_equal(found, near(ball(9, 15, 16)) & ~near(drawn(*marks)))


def test_a_result_is_corrected(loaded: NnInteractive, scene: ArrayScene) -> None:
    window, mask = Window(0, (5, 9, 7), (9, 12, 10)), np.ones((4, 3, 3), np.bool_)
    question = Question((at(12.5, 22.5, 30.5),), {}, (window, mask))
    found = placed(scene, loaded.answer(scene, question))
    np.testing.assert_array_equal(found, near(ball(12, 22, 30)) | drawn(window))
    undone = Question((at(6.5, 10.5, 8.5, False),), {}, (window, mask))
    answer = loaded.answer(scene, undone)
    assert not answer.mask.any()
    assert answer.reason


def test_what_holds_nothing_says_so(loaded: NnInteractive) -> None:
    alike = ArrayScene(np.full((1, *SIZE), 7, np.int16))
    answer = loaded.answer(alike, Question((at(8.5, 14.5, 12.5),), {}))
    assert not answer.mask.any()
    assert "the same value" in answer.reason
    scene = ArrayScene(bright_block()[None])
    answer = loaded.answer(scene, Question((at(8.5, 14.5, 12.5, False),), {}))
    assert "included" in answer.reason


def test_it_prints_nothing(
    directory: Path, scene: ArrayScene, capsys: pytest.CaptureFixture[str]
) -> None:
    whole(load(directory), scene, at(8.5, 14.5, 12.5))
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_a_large_object_is_refined_in_parts_the_same_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is larger than the network sees at once is seen coarsely first, then part by part."""
    model = load(write(tmp_path, plans_of(64, 1), thickness=5))
    chosen: list[int] = []
    choice = np.random.choice

    def noted(n: int) -> int:
        chosen.append(int(choice(n)))
        return chosen[-1]

    monkeypatch.setattr(np.random, "choice", noted)
    voxels = np.full((1, 20, 30, 90), 1000, np.int16)
    voxels[:, :, :, :4] = 100
    places = np.array([[9.5, 12.5, 8.5], [11.5, 18.5, 80.5]])
    scribble = Prompt("scribble", tuple(map(tuple, places.tolist())))
    found = []
    for seed in (1, 2):
        np.random.seed(seed)
        found.append(whole(model, ArrayScene(voxels), scribble))
        after = np.random.random()
        np.random.seed(seed)
        assert after == np.random.random(), "others draw what they drew without it"
    half = len(chosen) // 2
    assert half, "nothing was drawn by chance"
    assert chosen[:half] == chosen[half:]
    np.testing.assert_array_equal(found[0], found[1])
    marks = stroke(places, [5, 5, 5], found[0].shape)
    assert marks is not None
    truth = np.zeros(found[0].shape, np.bool_)
    truth[tuple(map(slice, marks[0].low, marks[0].high))] = marks[1]
    assert (found[0] >= truth).all()
    assert (found[0] <= ndimage.maximum_filter(truth, 13)).all()


def test_a_request_is_answered_in_slices(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nibabel.save(nibabel.Nifti1Image(bright_block().T, np.eye(4)), tmp_path / "ct.nii.gz")
    kind = pinned(directory)
    monkeypatch.setattr(ModelCatalogue, "get", lambda self, name: kind)
    bench = Resources(ModelCatalogue(directory), "cpu")
    for further in ((), (prompting.point(9, 14, 8, include=False),)):
        prompts = (prompting.point(12, 14, 8), *further)
        request = prompting.asking("ct.nii.gz", *prompts, model="nninteractive", format="ohif")
        prepared = prompt_plan(request, Images({"": tmp_path}), directory)
        assert prepared.task.on_gpu
        assert prepared.task.scope.version.startswith("1+")
        (tile,) = prepared.tiles
        (answered,) = prepared.task.compute(bench, tile, Attention())
        assert isinstance(answered, PromptResult)
        truth = near(ball(8, 14, 12))
        if further:
            truth &= ~near(ball(8, 14, 9))
        np.testing.assert_array_equal(prompting.labelmap(answered, SIZE) > 0, truth)
    bench.close()


class TestDrawn:
    def test_a_stroke_is_as_thick_as_asked_and_flat(self) -> None:
        marks = stroke(np.array([[3.5, 10.0, 10.0], [3.2, 10.0, 20.0]]), [2, 2, 2], SIZE)
        assert marks is not None
        window, mask = marks
        assert (window.low, window.high) == ((3, 9, 9), (4, 11, 21))
        assert mask.all()

    def test_a_stroke_through_slices_has_no_gap(self) -> None:
        marks = stroke(np.array([[2.5, 5.5, 5.5], [16.5, 30.5, 40.5]]), [1, 1, 1], SIZE)
        assert marks is not None
        assert ndimage.label(marks[1], np.ones((3, 3, 3)))[1] == 1
        assert marks[0].shape == (15, 26, 36)

    def test_a_lasso_is_filled(self) -> None:
        corners = np.array([[3.5, 5.5, 6.5], [3.5, 5.5, 12.5], [3.5, 9.5, 12.5], [3.5, 9.5, 6.5]])
        marks = outline(corners, SIZE)
        assert marks is not None
        assert (marks[0].low, marks[0].high) == ((3, 5, 6), (4, 10, 13))
        assert marks[1].all()

    def test_an_oblique_lasso_lies_in_its_plane(self) -> None:
        corners = np.array(
            [[2.5, 4.5, 6.5], [2.5, 4.5, 30.5], [12.5, 24.5, 30.5], [12.5, 24.5, 6.5]]
        )
        marks = outline(corners, SIZE)
        assert marks is not None
        k, j, _ = np.nonzero(marks[1])
        assert np.abs(2 * k - j).max() <= 1
        assert marks[1].sum() == 21 * 25

    def test_what_lies_outside_is_cut(self) -> None:
        corners = np.array([[3.5, -9.0, -9.0], [3.5, -9.0, 9.0], [3.5, 9.0, 9.0], [3.5, 9.0, -9.0]])
        marks = outline(corners, SIZE)
        assert marks is not None
        assert marks[0].low == (3, 0, 0)
        assert outline(corners - [0, 20, 0], SIZE) is None
        assert stroke(corners - [0, 20, 0], [2, 2, 2], SIZE) is None
        assert box(corners - [0, 20, 0], SIZE) is None

    def test_a_box_has_the_voxels_whose_centres_it_holds(self) -> None:
        assert box(np.array([[3.5, 2.4, 2.6], [3.5, 5.6, 5.4]]), SIZE) == Window(
            0, (3, 2, 3), (4, 6, 5)
        )


class TestFiles:
    """What the folder must not do."""

    @pytest.fixture
    def copy(self, directory: Path, tmp_path: Path) -> Path:
        for file in (directory / "nninteractive").rglob("*"):
            if file.is_file():
                target = tmp_path / file.relative_to(directory)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
        return tmp_path

    def test_they_are_asked_for_with_their_licence(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsMissing, match="nninteractive/") as missing:
            weight_files(NnInteractive.spec, tmp_path)
        assert "nninteractive-download-model" in missing.value.remedy
        assert "CC BY-NC-SA 4.0" in missing.value.remedy

    def test_only_the_published_ones_will_do(self, directory: Path) -> None:
        with pytest.raises(WeightsMissing, match="sha256 differs"):
            weight_files(NnInteractive.spec, directory)
        files = {own.file: directory / own.file for own in NnInteractive.spec.own_files}
        with pytest.raises(WeightsMissing, match="sha256 differs"):
            NnInteractive(files, "cpu")

    def test_without_the_package_it_says_how_to_get_it(self, directory: Path) -> None:
        spec = replace(NnInteractive.spec, packages=("not-installed-anywhere",))
        with pytest.raises(Broken, match=r"isoline\[nninteractive\]"):
            weight_files(spec, directory)

    def test_a_checkpoint_that_calls_something_is_refused(self, copy: Path) -> None:
        class Evil:
            def __reduce__(self) -> Any:
                return os.mkdir, (str(copy / "called"),)

        checkpoint = copy / "nninteractive" / "fold_0" / "checkpoint_final.pth"
        content = torch.load(checkpoint, weights_only=False)
        torch.save({**content, "logging": Evil()}, checkpoint)
        with pytest.raises(WeightsMissing, match="plain values"):
            load(copy)
        assert not (copy / "called").exists()

    @pytest.mark.parametrize("found", ["os.system", "subprocess.Popen"])
    def test_plans_that_import_something_else_are_refused(self, copy: Path, found: str) -> None:
        for name in ("network_class_name", "nonlin"):
            plans = json.loads(json.dumps(PLANS))
            architecture = plans["configurations"]["3d_fullres"]["architecture"]
            part = architecture if name in architecture else architecture["arch_kwargs"]
            part[name] = found
            (copy / "nninteractive" / "plans.json").write_text(json.dumps(plans))
            with pytest.raises(WeightsMissing, match=found):
                load(copy)

    def test_plans_that_find_another_class_are_refused(self, copy: Path) -> None:
        plans = {**PLANS, "label_manager": "Other"}
        (copy / "nninteractive" / "plans.json").write_text(json.dumps(plans))
        with pytest.raises(WeightsMissing, match="Other"):
            load(copy)

    @pytest.mark.parametrize("name", ["plans.json", "dataset.json", "fold_0/checkpoint_final.pth"])
    @pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"PK\3\4 no more", b'{"a": {}}'])
    def test_what_is_damaged_is_refused(self, copy: Path, name: str, content: bytes) -> None:
        (copy / "nninteractive" / name).write_bytes(content)
        with pytest.raises(WeightsMissing, match=name):
            load(copy)

    def test_weights_of_another_network_are_broken(self, copy: Path) -> None:
        plans = json.loads(json.dumps(PLANS))
        architecture = plans["configurations"]["3d_fullres"]["architecture"]
        architecture["arch_kwargs"]["features_per_stage"] = [4, 4]
        (copy / "nninteractive" / "plans.json").write_text(json.dumps(plans))
        with pytest.raises(Broken, match="cannot be built"):
            load(copy)

    def test_numbers_of_an_older_numpy_are_read(self, copy: Path, scene: ArrayScene) -> None:
        checkpoint = copy / "nninteractive" / "fold_0" / "checkpoint_final.pth"
        older = io.BytesIO()
        with zipfile.ZipFile(checkpoint) as now, zipfile.ZipFile(older, "w") as then:
            for name in now.namelist():
                content = now.read(name)
                if name.endswith("data.pkl"):
                    assert b"numpy._core.multiarray" in content
                    content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
                then.writestr(name, content)
        checkpoint.write_bytes(older.getvalue())
        found = whole(load(copy), scene, at(8.5, 14.5, 12.5))
        np.testing.assert_array_equal(found, near(ball(8, 14, 12)))
