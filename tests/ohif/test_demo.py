"""`isoline demo --viewer ohif`, as a user runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import requests

from isoline.config.data_directory import default_directory
from isoline.demo.ohif import head, orthanc
from tests.ohif import stack

COMMAND = [sys.executable, "-m", "isoline", "demo", "--viewer", "ohif"]


def test_everything_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": str(tmp_path), "ISOLINE_DATA": str(tmp_path)}
    ran = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "OHIF is fetched with npm, which is not installed" in ran.stderr
    assert "install Node.js" in ran.stderr


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_is_ready_to_click_and_ends_whole(ending: signal.Signals) -> None:
    for find in (stack.pages, orthanc.find, head.find):
        stack.needed(find)
    environment = {**os.environ, "ISOLINE_DATA": str(default_directory())}
    with subprocess.Popen(COMMAND, env=environment, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stderr is not None
        try:
            said = ""
            while "Ctrl-C" not in said:
                line = demo.stderr.readline()
                assert line, said
                said += line
            family = psutil.Process(demo.pid).children(recursive=True)
            found = re.search(r"Open (http://[^/]+)/isoline\?StudyInstanceUIDs=([0-9.]+)", said)
            assert found is not None
            url, study = found.groups()
            (series,) = requests.get(f"{url}/dicom-web/studies/{study}/series", timeout=20).json()
            assert series["00080060"]["Value"] == ["MR"]
            assert "isoline-panel" in requests.get(f"{url}/ohif/index.js", timeout=20).text
            assert "/ohif/mode.js" in requests.get(f"{url}/app-config.js", timeout=20).text
        finally:
            demo.send_signal(ending)
        assert demo.wait(30) == 0
    _, running = psutil.wait_procs(family, timeout=10)
    assert running == []
