"""No test passes because a loop ran no round: something is asserted outside, or rounds are sure."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
_PASSING_ON = ("enumerate", "list", "product", "reversed", "sorted", "tuple", "zip")
"""What has rounds when all of its arguments have some."""


def vacuous(source: str) -> list[str]:
    """Return "LINE NAME" of each test all of whose assertions are in loops that may be empty."""
    tree = ast.parse(source)
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            sure = list(_assertions(node.body, constants))
            if sure and not any(sure):
                found.append(f"{node.lineno} {node.name}")
    return found


def _assertions(
    body: list[ast.stmt], constants: Mapping[str, ast.expr], is_sure: bool = True
) -> Iterator[bool]:
    """Yield of each assertion in `body` whether it is reached at least once, loops permitting."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        if _asserts(node):
            yield is_sure and not _is_loop(node, constants)
        is_sure_inside = is_sure and not (
            (isinstance(node, ast.For) and not _has_rounds(node.iter, constants))
            or (isinstance(node, ast.While) and not isinstance(node.test, ast.Constant))
        )
        for field in ("body", "orelse", "finalbody"):
            yield from _assertions(getattr(node, field, []), constants, is_sure_inside)
        for handler in getattr(node, "handlers", []):
            yield from _assertions(handler.body, constants, is_sure)


def _asserts(node: ast.stmt) -> bool:
    """Whether the statement itself is an assertion: an assert, `assert_...(...)`, raises."""
    match node:
        case ast.Assert():
            return True
        case ast.Expr(value=ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name))):
            return name.startswith("assert_")
        case ast.With(items=items):
            called = [i.context_expr.func for i in items if isinstance(i.context_expr, ast.Call)]
            return any(
                isinstance(f, ast.Attribute) and f.attr in ("raises", "warns") for f in called
            )
        case _:
            return False


def _is_loop(node: ast.stmt, constants: Mapping[str, ast.expr]) -> bool:
    """Whether an assert is itself a loop that may be empty: `all(...)`, `not any(...)`."""
    match node:
        case ast.Assert(test=ast.Call(func=ast.Name(id="all"), args=[ast.GeneratorExp() as each])):
            pass
        case ast.Assert(
            test=ast.UnaryOp(
                op=ast.Not(),
                operand=ast.Call(func=ast.Name(id="any"), args=[ast.GeneratorExp() as each]),
            )
        ):
            pass
        case _:
            return False
    return not all(_has_rounds(loop.iter, constants) for loop in each.generators)


def _has_rounds(iterable: ast.expr, constants: Mapping[str, ast.expr]) -> bool:
    """Whether anybody can see that a loop over `iterable` has at least one round."""
    match iterable:
        case ast.Tuple(elts=items) | ast.List(elts=items) | ast.Set(elts=items):
            return any(
                not isinstance(item, ast.Starred) or _has_rounds(item.value, constants)
                for item in items
            )
        case ast.Dict(keys=keys):
            return bool(keys)
        case ast.Constant(value=str() | bytes() as text):
            return bool(text)
        case ast.Name(id=name) if name in constants:
            return _has_rounds(constants[name], {})
        case ast.Call(func=ast.Attribute(value=value, attr="items" | "keys" | "values"), args=[]):
            return _has_rounds(value, constants)
        case ast.Call(func=ast.Name(id="range"), args=arguments):
            try:
                return len(range(*map(ast.literal_eval, arguments))) > 0
            except ValueError:
                return False
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=arguments):
            every = bool(arguments) and all(_has_rounds(each, constants) for each in arguments)
            return name in _PASSING_ON and every
        case _:
            return False


@pytest.mark.parametrize(
    ("body", "is_vacuous"),
    [
        ("for x in found(): assert x", True),
        ("for x in found():\n  with pytest.raises(ValueError): x()", True),
        ("for x in found(): np.testing.assert_array_equal(x, 1)", True),
        ("while found(): assert True", True),
        ("for x in []: assert x", True),
        ("for x in [*found()]: assert x", True),
        ("for x in [*CASES]: assert x", False),
        ("for x in range(0): assert x", True),
        ("for x in range(n): assert x", True),
        ("for x in zip((1, 2), found()): assert x", True),
        ("assert all(x for x in found())", True),
        ("assert not any(x for x in found())", True),
        ("if found():\n  for x in found(): assert x", True),
        ("for x in (1, 2):\n  for y in found(): assert y", True),
        ("assert found()\n for x in found(): assert x", False),
        ("for x in (1, 2): assert x", False),
        ("for x in range(1, 3): assert x", False),
        ("for k, x in enumerate({1: 2}.items()): assert x", False),
        ("for x in CASES: assert x", False),
        ("assert all(x for x in (1, 2))", False),
        ("assert any(x for x in found())", False),
        ("while True: assert x", False),
        ("with pytest.raises(ValueError): found()", False),
        ("found()", False),
    ],
)
def test_loops_that_may_be_empty_are_told_from_others(body: str, is_vacuous: bool) -> None:
    assert len(vacuous(f"CASES = (1, 2)\ndef test_it():\n {body}\n")) == is_vacuous


def test_no_test_asserts_only_in_loops_that_may_be_empty() -> None:
    paths = sorted(TESTS.rglob("test_*.py"))
    assert Path(__file__) in paths
    found = [
        f"{path.relative_to(TESTS)}:{test}"
        for path in paths
        for test in vacuous(path.read_text(encoding="utf-8"))
    ]
    assert found == [], "assert outside of the loop how many rounds it has"
