"""`vtg.score`: a checkpoint asked at several budgets, resumed, and laid beside published numbers."""

import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from vtg import score
from vtg.annotations.sample import Sample
from vtg.annotations.target import Spans
from vtg.config.budgets import read_budgets, room_for, video_at
from vtg.config.derived import token_cost_of
from vtg.config.load import load_config
from vtg.config.model_settings import ModelConfig
from vtg.config.score_settings import BenchmarkConfig, BudgetConfig, ScoreConfig
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.data.skip_report import Skipped, TooManyBadRows
from vtg.entry import conf_dir
from vtg.errors import ConfigError, RunError
from vtg.evaluation.presets.table import PUBLISHED
from vtg.models.checkpoint import Settings
from vtg.report.__main__ import main as report
from vtg.report.benchmark_scores import COLUMNS, score_rows
from vtg.scoring.answer_processes import Batch, Round, _check_alive, _parts
from vtg.scoring.questions import Questions

Run = Callable[..., tuple[int, str, str]]

TINY_BUDGET = """
fps: 1.0
min_frames: 4
max_frames: 8
min_frame_tokens: 4
max_frame_tokens: 4
total_tokens: 16
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process; `--config-dir` holds a budget `tiny`."""
    (tmp_path / "own" / "budget").mkdir(parents=True)
    (tmp_path / "own" / "budget" / "tiny.yaml").write_text(TINY_BUDGET)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vtg.score", "--config-dir", str(tmp_path / "own"), *words])
        code = 0
        try:
            score.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def benchmark_configs() -> list[str]:
    return sorted(path.stem for path in (conf_dir() / "benchmark").glob("*.yaml"))


@pytest.mark.parametrize("name", benchmark_configs())
def test_a_shipped_benchmark_composes_with_a_known_preset_budgets_that_exist_and_numbers_at_them(name, tmp_path):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        words = [f"benchmark={name}", f"benchmark.root={tmp_path}", f"benchmark.video_dir={tmp_path}"]
        composed = compose("score", overrides=words)
    file = str(composed.benchmark.annotation_file or "").rpartition(":")[2]
    (Path(file) if file else tmp_path / "rows.jsonl").touch()
    if composed.benchmark.annotation_file is None:
        composed.benchmark.annotation_file = str(tmp_path / "rows.jsonl")
    benchmark = load_config(composed, ScoreConfig).benchmark
    budgets = read_budgets(benchmark.budgets)
    assert benchmark.preset in {"default", *PUBLISHED}
    assert {row["budget"] for row in benchmark.published if "budget" in row} <= budgets.keys()
    for row in benchmark.published:
        numbers = {key: value for key, value in row.items() if key not in ("model", "budget", "source")}
        assert row["model"] and row["source"] and numbers.keys() <= set(COLUMNS)
        assert all(0 < number < 100 for number in numbers.values())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["benchmark=charade"], "benchmark=charade: there is no such choice; did you mean benchmark=charades_sta?"),
        (
            ["budgets=[2fps_14]"],
            "budgets = [2fps_14]: there is no budget 2fps_14; did you mean 2fps_14k? budgets: own, 1fps_128k, "
            "2fps_128k, 2fps_14k, 2fps_3584, 4fps_128k, tiny; your own: FOLDER/budget/NAME.yaml with --config-dir",
        ),
        (["budgets=[own,own]"], "budgets = [own, own]: own is there twice; name each budget once"),
        (["budgets=own"], "budgets = own: must be a list; set budgets=[own]"),
        (["budgets=[]"], "budgets = []: names none; give some of own, "),
        (
            ["benchmark=charades_timelens"],
            "benchmark.annotation_file = 'timelens_bench:data/TimeLens-Bench/charades-timelens.json': no such file",
        ),
        (["benchmark=charades_timelens"], "put it there (hf download TencentARC/TimeLens-Bench --repo-type dataset "),
        (["benchmark=tvgbench"], "benchmark.root is not set; give the folder of TVGBench: benchmark.root=FOLDER (http"),
        (["benchmark=default"], "benchmark.annotation_file is not set; choose a published set, benchmark=NAME (--help"),
        (["budgets=[tiny]", "settings.video.fps=4"], "settings.video.fps = 4.0: a budget sets it; leave it out, or "),
        (["processes=-1"], "processes = -1: must be at least 0"),
    ],
)
def test_what_cannot_be_scored_is_told_in_one_line(run, words, said):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and said in err


