import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from vtg.config.video_settings import VideoConfig
from vtg.entry import conf_dir
from vtg.inspect.__main__ import main
from vtg.video.clip import DecodeError
from vtg.video.clip_loading import load_clip
from vtg.video.video_window import VideoWindow

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture
def video(tmp_path: Path) -> str:
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for at in range(30):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 5 * at, dtype=np.uint8), format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return str(path)


def report_of(capsys, *argv: str) -> tuple[int, dict]:
    code = main([*argv, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_video_shows_its_facts_its_true_times_and_what_sampling_takes(capsys, video):
    code, report = report_of(capsys, video, "--fps", "1", "--max-frames", "8")
    assert code == 0 and report["kind"] == "video" and report["codec"] == "h264"
    assert report["timestamps_s"] == [round(at / 10, 6) for at in range(30)]
    assert report["keyframes_s"][0] == 0 and report["duration_s"] == pytest.approx(3.0)
    sampling = report["sampling"]
    assert sampling["frames"] == 4 and set(sampling["timestamps_s"]) >= {0.0, 1.0, 2.0}
    assert (sampling["height"], sampling["width"], sampling["tokens"]) == (224, 320, 2 * 7 * 10)


def test_sampling_is_that_of_training_and_takes_the_overrides_of_training(capsys, video):
    def taken(*argv: str) -> dict:
        return report_of(capsys, video, "--no-decode", *argv)[1]["sampling"]

    default = OmegaConf.load(conf_dir() / "video" / "default.yaml")
    shown = taken()
    assert (shown["max_frames"], shown["fps"]) == (default.max_frames, default.fps)
    assert shown["height"] * shown["width"] >= default.min_pixels
    smaller = taken("video=tiny", "video.fps=4")
    assert (smaller["max_frames"], smaller["fps"], smaller["height"] * smaller["width"] <= 4096) == (64, 4.0, True)
    assert taken("experiment=gpu_8gb", "--fps", "1")["max_frames"] == 256
    assert taken("video.max_pixels=100352", "model=qwen2_5_vl_3b")["width"] % 28 == 0


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("video.fpz=3", "video.fpz: there is no such key; did you mean video.fps?"),
        ("video.sampling=all", "video.sampling = 'all': must be one of fps, uniform, random, keyframe, molmo2"),
        ("video.max_frames=1", "video.min_frames = 4, video.max_frames = 1: must be 1 <= min_frames <= max_frames"),
        ("video=big", "video=big: there is no such choice; choices of video: default, kempner, tiny"),
        ("b.mp4", "b.mp4: must be a setting, KEY=VALUE; one video or annotation file is inspected at a time"),
    ],
)
def test_a_setting_that_cannot_be_is_wrong_usage(capsys, video, argument, message):
    assert main([video, argument]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_settings_are_for_a_video_not_for_annotations(capsys, tmp_path: Path):
    (tmp_path / "rows.jsonl").touch()
    assert main([str(tmp_path / "rows.jsonl"), "video.fps=4"]) == 2
    assert "video.fps=4: settings say how a video is sampled" in capsys.readouterr().err


def test_sampling_options_change_what_is_taken(capsys, video):
    _, report = report_of(capsys, video, "--fps", "0", "--max-frames", "6", "--sampling", "uniform", "--no-decode")
    assert report["sampling"]["timestamps_s"] == [0.0, 0.6, 1.2, 1.7, 2.3, 2.9]


def test_text_shortens_long_lists(capsys, video):
    assert main([video]) == 0
    out = capsys.readouterr().out
    assert "timestamps_s: 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, ..., 2.4, 2.5, 2.6, 2.7, 2.8, 2.9\n" in out


def test_an_unreadable_video_is_a_failure_with_a_reason(capsys, tmp_path: Path):
    bad = tmp_path / "page.mp4"
    bad.write_text("<html>404</html>")
    code, report = report_of(capsys, str(bad))
    assert code == 1 and "page.mp4: not a readable video" in report["error"]
    assert main([str(bad)]) == 1
    assert capsys.readouterr().err.startswith(f"error: {bad}: not a readable video")


def test_a_damaged_video_fails_where_its_sampled_frames_do_not_decode(capsys):
    path = SHARED / "videos" / "decord__corrupted.mp4"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    code, report = report_of(capsys, str(path))
    assert code == 1 and len(report["timestamps_s"]) == 50 and "it decodes up to 2.700 s" in report["error"]


def test_an_annotation_file_shows_rows_columns_and_distributions(capsys, tmp_path: Path, video):
    row = {"video": Path(video).name, "duration": 3.0, "timestamp": [0.5, 1.0], "sentence": "it gets brighter"}
    lines = [
        row,
        row | {"timestamp": [[0, 1], [1, 2.5]], "source": "made"},
        row | {"video": "absent.mp4", "video_start": 0.0, "video_end": 3.0},
        row | {"duration": "3"},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in lines) + "\n[1]\n")
    code, report = report_of(capsys, str(file), "--video-dir", str(tmp_path))
    assert code == 1
    assert (report["rows"], report["samples"], report["broken_rows"], report["videos"]) == (5, 3, 2, 2)
    assert report["columns"]["duration"] == {"rows": 4, "types": {"float": 3, "str": 1}}
    assert report["columns"]["source"]["rows"] == 1
    assert report["span_s"]["max"] == 1.5 and report["spans_per_row"]["max"] == 2
    assert report["moments"] == {"none": 0, "one": 2, "several": 1}
    assert report["rows_per_video"]["max"] == 2 and report["trimmed_rows"] == 1
    assert report["missing_examples"] == ["absent.mp4"]
    assert any(f"{file}:4: duration:" in problem for problem in report["problems"])


