"""What the client can say is what the server understands."""

from __future__ import annotations

from typing import Any

from isoline.client import Options
from isoline.protocol import openapi


def test_the_options_are_those_of_the_protocol() -> None:
    document: Any = openapi.document()
    understood = document["components"]["schemas"]["SegmentRequest"]["properties"]
    assert {"image", "model", *Options.__annotations__} == set(understood)
