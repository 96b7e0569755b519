"""The loss of video GRPO: TRL's own loss, of log-probs that saw the video, whichever way the prompt is run."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from rl_runs import build, log_probs, overrides, window
from transformers import AutoModelForImageTextToText
from trl import GRPOConfig, GRPOTrainer

from vtg.data.encoding import vision_token_ids
from vtg.data.padding import collate
from vtg.decoding.prompt_sequence import Prompt
from vtg.decoding.shared_prefix import encode_video
from vtg.demo.tiny_model import TINY_QWEN3_VL
from vtg.models.plain_model import plain_model
from vtg.training.rl.engines import ENGINES
from vtg.training.rl.grpo_trainer import VideoGRPOTrainer
from vtg.training.rl.rollout_batch import MicroBatch, SampledRollout
from vtg.training.rl.rollouts import MicroStep, Rollout

KL = ("rl.beta=0.04", "rl.num_iterations=2", "rl.temperature=1.2")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, qwen3_vl) -> Path:
    """An adapter on the tiny model, as a run of supervised fine-tuning leaves it."""
    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("adapter")
    linear = r".*language_model.*(q|k|v|o|up|down|gate)_proj"
    plain = AutoModelForImageTextToText.from_pretrained(TINY_QWEN3_VL)
    model = get_peft_model(plain, LoraConfig(r=4, target_modules=linear, task_type="CAUSAL_LM"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    model.save_pretrained(folder)
    qwen3_vl.processor.save_pretrained(folder)
    return folder


@pytest.fixture
def trained(request, demo_dir, tmp_path, adapter) -> Any:
    """Builds a trainer of a way of training, its weights moved a little from where training starts."""
    ways = {
        "lora": [],
        "continued adapter": [f"model.path={adapter}"],
        "full": ["lora=none"],
        "trained vision tower": ["parts.vision=lora", "parts.projector=lora"],
        "temporal tokens": ["task=tokens", "task.num_bins=20"],
    }

    def built(way: str, *words: str) -> VideoGRPOTrainer:
        out = tmp_path / f"run_{len(list(tmp_path.iterdir()))}"
        trainer = build(overrides(demo_dir, out, *ways[way], *words))
        shift(trainer, seed=1)
        torch.manual_seed(21)
        return trainer

    return built


def shift(trainer: VideoGRPOTrainer, *, seed: int) -> None:
    """Moves all trained weights at random: nothing is zero, and the policy is no longer the one it was."""
    torch.manual_seed(seed)
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data += (0.1 * parameter.std() + 0.005) * torch.randn_like(parameter)


def plain_log_probs(model: Any, trainer: VideoGRPOTrainer, indices: list[int], tensors: dict[str, Any]) -> torch.Tensor:
    """(rows, C): every completion behind its prompt, with the pixels, in a forward of its own; 0 for padding."""
    found = torch.zeros(tensors["completion_ids"].shape)
    rows = [index for index in indices for _ in range(trainer.num_generations)]
    for row, index in enumerate(rows):
        features = trainer.prompts[index].features
        length = int(tensors["completion_mask"][row].sum())
        own = tensors["completion_ids"][row, :length]
        text = {key: torch.cat([features[key], torch.zeros_like(own)]) for key in ("mm_token_type_ids", "labels")}
        text["input_ids"] = torch.cat([features["input_ids"], own])
        text["attention_mask"] = torch.ones_like(text["input_ids"])
        after = features["position_ids"][:, -1:] + 1 + torch.arange(length)
        text["position_ids"] = torch.cat([features["position_ids"], after], dim=1)
        batch = collate([features | text], pad_token_id=0)
        del batch["labels"]
        logits = model(**batch, use_cache=False).logits[0, -length - 1 : -1] if length else torch.zeros(0, 1)
        spread = (logits / trainer.temperature).log_softmax(-1)
        found[row, :length] = spread.gather(1, own[:, None])[:, 0]
    return found


def starting_model(way: str, adapter: Path) -> Any:
    model: Any = AutoModelForImageTextToText.from_pretrained(TINY_QWEN3_VL).eval()
    return PeftModel.from_pretrained(model, adapter).eval() if way == "continued adapter" else model


def assert_close(found: torch.Tensor, wanted: torch.Tensor, tolerance: float = 1e-5) -> None:
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= tolerance * max(1.0, float(wanted.abs().max()))


@torch.no_grad()
@pytest.mark.parametrize("way", ["lora", "continued adapter", "full", "trained vision tower"])
def test_policy_and_reference_are_plain_forwards_with_the_video(trained, adapter, way):
    trainer = trained(way, *KL, "rl.num_generations=3")
    (inputs,) = window(trainer)
    sampled, mask = trainer._sampled, inputs["completion_mask"]
    indices, batches = sampled.indices[0], [inputs["batch"]]
    policy = plain_log_probs(trainer.model, trainer, indices, inputs)
    reference = plain_log_probs(starting_model(way, adapter), trainer, indices, inputs)
    assert_close(inputs["old_per_token_logps"] * mask, policy, 2e-5)
    assert_close(inputs["ref_per_token_logps"] * mask, reference, 2e-5)
    assert (policy - reference).abs().max() > 0.01  # the reference stays where training began
    now = log_probs(trainer, trainer.model, batches, inputs)
    assert_close(now, inputs["old_per_token_logps"])  # the first iteration's ratio is 1
    assert (mask.sum(1) > 0).all()

    features = trainer.prompts[indices[0]].features
    other = features | {"pixel_values_videos": features["pixel_values_videos"].flip(0)}
    encoded = encode_video(trainer.policy.plain, other) if trainer.policy.encodes_once else None
    blinded = MicroBatch([Prompt(other, encoded), *batches[0].prompts[1:]], batches[0].rows, batches[0].generations)
    models = {"policy": trainer.model}
    if trainer.ref_model is not None:
        models["reference"] = trainer.ref_model
    g = trainer.num_generations
    for name, model in models.items():
        before = log_probs(trainer, model, batches, inputs)
        after = log_probs(trainer, model, [blinded], inputs)
        assert (after[:g] - before[:g]).abs().max() > 1e-3, name
        assert_close(after[g:], before[g:], 1e-5)


@torch.no_grad()
def test_another_video_is_answered_otherwise_in_a_rollout(trained):
    trainer = trained("lora")
    indices = [[0, 5]]
    items = [[trainer.prompts[index] for index in indices[0]]]

    def completions() -> torch.Tensor:
        torch.manual_seed(2)
        return trainer._sample_and_score(indices, items).tensors["completion_ids"]

    before = completions()
    assert torch.equal(completions(), before)
    for item in items[0]:
        item.features["pixel_values_videos"] = item.features["pixel_values_videos"].flip(0)
    assert not torch.equal(completions(), before)


LOSSES = {
    "grpo": {"loss_type": "grpo"},
    "dapo": {"loss_type": "dapo", "epsilon_high": 0.28},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "bnpo": {"loss_type": "bnpo"},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon_low": 3e-4, "epsilon_high": 4e-4},
    "cispo": {"loss_type": "cispo", "epsilon_high": 5.0},
}
"""What TRL's trainer reads of its settings each time it computes a loss."""


