"""The mutation tester makes the mistakes that it says, and draws them as its seed says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation import equivalent
from tests.mutation.__main__ import draw
from tests.mutation.operators import Mutant, mutants
from tests.mutation.targets import TARGETS, path_of


def of(path: Path, source: str) -> list[Mutant]:
    path.write_text(source, encoding="utf-8")
    return mutants("some", path)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a < b", ["x = (a <= b)"]),
        ("x = a == b", ["x = (a != b)"]),
        ("x = a in b", ["x = (a not in b)"]),
        ("x = a < b > c", ["x = (a <= b > c)", "x = (a < b >= c)"]),
        ("x = a + b", ["x = (a - b)"]),
        ("x = a and b", ["x = (a or b)"]),
        ("x = not a", ["x = (a)"]),
        ("x = min(a, b)", ["x = max(a, b)"]),
        ("x = np.maximum(a, b)", ["x = np.minimum(a, b)"]),
        ("x = f(a, b=c)", ["x = f(a)"]),
        ("x = 7", ["x = 8", "x = 6"]),
        ("x = 0.5", ["x = 0.75", "x = 0.3333333333333333"]),
        ("x = True", ["x = False"]),
        ("x = range(a, b)", ["x = range((a + 1), b)", "x = range(a, (b + 1))"]),
        ("x = a[b:]", ["x = a[(b + 1):]"]),
        ("x = {a: b}", ["x = ({})"]),
        ("x.y = a", ["pass"]),
        ("f(a)", ["pass"]),
        ("x += a", ["x -= a", "pass"]),
        ("if a: f", ["if (not (a)): f", "if a: pass"]),
        ("if a < b: x = a", ["if (a <= b): x = a", "if (not (a < b)): x = a"]),
        ("é = a < b", ["é = (a <= b)"]),
        ("x: int | None = a", []),
        ("assert a < b", []),
        ('"""Says 1 + 1."""', []),
        ('log.info("x", 1)', []),
        ("x = f'{a + b}'", []),
        ("x: TypeAlias = a | b", []),
        ("from a import b", []),
    ],
)
def test_each_mistake_is_made_once(tmp_path: Path, source: str, expected: list[str]) -> None:
    assert sorted(each.source for each in of(tmp_path / "some.py", source)) == sorted(expected)


def test_a_return_gives_nothing(tmp_path: Path) -> None:
    for value, nothing in (("a", "None"), ("[a]", "[]"), ("{b: a}", "{}")):
        made = of(tmp_path / "some.py", f"def f(a):\n    return {value}\n")
        assert f"def f(a):\n    return {nothing}\n" in [each.source for each in made]


def test_a_mutant_says_where_it_is(tmp_path: Path) -> None:
    (mutant,) = of(tmp_path / "some.py", "x = (\n    a\n    <\n    b\n)\n")
    assert (mutant.line, mutant.before, mutant.after) == (2, "    a\n    <\n    b", "    (a <= b)")
    assert mutant.key == ("some", "a < b", "(a <= b)")
    assert str(mutant).splitlines()[0] == "some:2"


def test_every_mutant_is_python() -> None:
    made = [
        mutant
        for target in TARGETS
        for name in target.modules
        for mutant in mutants(name, path_of(name))
    ]
    assert len(made) > 2500
    for mutant in made[::20]:
        mutant.compiled()


def test_a_seed_draws_the_same_again_and_of_every_target() -> None:
    drawn = draw(TARGETS, 100, seed=3)
    assert sum(map(len, drawn.values())) == 100
    assert {len(of_one) for of_one in drawn.values()} == {100 // len(TARGETS)}
    assert draw(TARGETS, 100, seed=3) == drawn
    assert draw(TARGETS, 100, seed=4) != drawn
    (alone,) = draw(TARGETS[:1], 10, seed=3).values()
    assert alone == drawn[TARGETS[0]]


def test_what_is_equivalent_is_still_a_mutant() -> None:
    """An entry whose line has changed since would hide nothing and mislead readers."""
    every = {
        mutant.key
        for target in TARGETS
        for name in target.modules
        for mutant in mutants(name, path_of(name))
    }
    listed = equivalent.load()
    assert set(listed) <= every
    assert all(listed.values())
