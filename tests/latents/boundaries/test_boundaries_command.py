"""`python -m vtg.latents boundaries`: videos whose events are known exactly, by the tower of the tiny model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vtg.annotations.sample import Sample, read_samples
from vtg.config.clip_settings import ClipsConfig
from vtg.config.encoder_settings import EncoderConfig
from vtg.config.latent_settings import PredictorConfig
from vtg.config.latents_schema import FutureConfig
from vtg.demo.gym_dataset import write_variable_rate
from vtg.demo.world import Event, World
from vtg.latents.__main__ import main
from vtg.latents.boundaries.peaks import BoundaryCounts
from vtg.latents.boundaries.surprise import Surprise, SurpriseReader, reach
from vtg.latents.clip_reading import ClipReader
from vtg.latents.latent_run import LatentSettings
from vtg.latents.predictors import make_predictor
from vtg.video.video_window import VideoWindow

CLIPS = ClipsConfig(n_frames=24, seconds=3.0)
WORLD = World(
    9.0,
    (
        Event("red", "circle", 1.5, 4.0, 0.25, 0.25, 0.2),
        Event("blue", "cross", 2.6, 6.0, 0.75, 0.75, 0.2),
        Event("yellow", "square", 7.1, 9.0, 0.25, 0.75, 0.2),
    ),
    seed=3,
)
ENDS_S = [1.5, 2.6, 4.0, 6.0, 7.1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """events.mp4, and rows that ask for two of its three events. Shared: leave it as it is."""
    folder = tmp_path_factory.mktemp("events")
    rng = np.random.default_rng(0)
    times_ms = np.cumsum([0, *rng.integers(60, 120, 98)])
    write_variable_rate(folder / "events.mp4", WORLD, times_ms=times_ms[times_ms < 8950])
    rows = [
        {"video": "events.mp4", "duration": 9.0, "timestamp": [event.start_s, event.end_s], "sentence": event.color}
        for event in WORLD.events[1:]
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, qwen_tower) -> Path:
    """A predictor as it is before training, when it says that nothing will change."""
    folder = tmp_path_factory.mktemp("run") / "best"
    folder.mkdir()
    predictor = PredictorConfig(width=16, depth=1, heads=2)
    torch.manual_seed(0)
    state = make_predictor(predictor, dim=qwen_tower.dim).state_dict()
    save_file({f"predictor.{name}": value for name, value in state.items()}, folder / "model.safetensors")
    LatentSettings(EncoderConfig(), CLIPS, predictor, FutureConfig(context_s=2.0), qwen_tower.identity).write(folder)
    return folder.parent


def boundaries_of(capsys: pytest.CaptureFixture[str], *words: str) -> list[float]:
    assert main(["boundaries", *words, "--json"]) == 0
    (video,) = json.loads(capsys.readouterr().out)["videos"]
    return [one["time_s"] for one in video["boundaries"]]


def test_boundaries_are_where_shapes_appear_and_vanish(folder, run, tmp_path, capsys):
    out = tmp_path / "spans.jsonl"
    found = boundaries_of(capsys, str(folder / "events.mp4"), "-o", str(out))
    assert BoundaryCounts.of(found, ENDS_S, tolerance_s=0.3) == BoundaryCounts(5, 5, 5)
    samples = list(read_samples(out))
    assert all(isinstance(sample, Sample) for sample in samples)
    spans = [row["timestamp"] for row in map(json.loads, out.read_text().splitlines())]
    assert [start_s for start_s, _ in spans] == pytest.approx([0.0, *found], abs=1e-3)
    assert [end_s for _, end_s in spans] == pytest.approx([*found, 9.0], abs=1e-3)
    # A predictor that says that nothing changes is as wrong as the change is large.
    assert boundaries_of(capsys, str(folder / "events.mp4"), "--run", str(run), "-o", str(out)) == found


def test_rows_give_each_video_once_and_their_ends_are_looked_for(folder, capsys):
    assert main(["boundaries", str(folder / "rows.jsonl"), "--video-dir", str(folder)]) == 0
    video, recall = capsys.readouterr().out.splitlines()
    assert video.startswith("events: 5 boundaries in 9.0 s: ")
    # 2.6, 6.0 and 7.1; the end of the last event is the clip's. Cuts at 1.5, 3, 4.5, 6 and 7.5 s find the last three.
    assert recall == "100% of 3 annotated ends have a boundary within 0.5 s; 100% with as many uniform cuts"


def test_a_row_of_a_part_has_boundaries_in_seconds_of_that_part(folder, tmp_path, capsys):
    row = {"video": str(folder / "events.mp4"), "video_start": 3.0, "video_end": 7.0, "duration": 4.0}
    rows = tmp_path / "part.jsonl"
    rows.write_text(json.dumps({**row, "timestamp": [0.0, 1.0], "sentence": "red"}) + "\n")
    found = boundaries_of(capsys, str(rows))
    assert BoundaryCounts.of(found, [1.0, 3.0], tolerance_s=0.3) == BoundaryCounts(2, 2, 2)


def test_a_video_that_cannot_be_read_costs_only_itself(folder, tmp_path, capsys):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    out = tmp_path / "spans.jsonl"
    assert main(["boundaries", str(tmp_path / "broken.mp4"), str(folder / "events.mp4"), "-o", str(out)]) == 1
    printed = capsys.readouterr()
    assert f"left out: {tmp_path}/broken.mp4: " in printed.err
    assert "events: 5 boundaries" in printed.out and len(out.read_text().splitlines()) == 6


def test_a_video_has_the_same_errors_in_blocks_of_any_size(tmp_path, qwen_tower, monkeypatch):
    # On the grid of the clips, so that frames at the ends of blocks are the nearest to the same steps.
    write_variable_rate(tmp_path / "steady.mp4", WORLD, times_ms=np.arange(0, 9000, 125))
    reader = ClipReader(CLIPS, frame_size_px=qwen_tower.frame_size_px)

    def surprise() -> Surprise:
        return SurpriseReader(qwen_tower, reader, context_s=2.0).read(VideoWindow(str(tmp_path / "steady.mp4")))

    whole = surprise()
    assert whole.times_s == pytest.approx(np.arange(0.25, 9, 0.25), abs=1e-6)
    monkeypatch.setattr("vtg.latents.boundaries.surprise.BLOCK_FRAMES", 26)
    parted = surprise()
    assert parted.times_s == pytest.approx(whole.times_s)
    assert parted.errors == pytest.approx(whole.errors, rel=1e-4)


def test_contexts_are_whole_latents_before_what_is_predicted():
    times_s = np.arange(12) * 0.5
    reached = {"context_s": 2.0, "target_s": 1.0, "unit": 2, "slack_s": 0.25}
    assert reach(times_s, 6, **reached) == (2, 8)
    assert reach(times_s, 2, **reached) == (0, 4)
    assert reach(times_s, 10, **reached) == (6, 12)
    # After a gap there is at least one latent, however old.
    assert reach(np.array([0.0, 0.5, 9.0, 9.5]), 2, **reached) == (0, 4)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--threshold", "-1", "a.mp4"], "--threshold -1.0: must be at least 0"),
        (["gone.mp4"], "gone.mp4: no video, no folder of videos and no file of rows; check the path"),
        (["gone.jsonl"], "gone.jsonl: No such file or directory; check the path"),
        (["clips.seconds=3"], "of what? Give a video, a folder of videos, or a file of annotation rows"),
        (["a.mp4", "--run", "r", "clips.seconds=3"], "clips.seconds=3: a run has settings of its own; leave it out"),
        (["a.mp4", "predictor=flow"], "predictor=flow: no setting of this command, which reads encoder, clips, future"),
        (["a.mp4", "clips.start=middle"], "clips.start=middle: no setting of this command"),
        (["a.mp4", "-o", "spans.csv"], "-o spans.csv: the name must end in .jsonl"),
        (["{rows}", "-o", "{rows}"], "is there and holds no spans of this command; name another file"),
        (["{video}", "--run", "gone"], "gone"),
        (["{video}", "clips.n_frames=0"], "clips.n_frames = 0: must be at least 1"),
        (["{video}", "encoder.frame_size=7"], "encoder.frame_size = 7: a vision token of tiny is 32 pixels a side"),
        (["{video}", "future.context_s=3"], "future.context_s = 3.0"),
    ],
)
def test_wrong_usage_is_one_line_before_anything_is_read(folder, capsys, words, told):
    named = {"rows": str(folder / "rows.jsonl"), "video": str(folder / "events.mp4")}
    assert main(["boundaries", *(word.format(**named) for word in words)]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and told in line


def test_a_name_that_is_no_command_is_told_which_there_are(capsys):
    assert main(["boundary"]) == 2
    assert "error: boundary: must be boundaries" in capsys.readouterr().err
