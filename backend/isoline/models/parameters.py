"""The parameters of a model: what a request gives, checked against what the spec declares."""

from __future__ import annotations

from collections.abc import Mapping

from isoline.domain.request import Value
from isoline.errors import BadParameter, nearest
from isoline.geometry.region import brief
from isoline.models.base import Choice, ModelSpec, Number, Parameter, Switch


def check_parameters(spec: ModelSpec, given: Mapping[str, Value]) -> Mapping[str, Value]:
    """Return every parameter of `spec`, in its order: as given, else its default.

    Equal choices give equal values: a number is an int or a float by its spec, however it came.
    Raises BadParameter, with the bounds, for an unknown name or a value that does not fit.
    """
    declared = {parameter.name: parameter for parameter in spec.parameters}
    for name in given:
        if name not in declared:
            near = nearest(name, declared)
            hint = f"did you mean {near!r}? " if near else ""
            takes = "; ".join(f"{p.name}: {_expected(p)}" for p in spec.parameters)
            raise BadParameter(
                f"{spec.name} has no parameter {brief(name)}", f"{hint}it takes {takes or 'none'}"
            )
    return {
        name: _checked(parameter, given.get(name, parameter.default))
        for name, parameter in declared.items()
    }


def _checked(parameter: Parameter, value: Value) -> Value:
    fitting = _fit(parameter, value)
    if fitting is None:
        raise BadParameter(
            f"parameters.{parameter.name}: expected {_expected(parameter)}, got {value!r}",
            f"leave it out for the default, {parameter.default!r}",
        )
    return fitting


def _expected(parameter: Parameter) -> str:
    match parameter:
        case Number(_, _, low, high, _, integer):
            return f"{'a whole number' if integer else 'a number'} from {low:g} to {high:g}"
        case Choice():
            return f"one of {', '.join(parameter.choices)}"
        case Switch():
            return "true or false"


def _fit(parameter: Parameter, value: Value) -> Value | None:
    """Return `value` in the parameter's own type, None if it does not fit."""
    match parameter:
        case Number(_, _, low, high, _, integer):
            if isinstance(value, bool | str) or not low <= value <= high:
                return None
            if integer:
                return int(value) if value == int(value) else None
            return float(value) + 0.0  # no negative zero: equal values must read equal
        case Choice():
            return value if value in parameter.choices else None
        case Switch():
            return value if isinstance(value, bool) else None
