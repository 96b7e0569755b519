"""vtg.inspect on all that is no single video and no annotation file: tables, folders, LeRobot, what was downloaded."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_set import TOP, WRIST, write_set
from PIL import Image

from vtg.download.__main__ import main as download
from vtg.download.download_report import size_text
from vtg.inspect.__main__ import main


@pytest.fixture
def inspect(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict]]:
    """The exit code and the document of a command."""

    def run(*arguments: object) -> tuple[int, dict]:
        code = main([*map(str, arguments), "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "train.parquet"
    columns = {
        "video_id": [f"v{at}" for at in range(10)],
        "duration": [float(at) for at in range(9)] + [None],
        "points": [[1.0] * at for at in range(10)],
        "caption": ["é" * at for at in range(10)],
        "jpeg": [bytes(at) for at in range(10)],
        "is_short": [at < 3 for at in range(10)],
        "source": [{"name": "made"}] * 10,
    }
    pq.write_table(pa.table(columns), path, row_group_size=4)
    return path


def test_a_table_shows_columns_types_values_and_samples_from_all_over_it(inspect, table: Path):
    code, report = inspect(table, "--num-samples", 2)
    assert (code, report["kind"], report["rows"], report["broken_files"]) == (0, "table", 10, [])
    columns = report["columns"]
    assert {name: column["type"] for name, column in columns.items() if name != "points"} == {
        "video_id": "text",
        "duration": "double",
        "caption": "text",
        "jpeg": "bytes",
        "is_short": "bool",
        "source": "struct<name: string>",
    }
    assert columns["duration"] | {"type": ""} == {
        **{"type": "", "nulls": 1, "min": 0.0, "p25": 2.0, "median": 4.0, "p75": 6.0, "max": 8.0, "mean": 4.0}
    }
    assert (columns["points"]["max"], columns["points"]["of"]) == (9.0, "items")
    assert (columns["caption"]["max"], columns["caption"]["of"]) == (9.0, "characters")  # not its 18 bytes
    assert columns["is_short"]["mean"] == 0.3
    assert columns["source"] == {"type": "struct<name: string>", "nulls": 0}
    assert [sample["video_id"] for sample in report["samples"]] == ["v0", "v5"]
    assert report["samples"][1]["jpeg"] == "<5 bytes>"


def test_a_table_that_breaks_off_is_named_and_the_others_are_read(inspect, table: Path):
    (table.parent / "val.parquet").write_bytes(table.read_bytes()[:-100])
    code, report = inspect(table.parent)
    assert (code, report["kind"]) == (1, "folder")
    assert report["parts"]["tables"]["rows"] == 10
    (broken,) = report["parts"]["tables"]["broken_files"]
    assert broken.startswith(f"{table.parent / 'val.parquet'}: not a readable Parquet file (")


def test_a_folder_of_videos_shows_durations_and_which_cannot_be_read(inspect, tmp_path: Path, write_mp4):
    for name, times_ms in (("a.mp4", range(0, 1000, 100)), ("b.mp4", range(0, 3000, 100))):
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / name).write_bytes(Path(write_mp4(times_ms)).read_bytes())
    (tmp_path / "set" / "page.mp4").write_text("<html>404</html>")
    sheet, page = tmp_path / "sheet.png", tmp_path / "page.html"
    code, report = inspect(tmp_path / "set", "--sheet", sheet, "--html", page)
    found = report["parts"]["videos"]
    assert (code, found["videos"], found["broken_videos"], found["codecs"]) == (1, 3, 1, {"h264": 2})
    assert (found["duration"]["min"], found["duration"]["max"]) == (0.901, 2.901)
    assert "page.mp4: not a readable video" in found["broken"][0]
    with Image.open(sheet) as picture:
        # Two frames in a row, grey 20 + 4 k of the frame in the middle: k = 5 of 10, k = 15 of 30.
        levels = [picture.convert("L").getpixel((picture.width * at // 4, picture.height // 2)) for at in (1, 3)]
    assert levels == pytest.approx([40, 80], abs=3)
    text = page.read_text()
    assert text.count("<svg") == 5 and "data:image/jpeg;base64," in text and "not a readable video" in text


def test_a_folder_that_datasets_saved_shows_its_splits(inspect, table: Path, tmp_path: Path):
    import datasets

    rows = datasets.Dataset(pq.read_table(table))
    datasets.disable_progress_bars()
    datasets.DatasetDict({"train": rows, "val": rows.select(range(3))}).save_to_disk(tmp_path / "saved")
    code, report = inspect(tmp_path / "saved")
    assert code == 0
    assert {name: part["rows"] for name, part in report["parts"].items()} == {"train": 10, "val": 3}
    next((tmp_path / "saved" / "val").glob("*.arrow")).write_bytes(b"half")
    assert main([str(tmp_path / "saved")]) == 2


def test_a_lerobot_data_set_shows_episodes_cameras_subtasks_and_missing_videos(inspect, tmp_path: Path):
    root = write_set(tmp_path / "cups")
    code, report = inspect(root, "--num-samples", 1, "--sheet", tmp_path / "sheet.png")
    assert (code, report["kind"], report["episodes"], report["frames"]) == (0, "lerobot", 3, 47)
    assert report["cameras"] == {TOP: 3, WRIST: 3}
    assert report["subtasks"] == {"rows": 6, "spans": 7, "texts": 3}
    assert report["columns"]["timestamp"] == "float"
    with Image.open(tmp_path / "sheet.png") as picture:  # first, middle and last frame of both cameras
        levels = [picture.convert("L").getpixel((picture.width * (2 * at + 1) // 12, 120)) for at in range(6)]
    assert levels == pytest.approx([20, 44, 64] * 2, abs=3)
    next((root / "videos" / WRIST).rglob("file-001.mp4")).unlink()
    code, report = inspect(root)
    assert code == 1 and report["broken_videos"] == 1
    assert "file-001.mp4: no such file" in report["broken"][0]
    # And one of another version.
    info = root / "meta" / "info.json"
    info.write_text(info.read_text().replace("v3.0", "v2.1"))
    assert main([str(root)]) == 2


def test_a_folder_of_shards_is_rows(inspect, tmp_path: Path, write_mp4):
    row = tmp_path / "a.json"
    row.write_text(json.dumps({"duration": 1.0, "timestamp": [0.2, 0.5], "sentence": "it gets brighter"}))
    (tmp_path / "shards").mkdir()
    with tarfile.open(tmp_path / "shards" / "0.tar", "w") as tar:
        tar.add(row, "a.json")
        tar.add(write_mp4(range(0, 1000, 100)), "a.mp4")
    code, report = inspect(tmp_path / "shards", "--sheet", tmp_path / "sheet.png")
    assert code == 0 and report["parts"]["shards"]["samples"] == 1
    assert report["parts"]["shards"]["shown_samples"][0]["sentence"] == "it gets brighter"
    assert (tmp_path / "sheet.png").is_file()


def test_what_was_downloaded_is_listed_and_shown_by_name(
    inspect, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert inspect()[1]["sets"] == []
    hub = tmp_path / "hub" / "allenai" / "Molmo2-Cap"
    hub.mkdir(parents=True)
    table.rename(hub / "train.parquet")
    assert download(["molmo2-cap", "--from", str(tmp_path / "hub")]) == 0
    capsys.readouterr()
    assert main([]) == 0
    size = size_text((tmp_path / "molmo2_datasets" / "molmo2-cap" / "train.parquet").stat().st_size)
    assert capsys.readouterr().out.splitlines()[1].split() == [
        "molmo2-cap",
        "whole",
        *size.split(),
        "train",
        "10",
        "10",
    ]
    for name in ("molmo2-cap", "Molmo2-Cap"):
        code, report = inspect(name, "--num-samples", 1)
        assert code == 0 and report["parts"]["train.parquet"]["rows"] == 10
    assert main(["tacos"]) == 2
    assert "tacos: is not downloaded to molmo2_datasets; python -m vtg.download tacos" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gone"], "gone: no such file; give a video, an annotation file"),
        (["."], ".: has no video, no annotation file and no table in it"),
        (["--html", "page.html"], "what of? Give a path"),
        ([".", "--html", "page.txt"], "--html page.txt: the name must end in .html or .htm"),
        ([".", "--num-samples", "-1"], "--num-samples -1: must be at least 0"),
    ],
)
def test_wrong_usage_is_told(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"error: {said}")
