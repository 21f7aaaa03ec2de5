"""Look up every member in API.md in QuPath's own sources; run manually before a release.

python verify_api.py PATH-TO-A-CLONE-OF-QUPATH [TAG...]
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

TAGS = ("v0.5.0", "v0.5.1", "v0.6.0", "v0.7.0")
ROW = re.compile(r"^\| `([\w.]+)` \| `([\w<>]+)` \| `\((.*?)\)(\S+)` \|", re.MULTILINE)
PRIMITIVES = {"D": "double", "I": "int", "Z": "boolean", "V": "void"}


def simple(descriptor: str) -> list[str]:
    """Return the simple names of the types in a descriptor."""
    found = re.findall(r"L([\w/$]+);|([DIZV])", descriptor)
    return [PRIMITIVES[short] if short else name.split("/")[-1] for name, short in found]


def is_there(source: str, owner: str, name: str, given: list[str], result: str) -> bool:
    """Return whether `source` declares the member with these types; generics are erased."""
    for _ in range(3):
        source = re.sub(r"<[\w\s,.?&\[\]]*>", "", source)
    if name == "<init>":
        head = rf"public {owner}"
    elif name == "name":
        return f"enum {owner}" in source
    else:
        result = rf"(?:{result}|T)" if result == "Object" else result
        head = rf"\b{result}\s+{name}"
    types = r"\s*,\s*".join(rf"(?:final )?{kind}(?:\.\.\.)? \w+" for kind in given)
    return re.search(rf"{head}\s*\(\s*{types}\s*\)", source) is not None


def main(clone: str, *tags: str) -> None:
    """Print all missing members, and the number of members found."""
    members = ROW.findall((Path(__file__).parents[1] / "API.md").read_text("utf-8"))
    for tag in tags or TAGS:
        tree = subprocess.check_output(["git", "-C", clone, "ls-tree", "-r", "--name-only", tag])
        files = tree.decode().split("\n")
        missing = 0
        for owner, name, given, result in members:
            path = next(
                f for f in files if f.endswith(f"src/main/java/{owner.replace('.', '/')}.java")
            )
            source = subprocess.check_output(["git", "-C", clone, "show", f"{tag}:{path}"]).decode()
            if not is_there(source, owner.split(".")[-1], name, simple(given), simple(result)[0]):
                missing += 1
                sys.stdout.write(f"{tag}: {owner}.{name}({given}){result} is missing\n")
        sys.stdout.write(f"{tag}: {len(members) - missing} of {len(members)} members found\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
