"""The section of gpu.py that shows that packing and shared prompts change no result: losses, gradients, greedy tokens.

In bfloat16 two ways of one sum differ by rounding, however right both are. So each is held against the plain way in
float32 on the CPU, with the same weights: what is right is as far from it as the plain way is.
"""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from gpu_shapes import Bench, random_clip
from gpu_training import settings, sft_trainer
from transformers import AutoModelForImageTextToText, GenerationConfig
from trl.trainer.utils import add_fused_lm_head

from vtg.data.encoding import vision_token_ids
from vtg.data.layout import ATTENTIONS
from vtg.decoding.engine import DecodingEngine
from vtg.decoding.prompt_sequence import Prompt
from vtg.decoding.sampling import sample
from vtg.decoding.token_choice import Sampling
from vtg.demo.tiny_model import TINY_QWEN3_VL
from vtg.models.patch_embed import project_patches_by_matmul
from vtg.training.rl.policy import Policy
from vtg.training.rl.rollout_batch import MicroBatch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

# Clips of unlike lengths, so that padding and packing have something to do.
FRAMES = (4, 10, 16)
SIZE = (64, 64)

GROUP, COMPLETION = 3, 12
ANSWER_TOKENS = 16

# Float32 sums of the same numbers in another order agree to 1e-6 on a CPU; a GPU's kernels sum in shorter pieces.
FLOAT32_APART = 1e-4
# As far as the plain way from float32, but for what chance adds to either; a wrong mask is further by an order.
BFLOAT16_RATIO = 2.0

# An answer whose next tokens are all but equally likely may go another way on another machine.
SAME_TOKENS = 0.8

# A weight whose gradient is next to nothing has nothing but rounding in it: no smaller norm than this share counts.
SMALLEST_NORM = 0.01


@dataclass(frozen=True)
class Gradients:
    """A loss and its gradients by parameter, in float32 on the CPU."""

    loss: float
    by_name: dict[str, torch.Tensor]

    @classmethod
    def of(cls, loss: torch.Tensor, model: Any) -> "Gradients":
        loss.backward()
        named = ((name, one.grad) for name, one in model.named_parameters() if one.grad is not None)
        return cls(float(loss), {name: grad.float().cpu() for name, grad in named})

    @cached_property
    def norm(self) -> float:
        return sum(float(one.square().sum()) for one in self.by_name.values()) ** 0.5


def equality(bench: Bench, found: dict[str, Any]) -> None:
    """Packed beside padded, shared beside repeated, and decoded tokens, of two models in two types."""
    models = {"tiny": _tiny(), "random": bench.model("small").cpu()}
    compare_ways(bench, models, found)
    for dtype_name, dtype in DTYPES.items():
        if dtype != torch.float32 and not bench.reaches(found, f"decoded tokens, {dtype_name}"):
            continue
        same = [_greedy(bench, model, dtype) for model in models.values()]
        suffix = "" if dtype == torch.float32 else f"_{dtype_name}"
        found[f"decode_tokens{suffix}"] = [sum(pair[at] for pair in same) for at in (0, 1)]
    _check(found)


