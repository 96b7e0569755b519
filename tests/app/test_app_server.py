"""What the app gives to whom, over HTTP."""

import http.client
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import forked
import pytest
from running_app import App

from vtg.app.examples import find_examples
from vtg.app.lanes import base_of, lane_settings
from vtg.app.shelf import Shelf
from vtg.errors import ConfigError


def ask(app: App, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) of one request; a body that is no bytes is sent as JSON."""
    connection = http.client.HTTPConnection(urlsplit(app.url).netloc, timeout=60)
    if body is not None and not isinstance(body, bytes):
        body, headers = json.dumps(body).encode(), {"Content-Type": "application/json", **headers}
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    found = response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    connection.close()
    return found


def told(app: App, path: str, body: Any = None) -> Any:
    status, _, answer = ask(app, "GET" if body is None else "POST", path, body)
    assert status == 200, answer
    return json.loads(answer)


def until(happens: Callable[[], object]) -> None:
    """Waits for what happens in another process; it fails after two minutes."""
    deadline = time.monotonic() + 120
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def message(answer: bytes) -> str:
    return json.loads(answer)["error"]["message"]


def kept(app: App, ending: str) -> set[str]:
    """What the app keeps in files of this ending. Folders may go while they are looked through."""
    found = (os.path.join(folder, name) for folder, _, names in os.walk(app.folder) for name in names)
    return {path for path in found if path.endswith(ending)}


@pytest.fixture
def clip(app: App) -> dict[str, Any]:
    """The first of the run's, once all models are loaded."""
    until(lambda: told(app, "/examples")["ready"])
    until(lambda: all(lane["state"] == "ready" for lane in told(app, "/state")["lanes"]))
    return told(app, "/examples")["clips"][0]


def test_the_page_and_its_modules_come_from_here_alone(app):
    status, headers, page = ask(app, "GET", "/")
    assert status == 200 and headers["content-type"].startswith("text/html")
    assert headers["content-security-policy"].startswith("default-src 'self'")
    assert b"http://" not in page and b"https://" not in page and b"/page/ask.js" in page
    for name in ("ask.js", "timeline.js", "page.css"):
        assert ask(app, "GET", f"/page/{name}")[0] == 200


def test_a_video_is_given_by_ranges_as_players_ask_for_them(app, clip, demo_dir):
    whole = (demo_dir / clip["name"]).read_bytes()
    path = f"/videos/{clip['video']}/file"
    assert ask(app, "GET", path)[::2] == (200, whole)
    status, headers, part = ask(app, "GET", path, Range="bytes=100-199")
    assert (status, part) == (206, whole[100:200])
    assert headers["content-range"] == f"bytes 100-199/{len(whole)}"


@pytest.mark.parametrize("path", ["/videos/..%2f..%2fetc%2fpasswd/file", "/page/..%2f__main__.py", "/page/../shelf.py"])
def test_no_other_file_can_be_asked_for(app, path):
    status, _, answer = ask(app, "GET", path)
    assert status in (400, 404) and b"import" not in answer and b"root:" not in answer


def test_pages_of_other_origins_and_other_names_of_this_machine_are_refused(app, clip):
    assert ask(app, "GET", "/state", Host="attacker.example")[0] == 403
    assert ask(app, "POST", "/look", {"video": clip["video"]}, Origin="https://attacker.example")[0] == 403


def test_an_upload_over_the_limit_is_refused_before_it_is_read(app):
    connection = http.client.HTTPConnection(urlsplit(app.url).netloc, timeout=60)
    connection.putrequest("POST", "/videos?name=film.mp4")
    connection.putheader("Content-Length", str(4 * 10**9))
    connection.endheaders()
    response = connection.getresponse()
    assert response.status == 413 and "at most 4.0 MB" in message(response.read())
    connection.close()


def test_a_text_file_named_as_a_video_is_told_by_its_name_and_not_kept(app):
    before = kept(app, ".m4v")
    status, _, answer = ask(app, "POST", "/videos?name=notes.m4v", b"this is no video\n" * 40)
    assert status == 400
    assert message(answer).startswith("notes.m4v: no") and str(app.folder) not in message(answer)
    assert kept(app, ".m4v") == before


def test_of_a_browser_that_goes_away_while_it_sends_nothing_is_kept(app):
    before = kept(app, ".mov")
    connection = http.client.HTTPConnection(urlsplit(app.url).netloc, timeout=60)
    connection.putrequest("POST", "/videos?name=film.mov")
    connection.putheader("Content-Length", "1000000")
    connection.endheaders(b"0" * 1000)
    until(lambda: kept(app, ".mov") - before)
    connection.close()
    until(lambda: kept(app, ".mov") == before)
    assert ask(app, "GET", "/state")[0] == 200


def test_a_path_is_opened_in_the_allowed_folder_alone(app, demo_dir):
    given = told(app, "/videos/named", {"url": str(demo_dir / "videos" / "train_000.mp4")})
    assert given["name"] == "train_000.mp4" and ask(app, "GET", f"/videos/{given['video']}/file")[0] == 200
    assert ask(app, "DELETE", f"/videos/{given['video']}")[0] == 200
    assert (demo_dir / "videos" / "train_000.mp4").is_file()
    for url in ("/etc/passwd", "../../etc/passwd", "file:///etc/passwd", "http://127.0.0.1/a.mp4"):
        status, _, answer = ask(app, "POST", "/videos/named", {"url": url})
        assert status == 403 and "root:" not in message(answer)


