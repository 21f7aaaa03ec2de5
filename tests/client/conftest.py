"""A scripted server for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.client.stub import Server, answer


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    server.scripts["/v1/jobs"] = [answer({"job": "j1", "position": 2, "events": "x"}, 201)]
    yield server
    server.close()