def compare_ways(
    bench: Bench,
    models: dict[str, Any],
    found: dict[str, Any],
    *,
    reference: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Fills `found` with the distances of losses and gradients, packed to padded and shared to repeated.

    Args:
        models: in float32 on the CPU; their weights are rounded to bfloat16 in place.
        reference: entered each time the plain way runs in float32 on the CPU.
    """
    for model in models.values():
        # The same weights in both types: otherwise their rounding alone would set float32 and bfloat16 apart.
        for parameter in model.parameters():
            parameter.data = parameter.data.bfloat16().float()
    found |= {"packed": {}, "shared": {}}
    for name, model in models.items():
        if not bench.reaches(found, name):
            continue
        for key, way in (("packed", _packed), ("shared", _shared)):
            with reference():
                wanted = way(bench, model, False, torch.float32, on_gpu=False)
            for dtype_name, dtype in DTYPES.items():
                theirs = way(bench, model, False, dtype, on_gpu=bench.on_gpu)
                for kernel in ATTENTIONS:
                    ours = way(bench, model, True, dtype, on_gpu=bench.on_gpu, attention=kernel)
                    found[key][f"{name}, {dtype_name}, {kernel}"] = _distances(ours, theirs, wanted)


def _tiny() -> Any:
    model = AutoModelForImageTextToText.from_pretrained(TINY_QWEN3_VL, dtype=torch.float32, attn_implementation="sdpa")
    project_patches_by_matmul(model)
    return model


def _trainer(bench: Bench, model: Any, dtype: torch.dtype, *, on_gpu: bool, **more: Any) -> Any:
    """SFT of all of the language model, on one batch of clips of unlike lengths."""
    config = settings(bench, rows=len(FRAMES), lora=False, checkpointing="none", dtype=dtype, on_gpu=on_gpu, **more)
    dataset = bench.dataset(FRAMES, training=True, clip=random_clip(max(FRAMES), SIZE))
    return sft_trainer(bench, config, dataset, _copy(model, "cuda" if on_gpu else "cpu", dtype))


def _copy(model: Any, device: str, dtype: torch.dtype) -> Any:
    own = copy.deepcopy(model).to(device)
    # Parameters alone, as loading does: `to` would round the frequencies of the rotary positions as well.
    for parameter in own.parameters():
        parameter.data = parameter.data.to(dtype)
    return own


def _packed(bench: Bench, model: Any, packing: bool, dtype: torch.dtype, **more: Any) -> Gradients:
    trainer = _trainer(bench, model, dtype, packing=packing, **more)
    inputs = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    with trainer.compute_loss_context_manager():
        loss = trainer.compute_loss(trainer.model, inputs)
    return Gradients.of(loss, trainer.model)


def _shared(bench: Bench, model: Any, shares: bool, dtype: torch.dtype, **more: Any) -> Gradients:
    trainer = _trainer(bench, model, dtype, **more)
    add_fused_lm_head(trainer.model, outputs=("log_probs", "entropy"))
    pad_token_id = bench.processor.tokenizer.pad_token_id
    policy = Policy(
        trainer.model,
        None,
        accelerator=trainer.accelerator,
        args=trainer.args,
        pad_token_id=pad_token_id,
        shares=shares,
    )
    items = _prompts(bench)
    prompts = policy.prompts([item.features for item in items], [item.sample.duration_s for item in items])
    rows = GROUP * len(prompts)
    random = torch.Generator().manual_seed(0)
    # Byte tokens of text: none of them means an end or a frame.
    ids = torch.randint(20, 250, (rows, COMPLETION), generator=random).to(trainer.args.device)
    logps, entropies = policy.log_probs(
        trainer.model, MicroBatch(prompts, slice(0, rows), GROUP), ids, torch.ones_like(ids)
    )
    # No two tokens weigh the same, so that no mistake is hidden by another.
    weights = torch.linspace(-1.0, 2.0, logps.numel(), device=logps.device).view_as(logps)
    return Gradients.of((weights * (logps.float() - 0.3 * entropies.float())).mean(), trainer.model)


def _prompts(bench: Bench) -> list[Any]:
    dataset = bench.dataset(FRAMES, training=False, clip=random_clip(max(FRAMES), SIZE))
    return [dataset[at] for at in range(len(dataset))]


def _greedy(bench: Bench, model: Any, dtype: torch.dtype) -> tuple[int, int]:
    """How many greedy tokens of the engine on the device are those of `generate` in float32 on the CPU, of how many."""
    end = bench.processor.tokenizer.eos_token_id
    config = GenerationConfig(
        max_new_tokens=ANSWER_TOKENS,
        eos_token_id=end,
        pad_token_id=end,
        suppress_tokens=vision_token_ids(bench.processor),
    )
    own, known = _copy(model, bench.device, dtype).eval(), Sampling.of(config)
    assert known is not None
    items = [item.features for item in _prompts(bench)]
    wanted = sample(model.eval(), [Prompt(features) for features in items], config, n=1, pad_token_id=end)
    found = DecodingEngine(own, known).complete([_prompt(own, features) for features in items])
    pairs = [pair for row, [got] in zip(wanted, found, strict=True) for pair in zip(row, got.tokens, strict=False)]
    return sum(a == b for a, b in pairs), sum(map(len, wanted))


def _prompt(model: Any, features: dict[str, torch.Tensor]) -> Prompt:
    inputs = {key: value.to(model.device) for key, value in features.items()}
    inputs["pixel_values_videos"] = inputs["pixel_values_videos"].to(model.dtype)
    return Prompt(inputs)


def _distances(ours: Gradients, theirs: Gradients, wanted: Gradients) -> dict[str, float]:
    """Of packed or shared to plain, and of each to the plain way in float32; relative."""
    assert ours.by_name.keys() == theirs.by_name.keys() == wanted.by_name.keys()
    found = {}
    for name, one, other in (
        ("apart", ours, theirs),
        ("from float32", ours, wanted),
        ("plain from float32", theirs, wanted),
    ):
        found[f"loss {name}"] = abs(one.loss - other.loss) / abs(other.loss)
        found[f"gradient {name}"] = _gap(one, other) / other.norm
        worst = [
            float((one.by_name[key] - value).norm()) / max(float(value.norm()), SMALLEST_NORM * other.norm)
            for key, value in other.by_name.items()
        ]
        found[f"worst weight {name}"] = float(np.max(worst))
    return found


def _gap(one: Gradients, other: Gradients) -> float:
    return sum(float((one.by_name[key] - value).square().sum()) for key, value in other.by_name.items()) ** 0.5


def _check(found: dict[str, Any]) -> None:
    """Raises AssertionError naming the comparisons that are not equal."""
    wrong = unequal_ways(found)
    same, total = found["decode_tokens"]
    if same < SAME_TOKENS * total:
        wrong.append(f"float32: {same} of {total} greedy tokens are the same")
    assert not wrong, "; ".join(wrong)


def unequal_ways(found: dict[str, Any], *, float32_apart: float = FLOAT32_APART) -> list[str]:
    """The comparisons of `compare_ways` in which gradients differ by more than rounding."""
    wrong = []
    for key in ("packed", "shared"):
        for name, one in found[key].items():
            if "float32" in name and one["gradient apart"] > float32_apart:
                wrong.append(f"{key}, {name}: gradients {one['gradient apart']:.1e} apart")
            elif one["gradient from float32"] > BFLOAT16_RATIO * one["gradient plain from float32"] + float32_apart:
                wrong.append(f"{key}, {name}: {one['gradient from float32']:.1e} from float32")
    return wrong
