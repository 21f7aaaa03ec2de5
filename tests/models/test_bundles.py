"""MONAI bundles: what is read of them, and that they give what MONAI gives."""

from __future__ import annotations

import json
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from isoline import client
from isoline.config import settings
from isoline.errors import Broken, Malformed, UnknownModel
from isoline.geometry.volume_grid import VolumeGrid
from isoline.models.bundles import sliding
from isoline.models.bundles.files import Bundle
from isoline.models.bundles.model import BundleModel
from isoline.models.bundles.network import Network
from isoline.models.bundles.windows import Blend, Windows, gaussian
from isoline.models.catalogue import ModelCatalogue
from isoline.models.volumetric import Gaze, Scan, VolumeModel
from isoline.testing.contracts import VolumeModelContract
from tests import bundles, volumes
from tests.pipeline.test_volume_pipeline import decoded
from tests.serving import serving

pytestmark = pytest.mark.slow

WHERE = volumes.grid(
    (34, 41, 29), (1.1, 0.9, 2.4), volumes.turned(0.2, -0.1, 0.3) @ np.diag([1, -1, -1])
)


def phantom(shape: tuple[int, int, int], seed: int = 0) -> NDArray[np.int16]:
    """Return smooth noise with values from -700 to 1900, alike along no two axes."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), (1.0, 1.5, 2.0))
    values: NDArray[np.int16] = (600 + 900 * noise / noise.std()).astype(np.int16)
    return values


def model(folder: Path, name: str = "bundle:tiny", **changes: Any) -> BundleModel:
    kind = ModelCatalogue(Path(), {name: Bundle(folder, **changes)}).get(name)
    made = kind({}, "cpu")
    assert isinstance(made, BundleModel)
    return made


def scan(grid: VolumeGrid = WHERE, **changes: Any) -> Scan:
    return replace(Scan(phantom(grid.shape), grid, "CT", {}, grid.size[2] // 3), **changes)


def labels(made: BundleModel, given: Scan) -> NDArray[np.uint8]:
    found = np.full(given.voxels.shape, 99, np.uint8)
    for step in made.segment(given):
        if step.labels is not None and not step.provisional:
            found[list(step.slices)] = step.labels
    return found


def by_monai(folder: Path, given: Scan) -> NDArray[np.uint8]:
    """Return what MONAI's own transforms and inferer make of the bundle, in memory."""
    with_monai()
    from monai.bundle import ConfigParser
    from monai.data import MetaTensor
    from monai.transforms import Compose, Invertd

    parser = ConfigParser(json.loads((folder / "configs" / "inference.json").read_text()))
    listed = parser.get("preprocessing")["transforms"]
    parser["preprocessing"]["transforms"] = [
        each for each in listed if each["_target_"] not in ("LoadImaged", "EnsureChannelFirstd")
    ]
    affine = np.diag([-1.0, -1, 1, 1]) @ given.grid.affine
    image = MetaTensor(
        np.asarray(given.voxels, np.float32).T[None], affine=torch.from_numpy(affine)
    )
    before = Compose(parser.get_parsed_content("preprocessing").transforms)
    data = before({"image": image})
    network = torch.jit.load(folder / "models" / "model.ts")  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        answer = parser.get_parsed_content("inferer")(data["image"][None], network)[0]
    data["pred"] = torch.softmax(answer, 0)
    back = Invertd(keys="pred", transform=before, orig_keys="image", nearest_interp=False)
    found: NDArray[np.uint8] = back(data)["pred"].argmax(0).numpy().astype(np.uint8).T
    return found


def with_monai() -> None:
    """Skip a test where MONAI is not installed, except in CI."""
    if os.environ.get("CI") != "true":
        pytest.importorskip("monai", reason="needs pip install 'isoline[bundles]'")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundles.write(tmp_path_factory.mktemp("bundle") / "tiny")


CASES: dict[str, dict[str, Any]] = {
    "as it is": {},
    # the usual spacing makes 22.5 steps of an axis here: MONAI rounds them as the processor's last
    # digit says, to 23 voxels or 24
    "other sides": {"sides": "PLI", "spacing": (1.5, 1.3, 2.0)},
    "own spacing": {"spacing": None},
    "overlap": {"overlap": 0.3},
    "one window": {"spacing": (9.0, 8.0, 7.0)},
}
NORMALIZE = {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True}
INTENSITIES: list[tuple[dict[str, Any], ...]] = [
    (NORMALIZE,),
    ({**NORMALIZE, "nonzero": False},),
    ({"_target_": "ScaleIntensityd", "keys": "image", "minv": -1.0, "maxv": 2.0},),
    (
        {
            "_target_": "ScaleIntensityRangePercentilesd",
            "keys": "image",
            "lower": 5,
            "upper": 95,
            "b_min": 0.0,
            "b_max": 1.0,
            "clip": True,
        },
        {"_target_": "CropForegroundd", "keys": "image", "source_key": "image"},
    ),
]


