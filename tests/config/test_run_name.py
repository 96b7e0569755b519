"""What a run is called that was given no name."""

import forked
import pytest
import yaml

from vtg.config.run_name import name_of


def named(kind: str = "sft", *, file: str | None = None, path: str | None = None, **choices: str) -> str:
    return name_of(kind, choices={"model": "tiny", "data": "demo"} | choices, annotation_file=file, model_path=path)


def test_a_name_follows_from_program_model_data_and_experiment(tmp_path):
    assert named() == "sft_tiny_demo"
    assert named("rl", data="demo_rl") == "rl_tiny_demo_rl"
    assert named(model="qwen3_vl_4b", data="my_dataset", file="/data/rows.jsonl") == "sft_qwen3_vl_4b_my_dataset"
    assert named(data="jsonl", file="/data/charades/train v2.jsonl") == "sft_tiny_jsonl_train_v2"
    assert named(data="real", file="rows.jsonl") == "sft_tiny_real_rows"
    assert named(data="jsonl") == "sft_tiny_jsonl"
    assert named(experiment="smoke") == "sft_tiny_demo_smoke"


def test_a_model_of_ones_own_and_a_run_to_start_from_are_in_the_name():
    assert named(path="Qwen/Qwen3-VL-32B-Instruct") == "sft_qwen3_vl_32b_instruct_demo"
    for folder in ("outputs/sft_tiny_demo", "outputs/sft_tiny_demo/", "/runs/sft_tiny_demo/best"):
        assert named("rl", path=folder, data="demo_rl") == "rl_sft_tiny_demo_demo_rl"
    assert named("rl", path="outputs/mine/checkpoint-40") == "rl_mine_checkpoint_40_demo"
    assert named(path="tiny") == "sft_tiny_demo"


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("train_sft.py", "sft_tiny_demo"),
        ("train_rl.py rl=r1", "rl_tiny_demo_rl"),
        ("train_sft.py experiment=smoke seed=1", "sft_tiny_demo_smoke"),
        ("train_sft.py run_name=mine", "mine"),
        ("train_latents.py predictor=flow encoder.path=me/other_tower", "latents_other_tower_flow_demo"),
    ],
)
def test_the_config_that_is_shown_has_the_name_and_its_folder(command, name):
    script, *words = command.split()
    done = forked.run(script, *words, "--cfg", "job")
    assert done.returncode == 0, done.stderr
    shown = yaml.safe_load(done.stdout)
    assert (shown["run_name"], shown["output_dir"]) == (name, f"outputs/{name}")
