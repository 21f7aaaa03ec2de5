"""Model parameters: the request's values, validated against the spec."""

from __future__ import annotations

from collections.abc import Mapping

from isoline.domain.request import Value
from isoline.errors import BadParameter, nearest
from isoline.geometry.region import brief
from isoline.models.base import Choice, ModelSpec, Number, Parameter, Switch


def check_parameters(spec: ModelSpec, given: Mapping[str, Value]) -> Mapping[str, Value]:
    """Return every parameter of `spec`, in its order: the given value or the default.

    Equal requests give equal values: the spec, not the request, decides whether a number is an int
    or a float. Raises BadParameter, stating the bounds, for an unknown name or an invalid value.
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
    """Return `value` converted to the parameter's type, None if it is invalid."""
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