def test_what_was_dropped_can_be_removed_and_what_was_not_cannot(app, clip, demo_dir):
    content = (demo_dir / clip["name"]).read_bytes()
    video = json.loads(ask(app, "POST", "/videos?name=mine.mp4", content)[2])
    assert (video["name"], video["unplayable"]) == ("mine.mp4", None)
    assert ask(app, "GET", f"/videos/{video['video']}/file")[2] == content
    assert ask(app, "DELETE", f"/videos/{video['video']}")[0] == 200
    assert ask(app, "GET", f"/videos/{video['video']}/file")[0] == 400
    status, _, answer = ask(app, "DELETE", f"/videos/{clip['video']}")
    assert status == 400 and "was not dropped here" in message(answer)


def test_the_cost_follows_the_sampling_and_the_answer_holds_what_was_written(app, clip):
    assert [lane["name"] for lane in told(app, "/state")["lanes"]] == ["base of run_a", "run_a"]
    base, run = told(app, "/look", {"video": clip["video"], "query": "a red square"})["lanes"]
    fewer, _ = told(app, "/look", {"video": clip["video"], "query": "a red square", "max_frames": 4})["lanes"]
    assert base["frames"] == run["frames"] > fewer["frames"] == 4 and base["tokens"] > fewer["tokens"]
    larger, _ = told(app, "/look", {"video": clip["video"], "max_pixels": 16384})["lanes"]
    assert (larger["height"], larger["width"]) == (128, 128) and larger["vision_tokens"] == 4 * base["vision_tokens"]
    assert base["max_error_s"] <= base["resolution_s"] + 0.001
    status, headers, picture = ask(app, "GET", base["strip"]["picture"])
    assert (status, headers["content-type"], picture[8:12]) == (200, "image/webp", b"WEBP")

    asked = {"video": clip["video"], "lane": 1, "queries": [one["query"] for one in clip["queries"]]}
    answers = told(app, "/ask", {**asked, "truths": [one["spans"] for one in clip["queries"]]})["answers"]
    assert [answer["query"] for answer in answers] == asked["queries"]
    assert all(answer["text"] and answer["status"] == "ok" and 0 <= answer["iou"] <= 1 for answer in answers)
    assert told(app, "/ask", {**asked, "lane": 0, "max_frames": 4})["frames"] == 4


def test_wrong_numbers_and_too_many_queries_are_messages(app, clip):
    status, _, answer = ask(app, "POST", "/ask", {"video": clip["video"], "lane": 1, "queries": ["a man"] * 21})
    assert status == 413 and "at most 20" in message(answer)
    status, _, answer = ask(app, "POST", "/ask", {"video": clip["video"], "lane": 7, "queries": ["a man"]})
    assert status == 400 and "there are 2" in message(answer)
    base, _ = told(app, "/look", {"video": clip["video"], "max_pixels": 1})["lanes"]
    assert "do not fit into video.max_pixels = 1" in base["error"]


def test_rows_that_cannot_be_read_are_a_note_and_the_next_run_is_looked_at(run_dir, tmp_path):
    gone = tmp_path / "run_b"
    gone.mkdir()
    (gone / "config.yaml").write_text(json.dumps({"data": {"annotation_file": str(tmp_path / "rows.jsonl")}}))
    clips, notes = find_examples([gone, run_dir], Shelf(), tmp_path / "demo")
    assert clips and clips[0].queries[0]["spans"]
    assert len(notes) == 1 and notes[0].startswith("run_b: its rows cannot be read")


def test_a_run_has_a_lane_for_its_base_and_the_same_model_none_twice(run_dir):
    assert base_of(str(run_dir)) == "tiny" and base_of("tiny") is None
    assert [lane.name for lane in lane_settings([str(run_dir), "tiny"], base=True)] == ["base of run_a", "run_a"]
    assert [lane.name for lane in lane_settings([str(run_dir)], base=False)] == ["run_a"]
    base, run = lane_settings([str(run_dir)], base=True, overrides=["settings.video.fps=1"])
    assert base.asked.settings.video == run.asked.settings.video and run.asked.settings.video.fps == 1


def test_a_checkpoint_that_is_not_there_ends_the_program_before_anything_loads():
    done = forked.run("vtg.app", "outputs/no_such_run")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: model path 'outputs/no_such_run': no such folder")


def test_more_lanes_than_a_page_has_colours_are_refused():
    with pytest.raises(ConfigError, match="9 models are too many beside each other: at most 8"):
        lane_settings([f"run_{at}" for at in range(9)], base=False)


def test_where_there_is_a_password_nothing_is_shown_without_it(run_dir, tmp_path):
    app = App(tmp_path, str(run_dir), "--no-base", "--api-key", "secret")
    status, headers, _ = ask(app, "GET", "/")
    assert status == 401 and headers["www-authenticate"].startswith("Basic")
    assert ask(app, "GET", "/state", Authorization="Bearer secret")[0] == 200
    code, errors = app.end()
    assert (code, errors.count("Traceback")) == (130, 0)
    assert list(Path(tmp_path).iterdir()) == []
