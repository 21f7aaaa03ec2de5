"""The parameters of a model: bounds are part of what is allowed, and nothing beyond them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoline.domain.events import Label
from isoline.domain.request import Value
from isoline.errors import BadParameter
from isoline.models.model import Bounded, Choice, ModelSpec, Number, Parameter, Switch
from isoline.models.parameters import check_parameters


def spec_of(*parameters: Parameter) -> ModelSpec:
    return ModelSpec(
        name="some",
        title="",
        description="",
        version="1",
        labels=(Label("thing", (0, 0, 0)),),
        output=Bounded(10.0),
        parameters=parameters,
    )


COUNT = Number("count", 5, 2, 9, "", integer=True)
WIDTH = Number("width", 1.0, 0.5, 7.25, "")


def checked(parameter: Parameter, value: Value) -> Value:
    return check_parameters(spec_of(parameter), {parameter.name: value})[parameter.name]


@pytest.mark.parametrize(
    ("parameter", "bound"), [(COUNT, 2), (COUNT, 9), (WIDTH, 0.5), (WIDTH, 7.25)]
)
def test_both_bounds_are_allowed(parameter: Number, bound: float) -> None:
    assert checked(parameter, bound) == bound


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        (COUNT, 1),
        (COUNT, 10),
        (COUNT, 4.5),
        (WIDTH, math.nextafter(0.5, 0)),
        (WIDTH, math.nextafter(7.25, 8)),
        (WIDTH, math.nan),
        (WIDTH, True),
        (WIDTH, "1"),
    ],
)
def test_what_lies_beyond_a_bound_is_refused(parameter: Number, value: Value) -> None:
    with pytest.raises(BadParameter, match=rf"parameters\.{parameter.name}: expected") as caught:
        checked(parameter, value)
    assert caught.value.remedy == f"leave it out for the default, {parameter.default!r}"


@given(st.floats(0.5, 7.25), st.integers(2, 9))
def test_a_number_comes_in_the_type_of_its_parameter(width: float, count: int) -> None:
    given_: dict[str, Value] = {"count": float(count), "width": width}
    assert list(check_parameters(spec_of(WIDTH, COUNT), given_).items()) == [
        ("width", width),
        ("count", count),
    ]
    assert type(checked(COUNT, float(count))) is int
    assert type(checked(WIDTH, count if count <= 7 else 7)) is float


SHAPE = Choice("shape", "disk", ("disk", "ring"), "")
FILL = Switch("fill", True, "")


def test_choices_and_switches_are_taken_as_they_are() -> None:
    assert [checked(SHAPE, shape) for shape in ("disk", "ring")] == ["disk", "ring"]
    assert [checked(FILL, fill) for fill in (True, False)] == [True, False]
    assert check_parameters(spec_of(SHAPE, FILL), {}) == {"shape": "disk", "fill": True}
    for parameter, value in ((SHAPE, "square"), (SHAPE, True), (FILL, 1), (FILL, "true")):
        with pytest.raises(BadParameter, match=f"got {value!r}"):
            checked(parameter, value)


def test_an_unknown_name_is_refused_with_all_that_there_is() -> None:
    spec = spec_of(COUNT, WIDTH, SHAPE, FILL)
    with pytest.raises(BadParameter) as caught:
        check_parameters(spec, {"zzz": 1})
    assert caught.value.what == "some has no parameter 'zzz'"
    assert caught.value.remedy == (
        "it takes count: a whole number from 2 to 9; width: a number from 0.5 to 7.25;"
        " shape: one of disk, ring; fill: true or false"
    )
    with pytest.raises(BadParameter) as caught:
        check_parameters(spec, {"widht": 1})
    assert caught.value.remedy.startswith("did you mean 'width'? it takes count")
    with pytest.raises(BadParameter, match="it takes none"):
        check_parameters(spec_of(), {"width": 1})
