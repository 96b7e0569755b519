"""What training takes of memory: predicted, measured, and made to fit."""

from dataclasses import replace

import pytest
import torch
from hydra import compose, initialize_config_dir
from memory_cases import CASES, EIGHT_BITS, GENERATION, QLORA, measure, measure_generation, overrides
from memory_models import build

from vtg.config.load import load_config
from vtg.config.model_settings import DeepspeedConfig, LoraConfig, PartsConfig
from vtg.config.programs import DoctorConfig
from vtg.decoding import key_pool
from vtg.entry import conf_dir
from vtg.memory.activations import GPU_PAGE, PAGE, generation_work
from vtg.memory.checkpointing import choose, settle_checkpointing, training_bytes
from vtg.memory.estimate import estimate
from vtg.memory.parameters import count, empty_model
from vtg.memory.proposals import GB, MODELS, SHARE, estimated, propose, settings
from vtg.memory.published_shapes import PUBLISHED_CONFIGS, published_config
from vtg.memory.shape import Shape
from vtg.memory.training_load import Batch, TrainingSetup
from vtg.memory.workload import ClipSize, Workload
from vtg.models.part_table import grouped_parameters

PUBLISHED = {
    "Qwen/Qwen3.5-0.8B": 873_438_784,
    "Qwen/Qwen3.5-2B": 2_274_069_824,
    "Qwen/Qwen3.5-4B": 4_659_865_088,
    "Qwen/Qwen3.5-9B": 9_653_104_368,
    "Qwen/Qwen3.5-27B": 27_781_427_952,
    "Qwen/Qwen3.6-27B": 27_781_427_952,
    "Qwen/Qwen3.8-27B": 27_781_427_952,
    "Qwen/Qwen3.5-35B-A3B": 35_951_822_704,
    "Qwen/Qwen3.6-35B-A3B": 35_951_822_704,
    "Qwen/Qwen3-VL-2B-Instruct": 2_127_532_032,
    "Qwen/Qwen3-VL-4B-Instruct": 4_437_815_808,
    "Qwen/Qwen3-VL-8B-Instruct": 8_767_123_696,
    "Qwen/Qwen3-VL-32B-Instruct": 33_357_390_064,
    "Qwen/Qwen3-VL-30B-A3B-Instruct": 31_070_754_032,
    "Qwen/Qwen3-VL-235B-A22B-Instruct": 235_670_022_896,
    "Qwen/Qwen2.5-VL-3B-Instruct": 3_754_622_976,
    "Qwen/Qwen2.5-VL-7B-Instruct": 8_292_166_656,
    "Qwen/Qwen2.5-VL-32B-Instruct": 33_452_718_336,
    "Qwen/Qwen2.5-VL-72B-Instruct": 73_410_777_344,
    "allenai/Molmo2-4B": 4_850_869_200,
    "allenai/Molmo2-8B": 8_661_703_120,
}
"""Parameters, as the hub's page of each model counts them; of the last three it is known to three digits alone."""

PRESETS = {int(path.stem[4:-2]): path.stem for path in (conf_dir() / "experiment").glob("gpu_*gb.yaml")}


def doctor(*words: str) -> DoctorConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return load_config(compose("doctor", overrides=list(words)), DoctorConfig)


# Seconds each; the others, of larger models and other ways of training, together take a quarter of an hour.
QUICK = ("tiny, LoRA", "tiny, full", "tiny Qwen3.5 with experts, LoRA", "Molmo2 of 8 M, LoRA, one row")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.soak) for name in CASES]
)
def test_a_prediction_is_near_what_a_training_takes(name, demo_dir, tmp_path):
    model, batch, more = CASES[name]
    if {*QLORA, *EIGHT_BITS} & {*more}:
        pytest.importorskip("bitsandbytes", minversion="0.50", reason="pip install 'bitsandbytes>=0.50'")
    path = build(model, tmp_path / model)
    measured, predicted, held = measure(overrides(path, batch, more, demo_dir, tmp_path / "run"))
    assert predicted == pytest.approx(measured, rel=0.1)
    assert predicted - held == pytest.approx(measured - held, rel=0.15)


@pytest.mark.parametrize(
    "name", [name if name == "Qwen3.5" else pytest.param(name, marks=pytest.mark.soak) for name in GENERATION]
)
def test_a_prediction_is_near_what_answering_takes(name, tmp_path):
    model, rows, dtype = GENERATION[name]
    measured, predicted, weights = measure_generation(build(model, tmp_path / model), rows, dtype=dtype)
    assert predicted == pytest.approx(measured, rel=0.1)
    assert predicted - weights == pytest.approx(measured - weights, rel=0.15)


