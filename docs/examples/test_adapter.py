"""The example adapter passes every case of what it can do."""

from adapter import CAPABILITIES, answer

from isoline.testing import conformance
from isoline.testing.drivers import InProcess


def test_the_adapter_conforms() -> None:
    verdicts = list(conformance.run(InProcess(answer)))
    assert [f"{each.case.name}: {each.problem}" for each in verdicts if each.problem] == []
    not_run = {word for each in verdicts for word in each.lacks}
    assert not_run.isdisjoint(CAPABILITIES)
