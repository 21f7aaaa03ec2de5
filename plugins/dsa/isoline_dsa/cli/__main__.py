"""What slicer_cli_web asks of a container: `--list_cli`, `CLI --xml`, or `CLI ARGUMENTS`.

Runs from its own folder with the standard library alone: see the Dockerfile.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent
LIST = HERE / "slicer_cli_list.json"


def main() -> None:
    """Answer, or run the task that the first argument names."""
    arguments = sys.argv[1:]
    known = json.loads(LIST.read_text())
    if arguments == ["--list_cli"]:
        print(LIST.read_text())
    elif not arguments or arguments[0] not in known:
        sys.exit(f"there are the tasks {', '.join(known)}; --list_cli lists them")
    elif arguments[1:] == ["--xml"]:
        print((HERE / arguments[0] / f"{arguments[0]}.xml").read_text())
    else:
        sys.argv = arguments
        script = HERE / arguments[0] / f"{arguments[0]}.py"
        runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main()