@pytest.mark.parametrize("case", CASES)
def test_it_gives_what_monai_gives(tmp_path: Path, case: str) -> None:
    folder = bundles.write(tmp_path / "b", config=bundles.inference(**CASES[case]))
    found, theirs = labels(model(folder), scan()), by_monai(folder, scan())
    assert len(np.unique(theirs)) == 3
    assert (found == theirs).mean() > 0.999


@pytest.mark.parametrize("steps", INTENSITIES)
def test_intensities_are_those_of_monai(tmp_path: Path, steps: tuple[dict[str, Any], ...]) -> None:
    folder = bundles.write(tmp_path / "b", config=bundles.inference(*steps))
    assert (labels(model(folder), scan()) == by_monai(folder, scan())).mean() > 0.999


class TestBundle(VolumeModelContract):
    kind = BundleModel

    @pytest.fixture(autouse=True)
    def _named(self, folder: Path) -> None:
        type(self).kind = ModelCatalogue(Path(), {"bundle:tiny": Bundle(folder)}).get("bundle:tiny")  # type: ignore[assignment]

    @pytest.fixture
    def model(self, folder: Path) -> VolumeModel:
        return model(folder)

    @pytest.fixture
    def scan(self) -> Scan:
        return scan()


# --- The same to the last bit ------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_sums_do_not_depend_on_the_order_of_windows(seed: int) -> None:
    windows = Windows.over((19, 23, 17), (8, 9, 7), (0.5, 0.3, 0.6))
    rng = np.random.default_rng(seed)
    places = [place for row in windows.rows for place in windows.row(row)]
    said = {place: rng.normal(size=(2, *windows.size)).astype(np.float32) for place in places}
    means = []
    for _ in range(2):
        blend = Blend(windows, gaussian(windows.size, 0.125), 2)
        for place in places:
            blend.add(place, said[place], range(19))
        means.append(np.stack([blend.mean(k) for k in range(19)]))
        random.Random(seed).shuffle(places)
    assert means[0].tobytes() == means[1].tobytes()
    # and they are the mean, within what rounding may take
    weights = gaussian(windows.size, 0.125).astype(np.float64)
    sums = np.zeros((3, 19, 23, 17))
    for (k, j, i), values in said.items():
        here = sums[:, k : k + 8, j : j + 9, i : i + 7]
        here += np.concatenate([values * weights, weights[None]])
    np.testing.assert_allclose(means[0].swapaxes(0, 1), sums[:2] / sums[2], atol=1e-3)


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.9])
def test_no_sum_overflows(overlap: float) -> None:
    """Every window says the largest value that is taken, whose mean is that value."""
    windows = Windows.over((12, 13, 9), (6, 7, 5), (overlap,) * 3)
    blend = Blend(windows, gaussian(windows.size, 0.125), 2)
    value = np.full((2, *windows.size), 256, np.float32)
    value[1] *= -5
    for row in windows.rows:
        for place in windows.row(row):
            blend.add(place, value, range(12))
    for k in range(12):
        np.testing.assert_array_equal(blend.mean(k)[0], 256)
        np.testing.assert_array_equal(blend.mean(k)[1], -256)


@pytest.mark.parametrize("window", [(16, 12, 8), (40, 44, 32), (9, 17, 5)])
def test_the_reference_model_as_a_network(tmp_path: Path, window: tuple[int, ...]) -> None:
    """Bright or not, whatever is around: windows leave no trace."""
    config_ = bundles.inference(spacing=None)
    config_["window"] = list(window)
    said = bundles.metadata(("background", "bright"))
    made = model(bundles.write(tmp_path / "b", said, config_, bundles.Above()))
    given = scan()
    expected = np.greater(given.voxels, 200)
    assert (labels(made, given) == expected).all()


def test_focus_cores_and_what_is_there_already_change_no_label(folder: Path) -> None:
    made, whole = model(folder), labels(model(folder), scan())
    assert len(np.unique(whole)) == 3
    for focus, threads in ((0, 1), (28, 2), (11, 4)):
        assert (labels(made, scan(focus=focus, threads=threads)) == whole).all()
    have = frozenset({0, 1, 2, 3, *range(9, 29)})
    rest = labels(made, scan(have=have))
    for k in range(29):
        assert (rest[k] == (99 if k in have else whole[k])).all()