def loss_and_gradients(trainer: VideoGRPOTrainer, inputs: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Of an optimizer step: summed over its micro-batches, as the Trainer adds them up."""
    trainer.model.zero_grad()
    trainer.current_gradient_accumulation_steps = len(inputs)
    total = torch.zeros(())
    for one in inputs:
        loss = trainer.compute_loss(trainer.model, one)
        loss.backward()
        total += loss.detach()
    return total, gradients(trainer.model)


def gradients(model: Any) -> torch.Tensor:
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters() if p.requires_grad]
    return torch.cat([one.flatten() for one in found])


@pytest.mark.parametrize("way", ["lora", "trained vision tower", "temporal tokens"])
def test_sharing_prompts_changes_neither_completions_nor_loss_nor_gradients(trained, way):
    words = (*KL, "batching.share_video=false", "rl.temperature=2.0", "rl.num_generations=3")
    trainers = [trained(way, *words, f"rollout.share_prompt={share}") for share in ("true", "false")]
    found = []
    for trainer in trainers:
        torch.manual_seed(21)
        (inputs,) = window(trainer)
        shift(trainer, seed=2)  # ratios other than 1, some of them clipped
        inputs["advantages"] = torch.linspace(-1.0, 1.5, len(inputs["advantages"]))
        found.append(inputs)
    shared, repeated = found
    assert [trainer.policy.shares for trainer in trainers] == [True, False]
    for key in ("completion_ids", "completion_mask"):
        assert torch.equal(shared[key], repeated[key])
    for key in ("old_per_token_logps", "ref_per_token_logps"):
        assert_close(shared[key], repeated[key])
    assert (shared["completion_mask"] == 0).any()
    results = {}
    for name in LOSSES if way == "lora" else ("grpo",):
        for trainer in trainers:
            for key, value in ({"importance_sampling_level": "token", "epsilon_low": 0.2} | LOSSES[name]).items():
                setattr(trainer, key, value)
        (loss, ours), (wanted, theirs) = (
            loss_and_gradients(trainer, [inputs]) for trainer, inputs in zip(trainers, found, strict=True)
        )
        assert abs(loss - wanted) <= 1e-5 * max(abs(wanted), 0.1), name
        assert (theirs.norm()) > 0 and (ours - theirs).norm() <= 3e-5 * theirs.norm(), name
        results[name] = theirs
    first = results.pop("grpo")
    assert all((first - other).norm() > 1e-3 * first.norm() for other in results.values())  # losses of their own


def test_the_loss_is_that_of_trls_own_trainer_on_the_same_frames_as_images(trained, qwen3_vl, tmp_path):
    """TRL's own path for images, untouched: a Qwen3-VL reads a clip as it reads the frame pairs as images with the time
    stamps between them, so both must come to the same log-probs, reference, loss and gradients.
    """
    ours = trained("full", *KL, "trainer.per_device_train_batch_size=1")
    (inputs,) = window(ours)
    features, rows = ours.prompts[ours._sampled.indices[0][0]].features, ours.num_generations
    args = GRPOConfig(
        output_dir=str(tmp_path / "trl"),
        use_cpu=True,
        bf16=False,
        report_to=[],
        per_device_train_batch_size=rows,
        num_generations=rows,
        beta=0.04,
        temperature=ours.temperature,
        num_iterations=2,
        loss_type="grpo",
        max_completion_length=12,
    )
    theirs: Any = GRPOTrainer(
        model=AutoModelForImageTextToText.from_pretrained(TINY_QWEN3_VL),
        reward_funcs=[lambda completions, **columns: [0.0] * len(completions)],
        args=args,
        train_dataset=Dataset.from_dict({"prompt": [[{"role": "user", "content": "when?"}]] * 4}),
        processing_class=qwen3_vl.processor,
    )
    theirs.model.load_state_dict(ours.model.state_dict())
    theirs.model.model.visual.requires_grad_(False)
    theirs.model.train()
    theirs.current_gradient_accumulation_steps = 1
    tokenizer = qwen3_vl.processor.tokenizer
    video, image = (tokenizer.convert_tokens_to_ids(name) for name in ("<|video_pad|>", "<|image_pad|>"))
    times, height, width = features["video_grid_thw"][0].tolist()
    assert times > 3
    prompt = features["input_ids"].clone()
    prompt[prompt == video] = image
    no_vision = torch.zeros_like(inputs["completion_ids"])
    images = {
        "pixel_values": features["pixel_values_videos"].repeat(rows, 1),
        "image_grid_thw": torch.tensor([[1, height, width]] * times * rows),
        "num_images": [times] * rows,
        "mm_token_type_ids": torch.cat([(prompt == image).long().expand(rows, -1), no_vision], dim=1),
    }
    text = {"prompt_ids": prompt.expand(rows, -1), "prompt_mask": torch.ones(rows, len(prompt), dtype=torch.int64)}
    known = {key: value for key, value in inputs.items() if key not in ("batch", "weight")}
    ids = torch.cat([text["prompt_ids"], inputs["completion_ids"]], dim=1)
    mask = torch.cat([text["prompt_mask"], inputs["completion_mask"]], dim=1)
    length = inputs["completion_ids"].shape[1]
    with torch.no_grad():
        for key, model in (("old_per_token_logps", theirs.model), ("ref_per_token_logps", theirs.ref_model)):
            wanted, _, _ = theirs._get_per_token_logps_and_entropies(model, ids, mask, length, **images)
            assert_close(inputs[key], wanted)
    for trainer in (ours, theirs):
        shift(trainer, seed=2)
        trainer.model.zero_grad()
    loss = ours.compute_loss(ours.model, inputs)
    wanted = theirs.compute_loss(theirs.model, known | text | images)
    assert abs(loss - wanted) <= 1e-5 * max(abs(wanted), 0.1)
    loss.backward()
    wanted.backward()
    assert (gradients(ours.model) - gradients(theirs.model)).norm() <= 3e-5 * gradients(theirs.model).norm()
    for key in ("kl", "entropy", "clip_ratio/region_mean"):
        assert ours._metrics["train"][key][-1] == pytest.approx(theirs._metrics["train"][key][-1], abs=1e-5), key


def loss_by_hand(
    kind: str, logps: torch.Tensor, inputs: dict[str, Any], live: torch.Tensor, batches: list[slice]
) -> torch.Tensor:
    """GRPO's loss of an optimizer step as it is written down, over the rows that are `live` and no others."""
    ratio = (logps - inputs["old_per_token_logps"]).exp()
    advantages = inputs["advantages"][:, None]
    tokens = -torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
    mask = inputs["completion_mask"] * live[:, None]
    lengths, sums = mask.sum(1), (tokens * mask).sum(1)
    if kind == "grpo":
        return (sums[live] / lengths[live]).mean()
    if kind == "dr_grpo":
        return sums.sum() / (live.sum() * 12)
    if kind == "dapo":
        return sums.sum() / lengths.sum()
    parts = [sums[rows].sum() / lengths[rows].sum() * live[rows].sum() for rows in batches if live[rows].any()]
    return torch.stack(parts).sum() / live.sum()  # bnpo: of each micro-batch the mean over its tokens


def split(sampled: SampledRollout, sizes: list[int], g: int) -> SampledRollout:
    """The same rollout, its prompts in micro-batches of these sizes."""
    prompts = [prompt for batch in sampled.batches for prompt in batch.prompts]
    indices = [index for some in sampled.indices for index in some]
    batches, parted, start = [], [], 0
    for size in sizes:
        batches.append(MicroBatch(prompts[start : start + size], slice(start * g, (start + size) * g), g))
        parted.append(indices[start : start + size])
        start += size
    return SampledRollout(parted, batches, copy.deepcopy(sampled.tensors), sampled.live.clone(), [])


@pytest.mark.parametrize("sizes", [[3], [1, 2]], ids=str)
@pytest.mark.parametrize("dead", [[], [1], [0, 2], [0, 1, 2]], ids=lambda dead: f"dead{dead}")
def test_every_live_completion_counts_the_same_however_prompts_are_batched(request, demo_dir, sizes, dead):
    trainer, sampled, logps = rolled(request, demo_dir)
    g = trainer.num_generations
    sampled = split(sampled, sizes, g)
    for group in dead:
        sampled.live[group * g : group * g + g] = False
    trainer.loss_type, trainer.args.steps_per_generation = "dapo", len(sizes)
    before = dict(sampled.tensors)
    # Of a group without loss a token may have been as unlikely as this: exp(0 + 200) is infinite.
    sampled.tensors["old_per_token_logps"] = before["old_per_token_logps"].masked_fill(~sampled.live[:, None], -200.0)
    trainer._finish(sampled)
    rollout = Rollout(sampled.indices, [[{}] * size for size in sizes])
    trainer._sampled = trainer._sampled_of = None
    trainer._sampled, trainer._sampled_of = sampled, rollout
    trainer._window = [MicroStep(rollout, at) for at in range(len(sizes))]
    for kind in ("grpo", "dr_grpo", "dapo", "bnpo"):
        trainer.loss_type = kind
        trainer.policy.counts.clear()
        loss, found = loss_and_gradients(trainer, [trainer._prepare_inputs(step) for step in trainer._window])
        live = [sampled.live[batch.rows][::g].sum() for batch in sampled.batches]
        assert trainer.policy.counts["prompt/passes"] == sum(max(1, int(count)) for count in live)
        if len(dead) == 3:
            assert loss == 0 and not found.any(), kind
            continue
        trainer.model.zero_grad()
        wanted = loss_by_hand(kind, logps, before, sampled.live, [batch.rows for batch in sampled.batches])
        assert abs(loss - wanted) <= 1e-5 * max(abs(wanted), 0.1), kind
        if kind in ("grpo", "bnpo"):
            wanted.backward(retain_graph=True)
            theirs = gradients(trainer.model)
            assert (found - theirs).norm() <= 3e-5 * theirs.norm(), kind


_rolled: dict[str, Any] = {}


def rolled(request, demo_dir) -> tuple[VideoGRPOTrainer, SampledRollout, torch.Tensor]:
    """A trainer, a rollout of three prompts, and log-probs of its completions under weights that moved since."""
    if not _rolled:
        out = request.getfixturevalue("tmp_path_factory").mktemp("rolled") / "run"
        words = ("rl.num_iterations=2", "trainer.per_device_train_batch_size=3", "rl.num_generations=3")
        trainer = build(overrides(demo_dir, out, *words))
        shift(trainer, seed=1)
        trainer.generation_config.temperature = 2.0
        items = [trainer.prompts[index] for index in (0, 5, 9)]
        for seed in range(20):
            torch.manual_seed(seed)
            sampled = trainer._sample_and_score([[0, 5, 9]], [items])
            lengths = set(sampled.tensors["completion_mask"].sum(1).tolist())
            if len(lengths) > 2:
                break
        assert len(lengths) > 2
        sampled.tensors["advantages"] = torch.randn(len(sampled.live))
        shift(trainer, seed=2)
        ids, mask = sampled.tensors["completion_ids"], sampled.tensors["completion_mask"]
        trainer._current_batches = sampled.batches
        logps, _, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, ids.shape[1])
        _rolled["it"] = trainer, sampled, logps
    return _rolled["it"]


