"""QuPath's client against the reconnecting suite, as a jar and as a script."""

from __future__ import annotations

import pytest

from isoline.testing import reconnecting
from isoline.testing.drivers import Command
from isoline.testing.reconnecting import CASES
from tests.qupath import building


@pytest.mark.parametrize("kind", ["java", "script"])
def test_it_comes_back(kind: str) -> None:
    driver = Command(building.built().driver(kind))
    verdicts = {each.case.name: each.problem for each in reconnecting.run(driver, "qupath")}
    assert verdicts == dict.fromkeys((case.name for case in CASES), None)
