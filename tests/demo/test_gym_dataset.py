import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gym_reader import answer, appearances

from vtg.annotations.sample import Sample, read_samples, spans_of
from vtg.config.data_rules import check_gym
from vtg.config.data_settings import GymConfig
from vtg.config.video_settings import VideoConfig
from vtg.demo.gym_dataset import SPLITS, ensure_gym, frame_times_ms, gym_world, video_name
from vtg.demo.gym_tasks import TASKS
from vtg.demo.world import COLORS
from vtg.errors import ConfigError
from vtg.video.clip_loading import load_clip
from vtg.video.container import probe
from vtg.video.video_window import VideoWindow

EVERY_FRAME = VideoConfig(fps=0.0, min_frames=1, max_frames=10_000, min_pixels=1, max_pixels=2**20, total_pixels=2**40)
SMALL = GymConfig(train_videos=3, val_videos=1, test_videos=1, long_videos=2, shortest_s=20, longest_s=30, long_s=45)


@pytest.fixture(scope="session")
def gym_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A very small gym. Shared: leave it as it is."""
    return ensure_gym(tmp_path_factory.mktemp("gym") / "data", SMALL)


def rows_of(folder: Path, split: str, moments: str = "set") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{split}_{moments}.jsonl").read_text().splitlines()]


def test_rows_of_one_moment_are_those_of_the_whole_set_that_have_one(gym_dir):
    for split in SPLITS:
        samples = list(read_samples(gym_dir / f"{split}_one.jsonl"))
        assert samples and all(isinstance(sample, Sample) and len(sample.spans) == 1 for sample in samples)
        every = rows_of(gym_dir, split)
        single = [row for row in every if row["form"] in ("once", "nth", "order")]
        assert rows_of(gym_dir, split, "one") == single
        assert len({row["qid"] for row in every}) == len(every) > len(single)
    forms = Counter(row["form"] for split in SPLITS for row in rows_of(gym_dir, split))
    assert set(forms) == {"once", "nth", "order", "every", "none"}


def test_the_words_of_a_row_find_its_moments_in_the_decoded_frames(gym_dir):
    by_video: dict[str, list[dict[str, Any]]] = {}
    for row in rows_of(gym_dir, "train") + rows_of(gym_dir, "long"):
        by_video.setdefault(row["video"], []).append(row)
    for video, rows in by_video.items():
        window = VideoWindow(str(gym_dir / video), duration_s=rows[0]["duration"])
        clip = load_clip(window, EVERY_FRAME, factor=16)
        assert clip.frames.shape[2:] == (64, 64)
        found = appearances(clip.frames.transpose(0, 2, 3, 1))
        for row in rows:
            spans = row["timestamp"] if row["form"] in ("every", "none") else [row["timestamp"]]
            moments = [(clip.timestamps_s >= start) & (clip.timestamps_s < end) for start, end in spans]
            expected = answer(row["sentence"], found)
            assert len(moments) == len(expected), row
            assert all(np.array_equal(*pair) for pair in zip(moments, expected, strict=True)), row


def test_the_world_of_a_video_has_the_moments_of_its_rows_and_those_that_no_row_asks_for(gym_dir):
    unasked = 0
    for number in range(SMALL.test_videos):
        events = {(event.start_s, event.end_s) for event in gym_world("test", number, SMALL).events}
        asked = {
            span
            for row in rows_of(gym_dir, "test")
            if row["video"] == video_name("test", number)
            for span in spans_of(row)
        }
        assert asked <= events
        unasked += len(events - asked)
    assert unasked


def test_the_points_of_a_row_are_where_the_decoded_frames_have_the_shapes(gym_dir):
    """Of other tasks: a frame at the time of a point has a shape there, and no more of them than points."""
    clips: dict[str, tuple[np.ndarray, np.ndarray, dict]] = {}
    seen = Counter()
    for name in ("points", "tracks", "count"):
        for row in rows_of(gym_dir, "train", name):
            if row["video"] not in clips:
                window = VideoWindow(str(gym_dir / row["video"]), duration_s=row["duration"])
                clip = load_clip(window, EVERY_FRAME, factor=16)
                frames = clip.frames.transpose(0, 2, 3, 1)
                clips[row["video"]] = clip.timestamps_s, frames, appearances(frames)
            times_s, frames, found = clips[row["video"]]
            color, shape = row.get("label", "").split()[0:2] if " " in row.get("label", "") else ("coloured", "shapes")
            of_kind = {kind: runs for kind, runs in found.items() if color in ("coloured", kind[0])}
            of_kind = {kind: runs for kind, runs in of_kind.items() if shape in ("shapes", kind[1])}
            points = row.get("points", row.get("tracks", []))
            for point in points:
                at = int(np.searchsorted(times_s, point["timestamp"] + 1e-6, side="right")) - 1
                pixel = frames[at, int(point["y"] * 64), int(point["x"] * 64)].astype(int)
                assert any(np.abs(pixel - np.array(COLORS[kind[0]])).max() < 70 for kind in of_kind), (row, pixel)
                together = [p for p in points if p["timestamp"] == point["timestamp"]]
                assert len(together) == sum(bool(run[at]) for runs in of_kind.values() for run in runs), row
                seen[name] += 1
            if row["sentence"].startswith("In how many colours"):
                assert row["count"] == sum(kind[1] == row["sentence"].split()[-2] for kind in found), row
            if row["sentence"].startswith("How many times"):
                assert row["count"] == len(points) == sum(map(len, of_kind.values())), row
    assert min(seen.values()) > 3


def test_the_rows_of_a_world_that_is_not_crowded_say_what_its_decoded_frames_show(tmp_path):
    sizes = GymConfig(train_videos=12, shortest_s=5, longest_s=7, long_s=7, crowded=False)
    folder, seen = ensure_gym(tmp_path / "plain", sizes), Counter()
    rows = {name: rows_of(folder, "train", name) for name in (*TASKS, "one")}
    for caption in rows["caption"]:
        name = caption["video"]
        clip = load_clip(VideoWindow(str(folder / name), duration_s=caption["duration"]), EVERY_FRAME, factor=16)
        found = {kind: run for kind, (run,) in appearances(clip.frames.transpose(0, 2, 3, 1)).items()}
        order = sorted(found, key=lambda kind: int(np.argmax(found[kind])))
        assert caption["caption"].lower() == ", then ".join(f"a {' '.join(kind)}" for kind in order) + "."
        (events,) = (row["captions"] for row in rows["dense_caption"] if row["video"] == name)
        for kind, event in zip(order, events, strict=True):
            start_s, end_s = event["timestamp"]
            inside = (clip.timestamps_s >= start_s) & (clip.timestamps_s < end_s)
            assert np.array_equal(found[kind], inside) and event["caption"] == f"a {' '.join(kind)}"
        for row in rows["count"]:
            if row["video"] == name:
                asked_s = re.findall(r"[0-9.]+(?= seconds)", row["sentence"])
                at = [int(np.searchsorted(clip.timestamps_s, float(s) + 1e-6, side="right")) - 1 for s in asked_s]
                assert row["count"] == (sum(run[at[0]] for run in found.values()) if at else len(found))
        for row in rows["qa"]:
            if row["video"] == name:
                seen[row["question"].split()[0:2][1]] += 1
                present = [choice for choice in row.get("choices", ()) if tuple(choice.split()) in found]
                if "to be seen" in row["question"]:
                    assert present == [row["answer"]]
                elif "first" in row["question"]:
                    assert (
                        row["answer"] == min(present, key=lambda c: order.index(tuple(c.split()))) and len(present) == 2
                    )
                else:
                    assert (row["answer"], row["question"].split()[-1].rstrip("?")) in found
    assert {"of", "colour", "appears"} == set(seen)


def test_frames_come_at_a_variable_rate_and_the_file_lasts_as_its_rows_say(gym_dir):
    for split in SPLITS:
        for video, duration_s in {row["video"]: row["duration"] for row in rows_of(gym_dir, split)}.items():
            assert probe(str(gym_dir / video)).duration_s == pytest.approx(duration_s, abs=1e-6)
            clip = load_clip(VideoWindow(str(gym_dir / video)), EVERY_FRAME, factor=16)
            steps_ms = np.round(1000 * np.diff(clip.timestamps_s)).astype(int)
            assert len(set(steps_ms.tolist())) > 30 and steps_ms.max() < 450 and steps_ms.max() > 3 * steps_ms.min()


def test_the_frame_times_are_those_of_the_duration():
    for seed in range(20):
        times_ms, duration_s = frame_times_ms(np.random.default_rng(seed), duration_s=25.0)
        assert times_ms[0] == 0 and (np.diff(times_ms) > 0).all()
        assert times_ms[-1] < 25_000 <= 1000 * duration_s < 25_450


def test_clips_are_as_long_as_the_settings_say_and_long_ones_longer_than_any_of_training(gym_dir):
    lengths = {split: [row["duration"] for row in rows_of(gym_dir, split)] for split in SPLITS}
    assert min(lengths["train"]) >= 20 and max(lengths["train"] + lengths["val"] + lengths["test"]) < 30.5
    assert min(lengths["long"]) >= 30 and max(lengths["long"]) < 45.5
    contents = [path.read_bytes() for path in (gym_dir / "videos").iterdir()]
    assert len(contents) == len(set(contents)) == 7


def test_the_same_settings_give_the_same_bytes_and_another_seed_others(gym_dir, tmp_path):
    def contents(folder: Path) -> dict[str, bytes]:
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    again = ensure_gym(tmp_path / "again", SMALL)
    assert contents(again) == contents(gym_dir)
    other = ensure_gym(tmp_path / "other", replace(SMALL, seed=1, train_videos=1))
    assert rows_of(other, "train")[0] != rows_of(gym_dir, "train")[0]
    more = ensure_gym(tmp_path / "more", replace(SMALL, train_videos=4, long_videos=0))
    before, after = ((folder / "train_set.jsonl").read_text() for folder in (gym_dir, more))
    assert after.startswith(before) and len(after) > len(before)


def test_a_gym_that_is_there_is_not_made_again_and_anything_else_is_refused(gym_dir, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in gym_dir.rglob("*")}
    assert ensure_gym(gym_dir, SMALL) == gym_dir
    assert {path: path.stat().st_mtime_ns for path in gym_dir.rglob("*")} == before
    with pytest.raises(ConfigError, match=r"is not the gym data of these data\.gym settings; remove it or choose"):
        ensure_gym(gym_dir, replace(SMALL, seed=99))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "holiday.mp4").write_text("x")
    with pytest.raises(ConfigError, match=r"data\.video_dir = '.*mine': exists, but is not the gym data"):
        ensure_gym(tmp_path / "mine", SMALL)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["holiday.mp4"]


@pytest.mark.parametrize(
    ("lengths", "told"),
    [
        ({"shortest_s": 5.0}, "shortest_s = 5, longest_s = 80, long_s = 120"),
        ({"shortest_s": 90.0}, "shortest_s = 90, longest_s = 80"),
        ({"long_s": 60.0}, "must be 10 or more seconds, each no less than the one before"),
        ({"long_s": float("nan")}, "long_s = nan"),
        ({"shortest_s": 3.0, "crowded": False}, "shortest_s = 3, .* must be 4 or more seconds"),
    ],
)
def test_lengths_out_of_order_are_refused(lengths, told):
    with pytest.raises(ConfigError, match=told):
        check_gym(replace(GymConfig(), **lengths))
