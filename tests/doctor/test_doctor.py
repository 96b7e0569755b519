import json
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from vtg.annotations.sample import Sample
from vtg.annotations.target import Spans
from vtg.config.model_settings import LoraConfig, ModelConfig, PartsConfig
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.demo.tiny_model import TINY_QWEN3_VL, build_qwen2_5_vl
from vtg.doctor import __main__ as doctor
from vtg.doctor.ceiling import ceilings, snap
from vtg.doctor.times_read import read_clip
from vtg.memory.parameters import count, empty_model
from vtg.models.adapting import prepare_training
from vtg.models.loading import load_model
from vtg.tasks.span_task import SpanTask

VFR_MS = np.cumsum([0, *np.random.default_rng(0).integers(17, 90, 150).tolist()]).tolist()

Run = Callable[..., tuple[int, str, str]]


def write_video(path: Path, times_ms: Sequence[int]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000)
        stream.height = stream.width = 64
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, 1000)
        for at, time_ms in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), at % 200, np.uint8), format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_video(tmp_path / "vfr.mp4", VFR_MS)
    write_video(tmp_path / "long.mp4", range(0, 12_000, 40))
    return tmp_path


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(rows: list[dict], *words: str) -> tuple[int, str, str]:
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        data = ("data=jsonl", f"data.annotation_file={folder / 'rows.jsonl'}", f"data.video_dir={folder}")
        monkeypatch.setattr(sys, "argv", ["vtg.doctor", *data, *words])
        with pytest.raises(SystemExit) as stop:
            doctor.main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return run


def vfr_row(**more: object) -> dict:
    duration_s = (VFR_MS[-1] + 50) / 1000
    return {"video": "vfr.mp4", "duration": duration_s, "timestamp": [1.0, 3.5], "sentence": "red", "qid": "v"} | more


def long_row(**more: object) -> dict:
    row = {"video": "long.mp4", "duration": 6.0, "timestamp": [1.0, 3.5], "sentence": "red", "qid": "l"}
    return row | {"video_start": 3.3, "video_end": 9.3} | more


def sample(row: dict) -> Sample:
    return Sample(
        video=row["video"],
        duration_s=row["duration"],
        target=Spans((tuple(row["timestamp"]),)),
        query=row["sentence"],
        qid=row["qid"],
        video_start_s=row.get("video_start"),
        video_end_s=row.get("video_end"),
    )