def test_a_rollout_is_trained_on_twice_in_several_steps(trained):
    trainer = trained("lora", "rl.num_iterations=2", "rl.steps_per_generation=2")
    rollouts = []
    for at in range(4):
        (inputs,) = window(trainer)
        rollouts.append(trainer._sampled_of)
        assert inputs["completion_ids"].shape[0] == 2 * trainer.num_generations
        now = log_probs(trainer, trainer.model, [inputs["batch"]], inputs)
        if at < 2:
            assert_close(now, inputs["old_per_token_logps"])
    assert all(one is rollouts[0] for one in rollouts)
    window(trainer)
    assert trainer._sampled_of is not rollouts[0]


def test_the_trainer_never_lets_pixels_be_written(trained, qwen3_vl):
    trainer = trained("full")
    never = set(vision_token_ids(qwen3_vl.processor))
    with torch.no_grad():
        weight = trainer.policy.plain.lm_head.weight
        mean, apart = weight.mean(0), 50 * torch.randn(weight.shape[1], generator=torch.Generator().manual_seed(0))
        for at, token in enumerate(sorted(never)):
            # In both directions: whatever the state, one of them is the likeliest token by far.
            weight[token] = mean + (apart if at % 2 else -apart)
    (inputs,) = window(trainer)
    assert not set(inputs["completion_ids"].flatten().tolist()) & never
    trainer.generation_config.suppress_tokens = None
    trainer.engine = ENGINES["transformers"](trainer)
    (inputs,) = window(trainer)
    assert set(inputs["completion_ids"].flatten().tolist()) & never


