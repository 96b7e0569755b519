"""GRPO on constrained rollouts: log-probs of policy and reference are those of the distribution sampled from."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from rl_runs import build, compose, overrides
from test_grpo_trainer import KL, assert_close, shift, window

from vtg.data.padding import collate
from vtg.errors import ConfigError
from vtg.tasks.answer import Status
from vtg.training.model_check import check_model
from vtg.training.rl.constrained_policy import masked_log_probs

CONSTRAINED = ("task.constrained=true", "rl.max_completion_length=30", "evaluation.max_new_tokens=30")
TOKENS = ("task=tokens", "task.num_bins=20")


def masked_by_hand(trainer: Any, model: Any, indices: list[int], tensors: dict[str, Any]) -> torch.Tensor:
    """(rows, C): every completion behind its prompt in a forward of its own, without the logits of other tokens."""
    constraint, found = trainer.policy.constraint, torch.zeros(tensors["completion_ids"].shape)
    for row, index in enumerate(index for index in indices for _ in range(trainer.num_generations)):
        item = trainer.prompts[index]
        features, length = item.features, int(tensors["completion_mask"][row].sum())
        own = tensors["completion_ids"][row, :length]
        text = {key: torch.cat([features[key], torch.zeros_like(own)]) for key in ("mm_token_type_ids", "labels")}
        text["input_ids"] = torch.cat([features["input_ids"], own])
        text["attention_mask"] = torch.ones_like(text["input_ids"])
        after = features["position_ids"][:, -1:] + 1 + torch.arange(length)
        text["position_ids"] = torch.cat([features["position_ids"], after], dim=1)
        batch = collate([features | text], pad_token_id=0)
        del batch["labels"]
        logits = model(**batch, use_cache=False).logits[0, -length - 1 : -1] / trainer.temperature
        grammar = constraint.grammar(item.sample.duration_s)
        for place, state in enumerate(constraint.states(grammar, own.tolist())):
            ids = list(constraint.allowed(grammar, state, room=30 - place))
            assert int(own[place]) in ids
            found[row, place] = logits[place, ids].log_softmax(-1)[ids.index(int(own[place]))]
    return found


@torch.no_grad()
@pytest.mark.parametrize(
    "words",
    [
        ("rollout.share_prompt=false",),
        TOKENS,
        pytest.param((), marks=pytest.mark.slow),
        pytest.param((*TOKENS, "lora=none"), marks=pytest.mark.slow),
        pytest.param((*TOKENS, "task.moments=set", "lora=qlora", "lora.r=4"), marks=pytest.mark.soak),
    ],
    ids=lambda words: " ".join(words),
)
def test_log_probs_are_those_of_what_was_sampled_in_policy_and_reference_alike(demo_dir, tmp_path, words):
    if "lora=qlora" in words:
        pytest.importorskip("bitsandbytes")
    trainer = build(overrides(demo_dir, tmp_path, *CONSTRAINED, *KL, *words))
    shift(trainer, seed=1)
    torch.manual_seed(21)
    (inputs,) = window(trainer)
    sampled, mask = trainer._sampled, inputs["completion_mask"]
    for at, index in enumerate(index for index in sampled.indices[0] for _ in range(trainer.num_generations)):
        text = trainer.processing_class.tokenizer.decode(inputs["completion_ids"][at], skip_special_tokens=True)
        answer = trainer.prompts.task.parse(text, duration_s=trainer.prompts.samples[index].duration_s)
        assert answer.status == Status.OK or (answer.status == Status.NONE and "task.moments=set" in words)
    wanted = masked_by_hand(trainer, trainer.model, sampled.indices[0], inputs)
    assert wanted.exp().min() < 0.9  # there was something to choose
    assert_close(inputs["old_per_token_logps"] * mask, wanted, 3e-5)
    trainer._current_batches = [inputs["batch"]]
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    more = {"logits_to_keep": mask.shape[1], "compute_entropy": True}
    every = torch.cat([torch.ones_like(inputs["prompt_ids"]), mask], dim=1)
    own, entropy, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, every, **more)
    assert_close(own * mask, wanted, 3e-5)
    assert entropy.min() >= 0
    trained = [name for name, one in trainer.model.named_parameters() if one.requires_grad and "tokens_delta" in name]
    assert len(trained) == (words[:2] == TOKENS and "lora=none" not in words)
    adapted = trainer.ref_model is None
    assert adapted == ("lora=none" not in words)
    with trainer.model.disable_adapter() if adapted else nullcontext():
        reference = masked_by_hand(trainer, trainer.ref_model or trainer.model, sampled.indices[0], inputs)
    assert_close(inputs["ref_per_token_logps"] * mask, reference, 3e-5)
    assert (reference - wanted).abs().max() > 1e-3


def test_masked_log_probs_are_a_distribution_and_their_gradient_is_that_of_differences():
    torch.manual_seed(0)
    logits = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    allowed = torch.tensor([[1, 1, 0, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0], [0] * 7], dtype=torch.bool)
    every = torch.stack([masked_log_probs(logits, torch.full((3,), at), allowed)[0] for at in range(7)], dim=1)
    torch.testing.assert_close(every.exp()[:2].sum(1), torch.ones(2, dtype=torch.float64))
    assert every[2].abs().max() == 0 and every[1, 2] == 0
    labels = torch.tensor([3, 2, 0])
    assert torch.autograd.gradcheck(lambda given: masked_log_probs(given, labels, allowed), (logits,))
    masked_log_probs(logits, labels, allowed)[0].sum().backward()
    assert logits.grad is not None and logits.grad[~allowed].abs().max() == 0 and logits.grad[0].abs().max() > 0


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["task.think=true", "task.constrained=true"],
            "task.constrained = true: what a model thinks before it answers (task.think) can be any text; set "
            "task.constrained=false, or task.think=false",
        ),
        (
            ["task.constrained=true", "rollout.engine=vllm"],
            "rollout.engine = 'vllm': it samples what task.constrained does not allow, and its log-probs are of all "
            "tokens; set rollout.engine=transformers, or task.constrained=false",
        ),
        (
            ["task.constrained=true", "evaluation.max_new_tokens=30"],
            "rl.max_completion_length = 12: with task.constrained an answer needs room for up to 27 tokens; set "
            "rl.max_completion_length=27 or more, or task.constrained=false",
        ),
    ],
)
def test_what_cannot_be_constrained_is_said_before_weights_load(demo_dir, tmp_path, words, text):
    with pytest.raises(ConfigError) as caught:
        check_model(compose(overrides(demo_dir, tmp_path, *words)))
    assert str(caught.value) == text


@torch.no_grad()
def test_an_adapter_with_temporal_tokens_is_its_own_reference(demo_dir, tmp_path):
    first = build(overrides(demo_dir, tmp_path / "first", *TOKENS))
    shift(first, seed=1)
    first.save_model(str(tmp_path / "adapter"))
    words = (*TOKENS, *KL, "rl.max_completion_length=6", f"model.path={tmp_path / 'adapter'}")
    trainer = build(overrides(demo_dir, tmp_path / "second", *words))
    torch.manual_seed(21)
    (inputs,) = window(trainer)  # unconstrained, through TRL's own head
    mask = inputs["completion_mask"]
    assert_close(inputs["ref_per_token_logps"] * mask, inputs["old_per_token_logps"] * mask)
