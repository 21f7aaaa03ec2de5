"""What the clients of isoline ask for, beside what the server reads: no client knows a key more.

They import nothing of each other, and most are not Python of this environment, so their keys are
read from their sources.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from isoline.client import Options
from isoline.protocol.openapi import document
from isoline.protocol.requests import REQUEST_KEYS

PLUGINS = Path(__file__).parents[2] / "plugins"


def quoted(file: str, what: str) -> set[str]:
    """Return the quoted words in every part of a plugin's file that the pattern `what` finds."""
    parts = re.findall(what, (PLUGINS / file).read_text(encoding="utf-8"), re.DOTALL)
    return set(re.findall(r"['\"](\w+)['\"]", "\n".join(parts)))


DSA = quoted("dsa/isoline_dsa/rest.py", r"(?:REQUEST|PROMPT)_KEYS = \((.*?)\)")
CLIENTS = {
    "python": {*Options.__annotations__, "image", "model"},
    # the server in Girder adds these two, and a run's title stays there
    "dsa": DSA - {"title"} | {"image", "format"},
    "ohif": quoted("ohif/src/client.js", r"REQUEST_KEYS = \[(.*?)\]"),
    "qupath": quoted("qupath/src/isoline/qupath/RequestKeys.java", r'String \w+ = ("\w+");'),
}


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_asks_for_nothing_that_the_server_does_not_read(client: str) -> None:
    assert len(CLIENTS[client]) >= 6
    assert CLIENTS[client] <= set(REQUEST_KEYS)


def test_the_python_client_can_ask_for_everything() -> None:
    assert CLIENTS["python"] == set(REQUEST_KEYS)


def test_the_server_reads_what_it_describes() -> None:
    components = document()["components"]
    assert isinstance(components, dict)
    described = components["schemas"]["SegmentRequest"]["properties"]
    assert tuple(described) == REQUEST_KEYS
