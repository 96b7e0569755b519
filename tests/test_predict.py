import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from torch.utils.data import get_worker_info

from vtg import predict
from vtg.config.load import load_config
from vtg.config.programs import FallbackSettings, SettingsOverrides, TaskOverrides, VideoOverrides
from vtg.config.schema import SFTConfig
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.demo.tiny_model import TINY_QWEN3_VL
from vtg.entry import conf_dir
from vtg.models.checkpoint import Settings, read_settings, save_settings
from vtg.models.checkpoint_settings import checkpoint_settings

ROOT = Path(__file__).parents[1]

Run = Callable[..., tuple[int, str, str]]


def write_video(path: Path, times_ms: Sequence[int]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000)
        stream.height = stream.width = 64
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, 1000)
        for time_ms in times_ms:
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), time_ms % 200, np.uint8), format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_rows(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def video(tmp_path: Path) -> str:
    write_video(tmp_path / "a.mp4", range(0, 4000, 100))
    return str(tmp_path / "a.mp4")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> tuple[int, str, str]:
        words = (f"output_dir={tmp_path / 'out'}", "max_new_tokens=8", *words)
        monkeypatch.setattr(sys, "argv", ["vtg.predict", *words])
        code = 0
        try:
            predict.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_one_video_and_query_give_one_row_without_a_made_up_timestamp(run: Run, video: str, tmp_path: Path) -> None:
    code, out, err = run(f"video={video}", "query=it's red, then (maybe) blue", "json=true")
    row = json.loads(out)
    assert code == 0
    assert list(row) == ["video", "duration", "sentence", "prediction", "text", "status", "checkpoint"]
    assert row["video"] == video
    assert row["sentence"] == "it's red, then (maybe) blue"
    assert row["duration"] == pytest.approx(4.0, abs=0.11)
    assert json.loads((tmp_path / "out" / "answers.jsonl").read_text()) == row
    assert "tiny_qwen3_vl/vtg.json (fps at 2 fps, 4 to 64 frames, at most 4096 pixels each; answers in seconds)" in err


def test_a_part_of_a_video_is_asked_about_in_its_own_time(run: Run, video: str) -> None:
    code, out, _ = run(f"video={video}", "query=red", "video_start=1.0", "video_end=3.0")
    assert code == 0
    assert f"{video} (2.00 s): red" in out
    assert "  status: " in out


def test_an_answer_is_kept_to_a_form_and_to_tokens_that_the_checkpoint_has(run: Run, video: str) -> None:
    ask = (f"video={video}", "query=red", "max_new_tokens=27", "json=true")
    form = "settings.task.answer=relative"  # in which the tiny model has never answered
    statuses = [json.loads(run(*ask, form, f"settings.task.constrained={kept}")[1])["status"] for kept in (False, True)]
    assert statuses[0] != statuses[1] == "ok"
    code, _, err = run(*ask, "settings.task.answer=tokens")
    assert code == 2 and err.splitlines()[-1] == (
        "error: task.answer = 'tokens': tiny has no temporal tokens, so that it never learned any; ask for the form "
        "that it was trained with, or train it first (train_sft.py task=tokens)"
    )


def test_rows_are_answered_scored_and_drawn_and_bad_ones_reported(run: Run, video: str, tmp_path: Path) -> None:
    good = {"video": "a.mp4", "duration": 4.0, "timestamp": [1.0, 2.0], "sentence": "red", "qid": "q1", "place": "x"}
    rows = [good, good | {"qid": "q2", "video_start": 1.0, "video_end": 3.0, "duration": 2.0, "timestamp": [0, 1.5]}]
    rows += [good | {"qid": "gone", "video": "no.mp4"}, good | {"qid": "broken", "video": "bad.mp4"}]
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    file = write_rows(tmp_path / "rows.jsonl", rows)
    words = (f"data.annotation_file={file}", f"data.video_dir={tmp_path}", "data.max_bad_share=0.6", "json=true")
    code, out, err = run(*words)
    document = json.loads(out)
    assert code == 0, err
    assert document["skipped"] == 2
    assert {"R1@0.3", "R1@0.5", "R1@0.7", "mIoU", "parse_failures"} <= document["metrics"].keys()
    assert document["metrics"]["samples"] == 2
    written = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert [row["qid"] for row in written] == ["q1", "q2"]
    assert written[0].items() >= good.items()
    assert {"prediction", "text", "status"} <= written[0].keys()
    skipped = (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()
    assert [json.loads(line)["qid"] for line in skipped] == ["gone", "broken"]
    shown = json.loads((tmp_path / "out" / "input.json").read_text())
    assert (shown["fps"], shown["max_frames"], shown["max_pixels"], shown["max_new_tokens"]) == (2.0, 64, 4096, 8)
    assert "{query}" in shown["prompts"][0] and shown["answer"] == "seconds"
    assert all(Path(path).stat().st_size for path in document["files"].values())
    assert (tmp_path / "out" / "predictions.png").read_bytes().startswith(b"\x89PNG")


def test_a_question_about_one_video_leaves_the_answers_to_rows_and_their_metrics_alone(
    run: Run, video: str, tmp_path: Path
) -> None:
    row = {"video": "a.mp4", "duration": 4.0, "timestamp": [1.0, 2.0], "sentence": "red"}
    file = write_rows(tmp_path / "rows.jsonl", [row])
    rows = (f"data.annotation_file={file}", f"data.video_dir={tmp_path}", "num_workers=0")
    assert run(*rows)[0] == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert {"predictions.jsonl", "metrics.json", "vtg.json"} <= before.keys()
    for query in ("red", "blue"):
        assert run(f"video={video}", f"query={query}", "settings.video.fps=1")[0] == 0
    after = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    answers = after.pop("answers.jsonl").decode().splitlines()
    assert after == before
    assert [json.loads(line)["sentence"] for line in answers] == ["red", "blue"]


def test_rows_need_neither_timestamp_nor_duration_to_be_answered(run: Run, video: str, tmp_path: Path) -> None:
    whole = {"video": "a.mp4", "duration": 4.0, "timestamp": [1.0, 2.0], "sentence": "red"}
    bare = {"video": "a.mp4", "sentence": "blue"}
    part = bare | {"video_start": 1.0, "video_end": 3.5, "timestamp": None}
    rows = [bare, part, whole | {"duration": None, "qid": "probed"}, bare | {"video": "no.mp4"}]
    given = [f"data.video_dir={tmp_path}", "num_workers=0", "data.max_bad_share=0.5", "json=true"]
    code, out, err = run(f"data.annotation_file={write_rows(tmp_path / 'rows.jsonl', [*rows, whole])}", *given)
    assert code == 0, err
    document = json.loads(out)
    assert (document["rows"], document["scored"], document["skipped"]) == (4, 2, 1)
    assert document["metrics"]["samples"] == 2
    assert "2 of 4 rows have no timestamp: they are answered, and not scored" in err
    written = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert [row["duration"] for row in written] == [pytest.approx(4.0, abs=0.11), 2.5, written[0]["duration"], 4.0]
    assert ["timestamp" in row for row in written] == [False, False, True, True]
    assert written[1].items() >= {"video_start": 1.0, "video_end": 3.5, "qid": "rows:2"}.items()
    [skipped] = map(json.loads, (tmp_path / "out" / "skipped.jsonl").read_text().splitlines())
    assert skipped["place"].endswith("rows.jsonl:4") and "it has to tell the duration" in skipped["reason"]
    # Without any moment there are no metrics, and those of before do not stay beside other predictions.
    code, out, err = run(f"data.annotation_file={write_rows(tmp_path / 'bare.jsonl', [bare])}", *given[:-1])
    assert code == 0, err
    assert "1 of 1 rows have no timestamp and are not scored" in out and "mIoU" not in out
    assert not (tmp_path / "out" / "metrics.json").exists() and not (tmp_path / "out" / "predictions.png").exists()


def test_rows_without_a_moment_are_scored_where_the_model_answers_sets(run: Run, video: str, tmp_path: Path) -> None:
    one = {"video": "a.mp4", "duration": 4.0, "timestamp": [1.0, 2.0], "sentence": "red"}
    rows = [one, one | {"timestamp": []}]
    given = [f"data.annotation_file={write_rows(tmp_path / 'rows.jsonl', rows)}", f"data.video_dir={tmp_path}"]
    given += ["num_workers=0", "json=true"]
    code, out, err = run(*given)
    assert code == 0, err
    document = json.loads(out)  # asked for one moment, it is not scored on a row that has none
    assert (document["rows"], document["scored"]) == (2, 1) and "1 of 2 rows have no timestamp" in err
    code, out, err = run(*given, "settings.task.moments=set", "max_new_tokens=null")
    assert code == 0, err
    document = json.loads(out)
    assert (document["rows"], document["scored"]) == (2, 2)
    assert {"none_recall", "F1@0.5", "count_accuracy"} <= document["metrics"].keys()
    written = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert written[1]["timestamp"] == []
    shown = json.loads((tmp_path / "out" / "input.json").read_text())
    assert shown["max_new_tokens"] == 384  # a set has room for some twenty moments, whether or not rows tell how many
    rows.append(one | {"timestamp": [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6], [0.7, 0.8]]})
    given[0] = f"data.annotation_file={write_rows(tmp_path / 'long.jsonl', rows)}"
    code, out, err = run(*given, "settings.task.moments=set")
    assert code == 2 and "max_new_tokens = 8: the answer to " in err
    assert "long.jsonl:3 (4 moments) takes " in err and "would be cut off" in err
    asked = {"video": "a.mp4", "duration": 4.0, "question": "What is it?", "answer": "a box"}
    given[0] = f"data.annotation_file={write_rows(tmp_path / 'asked.jsonl', [one, asked])}"
    code, out, err = run(*given, "max_new_tokens=null")
    shown = json.loads((tmp_path / "out" / "input.json").read_text())
    assert code == 0 and shown["max_new_tokens"] == 64, err  # what a question's answer may take, more than a moment's


def test_the_rows_of_a_mixture_are_answered_and_scored_source_by_source(run: Run, video: str, tmp_path: Path) -> None:
    span = {"video": "a.mp4", "duration": 4.0, "timestamp": [1.0, 2.0], "sentence": "red", "qid": "1"}
    (tmp_path / "other").mkdir()
    write_rows(tmp_path / "spans.jsonl", [span, {"video": "a.mp4", "sentence": "blue"}])
    whole = {"video": str(tmp_path / "a.mp4"), "duration": 4.0}
    write_rows(tmp_path / "asked.jsonl", [whole | {"question": "how many?", "count": 2, "qid": "1"}])
    given = [f"data.sources.{name}.annotation_file={tmp_path / f'{name}.jsonl'}" for name in ("spans", "asked")]
    given += [f"data.sources.spans.video_dir={tmp_path}", f"data.sources.asked.video_dir={tmp_path / 'other'}"]
    code, out, err = run("data=jsonl", *given, "num_workers=0")
    assert code == 0, err
    assert "1 of 3 rows have no timestamp and are not scored" in out
    assert [line.split()[:3] for line in out.splitlines() if line.startswith(("spans ", "asked "))] == [
        ["spans", "1", "mIoU"],
        ["asked", "1", "score"],
    ]
    written = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert [(row["qid"], row["mixture_source"]) for row in written] == [
        ("spans/1", "spans"),
        ("spans/spans:2", "spans"),
        ("asked/1", "asked"),
    ]
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["sources"]["asked"]["count"] == metrics["count"]
    assert metrics["sources"]["spans"]["samples"] == metrics["samples"] == 1
    # Of a split that one source alone has, the others are named.
    code, out, err = run("data=jsonl", *given, f"data.sources.asked.val_file={tmp_path / 'asked.jsonl'}", "split=val")
    assert code == 0, err
    assert "split = val: nothing is asked of spans, which have no file of it" in err and "mIoU" not in out


def test_rows_without_a_timestamp_are_held_to_the_other_rules(run: Run, video: str, tmp_path: Path) -> None:
    bare = {"video": "a.mp4", "sentence": "blue"}
    for row, said in (
        ({"video": "a.mp4"}, "rows.jsonl:1: sentence: is missing"),
        (bare | {"video_start": 2.0}, "rows.jsonl:1: video_end: is missing, but video_start is there"),
        (bare | {"duration": -3.0}, "rows.jsonl:1: duration: must be above 0 s"),
    ):
        code, _, err = run(f"data.annotation_file={write_rows(tmp_path / 'rows.jsonl', [row])}")
        assert code == 2 and "no usable row among 1" in err and said in err


def test_the_folder_of_a_run_or_a_model_takes_no_answers(run: Run, video: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.yaml").touch()
    code, _, err = run(f"video={video}", "query=red")
    assert code == 2
    assert "out': holds a run or a model, whose own files would be overwritten; name another folder" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["config.yaml"]


def test_what_was_answered_before_a_stop_is_not_asked_again(
    run: Run, tmp_path: Path, at_decoding: Any, demo_dir: Path
) -> None:
    rows = [json.loads(line) for line in (demo_dir / "train.jsonl").read_text().splitlines()]
    file = write_rows(tmp_path / "rows.jsonl", rows)
    words = (f"data.annotation_file={file}", f"data.video_dir={demo_dir}", "batch_size=2", "num_workers=0")
    code, _, err = run(*words)
    assert code == 0, err
    whole, decoded = (tmp_path / "out" / "predictions.jsonl").read_text(), []

    def stop(path: str) -> None:
        decoded.append(path)
        if len(decoded) == len({row["video"] for row in rows}):
            raise KeyboardInterrupt

    at_decoding(stop)
    assert run(*words)[0] == 130
    part = tmp_path / "out" / "predictions.jsonl.part"
    answered = sum(len(json.loads(line)["rows"]) for line in part.read_text().splitlines()[1:])
    assert 0 < answered < len(rows) and answered % 2 == 0
    code, _, err = run(*words)
    assert code == 0 and f"going on after {answered} answers that {part} holds" in err
    assert (tmp_path / "out" / "predictions.jsonl").read_text() == whole
    assert not part.exists()


def test_a_worker_that_is_killed_ends_it_in_one_error(run: Run, video: str, tmp_path: Path, at_decoding: Any) -> None:
    def die(path: str) -> None:
        if get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)

    at_decoding(die)
    row = {"video": "a.mp4", "duration": 4.0, "timestamp": [1.0, 2.0], "sentence": "red"}
    file = write_rows(tmp_path / "rows.jsonl", [row])
    code, _, err = run(f"data.annotation_file={file}", f"data.video_dir={tmp_path}")
    assert code == 1 and "Traceback" not in err
    assert "takes most memory when there is none left: lower num_workers or settings.video.total_pixels" in err


def test_too_many_bad_rows_fail_and_are_named(run: Run, video: str, tmp_path: Path) -> None:
    good = {"video": "a.mp4", "duration": 4.0, "timestamp": [1.0, 2.0], "sentence": "red"}
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    file = write_rows(tmp_path / "rows.jsonl", [good, good | {"video": "bad.mp4"}])
    code, _, err = run(f"data.annotation_file={file}", f"data.video_dir={tmp_path}")
    assert code == 1
    assert "1 of 2 rows cannot be used, more than data.max_bad_share = 0.05" in err
    assert f"{file}:2: " in err


def test_an_unreadable_video_fails_without_a_traceback(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    code, out, err = run(f"video={tmp_path / 'bad.mp4'}", "query=red")
    assert (code, out) == (1, "")
    assert "bad.mp4: not a readable video" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing to answer: neither video nor data is set; give video=FILE query=TEXT, or data.annotation_file="),
        (("video=no.mp4", "query=red"), "video = 'no.mp4': no such file (looked in "),
        (("video=VIDEO",), "video is set, but query is not; say what to look for"),
        (("query=red",), "query = 'red', but video is not set; give its file: video=FILE"),
        (("video=VIDEO", "query=red", "data.annotation_file=VIDEO"), "are both set; keep one of them"),
        (("video=VIDEO", "query=red", "checkpoint=./none"), "'./none': no such folder"),
        (("video=VIDEO", "query=red", "settings.task.answer=odd"), "settings.task.answer = 'odd': must be one of"),
        (("video=VIDEO", "query=red", "settings.video.fsp=1"), "did you mean settings.video.fps?"),
        (("data.annotation_file=VIDEO", "split=val"), "split = 'val', but data.val_file is not set"),
        (
            ("data=mixture", "split=val", "data.sources.demo.val_file=null", "data.sources.gym.val_file=null"),
            "val_file of any source is not set",
        ),
        (("data=mixture", "video=VIDEO", "query=red"), "data.sources (demo, gym) are both set; keep one of them"),
        (("video=VIDEO", "query=red", "num_workers=-1"), "num_workers = -1: must be 0 (none) or more"),
        (("video=VIDEO", "query=red", "batch_size=0"), "batch_size = 0: must be at least 1"),
        (("data.annotation_file=VIDEO", "data.max_samples=-3"), "data.max_samples = -3: must be 0 (all) or more"),
        (
            ("data.annotation_file=VIDEO", "video_end=3"),
            "video_end = 3.0, but video is not set; rows have their own video_end",
        ),
    ],
)
def test_wrong_usage_is_refused_with_a_remedy(run: Run, video: str, words: tuple[str, ...], message: str) -> None:
    code, out, err = run(*(word.replace("VIDEO", video) for word in words))
    assert (code, out) == (2, "")
    assert message in err


