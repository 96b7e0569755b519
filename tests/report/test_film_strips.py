"""Film strips of real files: the right frame in each cell, a budget, what cannot be read, and playing in a browser."""

import base64
import io
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vtg.config.video_settings import VideoConfig
from vtg.report import write_report
from vtg.report.film_strips import CELL_HEIGHT, FilmStrips
from vtg.report.miss_reasons import why_wrong

# As `write_mp4` paints frame k.
FIRST_GREY, GREY_STEP = 20, 4

GREYS = GREY_STEP  # of one frame: what two lossy codecs add stays below


def config(folder: Path, **video: object) -> dict:
    return {"video": asdict(VideoConfig()) | video, "data": {"video_dir": str(folder)}}


def row(video: str, duration_s: float = 10.0, **more: object) -> dict:
    return {"video": video, "duration": duration_s, "timestamp": [2.0, 4.0], "prediction": [[5.0, 6.0]]} | more


def cell_greys(picture: str, cells: int) -> np.ndarray:
    """The mean grey of each cell of a strip."""
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2]))).convert("L"), float)
    assert pixels.shape[0] == CELL_HEIGHT
    return pixels.reshape(CELL_HEIGHT, cells, -1).mean(axis=(0, 2))


def test_every_cell_shows_the_seen_frame_nearest_to_it(tmp_path, write_mp4):
    path = Path(write_mp4(range(0, 10_000, 250)))  # 40 frames; two a second are seen
    strip = FilmStrips(config(path.parent), page_folder=tmp_path).of(row(path.name))
    assert strip is not None and strip.seen == 20 and len(strip.times_s) == 12
    middles_s = (np.arange(12) + 0.5) * 10 / 12
    assert np.abs(np.array(strip.times_s) - middles_s).max() <= 0.25 + 1e-6
    numbers = np.array(strip.times_s) / 0.25  # of the frames in the file
    greys = cell_greys(strip.picture, 12)
    assert np.abs(greys - (FIRST_GREY + GREY_STEP * numbers)).max() < GREYS


def test_a_trimmed_clip_is_shown_in_its_own_time_and_played_in_the_files(tmp_path, write_mp4):
    path = Path(write_mp4(range(0, 20_000, 500)))
    trim = {"video_start": 10.0, "video_end": 20.0}
    strip = FilmStrips(config(path.parent), page_folder=tmp_path / "runs" / "one").of(row(path.name, **trim))
    assert strip is not None and strip.offset_s == 10.0 and strip.times_s[0] < 1.0
    assert cell_greys(strip.picture, 12)[0] > FIRST_GREY + GREY_STEP * 19
    assert (tmp_path / "runs" / "one" / strip.video).resolve() == path.resolve()


def test_what_cannot_be_read_costs_its_strip_alone_and_is_named(tmp_path, write_mp4):
    path = Path(write_mp4(range(0, 10_000, 500)))
    (tmp_path / "text.mp4").write_text("no video")
    films = FilmStrips(config(path.parent), page_folder=tmp_path)
    for name in ("missing.mp4", str(tmp_path / "text.mp4"), "s3://bucket/far.mp4"):
        assert films.of(row(name)) is None
    assert films.of(row(path.name, duration_s=99.0)) is None  # a row and a file that do not belong together
    assert films.note.startswith("no film strip of 4 clips: ") and "missing.mp4 is not on this machine" in films.note
    assert FilmStrips({}, page_folder=tmp_path).of(row(path.name)) is None  # a run without settings


def test_strips_stop_at_the_budget(tmp_path, write_mp4):
    path = Path(write_mp4(range(0, 10_000, 500), seed=1))
    one = FilmStrips(config(path.parent), page_folder=tmp_path).of(row(path.name))
    assert one is not None
    films = FilmStrips(config(path.parent), page_folder=tmp_path, budget_bytes=2 * len(one.picture))
    assert [films.of(row(path.name)) is not None for _ in range(4)] == [True, True, False, False]
    assert films.note == "no film strip of 2 samples: the others fill this page"


def test_the_page_of_a_run_holds_strips_unless_they_are_switched_off(tmp_path, write_mp4):
    path = Path(write_mp4(range(0, 10_000, 500)))
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(json.dumps(config(path.parent)))
    (run / "predictions.jsonl").write_text(json.dumps(row(path.name, qid="a", sentence="it is grey")) + "\n")
    html = write_report(run).read_text(encoding="utf-8")
    assert html.count("data:image/webp;base64,") == 1 and 'data-video="' in html and "12 of 20 frames seen" in html
    assert "answer: another event: it starts 1.0 s after the moment" in html
    html = write_report(run, frames=False).read_text(encoding="utf-8")
    assert "data:image" not in html and "film strip" not in html


@pytest.mark.parametrize(
    ("truth", "prediction", "status", "reason"),
    [
        ([2.0, 4.0], [[2.0, 4.0]], "ok", ""),
        ([2.0, 4.0], [[0.0, 1.0]], "ok", "another event: it ends 1.0 s before the moment"),
        ([2.0, 4.0], [[4.5, 5.0]], "ok", "another event: it starts 0.5 s after the moment"),
        ([2.0, 4.0], [[1.0, 7.0]], "ok", "too long: 3.0 times the moment"),
        ([2.0, 6.0], [[3.0, 4.0]], "ok", "too short: 0.2 times the moment"),
        ([2.0, 4.0], [[3.0, 5.0]], "ok", "shifted by +1.0 s"),
        ([2.0, 4.0], [[3.0, 2.0]], "reversed", "the end lies before the start"),
        ([2.0, 4.0], [[30.0, 31.0]], "out_of_range", "leaves the clip"),
        ([2.0, 4.0], [], "malformed", "no times could be read"),
        ([2.0, 4.0], [], "none", "says that there is no such moment"),
        ([], [[1.0, 2.0]], "ok", "names a moment, and there is none"),
        ([], [], "none", ""),
        ([[1.0, 2.0], [5.0, 6.0]], [[1.0, 2.0]], "ok", "names 1 moment, and there are 2"),
        ([2.0, 4.0], [[2.0, float("nan")]], "ok", "no moment was named"),
        ([2.0, 4.0], [[2.0, 9.0]], "unheard of", "too long: 3.5 times the moment"),
    ],
)
def test_why_an_answer_is_wrong_is_said_in_one_sentence(truth, prediction, status, reason):
    found = why_wrong({"duration": 10.0, "timestamp": truth, "prediction": prediction, "status": status})
    assert found == reason
