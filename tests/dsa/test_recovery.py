"""The isoline server dies while it works on a slide that only some may read."""

from __future__ import annotations

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
