"""Completions by vLLM in the training process (colocate), which reads the same frames and times.

Its weights come through `sync` alone (`load_format="dummy"`): a weight that is not copied stays random, so
`check_parity` finds it, even where an adapter still changes nothing.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from accelerate.utils import set_seed
from trl.distributed import DistributedBackend
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.utils import ensure_master_addr_port

from vtg.config.video_settings import VideoConfig
from vtg.data.encoding import frames_as_they_are, video_metadata, vision_token_ids
from vtg.decoding.adapter_merging import iter_merged_weights
from vtg.decoding.prompt_sequence import Prompt
from vtg.errors import ConfigError, RunError
from vtg.models.families import FAMILIES, either, family_of
from vtg.training.rl.engine_protocol import Completions, GreedyCompletion

# The lowest logit_bias of OpenAI's API, which vLLM follows; a token with it is as good as never drawn.
FORBIDDEN = -100.0
"""Added to the logits of vision tokens, so that none is sampled."""


def check_family(processor: Any) -> None:
    """Raises ConfigError for a family whose times vLLM reads otherwise than training, or that was not tried with it."""
    family = family_of(processor)
    if family.vllm_obstacle is not None:
        able = either(other for other in FAMILIES.values() if other.vllm_obstacle is None)
        raise ConfigError(
            f"rollout.engine = 'vllm': {family.title} {family.vllm_obstacle}; use a {able} model, or "
            "rollout.engine=transformers"
        )


class VLLMEngine:
    """A vLLM of this process's own, on its GPU.

    Args:
        model: a plain model (of a family without `vllm_obstacle`) or a PeftModel on one; the architecture is read from
            where it was loaded from.
        stop_ids: tokens that end a completion.
        max_length: the most tokens of a prompt.

    Raises:
        ConfigError: for a model whose times vLLM does not read as training does.
        RunError: new weights (`sync`) do not empty its caches.
    """

    name, own_model = "vllm", True

    def __init__(
        self,
        model: Any,
        *,
        accelerator: Any,
        args: GRPOConfig,
        processor: Any,
        video: VideoConfig,
        stop_ids: Sequence[int],
        max_length: int,
    ) -> None:
        check_family(processor)
        self._accelerator, self._args, self._processor = accelerator, args, processor
        self._stop_ids = list(stop_ids)
        self._step, self._calls = -1, 0
        self._has_weights = False
        self._llm = self._start(model, video, max_length)
        set_seed(args.seed, device_specific=True)  # vLLM has just seeded every rank alike

    @classmethod
    def for_trainer(cls, trainer: Any) -> "VLLMEngine":
        """The engine of a `VideoGRPOTrainer`."""
        return cls(
            trainer.model,
            accelerator=trainer.accelerator,
            args=trainer.args,
            processor=trainer.processing_class,
            video=trainer.parts.saved.video,
            stop_ids=trainer.eos_token_ids,
            max_length=trainer.parts.saved.model.max_length,
        )

    def sync(self, model: Any, step: int) -> None:
        if step != self._step:
            self._step, self._calls, self._has_weights = step, 0, False
        if not self._has_weights:
            self._copy_weights(model)

    def sample(self, model: Any, prompts: Sequence[Sequence[Prompt]], *, n: int) -> Completions:
        flat = [prompt for batch in prompts for prompt in batch]
        key = (self._args.seed, self._step, self._accelerator.process_index, self._calls)
        seeds = np.random.SeedSequence(key).generate_state(len(flat)).tolist()
        self._calls += 1
        outputs = self._generate(flat, [self._sampling(n=n, seed=seed) for seed in seeds])
        rows = [row for output in outputs for row in output.outputs]
        return [list(row.token_ids) for row in rows], [_log_probs(row) for row in rows]

    def answer_greedily(self, model: Any, prompt: Prompt) -> GreedyCompletion:
        self.sync(model, self._step)
        (output,) = self._generate([prompt], [self._sampling(greedy=True)])
        row = output.outputs[0]
        return GreedyCompletion(list(output.prompt_token_ids), list(row.token_ids), _log_probs(row))

    def _start(self, model: Any, video: VideoConfig, max_length: int) -> Any:
        from vllm import LLM  # type: ignore[import-not-found]

        accelerator, args = self._accelerator, self._args
        os.environ["RANK"] = str(accelerator.process_index)  # what its launcher-less start reads
        os.environ["LOCAL_RANK"] = str(accelerator.local_process_index)
        os.environ["WORLD_SIZE"] = str(accelerator.num_processes)
        ensure_master_addr_port()
        completion = args.max_completion_length or 0
        budget = {"longest_edge": video.total_pixels, "shortest_edge": video.min_pixels}
        llm = LLM(
            model=accelerator.unwrap_model(model).name_or_path,
            load_format="dummy",
            trust_remote_code=False,
            dtype="bfloat16" if args.bf16 else "float16" if args.fp16 else str(model.dtype).removeprefix("torch."),
            max_model_len=args.vllm_max_model_length or max_length + completion,
            gpu_memory_utilization=args.vllm_gpu_memory_utilization,
            enable_sleep_mode=args.vllm_enable_sleep_mode,
            max_num_seqs=args.per_device_train_batch_size * (args.steps_per_generation or 1),
            distributed_executor_backend="external_launcher",
            seed=accelerator.process_index,
            logprobs_mode="processed_logprobs",  # those of the distribution that is sampled from
            limit_mm_per_prompt={"image": 0, "video": 1},
            mm_processor_kwargs=frames_as_they_are(self._processor) | {"size": budget},  # memory is kept for that much
        )
        if args.vllm_enable_sleep_mode:
            llm.sleep(level=2)
        accelerator.wait_for_everyone()
        return llm

    def _copy_weights(self, model: Any) -> None:
        if self._args.vllm_enable_sleep_mode:
            torch.cuda.empty_cache()
            self._llm.wake_up(tags=["weights"])
        gather = DistributedBackend(self._accelerator).gather_params
        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter_merged_weights(model, gather)})
        # vLLM keeps both by content, whatever the weights: keys of a prompt, and what the tower made of a clip.
        if not self._llm.reset_prefix_cache():
            raise RunError(
                "rollout.engine = 'vllm': vLLM kept the keys and values of the weights before (reset_prefix_cache), so "
                "it would answer with those; set rollout.engine=transformers"
            )
        self._llm.llm_engine.reset_encoder_cache()  # `LLM` itself has no such call in vLLM 0.31
        self._has_weights = True

    def _generate(self, prompts: Sequence[Prompt], sampling: list[Any]) -> list[Any]:
        if self._args.vllm_enable_sleep_mode:
            self._llm.wake_up(tags=["kv_cache"])
        outputs = self._llm.generate([self._request(prompt) for prompt in prompts], sampling, use_tqdm=False)
        if self._args.vllm_enable_sleep_mode:
            self._llm.sleep(level=2)  # which forgets the weights
            self._has_weights = False
        return outputs

    def _request(self, prompt: Prompt) -> dict[str, Any]:
        """The prompt as vLLM takes it: its token ids before the video was spelled out, the frames, and their times."""
        assert prompt.clip is not None
        clip = prompt.clip
        metadata = video_metadata(clip.timestamps_s, clip.duration_s)
        times = {key: metadata[key] for key in ("total_num_frames", "fps", "frames_indices", "duration")}
        return {
            "prompt_token_ids": unexpanded(self._processor, prompt.features["input_ids"].tolist()),
            "multi_modal_data": {"video": [(clip.frames, times | {"do_sample_frames": False})]},
            "mm_processor_kwargs": frames_as_they_are(self._processor),
        }

    def _sampling(self, *, n: int = 1, seed: int | None = None, greedy: bool = False) -> Any:
        from vllm import SamplingParams  # type: ignore[import-not-found]

        args = self._args
        kwargs: dict[str, Any] = {
            "max_tokens": args.max_completion_length,
            "logprobs": 0,
            "stop_token_ids": self._stop_ids,
            "detokenize": False,
            "logit_bias": dict.fromkeys(vision_token_ids(self._processor), FORBIDDEN),
        }
        if greedy:
            return SamplingParams(temperature=0.0, **kwargs)
        if args.vllm_structured_outputs_regex is not None:
            from vllm.sampling_params import StructuredOutputsParams  # type: ignore[import-not-found]

            kwargs["structured_outputs"] = StructuredOutputsParams(regex=args.vllm_structured_outputs_regex)
        kwargs |= {
            "temperature": args.temperature,
            "top_p": args.top_p,
            "top_k": args.top_k,
            "min_p": args.min_p or 0.0,
            "repetition_penalty": args.repetition_penalty,
        }
        given: Any = dict(args.generation_kwargs or {})  # type: ignore[arg-type]
        given.pop("suppress_tokens", None)  # what logit_bias does here
        return SamplingParams(n=n, seed=seed, **(kwargs | given))


def unexpanded(processor: Any, ids: Sequence[int]) -> list[int]:
    """The token ids of a prompt with one video, all of whose tokens are replaced by one.

    The wrapper stays: `<|vision_start|><|video_pad|><|vision_end|>`.
    """
    number = processor.tokenizer.convert_tokens_to_ids
    start, pad, end = (number(token) for token in ("<|vision_start|>", "<|video_pad|>", "<|vision_end|>"))
    first, last = list(ids).index(start), len(ids) - 1 - list(ids)[::-1].index(end)
    return [*ids[: first + 1], pad, *ids[last:]]


def _log_probs(row: Any) -> list[float]:
    """Of every token of a completion."""
    return [by_token[token].logprob for token, by_token in zip(row.token_ids, row.logprobs, strict=True)]