def _unloaded(model: torch.nn.Module) -> int:
    """Parameters of the layer that predicts the token after the next, which Qwen3.5 publishes and no class loads."""
    text = model.config.text_config
    if not text.model_type.startswith("qwen3_5"):
        return 0
    # One decoder layer with attention, a matrix from two hidden states to one, and three norms.
    layer = next(layer for layer in model.model.language_model.layers if layer.block_type == "full_attention")
    return sum(one.numel() for one in layer.parameters()) + 2 * text.hidden_size**2 + 3 * text.hidden_size


@pytest.mark.parametrize("name", PUBLISHED_CONFIGS)
def test_a_published_model_is_known_without_the_hub(name):
    model = empty_model(name, torch.bfloat16)
    assert sum(one.numel() for one in model.parameters()) + _unloaded(model) == PUBLISHED[name]


def test_every_model_of_conf_is_one_of_them():
    choices = [path.stem for path in (conf_dir() / "model").glob("*.yaml") if path.stem not in ("defaults", "tiny")]
    found = {choice: doctor(f"model={choice}").model for choice in choices}
    assert {model.path for model in found.values()} <= PUBLISHED_CONFIGS.keys()
    for choice, path in MODELS.items():
        assert found[choice].path == path
    for model in found.values():
        config = published_config(model.path)
        side = 3 if config.model_type == "molmo2" else config.vision_config.spatial_merge_size
        assert model.patch_factor == config.vision_config.patch_size * side
        assert Shape.of(config).patches_per_token == side**2


def test_zero_shares_out_and_offload_takes_away():
    counts = count(empty_model("tiny", torch.bfloat16), PartsConfig(), LoraConfig(enabled=False))
    trained, batch = counts.trained_parameters, Batch(rows=1, length=100, vision_tokens=80)
    plain = estimate(counts, batch, TrainingSetup(mixed=True))
    assert (plain.gradient_bytes, plain.optimizer_bytes) == (2 * trained, 4 * trained)
    buckets = 2 * 10**9
    two = estimate(counts, batch, TrainingSetup(stage=2, ranks=4))
    assert two.optimizer_bytes == 12 * trained // 4 + buckets and two.gradient_bytes == 2 * trained // 4
    offload = estimate(counts, batch, TrainingSetup(stage=2, ranks=4, offload_optimizer=True))
    assert (offload.optimizer_bytes, offload.gradient_bytes) == (buckets, 0)
    three = estimate(counts, batch, TrainingSetup(stage=3, ranks=4), generating=batch)
    assert three.weights_bytes == 2 * counts.parameters + 2 * counts.parameters // 4
    assert estimate(counts, batch, TrainingSetup(mixed=True, ranks=4)).gradient_bytes == 2 * plain.gradient_bytes


def test_adapters_on_experts_copy_the_experts_of_every_layer_or_with_checkpointing_of_one(tiny_dir):
    path, batch = str(tiny_dir("qwen3_vl_moe")), Batch(rows=1, length=100, vision_tokens=80)
    model = empty_model(path, torch.float32)
    experts = sum(one.numel() for group, _, one in grouped_parameters(model) if group == "experts")
    layers = model.config.text_config.num_hidden_layers
    plain = count(model, PartsConfig(), LoraConfig())
    adapted = count(empty_model(path, torch.float32), PartsConfig(experts="lora"), LoraConfig())
    assert (plain.merged_experts, adapted.merged_experts) == (0, experts)
    for setup, copies in ((TrainingSetup(), layers), (TrainingSetup(gradient_checkpointing="full"), 1)):
        merged, apart = (
            estimate(counts, batch, setup).work_bytes for counts in (adapted, replace(adapted, merged_experts=0))
        )
        # Beside the copies, what a token keeps for the gradients of adapters on experts.
        assert 0 <= merged - apart - copies * 4 * experts // layers < 0.1 * apart


