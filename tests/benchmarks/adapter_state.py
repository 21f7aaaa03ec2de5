"""Count the lines that each adapter spends on state, in a revision and in this working tree.

    python -m tests.benchmarks.adapter_state [REVISION]

State is what an adapter must remember between events: what is provisional or replaced and what the
user has touched, where to resume, and which answers to prompts are out of date. Counted are the
functions and classes that do mainly that, without blank lines and comments.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
BEFORE = "a932224"
QUPATH, OHIF = "plugins/qupath/src/isoline/qupath", "plugins/ohif/src"
DSA = "plugins/dsa/isoline_dsa"
CLIENT, NAPARI = "backend/isoline-client/isoline_client", "docs/examples/napari/napari_isoline.py"

Counted = dict[str, tuple[str, ...]]
"""The names of the functions and classes that are counted, by file."""

ADAPTERS: dict[str, dict[str, Counted]] = {
    "OHIF": {
        "shown": {
            f"{OHIF}/drawing.js": ("draw", "clear", "settle", "_compose", "_merge"),
            f"{OHIF}/run.js": ("_split", "_clear"),
            f"{OHIF}/labels.js": ("segmentFor",),
        },
        "resume": {f"{OHIF}/client.js": ("events",), f"{OHIF}/retry.js": ("events",)},
        "answers": {f"{OHIF}/pointing.js": ("waits", "answer", "_answer")},
    },
    "DSA": {
        "shown": {
            f"{DSA}/annotations.py": ("replace_earlier", "recount", "_drop"),
            f"{DSA}/runs.py": ("accept", "_take", "_store"),
            f"{DSA}/web/layers.js": ("add", "_remove"),
        },
        "resume": {
            f"{DSA}/runs.py": ("revived", "_follow", "_events"),
            f"{DSA}/web/api.js": ("events",),
            f"{DSA}/web/retry.js": ("events",),
        },
        "answers": {f"{DSA}/web/prompting.js": ("_ask", "_question", "_stopAsking")},
    },
    "QuPath": {
        "shown": {
            f"{QUPATH}/Results.java": (
                *("take", "change", "dropPieces", "replaceEarlier", "removeEarlier"),
                *("replaceAll", "findEarlier", "giveWay"),
            ),
            f"{QUPATH}/Marks.java": ("set", "isOf", "hasPromptsOf", "isUntouched", "stamp"),
            f"{QUPATH}/LastJob.java": ("LastJob",),
        },
        "resume": {f"{QUPATH}/JobStream.java": ("next", "connect", "nextOf", "broke")},
        "answers": {f"{QUPATH}/ClickSession.java": ("look", "ask", "take")},
    },
    "napari": {
        "shown": {NAPARI: ("show", "edit", "update")},
        "resume": {NAPARI: ("resume",)},
        "answers": {NAPARI: ("_ask", "accept")},
    },
    "Python client": {
        "shown": {f"{CLIENT}/store.py": ("Store", "Change"), f"{CLIENT}/runs.py": ("Run",)},
        "resume": {
            "backend/isoline/client.py": ("events",),
            f"{CLIENT}/client.py": ("events", "events_json"),
            f"{CLIENT}/follower.py": ("Follower",),
        },
        "answers": {f"{CLIENT}/clicks.py": ("ClickSession",)},
    },
}
HEAD = re.compile(
    r"(?P<indent> *)"
    r"(?:export |public |private |static |final |async\*? |get |function |class |def )*"
    r"(?:[\w<>?, ]+? )?(?P<name>\w+)(?:\(|\b(?= \{)|:$)"
)
COMMENT = re.compile(r"\s*(?:#|//|/?\*)")
DOCSTRING = re.compile(r'^ *""".*?"""$', re.MULTILINE | re.DOTALL)


def blocks(text: str, names: tuple[str, ...]) -> Iterator[list[str]]:
    """Yield the lines of each definition of one of `names`, up to the end of its indentation."""
    lines = text.splitlines()
    for start, line in enumerate(lines):
        head = HEAD.match(line)
        if not head or head["name"] not in names or not line.endswith(("{", ":", "(", ",")):
            continue
        if re.match(r" *(if|for|while|return|switch|await)\b", line):
            continue
        indent = len(head["indent"])
        end = start + 1
        while end < len(lines) and (
            not lines[end].strip() or len(lines[end]) - len(lines[end].lstrip()) > indent
        ):
            end += 1
        closes = end < len(lines) and lines[end].strip()[:1] in ("}", ")")
        yield lines[start : end + closes]


def count(text: str, names: tuple[str, ...]) -> int:
    """Return the number of lines of code in the definitions of `names`."""
    found = [line for block in blocks(DOCSTRING.sub("", text), names) for line in block]
    return sum(bool(line.strip()) and not COMMENT.match(line) for line in found)


def text_of(path: str, revision: str) -> str:
    """Return a file as it is in a revision or, without one, here; nothing if it does not exist."""
    if not revision:
        return (ROOT / path).read_text("utf-8") if (ROOT / path).exists() else ""
    shown = ["git", "show", f"{revision}:{path}"]
    return subprocess.run(shown, cwd=ROOT, capture_output=True, text=True, check=False).stdout


def main(revision: str = BEFORE) -> None:
    """Print a table: lines before and now."""
    for adapter, aspects in ADAPTERS.items():
        told = []
        for aspect, counted in aspects.items():
            before, now = (
                sum(count(text_of(path, where), names) for path, names in counted.items())
                for where in (revision, "")
            )
            told.append(f"{aspect} {before} -> {now}")
        print(f"{adapter:14}", ", ".join(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
