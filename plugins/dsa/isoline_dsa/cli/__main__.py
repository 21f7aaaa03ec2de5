"""The entry point that slicer_cli_web requires: `--list_cli`, `CLI --xml`, or `CLI ARGUMENTS`.

It runs from its own folder with the standard library only; see the Dockerfile.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent
LIST = HERE / "slicer_cli_list.json"


def main() -> None:
    """Print the list or the description of tasks, or run the task named by the first argument."""
    arguments = sys.argv[1:]
    known = json.loads(LIST.read_text())
    if arguments == ["--list_cli"]:
        print(LIST.read_text())
    elif not arguments or arguments[0] not in known:
        sys.exit(f"the first argument must be --list_cli or one of the tasks: {', '.join(known)}")
    elif arguments[1:] == ["--xml"]:
        print((HERE / arguments[0] / f"{arguments[0]}.xml").read_text())
    else:
        sys.argv = arguments
        script = HERE / arguments[0] / f"{arguments[0]}.py"
        runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main()
