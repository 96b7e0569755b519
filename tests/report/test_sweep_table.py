"""The table of a sweep."""

import json
import subprocess
import sys
from pathlib import Path

from vtg.config.sweep import SweptRun, differing
from vtg.report import report_sweep

ROWS = {"duration": 10.0, "timestamp": [0.0, 5.0], "sentence": "he sits", "status": "ok", "text": ""}


def swept(folder: Path, rate: str, *, end: float | None = None, error: str = "", qid: str = "a") -> SweptRun:
    name = f"lora.r={rate}"
    run = SweptRun(folder / name, ("experiment=smoke", name), error)
    if end is not None:
        run.folder.mkdir(parents=True)
        for file, last in (("base_predictions", 10.0), ("predictions", end)):
            row = ROWS | {"qid": qid, "prediction": [[0.0, last]]}
            (run.folder / f"{file}.jsonl").write_text(json.dumps(row) + "\n")
        metrics = {"R1@0.5": 100.0, "R1@0.7": 0.0, "mIoU": end * 20}
        (run.folder / "metrics.json").write_text(json.dumps({"base": {"mIoU": 50.0}, "tuned": metrics}))
    return run


def test_the_table_has_what_differs_the_scores_the_best_and_the_failed(tmp_path, capsys):
    jobs = [swept(tmp_path, "4", end=4.0), swept(tmp_path, "-1", error="lora.r = -1: must be\npositive")]
    jobs.append(swept(tmp_path, "8", end=5.0))
    (tmp_path / "lora.r=-1").symlink_to(tmp_path / "lora.r=4")  # what an earlier start left there is not its score
    report_sweep(jobs)
    lines = capsys.readouterr().out.split("\n")[1:]
    assert lines[:5] == [
        "           base  R1@0.5  R1@0.7   mIoU   gain   95 % interval  run directory",
        f"lora.r=4   50.0   100.0     0.0   80.0  +30.0  +30.0 to +30.0  {tmp_path}/lora.r=4",
        f"lora.r=-1{'':54}FAILED: lora.r = -1: must be ({tmp_path}/lora.r=-1)",
        f"lora.r=8   50.0   100.0     0.0  100.0  +50.0  +50.0 to +50.0  best: {tmp_path}/lora.r=8",
        "1 of 3 runs did not end well; the same command goes on with them",
    ]
    assert lines[-2] == str(tmp_path / "report.html") and (tmp_path / "report.html").is_file()


def test_runs_that_predict_latents_have_their_errors_beside_copy_last(tmp_path, capsys):
    jobs = []
    for at, value in enumerate((0.5, 0.25)):
        jobs.append(SweptRun(tmp_path / str(at), (f"seed={at}",), ""))
        jobs[-1].folder.mkdir()
        errors = {name: {"all": {"l2": value if name == "model" else 1}} for name in ("model", "copy_last")}
        # The second was scored on one clip, and has no interval.
        bounds = (0.125, 0.75) if at == 0 else (None, None)
        ratio = {"ratio": {"all": {"l2": dict(zip(("value", "low", "high"), (value, *bounds), strict=True))}}}
        (jobs[-1].folder / "metrics.json").write_text(json.dumps(errors | ratio | {"latents": {"all": 9}}))
    report_sweep(jobs)
    assert capsys.readouterr().out.split("\n")[1:4] == [
        "        model  copy_last  model / copy_last   95 % interval  run directory",
        f"seed=0    0.5          1              0.500  0.125 to 0.750  {tmp_path}/0",
        f"seed=1   0.25          1              0.250                  {tmp_path}/1",
    ]
    assert "Error by seconds ahead" not in (tmp_path / "report.html").read_text()  # there is but one horizon


def test_runs_on_other_samples_or_with_the_same_score_have_no_best(tmp_path, capsys):
    report_sweep([swept(tmp_path / "a", "4", end=4.0), swept(tmp_path / "a", "8", end=5.0, qid="b")])
    report_sweep([swept(tmp_path / "b", "4", end=4.0), swept(tmp_path / "b", "8", end=4.0)])
    assert "best" not in capsys.readouterr().out


def test_a_sweep_of_nothing_but_failures_is_a_table_without_a_page(tmp_path, capsys):
    report_sweep([swept(tmp_path, "4", error="no"), swept(tmp_path, "8", error="no")])
    assert capsys.readouterr().out.count("FAILED: no") == 2 and not (tmp_path / "report.html").exists()


def test_overrides_that_all_have_are_left_out_and_a_lone_one_is_kept_apart():
    runs = [
        SweptRun(Path("a"), ("++trainer.max_steps=4", "seed=0")),
        SweptRun(Path("b"), ("++trainer.max_steps=8", "seed=0")),
    ]
    assert differing(runs) == ["trainer.max_steps=4", "trainer.max_steps=8"]


SWEEP = """
import json

from vtg.config.programs import DoctorConfig
from vtg.entry import hydra_program
from vtg.errors import RunError

def job(config):
    if config.seed == 2:
        raise RunError("the loss is not finite")
    if config.seed == 3:
        raise KeyError("a bug")

def after(swept):
    print(json.dumps([run.error.partition(":")[0] for run in swept]))

hydra_program("doctor", schema=DoctorConfig, job=job, after_sweep=after)
"""


def sweep(seeds: str, folder: Path) -> subprocess.CompletedProcess[str]:
    words = ["--multirun", "data=demo", f"seed={seeds}", "look=memory", f"hydra.sweep.dir={folder}"]
    return subprocess.run([sys.executable, "-c", SWEEP, *words], capture_output=True, text=True, check=False)


def test_a_job_that_fails_does_not_end_the_sweep(tmp_path):
    done = sweep("1,2,-1,4", tmp_path)
    assert json.loads(done.stdout) == ["", "the loss is not finite", "seed = -1", ""]
    assert "error: the loss is not finite\n" in done.stderr
    assert done.returncode == 1


def test_a_bug_is_in_the_table_and_raised_at_the_end(tmp_path):
    done = sweep("3,4", tmp_path)
    assert json.loads(done.stdout) == ["KeyError", ""]
    assert done.returncode == 1 and "Traceback" in done.stderr
