import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from vtg.annotations.sample import Sample, read_samples
from vtg.config.video_settings import VideoConfig
from vtg.demo.demo_dataset import SPLITS, ensure_demo, write_video
from vtg.demo.world import COLORS, SHAPES, make_world
from vtg.errors import ConfigError
from vtg.video.clip_loading import load_clip
from vtg.video.video_window import VideoWindow

EVERY_FRAME = VideoConfig(fps=0.0, min_frames=1, max_frames=10_000, min_pixels=1, max_pixels=2**20, total_pixels=2**40)


def samples_of(folder: Path, split: str) -> list[Sample]:
    found = list(read_samples(folder / f"{split}.jsonl"))
    assert all(isinstance(entry, Sample) for entry in found), found
    return found  # type: ignore[return-value]


def test_every_row_passes_the_schema_and_names_a_video(demo_dir):
    for split in SPLITS:
        samples = samples_of(demo_dir, split)
        assert samples and len({sample.qid for sample in samples}) == len(samples)
        assert all((demo_dir / sample.video).is_file() for sample in samples)


def test_the_splits_share_no_video_and_no_moment(demo_dir):
    rows = {split: samples_of(demo_dir, split) for split in SPLITS}
    videos = [{sample.video for sample in samples} for samples in rows.values()]
    assert sum(map(len, videos)) == len(set.union(*videos)) == 6
    contents = [(demo_dir / video).read_bytes() for names in videos for video in names]
    assert len(set(contents)) == 6


def test_the_same_settings_give_the_same_rows_and_another_seed_others(demo_dir, demo_config, tmp_path):
    again = ensure_demo(tmp_path / "again", demo_config)
    other = ensure_demo(tmp_path / "other", replace(demo_config, seed=demo_config.seed + 1, train_videos=1))
    for split in SPLITS:
        assert (again / f"{split}.jsonl").read_bytes() == (demo_dir / f"{split}.jsonl").read_bytes()
        assert (other / f"{split}.jsonl").read_bytes() != (demo_dir / f"{split}.jsonl").read_bytes()


def test_more_videos_leave_the_first_ones_as_they_are(demo_dir, demo_config, tmp_path):
    more = ensure_demo(tmp_path / "more", replace(demo_config, train_videos=demo_config.train_videos + 1))
    before, after = ((folder / "train.jsonl").read_text() for folder in (demo_dir, more))
    assert after.startswith(before) and len(after) > len(before)


def test_an_event_can_be_seen_in_the_decoded_frames_at_its_annotated_times_alone(demo_dir):
    by_video: dict[str, list[Sample]] = {}
    for sample in samples_of(demo_dir, "train") + samples_of(demo_dir, "test"):
        by_video.setdefault(sample.video, []).append(sample)
    for video, samples in by_video.items():
        clip = load_clip(VideoWindow(str(demo_dir / video), duration_s=samples[0].duration_s), EVERY_FRAME, factor=16)
        assert clip.frames.shape[2:] == (112, 112)
        colors = [color_of(sample) for sample in samples]
        for sample, color in zip(samples, colors, strict=True):
            ((start_s, end_s),) = sample.spans
            inside = (clip.timestamps_s >= start_s) & (clip.timestamps_s < end_s)
            distance = np.abs(clip.frames.astype(np.int16) - np.array(COLORS[color])[:, None, None]).max(1)
            seen = (distance < 70).sum((1, 2)) > 60  # pixels of about its colour, compression allowed for
            assert seen[inside].all(), sample
            if colors.count(color) == 1:
                assert not seen[~inside].any(), sample


def color_of(sample: Sample) -> str:
    """The colour a demo sentence asks for; it names another event too."""
    other, asked = (part.split() for part in sample.query.removeprefix("not the ").split(" but the "))
    assert other != asked and {other[1], asked[1]} <= set(SHAPES) and other[0] in COLORS
    return asked[0]


def test_a_data_set_that_is_there_is_not_made_again(demo_dir, demo_config):
    before = {path: path.stat().st_mtime_ns for path in demo_dir.rglob("*")}
    assert ensure_demo(demo_dir, demo_config) == demo_dir
    assert {path: path.stat().st_mtime_ns for path in demo_dir.rglob("*")} == before


def test_a_foreign_folder_is_refused_and_left_alone(demo_config, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "holiday.mp4").write_text("x")
    with pytest.raises(ConfigError, match=r"data\.video_dir = '.*mine': exists, but is not the demo data"):
        ensure_demo(folder, demo_config)
    assert [path.name for path in folder.iterdir()] == ["holiday.mp4"]


def test_the_demo_of_other_settings_is_refused(demo_dir, demo_config):
    with pytest.raises(ConfigError, match=r"remove it or choose another data\.video_dir"):
        ensure_demo(demo_dir, replace(demo_config, seed=99))


def test_nothing_half_made_stays_behind(demo_dir):
    assert {path.name for path in demo_dir.parent.iterdir()} == {"data"}
    recipe = json.loads((demo_dir / "recipe.json").read_text())
    assert recipe["train_videos"] == 3 and recipe["seed"] == 7


@pytest.mark.parametrize("seed", [4, 5, 13, 18, 20, 23, 25])
def test_a_video_is_the_same_file_whatever_memory_held_before(seed, tmp_path):
    world = make_world(np.random.default_rng(seed), duration_s=8.5, events=5, scenery=2)
    rng, files = np.random.default_rng(0), set()
    for attempt in range(6):
        dirt = [np.full(rng.integers(1_000, 300_000), rng.integers(256), np.uint8) for _ in range(50)]
        del dirt
        write_video(tmp_path / f"{attempt}.mp4", world, rate=Fraction(10), frames=85)
        files.add((tmp_path / f"{attempt}.mp4").read_bytes())
    assert len(files) == 1
