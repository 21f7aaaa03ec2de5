"""Strict parsing: pydantic validates, and isoline words the errors.

A type states with `Expected` what belongs in its place, so that an error reads
"prompts[3].points[0]: expected [x, y], or [x, y, z] in a volume, got 7". Neither pydantic's own
messages nor the names of its types appear in an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from pydantic import (
    ConfigDict,
    GetCoreSchemaHandler,
    JsonValue,
    Tag,
    TypeAdapter,
    ValidationError,
    with_config,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from typing_extensions import LiteralString

from isoline.errors import Malformed, nearest
from isoline.geometry.region import brief

_EXPECTED, _UNKNOWN_KEY, _MISSING_KEY = "expected", "unknown_key", "missing_key"
_TAG = "\x1f"
"""Prefix of the tags of unions, which pydantic includes in the location of an error."""


class Expected:
    """The wording of the error for a value that the annotated type rejects: "expected WHAT, got".

    For a list, a tuple or a dict it applies to the whole, that is, to its type and its length; each
    item has its own wording and its own location. Validation of a list stops at the first wrong
    item, since a body of several megabytes could hold millions.
    """

    def __init__(self, what: str) -> None:
        self.what = what

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        items: dict[str, Any] = {**handler(source)}
        if items["type"] not in ("dict", "list", "tuple"):
            return self._said_of(items)
        if items["type"] == "dict":
            whole: CoreSchema = core_schema.dict_schema()
        else:
            least, most = _lengths(items)
            whole = core_schema.list_schema(min_length=least, max_length=most)
            items["fail_fast"] = True
        if items["type"] == "tuple":
            items["strict"] = False  # JSON has lists only
        return core_schema.chain_schema([self._said_of(whole), items])

    def _said_of(self, schema: CoreSchema) -> CoreSchema:
        return core_schema.custom_error_schema(schema, _EXPECTED, custom_error_message=self.what)


def _lengths(schema: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Return the minimum and maximum lengths of a list or a tuple."""
    if schema["type"] == "tuple" and "variadic_item_index" not in schema:
        return (len(schema["items_schema"]),) * 2
    return schema.get("min_length"), schema.get("max_length")


def expected(what: str) -> PydanticCustomError:
    """Return the error for a validator to raise where it expected `what`."""
    return PydanticCustomError(_EXPECTED, what)


def tag(name: str) -> Tag:
    """Return the tag of one member of a union; it does not appear in the location of an error."""
    return Tag(_TAG + name)


def tagged(choose: Callable[[Any], str]) -> Callable[[Any], str]:
    """Return the function for a `Discriminator` whose members have the `tag`s named by `choose`."""
    return lambda value: _TAG + choose(value)


Value = TypeVar("Value")


def strict(**schema: JsonValue) -> Callable[[type[Value]], type[Value]]:
    """Return a decorator for a TypedDict that is parsed strictly: without coercion or unknown keys.

    `schema` is added to its JSON schema.
    """
    return with_config(ConfigDict(extra="forbid", strict=True, json_schema_extra={**schema}))


class Reads:
    """The annotated type is made from the JSON type `json` by calling `make`.

    `json` is a `strict` TypedDict, in which unknown keys and missing keys are errors, or any other
    type. `make` may raise an IsolineError for anything else that is wrong.
    """

    def __init__(self, json: Any, make: Callable[[Any], object]) -> None:
        self.json, self.make = json, make

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        schema = handler.generate_schema(self.json)
        resolved = handler.resolve_ref_schema(schema)
        if resolved["type"] == "typed-dict":
            keys = _Keys({key: field["required"] for key, field in resolved["fields"].items()})
            schema = core_schema.no_info_before_validator_function(keys.check, schema)
        return core_schema.no_info_after_validator_function(self.make, schema)


class _Keys:
    """The keys that an object may have and those that it must have."""

    def __init__(self, known: Mapping[str, bool]) -> None:
        """Take the known keys, each with whether it is required."""
        self._known = tuple(known)
        self._all = frozenset(known)
        self._required = frozenset(key for key, is_required in known.items() if is_required)

    def check(self, value: object) -> object:
        if not isinstance(value, dict):
            raise expected("a JSON object")
        keys = value.keys()
        if not keys <= self._all:
            self._refuse(_UNKNOWN_KEY, next(key for key in value if key not in self._all))
        if not self._required <= keys:
            missing = self._required - keys
            self._refuse(_MISSING_KEY, next(key for key in self._known if key in missing))
        return value

    def _refuse(self, why: LiteralString, key: object) -> NoReturn:
        raise PydanticCustomError(why, "", {"key": key, "known": self._known})


def read(kind: TypeAdapter[Value], value: object, name: str) -> Value:
    """Validate parsed JSON and return it as `kind`; errors call it `name`. Raises Malformed."""
    try:
        return kind.validate_python(value)
    except ValidationError as error:
        raise _explained(error, name) from None


def _explained(error: ValidationError, name: str) -> Malformed:
    first = error.errors(include_url=False)[0]
    kind, place = first["type"], place_of(first["loc"])
    if kind in (_UNKNOWN_KEY, _MISSING_KEY):
        key, known = first["ctx"]["key"], first["ctx"]["known"]
        known_keys = f"known keys: {', '.join(known)}"
        if kind == _MISSING_KEY:
            return Malformed(f"{place or name} has no {key!r}", f'add "{key}"; {known_keys}')
        near = nearest(key, known)
        return Malformed(
            f"{place or name} has an unknown key {brief(key)}",
            f"did you mean {near!r}?" if near else known_keys,
        )
    wanted = first["msg"] if kind == _EXPECTED else "something else"
    return Malformed(f"{place or name}: expected {wanted}, got {brief(first['input'])}")


_LONGEST_KEY = 100


def place_of(steps: Sequence[str | int]) -> str:
    """Return a location in JSON as errors give it, e.g. `prompts[3].points[0]`."""
    path = ""
    for step in steps:
        if isinstance(step, int):
            path += f"[{step}]"
        elif not step.startswith(_TAG):
            key = step if len(step) <= _LONGEST_KEY else f"{step[: _LONGEST_KEY - 3]}..."
            path += f".{key}" if path else key
    return path
