"""The benchmarks that need no peer outside the environment still run, on the least work that they take."""

import json
import subprocess
import sys
from pathlib import Path

import forked
import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"


@pytest.mark.soak
@pytest.mark.parametrize(
    "words",
    [
        ("grpo.py", "--quick"),
        ("scale.py", "--rows", "1000"),
        ("annotation_stores.py", "--rows", "1000", "--repeats", "1"),
        ("annotation_faults.py",),
        ("evaluate.py", "--rows", "1000"),
        ("busy.py", "--busy", "1", "--steps", "1", "--rounds", "1"),
        ("startup.py", "--only", "^vtg", "--repeats", "1"),
        ("rollouts.py", "--prompts", "1", "--tokens", "2", "--frames", "4", "--rounds", "1"),
        pytest.param(("presets.py", str(DATA)), marks=pytest.mark.skipif(not DATA.is_dir(), reason=f"needs {DATA}")),
    ],
)
def test_a_benchmark_runs_and_prints_its_table(words):
    command = [sys.executable, str(ROOT / "benchmarks" / words[0]), *words[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "|---" in done.stdout or done.stdout.startswith("| ")


@pytest.mark.soak
def test_what_shows_that_tasks_are_learned_trains_by_sft_and_grpo(tmp_path):
    words = ("-o", str(tmp_path / "out"), "--quick", "--tasks", "count", "--grpo", "count")
    command = [sys.executable, str(ROOT / "benchmarks" / "tasks.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "| count | accuracy | 1 | " in done.stdout and "GRPO on count: reward " in done.stdout
    again = subprocess.run([*command, "video.fps=1"], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert again.returncode == 1 and "holds a run of other settings; remove it" in again.stderr


@pytest.mark.slow
def test_the_gpu_run_still_fits_the_trainers_that_it_builds(tmp_path):
    out = tmp_path / "gpu.json"
    words = ("--reduced", "--only", "sft,decode", "--budget-s", "600", "--json", str(out))
    done = forked.run("benchmarks/gpu.py", *words, timeout_s=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads(out.read_text())
    assert found["decode_ms"] == found["decode"]["ms_a_token"] and "| one clip, LoRA |" in done.stdout


def test_the_gpu_run_takes_a_clip_of_ones_own_and_is_a_reduced_one_where_there_is_no_gpu(tmp_path):
    clip, out = tmp_path / "frames.npy", tmp_path / "gpu.json"
    np.save(clip, np.random.default_rng(0).integers(0, 256, (16, 3, 70, 101), dtype=np.uint8))
    reduced = ("--reduced",) if torch.cuda.is_available() else ()
    words = ("--only", "tower", "--clip", str(clip), "--json", str(out), *reduced)
    done = forked.run("benchmarks/gpu.py", *words, timeout_s=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads(out.read_text())
    # In patches of 16 pixels, which tokens join two by two: what is left of 70 and 101 pixels is not seen.
    assert found["reduced"] and found["tower"]["grid"] == [found["tower"]["frames"] // 2, 64 // 16, 96 // 16]


on_gpu = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"))


@pytest.mark.parametrize(
    "reduced", [pytest.param((), marks=on_gpu), pytest.param(("--reduced",), marks=pytest.mark.soak)]
)
def test_packed_and_shared_gradients_are_as_near_to_float32_as_those_of_plain_ones(reduced, tmp_path):
    out = tmp_path / "gpu.json"
    words = ("--only", "equality", "--json", str(out), *reduced)
    done = forked.run("benchmarks/gpu.py", *words, timeout_s=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    equality = json.loads(out.read_text())["equality"]
    for way in ("packed", "shared"):
        assert any("bfloat16" in case for case in equality[way]) and any("float32" in case for case in equality[way])
        for case, apart in equality[way].items():
            if "float32" in case:
                assert apart["gradient apart"] < 1e-4, (way, case, apart)
            most = 1.5 * apart["gradient plain from float32"] + 1e-4
            assert apart["gradient from float32"] <= most, (way, case, apart)
    same, of = equality["decode_tokens"]
    assert same >= of - 1  # one may stand at a tie in bfloat16


@pytest.mark.soak
def test_every_section_of_the_gpu_run_succeeds_reduced(tmp_path):
    out = tmp_path / "gpu.json"
    words = ("--reduced", "--json", str(out), "--budget-s", "1700")
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *words],
        capture_output=True,
        text=True,
        timeout=1800,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads(out.read_text())
    names = [
        "environment",
        "tests",
        "equality",
        "sft",
        "decode",
        "evaluation",
        "tower",
        "grpo",
        "demo",
        "deepspeed",
        "recurrence",
        "qwen3_vl",
        "qwen3_5",
    ]
    assert {name: found["sections"][name]["status"] for name in names} == dict.fromkeys(names, "ok")
    assert not any("not reached" in found[name] for name in names)
    assert found["reduced"] and found["environment"]["matrix_tflops"] > 0
    assert {"sft", "rl", "predict"} <= found["demo"].keys() and all(
        one["returncode"] == 0 and one["loaded"] for one in found["demo"].values()
    )
    assert found["equality"]["packed"].keys() == found["equality"]["shared"].keys()
    assert found["equality"]["decode_tokens"][0] == found["equality"]["decode_tokens"][1] > 0
    for case in (
        "one clip, LoRA",
        "mixed lengths, LoRA, padded",
        "mixed lengths, LoRA, packed, sdpa",
        "one clip, full",
    ):
        assert found["sft"][case]["tokens_per_s"] > 0 and found["sft"][case]["predicted_gb"] > 0
    assert found["tower"]["seconds"] > 0
    assert found["decode_ms"] == found["decode"]["ms_a_token"] and found["decode"]["evaluation"]["seconds_a_sample"] > 0
    asked = found["evaluation"]
    assert asked["four"]["questions"] == 4 * asked["four"]["clips"] and asked["four"]["seconds_a_sample"] > 0
    assert all({"QLoRA, 4 bits", "full", "rollout"} <= found[name].keys() for name in ("qwen3_vl", "qwen3_5"))
    cases = {f"Qwen3.5, {dtype}, {kernel}" for dtype in ("float32", "bfloat16") for kernel in ("sdpa", "varlen")}
    assert found["recurrence"]["packed"].keys() == cases
    assert (
        found["grpo"]["floor"] > 1
        and {"vtg", "naive", "naive_to_vtg_step", "naive_to_vtg_step_4_questions"} <= found["grpo"].keys()
    )


@pytest.mark.soak
def test_a_section_whose_time_is_out_begins_its_first_case_alone(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from gpu_shapes import REDUCED, Bench, random_clip  # pyright: ignore[reportMissingImports]

    clip = random_clip(2, (32, 32))
    late, rest = (
        Bench(REDUCED, clip, tmp_path, seconds_left=lambda: 1.0, on_gpu=False, section_left=lambda left=left: left)
        for left in (-1.0, 1.0)
    )
    found: dict[str, str] = {}
    assert [late.reaches(found, case) for case in "abc"] == [True, False, False] and found == {"not reached": "b; c"}
    assert all(rest.reaches({}, case) for case in "abc")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--only", "sft,towre"), "--only: towre: there are environment, tests, equality, sft, decode"),
        (("--clip", "missing.npy"), "--clip missing.npy: there is no such file"),
        (("--reduced", "--clip", "pyproject.toml"), "--clip pyproject.toml: no array"),
    ],
)
def test_the_gpu_run_names_an_option_it_cannot_take(words, told):
    done = forked.run("benchmarks/gpu.py", *words, timeout_s=60)
    assert done.returncode == 2 and told in done.stderr, done.stderr