def test_rows_that_are_no_file_and_folders_that_take_none_are_named(run, tmp_path, bound_by_rights):
    (tmp_path / "rows.jsonl").touch(mode=0)
    (tmp_path / "shut").mkdir(mode=0o555)
    rows = "benchmark.annotation_file = "
    for words, message in (
        (
            ["benchmark.annotation_file=rows.jsonl"],
            f"{rows}'rows.jsonl': cannot be read (Permission denied); check its",
        ),
        (["benchmark.annotation_file=own"], f"{rows}'own': is a folder; name a file in it"),
        (
            ["checkpoint=tiny", "output_dir=shut"],
            "output_dir = shut: cannot be written to (Permission denied); choose ",
        ),
    ):
        code, out, err = run(*words)
        assert (code, out) == (2, "") and err.startswith(f"error: {message}") and err.count("\n") == 1, err


def test_a_budget_in_tokens_becomes_the_pixels_that_its_paper_names():
    timelens = read_budgets(["2fps_14k"])["2fps_14k"]
    assert timelens is not None
    cost = token_cost_of(ModelConfig(patch_factor=32))
    video = video_at(timelens, VideoConfig(sampling="random", decoder="pyav"), cost)
    # min_tokens x 32 x 32; and total_pixels of qwen-vl-utils, which counts a pair of frames once, twice over.
    assert (video.fps, video.min_pixels, video.total_pixels) == (2.0, 64 * 32 * 32, 2 * 14336 * 32 * 32)
    assert (video.sampling, video.decoder) == ("fps", "pyav")
    assert video_at(timelens, VideoConfig(), replace(cost, factor=28)).min_pixels == 64 * 28 * 28
    long = video_at(BudgetConfig(max_frames=2048, total_tokens=128000), VideoConfig(), cost)
    assert room_for(long, ModelConfig(max_length=32768), cost).max_length > 128000
    assert room_for(VideoConfig(), ModelConfig(max_length=65536), cost).max_length == 65536


def test_a_budget_file_that_contradicts_itself_is_named(tmp_path):
    (tmp_path / "budget").mkdir()
    file = tmp_path / "budget" / "odd.yaml"
    file.write_text("min_frames: 9\nmax_frames: 8\n")
    with pytest.raises(ConfigError, match=r"odd.yaml: min_frames = 9, max_frames = 8: must be 1 <= min_frames <= max"):
        read_budgets(["odd"], [tmp_path])
    file.write_text("fsp: 3\n")
    with pytest.raises(ConfigError, match=r"odd.yaml: fsp: there is no such key; did you mean fps\?"):
        read_budgets(["odd"], [tmp_path])


def samples(*videos: str) -> dict[int, Sample]:
    return {
        at: Sample(video=video, duration_s=9.0, target=Spans(((1.0, 2.0),)), query="it happens", qid=f"q{at}")
        for at, video in enumerate(videos)
    }


def test_processes_share_the_questions_evenly_and_those_about_a_video_stay_together():
    settings = Settings(ModelConfig(), VideoConfig(), TaskConfig())
    parts = _parts([Round("own", settings, samples(*"aaabbbccd"))], 2)
    asked = [part[0].samples for part in parts]
    assert sorted(at for share in asked for at in share) == list(range(9))
    assert not {one.video for one in asked[0].values()} & {one.video for one in asked[1].values()}
    assert sorted(map(len, asked)) == [4, 5]


