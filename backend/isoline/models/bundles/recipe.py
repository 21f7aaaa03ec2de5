"""How a bundle's network expects its input and what its output means, from its configuration.

The configuration is read as data only: names of transforms known here, numbers, and references
(`@name`) to them. If a value is hidden in code (`$...`), or a transform is unknown, the bundle is
rejected with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from isoline.errors import Broken
from isoline.geometry.reorient import SIDES
from isoline.models.bundles.configuration import (
    Configuration,
    Table,
    fact,
    number,
    short_name,
    table,
    three,
)
from isoline.models.bundles.transforms import (
    Crop,
    MinMax,
    Normalize,
    Percentiles,
    Range,
    Respace,
    Step,
)

OVERLAP, SIGMA = 0.25, 0.125
"""Defaults of MONAI's SlidingWindowInferer."""
_NEEDS_NO_WORK = frozenset(
    {"LoadImage", "EnsureChannelFirst", "AddChannel", "EnsureType", "ToTensor", "CastToType"}
    | {"ToDevice", "Identity", "SelectItems"}
)


@dataclass(frozen=True)
class Recipe:
    """Everything about a bundle's network except its weights; triples are in the order of
    `sides`."""

    sides: str
    """The orientation of its axes, such as "RAS"."""
    steps: tuple[Step, ...]
    window: tuple[int, int, int]
    overlap: tuple[float, float, float]
    sigma: float | None
    """Sigma of the Gaussian window weights as a share of the window size; None: equal weights."""
    batch: int
    """Number of windows in a batch on a GPU."""
    activation: Literal["softmax", "sigmoid", "none"]
    threshold: float | None
    """The smallest value at which a class counts; None: the class with the largest value counts."""
    mixed_precision: bool
    """Whether a GPU may compute in half precision."""


def read_recipe(metadata: Table, inference: Table) -> Recipe:
    """Return the recipe. Raises Broken, naming the key that is missing or not understood."""
    config = Configuration(inference)
    sides, steps = _preprocessing(config)
    window, overlap, sigma, batch = _windows(config, metadata)
    activation, threshold = _postprocessing(config, _output(metadata))
    amp = config.get("evaluator", {})
    return Recipe(
        sides,
        steps,
        window,
        overlap,
        sigma,
        batch,
        activation,
        threshold,
        isinstance(amp, dict) and amp.get("amp") is True,
    )


def class_names(metadata: Table) -> tuple[str, ...]:
    """Return the names of the output channels, including the background. Raises Broken."""
    output = _output(metadata)
    defined = output.get("channel_def")
    if not isinstance(defined, dict) or not defined:
        raise Broken(
            "the bundle's metadata has no channel_def for its output, so its classes have no names",
            'add network_data_format.outputs.pred.channel_def: {"0": "background", "1": ...}',
        )
    try:
        names = {int(channel): str(name) for channel, name in defined.items()}
    except ValueError as error:
        raise Broken(
            f"the bundle's channel_def has a key that is not a number: {error}",
            'number its channels: {"0": "background", "1": ...}',
        ) from error
    if sorted(names) != list(range(len(names))):
        raise Broken("the bundle's channel_def leaves out a channel", "name every channel")
    return tuple(names[channel] for channel in range(len(names)))


def check_input(metadata: Table) -> None:
    """Raise Broken unless the network takes exactly one volume with one channel."""
    inputs = table(_data_format(metadata).get("inputs"), "network_data_format.inputs")
    image = table(inputs.get("image"), "network_data_format.inputs.image")
    if len(inputs) > 1 or image.get("num_channels", 1) != 1:
        raise Broken(
            f"the bundle needs {image.get('num_channels')} channels or further inputs"
            f" ({', '.join(inputs)}), and a series has only one channel",
            "choose a bundle for a single series",
        )
    shape = image.get("spatial_shape")
    if isinstance(shape, list) and len(shape) != 3:
        raise Broken("the bundle works on 2D images", "choose a bundle for volumes")


def _output(metadata: Table) -> Table:
    outputs = table(_data_format(metadata).get("outputs"), "network_data_format.outputs")
    return table(outputs.get("pred"), "network_data_format.outputs.pred")


def _data_format(metadata: Table) -> Table:
    return table(metadata.get("network_data_format"), "network_data_format")


# --- Preprocessing -----------------------------------------------------------------------------


def _preprocessing(config: Configuration) -> tuple[str, tuple[Step, ...]]:
    sides: str | None = None
    steps: list[Step] = []
    for name, given in config.transforms("preprocessing"):
        if name == "Orientation":
            sides = str(given.get("axcodes", "")).upper()
            if len(sides) != 3 or not set(sides) <= set(SIDES):
                raise Broken(
                    f"preprocessing: axcodes {sides!r} does not name three directions",
                    'use three letters, such as "RAS"',
                )
        elif name in _STEPS:
            step = _STEPS[name](given, f"preprocessing: {name}")
            if isinstance(step, Respace) and sides is None and len(set(step.spacing_mm)) > 1:
                raise Broken(
                    "preprocessing: Spacing comes before Orientation, so the axes of its values are"
                    " unknown",
                    "put Orientationd first",
                )
            steps.append(step)
        elif name not in _NEEDS_NO_WORK:
            raise Broken(
                f"preprocessing: isoline does not support {name}",
                f"it supports Orientation, {', '.join(_STEPS)}; export the bundle without {name}",
            )
    if sides is None:
        raise Broken(
            "preprocessing does not define the orientation of the volume",
            'add {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"}',
        )
    return sides, tuple(steps)


