"""What benchmarks/grpo.py compares: one model, one clip and the same settings for four trainers."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

Begin = Callable[[], Any]
"""What a step begins with: a micro-step of vtg's loader, or rows as TRL's data loader gives them."""

QUERY = "a person opens the door and walks out of the kitchen"
SIZES = {
    "small": dict(
        hidden_size=384, intermediate_size=1152, num_hidden_layers=8, num_attention_heads=4, num_key_value_heads=2,
        head_dim=64, mrope_section=[12, 10, 10],
        vision=dict(depth=3, hidden_size=128, intermediate_size=256, num_heads=4, deepstack_visual_indexes=[0, 1, 2]),
    ),
    "2b": dict(
        hidden_size=2048, intermediate_size=6144, num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=8,
        head_dim=128, mrope_section=[24, 20, 20],
        vision=dict(depth=24, hidden_size=1024, intermediate_size=4096, num_heads=16,
                    deepstack_visual_indexes=[5, 11, 17]),
    ),
    "4b": dict(
        hidden_size=2560, intermediate_size=9728, num_hidden_layers=36, num_attention_heads=32, num_key_value_heads=8,
        head_dim=128, mrope_section=[24, 20, 20],
        vision=dict(depth=24, hidden_size=1024, intermediate_size=4096, num_heads=16,
                    deepstack_visual_indexes=[5, 11, 17]),
    ),
}  # fmt: skip
"""Shapes of Qwen3-VL; `small` is the prototype's, and the others those of the released models."""


def build_model(size: str, tokenizer: Any, device: str) -> Any:
    """Qwen3-VL of a size with random weights: float32 and the tokenizer's vocabulary, or, on a GPU, as released."""
    import torch
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    from vtg.demo.tiny_model import ready, vision_ids
    from vtg.models.patch_embed import project_patches_by_matmul

    shape = dict(SIZES[size])
    vision, sections = dict(shape.pop("vision")), shape.pop("mrope_section")
    text = shape | {
        "vocab_size": len(tokenizer) if size == "small" else 151936,
        "max_position_embeddings": 262144,
        "tie_word_embeddings": True,
        "pad_token_id": tokenizer.pad_token_id,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5e6, "mrope_section": sections},
    }
    vision |= {"out_hidden_size": text["hidden_size"], "num_position_embeddings": 2304}
    ids = vision_ids(tokenizer)
    config = Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen3VLForConditionalGeneration._from_config(
            config, attn_implementation="sdpa", dtype=torch.float32 if size == "small" else torch.bfloat16
        )
    project_patches_by_matmul(model)
    return ready(model, tokenizer)


def write_clip(path: Path, frames: int, height: int, width: int) -> None:
    """Two frames a second, so that every reader takes the same ones: all."""
    import av
    import numpy as np

    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=2, options={"crf": "23"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(frames):
            coarse = rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(coarse.repeat(16, 0).repeat(16, 1), format="rgb24")))
        container.mux(stream.encode(None))


@dataclasses.dataclass(frozen=True)
class Case:
    """What every trainer is given. `pristine`: the model, of which each has a copy; `questions`: about the clip."""

    group: int
    completion: int
    trained_tower: bool
    path: str
    frames: int
    size: tuple[int, int]
    processor: Any
    pristine: Any
    folder: str
    questions: int = 1

    def config(self) -> Any:
        """vtg's settings, from which TRL's follow for all."""
        from vtg.config.model_settings import LoraConfig, ModelConfig, PartsConfig
        from vtg.config.rl_settings import RewardsConfig
        from vtg.config.schema import RLConfig
        from vtg.config.task_settings import TaskConfig
        from vtg.config.video_settings import VideoConfig

        pixels = self.size[0] * self.size[1]
        how = "full" if self.trained_tower else "frozen"
        on_gpu = self.pristine.device.type == "cuda"
        return RLConfig(
            output_dir=self.folder,
            video=VideoConfig(max_frames=self.frames, min_pixels=pixels, max_pixels=pixels, total_pixels=2**40),
            task=TaskConfig(),
            model=ModelConfig(attention="sdpa"),
            parts=PartsConfig(vision=how, projector=how),
            lora=LoraConfig(enabled=False),
            rewards=RewardsConfig(terms=[{"name": "temporal_iou", "weight": 1.0}]),
            trainer={
                "learning_rate": 0.0, "weight_decay": 0.0, "use_cpu": not on_gpu,
                "per_device_train_batch_size": self.questions,
                "gradient_accumulation_steps": 1, "max_steps": 1, "report_to": "none", "save_strategy": "no",
            },
            rl={
                "num_generations": self.group, "max_completion_length": self.completion, "steps_per_generation": 1,
                "beta": 0.0, "generation_kwargs": {"min_new_tokens": self.completion},
            },
        )  # fmt: skip


