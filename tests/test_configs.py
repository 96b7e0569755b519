"""Every shipped config composes; every setting that cannot be ends in one line before anything heavy is imported."""

import itertools
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import forked
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from vtg.config.data_rules import check_data
from vtg.config.data_settings import DataConfig, DemoConfig, LeRobotConfig
from vtg.config.derived import activation_checkpointing, autocasts
from vtg.config.latents_schema import LatentsConfig
from vtg.config.load import load_config
from vtg.config.programs import DoctorConfig, PredictConfig
from vtg.config.schema import RLConfig, SFTConfig
from vtg.config.score_settings import ScoreConfig
from vtg.entry import conf_dir
from vtg.errors import ConfigError
from vtg.recipes import RECIPES

ROOT = Path(__file__).parents[1]
CONF = conf_dir()
PRIMARY = {
    "sft": SFTConfig,
    "rl": RLConfig,
    "doctor": DoctorConfig,
    "predict": PredictConfig,
    "score": ScoreConfig,
    "latents": LatentsConfig,
}
TRAINING = ("sft", "rl", "doctor")
CHOICES = sorted(f"{path.parent.name}={path.stem}" for path in CONF.glob("*/*.yaml") if path.stem != "defaults")
LATENT_CHOICES = ("trainer=latents", "experiment=vjepa2_kinetics_400")
"""Choices for train_latents.py alone, of groups that others have too."""
EXPERIMENTS = [
    choice
    for choice in CHOICES
    if choice.startswith("experiment=") and choice.removeprefix("experiment=") not in RECIPES
    if choice not in LATENT_CHOICES
]
"""Those of no published training, which tests/recipes/ holds to what was published."""
RL_GROUPS = ("rl", "rl_model", "rewards", "curriculum", "rollout")
"""Groups that only train_rl.py has."""
SCORE_GROUPS = ("benchmark", "budget")
"""Groups that only vtg.score has."""
LATENT_GROUPS = ("encoder", "clips", "predictor", "future")
"""Groups that only train_latents.py has."""
GOOD = {"video": "a.mp4", "duration": 30.0, "timestamp": [2.0, 5.5], "sentence": "a man sits down"}


@pytest.fixture
def rows(tmp_path: Path) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(GOOD) + "\n", encoding="utf-8")
    return str(path)


