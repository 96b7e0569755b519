"""vtg.annotate with a checkpoint in its own process."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vtg.annotate.__main__ import main
from vtg.annotations.sample import Sample, read_samples
from vtg.demo.tiny_model import TINY_QWEN3_VL
from vtg.storage.file_stamp import file_stamp
from vtg.storage.json_files import read_jsonl


@pytest.mark.parametrize("show", ["sheets", "frames", "video"])
def test_a_checkpoint_annotates_a_video_without_a_server(show: str, write_mp4: Callable[..., str], tmp_path: Path):
    video, out = write_mp4(range(0, 1000, 100)), tmp_path / "out.jsonl"
    words = [video, "-o", str(out), "--checkpoint", "tiny", "--show", show, "--fps", "4", "--window-s", "0.6"]
    assert main(words) == 0
    samples = list(read_samples(out))
    assert samples and all(isinstance(one, Sample) for one in samples)
    rows = read_jsonl(out)
    weights = TINY_QWEN3_VL / "model.safetensors"
    assert rows[0]["annotated"]["model"] == "tiny"
    assert rows[0]["annotated"]["weights"] == [[weights.name, *file_stamp(str(weights))]]
    # Of both windows, whose times are those of the video.
    spans = np.concatenate([np.reshape(row["timestamp"], (-1, 2)) for row in rows])
    assert spans.min() < 0.5 < spans.max() <= rows[0]["duration"]
    # What is there already is not asked for again.
    (stage,) = (tmp_path / "out.stages").glob("*/segments.json")
    kept = json.loads(stage.read_text())
    kept["entries"][0]["text"] = "it glows"
    stage.write_text(json.dumps(kept))
    assert main(words) == 0
    assert "it glows" in {row["sentence"] for row in read_jsonl(out)}


def test_a_checkpoint_that_cannot_be_loaded_is_told_before_a_video_is_read(tmp_path: Path, capsys):
    (tmp_path / "broken.mp4").write_text("<html>404</html>")
    (tmp_path / "empty").mkdir()
    words = [str(tmp_path / "broken.mp4"), "-o", str(tmp_path / "out.jsonl"), "--checkpoint", str(tmp_path / "empty")]
    assert main(words) == 2
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.startswith("error: ")] == [said[-1]]
    assert "holds neither a model nor best/" in said[-1]
    assert not (tmp_path / "out.stages").exists()
