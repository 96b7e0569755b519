"""What samples the completions of GRPO: the model that is trained, or another engine once it was seen to agree with it.

An engine is an entry of `ENGINES`. One that holds a model of its own is compared before training (`check_parity`): the
token ids it reads and the log-probs it finds must be those of the forward that is trained.
"""

import importlib.util
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import torch
from transformers import GenerationConfig
from trl.models.utils import unwrap_model_for_generation
from trl.trainer.grpo_config import GRPOConfig

from vtg.decoding.adapter_merging import merged_for_decoding
from vtg.decoding.constrained import Constraint
from vtg.decoding.engine import DecodingEngine, is_capturable
from vtg.decoding.prompt_sequence import Prompt
from vtg.decoding.sampling import sample
from vtg.decoding.token_choice import Sampling
from vtg.errors import ConfigError, RunError
from vtg.models.loading import load_processor
from vtg.models.plain_model import plain_model
from vtg.training.rl.engine_protocol import Completions, Engine, GreedyCompletion


@dataclass(frozen=True)
class TransformersEngine:
    """The model that is trained, by `DecodingEngine`; by `generate` where that cannot be (`decoder`).

    Attributes:
        in_step: every forward of one rank must be one of all ranks (ZeRO-3).
        key_bytes, compiled_after: as `DecodingEngine` takes them.
    """

    accelerator: Any
    args: GRPOConfig
    config: GenerationConfig
    kwargs: dict[str, Any]
    pad_token_id: int
    shares: bool
    in_step: bool = False
    constraint: Constraint | None = None
    key_bytes: int | None = None
    compiled_after: int | None = None
    name: str = "transformers"
    own_model: bool = False
    _decoders: list[DecodingEngine | None] = field(default_factory=list, init=False)

    def sync(self, model: Any, step: int) -> None:
        """Nothing: the model is the one that is trained."""

    def sample(self, model: Any, prompts: Sequence[Sequence[Prompt]], *, n: int) -> Completions:
        with self._unwrapped(model) as plain:
            decoder = self.decoder(plain)
            if decoder is not None:
                # Of the global generator, whose state a checkpoint holds.
                seed = int(torch.randint(2**62, ()))
                flat = [prompt for batch in prompts for prompt in batch]
                # A row draws by its number, so that completions are the same either way.
                once = flat if self.shares else [prompt for prompt in flat for _ in range(n)]
                every = decoder.complete(once, n=n if self.shares else 1, seed=seed)
                return [completion.tokens for group in every for completion in group], None
            completions: list[list[int]] = []
            # The memory of a micro-batch is planned, that of a whole rollout is not.
            for batch in prompts:
                own = {"n": n, "pad_token_id": self.pad_token_id, "constraint": self.constraint}
                completions += sample(plain, batch, self.config, **own)
        return completions, None

    def answer_greedily(self, model: Any, prompt: Prompt) -> GreedyCompletion:
        with self._unwrapped(model) as plain:
            ends: Any = self.config.eos_token_id
            greedy = Sampling(
                max_new_tokens=self.config.max_new_tokens or 0,
                ends=(ends,) if isinstance(ends, int) else tuple(ends),
                suppressed=tuple(self.config.suppress_tokens or ()),
            )
            [[found]] = DecodingEngine(plain, greedy).complete([prompt])
        return GreedyCompletion(prompt.features["input_ids"].tolist(), found.tokens, found.log_probs)

    def decoder(self, plain: Any) -> DecodingEngine | None:
        """What decodes with `plain`, kept from one rollout to the next for its graphs; None where `generate` must."""
        if not self._decoders:
            sampling = Sampling.of(self.config)
            known = sampling if self.args.ds3_gather_for_generation or not self.in_step else None
            # Weights that are gathered lie elsewhere each time, where a graph does not look.
            own: dict[str, Any] = {"constraint": self.constraint, "graphs": False if self.in_step else None}
            own |= {"key_bytes": self.key_bytes, "compiled_after": self.compiled_after}
            self._decoders.append(DecodingEngine(plain, known, **own) if known else None)
        return self._decoders[0]

    @contextmanager
    def _unwrapped(self, model: Any) -> Iterator[Any]:
        checkpointing: Any = self.args.gradient_checkpointing_kwargs
        plain: Any
        with (
            unwrap_model_for_generation(
                model,
                self.accelerator,
                gather_deepspeed3_params=self.args.ds3_gather_for_generation,
                generation_kwargs=self.kwargs,
                gradient_checkpointing_kwargs=checkpointing,
            ) as plain,
            self.accelerator.autocast(),  # as the loss is computed
            torch.no_grad(),
        ):
            was_training = plain.training
            # Dropout would make the sampled distribution another than the one that is trained.
            plain.eval()
            with merged_for_decoding(plain):
                yield plain
            plain.train(was_training)