@pytest.mark.usefixtures("bound_by_rights")
def test_what_may_not_be_read_or_written_is_named_before_anything_loads(run: Run, video: str, tmp_path: Path) -> None:
    rows, shut, locked = tmp_path / "rows.jsonl", tmp_path / "shut", tmp_path / "locked"
    rows.touch(mode=0)
    shut.mkdir(mode=0)
    locked.mkdir(mode=0o555)
    asked = (f"video={video}", "query=red")
    for words, message in (
        (
            (f"data.annotation_file={rows}",),
            f"data.annotation_file = '{rows}': cannot be read (Permission denied); check",
        ),
        ((f"data.annotation_file={shut}",), f"data.annotation_file = '{shut}': is a folder; name a file in it"),
        ((f"video={shut}", "query=red"), f"video = '{shut}': is a folder; name a file in it"),
        ((*asked, f"checkpoint={shut}"), f"{shut}/adapter_config.json: Permission denied; check the path and its per"),
        ((*asked, f"output_dir={locked}"), f"output_dir = {locked}: cannot be written to (Permission denied); choose"),
        ((*asked, f"output_dir={rows}/in"), f"output_dir = {rows}/in: cannot be written to (Not a directory); choose"),
    ):
        code, out, err = run(*words)
        assert (code, out) == (2, "") and err.startswith(f"error: {message}") and err.count("\n") == 1, err