def test_fewer_activations_are_computed_again_the_more_memory_there_is():
    config = doctor("model=qwen3_vl_4b")
    workload = Workload(config)
    counts = count(empty_model(config.model.path, workload.weights_dtype(gpu=True)), config.parts, config.lora)
    needed = training_bytes(workload, counts, workload.training_setup(gpu=True, ranks=1))
    assert list(needed) == ["none", "selective", "full"]
    none, selective, full = needed.values()
    assert none > 1.5 * selective > 1.5 * full
    for memory, chosen in ((none, "selective"), (2 * none, "none"), (selective, "full"), (0, "full")):
        assert choose(needed, memory) == chosen


def test_without_a_gpu_auto_keeps_all_activations():
    config = doctor("++trainer.gradient_checkpointing=auto", "++trainer.use_cpu=true")
    assert Workload(config).training_setup(gpu=False, ranks=1).gradient_checkpointing == "none"
    assert Workload(config).training_setup(gpu=True, ranks=1).gradient_checkpointing == "full"
    settle_checkpointing(config, time_tokens=0)
    assert config.trainer["gradient_checkpointing"] == "none"


def test_batching_says_what_a_batch_holds():
    long, short = ClipSize(4000, 3000, 60.0), ClipSize(500, 400, 10.0)

    def batches(*words: str) -> list[tuple[int, int, int]]:
        found = Workload(doctor("model=qwen3_vl_4b", *words)).training_batches([long, short])
        return [(one.rows, one.length, one.vision_tokens) for one in found]

    assert batches("batching=fixed", "++trainer.per_device_train_batch_size=3") == [(3, 4000, 9000), (3, 500, 1200)]
    assert batches("batching.target_batch_tokens=8000") == [(2, 4000, 6000), (16, 500, 6400)]
    assert batches("batching.target_batch_tokens=8000", "batching.max_batch_size=4")[1] == (4, 500, 1600)
    assert batches("batching.target_batch_tokens=1000")[0] == (1, 4000, 3000)
    assert batches("batching=duration") == [(2, 4000, 6000), (12, 500, 4800)]
    assert batches("batching=packed", "batching.target_batch_tokens=8000") == [(1, 8000, 6000), (1, 8000, 6400)]
    grpo = Workload(doctor("model=qwen3_vl_4b", "rl=grpo", "rl.num_generations=4"))
    (one, _) = grpo.training_batches([long, short])
    assert (one.generations, one.completion, one.shared) == (4, 64, True)


@pytest.mark.parametrize("shares", [True, False])
def test_grpo_takes_keys_for_every_completion_and_those_of_a_prompt_once_where_it_is_shared(shares):
    told = ("model=qwen3_vl_2b", "rl=grpo", "batching=fixed", f"rollout.share_prompt={str(shares).lower()}")
    config = doctor(*told, "++trainer.per_device_train_batch_size=1")
    counts = count(empty_model(config.model.path, torch.bfloat16), config.parts, config.lora)
    workload, clips = Workload(config), [ClipSize(4000, 3800, 60.0)]
    setup = workload.training_setup(gpu=False, ranks=1)
    config.evaluation.batch_size = 1
    few = workload.estimate(counts, clips, setup)
    config.rl["num_generations"] = 16
    many = workload.estimate(counts, clips, setup)
    a_token = 28 * 2 * 1024 * 2
    own, prompt = 8 * 64 * a_token, 8 * 4000 * a_token
    more = many.answering_bytes - few.answering_bytes
    assert own <= more < 1.5 * own if shares else own + prompt <= more < 1.1 * (own + prompt)


def test_grpo_is_estimated_for_the_most_questions_that_a_budget_has_room_for():
    told = ("model=qwen3_vl_2b", "rl=grpo", "batching=tokens", "batching.target_batch_tokens=16000")
    apart, shared = (doctor(*told, f"batching.share_video={word}") for word in ("false", "true"))
    clip = ClipSize(12000, 11500, 120.0)
    (one,), (many,) = (Workload(config).training_batches([clip]) for config in (apart, shared))
    assert (one.rows, one.generations, one.length) == (1, 8, 12000)
    # 4,000 tokens are left for questions of 8 completions of 64 tokens each.
    assert (many.rows, many.generations, many.length) == (1, 7 * 8, 12000)
    shared.batching.max_batch_size = 3
    (few,) = Workload(shared).training_batches([clip])
    assert few.generations == 3 * 8