def test_the_real_rows_are_all_good(capsys):
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent")
    code, report = report_of(capsys, str(SHARED / "real.jsonl"), "--video-dir", str(SHARED / "videos"))
    assert code == 0 and report["samples"] == 10 and report["missing_videos"] == 0


def test_files_whose_names_are_no_text_are_shown(video, tmp_path: Path):
    folder = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    os.mkdir(folder)
    shutil.copy(video, os.path.join(folder, b"\xff.mp4"))
    rows = os.path.join(folder, b"\xff.jsonl")
    with open(rows, "w") as file:
        file.write('{"video": "a.mp4", "duration": 2.0, "timestamp": [0.5, 1.0], "sentence": "x"}\n')
    strict = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    for words, code in (([os.path.join(folder, b"\xff.mp4")], 0), ([rows], 0), (["--index", rows], 1)):
        command = [sys.executable, "-m", "vtg.inspect", *words]
        done = subprocess.run(command, capture_output=True, text=True, env=strict)
        assert done.returncode == code and done.stderr == "" and r"caf\udce9/\udcff" in done.stdout, done.stderr
    assert os.path.exists(rows + b".videos.parquet")
    pytest.importorskip("decord")
    other = os.path.join(folder, b"\xff.mp4")
    with pytest.raises(DecodeError, match="decord opens no file whose name is not UTF-8"):
        load_clip(VideoWindow(os.fsdecode(other)), VideoConfig(decoder="decord"))


def test_wrong_usage_exits_with_2(capsys, video, tmp_path: Path):
    assert main([str(tmp_path / "absent.mp4")]) == 2
    assert "absent.mp4: no such file" in capsys.readouterr().err
    assert main([video, "--fps", "-1"]) == 2
    assert "video.fps = -1.0: must be positive" in capsys.readouterr().err
    assert main([video, "--max-frames", "0"]) == 2
    with pytest.raises(SystemExit) as stopped:
        main([video, "--sampling", "dense"])
    assert stopped.value.code == 2


def test_the_command_runs_without_torch(video):
    code = "import sys; from vtg.inspect.__main__ import main; main([sys.argv[1]]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, video], check=False, capture_output=True).returncode == 0


def test_decoders_are_compared_file_by_file(capsys, video):
    broken = Path(video).with_name("broken.mp4")
    broken.write_text("<html>404</html>")
    code, report = report_of(capsys, str(Path(video).parent), "--decoders")
    assert code == 1 and report["wrong"] == 0 and report["unreadable"] == 1
    verdicts = {
        Path(row["file"]).name: {one["decoder"]: one["verdict"] for one in row["decoders"]} for row in report["files"]
    }
    assert set(verdicts["broken.mp4"].values()) == {"refused"}
    assert verdicts["clip.mp4"].pop("pyav") == "exact"
    assert set(verdicts["clip.mp4"].values()) <= {"exact", "not installed"}
    assert main([video, "--decoders"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["file", "pyav", "torchcodec"] and "8 from 0.000 to 2.900 s" in lines[1]


def test_comparing_decoders_of_nothing_is_wrong_usage(capsys, tmp_path: Path):
    for path in (tmp_path, tmp_path / "absent.mp4"):
        assert main([str(path), "--decoders"]) == 2
        assert f"{path}: no such file, and no folder of files" in capsys.readouterr().err


def test_a_sheet_shows_the_sampled_frames(capsys, tmp_path: Path, video):
    sheet = tmp_path / "sheet.png"
    code, report = report_of(capsys, video, "--fps", "1", "--sheet", str(sheet))
    assert code == 0 and report["sheet"] == str(sheet)
    with Image.open(sheet) as picture:
        assert picture.width > 500 and picture.getextrema() != ((0, 0), (0, 0), (0, 0))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--sheet", "/nowhere/sheet.png"], "/nowhere is no folder to write to"),
        (["--sheet", "sheet.xyz"], r"must end in \.png"),
        (["--sheet", "sheet.png", "--decoders"], "leave out --decoders"),
        (["--factor", "0"], "--factor 0: must be at least 1"),
        (["--factor", "4096"], "video.max_pixels"),
        (["--fps", "nan"], "--fps nan: must be a number"),
    ],
)
def test_wrong_options_are_told_in_one_line(capsys, video, argv, message):
    assert main([video, *argv]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)


