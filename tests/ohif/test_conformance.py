"""The plugin in OHIF, as a driver in Node.js, against the recorded cases."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from isoline.testing import conformance
from isoline.testing.drivers import Command

DRIVER = Path(__file__).parents[2] / "plugins" / "ohif" / "test" / "driver.mjs"


@pytest.mark.slow
def test_it_conforms() -> None:
    if shutil.which("node") is None:
        assert os.environ.get("CI") != "true"
        pytest.skip("no node on this machine")
    verdicts = list(conformance.run(Command(("node", str(DRIVER))), at_a_time=4))
    assert {each.case.name: each.problem for each in verdicts if each.problem} == {}
    assert {word for each in verdicts for word in each.lacks} == {
        *("regions", "spacing", "contours", "prompts", "nifti", "replaces")
    }