def _respace(given: Table, where: str) -> Step:
    pixdim = given.get("pixdim")
    values = list(pixdim) if isinstance(pixdim, list) else [pixdim] * 3
    if len(values) == 1:
        values *= 3
    if len(values) != 3:
        raise Broken(f"{where}: pixdim has {len(values)} values, not 3", "give one per axis")
    spacing = [None if value is None else number(value, f"{where}.pixdim") for value in values]
    a, b, c = (value if value is not None and value > 0 else None for value in spacing)
    return Respace((a, b, c))


def _range(given: Table, where: str) -> Step:
    a = (fact(given, "a_min", where), fact(given, "a_max", where))
    return Range(a, _target(given, where), given.get("clip") is True)


def _percentiles(given: Table, where: str) -> Step:
    if given.get("relative") is True or given.get("channel_wise") is True:
        raise Broken(f"{where}: relative and channel_wise are not supported", "leave them out")
    percent = (fact(given, "lower", where), fact(given, "upper", where))
    return Percentiles(percent, _target(given, where), given.get("clip") is True)


def _min_max(given: Table, where: str) -> Step:
    if given.get("factor") is not None:
        raise Broken(f"{where}: factor is not supported", "use minv and maxv")
    return MinMax((fact(given, "minv", where, 0.0), fact(given, "maxv", where, 1.0)))


def _normalization(given: Table, where: str) -> Step:
    less, by = given.get("subtrahend"), given.get("divisor")
    return Normalize(
        given.get("nonzero") is True,
        None if less is None else number(less, f"{where}.subtrahend"),
        None if by is None else number(by, f"{where}.divisor"),
    )


def _crop(given: Table, where: str) -> Step:
    if "select_fn" in given or given.get("k_divisible", 1) != 1 or given.get("margin", 0) != 0:
        raise Broken(
            f"{where}: select_fn, margin and k_divisible are not supported", "leave them out"
        )
    return Crop()


_STEPS: dict[str, Callable[[Table, str], Step]] = {
    "Spacing": _respace,
    "ScaleIntensityRange": _range,
    "ScaleIntensityRangePercentiles": _percentiles,
    "ScaleIntensity": _min_max,
    "NormalizeIntensity": _normalization,
    "CropForeground": _crop,
}


def _target(given: Table, where: str) -> tuple[float, float] | None:
    if given.get("b_min") is None or given.get("b_max") is None:
        return None
    return fact(given, "b_min", where), fact(given, "b_max", where)


# --- Inference and postprocessing --------------------------------------------------------------


def _windows(
    config: Configuration, metadata: Table
) -> tuple[tuple[int, int, int], tuple[float, float, float], float | None, int]:
    inferer = table(config.get("inferer", {}), "inferer")
    kind = short_name(inferer.get("_target_", "SlidingWindowInferer"))
    if kind not in ("SlidingWindowInferer", "SimpleInferer"):
        raise Broken(f"inferer: isoline does not support {kind}", "use SlidingWindowInferer")
    size = inferer.get("roi_size")
    if size is None:
        image = table(_data_format(metadata).get("inputs"), "inputs").get("image")
        size = table(image, "inputs.image").get("spatial_shape")
    window = [number(each, "inferer.roi_size") for each in three(size, "inferer.roi_size")]
    if min(window) < 1:
        raise Broken(
            f"inferer.roi_size: {window} is not a window size", "give three positive numbers"
        )
    k, j, i = map(int, window)
    shares = three(inferer.get("overlap", OVERLAP), "inferer.overlap")
    overlap = [number(each, "inferer.overlap") for each in shares]
    if not all(0 <= each < 1 for each in overlap):
        raise Broken(f"inferer.overlap: {overlap} is out of range", "give values from 0 to below 1")
    # a bundle that configures no inferer gets the better blending
    mode = inferer.get("mode", "constant" if inferer else "gaussian")
    sigma = fact(inferer, "sigma_scale", "inferer", SIGMA) if mode == "gaussian" else None
    batch = int(fact(inferer, "sw_batch_size", "inferer", 1.0))
    return (k, j, i), (overlap[0], overlap[1], overlap[2]), sigma, max(1, batch)


def _postprocessing(
    config: Configuration, output: Table
) -> tuple[Literal["softmax", "sigmoid", "none"], float | None]:
    activation: Literal["softmax", "sigmoid", "none"] = "none"
    threshold: float | None = None
    is_discrete = False
    for name, given in config.transforms("postprocessing", required=False):
        if name == "Activations":
            if given.get("sigmoid") is True:
                activation = "sigmoid"
            elif given.get("softmax") is True:
                activation = "softmax"
        elif name == "AsDiscrete":
            is_discrete = True
            if given.get("argmax") is not True and given.get("threshold") is not None:
                threshold = fact(given, "threshold", "postprocessing: AsDiscrete")
    if is_discrete:
        return activation, threshold
    if output.get("num_channels", 1) == 1:  # logits, unless the metadata states otherwise
        return ("none" if output.get("value_range") == [0, 1] else "sigmoid"), 0.5
    return "softmax", None
