"""What a model card tells of a run: scores with intervals, data, command; no folder of this machine."""

import json
from pathlib import Path

import yaml

from vtg.export.card_metadata import card_head, license_of
from vtg.export.run_section import TrainingRun, training_run


def make_run(folder: Path) -> Path:
    (folder / "best").mkdir(parents=True)
    data = {"annotation_file": "/home/me/data/train.jsonl", "val_file": None, "test_file": "/home/me/data/test.jsonl"}
    (folder / "config.yaml").write_text(yaml.safe_dump({"run_name": "mine", "data": data}))
    scores = {
        "base": {"mIoU": 10.0, "R1@0.5": 5.0, "samples": 2},
        "tuned": {"mIoU": 90.0, "R1@0.5": 95.0, "samples": 2},
    }
    (folder / "metrics.json").write_text(json.dumps(scores))
    rows = {"train": {"count": 12, "digest": "abc"}, "val": {"count": 0, "digest": "none"}}
    (folder / "run.json").write_text(json.dumps({"rows": rows, "base": {"count": 2, "digest": "def"}}))
    command = [
        "/opt/bin/train_sft.py",
        "model.path=Qwen/Qwen3-VL-4B-Instruct",
        "data.annotation_file=/home/me/train.jsonl",
    ]
    environment = {"python": "3.11.7", "packages": {"vtg": "0.2.0", "torch": "2.15.0"}, "command": command}
    (folder / "environment.json").write_text(json.dumps(environment))
    for name, spans in (("base_predictions", [[5.0, 6.0]]), ("predictions", [[1.0, 2.0]])):
        lines = [
            json.dumps({"qid": str(at), "duration": 9.0, "timestamp": [1.0, 2.0], "prediction": spans})
            for at in range(2)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def of(folder: Path) -> TrainingRun:
    found = training_run(str(folder))
    assert found is not None
    return found


def test_the_card_tells_scores_with_their_interval_the_data_and_the_command(tmp_path):
    text = of(make_run(tmp_path / "run") / "best").section()
    assert "On 2 questions of `test.jsonl`" in text
    assert "| mIoU | 10.0 | 90.0 | +100.0 (+100.0 to +100.0) |" in text
    assert "| train | `train.jsonl` | 12 | `abc` |" in text and "| test | `test.jsonl` | 2 | `def` |" in text
    command = "python train_sft.py model.path=Qwen/Qwen3-VL-4B-Instruct data.annotation_file=train.jsonl"
    assert f"\n{command}\n" in text and "vtg 0.2.0, torch 2.15.0" in text
    assert "/home/me" not in text and str(tmp_path) not in text


def test_scores_of_the_best_weights_are_not_told_of_others(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "checkpoint-2").mkdir()
    other = of(run / "checkpoint-2")
    assert other.eval_results() == [] and "Not measured" in other.section()
    assert training_run(str(tmp_path)) is None and training_run("Qwen/Qwen3-VL-4B-Instruct") is None


def test_the_head_files_the_model_under_its_base_with_its_scores_and_licence(tmp_path):
    results = of(make_run(tmp_path / "run") / "best").eval_results()
    head = yaml.safe_load(card_head("mine", base="Qwen/Qwen3-VL-4B-Instruct", is_trained=True, results=results)[4:-3])
    assert head["base_model"] == "Qwen/Qwen3-VL-4B-Instruct" and head["base_model_relation"] == "finetune"
    assert (head["library_name"], head["pipeline_tag"]) == ("transformers", "video-text-to-text")
    (result,) = head["model-index"][0]["results"]
    assert {one["type"]: one["value"] for one in result["metrics"]} == {"R1@0.5": 95.0, "mIoU": 90.0}
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    assert license_of(str(base)) == {"license": "apache-2.0"}
    head = yaml.safe_load(card_head("mine", base=str(base), is_trained=True, results=())[4:-3])
    assert head["license"] == "apache-2.0" and "base_model" not in head and "model-index" not in head
