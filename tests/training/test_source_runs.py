"""Data sets that lie as others publish them are trained on by their choice of `data` and their folder."""

import shutil
from pathlib import Path

import pytest
from lerobot_set import TOP, write_set
from sft_runs import losses, read, run

SHORT = ("trainer.max_steps=2", "trainer.logging_steps=1", "trainer.per_device_train_batch_size=2")


def webvid_set(root: Path, demo: Path) -> Path:
    """The demo's videos in WebVid's layout, and a row whose video is not there."""
    rows = {row["video"]: row["sentence"] for row in read(demo / "train.jsonl")}
    partitions = root / "raw" / "webvid-10M" / "data" / "train" / "partitions"
    partitions.mkdir(parents=True)
    lines = ["videoid,name"]
    for number, (video, sentence) in enumerate(rows.items(), 1234560):
        place = root / "raw" / "videos" / "train" / f"12/1234/{str(number)[:6]}/{number}.mp4"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(demo / video, place)
        lines.append(f"{number},{sentence}")
    (partitions / "0000.csv").write_text("\n".join([*lines, "9999999,nothing"]) + "\n", encoding="utf-8")
    return root


@pytest.mark.slow
def test_webvid_is_trained_on_with_kempnerforges_defaults(demo_dir, tmp_path):
    root, out = webvid_set(tmp_path / "set", demo_dir), tmp_path / "run"
    words = (f"data.root={root}", "data.val_share=0", "data.max_bad_share=0.5", f"output_dir={out}", *SHORT)
    done = run("data=webvid", "video=kempner", *words)
    assert done.returncode == 0, done.stderr
    assert sorted(losses(out)) == [1, 2]
    assert [row["reason"] for row in read(out / "skipped.jsonl")] == [
        "duration: is missing; a row with 'caption' needs it: python -m vtg.validate FILE --probe --fix OUT reads it "
        "from the video"
    ]


@pytest.mark.slow
def test_a_lerobot_set_is_trained_on_by_one_of_its_cameras(tmp_path):
    root, out = write_set(tmp_path / "cups"), tmp_path / "run"
    done = run("data=lerobot", f"data.root={root}", f"data.lerobot.camera_key={TOP}", f"output_dir={out}", *SHORT)
    assert done.returncode == 0, done.stderr
    assert sorted(losses(out)) == [1, 2]
