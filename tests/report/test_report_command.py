import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from commands import called

from vtg.report.__main__ import main

run = partial(called, main)
ROOT = Path(__file__).parents[1]


def write_run(folder: Path, *, rate: float = 0.1) -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text(f"run_name: {folder.name}\ntrainer:\n  learning_rate: {rate}\n")
    (folder / "train_log.jsonl").write_text('{"step": 1, "loss": 2.0}\nbroken\n{"step": 2, "loss": 1.0}\n')
    (folder / "metrics.json").write_text('{"base": {"mIoU": 20.0}, "tuned": {"mIoU": 30.0}}')
    truth = {"qid": "a", "duration": 10.0, "timestamp": [0.0, 5.0], "sentence": "he sits", "status": "ok"}
    for name, span in (("base_predictions", [0.0, 10.0]), ("predictions", [0.0, 5.0])):
        (folder / f"{name}.jsonl").write_text(json.dumps(truth | {"prediction": [span], "text": ""}) + "\n")
    return folder


def test_a_run_gets_its_page_and_several_get_one_here(tmp_path, monkeypatch, capsys):
    one, two = write_run(tmp_path / "one"), write_run(tmp_path / "two")
    code, out, err = run(capsys, one)
    assert (code, out) == (0, f"{one / 'report.html'}\n")
    assert err == f"{one}: train_log.jsonl: lines left out because they are no JSON objects: 1\n"
    assert (one / "report.html").read_text().startswith("<!DOCTYPE html>")
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(capsys, "one", "two")
    assert (code, out.splitlines()[-1]) == (0, "report.html")
    assert "2 runs compared" in (tmp_path / "report.html").read_text()
    code, out, _ = run(capsys, one, two, "-o", "new/compare.html")
    assert (code, out.splitlines()[-1]) == (0, "new/compare.html")
    assert (tmp_path / "new" / "compare.html").is_file() and not (two / "report.html").exists()


def test_a_sweep_is_a_table_of_its_runs_and_what_is_no_run_is_passed_over(tmp_path, monkeypatch, capsys):
    sweep = tmp_path / "sft_tiny_demo"
    sweep.mkdir()
    (sweep / "multirun.yaml").write_text("hydra: {}\n")
    for name in ("experiment=smoke,lora.r=4", "experiment=smoke,lora.r=8"):
        write_run(sweep / name)
    monkeypatch.chdir(tmp_path)
    table = [
        "run                        base  tuned   gain   95 % interval",
        "experiment=smoke,lora.r=4  20.0   30.0  +50.0  +50.0 to +50.0",
        "experiment=smoke,lora.r=8  20.0   30.0  +50.0  +50.0 to +50.0",
        "",
        "report.html",
    ]
    code, out, _ = run(capsys, sweep)
    assert (code, out.splitlines()) == (0, table)
    code, out, err = run(capsys, *sorted(sweep.iterdir()))
    assert (code, out.splitlines()) == (0, table)
    assert f"{sweep / 'multirun.yaml'}: a file, not a run; passed over\n" in err
    assert "experiment=smoke,lora.r=8" in Path("report.html").read_text()
    assert run(capsys, sweep / "multirun.yaml")[0] == 2


def test_json_has_the_scores_and_the_gain(tmp_path, capsys):
    folder = write_run(tmp_path / "one")
    code, out, _ = run(capsys, folder, "--json", "-o", tmp_path / "page.html")
    document = json.loads(out)
    [found] = document["runs"]
    assert (code, document["report"]) == (0, str(tmp_path / "page.html"))
    assert (found["run"], found["name"], found["steps"], found["skipped"]) == (str(folder), "one", 2, 0)
    assert found["metrics"]["tuned"] == {"mIoU": 30.0}
    assert found["gain"]["mIoU"] == {"difference": 50.0, "low": 50.0, "high": 50.0, "samples": 1}


def test_differences_go_to_stdout_and_are_no_failure(tmp_path, capsys):
    one, two = write_run(tmp_path / "one"), write_run(tmp_path / "two", rate=0.2)
    code, out, err = run(capsys, "--diff", one, two)
    assert (code, err) == (0, "")
    assert out.splitlines()[:2] == [f"A  {one}", f"B  {two}"]
    assert "  trainer.learning_rate  0.1  →  0.2" in out.splitlines()
    assert list(tmp_path.rglob("report.html")) == []
    document = json.loads(run(capsys, "--diff", one, two, "--json")[1])
    assert document["runs"] == [str(one), str(two)]
    assert document["config"] == {"run_name": ["one", "two"], "trainer.learning_rate": [0.1, 0.2]}
    assert run(capsys, "--diff", one, one)[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["NONE"], "no such folder; give the output_dir of a training run"),
        (["."], "is no run directory: it holds none of config.yaml, train_log.jsonl, metrics.json, predictions.jsonl"),
        (["one", "NONE"], "no such folder"),
        (["--diff", "one"], "--diff compares two runs, and 1 were given"),
        (["--diff", "one", "one", "-o", "x.html"], "--diff writes to stdout; leave out -o"),
        (["one", "-o", "one"], "-o one: is a folder; name the file to write"),
        ([], "the following arguments are required: RUN"),
    ],
)
def test_wrong_usage_ends_with_2(tmp_path, monkeypatch, capsys, words, message):
    write_run(tmp_path / "one")
    monkeypatch.chdir(tmp_path)
    try:
        code = main(words)
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert message in err
    assert list(tmp_path.rglob("*.html")) == []


def test_a_page_that_cannot_be_written_is_a_failure(tmp_path, capsys):
    folder = write_run(tmp_path / "one")
    code, out, err = run(capsys, folder, "-o", folder / "config.yaml" / "report.html")
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {folder / 'config.yaml' / 'report.html'}: cannot be written (")


def test_a_file_that_is_no_page_is_not_overwritten(tmp_path, capsys):
    folder, rows = write_run(tmp_path / "one"), tmp_path / "rows.json"
    rows.write_text("[]")
    with pytest.raises(SystemExit) as stop:
        run(capsys, folder, "-o", rows)
    assert stop.value.code == 2 and rows.read_text() == "[]"
    assert f"-o {rows}: is a file that is no page; name another" in capsys.readouterr().err
    page = tmp_path / "page.html"
    assert [run(capsys, folder, "-o", page)[0] for _ in range(2)] == [0, 0]


def test_a_run_that_may_not_be_read_is_named(tmp_path, capsys, bound_by_rights):
    folder = write_run(tmp_path / "one")
    folder.chmod(0)
    for given in (folder, folder / "in"):
        code, out, err = run(capsys, given)
        assert (code, out) == (2, "")
        assert err == f"error: {given}/config.yaml: Permission denied; check the path and its permissions\n"
    folder.chmod(0o755)


def test_help_has_examples_and_exit_codes():
    done = subprocess.run(
        [sys.executable, "-m", "vtg.report", "--help"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "python -m vtg.report --diff outputs/sft_tiny_demo outputs/sft_lr5e-5" in done.stdout
    assert "Exit code 0: written, or compared (whether runs differ or not)" in done.stdout