def build_vtg(case: Case) -> tuple[Any, Begin]:
    """vtg's trainer as vtg.training.rl.run_rl builds it, one clip a rollout, decoded for each."""

    import numpy as np

    from vtg.annotations.sample import Sample
    from vtg.annotations.target import Spans
    from vtg.config.derived import longest_clip_tokens, shares_prompts
    from vtg.data.encoding import token_cost
    from vtg.data.grounding_dataset import GroundingDataset
    from vtg.data.skip_report import SkipReport
    from vtg.models.adapting import prepare_training
    from vtg.tasks.span_task import SpanTask
    from vtg.training.rl.curriculum import IoURecord
    from vtg.training.rl.grpo_trainer import VideoGRPOTrainer
    from vtg.training.rl.prompt_batches import PromptBatches
    from vtg.training.rl.rewards.mixture import reward_terms
    from vtg.training.rl.rollouts import RolloutLoader
    from vtg.training.rl.run_rl import grpo_arguments
    from vtg.training.trainer_parts import TrainerParts
    from vtg.video.provider import ClipProvider

    config = case.config()

    def provider() -> ClipProvider:
        return ClipProvider(config.video, factor=32)

    def begin() -> Any:
        if isinstance(dataset.provider, ClipProvider):  # frames in memory stand in for it in gpu.py
            dataset.provider = provider()  # in whose memory there is no clip
        return next(iter(loader))

    moment = Spans(((1.0, 2.0),))
    samples = [
        Sample(case.path, case.frames / 2, moment, query_of(case, at), f"{at + 1}", place=f"benchmark:{at + 1}")
        for at in range(case.questions)
    ]
    dataset = GroundingDataset(
        samples,
        task=SpanTask(config.task),
        processor=case.processor,
        provider=provider(),
        video_dir=None,
        max_length=2**20,
        tokens_per_second=2.0,
        training=True,
        answers=False,
        clips_recur=case.questions > 1,
    )
    every = np.arange(case.questions)
    plan = [[every[None]]]
    loader = RolloutLoader(
        dataset, choose=lambda epoch: every, plan=lambda chosen, epoch, ranks: plan, rank=0, ranks=1, iterations=1
    )
    arguments, longest = grpo_arguments(config), longest_clip_tokens(config.video, token_cost(case.processor))
    trainer = VideoGRPOTrainer(
        model=prepare_training(copy.deepcopy(case.pristine), config.parts, config.lora),
        args=arguments,
        parts=TrainerParts.of(config, report=SkipReport(Path(case.folder) / "skipped.jsonl", max_bad_share=1.0)),
        rollout=config.rollout,
        curriculum=config.curriculum,
        shares_prompts=shares_prompts(config.rollout, config.model),
        prompt_batches=PromptBatches.of(arguments, config.batching, longest=longest),
        has_max_steps=False,
        train_dataset=dataset,
        processing_class=case.processor,
        loader=loader,
        costs=np.ones(case.questions),
        terms=reward_terms(config.rewards),
        record=IoURecord.start(samples),
    )
    return trainer, begin


def trl_trainer(case: Case, kind: type) -> Any:
    """A trainer of TRL's with the same settings; completions hold no tokens of pictures, as in vtg."""
    from datasets import Dataset

    from vtg.data.encoding import vision_token_ids
    from vtg.models.adapting import prepare_training
    from vtg.training.rl.run_rl import grpo_arguments

    config = case.config()
    arguments = grpo_arguments(config)
    arguments.generation_kwargs |= {"suppress_tokens": vision_token_ids(case.processor)}  # type: ignore
    return kind(
        model=prepare_training(copy.deepcopy(case.pristine), config.parts, config.lora),
        args=arguments,
        reward_funcs=any_reward,
        train_dataset=Dataset.from_dict({"prompt": ["unused"]}),
        processing_class=copy.deepcopy(case.processor),
    )


def any_reward(completions: list[Any], **columns: Any) -> list[float]:
    return [float(at % 2) for at in range(len(completions))]