def test_what_is_there_already_is_not_computed_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, windows = model(folder), list[int]()
    compute = Network.__call__

    def counted(network: Network, cut: NDArray[np.float32], axes: Any) -> NDArray[np.float32]:
        windows.append(len(cut))
        return compute(network, cut, axes)

    monkeypatch.setattr(Network, "__call__", counted)
    labels(made, scan())
    whole = len(windows)
    labels(made, scan(have=frozenset(range(12, 29))))
    assert 0 < len(windows) - whole < whole
    before = len(windows)
    assert not [step for step in made.segment(scan(have=frozenset(range(29)))) if step.slices]
    assert len(windows) == before


def test_who_looks_elsewhere_sees_that_next(tmp_path: Path) -> None:
    """With windows of 4 planes, looking away after the first slices turns the order round."""
    config = bundles.inference(spacing=None, overlap=0.25)
    config["window"] = [16, 12, 4]
    made = model(bundles.write(tmp_path / "b", config=config))
    gaze = Gaze(2)
    given: list[int] = []
    for step in made.segment(scan(gaze=gaze)):
        given += step.slices
        if given:
            gaze.k = 27
    assert given.index(27) < given.index(12)
    assert sorted(given) == list(range(29))


def test_a_first_impression_where_it_takes_long(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sliding, "IMPATIENCE_SECONDS", 0.0)
    final: set[int] = set()
    provisional: set[int] = set()
    for step in model(folder).segment(scan()):
        (provisional if step.provisional else final).update(step.slices)
        assert not (step.provisional and final.intersection(step.slices))
    assert provisional
    assert final == set(range(29))


# --- What is read, and what is refused ---------------------------------------------------------


def test_what_a_viewer_sees_of_it(folder: Path) -> None:
    spec = ModelCatalogue(Path(), {"bundle:tiny": Bundle(folder)}).get("bundle:tiny").spec
    assert (spec.title, spec.name) == ("Tiny liver", "bundle:tiny")
    assert [label.name for label in spec.labels] == ["Liver", "Tumour"]
    assert spec.labels[0].color != spec.labels[1].color


def test_other_weights_and_another_configuration_are_another_version(tmp_path: Path) -> None:
    versions = set()
    other = bundles.inference(overlap=0.3)
    for number, (said, seed) in enumerate([(None, 1), (other, 1), (None, 2)]):
        folder = bundles.write(tmp_path / str(number), config=said, network=bundles.tiny(seed=seed))
        name = "bundle:b"
        versions.add(ModelCatalogue(Path(), {name: Bundle(folder)}).get(name).spec.version)
    assert len(versions) == 3


def test_a_single_file_that_describes_itself(folder: Path, tmp_path: Path) -> None:
    extra = {
        f"{name}.json": (folder / "configs" / f"{name}.json").read_text()
        for name in ("metadata", "inference")
    }
    path = tmp_path / "liver.ts"
    network = torch.jit.load(folder / "models" / "model.ts")  # type: ignore[no-untyped-call]
    torch.jit.save(network, path, _extra_files=extra)
    assert (labels(model(path), scan()) == labels(model(folder), scan())).all()


def test_one_channel_is_a_class_where_its_sigmoid_says_so(tmp_path: Path) -> None:
    config = bundles.inference(spacing=None)
    config["postprocessing"]["transforms"] = [
        {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
        {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
    ]
    folder = bundles.write(
        tmp_path / "b", bundles.metadata(("lesion",)), config, bundles.tiny(classes=1)
    )
    made = model(folder)
    assert [label.name for label in made.spec.labels] == ["Lesion"]
    found = labels(made, scan())
    assert 0 < found.mean() < 1
    assert found.max() == 1


def wrong(**changes: Any) -> dict[str, Any]:
    config = bundles.inference()
    for key, value in changes.items():
        config[key] = value
    return config


PREPROCESSING = bundles.inference()["preprocessing"]["transforms"]
REFUSED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "does not support Lambda",
        bundles.metadata(),
        bundles.inference({"_target_": "Lambdad"}),
    ),
    (
        "'\\$80 \\+ 16' is code, not a number",
        bundles.metadata(),
        wrong(window=["$80 + 16", 9, 9]),
    ),
    ("does not define the orientation of the volume", bundles.metadata(), wrong(preprocessing=[])),
    ("no list 'preprocessing'", bundles.metadata(), wrong(preprocessing="$f()")),
    (
        "Spacing comes before Orientation",
        bundles.metadata(),
        wrong(preprocessing=PREPROCESSING[:1] + PREPROCESSING[3:]),
    ),
    ("form a cycle", bundles.metadata(), wrong(window="@window")),
    ("overlap: .* is out of range", bundles.metadata(), bundles.inference(overlap=1.0)),
    ("does not support MyInferer", bundles.metadata(), wrong(inferer={"_target_": "my.MyInferer"})),
    ("has no network_data_format", {}, bundles.inference()),
    ("its classes have no names", bundles.metadata(()), bundles.inference()),
]