def test_an_index_of_the_videos_is_made_and_bad_ones_are_named(capsys, tmp_path: Path, video):
    (tmp_path / "page.mp4").write_text("<html>404</html>")
    row = {"duration": 3.0, "timestamp": [0.5, 1.0], "sentence": "it gets brighter"}
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row | {"video": name}) + "\n" for name in ("clip.mp4", "page.mp4", "clip.mp4")))
    code, report = report_of(capsys, "--index", str(rows), "--video-dir", str(tmp_path))
    assert code == 1 and report["index"] == f"{rows}.videos.parquet" and Path(report["index"]).is_file()
    assert (report["rows"], report["videos"], report["unreadable"]) == (3, 2, 1)
    (bad,) = report["unreadable_videos"]
    assert bad["video"] == "page.mp4" and "not a readable video" in bad["reason"]
    (tmp_path / "page.mp4").write_bytes(Path(video).read_bytes())
    out = str(tmp_path / "other.parquet")
    assert main(["--index", str(rows), "--video-dir", str(tmp_path), "-o", out]) == 0
    assert "unreadable: 0" in capsys.readouterr().out and Path(out).is_file()


def test_rows_that_an_index_cannot_be_made_of_are_a_failure_and_named(capsys, tmp_path: Path, video):
    rows, out = tmp_path / "rows.jsonl", str(tmp_path / "index.parquet")
    good = json.dumps({"video": video, "duration": 3.0, "timestamp": [0.5, 1.0], "sentence": "it gets brighter"})
    rows.write_text("\n".join([good, *["[1]"] * 101]) + "\n")
    code, report = report_of(capsys, "--index", str(rows), "-o", out)
    assert code == 1 and (report["rows"], report["broken_rows"], report["unreadable"]) == (1, 101, 0)
    assert len(report["problems"]) == 10 and report["problems"][0].startswith(f"{rows}:2: row: must be a JSON object")
    assert main(["--index", str(rows), "-o", out]) == 1
    assert f"  {rows}:6: row: must be a JSON object" in capsys.readouterr().out


def test_an_index_that_cannot_be_is_wrong_usage(capsys, tmp_path: Path, video):
    for argv, message in (
        ([video, "-o", "x.parquet"], "-o x.parquet: names the file of an index; add --index"),
        (["--index", str(tmp_path / "gone.jsonl")], "No such file"),
        (["--index", str(tmp_path / "{00..01}.tar")], "cannot be written to; name a local file with -o"),
        (["--index", str(tmp_path / "{00..01}.tar"), "-o", str(tmp_path / "x.parquet")], "shards are not there"),
    ):
        assert main(argv) == 2
        assert message in capsys.readouterr().err


def test_a_video_in_a_tar_file_is_shown_like_a_file(capsys, tmp_path: Path, video):
    shard = tmp_path / "shard.tar"
    with tarfile.open(shard, "w") as tar:
        tar.add(video, "clip.mp4")
    code, report = report_of(capsys, f"{shard}::clip.mp4")
    assert code == 0 and report["shown_frames"] == 30 and report["path"] == f"{shard}::clip.mp4"
    assert main([f"{shard}::gone.mp4"]) == 2


def test_pictures_are_shown_alone_and_on_the_sheet_of_their_rows(capsys, tmp_path: Path):
    red = np.full((40, 60, 3), (200, 0, 0), np.uint8)
    Image.fromarray(red).save(tmp_path / "a.png")
    (tmp_path / "bad.png").write_bytes(b"none")
    code, report = report_of(capsys, str(tmp_path / "a.png"), "video=tiny", "--sheet", str(tmp_path / "a_sheet.png"))
    assert code == 0 and (report["kind"], report["pictures"], report["width"], report["height"]) == (
        "picture",
        1,
        60,
        40,
    )
    assert report["read_as"]["tokens"] >= 1 and np.asarray(Image.open(tmp_path / "a_sheet.png"))[300, 640, 0] > 150
    code, report = report_of(capsys, str(tmp_path / "bad.png"))
    assert code == 1 and "bad.png: not a readable picture" in report["error"]
    asked = {"question": "which colour?", "answer": "red"}
    rows = [asked | {"image": ["a.png", "a.png"], "qid": "q"}, asked | {"image": "bad.png"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sheet = str(tmp_path / "rows.png")
    assert main([str(tmp_path / "rows.jsonl"), "--video-dir", str(tmp_path), "--sheet", sheet]) == 0
    assert "not on the sheet: " in capsys.readouterr().err
    pixels = np.asarray(Image.open(sheet).convert("RGB"))
    assert pixels.shape[1] == 3 * 260 and [int(pixels[90, at, 0]) > 150 for at in (130, 390, 650)] == [
        True,
        True,
        False,
    ]
