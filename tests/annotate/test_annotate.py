"""vtg.annotate on real videos and a real LeRobot data set, with a server on this machine for the model."""

import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from lerobot_set import TOP, WRIST, write_set
from PIL import Image
from stand_in_model import StandInModel, prompt_of, serving

from vtg.annotate.__main__ import main
from vtg.annotate.answers import BadAnswer, json_of, question_of, segments_of
from vtg.annotate.window import Window, windows_of
from vtg.annotations.formats import lerobot
from vtg.annotations.sample import Sample, read_samples
from vtg.storage.json_files import read_jsonl, write_jsonl
from vtg.video.episodes.records import FilePart, VideoRecord

EDGES = re.compile(r"seconds ([\d.]+) to ([\d.]+) of a video")


def well(body: dict[str, Any]) -> str:
    """An answer of the right form to any of the prompts."""
    prompt = prompt_of(body)
    if "Answer only with JSON:\n[" in prompt:
        found = EDGES.search(prompt)
        assert found is not None
        start, end = float(found[1]), float(found[2])
        middle = round((start + end) / 2, 1)
        segments = [
            {"start": start, "end": middle, "text": f"it  gets brighter from {start}"},
            {"start": middle, "end": end, "text": "it stays bright"},
        ]
        return f"Here it is:\n```json\n{json.dumps(segments)}\n```"
    if '"question"' in prompt:
        boxes = {"boxes": [{"label": "wall", "box": [0, 0, 1000, 500]}]}
        return json.dumps({"question": "Where is the wall?", "answer": boxes})
    return json.dumps({"plan": "1. wait", "memory": "it got brighter", "text": "wait a moment"})


@pytest.fixture
def model() -> Iterator[StandInModel]:
    with serving(well) as stand_in:
        yield stand_in


