"""The examples of the documentation, taken out of their pages and run: extending.md's code, the tutorial's commands."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from vtg import validate
from vtg.annotations.formats import FORMATS
from vtg.annotations.sample import read_samples
from vtg.annotations.table_cache import read_table
from vtg.config.load import conf_dir
from vtg.config.rl_settings import RewardsConfig
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.errors import ConfigError
from vtg.evaluate import main as evaluate
from vtg.evaluation.metrics import PRESETS
from vtg.inspect.__main__ import main as inspect_command
from vtg.models.checkpoint import check_model_type
from vtg.models.families import FAMILIES, family_of
from vtg.tasks.answer import Answer, Status
from vtg.tasks.answer_forms import CODECS
from vtg.tasks.span_task import SpanTask
from vtg.training.rl.rewards import REWARDS, Completion
from vtg.training.rl.rewards.mixture import reward_terms

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def sections(page: str) -> dict[str, list[tuple[str, str]]]:
    """Heading → (language, code) of every block below it."""
    parts = re.split(r"^## (.*)$", (ROOT / "docs" / page).read_text(encoding="utf-8"), flags=re.M)
    return {name: FENCE.findall(text) for name, text in zip(["", *parts[1::2]], parts[::2], strict=True)}


def code(section: str, language: str) -> str:
    return "".join(text for kind, text in sections("extending.md")[section] if kind == language)


def ran(section: str) -> dict[str, Any]:
    """The names that the Python code of a section of extending.md defines."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(code(section, "python"), names)
    return names


@pytest.fixture(autouse=True)
def tables_as_before() -> Iterator[None]:
    """What an example adds to a table is taken out again."""
    tables: list[dict[str, Any]] = [REWARDS, PRESETS, CODECS, FORMATS, FAMILIES]
    before = [dict(table) for table in tables]
    yield
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)


def test_the_reward_of_the_docs_is_one():
    ran("A reward")
    terms: Any = OmegaConf.to_container(OmegaConf.create(code("A reward", "yaml")).rewards.terms)
    overlap, start = reward_terms(RewardsConfig(terms=terms))
    assert (start.name, start.weight, start.options) == ("start_error", 0.5, {"scale": 1.0})
    completion = Completion("", Answer(((2.5, 9.0),), Status.OK, ""), ((2.0, 9.0),), 30.0)
    assert start(completion) == 0.5 < overlap(completion)
    assert start(Completion("?", Answer((), Status.MALFORMED, "?"), ((2.0, 9.0),), 30.0)) == 0


def test_the_metric_preset_of_the_docs_is_one(tmp_path, capsys):
    ran("A metric preset")
    row = {
        "video": "a.mp4",
        "duration": 9.0,
        "timestamp": [0, 2],
        "sentence": "?",
        "prediction": [[0, 1]],
        "status": "ok",
    }
    rows = tmp_path / "predictions.jsonl"
    rows.write_text(json.dumps(row) + "\n", encoding="utf-8")
    assert evaluate([str(rows), "--preset", "strict"]) == 0
    assert "R1@0.5  R1@0.7  R1@0.9" in capsys.readouterr().out


def test_the_answer_form_of_the_docs_reads_what_it_writes():
    codec = ran("An answer form")["ClockCodec"]()
    assert SpanTask(TaskConfig(answer="clock")).pool == codec.templates != CODECS["seconds"].templates
    assert codec.encode([(65.0, 72.5)], 100.0) == "01:05.0 to 01:12.5"
    for start_s in (0.0, 0.04, 59.94, 59.96, 61.25, 3500.0):
        answer = codec.parse(codec.encode([(start_s, start_s + 30.5)], 3600.0), 3600.0)
        assert answer.status == Status.OK
        assert answer.spans[0] == pytest.approx((start_s, start_s + 30.5), abs=0.051)