def test_a_checkpoint_is_used_as_it_was_trained_and_differences_are_told(tmp_path: Path) -> None:
    tiny = read_settings(TINY_QWEN3_VL)
    assert tiny is not None
    trained = Settings(tiny.model, VideoConfig(fps=4.0, max_frames=32), TaskConfig(answer="bins", num_bins=50))
    folder = tmp_path / "run" / "best"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    save_settings(trained, folder)
    plain = checkpoint_settings(str(tmp_path / "run"), overrides=SettingsOverrides(), fallback=FallbackSettings())
    assert (plain.settings.video, plain.settings.task) == (trained.video, trained.task)
    assert plain.settings.model.path == str(tmp_path / "run")
    assert plain.settings.model.max_length == tiny.model.max_length
    assert (plain.source, plain.differences) == (str(folder / "vtg.json"), ())
    overrides = SettingsOverrides(VideoOverrides(fps=1.0, max_frames=32, decoder="pyav"), TaskOverrides(num_bins=10))
    changed = checkpoint_settings(str(tmp_path / "run"), overrides=overrides, fallback=FallbackSettings())
    assert changed.settings.video.decoder == "pyav"
    assert changed.differences == (
        "video.fps = 1.0 here, 4.0 in training",
        "task.num_bins = 10 here, 50 in training",
    )


def test_the_tiny_model_brings_the_settings_of_its_config_group() -> None:
    with initialize_config_dir(str(conf_dir().resolve()), version_base="1.3"):
        config = load_config(compose("sft", overrides=["model=tiny"]), SFTConfig)
    assert read_settings(TINY_QWEN3_VL) == Settings(config.model, config.video, config.task)


def test_a_plain_model_takes_the_fallback_settings(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    fallback = FallbackSettings(video=VideoConfig(fps=3.0))
    found = checkpoint_settings(str(tmp_path), overrides=SettingsOverrides(), fallback=fallback)
    assert found.settings.video.fps == 3.0
    assert found.source == f"{tmp_path} has no vtg.json: using the `fallback` settings"


def test_the_config_is_shown_in_a_second_and_without_torch() -> None:
    source = "import sys; sys.argv = ['vtg.predict', '--cfg', 'job']; from vtg.predict import main; main(); "
    source += "assert not {'torch', 'transformers'} & sys.modules.keys()"
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "checkpoint: tiny" in done.stdout
