"""vtg as a model of lmms-eval: its command asks a task of its own, and the answers are those that vtg gives."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vtg.evaluate import main as evaluate
from vtg.evaluation.loaded_model import load_model_of

ROOT = Path(__file__).parents[2]
# In front of everything else: it wants av<16 and an older filelock than the rest of the tests run with.
FOLDERS = os.environ.get("LMMS_EVAL_PATH")

TASK = """dataset_path: json
dataset_kwargs:
  data_files:
    test: {rows}
task: demo_grounding
test_split: test
output_type: generate_until
generation_kwargs:
  max_new_tokens: 48
  temperature: 0
  do_sample: false
doc_to_visual: !function functions.visual
doc_to_text: !function functions.text
doc_to_target: !function functions.target
process_results: !function functions.results
metric_list:
  - metric: answered
    aggregation: mean
    higher_is_better: true
"""
FUNCTIONS = """
def visual(doc):
    return [doc["video_path"]]

def text(doc, lmms_eval_specific_kwargs=None):
    return 'When does "' + doc["query"] + '" happen in the video? ' + (
        "Answer with its start and end in the form: START to END seconds."
    )

def target(doc):
    return doc["span"]

def results(doc, answers):
    return {"answered": float(bool(answers[0]))}
"""


@pytest.mark.soak
@pytest.mark.skipif(
    FOLDERS is None,
    reason="needs lmms-eval: pip install --target DIR lmms_eval 'av<16' 'filelock<3.20', and LMMS_EVAL_PATH=DIR",
)
def test_lmms_eval_gets_the_answers_that_vtg_gives_and_vtg_evaluate_reads_its_samples(tmp_path, demo_dir, capsys):
    rows = [json.loads(line) for line in (demo_dir / "test.jsonl").read_text().splitlines()[:6]]
    videos = [str(demo_dir / row["video"]) for row in rows]
    docs = [
        {"video_path": video, "query": row["sentence"], "span": json.dumps([row["timestamp"]])}
        for video, row in zip(videos, rows, strict=True)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "demo.yaml").write_text(TASK.format(rows=tmp_path / "rows.jsonl"))
    (tmp_path / "task" / "functions.py").write_text(FUNCTIONS)
    # What an installed vtg has: the tests run from the source tree.
    entry = tmp_path / "vtg_entry-0.dist-info"
    entry.mkdir()
    (entry / "entry_points.txt").write_text("[lmms_eval.models]\nvtg = vtg.harness.manifest:manifest\n")
    (entry / "METADATA").write_text("Metadata-Version: 2.1\nName: vtg-entry\nVersion: 0\n")
    path = os.pathsep.join([str(tmp_path), str(FOLDERS), str(ROOT)])
    words = ["--model", "vtg", "--model_args", "pretrained=tiny", "--tasks", "demo_grounding", "--batch_size", "2"]
    words += ["--include_path", str(tmp_path / "task"), "--output_path", str(tmp_path / "out"), "--log_samples"]
    done = subprocess.run(
        [sys.executable, "-m", "lmms_eval", *words],
        env=os.environ | {"PYTHONPATH": path, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=900,
        check=False,
    )
    found = sorted((tmp_path / "out").rglob("*_samples_demo_grounding.jsonl"))
    assert found, done.stderr[-3000:]
    answers = [json.loads(line)["filtered_resps"] for line in found[0].read_text().splitlines()]
    model = load_model_of("tiny", [])
    assert answers == [model.ground(video, row["sentence"]).text for video, row in zip(videos, rows, strict=True)]
    assert evaluate([str(found[0]), "--preset", "lmms_eval", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 6
