"""Run in Girder's own Python: print, as JSON, how slicer_cli_web understands a task.

python inside_cli.py XML
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from slicer_cli_web.cli_utils import as_model, get_cli_parameters, is_girder_api, is_on_girder


def main() -> None:
    model = as_model(Path(sys.argv[1]).read_bytes())
    index, optional, _ = get_cli_parameters(model)
    told = {
        "index": [each.name for each in index],
        "optional": sorted(each.name for each in optional),
        "copied": [each.name for each in index + optional if is_on_girder(each)],
        "filled in": [each.name for each in index + optional if is_girder_api(each)],
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
