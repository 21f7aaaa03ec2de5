"""Generate the script from `main.groovy` and the unchanged classes of the extension.

The classes use only the part of Java that is also valid Groovy 4, so that the script and the jar
cannot differ. Groovy compiles them statically.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = HERE.parent / "src" / "isoline" / "qupath"
CLASSES = (
    "Isoline", "Run", "Runs", "RunStatus", "LastJob", "Submission", "RequestKeys", "Upload",
    "IsolineClient", "JobStream", "LineReader", "JobEvent", "LatestFocus", "Background",
    "RetryPolicy", "Attempts", "Cancellation", "ServerConnection", "Question", "Outgoing",
    "Refused", "Explanation",
    "Results", "FeatureReader", "Pace", "Marks", "Prompts", "ClickSession",
    "RunForm", "ProgressWindow", "ClickWindow", "WaitingWindow", "SettingsDialog",
)  # fmt: skip
MAIN_IMPORTS = ("javafx.scene.control.Alert", "qupath.lib.gui.QuPathGUI")


def script() -> str:
    """Return the text of isoline.groovy."""
    imports = {"groovy.transform.CompileStatic", *MAIN_IMPORTS}
    bodies = []
    for name in CLASSES:
        java = (SOURCES / f"{name}.java").read_text("utf-8")
        imports |= set(re.findall(r"^import ([\w.]+);$", java, re.MULTILINE))
        body = re.split(r"^(?:package|import) .*;\n", java, flags=re.MULTILINE)[-1].strip()
        top = re.compile(r"^(public )?final class", re.MULTILINE)
        bodies.append(top.sub("@CompileStatic\nfinal class", body))
    comment, main = (HERE / "main.groovy").read_text("utf-8").split("*/\n", 1)
    lines = [f"import {name}" for name in sorted(imports)]
    return "\n".join([comment + "*/", *lines, main, "\n\n".join(bodies), ""])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(script(), "utf-8")