def test_the_dataset_format_of_the_docs_is_read_where_it_lies(tmp_path, capsys):
    ran("A dataset format")
    published = tmp_path / "activitynet_train.json"
    entry = {"duration": 30.0, "timestamps": [[2.0, 7.5], [9.0, 40.0]], "sentences": ["A man sits.", "He stands."]}
    published.write_text(json.dumps({"v_1": entry}), encoding="utf-8")
    table, lost = read_table(str(published))
    (sample,) = table
    assert (sample.video, sample.spans, sample.query) == ("v_1.mp4", ((2.0, 7.5),), "A man sits.")
    assert [(entry.before, entry.problem.line, entry.problem.field) for entry in lost] == [(1, 2, "timestamp")]
    assert validate.main([str(published)]) == 1
    assert f"{published}:2: timestamp: ends at 40 s" in capsys.readouterr().out


def test_the_model_of_the_docs_composes(tmp_path):
    shutil.copytree(conf_dir(), tmp_path / "conf")
    (tmp_path / "conf" / "model" / "qwen3_vl_32b.yaml").write_text(code("A model of a supported family", "yaml"))
    with initialize_config_dir(str(tmp_path / "conf"), version_base="1.3"):
        config = compose("sft", overrides=["model=qwen3_vl_32b"])
    assert config.model.path == "Qwen/Qwen3-VL-32B-Instruct"
    assert config.model.keys() == OmegaConf.load(conf_dir() / "model" / "defaults.yaml").keys()


def test_the_python_example_asks_a_model_about_a_video(tmp_path, demo_dir, monkeypatch, capsys):
    (blocks,) = sections("python.md").values()
    (example,) = [text for language, text in blocks if language == "python"]
    shutil.copytree(ROOT / "vtg" / "demo" / "tiny_qwen3_vl", tmp_path / "outputs" / "sft_tiny_demo" / "best")
    shutil.copy(demo_dir / "videos" / "train_000.mp4", tmp_path / "a.mp4")
    monkeypatch.chdir(tmp_path)
    exec(example, {"__name__": "example"})
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 3 and [line.split(" (")[0] for line in printed[1:]] == ["a man sits down", "he stands up"]


def test_the_model_family_of_the_docs_is_told_the_times_that_its_frames_have(qwen3_vl, write_mp4, tmp_path):
    from transformers import Qwen3VLProcessor

    from vtg.batching.cost import sample_costs
    from vtg.doctor.times_read import read_clip

    class FineVLProcessor(Qwen3VLProcessor):
        def replace_video_token(self, video_inputs: dict, video_idx: int, **kwargs: Any) -> str:
            metadata = video_inputs["video_metadata"][video_idx]
            times_s = iter(self._calculate_timestamps(metadata.frames_indices, metadata.fps, 2))
            text = super().replace_video_token(video_inputs, video_idx, **kwargs)
            return re.sub(r"<[\d.]+ seconds>", lambda _: f"<{next(times_s):.2f} s>", text)

    tiny = qwen3_vl.processor
    processor = FineVLProcessor(
        tiny.image_processor, tiny.tokenizer, tiny.video_processor, chat_template=tiny.chat_template
    )
    with pytest.raises(ConfigError, match="a FineVLProcessor was loaded"):
        family_of(processor)
    family = ran("A model family")["FINE_VL"]
    assert family_of(processor) is family
    check_model_type("mine", "fine_vl")
    row = {
        "video": write_mp4([0, 370, 1010, 1480, 2090]),
        "duration": 2.5,
        "timestamp": [0.4, 1.2],
        "sentence": "it gets brighter",
    }
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    (sample,) = read_samples(str(tmp_path / "rows.jsonl"))
    video, task = VideoConfig(fps=0.0, min_frames=1, min_pixels=784, max_pixels=8192), SpanTask(TaskConfig())
    reading = read_clip(
        sample, row["video"], video=video, task=task, processor=processor, tokens_per_second=2.0, decodes=True
    )
    assert len(reading.read_s) == 3 and reading.is_right
    assert reading.resolution_s == 0.005
    (tokens,) = sample_costs([sample], None, task=task, processor=processor, video=video).tokens
    assert tokens >= reading.tokens


