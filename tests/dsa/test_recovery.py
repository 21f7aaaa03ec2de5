"""The isoline server, or one Girder of several, dies in the middle of a run."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from tests.dsa.conftest import Archive, wait_for
from tests.dsa.test_rest import server_result, stored
from tests.killable import running


def test_a_run_on_a_private_slide_goes_on(archive: Archive, tmp_path: Path) -> None:
    more = f'[girder.archive]\nurl = "{archive.stack.url}"\n'
    folder = archive.admin.call("GET", f"item/{archive.item}")["folderId"]
    setting = {"key": "isoline.url"}
    archive.admin.call("PUT", f"folder/{folder}/access", access="{}", public=False)
    try:
        with running(tmp_path, tmp_path, more=more) as server:
            archive.admin.call("PUT", "system/setting", **setting, value=server.url)
            run = archive.start("slow", (5000, 6200, 6536, 7224), parameters={"seconds": 0.3})
            before = wait_for(lambda: archive.state(run)["elements"], lambda count: count >= 4)
            assert archive.stack.guest.open("GET", f"isoline/run/{run['_id']}").status_code == 403
            server.kill()
            server.start()
            ended = archive.ended(run)
            assert (ended["state"], ended["message"]) == ("done", "")
            found, kept = server_result(archive, run), stored(archive, run)
            assert found.keys() == kept.keys()
            assert len(kept) > before
    finally:
        archive.admin.call("PUT", "system/setting", **setting, value=archive.isoline_url)
        archive.admin.call("PUT", f"folder/{folder}/access", access="{}", public=True)


def test_a_run_can_be_stopped_while_the_server_is_away(archive: Archive, tmp_path: Path) -> None:
    more = f'[girder.archive]\nurl = "{archive.stack.url}"\n'
    setting = {"key": "isoline.url"}
    try:
        with running(tmp_path, tmp_path, more=more) as server:
            archive.admin.call("PUT", "system/setting", **setting, value=server.url)
            run = archive.start("slow", (5000, 6200, 6536, 7224), parameters={"seconds": 0.5})
            kept = wait_for(lambda: archive.state(run)["elements"], lambda count: count >= 4)
            server.kill()
            archive.admin.call("POST", f"isoline/run/{run['_id']}/cancel")
            ended = wait_for(lambda: archive.state(run), lambda now: now["state"] != "running", 10)
    finally:
        archive.admin.call("PUT", "system/setting", **setting, value=archive.isoline_url)
    assert ended["state"] == "stopped"
    assert "did not respond" in ended["message"]
    assert len(stored(archive, run)) >= kept, "what it found can be accepted"


def test_a_run_of_one_girder_is_watched_stopped_and_taken_up_by_another(archive: Archive) -> None:
    region = (5000.0, 6200.0, 6536.0, 7224.0)
    body = {"model": "slow", "region": [*region], "parameters": {"seconds": 0.5}}
    route = f"isoline/item/{archive.item}/run"
    with archive.stack.another() as (other, _):
        stopped = other.call("POST", route, json=body)
        growing = wait_for(lambda: archive.state(stopped)["annotations"], bool)[0]
        assert archive.admin.open("DELETE", f"annotation/{growing}").status_code == 423
        archive.admin.call("POST", f"isoline/run/{stopped['_id']}/cancel")
        assert archive.ended(stopped)["state"] == "cancelled"
        assert server_result(archive, stopped).keys() == stored(archive, stopped).keys()
        archive.admin.call("POST", f"isoline/run/{stopped['_id']}/discard")

        left = other.call("POST", route, json=body)
        wait_for(lambda: archive.state(left)["elements"], lambda count: count >= 4)
    ended = archive.ended(left)
    assert (ended["state"], ended["message"]) == ("done", "")
    found, kept = server_result(archive, left), stored(archive, left)
    assert found.keys() == kept.keys()
    (annotation,) = ended["annotations"]
    head = archive.admin.call("GET", f"annotation/{annotation}", limit=1)
    assert head["_elementCount"] == ended["elements"] == len(kept)


def test_a_girder_that_was_asleep_stores_nothing_twice(archive: Archive) -> None:
    region = (5000.0, 6200.0, 7048.0, 8248.0)
    body = {"model": "slow", "region": [*region], "parameters": {"seconds": 0.5}}
    with archive.stack.another() as (other, process):
        run = other.call("POST", f"isoline/item/{archive.item}/run", json=body)
        before = wait_for(lambda: archive.state(run)["elements"], lambda count: count >= 4)
        process.send_signal(signal.SIGSTOP)
        try:
            wait_for(lambda: archive.state(run)["elements"], lambda count: count > before)
        finally:
            process.send_signal(signal.SIGCONT)
        ended = archive.ended(run)
        time.sleep(2)  # whatever the other one still does
    assert (ended["state"], ended["message"]) == ("done", "")
    found, kept = server_result(archive, run), stored(archive, run)
    assert found.keys() == kept.keys()
    (annotation,) = ended["annotations"]
    head = archive.admin.call("GET", f"annotation/{annotation}", limit=1)
    assert head["_elementCount"] == archive.state(run)["elements"] == len(kept)