@pytest.fixture
def questions(tmp_path: Path) -> Callable[..., Questions]:
    """Four questions about two videos, on one line of a published file as TimeLens-Bench has them."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.mp4").touch()
    spans = {"duration": 9.0, "spans": [[1, 2], [3, 4]], "queries": ["it starts", "it ends"]}
    rows = tmp_path / "bench.json"
    rows.write_text(json.dumps({"a": spans, "b": spans}))

    def make(**options: object) -> Questions:
        benchmark = BenchmarkConfig(
            annotation_file=f"timelens_bench:{rows}", video_dir=str(tmp_path), preset="timelens", **options
        )
        settings = Settings(ModelConfig(), VideoConfig(), TaskConfig())
        return Questions("own", settings, benchmark, folder=tmp_path / "out", rows_file=str(rows))

    return make


def answer(asked: Questions, at: int, text: str = "1 - 2") -> dict[int, dict]:
    return {at: {**asked.samples[at].row(), "prediction": [[1.0, 2.0]], "text": text, "status": "ok"}}


def test_answers_survive_an_interruption_and_those_of_other_settings_are_not_mixed_in(questions):
    first = questions()
    first.keep(Batch("own", answer(first, 0) | answer(first, 2), {}))
    again = questions()
    assert (again.answered, list(again.round().samples)) == (2, [1, 3])
    assert questions(max_new_tokens=5).answered == 0


def test_questions_that_cannot_be_asked_are_counted_told_and_end_the_run_beyond_a_share(questions):
    asked = questions(max_bad_share=0.3)
    first, second = (Skipped(one.place, "no video", one.qid, one.video) for one in (asked.samples[0], asked.samples[1]))
    asked.keep(Batch("own", answer(asked, 2) | answer(asked, 3, "7 - 8"), {0: first}))
    assert list(asked.round().samples) == [1]
    scored = asked.scores(reads_text=True)
    assert (scored["questions"], scored["left_out"], scored["scores"]["R1@0.5"]) == (2, 1, 50.0)
    with pytest.raises(TooManyBadRows, match=r"2 of 4 rows cannot be used, more than benchmark.max_bad_share = 0.3"):
        asked.keep(Batch("own", {}, {1: second}))


def test_the_table_has_a_row_for_each_budget_and_below_it_what_others_have_published_there():
    scored = {
        "scores": {"R1@0.5": 40.0, "mIoU": 31.25},
        "questions": 12,
        "left_out": 0,
        "statistics": {"intervals": {"mIoU": [30.0, 32.5]}},
    }
    published = [
        {"model": "A", "budget": "own", "mIoU": 50.0, "source": "its paper"},
        {"model": "B", "budget": "4fps_128k", "R1@0.5": 60.0},
        {"model": "C", "mIoU": 10.0, "source": "a table"},
    ]
    heads, rows = score_rows({"budgets": {"own": scored}, "published": published})
    assert heads == ["budget", "questions", "R1@0.5", "mIoU", "source"]
    assert rows == [
        ["own", "12", "40.0", "31.2 [30.0, 32.5]", "measured"],
        ["  A, published at own", "", "-", "50.0", "its paper"],
        ["  B, published at 4fps_128k", "", "60.0", "-", "not said"],
        ["  C, published", "", "-", "10.0", "a table"],
    ]


def test_a_checkpoint_is_scored_at_several_budgets_and_an_interrupted_one_asks_what_is_left(
    run, tmp_path, demo_dir, capsys
):
    rows = (demo_dir / "test.jsonl").read_text().splitlines()[:6]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows) + "\n")
    words = ["benchmark=default", f"benchmark.annotation_file={tmp_path}/rows.jsonl", f"benchmark.video_dir={demo_dir}"]
    words += ["output_dir=out", "num_workers=0", "benchmark.published=[{model: X, budget: tiny, mIoU: 12.5}]"]
    assert run(*words)[0] == 0
    answers = tmp_path / "out" / "own" / "answers.jsonl"
    header, *batches = answers.read_text().splitlines()
    answers.write_text("\n".join([header, batches[0][: len(batches[0]) // 2]]))  # killed while writing
    code, out, err = run(*words, "budgets=[own,tiny]", "json=true")
    assert code == 0, err
    document = json.loads(out)
    assert document == json.loads((tmp_path / "out" / "scores.json").read_text())
    own, tiny = document["budgets"]["own"], document["budgets"]["tiny"]
    assert (own["questions"], tiny["questions"], own["left_out"]) == (6, 6, 0)
    assert (own["input"]["fps"], tiny["input"]["fps"], tiny["input"]["max_frames"]) == (2.0, 1.0, 8)
    assert json.loads((tmp_path / "out" / "tiny" / "input.json").read_text()) == tiny["input"]
    low, high = own["statistics"]["intervals"]["mIoU"]
    assert low <= own["scores"]["mIoU"] <= high
    # Nothing is asked a third time, and the page shows what the terminal does.
    before = answers.read_text()
    code, out, err = run(*words, "budgets=[own,tiny]")
    assert code == 0 and "attention" not in err  # no model was loaded
    assert "X, published at tiny" in out and answers.read_text() == before
    assert report([str(tmp_path / "out")]) == 0
    assert "X, published at tiny" in (tmp_path / "out" / "report.html").read_text()


def test_rows_of_other_tasks_are_scored_by_their_own_metrics_and_no_published_preset_takes_them(
    run, tmp_path, demo_dir
):
    of_videos = {row["video"]: row for row in map(json.loads, (demo_dir / "test.jsonl").read_text().splitlines())}
    rows = list(of_videos.values())[:2]  # of one video alone there is no interval
    asked = [{"video": row["video"], "duration": row["duration"], "question": "How?", "answer": "so"} for row in rows]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (*rows, *asked)))
    words = ["benchmark=default", f"benchmark.annotation_file={tmp_path}/rows.jsonl", f"benchmark.video_dir={demo_dir}"]
    words += ["output_dir=out", "num_workers=0"]
    code, out, err = run(*words, "benchmark.preset=timelens")
    assert (code, out) == (2, "")
    assert "benchmark.preset = 'timelens': scores spans, and " in err
    assert "rows.jsonl:3 asks for another task (qa); set benchmark.preset=default" in err
    code, out, err = run(*words)
    assert code == 0, err
    own = json.loads((tmp_path / "out" / "scores.json").read_text())["budgets"]["own"]
    scores, told = own["scores"], own["input"]["max_new_tokens"]
    assert (own["questions"], told, scores["score"]) == (4, 64, (scores["mIoU"] + scores["qa/score"]) / 2)
    assert own["statistics"]["intervals"].keys() >= {"mIoU", "qa/token_F1"}
    assert "qa/token_F1" in out and "qa/token_F1" in (tmp_path / "out" / "report.html").read_text()


def test_a_process_that_dies_without_a_word_ends_the_run_with_advice():
    context = multiprocessing.get_context("spawn")
    queue, worker = context.Queue(), context.Process(target=os._exit, args=(9,))
    worker.start()
    worker.join()
    with pytest.raises(RunError, match=r"ended with exit code 9 .* lower batch_size or num_workers, and start again"):
        _check_alive([worker], queue)
    queue.put(None)
    queue._reader.poll(5)  # until the other end has it
    _check_alive([worker], queue)  # what it sent before its end is read first


@pytest.mark.slow
def test_two_processes_answer_as_one_does(run, tmp_path, demo_dir):
    words = ["benchmark=default", f"benchmark.annotation_file={demo_dir}/test.jsonl", f"benchmark.video_dir={demo_dir}"]
    words += ["num_workers=0", "benchmark.max_samples=6", "batch_size=1", "json=true"]
    texts = []
    for processes in (1, 2):
        code, _, err = run(*words, f"processes={processes}", f"output_dir=out{processes}")
        assert code == 0, err
        rows = (tmp_path / f"out{processes}" / "own" / "predictions.jsonl").read_text().splitlines()
        texts.append([(row["qid"], row["text"]) for row in map(json.loads, rows)])
    assert texts[0] == texts[1] and len(texts[0]) == 6