@pytest.mark.slow
def test_the_commands_about_videos_run_as_they_stand(tmp_path, demo_dir, monkeypatch):
    (tmp_path / "videos").mkdir()
    for copy in ("videos/one.mp4", "clip.mp4"):
        shutil.copy(demo_dir / "videos" / "train_000.mp4", tmp_path / copy)
    (row, *_) = map(json.loads, (demo_dir / "train.jsonl").read_text(encoding="utf-8").splitlines())
    for name in ("train.jsonl", "val.jsonl", "test.jsonl"):
        (tmp_path / name).write_text(json.dumps({**row, "video": "one.mp4"}) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    blocks = [text for blocks in sections("videos.md").values() for language, text in blocks if language == "sh"]
    commands = [shlex.split(line, comments=True) for line in "".join(blocks).splitlines() if " -m vtg." in line]
    assert len(commands) >= 5
    for _, _, module, *arguments in commands:
        main = {"vtg.validate": validate.main, "vtg.inspect": inspect_command}[module]
        assert main(arguments) == 0, arguments
    assert json.loads((tmp_path / "good.jsonl").read_text(encoding="utf-8"))["video"] == "one.mp4"
    assert (tmp_path / "sheet.png").is_file()


def followed(page: str, folder: Path, files: Sequence[str], *, may_fail: Callable[[str], bool], steps: str = "") -> str:
    """Writes the files of a page where it says and types its commands in order; what they printed to stdout.

    `steps`: in place of trainer.max_steps of its commands.
    """
    shutil.copytree(ROOT / "conf", folder / "conf")
    (folder / "vtg").symlink_to(ROOT / "vtg")
    for script in ("train_sft.py", "train_rl.py"):
        shutil.copy(ROOT / script, folder)
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run([sys.executable, "-m", "vtg.doctor"], cwd=folder, env=environment, check=True)
    written, said = iter(files), ""
    for language, text in (block for blocks in sections(page).values() for block in blocks):
        if language in ("python", "yaml"):
            (folder / next(written)).write_text(text, encoding="utf-8")
        for command in text.splitlines() if language == "sh" else ():
            command = re.sub(r"(?<=trainer\.max_steps=)\d+", steps, command) if steps else command
            done = subprocess.run(
                command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == may_fail(command), f"{command}\n{done.stdout}{done.stderr}"
            said += done.stdout
    return said


@pytest.mark.soak
def test_the_tutorial_can_be_followed_from_its_first_line_to_its_last(tmp_path):
    """Commands that find errors are meant to."""

    def finds_errors(command: str) -> bool:
        return "vtg.validate" in command and "test.jsonl --video-dir mine/videos --probe" not in command

    files = ("standin.py", "rows.py", "conf/data/shapes.yaml")
    said = followed("tutorial.md", tmp_path, files, may_fail=finds_errors)
    assert "wrote mine/train.good.jsonl" in said
    assert "nothing is wrong" in said
    assert (tmp_path / "exported" / "model.safetensors").is_file()


@pytest.mark.soak
def test_a_published_file_goes_through_a_recipe_to_a_page_beside_published_numbers(tmp_path):
    said = followed(
        "walkthrough.md", tmp_path, ["standin.py"], may_fail=lambda command: "--check published" in command, steps="2"
    )
    assert "128 rows read, 127 written, 1 dropped" in said and "639 rows to train on (published: 100,000" in said
    assert "1 of 128 questions could not be asked" in said and "moved by rules alone" in said
    for name, model, source in (
        ("charades_timelens", "TimeLens-8B, published at 2fps_14k", "README of TencentARC/TimeLens"),
        ("charades_sta", "Time-R1-7B, fine-tuned, published at 2fps_3584", "README of xiaomi-research/time-r1"),
    ):
        folder = tmp_path / "outputs" / "score" / "story" / name
        (own,) = json.loads((folder / "scores.json").read_text())["budgets"].values()
        assert own["questions"] + own["left_out"] == 128
        page = (folder / "report.html").read_text()
        assert f'<tr class="published"><th>  {model}</th>' in page and f"<td>{source}</td>" in page
        assert page.count("<td>measured</td>") == 1
