"""Messages on the command line: they name flags where those of the HTTP API name keys."""

from __future__ import annotations

import re

_KEYS = "spacing_um|at_um|override_spacing|simplify_px|frame_of_reference"
_WORDS = "channel|z|series|tile|slice|region|focus"
_KEY = re.compile(rf"(?<![-\w])({_KEYS})(?!\w)")
_WORD = re.compile(rf"(?<![-\w])(with|leave) ({_WORDS})(?=$|[,;.)]| out\b)")
"""Words that are keys only where the message asks for them."""


def on_command_line(text: str) -> str:
    """Return a message with the flag in place of each key of a request."""
    text = _KEY.sub(lambda found: "--" + found[1].replace("_", "-"), text)
    return _WORD.sub(r"\1 --\2", text)