def _transformers(trainer: Any) -> Engine:
    key_gib, compiled_after = trainer.rollout_settings.key_gib, trainer.rollout_settings.compiled_after
    if compiled_after is not None and (trainer.policy.in_step or not is_capturable(plain_model(trainer.model))):
        raise ConfigError(
            f"rollout.compiled_after = {compiled_after}: steps of rollouts are no CUDA graphs here (on a CPU, of a "
            "mixture of experts, of quantized weights, under ZeRO-3); set rollout.compiled_after=null"
        )
    return TransformersEngine(
        accelerator=trainer.accelerator,
        args=trainer.args,
        config=trainer.generation_config,
        kwargs=trainer.generation_kwargs,
        pad_token_id=trainer.pad_token_id,
        shares=trainer.policy.shares,
        in_step=trainer.policy.in_step,
        constraint=trainer.policy.constraint,
        key_bytes=None if key_gib is None else int(key_gib * 2**30),
        compiled_after=compiled_after,
    )


def _vllm(trainer: Any) -> Engine:
    # Here: vLLM is optional.
    from vtg.training.rl.vllm_engine import VLLMEngine

    return VLLMEngine.for_trainer(trainer)


ENGINES: dict[str, Callable[[Any], Engine]] = {"transformers": _transformers, "vllm": _vllm}
"""rollout.engine → the engine of a `VideoGRPOTrainer`, which has all its other parts by then."""


def check(
    engine: str, arguments: GRPOConfig, *, given: Collection[str], pads: bool, answer: str, model_path: str
) -> None:
    """Raises ConfigError for an engine that cannot be on this machine, with these settings or this family of models;
    loads a processor at most.

    Args:
        given: keys of `rl` that are set.
        pads: clips end in padding frames (`video.pad`).
        answer: the form (`task.answer`).
    """
    if engine == "vllm":
        if answer == "tokens":
            raise ConfigError(
                "rollout.engine = 'vllm': it would load the model of model.path, without the temporal tokens that "
                "task=tokens adds; set rollout.engine=transformers, or task=bins"
            )
        # Late: rollouts by transformers need nothing of it.
        from vtg.training.rl.vllm_engine import check_family

        check_family(load_processor(model_path))
        _check_vllm(arguments, pads=pads)
        return
    # An option that is accepted and ignored would mislead.
    unread = [key for key in given if key.startswith("vllm_")]
    if unread:
        raise ConfigError(
            f"rl.{unread[0]} is set, but rollout.engine = {engine!r} does not read it; remove it, or set "
            "rollout.engine=vllm"
        )