def test_times_are_read_within_the_resolution_on_variable_rate_and_trimmed_clips(run: Run) -> None:
    code, out, err = run([vfr_row(), long_row()], "json=true")
    document = json.loads(out)
    assert code == 0, (document["findings"], err)
    assert [Path(clip["path"]).name for clip in document["clips"]] == ["vfr.mp4", "long.mp4"]
    for clip in document["clips"]:
        assert clip["resolution_s"] == 0.05
        assert np.abs(np.subtract(clip["read_s"], clip["true_s"])).max() <= 0.051
        assert len(clip["read_s"]) == -(-clip["frames"] // 2)
    vfr, trimmed = document["clips"]
    assert set(vfr["frame_times_s"]) <= {round(time_ms / 1000, 6) for time_ms in VFR_MS}
    assert (trimmed["start_s"], trimmed["end_s"]) == (3.3, 9.3)
    assert trimmed["true_s"][0] == pytest.approx((0.02 + 0.5) / 2, abs=0.021)
    assert document["tokens"]["tokens"]["max"] == max(clip["tokens"] for clip in document["clips"])
    assert document["memory"]["weights_bytes"] > 0
    assert document["ceiling"]["both"]["samples"] == 2


@pytest.mark.parametrize("name", ["qwen3_vl", "qwen2_5_vl"])
def test_black_frames_stand_in_for_the_pictures_with_the_same_times_and_tokens(folder: Path, name: str) -> None:
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(TINY_QWEN3_VL)
    if name == "qwen2_5_vl":
        processor = build_qwen2_5_vl(processor.tokenizer)[1]
    video = VideoConfig(min_pixels=4096, max_pixels=16384)
    for row in (vfr_row(), long_row()):
        seen, blind = (
            read_clip(
                sample(row),
                str(folder / row["video"]),
                video=video,
                task=SpanTask(TaskConfig()),
                processor=processor,
                tokens_per_second=2.0,
                decodes=decodes,
            )
            for decodes in (True, False)
        )
        assert (seen.tokens, seen.vision_tokens) == (blind.tokens, blind.vision_tokens)
        assert (seen.read_s == blind.read_s).all()
        assert seen.is_right
        assert seen.max_error_s <= (0.051 if name == "qwen3_vl" else 0.251)


def test_the_ceiling_is_100_on_the_grid_and_less_between_coarse_steps() -> None:
    fine, coarse = SpanTask(TaskConfig(decimals=1)), SpanTask(TaskConfig(answer="bins", num_bins=4))
    rows = [sample(long_row(timestamp=[1.0, 3.5])), sample(long_row(timestamp=[0.5, 6.0]))]
    times_s = np.arange(0, 6, 0.5)
    exact = ceilings(rows, task=fine, frame_times_s=dict.fromkeys(range(2), times_s))
    assert [exact[name]["mIoU"] for name in ("answer", "frames", "both")] == [100.0, 100.0, 100.0]
    rough = ceilings(rows, task=coarse, frame_times_s={0: times_s[::4]})
    assert rough["answer"]["mIoU"] < 100
    assert rough["frames"]["mIoU"] < 100
    assert (rough["answer"]["samples"], rough["frames"]["samples"]) == (2, 1)
    assert ceilings(rows, task=fine, frame_times_s={}).keys() == {"answer"}


@pytest.mark.parametrize(
    ("span", "best"),
    [((1.0, 2.0), (1.0, 2.0)), ((1.1, 1.2), (1.0, 2.0)), ((0.4, 2.6), (0.0, 3.0)), ((1.9, 2.9), (2.0, 3.0))],
)
def test_snapping_takes_the_best_pair_of_times(span: tuple[float, float], best: tuple[float, float]) -> None:
    assert snap(span, np.arange(4.0)) == best


def test_memory_is_counted_on_the_model_that_training_builds() -> None:
    config, lora = ModelConfig(max_length=4096), LoraConfig(r=4)
    found = count(empty_model("tiny", torch.float32), PartsConfig(), lora)
    model = prepare_training(load_model(config)[0], PartsConfig(), lora)
    trained = [one for one in model.parameters() if one.requires_grad]
    assert found.parameters == sum(one.numel() for one in model.parameters())
    assert found.trained_parameters == sum(one.numel() for one in trained)
    assert (found.weights_bytes, found.trained_bytes) == (4 * found.parameters, 4 * found.trained_parameters)
    assert (found.rank, found.trained_parts) == (4, {"language"})


def test_memory_is_that_of_the_batches_that_the_settings_make(run: Run) -> None:
    def batch(*words: str) -> dict:
        _, out, err = run([vfr_row(), long_row()], "json=true", *words)
        assert out, err
        return json.loads(out)["memory"]["batch"]

    fixed, by_tokens = batch("batching=fixed"), batch("batching=tokens", "batching.target_batch_tokens=600")
    assert fixed["rows"] == 16
    assert by_tokens["rows"] == 600 // by_tokens["length"]


def test_memory_alone_needs_no_data_and_no_hub(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["vtg.doctor", "look=memory", "experiment=gpu_8gb", "gpu_gb=[8]"])
    doctor.main()
    out = capsys.readouterr().out
    assert "model Qwen/Qwen3.5-0.8B; the largest batch that the settings allow" in out
    assert "  training             6.48 GB" in out
    assert "    8 GB  LoRA       6.5     0  model=qwen3_5_0_8b video.max_frames=256 video.total_pixels=16777216" in out


def test_memory_says_what_automatic_checkpointing_comes_to_on_each_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["look=memory", "model=qwen3_vl_4b", "trainer.gradient_checkpointing=auto", "gpu_gb=[16,24,4000]"]
    monkeypatch.setattr(sys, "argv", ["vtg.doctor", *words])
    doctor.main()
    out = capsys.readouterr().out
    assert "with gradient checkpointing; " in out
    said = out.split("  trainer.gradient_checkpointing=auto, estimated above as full, comes to\n")[1]
    assert said.startswith("    full on a GPU of 16, 24 GB\n    none on a GPU of 4000 GB\n")
    monkeypatch.setattr(sys, "argv", ["vtg.doctor", *words, "json=true"])
    doctor.main()
    found = json.loads(capsys.readouterr().out)["gradient_checkpointing"]
    assert found == {"16": "full", "24": "full", "4000": "none"}


def test_low_ceilings_are_warned_about_with_the_key_to_change(run: Run) -> None:
    words = ("video.fps=0.5", "video.min_frames=2", "task=bins", "task.num_bins=3")
    code, out, _ = run([long_row(timestamp=[2.1, 2.7])], *words)
    assert code == 0
    assert "warning: ceiling: answers in bins limit even a perfect model to" in out
    assert "raise task.num_bins (now 3)" in out
    assert "warning: ceiling: the sampled frames limit even a perfect model to" in out
    assert "raise video.fps (now 0.5) or, for long clips, video.max_frames (now 64)" in out


def test_errors_are_found_with_remedies_and_exit_code_1(run: Run, folder: Path) -> None:
    (folder / "bad.mp4").write_bytes(b"no video")
    (folder / "test.jsonl").write_text(json.dumps(vfr_row(qid="t")) + "\n")
    late = long_row(qid="late", video_start=6.9, video_end=12.9, timestamp=[1.0, 6.0])
    rows = [vfr_row(), late, vfr_row(video="bad.mp4"), vfr_row(timestamp=[3.0, 900.0])]
    words = (f"data.test_file={folder / 'test.jsonl'}", "model.max_length=100", "json=true")
    code, out, _ = run(rows, *words)
    findings = {(one["severity"], one["topic"]): one["message"] for one in json.loads(out)["findings"]}
    assert code == 1
    assert json.loads(out)["ok"] is False
    assert "clips take over model.max_length = 100 tokens" in findings["error", "tokens"]
    assert "or raise model.max_length" in findings["error", "tokens"]
    assert "1 of the 1 test videos are training videos too" in findings["error", "splits"]
    assert "1 of 3 videos cannot be used" in findings["error", "videos"]
    assert "1 rows outlast their video" in findings["warning", "spans"]
    assert "1 timestamp-over among 4 rows" in findings["error", "rows"]


def test_rows_without_a_moment_are_an_error_unless_sets_are_asked_for(run: Run, folder: Path) -> None:
    rows = [vfr_row(), long_row(timestamp=[]), vfr_row(timestamp=[[0.5, 1.0], [1.5, 2.0]], qid="w")]
    code, out, _ = run(rows, "json=true")
    document = json.loads(out)
    [finding] = [one for one in document["findings"] if one["topic"] == "rows"]
    assert code == 1 and finding["severity"] == "error"
    assert "timestamp: [] says that there is no moment" in finding["message"]
    assert "set task.moments=set, or drop the row (1 of 3 rows have no moment)" in finding["message"]
    code, out, _ = run(rows, "json=true", "task.moments=set", "evaluation.max_new_tokens=96")
    document = json.loads(out)
    assert code == 0, document["findings"]
    assert document["moments"] == {"none": 1, "one": 1, "several": 1}
    assert document["ceiling"]["answer"]["mIoU"] == 100.0
    words = ("task.moments=set", "evaluation.max_new_tokens=9", f"data.test_file={folder / 'rows.jsonl'}")
    code, out, _ = run(rows, *words)
    assert code == 1 and "moments of a row: none 1, one 1, several 1" in out
    assert "error: tokens: evaluation.max_new_tokens = 9: the answer to" in out


def test_rows_without_spans_have_no_best_reachable_scores(run: Run) -> None:
    row = vfr_row(question="What is it?", answer="a box")
    code, out, err = run([{key: value for key, value in row.items() if key not in ("timestamp", "sentence")}])
    assert code == 0, err
    assert "Best reachable scores" not in out and "Memory" in out


def test_testing_on_the_training_rows_is_a_warning(run: Run, folder: Path) -> None:
    code, out, _ = run([vfr_row()], f"data.test_file={folder / 'rows.jsonl'}")
    assert code == 0
    assert "warning: splits: the test rows are the training rows: they measure the fit, not what is learned" in out
    assert "rounding alone" in out


def test_each_source_of_a_mixture_is_looked_at_and_what_one_trains_on_another_may_not_ask(
    run: Run, folder: Path
) -> None:
    (folder / "long.jsonl").write_text(json.dumps(long_row()) + "\n" + json.dumps(long_row(timestamp=[3, 900])) + "\n")
    (folder / "asked.jsonl").write_text(json.dumps(vfr_row(video=str(folder / "vfr.mp4"), qid="t")) + "\n")
    words = ["data.annotation_file=null", "data.video_dir=null", "data.max_bad_share=0.5"]
    words += [f"data.sources.vfr.annotation_file={folder / 'rows.jsonl'}", f"data.sources.vfr.video_dir={folder}"]
    words += [f"data.sources.long.annotation_file={folder / 'long.jsonl'}", f"data.sources.long.video_dir={folder}"]
    code, out, err = run([vfr_row()], *words, "data.sources.vfr.weight=3", "json=true")
    document = json.loads(out)
    assert code == 0, (document["findings"], err)
    assert {name: source["share"] for name, source in document["sources"].items()} == {"vfr": 0.75, "long": 0.25}
    assert {name: source["tokens"]["clips"] for name, source in document["sources"].items()} == {"vfr": 1, "long": 1}
    [finding] = [one["message"] for one in document["findings"] if one["topic"] == "rows"]
    assert finding.startswith("long: ") and "1 timestamp-over among 2 rows" in finding
    code, out, _ = run([vfr_row()], *words, f"data.sources.long.test_file={folder / 'asked.jsonl'}")
    assert code == 1 and "1 of the 1 test videos of long are training videos of vfr" in out
    line = next(line for line in out.splitlines() if line.startswith("long "))
    assert line.split()[:6] == ["long", "50.00", "%", "1", "-", "1"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("model.path=./none",), "'./none': no such folder"),
        (("samples=0",), "samples = 0: must be at least 1"),
        (("video.fsp=2",), "did you mean video.fps?"),
        (("data.annotation_file=none.jsonl",), "data.annotation_file = 'none.jsonl': no such file"),
    ],
)
def test_wrong_usage_is_refused(run: Run, words: tuple[str, ...], message: str) -> None:
    code, out, err = run([vfr_row()], *words)
    assert (code, out) == (2, "")
    assert message in err


def test_the_memory_of_recurrent_layers_is_estimated_with_and_without_data(
    run: Run, qwen3_5_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run([vfr_row(), long_row()], "json=true", f"model.path={qwen3_5_dir}")
    document = json.loads(out)
    assert code == 0, (document["findings"], err)
    assert document["model"]["family"] == "qwen3_5" and document["memory"]["training_bytes"] > 0
    monkeypatch.setattr(sys, "argv", ["vtg.doctor", "look=memory", "model=qwen3_5_4b", "gpu_gb=[24]"])
    doctor.main()
    assert "of 4,571,730,432 parameters trained" in capsys.readouterr().out
