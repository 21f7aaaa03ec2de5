"""QuPath's client against the recorded cases, as a jar and as a script."""

from __future__ import annotations

import pytest

from isoline.testing import conformance
from isoline.testing.drivers import Command
from tests.qupath import building


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["java", "script"])
def test_it_conforms(kind: str) -> None:
    driver = Command(building.built().driver(kind))
    verdicts = list(conformance.run(driver, "qupath", at_a_time=4))
    assert {each.case.name: each.problem for each in verdicts if each.problem} == {}
    assert {word for each in verdicts for word in each.lacks} == {
        *("volumes", "volume_prompts", "nifti", "rerun", "replaces")
    }
