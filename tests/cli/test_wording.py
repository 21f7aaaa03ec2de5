from __future__ import annotations

import pytest

from isoline.cli.wording import on_command_line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pass spacing_um, in micrometres", "pass --spacing-um, in micrometres"),
        ("leave at_um out, add override_spacing", "leave --at-um out, add --override-spacing"),
        ("it has DAPI, CD3; choose with channel", "it has DAPI, CD3; choose with --channel"),
        ("choose one with z", "choose one with --z"),
        ("choose 64 to 4096, or leave tile out", "choose 64 to 4096, or leave --tile out"),
        ("--spacing-um and my_spacing_um stay", "--spacing-um and my_spacing_um stay"),
        ("the slice with z 4 and the region", "the slice with z 4 and the region"),
    ],
)
def test_messages_name_the_flag(text: str, expected: str) -> None:
    assert on_command_line(text) == expected