def composed(name: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(name, overrides=list(overrides))


def sft(*overrides: str) -> SFTConfig:
    return load_config(composed("sft", *overrides), SFTConfig)


def run(*arguments: str, script: str = "train_sft.py") -> subprocess.CompletedProcess[str]:
    return forked.run(script, *arguments)


def text_of(choice: str) -> str:
    """The file of a choice."""
    return (CONF / f"{choice.replace('=', '/')}.yaml").read_text(encoding="utf-8")


def sources_of(choice: str) -> list[str]:
    """The sources of a mixture, or of the experiment that draws from it; of others none."""
    builds_on = {"experiment=molmo2_long": "experiment=molmo2_sft"}
    text = text_of(builds_on.get(choice, choice))
    data = re.findall(r"override /data: (\w+)", text) if choice.startswith("experiment=") else []
    return re.findall(r"^  (\w+): \{", text_of(f"data={data[0]}") if data else text, flags=re.MULTILINE)


def is_mixture(choice: str) -> bool:
    return choice == "data=mixture" or (choice.startswith(("data=", "experiment=")) and bool(sources_of(choice)))


def needed(choice: str, rows: str) -> list[str]:
    """What a choice cannot know by itself: the rows of `data=jsonl`, and room for real frames in the tiny model."""
    extra = [f"data.annotation_file={rows}"] if choice in ("data=jsonl", "data=real", "data=my_dataset") else []
    data = re.findall(r"override /(data): (\w+)", text_of(choice)) if choice.startswith("experiment=") else []
    set_of_rows = "=".join(data[0]) if data else choice
    if set_of_rows.startswith("data=") and ":${data.root}" in text_of(set_of_rows):
        # A set as published: its files have to be there.
        for name in re.findall(r":\$\{data\.root\}/([^\s$]+)(?=\s)", text_of(set_of_rows)):
            (Path(rows).parent / name).touch()
        for folder in ("videos", "raw/videos", "raw/webvid-10M/data/train/partitions"):
            (Path(rows).parent / folder).mkdir(exist_ok=True, parents=True)
        extra = [f"data.root={Path(rows).parent}"]
    if is_mixture(choice):  # each has a file of its own: the same one twice is refused
        for source in sources_of(choice):
            file = Path(rows).with_name(f"{source}.jsonl")
            file.write_text(Path(rows).read_text(encoding="utf-8"), encoding="utf-8")
            extra.append(f"+data.sources.{source}.annotation_file={file}")
    return [*extra, "model.max_length=32768"] if choice == "video=default" else extra


def test_every_primary_config_is_known_to_these_tests():
    assert {path.stem for path in CONF.glob("*.yaml")} == {*PRIMARY, "training", "run"}  # which several of them share


@pytest.mark.parametrize("name", TRAINING)
def test_a_primary_config_composes_without_overrides(name):
    config = load_config(composed(name), PRIMARY[name])
    assert config.model.path == "tiny"
    assert config.video.max_pixels == 4096


def has_group(name: str, choice: str) -> bool:
    is_of_latents = choice.partition("=")[0] in LATENT_GROUPS or choice in LATENT_CHOICES
    if name == "latents":
        return is_of_latents or (choice.startswith("data=") and not is_mixture(choice))
    if choice.startswith(tuple(f"{group}=" for group in SCORE_GROUPS)) or is_of_latents:
        return False
    if name in ("rl", "doctor") and is_mixture(choice):
        return False
    recipe = RECIPES.get(choice.removeprefix("experiment="))
    if recipe is not None and name != "doctor":
        return recipe.program == f"train_{name}.py"
    if name == "rl":
        return choice != "batching=packed" and (not choice.startswith("loss=") or choice == "loss=cross_entropy")
    return not choice.startswith(tuple(f"{group}=" for group in RL_GROUPS))


def pairs() -> list[tuple[str, str]]:
    """Each choice with the programs that train and have it; experiments, which choose much, with doctor too."""
    trained = [pair for pair in itertools.product(("sft", "rl"), CHOICES) if has_group(*pair)]
    known = {choice for _, choice in trained if not choice.startswith("experiment=")}
    trained += [("latents", choice) for choice in CHOICES if has_group("latents", choice)]
    return trained + [("doctor", choice) for choice in CHOICES if has_group("doctor", choice) and choice not in known]


@pytest.mark.parametrize(("name", "choice"), pairs())
def test_every_choice_of_every_group_composes_and_is_possible(name, choice, rows):
    if choice.endswith("=qlora"):
        pytest.importorskip("bitsandbytes", reason="quantized weights are refused without bitsandbytes")
    config = load_config(composed(name, choice, *needed(choice, rows)), PRIMARY[name])
    assert isinstance(config, PRIMARY[name])


@pytest.mark.parametrize(
    "choice", [choice for choice in CHOICES if choice.startswith("data=") and not is_mixture(choice)]
)
def test_predict_composes_with_every_data_set(choice, rows):
    config = load_config(composed("predict", choice, *needed(choice, rows)), PredictConfig)
    assert config.checkpoint == "tiny"


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_changes_settings_and_the_command_line_has_the_last_word(experiment, rows):
    given = needed(experiment, rows)
    assert sft(experiment, *given) != sft()
    assert sft(experiment, *given, "seed=7", "run_name=mine", "lora.r=3").output_dir == "outputs/mine"
    assert sft(experiment, *given, "lora.r=3").lora.r == 3


def test_the_predictor_of_vjepa2_has_the_sizes_of_the_original(rows):
    config = load_config(composed("latents", LATENT_CHOICES[1], *needed(LATENT_CHOICES[1], rows)), LatentsConfig)
    assert (config.encoder.name, config.encoder.path) == ("vjepa2", "facebook/vjepa2-vitl-fpc64-256")
    assert (config.clips.n_frames, config.clips.stride, config.clips.seconds) == (64, 2, None)
    assert config.predictor.kind == "flow"
    assert (config.predictor.width, config.predictor.depth, config.predictor.heads) == (1024, 12, 8)
    assert config.data.annotation_file.startswith("kinetics:") and not config.encoder.trained


def test_the_stages_of_molmo2_have_the_figures_of_its_paper(rows):
    first, second, third = (
        sft(f"experiment=molmo2_{stage}", *needed(f"experiment=molmo2_{stage}", rows))
        for stage in ("pretraining", "sft", "long")
    )
    assert [one.weight for one in first.data.sources.values()] == [60.0, 25.0, 5.0, 5.0, 5.0]
    assert second.data.weights == "sqrt" and sum(second.data.groups.values()) == pytest.approx(100 - 9.1, abs=0.2)
    assert (second.video.fps, second.video.max_frames, second.model.max_length) == (2.0, 128, 4096)
    assert (third.video.fps, third.video.max_frames, third.model.max_length) == (2.0, 384, 36864)
    assert [one.batching.global_size for one in (first, second, third)] == [128] * 3
    assert [one.trainer["max_steps"] for one in (first, second, third)] == [32000, 30000, 2000]
    assert third.data.groups == second.data.groups


def test_an_experiment_chooses_the_model_and_the_command_line_another():
    assert sft("experiment=full_finetune").model.path == "Qwen/Qwen3-VL-2B-Instruct"
    assert not sft("experiment=full_finetune").lora.enabled
    assert sft("experiment=full_finetune", "model=qwen3_vl_8b").model.path == "Qwen/Qwen3-VL-8B-Instruct"


def test_a_choice_on_the_command_line_beats_what_the_tiny_model_brings():
    for overrides in (["video=default", "model=tiny"], ["model=tiny", "video=default"]):
        config = sft(*overrides, "model.max_length=32768")
        assert config.video.max_frames == 256
        assert config.lora.r == 32
    assert sft("lora=none").lora.enabled is False
    assert sft("trainer=default").trainer["gradient_accumulation_steps"] == 8


def test_a_real_model_does_not_inherit_from_the_tiny_one():
    config = sft("model=qwen3_vl_4b")
    assert (config.video.max_frames, config.lora.r, config.evaluation.batch_size) == (256, 16, 8)


VIDEO_KEYS = (
    "sampling, fps, last_frame, max_frames, min_frames, pad, min_pixels, max_pixels, frame_size, total_pixels, "
    "resize, decoder, isolate, timeout_s, cache_dir, cache_gb, cache_format, tower_cache_dir, "
    "tower_cache_gb, fetch_dir, fetch_gb"
)
TOP_KEYS = (
    "run_name, output_dir, seed, resume, on_nan, data, deepspeed, trainer, video, augmentation, task, loss, model, "
    "parts, lora, batching, evaluation"
)

WRONG = {
    "video.fpz=3": f"video.fpz: there is no such key; did you mean video.fps? valid keys of video: {VIDEO_KEYS}",
    "+video.fpz=3": f"video.fpz: there is no such key; did you mean video.fps? valid keys of video: {VIDEO_KEYS}",
    "vidoe.fps=3": f"vidoe.fps: there is no such key; did you mean video? valid keys of the top level: {TOP_KEYS}",
    "+zzz=3": f"zzz: there is no such key; valid keys of the top level: {TOP_KEYS}",
    "video=tini": "video=tini: there is no such choice; did you mean video=tiny? choices of video: default, kempner, "
    "tiny",
    "video.fps=fast": "video.fps: Value 'fast' of type 'str' could not be converted to Float",
    "data.max_samples=1.5": "data.max_samples: Value '1.5' of type 'float' could not be converted to Integer",
    "lora.enabled=maybe": "lora.enabled: Value 'maybe' is not a valid bool (type str)",
    "lora=null": (
        "lora=null: lora takes the name of one of its choices; set lora=none (choices of lora: default, dora, none, "
        "qlora, r16, r64, r8, tiny)"
    ),
    "model=defaults": "model.path: not set; give a value",
    "data.video_dir=${nope}": "data.annotation_file: Interpolation key 'nope' not found",
    "resume=yes": "resume = 'yes': must be one of auto, never, must",
    "video.sampling=every": "video.sampling = 'every': must be one of fps, uniform, random, keyframe, molmo2",
    "video.max_frames=2": "video.min_frames = 4, video.max_frames = 2: must be 1 <= min_frames <= max_frames",
    "on_nan=ignore": "on_nan = 'ignore': must be one of stop, skip",
    "on_nan=skip deepspeed=zero2": (
        "on_nan = 'skip' cannot be with DeepSpeed, which makes its update within the backward pass, before anyone can "
        "look at it; set on_nan=stop, or deepspeed=none"
    ),
    "data.val_share=1.5": "data.val_share = 1.5: must be at least 0 and below 1",
    "data=jsonl": "data.annotation_file is not set; give the path of a JSONL file of annotation rows",
    "data=jsonl data.annotation_file=no.jsonl": (
        f"data.annotation_file = 'no.jsonl': no such file (looked in {ROOT}); check the path"
    ),
    "data=jsonl data.annotation_file=pyproject.toml data.video_dir=no": (
        f"data.video_dir = 'no': no such folder (looked in {ROOT}); check the path"
    ),
    "data=jsonl data.annotation_file=pyproject.toml data.val_file=pyproject.toml data.val_share=0.2": (
        "data.val_file and data.val_share are both set; keep one of them"
    ),
    "video.total_pixels=33554432 video.max_pixels=262144 model.max_length=8192": (
        "a full clip takes up to 9088 tokens (8192 vision tokens from video.max_frames = 64, video.max_pixels = 262144 "
        "and video.total_pixels = 33554432, 12 around each of 32 temporal patches, 512 for prompt and answer), but "
        "model.max_length = 8192; set video.total_pixels to at most 14942208, or raise model.max_length"
    ),
    "video.frame_size=[224]": (
        "video.frame_size = [224]: must be pixels: N for N x N, [height, width], or 0, with which frames keep their "
        "shape"
    ),
    "video.frame_size=1024": (
        "video.frame_size = 1024: a frame of it does not fit into video.total_pixels = 262144; raise that, or lower "
        "video.frame_size"
    ),
    "video.max_frames=2000": (
        "a full clip takes up to 12640 tokens (128 vision tokens from video.max_frames = 2000, video.max_pixels = 4096 "
        "and video.total_pixels = 262144, 12 around each of 1000 temporal patches, 512 for prompt and answer), but "
        "model.max_length = 4096; lower video.max_frames, or raise model.max_length"
    ),
}


@pytest.mark.parametrize("overrides", WRONG)
def test_a_wrong_setting_ends_in_one_line_and_exit_code_2(overrides):
    done = run(*overrides.split())
    assert done.stderr == f"error: {WRONG[overrides]}\n"
    assert (done.returncode, done.stdout) == (2, "")


def test_the_size_that_the_token_budget_names_is_the_largest_that_fits():
    given = ["video.max_pixels=262144", "model.max_length=8192"]
    assert sft(*given, "video.total_pixels=14942208").video.total_pixels == 14942208
    with pytest.raises(ValueError, match=r"set video\.total_pixels to at most 14942208"):
        sft(*given, "video.total_pixels=14944256")


WATCH = """
import runpy, sys
script, sys.argv = sys.argv[1], sys.argv[1:]
try:
    runpy.run_path(script, run_name="__main__")
finally:
    heavy = {"torch", "transformers", "peft", "numpy", "av"} & sys.modules.keys()
    print("heavy:", *sorted(heavy), file=sys.stderr)
"""


SHOWN_AND_REFUSED = [
    *itertools.product(("train_sft.py", "train_rl.py"), ("--help", "--cfg=job", "video.fpz=3", "video.max_frames=2")),
    *(("train_latents.py", argument) for argument in ("--help", "clips.fpz=3", "clips.n_frames=0")),
]


@pytest.mark.parametrize(("script", "argument"), SHOWN_AND_REFUSED)
def test_settings_are_shown_and_refused_before_anything_heavy_is_imported(script, argument):
    done = subprocess.run(
        [sys.executable, "-c", WATCH, script, argument], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stderr.splitlines()[-1] == "heavy:"
    assert done.returncode == (0 if argument.startswith("--") else 2)


def test_help_names_every_group_and_choice_and_how_to_start():
    done = run("--help")
    for group in {choice.split("=")[0] for choice in CHOICES if has_group("sft", choice)} - {"lora_model"}:
        names = ", ".join(sorted(path.stem for path in (CONF / group).glob("*.yaml") if path.stem != "defaults"))
        assert f"{group}: {names}\n" in done.stdout
    assert "rewards: " not in done.stdout and "rollout" not in done.stdout
    assert "python train_sft.py data=my_dataset model=qwen3_vl_4b" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


def test_a_data_set_of_ones_own_is_a_file_of_few_lines_in_a_folder_anywhere(tmp_path, rows):
    (tmp_path / "videos").mkdir()
    folder = tmp_path / "my_conf" / "data"
    folder.mkdir(parents=True)
    (folder / "my_dataset.yaml").write_text(
        "defaults:\n"
        "  - jsonl\n"
        "  - _self_\n"
        "\n"
        f"annotation_file: {rows}\n"
        f"video_dir: {tmp_path / 'videos'}\n"
        "val_share: 0.1\n",
        encoding="utf-8",
    )
    done = run("--config-dir", str(folder.parent), "data=my_dataset", "--cfg", "job", "--resolve")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"annotation_file: {rows}\n" in done.stdout
    assert "val_share: 0.1\n" in done.stdout
    assert "max_bad_share: 0.05\n" in done.stdout
    wrong = run("--config-dir", str(folder.parent), "data=my_dataset", "data.val_share=1")
    assert wrong.stderr == "error: data.val_share = 1.0: must be at least 0 and below 1\n"


def test_a_multirun_names_a_wrong_value_and_leaves_the_folder_clean(tmp_path):
    done = run("--multirun", "lora.r=x", f"output_dir={tmp_path / 'out'}")
    assert done.stderr.endswith("error: lora.r: Value 'x' of type 'str' could not be converted to Integer\n")
    assert done.returncode == 2
    assert not (ROOT / "multirun.yaml").exists()


def test_a_setting_may_refer_to_another_on_the_command_line(rows):
    done = run("data=jsonl", f"data.annotation_file={rows}", "data.val_file=${data.annotation_file}", "video.fps=-1")
    assert done.stderr == "error: video.fps = -1.0: must be positive, or 0 for the file's own rate\n"


def test_any_name_of_training_arguments_can_be_set_without_a_plus():
    done = run("trainer.weight_decay=0.1", "trainer.adam_beta2=0.95", "--cfg", "job")
    assert done.returncode == 0
    assert "  weight_decay: 0.1\n" in done.stdout
    assert "  adam_beta2: 0.95\n" in done.stdout


def test_training_arguments_take_their_values_from_the_trainer_group(tmp_path):
    from vtg.training.hf_arguments import training_arguments

    config = sft(
        "++trainer.adam_beta2=0.95",
        "++trainer.learning_rate='1e-4'",
        "seed=3",
        "data.val_file=null",
        f"output_dir={tmp_path}",
    )
    arguments = training_arguments(config)
    assert (arguments.adam_beta2, arguments.learning_rate, arguments.seed) == (0.95, 1e-4, 3)
    assert arguments.eval_strategy == "no"


@pytest.mark.parametrize("name", ["gradient_checkpointing", "activation_checkpointing"])
def test_activation_checkpointing_goes_by_its_old_and_its_new_name_and_without_a_warning(name, tmp_path):
    from vtg.training.hf_arguments import NEWER, training_arguments

    asked = {name: True, f"{name}_kwargs": {"use_reentrant": True}}
    config = SFTConfig(output_dir=str(tmp_path), trainer={"gradient_checkpointing": False} | asked)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*removed in", category=FutureWarning)
        arguments = training_arguments(config)
    known = vars(arguments)
    newest = [new if new in known else old for old, new in NEWER.items()]
    assert [known[one] for one in newest] == [True, {"use_reentrant": True}]
    assert activation_checkpointing(config.trainer) == "full"


@pytest.mark.parametrize("way", ["none", "selective", "full"])
def test_ways_of_checkpointing_are_on_or_off_to_the_trainer(way, tmp_path):
    from vtg.training.hf_arguments import NEWER, training_arguments

    arguments = training_arguments(SFTConfig(output_dir=str(tmp_path), trainer={"gradient_checkpointing": way}))
    known = vars(arguments)
    assert next(known.get(new, known.get(old)) for old, new in NEWER.items()) is (way != "none")


@pytest.mark.parametrize(
    ("words", "needs"),
    [
        ((), False),
        (("lora=qlora",), False),
        (("parts.projector=full",), False),
        (("lora=dora",), True),
        (("parts.experts=lora",), True),
        (("model.dtype=float32", "lora=none"), True),
        (("deepspeed=zero2",), True),
    ],
)
def test_autocast_is_for_what_computes_with_float32_weights(words, needs):
    assert autocasts(sft("model=qwen3_vl_4b", *words)) is needs


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_trainer_settings_of_every_experiment_are_training_arguments(experiment, rows, tmp_path):
    from vtg.training.hf_arguments import training_arguments

    config = sft(experiment, *needed(experiment, rows), f"output_dir={tmp_path}")
    assert training_arguments(config).learning_rate == config.trainer["learning_rate"]


def rl(*overrides: str) -> RLConfig:
    return load_config(composed("rl", *overrides), RLConfig)


def test_rl_variants_differ_from_grpo_in_what_their_papers_say():
    assert rl("rl=dr_grpo").rl["loss_type"] == "dr_grpo" and rl("rl=dr_grpo").rl["scale_rewards"] == "none"
    assert rl("rl=gspo").rl["importance_sampling_level"] == "sequence"
    dapo = rl("rl=dapo")
    assert dapo.rl["epsilon_high"] == 0.28 and dapo.curriculum.zero_variance == "resample"
    r1 = rl("rl=r1")
    assert r1.task.think and {"name": "format", "weight": 1.0, "think": True} in r1.rewards.terms
    assert r1.rl["max_completion_length"] == r1.evaluation.max_new_tokens == 512
    assert not rl().task.think and rl("rl=r1", "rl.beta=0").rl["beta"] == 0


def test_rl_of_the_tiny_model_has_settings_of_its_own():
    assert rl().trainer["learning_rate"] > rl("model=qwen3_vl_4b").trainer["learning_rate"]


WRONG_RL = {
    "curriculum.select=easy": "curriculum.select = 'easy': must be one of all, filter, gaussian, hard",
    "rollout.engine=sglang": "rollout.engine = 'sglang': must be one of transformers, vllm",
    "curriculum.min_iou=0.9 curriculum.max_iou=0.3 curriculum.select=filter": "curriculum.min_iou = 0.9",
    "rewards.terms=[{name:iou,weight:1}]": "rewards.terms[0].name = 'iou': ",
    "rewards.terms=[{name:temporal_iou,weight:1,treshold:0.3}]": "rewards.terms[0].treshold: ",
    "rl.use_vllm=true": "rl.use_vllm is set by vtg; set rollout.engine instead",
    "rl.learning_rate=1": "rl.learning_rate: is a setting of the Trainer; set trainer.learning_rate",
    "rl.num_generation=4": "rl.num_generation: GRPOConfig of trl has no such setting; did you mean num_generations",
    "rl.num_generations=1": "rl.num_generations = 1: must be an integer of at least 2, or no answer is better",
    "rl.loss_type=dapo rl.epsilon=x": "rl.epsilon = 'x': must be a number",
}


@pytest.mark.parametrize("overrides", WRONG_RL)
def test_a_wrong_rl_setting_ends_in_one_line_and_exit_code_2(overrides, tmp_path):
    done = run(*overrides.split(), f"output_dir={tmp_path / 'run'}", script="train_rl.py")
    assert done.stderr.splitlines()[-1].startswith(f"error: {WRONG_RL[overrides]}"), done.stderr
    assert (done.returncode, done.stdout) == (2, "")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("size", ["big", "-1", "2.5", "true", "[224,0]", "[224,-1]", "[1,2,3]"])
def test_a_size_of_frames_is_a_number_or_two_of_them(size):
    with pytest.raises(ConfigError, match=r"video\.frame_size = .*: (must be pixels: N for|height and width must)"):
        sft(f"video.frame_size={size}")
    assert sft("video.frame_size=[48,64]").video.fixed_size(32) == (64, 64)  # 48 is half a token over one


def test_files_that_are_there_are_looked_at_where_a_demo_would_make_them(tmp_path):
    file, folder, pipe = tmp_path / "rows.jsonl", tmp_path / "folder", tmp_path / "pipe"
    folder.mkdir()
    os.mkfifo(pipe)
    check_data(DataConfig(demo=DemoConfig(), annotation_file=str(file)))
    for path, why in ((folder, "is a folder; name a file in it"), (pipe, "is a device or a pipe; name a file")):
        for demo in (DemoConfig(), None):
            with pytest.raises(ConfigError, match=re.escape(f"data.annotation_file = '{path}': {why}")):
                check_data(DataConfig(demo=demo, annotation_file=str(path)))


def test_published_rows_may_lie_in_a_folder_whose_root_has_to_be_given(tmp_path):
    check_data(DataConfig(annotation_file=f"lerobot:{tmp_path}?camera_key=top", root=str(tmp_path)))
    with pytest.raises(ConfigError, match=r"data\.annotation_file = '.*/cups': no such file"):
        check_data(DataConfig(annotation_file=f"lerobot:{tmp_path}/cups?camera_key=top"))
    with pytest.raises(ConfigError, match=r"data\.root is not set; give the folder of the published files"):
        check_data(DataConfig(annotation_file="lerobot:None?camera_key="))
    with pytest.raises(ConfigError, match=r"data\.lerobot\.camera_key = 'top', but data\.annotation_file = 'rows"):
        check_data(DataConfig(annotation_file="rows.jsonl", lerobot=LeRobotConfig("top")))


def test_data_may_lie_in_shards_and_in_a_store(tmp_path):
    check_data(DataConfig(annotation_file="shards/{000..099}.tar", video_dir="s3://bucket/videos"))
    (tmp_path / "rows.jsonl").touch()
    given = {"annotation_file": str(tmp_path / "rows.jsonl"), "video_dir": str(tmp_path)}
    with pytest.raises(
        ConfigError, match=r"data\.index_file = 'x': no such file .*vtg\.inspect --index .*rows\.jsonl -o x"
    ):
        check_data(DataConfig(**given, index_file="x"))
    with pytest.raises(ConfigError, match=r"data\.video_dir = 'nowhere': no such folder"):
        check_data(DataConfig(**given | {"video_dir": "nowhere"}))