def _check_vllm(arguments: GRPOConfig, *, pads: bool) -> None:
    asked = "rollout.engine = 'vllm'"
    for key, allowed, why in (
        (
            "vllm_mode",
            "colocate",
            "vLLM's server takes a video either without the times of its frames or without telling its time stamps "
            "from its frames",
        ),
        ("vllm_tensor_parallel_size", 1, "every process has a whole vLLM of its own"),
        ("vllm_model_impl", "vllm", "the check of its answers was written for vLLM's own models"),
    ):
        value = getattr(arguments, key)
        if value != allowed:
            raise ConfigError(f"rl.{key} = {value!r}: {why}; set rl.{key}={allowed}, or rollout.engine=transformers")
    if pads:
        raise ConfigError(
            f"{asked}: vLLM cannot mask the padding frames of video.pad; set video.pad=false, or "
            "rollout.engine=transformers"
        )
    # vespo needs the ratio of each token, not one of the whole completion.
    by_token = arguments.vllm_importance_sampling_mode in ("token_truncate", "token_mask")
    if arguments.loss_type == "vespo" and arguments.vllm_importance_sampling_correction and not by_token:
        raise ConfigError(
            f"rl.loss_type = 'vespo' with {asked}: set rl.vllm_importance_sampling_mode=token_truncate or token_mask"
        )
    # Without importing it, which takes many seconds.
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            f"{asked}: vllm is not installed; pip install 'vtg[vllm]', or set rollout.engine=transformers"
        )
    if not torch.cuda.is_available():
        raise ConfigError(f"{asked}: vLLM needs a CUDA GPU and there is none here; set rollout.engine=transformers")


WAYS_OUT = "set rollout.engine=transformers, or install the version that was seen to agree: pip install 'vtg[vllm]'"


@dataclass(frozen=True)
class Parity:
    """How far an engine's log-probs were from those of training: over `tokens` tokens of `prompts` prompts, in nats."""

    prompts: int
    tokens: int
    largest: float
    mean: float


def check_parity(
    engine: Engine,
    model: Any,
    reference: Callable[[Prompt, list[int]], list[float]],
    prompts: Mapping[str, Prompt],
    *,
    tolerance: float,
) -> Parity:
    """Compares what an engine reads and answers with what is trained.

    Args:
        model: for the engine.
        reference: a prompt and a completion → the log-prob of each of its tokens at temperature 1, as trained.
        prompts: by the name of the sample.
        tolerance: in nats, for every single token.

    Raises:
        RunError: for token ids that are others, or a log-prob further away: which sample, where, and both values.
    """
    far: list[float] = []
    for name, prompt in prompts.items():
        greedy = engine.answer_greedily(model, prompt)
        asked = f"rollout.engine = {engine.name!r} does not agree with training about {name}"
        # Ids first: with other times or frames in the prompt, log-probs differ for a reason that they do not show.
        _compare_ids(asked, greedy.prompt_ids, prompt.features["input_ids"].tolist())
        ours = reference(prompt, greedy.completion_ids)
        pairs = list(zip(greedy.log_probs, ours, strict=True))
        apart = [abs(theirs - own) for theirs, own in pairs]
        far += apart
        # `not <=` and not `>`: NaN must count as outside.
        outside = [at for at, by in enumerate(apart) if not by <= tolerance]
        if outside:
            at = max(outside, key=lambda at: apart[at] if apart[at] == apart[at] else float("inf"))
            raise RunError(
                f"{asked}: token {at} of its greedy completion (id {greedy.completion_ids[at]}) has log-prob "
                f"{pairs[at][0]:.4f} for the engine and {pairs[at][1]:.4f} for training, {apart[at]:.4f} nats apart "
                f"where rollout.parity_tolerance = {tolerance} allows less ({len(outside)} of {len(apart)} tokens are, "
                f"{sum(apart) / len(apart):.4f} in the mean); {WAYS_OUT}, or, where the mean is small and both round "
                "to bfloat16, raise rollout.parity_tolerance"
            )
    return Parity(len(prompts), len(far), max(far), sum(far) / len(far))


def _compare_ids(asked: str, theirs: list[int], ours: list[int]) -> None:
    if theirs == ours:
        return
    at = next(at for at, (a, b) in enumerate(zip_longest(theirs, ours)) if a != b)
    values = ["nothing" if at >= len(ids) else str(ids[at]) for ids in (theirs, ours)]
    raise RunError(
        f"{asked}: token {at} of its prompt is {values[0]} for the engine and {values[1]} for training "
        f"({len(theirs)} and {len(ours)} tokens), so it reads other times or other frames; {WAYS_OUT}"
    )