def query_of(case: Case, at: int) -> str:
    """All of a case have equally many tokens: the naive way pads nothing."""
    return QUERY if case.questions == 1 else f"{QUERY}, time {at + 1}"


def messages(case: Case) -> list[dict[str, Any]]:
    """The user's turn of each question."""
    from vtg.tasks.span_task import SpanTask

    task = SpanTask(case.config().task)
    return [
        task.conversation(query_of(case, at), duration_s=case.frames / 2, key=f"{at + 1}")[0]
        for at in range(case.questions)
    ]


def naive_class() -> type:
    """TRL's trainer, to which three things are added: keep the video, hand it on, and show it to the loss."""
    import torch
    from trl import GRPOTrainer

    class NaiveVideoGRPOTrainer(GRPOTrainer):
        def _tokenize_prompts(self, prompts: list) -> Any:
            ids, images, fields = super()._tokenize_prompts(prompts)
            self.video = fields
            return ids, images, fields

        def _generate_and_score_completions(self, inputs: list) -> dict[str, Any]:
            output, fields = super()._generate_and_score_completions(inputs), self.video
            del self.video
            kinds = torch.tensor(fields["mm_token_type_ids"], device=self.args.device)
            completions = output["completion_ids"]
            return output | {
                "pixel_values_videos": fields["pixel_values_videos"].view(len(inputs), -1, self.patch_width),
                "video_grid_thw": fields["video_grid_thw"],
                "mm_token_type_ids": torch.cat([kinds, torch.zeros_like(completions)], dim=1),
            }

        @property
        def patch_width(self) -> int:
            processor = self.processing_class.video_processor
            return 3 * processor.temporal_patch_size * processor.patch_size**2

        def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
            self.video = {key: inputs[key] for key in ("video_grid_thw", "mm_token_type_ids")}
            self.video["pixel_values_videos"] = inputs["pixel_values_videos"].flatten(0, 1)
            loss = super()._compute_loss(model, inputs)
            del self.video
            return loss

        def _get_per_token_logps_and_entropies(
            self, model: Any, input_ids: Any, attention_mask: Any, logits_to_keep: int, **kwargs: Any
        ) -> tuple[Any, Any, None]:
            labels = input_ids.masked_fill(attention_mask == 0, -100)
            labels[:, :-logits_to_keep] = -100
            video = {key: value.to(self.args.device) for key, value in self.video.items()}
            with self.accelerator.autocast():
                out = model(
                    input_ids=input_ids, attention_mask=attention_mask, labels=labels, fused_lm_head=True, **video
                )
            return out.log_probs[:, -logits_to_keep:], out.entropy[:, -logits_to_keep:], None

    return NaiveVideoGRPOTrainer


def build_naive(case: Case) -> tuple[Any, Begin]:
    """Rows that name the file, as TRL's data loader gives them: one for each completion."""
    trainer = trl_trainer(case, naive_class())
    rows = []
    for message in messages(case):
        content = [part | ({"video": case.path} if part["type"] == "video" else {}) for part in message["content"]]
        rows += [{"prompt": [{"role": "user", "content": content}]} for _ in range(case.group)]
    return trainer, lambda: rows


def build_images(case: Case, *, every: int = 1) -> tuple[Any, Begin]:
    """Rows with the frames as pictures, decoded beforehand."""
    from PIL import Image
    from trl import GRPOTrainer

    from vtg.video.provider import ClipProvider
    from vtg.video.video_window import VideoWindow

    trainer = trl_trainer(case, GRPOTrainer)
    clip = ClipProvider(case.config().video, factor=32).clip(VideoWindow(case.path))
    images = [Image.fromarray(frame.transpose(1, 2, 0)) for frame in clip.frames[::every]]
    rows = []
    for message in messages(case):
        turn = {"role": "user", "content": message["content"][1]["text"]}
        rows += [{"prompt": [turn], "images": images} for _ in range(case.group)]
    return trainer, lambda: rows


def build_half_images(case: Case) -> tuple[Any, Begin]:
    """The same with every other frame."""
    return build_images(case, every=2)


BUILDERS: dict[str, Callable[[Case], tuple[Any, Begin]]] = {
    "vtg": build_vtg,
    "naive": build_naive,
    "images": build_images,
    "half images": build_half_images,
}
"""A trainer and the beginning of its steps."""
