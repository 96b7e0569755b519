"""vLLM as far as `VLLMEngine` calls it, around a real tiny model on a CPU: greedy answers, a cache of encoded clips.

It is by the content of a clip and outlives new weights until it is cleared, as that of vLLM 0.31 does.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from vtg.data.encoding import mrope_positions
from vtg.decoding.engine import DecodingEngine
from vtg.decoding.prompt_sequence import Prompt
from vtg.decoding.shared_prefix import encode_video, share_prompts
from vtg.decoding.token_choice import Sampling


@dataclass
class SamplingParams:
    """The settings of one completion."""

    temperature: float = 1.0
    max_tokens: int = 16
    stop_token_ids: Sequence[int] = ()
    logit_bias: dict[int, float] = field(default_factory=dict)
    logprobs: int | None = None
    detokenize: bool = True


class LLM:
    """`vllm.LLM`; its own `llm_engine` too. `calls`: names of its calls, in their order."""

    def __init__(self, *, model: str, **kwargs: Any) -> None:
        self.calls: list[str] = []
        self.llm_engine, self.encoded = self, dict[int, torch.Tensor]()
        self.processor: Any = AutoProcessor.from_pretrained(model)
        self.model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(model)).eval()  # random weights
        share_prompts(self.model)

    def collective_rpc(self, method: str, *, kwargs: dict[str, Any]) -> None:
        self.calls.append(method)
        self.model.load_state_dict(dict(kwargs["weights_iterator"]))

    def reset_prefix_cache(self) -> bool:
        self.calls.append("reset_prefix_cache")
        return True

    def reset_encoder_cache(self) -> None:
        self.calls.append("reset_encoder_cache")
        self.encoded.clear()

    def generate(self, requests: Sequence[Any], sampling: Sequence[Any], *, use_tqdm: bool) -> list[Any]:
        self.calls.append("generate")
        return [self._answer(request, how) for request, how in zip(requests, sampling, strict=True)]

    def _answer(self, request: dict[str, Any], how: SamplingParams) -> Any:
        assert how.temperature == 0.0 and how.logprobs == 0
        features = self._features(request)
        seen = hash(features["pixel_values_videos"].numpy().tobytes())
        if seen not in self.encoded:
            self.encoded[seen] = encode_video(self.model, features)
        greedy = Sampling(
            max_new_tokens=how.max_tokens, ends=tuple(how.stop_token_ids), suppressed=tuple(how.logit_bias)
        )
        [[found]] = DecodingEngine(self.model, greedy).complete([Prompt(features, self.encoded[seen])])
        pairs = zip(found.tokens, found.log_probs, strict=True)
        by_token = [{token: SimpleNamespace(logprob=value)} for token, value in pairs]
        row = SimpleNamespace(token_ids=found.tokens, logprobs=by_token)
        return SimpleNamespace(prompt_token_ids=features["input_ids"].tolist(), outputs=[row])

    def _features(self, request: dict[str, Any]) -> dict[str, torch.Tensor]:
        ((frames, times),) = request["multi_modal_data"]["video"]
        known = {key: copy.copy(value) for key, value in times.items() if key != "do_sample_frames"}
        text = self.processor.tokenizer.decode(request["prompt_token_ids"])
        options = request["mm_processor_kwargs"]
        out = self.processor(
            text=[text], videos=[torch.from_numpy(frames)], video_metadata=[known], return_tensors="pt", **options
        )
        features = {key: out[key] for key in ("pixel_values_videos", "video_grid_thw")}
        features |= {key: out[key][0] for key in ("input_ids", "attention_mask", "mm_token_type_ids")}
        features["position_ids"] = mrope_positions(
            features["mm_token_type_ids"],
            features["video_grid_thw"][0],
            merge_size=self.processor.video_processor.merge_size,
            patch_times_s=torch.zeros(0),
            tokens_per_second=None,
        )
        return features