@pytest.mark.parametrize(("words", "said", "config_"), REFUSED)
def test_what_is_not_understood_is_named(
    tmp_path: Path, words: str, said: dict[str, Any], config_: dict[str, Any]
) -> None:
    folder = bundles.write(tmp_path / "b", said or {"name": "nothing"}, config_)
    with pytest.raises(Broken, match=words):
        model(folder)


def test_a_network_that_does_not_fit_its_description(tmp_path: Path) -> None:
    folder = bundles.write(tmp_path / "b", network=bundles.tiny(classes=5))
    with pytest.raises(Broken, match="returns 5 channels, and its channel_def names 3"):
        labels(model(folder), scan())


def test_code_runs_only_where_it_may(tmp_path: Path) -> None:
    """A state dict needs the code that builds its network; an expression needs to be evaluated."""
    config_ = bundles.inference()
    config_["window"] = "$[4 * 4, 12, 20]"
    config_["imports"] = [f"$open({str(tmp_path / 'ran')!r}, 'w')"]
    folder = bundles.write(tmp_path / "b", config=config_, script=False)
    with pytest.raises(Broken, match="run_code = true"):
        model(folder)
    bundles.write(tmp_path / "c", config=config_)
    with pytest.raises(Broken, match="is code, not a number"):
        model(tmp_path / "c")
    assert not (tmp_path / "ran").exists()
    with_monai()
    plain = labels(model(bundles.write(tmp_path / "d")), scan())
    assert (labels(model(folder, run_code=True), scan()) == plain).all()


def test_weights_that_are_a_pickle_do_not_run(tmp_path: Path) -> None:
    folder = bundles.write(tmp_path / "b", script=False)
    torch.save(bundles.tiny(), folder / "models" / "model.pt")
    with_monai()
    with pytest.raises(Broken, match="cannot be built: Weights only load failed"):
        model(folder, run_code=True)


def test_the_configuration_names_them(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "isoline.toml"
    path.write_text(
        f'[bundles]\nliver = "{folder}"\ncode = {{ path = "{folder}", run_code = true }}'
    )
    found = ModelCatalogue.of(settings.load(path, {}))
    assert found.bundles == {
        "bundle:liver": Bundle(folder),
        "bundle:code": Bundle(folder, run_code=True),
    }
    path.write_text('[bundles]\nliver = "nowhere"')
    with pytest.raises(Malformed, match=r"bundles\.liver"):
        settings.load(path, {})
    with pytest.raises(UnknownModel, match="did you mean 'bundle:liver'"):
        found.get("bundle:livre")


# --- All the way -------------------------------------------------------------------------------


@pytest.mark.slow
def test_over_http(folder: Path, tmp_path: Path) -> None:
    """The server lists a bundle with its labels and runs it in a worker."""
    ras = np.diag([-1, -1, 1, 1.0]) @ WHERE.affine
    nibabel.save(nibabel.Nifti1Image(scan().voxels.T, ras), tmp_path / "ct.nii.gz")
    code = bundles.write(tmp_path / "code", script=False)
    more = f'[bundles]\nliver = "{folder.as_posix()}"\ncode = "{code.as_posix()}"\n'
    (tmp_path / "data").mkdir()
    with serving(tmp_path, tmp_path / "data", more=more) as url:
        server = client.Client(url)
        models = {each["name"]: each for each in server.models()}
        assert [label["name"] for label in models["bundle:liver"]["labels"]] == ["Liver", "Tumour"]
        assert models["bundle:liver"]["problem"] is None
        assert "run_code = true" in models["bundle:code"]["problem"]
        job = server.submit("slides/ct.nii.gz", "bundle:liver", format="ohif", slice=7)
        told = list(job.events())
    assert isinstance(told[0], client.Started)
    assert isinstance(told[-1], client.Done)
    found = np.zeros(WHERE.shape, np.uint8)
    for event in told:
        if isinstance(event, client.Mask) and not event.provisional:
            for each in event.slices:
                found[each["k"]] = decoded(each, (41, 34))
    np.testing.assert_array_equal(found, labels(model(folder), scan()))
