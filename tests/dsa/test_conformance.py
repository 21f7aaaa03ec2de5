"""The panel of the Digital Slide Archive, as a driver in Node.js, against the recorded cases."""

from __future__ import annotations

import os
import shutil
import sys

import pytest

from isoline.testing import conformance
from isoline.testing.drivers import Command


@pytest.mark.slow
def test_it_conforms() -> None:
    if shutil.which("node") is None:
        assert os.environ.get("CI") != "true"
        pytest.skip("no node on this machine")
    driver = Command((sys.executable, "-m", "tests.dsa.driver"))
    verdicts = list(conformance.run(driver, "dsa", at_a_time=4))
    assert {each.case.name: each.problem for each in verdicts if each.problem} == {}
    assert {word for each in verdicts for word in each.lacks} == {
        *("regions", "spacing", "contours", "volumes", "volume_prompts", "nifti"),
        *("rerun", "replaces"),
    }
