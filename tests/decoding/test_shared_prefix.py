"""Completions that share their prompt get the log-probs and the gradients they get alone, each in a plain forward of
its own, as supervised training encodes it: prompt and answer in one conversation."""

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface
from trl.trainer.utils import add_fused_lm_head

from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import IGNORE_INDEX, Features, encode, patch_factor
from vtg.data.padding import collate
from vtg.decoding.prompt_sequence import Prompt, Sequenced, beginning_alike
from vtg.decoding.shared_prefix import (
    accept_encoded_videos,
    encode_video,
    is_sharing,
    repeated_batch,
    share_prompts,
    shared_batch,
)
from vtg.models.attention import attention_of
from vtg.models.plain_model import plain_model
from vtg.tasks.span_task import SpanTask

TASK = SpanTask(TaskConfig())
ANSWERS = [[(2.0, 3.5)], [(0.5, 12.0)], [(11.5, 128.25)], [(1.0, 2.0)], [(100.0, 101.5)]]
ANSWERS.append([(at, at + 0.5) for at in range(10, 60, 4)])
"""Of different lengths in tokens; the last longer than some prompts."""

ASKED = {
    "dog": ("steady", "a man runs away from a dog"),
    "circle": ("steady", "a red circle"),
    "short": ("short", "a"),
    "long": ("long", "someone sits down, then stands up again"),
}
BATCHES = {
    "one prompt": {"dog": 4},
    "one completion": {"circle": 1},
    "prompts of different lengths, one clip twice": {"long": 2, "dog": 3, "short": 1, "circle": 5},
    "padding frames": {"short": 3},
    "completions longer than the prompt": {"circle": 6, "short": 6},
}
"""Prompts, each with how many completions it has."""


WAYS = ("shared", "clips shared", "beginnings shared", "repeated")
"""How prompts stand in a batch: each once, their clips once too, and what several completions begin with, without their
padding; or each for every completion."""


@dataclass(frozen=True)
class Question:
    """A prompt; its completions (tokens,); and each of them with its prompt as supervised training encodes them."""

    prompt: Features
    completions: list[torch.Tensor]
    alone: list[Features]


@dataclass(frozen=True)
class Found:
    """log-probs and entropies of all completion tokens one after the other, and gradients by name."""

    logps: torch.Tensor
    entropies: torch.Tensor
    gradients: dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def questions(vlm, make_clip) -> dict[str, Question]:
    factor, tokenizer = patch_factor(vlm.processor), vlm.processor.tokenizer
    clips = {
        "steady": make_clip([0.0, 0.5, 1.0, 1.5], size=(2 * factor, 2 * factor), seed=1),
        "short": replace(make_clip([0.2], size=(factor, factor), seed=2), pad=5),
        "long": make_clip((np.arange(12) * 0.7).tolist(), size=(2 * factor, 3 * factor), seed=3),
    }
    found = {}
    for name, (clip, query) in ASKED.items():

        def encoded(spans, clip=clip, query=query) -> Features:
            return encode(vlm.processor, TASK.conversation(query, duration_s=200.0, spans=spans), clips[clip])

        alone = [encoded(spans) for spans in ANSWERS]
        completions = [one["labels"][one["labels"] != IGNORE_INDEX] for one in alone]
        assert all(one[-1] == tokenizer.convert_tokens_to_ids("<|im_end|>") for one in completions)
        found[name] = Question(encoded(None), completions, alone)
    assert len({len(one) for one in found["dog"].completions}) >= 3
    assert (found["short"].prompt["attention_mask"] == 0).any()
    assert len(found["circle"].completions[5]) > len(found["circle"].prompt["input_ids"])
    return found


def plain_copy(vlm) -> Any:
    model = copy.deepcopy(vlm.model)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    return model


def lora_copy(vlm) -> Any:
    """An adapter with nothing at zero on every linear layer of language model and vision tower."""
    torch.manual_seed(3)
    linear = [
        name
        for name, one in vlm.model.named_modules()
        if isinstance(one, torch.nn.Linear) and "lm_head" not in name and "patch_embed" not in name
    ]
    model = get_peft_model(plain_copy(vlm), LoraConfig(r=4, target_modules=linear, init_lora_weights=False))
    assert all(bool(one.any()) for name, one in model.named_parameters() if "lora_B" in name)
    return model


