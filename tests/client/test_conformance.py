"""isoline's own client against the recorded cases, all of them."""

from __future__ import annotations

import pytest

from isoline.testing import conformance
from isoline.testing.drivers import InProcess
from tests.client import driver


@pytest.mark.slow
def test_it_conforms() -> None:
    verdicts = list(conformance.run(InProcess(driver.answer)))
    assert {each.case.name: each.problem for each in verdicts if each.problem} == {}
    assert not any(each.lacks for each in verdicts)