def test_a_clip_asked_about_twice_is_encoded_once_but_not_taken_for_one_of_another_shape(trained):
    trainer = trained("lora")
    first, second = (trainer.prompts[index].features for index in (0, 1))
    times, height, width = first["video_grid_thw"][0].tolist()
    assert width % 4 == 0
    flat = torch.zeros_like(first["pixel_values_videos"])
    wide = first | {"pixel_values_videos": flat}
    tall = wide | {"video_grid_thw": torch.tensor([[times, 2 * height, width // 2]])}
    prompts = trainer.policy.prompts([first, wide, second, tall], [6.0] * 4)
    assert trainer.policy.counts["vision/encoder_calls"] == 3
    assert prompts[0].encoded is prompts[2].encoded
    assert not torch.allclose(prompts[1].encoded, prompts[3].encoded)


@pytest.mark.parametrize("way", ["lora", "vision"])
def test_prompts_about_a_clip_run_it_once_and_get_the_loss_and_gradients_of_each_alone(demo_dir, tmp_path, way):
    words = ["lora.r=4", "batching.share_video=true", "trainer.per_device_train_batch_size=6"]
    trainer = build(overrides(demo_dir, tmp_path, *words, *(["parts.vision=lora"] if way == "vision" else [])))
    shift(trainer, seed=5)
    (inputs,) = window(trainer)
    prompts = inputs["batch"].prompts
    clips = {id(prompt.shown): prompt.common for prompt in prompts}
    assert 1 < len(clips) <= 3 and any(clips.values())
    trainer.policy.counts.clear()
    shared = loss_and_gradients(trainer, [inputs])
    counts = trainer.policy.counts.copy()
    assert counts["vision/encoder_calls"] == (len(clips) if way == "vision" else 0)
    assert counts["prompt/passes"] == 6
    alone = replace(inputs["batch"], prompts=[replace(prompt, common=0) for prompt in prompts])
    trainer.policy.counts.clear()
    apart = loss_and_gradients(trainer, [inputs | {"batch": alone}])
    for found, wanted in zip(shared, apart, strict=True):
        assert_close(found, wanted)
    again = sum(prompt.common for prompt in prompts) - sum(clips.values())
    assert trainer.policy.counts["prompt/tokens"] - counts["prompt/tokens"] == again > 0


@torch.no_grad()
def test_a_group_that_took_the_place_of_a_dead_one_brings_its_prompt_along(trained):
    words = ("rl.num_iterations=2", "trainer.per_device_train_batch_size=4", "curriculum=dapo")
    reward = "rewards.terms=[{name: temporal_iou, threshold: 0.5, binary: true}]"  # many groups get one and the same
    for seed in range(8):
        trainer = trained("lora", *words, reward)
        torch.manual_seed(seed)
        (inputs,) = window(trainer)
        sampled, planned = trainer._sampled, trainer._sampled_of.indices[0]
        if sampled.indices[0] != planned:
            break
    assert sampled.indices[0] != planned  # a group was replaced
    g = trainer.num_generations
    wanted = plain_log_probs(trainer.model, trainer, sampled.indices[0], inputs)
    assert_close(inputs["old_per_token_logps"] * inputs["completion_mask"], wanted, 2e-5)
    assert_close(log_probs(trainer, trainer.model, [inputs["batch"]], inputs), wanted, 2e-5)
    groups = sampled.live.view(-1, g)
    assert (groups.all(1) | ~groups.any(1)).all() and groups.any()
    assert torch.equal(inputs["advantages"].view(-1, g).abs().max(1).values > 0, groups.any(1))
    assert trainer.record.met.sum() > len(planned) and trainer.record.met.sum() % len(planned) == 0


def test_selective_checkpointing_holds_in_the_loss_although_sampling_switches_all_layers(demo_dir, tmp_path):
    trainer = build(overrides(demo_dir, tmp_path, "trainer.gradient_checkpointing=selective"))
    trainer.model.gradient_checkpointing_enable(trainer.args.gradient_checkpointing_kwargs)
    layers = [*plain_model(trainer.model).model.language_model.layers]
    seen: list[tuple[bool, list[bool]]] = []

    def note(*_: Any) -> None:
        seen.append((torch.is_grad_enabled(), [layer.gradient_checkpointing for layer in layers]))

    layers[0].register_forward_pre_hook(note)
    steps, _ = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), 1, trainer.args.device)
    trainer.current_gradient_accumulation_steps = 1
    trainer.training_step(trainer.model, steps[0])
    half = len(layers) // 2
    assert not seen[0][0]  # sampled within the step
    assert next(on for trains, on in seen if trains) == [True] * half + [False] * (len(layers) - half)