def checkpointed_copy(vlm) -> Any:
    model = plain_copy(vlm)
    checkpoint_activations(model)
    return model.train()


def checkpoint_activations(model: Any) -> None:
    named = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    named({"use_reentrant": False})
    states = [vars(one) for one in model.modules()]
    assert any(one.get("activation_checkpointing") or one.get("gradient_checkpointing") for one in states)


MODELS = {"all weights": plain_copy, "lora": lora_copy, "gradient checkpointing": checkpointed_copy}


def weights_of(tokens: int) -> torch.Tensor:
    """What each token's log-prob and entropy count in the loss: no two the same, so that none can hide."""
    return torch.linspace(-1.0, 2.0, tokens)


def gradients_of(model: Any, logps: torch.Tensor, entropies: torch.Tensor) -> dict[str, torch.Tensor]:
    loss = (weights_of(len(logps)) * (logps - 0.3 * entropies)).sum()
    names, parameters = zip(*((n, p) for n, p in model.named_parameters() if p.requires_grad), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def found_alone(model: Any, questions: dict[str, Question], groups: dict[str, int], *, grads: bool = True) -> Found:
    """Every completion in a forward of its own, of logits as the plain model gives them."""
    logps, entropies = [], []
    for name, n in groups.items():
        for row in questions[name].alone[:n]:
            batch = collate([row], pad_token_id=0)
            labels = batch.pop("labels")[0, 1:]
            logits = model(**batch, use_cache=False).logits[0, :-1][labels != IGNORE_INDEX]
            spread = logits.float().log_softmax(-1)
            logps.append(spread.gather(1, labels[labels != IGNORE_INDEX, None])[:, 0])
            entropies.append(-(spread.exp() * spread).sum(-1))
    joined = torch.cat(logps), torch.cat(entropies)
    return Found(*(one.detach() for one in joined), gradients_of(model, *joined) if grads else {})


def padded(question: Question, n: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Its first n completions (n, length) with token 7 as padding, and their mask."""
    own = pad_sequence(
        [*question.completions[:n], torch.zeros(length, dtype=torch.int64)], batch_first=True, padding_value=7
    )
    mask = pad_sequence([torch.ones(len(one), dtype=torch.int64) for one in question.completions[:n]], batch_first=True)
    return own[:n], torch.nn.functional.pad(mask, (0, length - mask.shape[1]))


def prompts_of(
    model: Any, questions: dict[str, Question], groups: dict[str, int], *, encoded: bool, alike: bool
) -> list[Prompt]:
    """`alike`: those about one clip know what they have in common."""
    plain, clips, prompts = plain_model(model), dict[str, Prompt](), []
    for name in groups:
        features = questions[name].prompt
        first = clips.get(ASKED[name][0]) if alike else None
        if first is None:
            first = clips[ASKED[name][0]] = Prompt(features, encode_video(plain, features) if encoded else None)
        prompts.append(Prompt(features | {"pixel_values_videos": first.features["pixel_values_videos"]}, first.encoded))
    return beginning_alike(prompts) if alike else prompts


def inputs_of(
    model: Any, questions: dict[str, Question], groups: dict[str, int], *, way: str, encoded: bool = False
) -> tuple[dict[str, Any], torch.Tensor]:
    """What the fused head takes, and the mask of the completions; their padding is 2 tokens at least.

    `way`: one of WAYS.
    """
    length = 2 + max(len(one) for name, n in groups.items() for one in questions[name].completions[:n])
    pairs = [padded(questions[name], n, length) for name, n in groups.items()]
    own, real = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    prompts = prompts_of(model, questions, groups, encoded=encoded, alike=way in WAYS[1:3])
    mask = torch.cat(real)
    labels = torch.cat(own).masked_fill(mask == 0, IGNORE_INDEX)
    if way == "beginnings shared":
        return shared_batch(prompts, own, real, tree=True) | {"shift_labels": labels}, mask
    if way != "repeated":
        return shared_batch(prompts, own) | {"shift_labels": labels}, mask
    batch = repeated_batch(prompts, own, real, pad_token_id=0)
    before = batch["input_ids"].shape[1] - length
    return batch | {"labels": torch.nn.functional.pad(labels, (before, 0), value=IGNORE_INDEX)}, mask


def found_together(
    model: Any,
    questions: dict[str, Question],
    groups: dict[str, int],
    *,
    way: str,
    encoded: bool = False,
    grads: bool = True,
) -> Found:
    """All completions in one forward through the fused head, as the trainer takes them."""
    inputs, mask = inputs_of(model, questions, groups, way=way, encoded=encoded)
    out = model(**inputs, fused_lm_head=True)
    logps, entropies = (one[:, -mask.shape[1] :][mask.bool()] for one in (out.log_probs, out.entropy))
    return Found(logps.detach(), entropies.detach(), gradients_of(model, logps, entropies) if grads else {})


def assert_same(found: Found, wanted: Found, *, parameters: Sequence[str] | None = None) -> None:
    """Log-probs and entropies to 1e-5 of their scale; gradients weight by weight, so no large one hides a small."""
    for ours, theirs in ((found.logps, wanted.logps), (found.entropies, wanted.entropies)):
        assert ours.shape == theirs.shape
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    names = wanted.gradients.keys() if parameters is None else parameters
    for name in names:
        theirs = wanted.gradients[name]
        assert theirs.norm() > 0, name
        assert (found.gradients[name] - theirs).norm() <= 3e-5 * theirs.norm(), name
    ours, theirs = (torch.cat([one.gradients[n].flatten() for n in names]) for one in (found, wanted))
    assert (ours - theirs).norm() <= 1e-5 * theirs.norm()


@pytest.mark.parametrize("kind", MODELS)
def test_log_probs_and_gradients_are_those_of_every_completion_alone(vlm, questions, kind):
    model = MODELS[kind](vlm)
    batches = BATCHES if kind == "lora" else {label: BATCHES[label] for label in list(BATCHES)[2:]}
    alone = {label: found_alone(model, questions, groups) for label, groups in batches.items()}
    share_prompts(model.get_base_model() if kind == "lora" else model)
    for label, groups in batches.items():
        for way in WAYS if kind == "lora" else WAYS[:3]:
            assert_same(found_together(model, questions, groups, way=way), alone[label])
    unlike, one = (alone[label].gradients for label in list(BATCHES)[2:4])
    assert sum("visual." in name for name in one) > 10  # the tower too, through the shared prompt
    assert sum((unlike[n] - one[n]).norm() for n in one) > 0.1 * sum(x.norm() for x in one.values())


def test_an_encoded_video_stands_in_for_its_pixels(vlm, questions):
    model = lora_copy(vlm).train()
    checkpoint_activations(model)
    for name, parameter in model.named_parameters():
        if "visual." in name:
            parameter.requires_grad_(False)
    groups = BATCHES["prompts of different lengths, one clip twice"]
    wanted = found_alone(model, questions, groups)
    share_prompts(model.get_base_model())
    for way in WAYS:
        assert_same(found_together(model, questions, groups, way=way, encoded=True), wanted)
    accepting = lora_copy(vlm)  # a model that shares nothing takes encoded videos too
    accept_encoded_videos(accepting.get_base_model())
    with torch.no_grad():
        again = found_together(accepting, questions, groups, way="repeated", encoded=True, grads=False)
    assert (again.logps - wanted.logps).abs().max() <= 1e-5 * wanted.logps.abs().max()


@torch.no_grad()
def test_another_video_changes_what_its_own_completions_are_worth_and_no_others(vlm, questions):
    model = plain_copy(vlm)
    share_prompts(model)
    groups = {"long": 2, "dog": 3}
    own = sum(len(one) for one in questions["long"].completions[:2])
    for encoded in (False, True):
        before = found_together(model, questions, groups, way="shared", encoded=encoded, grads=False).logps
        long = questions["long"]
        pixels = long.prompt["pixel_values_videos"]
        other = questions | {"long": replace(long, prompt=long.prompt | {"pixel_values_videos": pixels.flip(0)})}
        after = found_together(model, other, groups, way="shared", encoded=encoded, grads=False).logps
        assert torch.equal(after[own:], before[own:])
        assert (after[:own] - before[:own]).abs().max() > 1e-4


@torch.no_grad()
def test_a_completion_is_blind_to_the_other_completions(vlm, questions):
    model = plain_copy(vlm)
    share_prompts(model)
    inputs, mask = inputs_of(model, questions, {"dog": 3, "short": 2}, way="shared")
    before = model(**inputs, fused_lm_head=True).log_probs
    shared = sum(len(questions[name].prompt["input_ids"]) - 1 for name in ("dog", "short"))
    second = shared + mask.shape[1]
    ids = inputs["input_ids"].clone()
    ids[0, second + 2] += 1  # a token in the middle of the second completion
    after = model(**(inputs | {"input_ids": ids}), fused_lm_head=True).log_probs
    assert torch.equal(after[[0, 2, 3, 4]], before[[0, 2, 3, 4]])
    assert torch.equal(after[1, :2], before[1, :2]) and not torch.equal(after[1, 2], before[1, 2])


@torch.no_grad()
def test_a_plain_call_is_bitwise_what_it_was(vlm, questions):
    model = copy.deepcopy(vlm.model)
    rows = [questions[name].alone[at] for at, name in enumerate(("dog", "short", "long"))]
    batches = [collate(rows, pad_token_id=0, padding_side=side) for side in ("right", "left")] + [
        collate(rows[:1], pad_token_id=0)
    ]
    for batch in batches:
        del batch["labels"]
    prompt = collate([questions["dog"].prompt], pad_token_id=0)
    del prompt["labels"]
    written = {"max_new_tokens": 5, "do_sample": False}

    def outputs() -> list[torch.Tensor]:
        return [*(model(**batch).logits for batch in batches), model.generate(**prompt, **written)]

    before = outputs()
    assert not is_sharing(model)
    share_prompts(model)
    assert is_sharing(model) and attention_of(model) in AttentionInterface()
    assert all(torch.equal(now, was) for now, was in zip(outputs(), before, strict=True))


@contextmanager
def counted(model: Any) -> Iterator[Counter[str]]:
    """Counts tokens through the language model and clips through the vision tower."""
    counts: Counter[str] = Counter()

    def count_tokens(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        counts["tokens"] += kwargs["inputs_embeds"].shape[0] * kwargs["inputs_embeds"].shape[1]

    def count_clips(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        counts["clips"] += len(kwargs["grid_thw"])

    inner = model.model
    hooks = [
        inner.language_model.register_forward_pre_hook(count_tokens, with_kwargs=True),
        inner.visual.register_forward_pre_hook(count_clips, with_kwargs=True),
    ]
    yield counts
    for hook in hooks:
        hook.remove()


@torch.no_grad()
@pytest.mark.parametrize("label", BATCHES)
def test_a_prompt_goes_through_the_language_model_once_and_its_clip_through_the_tower_once(vlm, questions, label):
    model, groups = plain_copy(vlm), BATCHES[label]
    share_prompts(model)
    inputs, mask = inputs_of(model, questions, groups, way="shared")
    repeated, _ = inputs_of(model, questions, groups, way="repeated")
    prompts = [len(questions[name].prompt["input_ids"]) for name in groups]
    with counted(model) as once:
        model(**inputs, fused_lm_head=True)
    assert once["tokens"] == sum(prompts) - len(prompts) + mask.numel()
    assert once["clips"] == len(groups)
    with counted(model) as often:
        model(**repeated, fused_lm_head=True)
    assert often["tokens"] == len(mask) * (max(prompts) + mask.shape[1])
    assert often["clips"] == len(mask)
    with counted(model) as none:
        encoded, _ = inputs_of(model, questions, groups, way="shared", encoded=True)
        assert none["clips"] == len(groups)
        model(**encoded, fused_lm_head=True)
    assert none["clips"] == len(groups)  # encoded before, once; not again in the forward


CLIP_TWICE = "prompts of different lengths, one clip twice"


@torch.no_grad()
def test_a_clip_goes_through_tower_and_language_model_once_for_all_questions_about_it(vlm, questions):
    model, groups = plain_copy(vlm), BATCHES[CLIP_TWICE]
    share_prompts(model)
    prompts = prompts_of(model, questions, groups, encoded=False, alike=True)
    common = dict(zip(groups, (prompt.common for prompt in prompts), strict=True))
    assert common["dog"] == common["circle"] and common["long"] == common["short"] == 0
    ids = [questions[name].prompt["input_ids"].tolist() for name in ("dog", "circle")]
    # All that is alike: past the clip, up to where the questions differ.
    assert ids[0][: common["dog"]] == ids[1][: common["dog"]] and ids[0][common["dog"]] != ids[1][common["dog"]]
    inputs, mask = inputs_of(model, questions, groups, way="clips shared")
    with counted(model) as once:
        model(**inputs, fused_lm_head=True)
    lengths = sum(len(questions[name].prompt["input_ids"]) - 1 for name in groups)
    assert once["tokens"] == lengths - common["dog"] + mask.numel()
    assert once["clips"] == len(groups) - 1
    inputs, mask = inputs_of(model, questions, groups, way="beginnings shared")
    with counted(model) as fewer:
        model(**inputs, fused_lm_head=True)
    together = 0
    for name, n in groups.items():
        own = questions[name].completions[:n]
        beginnings = {tuple(one[:length].tolist()) for one in own for length in range(len(one))}
        shorter = len(beginnings) < len(questions[name].prompt["input_ids"])
        together += shorter
        lengths += len(beginnings) if shorter else sum(map(len, own))
    assert fewer["tokens"] == lengths - common["dog"] < once["tokens"]
    assert together >= 2
    assert fewer["clips"] == len(groups) - 1


@torch.no_grad()
def test_a_question_is_blind_to_the_others_about_its_clip(vlm, questions):
    model = plain_copy(vlm)
    share_prompts(model)
    groups = {"dog": 3, "circle": 2}
    before = found_together(model, questions, groups, way="clips shared", grads=False).logps
    prompt = questions["circle"].prompt
    ids = prompt["input_ids"].clone()
    ids[-6] += 1  # a token of the second question
    other = questions | {"circle": replace(questions["circle"], prompt=prompt | {"input_ids": ids})}
    after = found_together(model, other, groups, way="clips shared", grads=False).logps
    own = sum(len(one) for one in questions["dog"].completions[:3])
    assert (after[:own] - before[:own]).abs().max() <= 1e-5 * before.abs().max()
    assert (after[own:] - before[own:]).abs().max() > 1e-4


def test_prompts_of_other_clips_or_with_padding_have_nothing_in_common(questions):
    dog, circle = (Prompt(questions[name].prompt) for name in ("dog", "circle"))
    assert [prompt.common > 0 for prompt in beginning_alike([dog, circle])] == [True, True]
    flipped = dog.features | {"pixel_values_videos": dog.features["pixel_values_videos"].flip(0)}
    padded_short = Prompt(questions["short"].prompt)
    alone = beginning_alike([dog, Prompt(flipped), padded_short, padded_short])
    assert [prompt.common for prompt in alone] == [0, 0, 0, 0]
    # The same pixels at other times, as those of two trims of a still video: two clips.
    later = replace(dog, features=dog.features | {"input_ids": dog.features["input_ids"].clone()})
    later.features["input_ids"][1] += 1
    four = beginning_alike([dog, later, dog, later])
    assert four[0].shown is four[1].shown and {prompt.common for prompt in four} == {four[0].common} != {0}
    assert four[0].begins_as(four[2]) and not four[0].begins_as(four[1])
    assert Sequenced.of(four).groups == [[0, 2], [1, 3]]
    # The same question twice: one token of it stays each one's own, and the last begins the completions.
    assert {prompt.common for prompt in beginning_alike([dog, dog])} == {len(dog.features["input_ids"]) - 2}


@torch.no_grad()
def test_in_bfloat16_sharing_errs_no_more_than_a_forward_of_its_own(vlm, questions):
    groups = BATCHES["prompts of different lengths, one clip twice"]
    exact = found_alone(vlm.model, questions, groups, grads=False).logps
    model = plain_copy(vlm).to(torch.bfloat16)
    alone = found_alone(model, questions, groups, grads=False).logps
    share_prompts(model)
    shared = found_together(model, questions, groups, way="shared", grads=False).logps
    error = (alone - exact).abs().mean()
    assert 0 < error < 0.2 * exact.abs().mean()
    assert (shared - exact).abs().mean() <= 1.5 * error