@pytest.fixture
def videos(tmp_path: Path, write_mp4: Callable[..., str]) -> Path:
    """Two videos of 4 and 2 s, ten frames a second."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name, seconds in (("a.mp4", 4), ("b.mp4", 2)):
        (folder / name).write_bytes(Path(write_mp4(range(0, 1000 * seconds, 100))).read_bytes())
    return folder


def annotate(model: StandInModel, folder: Path, out: Path, *options: str) -> int:
    return main([str(folder), "-o", str(out), "--endpoint", model.address, "--model", "m", *options])


def test_segments_become_rows_that_training_reads(model: StandInModel, videos: Path, tmp_path: Path):
    out = tmp_path / "out.jsonl"
    assert annotate(model, videos, out, "--window-s", "2") == 0
    samples = list(read_samples(out))
    assert all(isinstance(sample, Sample) for sample in samples)
    rows = read_jsonl(out)
    # Two windows in a.mp4: what happens twice is one row with two spans, on times of frames (0.1 s apart) and the end.
    found = {(Path(row["video"]).name, row["sentence"]): row["timestamp"] for row in rows}
    assert found["a.mp4", "it gets brighter from 0.0"] == [0.0, pytest.approx(1.0)]
    assert found["a.mp4", "it stays bright"][0][0] == pytest.approx(1.0)
    assert found["a.mp4", "it stays bright"][1][1] == pytest.approx(rows[0]["duration"])
    assert len(rows) == 5 and len({row["qid"] for row in rows}) == 5
    assert rows[0]["annotated"] | {"files": 0, "prompts": 0} == {
        **{"module": "segments", "camera": "video", "model": "m", "prompts": 0, "files": 0, "show": "sheets"},
        **{"fps": 1.0, "max_frames": 60, "window_s": 2.0, "keyframes_per_episode": 4},
    }


def test_a_model_sees_sheets_frames_or_a_video(model: StandInModel, videos: Path, tmp_path: Path):
    for show in ("sheets", "frames", "video"):
        assert annotate(model, videos / "a.mp4", tmp_path / f"{show}.jsonl", "--show", show, "--fps", "10") == 0
    sheets, frames, video = (body["messages"][0]["content"][:-1] for body in model.asked)
    pictures = [Image.open(io.BytesIO(base64.b64decode(one["image_url"]["url"].partition(",")[2]))) for one in sheets]
    # 40 frames: two sheets of 20, five in a row, each 224 pixels wide.
    assert [picture.width for picture in pictures] == [5 * 228 + 4] * 2
    assert [one["text"] for one in frames[::2]] == [f"<{at / 10:.1f} seconds>" for at in range(40)]
    grey = np.asarray(Image.open(io.BytesIO(base64.b64decode(frames[21]["image_url"]["url"].partition(",")[2]))))
    assert grey.mean() == pytest.approx(20 + 4 * 10, abs=3)  # the eleventh frame
    (block,) = video
    assert block["type"] == "video_url" and block["video_url"]["url"].startswith("file:///") and block["fps"] == 10.0


def test_times_are_of_the_whole_video_however_a_window_is_shown(model: StandInModel, videos: Path, tmp_path: Path):
    found = []
    for show in ("sheets", "video"):  # a video file of the second window begins at zero, and is told so
        model.asked.clear()
        out = tmp_path / f"{show}.jsonl"
        assert annotate(model, videos / "a.mp4", out, "--show", show, "--window-s", "2", "--parallel", "1") == 0
        rows = read_jsonl(tmp_path / f"{show}.language.jsonl")
        found.append([row["timestamp"] for row in rows])
        edges = EDGES.search(prompt_of(model.asked[1]))
        assert edges is not None and edges.groups() == (("2.0", "4.0") if show == "sheets" else ("0.0", "2.0"))
    assert found[0] == found[1] == pytest.approx([0.0, 1.0, 2.0, 3.0])


def test_what_goes_on_over_the_edge_of_two_windows_is_one_segment(model: StandInModel, videos: Path, tmp_path: Path):
    def answer(body: dict[str, Any]) -> str:
        found = EDGES.search(prompt_of(body))
        assert found is not None
        return json.dumps([{"start": float(found[1]), "end": float(found[2]), "text": "It glows"}])

    model.answer = answer
    assert annotate(model, videos / "a.mp4", tmp_path / "out.jsonl", "--window-s", "1") == 0
    (row,) = read_jsonl(tmp_path / "out.jsonl")
    assert row["timestamp"] == [0.0, pytest.approx(row["duration"])]


def test_spans_that_are_known_are_asked_about_one_by_one(model: StandInModel, videos: Path, tmp_path: Path):
    spans, out = tmp_path / "spans.jsonl", tmp_path / "out.jsonl"
    row = {"video": str(videos / "a.mp4"), "duration": 4.0, "sentence": "event"}
    write_jsonl(spans, [row | {"timestamp": span} for span in ([1.0, 1.6], [1.6, 4.0])])
    words = ("--window-s", "2", "--parallel", "1")
    assert annotate(model, videos / "a.mp4", out, "--spans", str(spans), *words) == 0
    asked = [found.groups() for body in model.asked if (found := EDGES.search(prompt_of(body)))]
    # The second is longer than a window.
    assert asked == [("1.0", "1.6"), ("1.6", "2.8"), ("2.8", "4.0")]
    assert read_jsonl(out)[0]["timestamp"] == [pytest.approx(1.0), pytest.approx(1.3)]
    # Other spans are another annotation.
    write_jsonl(spans, [row | {"timestamp": [0.0, 1.0]}])
    assert annotate(model, videos / "a.mp4", out, "--spans", str(spans), *words) == 0
    assert len(model.asked) == 4


def test_an_answer_that_cannot_be_read_is_asked_for_again_with_what_is_wrong(
    model: StandInModel, videos: Path, tmp_path: Path
):
    answers = ["I see a wall.", '[{"start": 3, "end": 1, "text": "x"}]', '[{"start": 1, "end": 3, "text": "it glows"}]']
    model.answer = lambda body: answers.pop(0)
    assert annotate(model, videos / "a.mp4", tmp_path / "out.jsonl") == 0
    first, second = (body["messages"][-1]["content"] for body in model.asked[1:])
    assert first.startswith("That cannot be read: it holds no JSON: 'I see a wall.'")
    assert "3.0 to 1.0 must be a span between 0.0 and 4.0 seconds" in second
    assert [row["sentence"] for row in read_jsonl(tmp_path / "out.jsonl")] == ["it glows"]


def test_a_video_that_fails_costs_only_itself(model: StandInModel, videos: Path, tmp_path: Path, capsys):
    (videos / "page.mp4").write_text("<html>404</html>")
    model.answer = lambda body: (
        "no" if "to 2.0 of" in prompt_of(body) or "cannot be read" in prompt_of(body) else well(body)
    )
    assert annotate(model, videos, tmp_path / "out.jsonl") == 1
    said = capsys.readouterr().out
    assert "1 of 3 annotated" in said
    assert "failed: b: b: 3 answers cannot be read; the last: it holds no JSON: 'no'" in said
    assert "failed: page: " in said and "not a readable video" in said
    assert {Path(row["video"]).name for row in read_jsonl(tmp_path / "out.jsonl")} == {"a.mp4"}


def test_a_killed_run_goes_on_and_asks_nothing_twice(model: StandInModel, videos: Path, tmp_path: Path):
    out = tmp_path / "out.jsonl"
    stage = tmp_path / "out.stages" / "a" / "segments.json"
    model.answer = lambda body: well(body) if "to 4.0 of" in prompt_of(body) else (model.let_go.wait() and "") or ""
    words = [str(videos), "-o", str(out), "--endpoint", model.address, "--model", "m", "--parallel", "1"]
    process = subprocess.Popen([sys.executable, "-m", "vtg.annotate", *words], env=os.environ)
    while not (stage.is_file() and len(model.asked) == 2):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    model.let_go.set()
    model.asked.clear()
    model.answer = well
    assert main(words) == 0
    assert len(model.asked) == 1 and "to 2.0 of" in prompt_of(model.asked[0])
    assert {Path(row["video"]).name for row in read_jsonl(out)} == {"a.mp4", "b.mp4"}
    # Other settings ask again.
    assert main([*words, "--fps", "2"]) == 0
    assert len(model.asked) == 3


def test_an_endpoint_that_is_busy_is_asked_again_and_one_that_refuses_ends_the_run(
    model: StandInModel, videos: Path, tmp_path: Path, capsys
):
    model.statuses = [503, 429]
    assert annotate(model, videos / "a.mp4", tmp_path / "out.jsonl") == 0
    assert len(model.asked) == 3
    model.statuses = [401] * 4
    assert annotate(model, videos, tmp_path / "other.jsonl", "--parallel", "1") == 1
    said = capsys.readouterr().out
    assert "0 of 2 annotated" in said and "answers 401" in said and "$OPENAI_API_KEY" in said
    assert len(model.asked) == 4  # the second video is not tried


def test_an_endpoint_that_hangs_or_is_not_there_is_told(model: StandInModel, videos: Path, tmp_path: Path, capsys):
    model.hangs = True
    options = ("--timeout-s", "0.3", "--retries", "0")
    assert annotate(model, videos / "a.mp4", tmp_path / "out.jsonl", *options) == 1
    assert "does not answer within 0.3 s" in capsys.readouterr().out
    model.address = "http://127.0.0.1:9/v1"
    assert annotate(model, videos / "a.mp4", tmp_path / "out.jsonl", *options) == 1
    assert "stopped: http://127.0.0.1:9/v1 does not answer (Connection refused)" in capsys.readouterr().out


def test_all_modules_are_written_back_into_a_lerobot_data_set_that_its_reader_takes(
    model: StandInModel, tmp_path: Path
):
    root = write_set(tmp_path / "cups")
    (root / "meta" / "subtasks.parquet").unlink()  # else its own subtasks are read
    out = tmp_path / "out.jsonl"
    data = root / "data" / "chunk-000" / "file-000.parquet"
    shared = data.rename(tmp_path / "shared.parquet")  # as the hub's cache links to files that data sets share
    data.symlink_to(shared)
    before = shared.read_bytes()
    modules = "segments,plan,memory,vqa,interjections"
    assert annotate(model, root, out, "--modules", modules, "--write-back", "--keyframes-per-episode", "2") == 0
    rows = {(row["episode_index"], row["sentence"]): row["timestamp"] for row in lerobot.grounding_rows(root)}
    assert rows[1, "it stays bright"] == [1.0, 2.0] and len(rows) == 6
    language = read_jsonl(tmp_path / "out.language.jsonl")
    asked = [row for row in language if row["style"] == "vqa" and row["source"] == "cups-episode_000000"]
    # A user's and an assistant's row for each of two ticks and two cameras.
    assert len({(row["timestamp"], row["camera"], row["role"]) for row in asked}) == len(asked) == 8
    assert {row["camera"] for row in asked} == {TOP, WRIST}
    assert shared.read_bytes() == before
    table = pq.read_table(data).to_pylist()
    styles = [[entry["style"] for entry in row["language_persistent"]] for row in table[:12]]
    assert styles == [["subtask", "subtask", "plan", "memory"]] * 12
    events = [sorted({entry["style"] for entry in row["language_events"]}) for row in table[:12]]
    assert events[0] == ["vqa"] and sum("interjection" in styles for styles in events) == 1
    # The subtasks and all other columns are as they were.
    assert [row["frame_index"] for row in table[:12]] == list(range(12))


def test_a_folder_that_may_not_be_read_is_named(model: StandInModel, tmp_path: Path, capsys, bound_by_rights):
    shut = tmp_path / "shut"
    shut.mkdir(mode=0)
    assert annotate(model, shut, tmp_path / "out.jsonl") == 2
    out, err = capsys.readouterr()
    assert out == "" and f"'{shut}/" in err and err.endswith("; check the path and its permissions\n")


def test_episodes_without_video_are_annotated_from_text(model: StandInModel, tmp_path: Path, capsys):
    root = write_set(tmp_path / "cups")
    info = root / "meta" / "info.json"
    info.write_text(info.read_text().replace('"dtype": "video"', '"dtype": "image"'))
    assert annotate(model, root, tmp_path / "out.jsonl", "--modules", "segments,plan,memory,vqa") == 0
    assert "3 of 3 annotated, 3 without video, from text alone" in capsys.readouterr().out
    assert [row["style"] for row in read_jsonl(tmp_path / "out.language.jsonl")] == ["plan"] * 3
    assert all("The task: move the cup." in prompt_of(body) for body in model.asked)


def test_what_is_no_answer_is_named(write_mp4: Callable[..., str]):
    record = VideoRecord({"video": FilePart(write_mp4(range(0, 1000, 100)))})
    window = Window(record, "video", 0.0, 0.901, windows_of(record, "video", window_s=9.0)[0].times_s)
    for value, said in (
        ("[]x", None),
        ('[{"start": 0, "end": 0.5, "text": " "}]', "needs a text"),
        ('[{"start": true, "end": 0.5, "text": "x"}]', "start must be a number of seconds, not True"),
        ('[{"start": 0, "end": 5, "text": "x"}]', "must be a span between 0.0 and 0.9 seconds"),
        ('[{"start": 0.31, "end": 0.33, "text": "x"}]', "is shorter than a frame"),
        ('[{"start": 0.5, "end": 0.9, "text": "x"}, {"start": 0.1, "end": 0.2, "text": "y"}]', "must be in order"),
        ("3", "it holds no JSON"),
    ):
        if said is None:
            assert segments_of(json_of(value), window) == []
            continue
        with pytest.raises(BadAnswer, match=re.escape(said)):
            segments_of(json_of(value), window)
    for answer, said in (
        ({"question": "", "answer": "x"}, "a question that is not empty"),
        ({"question": "x", "answer": {"boxes": [{"label": "a", "box": [5, 5, 1, 9]}]}}, "boxes must be"),
        ({"question": "x", "answer": {"points": [{"label": "a", "point": [5, 1001]}]}}, "points must be"),
    ):
        with pytest.raises(BadAnswer, match=said):
            question_of(answer)
    assert question_of({"question": "x", "answer": {"points": [{"label": "a", "point": [5, 9]}]}})[1].startswith("{")


@pytest.mark.slow
def test_the_embedded_model_behind_a_server_annotates_a_video(demo_dir: Path, tmp_path: Path):
    import vtg

    grounder = vtg.load("tiny", device="cpu")
    rows = read_jsonl(demo_dir / "train.jsonl")
    queries = sorted({row["sentence"] for row in rows})

    def answer(body: dict[str, Any]) -> str:
        path = body["messages"][0]["content"][0]["video_url"]["url"].removeprefix("file://")
        answered = [one for one in grounder.ground(path, queries) if one.status == "ok"]
        spans = sorted((*span, one.query) for one in answered for span in one.spans_s)
        return json.dumps([{"start": start, "end": end, "text": text} for start, end, text in spans])

    video = demo_dir / rows[0]["video"]
    with serving(answer) as model:
        assert annotate(model, video, tmp_path / "out.jsonl", "--show", "video") == 0
    found = list(read_samples(tmp_path / "out.jsonl"))
    assert found and all(isinstance(one, Sample) and one.query in queries for one in found)


SERVER = """
import json, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        text = json.dumps([{"start": 0, "end": 1, "text": f"seen by {sys.argv[1]} of {sys.argv[2]}"}])
        self.send_response(200); self.end_headers()
        self.wfile.write(json.dumps({"choices": [{"message": {"content": text}}]}).encode())
    def log_message(self, *args): pass
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_servers_are_started_asked_in_turn_and_stopped(videos: Path, tmp_path: Path, capsys):
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    words = [str(videos), "-o", str(tmp_path / "out.jsonl"), "--model", "tiny", "--servers", "2", "--parallel", "1"]
    assert main([*words, "--serve-command", f"{sys.executable} {script} {{port}} {{model}}"]) == 0
    said = {row["sentence"] for row in read_jsonl(tmp_path / "out.jsonl")}
    assert len(said) == 2 and all(text.endswith(" of tiny") for text in said)
    for text in said:
        with pytest.raises(ConnectionRefusedError), socket.socket() as asked:
            asked.connect(("127.0.0.1", int(text.split()[2])))
    assert main([*words, "--serve-command", f"{sys.executable} -c 'raise SystemExit(\"no GPU\")'"]) == 1
    assert "a server ended with 1 before it answered: no GPU" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--modules", "plan"], "plan, memory, interjections need segments"),
        (["--modules", "dance"], "--modules dance: no such module"),
        (["--camera", "top"], "camera_key = 'top': no such camera; there are video"),
        (["--fps", "0"], "--fps 0.0: must be above 0"),
        (["--endpoint", "here"], "--endpoint here: must be an address"),
        (["-o", "out.csv"], "-o out.csv: the name must end in .jsonl"),
        (["--spans", "gone.jsonl"], "--spans gone.jsonl: No such file or directory; check the path"),
        (["--spans", "s", "--modules", "vqa"], "--spans s: they are asked about by segments; add it to --modules"),
    ],
)
def test_wrong_usage_is_told(options: list[str], said: str, videos: Path, capsys):
    words = [str(videos), "-o", "out.jsonl", "--endpoint", "http://localhost/v1", "--model", "m", *options]
    assert main(words) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "m"], "which model? Give --endpoint URL, --servers N to start some, or --checkpoint RUN"),
        (["--endpoint", "http://localhost/v1"], "which model of the endpoint? Give --model NAME"),
        (
            ["--endpoint", "http://localhost/v1", "--model", "m", "--tensor-parallel-size", "2"],
            "--tensor-parallel-size is of servers that are started: add --servers N",
        ),
        (
            ["--checkpoint", "tiny", "--servers", "1"],
            "--checkpoint answers in this process: give it, or --endpoint or --servers, not both",
        ),
        (["--checkpoint", "tiny", "--retries", "1"], "--retries is of endpoints: leave it out beside --checkpoint"),
    ],
)
def test_one_model_must_be_named(options: list[str], said: str, videos: Path, capsys):
    assert main([str(videos), "-o", "out.jsonl", *options]) == 2
    assert capsys.readouterr().err == f"error: {said}\n"
