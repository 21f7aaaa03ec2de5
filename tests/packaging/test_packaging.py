"""What the wheel carries."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_wheel_carries_the_ohif_plugin(tmp_path: Path) -> None:
    building = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*building, "--wheel-dir", str(tmp_path), str(ROOT)], check=True, timeout=240)
    (wheel,) = tmp_path.glob("isoline-*.whl")
    carried = set(zipfile.ZipFile(wheel).namelist())
    source = ROOT / "plugins" / "ohif" / "src"
    files = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    assert {f"isoline/ohif/plugin/{path.as_posix()}" for path in files} <= carried
    assert "isoline/viewer.html" in carried