def test_grpo_takes_what_its_branches_gather_and_far_more_without_sharing():
    config = doctor("model=qwen3_vl_2b", "rl=grpo", "batching=fixed", "++trainer.per_device_train_batch_size=1")
    counts = count(empty_model(config.model.path, torch.bfloat16), config.parts, config.lora)
    workload, clips = Workload(config), [ClipSize(4000, 3800, 60.0)]
    setup = workload.training_setup(gpu=True, ranks=1)
    config.evaluation.batch_size = 1
    few = workload.estimate(counts, clips, setup)
    config.rl["num_generations"] = 16
    many = workload.estimate(counts, clips, setup)
    a_completion = (4000 + 64) * 28 * 2 * 1024 * 2
    alone = replace(many.batch, shared=False)
    assert estimate(counts, alone, setup).training_bytes > 2.5 * many.training_bytes
    # Keys and values of 8 completions that a layer gathers, and their gradients, less what a mask takes otherwise.
    gathered = replace(setup, attention="varlen")
    more = estimate(counts, few.batch, gathered).training_bytes - few.training_bytes
    assert 8 * a_completion // 28 < more < 2 * 8 * a_completion // 28


def test_keys_on_a_gpu_are_counted_in_its_pages_and_rows():
    assert key_pool.PAGE == PAGE and key_pool.PAGES["cuda"] == GPU_PAGE
    config = doctor("model=qwen3_vl_2b", "rl=grpo", "batching=fixed", "rl.num_generations=10")
    counts = count(empty_model(config.model.path, torch.bfloat16), config.parts, config.lora)
    setup = Workload(config).training_setup(gpu=True, ranks=1)
    a_token = 28 * 2 * 1024 * 2

    def held(**sizes: int) -> int:
        batch = Batch(vision_tokens=0, completion=64, shared=True, **sizes)
        return generation_work(counts, setup, batch) // a_token

    # 3 prompts of 2 pages and an empty one are 7, rounded up to 8; of 4 pages each 13, rounded up to 14.
    assert held(rows=3, length=1024, generations=8) - held(rows=3, length=513, generations=8) < 1024
    more = held(rows=3, length=2048, generations=8) - held(rows=3, length=1024, generations=8)
    assert 6 * 512 <= more < 6 * 512 + 2 * 1024
    # Slots and rows of each are powers of two: 4 of 16 in place of 3 of 10, as if there were as many completions.
    assert held(rows=3, length=1024, generations=10) == pytest.approx(
        held(rows=3, length=1024, generations=16), rel=0.01
    )


def test_a_model_whose_vision_tokens_attend_both_ways_is_estimated_without_flash_attention():
    for model, is_masked in (("molmo2_4b", True), ("qwen3_vl_4b", False)):
        config = doctor(f"model={model}")
        counts = count(empty_model(config.model.path, torch.bfloat16), config.parts, config.lora)
        setup, batch = Workload(config).training_setup(gpu=True, ranks=1), Batch(2, 4000, 3800, masked=True)
        flash, plain = (
            estimate(counts, batch, replace(setup, attention=kernel)) for kernel in ("flash_attention_2", "sdpa")
        )
        assert (flash.training_bytes == plain.training_bytes) is is_masked


@pytest.mark.parametrize("size", [8, 16, 24, 40, 80, 141])
def test_a_preset_fits_into_nine_tenths_of_its_gpu(size):
    config = doctor(f"experiment={PRESETS[size]}")
    choice = next(choice for choice, path in MODELS.items() if path == config.model.path)
    found = estimated(config, choice, gpus=1)
    assert config.trainer["gradient_checkpointing"] == "full" and config.lora.enabled and config.batching.by == "tokens"
    assert config.batching.largest_first
    assert found.peak_bytes <= SHARE * size * GB
    bits = config.model.quantization
    (proposal,) = (one for one in propose([size]) if one.lora and one.quantization == bits)
    assert (proposal.model, proposal.peak_bytes) == (choice, found.peak_bytes)
    assert (proposal.max_frames, proposal.evaluation_batch_size) == (
        config.video.max_frames,
        config.evaluation.batch_size,
    )


def test_what_is_proposed_without_lora_keeps_small_updates():
    found = [one for one in propose([40, 141], gpus=8) if not one.lora]
    assert all(one.deepspeed != "none" or "model.dtype=float32" in one.overrides() for one in found)
    config = settings("qwen3_5_2b", lora=False, deepspeed="none", tokens=1024, evaluated=1)
    assert estimated(config, "qwen3_5_2b", gpus=1).peak_bytes > 16 * 1.6e9
    assert replace(config, deepspeed=DeepspeedConfig()).model.dtype == "float32"
    assert len(Workload(config).longest_clips()) == 5
