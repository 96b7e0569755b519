"""The app with rows as a program: what it is asked over HTTP, and what is left of it after a kill."""

import json
import signal
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import forked
import pytest
from running_app import App


def asked(url: str, body: dict[str, Any] | None = None, **headers: str) -> tuple[int, dict[str, Any]]:
    """Status and answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_kill_loses_no_edit_and_a_page_of_another_origin_edits_nothing(demo_dir: Path, tmp_path: Path):
    words = (
        "--rows",
        str(demo_dir / "train.jsonl"),
        "--video-dir",
        str(demo_dir),
        "--save-as",
        str(tmp_path / "o.jsonl"),
    )
    app = App(tmp_path, *words)
    edit = {"action": "set", "key": 0, "values": {"sentence": "kept"}, "revision": 0}
    assert asked(f"{app.url}/rows/edit", edit, Origin="http://evil.example")[0] == 403
    assert asked(f"{app.url}/rows/state", Host="evil.example")[0] == 403
    status, row = asked(f"{app.url}/rows/edit", edit)
    assert status == 200 and row["sentence"] == "kept" and row["state"]["revision"] == 1
    status, refused = asked(f"{app.url}/rows/edit", edit)
    assert status == 409 and "edited elsewhere" in refused["error"]["message"]
    status, refused = asked(f"{app.url}/rows/edit", edit | {"revision": 1, "values": {"weight": 1}})
    assert status == 400 and "'weight' is no key that is edited here" in refused["error"]["message"]
    assert asked(f"{app.url}/rows/row/99999/clip")[0] == 400
    app.program.send_signal(signal.SIGKILL)
    app.program.ended(timeout_s=60)
    app = App(tmp_path, *words)
    assert asked(f"{app.url}/rows/row/0")[1]["sentence"] == "kept"
    status, saved = asked(f"{app.url}/rows/save", {"revision": 1})
    assert status == 200 and saved["apart"] == 0 and saved["is_saved"]
    status, row = asked(f"{app.url}/rows/edit", {"action": "undo", "revision": 1})
    assert status == 200 and row["sentence"] != "kept" and not row["state"]["can_undo"]
    assert app.end()[0] == 130
    assert json.loads((tmp_path / "o.jsonl").read_text().splitlines()[0])["sentence"] == "kept"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--save-as", "x.jsonl"), "--save-as is of rows: give --rows FILE or --annotate FOLDER too"),
        (("--rows", "absent.jsonl"), "absent.jsonl"),
        (("--annotate", "absent"), "--annotate absent: there is no such video or folder; check the path"),
        (("--rows", "{here}"), "is a folder; name an annotation file, or --annotate"),
    ],
)
def test_wrong_options_are_told_before_anything_is_served(words: tuple[str, ...], message: str, tmp_path: Path):
    done = forked.run("vtg.app", *(word.format(here=tmp_path) for word in words), "--port", "0")
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
