"""Names from other projects and older guides, and what they are called here: for "did you mean" in errors."""

ALGORITHMS = "rl=grpo (or dr_grpo, dapo, gspo, r1)"
BY_ROWS = "trainer.per_device_train_batch_size (with batching=fixed)"
ANNOTATIONS = "data.annotation_file=FILE (with data=jsonl)"

FOREIGN_KEYS: dict[str, str] = {
    # the model
    "name_or_path": "model.path",
    "model_name_or_path": "model.path",
    "pretrained_model_name_or_path": "model.path",
    "model_name": "model.path",
    "model_path": "model.path",
    "torch_dtype": "model.dtype",
    "attn_implementation": "model.attention",
    "use_flash_attn": "model.attention=flash_attention_2",
    "max_seq_length": "model.max_length",
    "model_max_length": "model.max_length",
    "tune_vision": "parts.vision=lora (or full)",
    "freeze_vision": "parts.vision (frozen, lora or full)",
    "freeze_projector": "parts.projector (frozen, lora or full)",
    "vision_lr": "parts.vision_lr",
    "projector_lr": "parts.projector_lr",
    "merger_lr": "parts.projector_lr",
    "load_in_4bit": "lora=qlora",
    "load_in_8bit": "lora=qlora model.quantization=8bit",
    "use_dora": "lora=dora",
    # LoRA
    "lora_alpha": "lora.alpha",
    "lora_dropout": "lora.dropout",
    "lora_r": "lora.r",
    "lora_rank": "lora.r",
    "lora.rank": "lora.r",
    "lora_target_modules": "lora.target_modules",
    "use_lora": "lora=default (or lora=none)",
    # batches
    "duration_batching.enabled": "batching=duration (or fixed, tokens, packed)",
    "duration_batching.target_batch_duration": "batching.target_batch_duration (with batching=duration)",
    "duration_batching": "batching=duration and batching.target_batch_duration",
    "target_batch_duration": "batching.target_batch_duration (with batching=duration)",
    "max_batch_size": "batching.max_batch_size",
    "min_batch_size": "batching.min_batch_size",
    "drop_last": "batching.drop_last",
    "batch_size": BY_ROWS,
    "train_batch_size": BY_ROWS,
    # the form of the answer
    "temporal.num_bins": "task.num_bins",
    "num_temporal_tokens": "task.num_bins",
    "use_temporal_tokens": "task=tokens (or seconds, relative, bins)",
    "temporal": "task=seconds (or relative, bins, tokens)",
    # data and its workers
    "dataloader.num_workers": "trainer.dataloader_num_workers",
    "dataloader.pin_memory": "trainer.dataloader_pin_memory",
    "dataloader.prefetch_factor": "trainer.dataloader_prefetch_factor",
    "dataloader.persistent_workers": "nothing: workers start anew with every epoch, whose frames and prompts differ",
    "dataloader.shuffle": "nothing: every epoch mixes the rows anew",
    "dataloader": "trainer.dataloader_num_workers and its like",
    "num_workers": "trainer.dataloader_num_workers",
    "pin_memory": "trainer.dataloader_pin_memory",
    "prefetch_factor": "trainer.dataloader_prefetch_factor",
    "persistent_workers": "nothing: workers start anew with every epoch, whose frames and prompts differ",
    "annotation_path": ANNOTATIONS,
    "data_path": ANNOTATIONS,
    "train_file": ANNOTATIONS,
    "video_root": "data.video_dir",
    "video_folder": "data.video_dir",
    "data_root": "data.root (with data=webvid or another published set), or data.video_dir",
    "dataset_type": "data=webvid, kinetics, lerobot, molmo2 or pixmo (a choice of data), or jsonl",
    "dataset_name": "data.webvid.dataset_name (with data=webvid)",
    "split": "data.webvid.split (train, val; with data=webvid)",
    # frames
    "sampling_strategy": "video.sampling",
    "sampling_policy": "video.sampling (uniform is molmo2 here; video=kempner has it)",
    "resolution": "video.frame_size (N or [height, width])",
    "frame_size": "video.frame_size (N or [height, width])",
    "num_frames": "video.max_frames",
    "nframes": "video.max_frames",
    # training
    "warmup_ratio": "trainer.warmup_steps (below 1 it is a share of all steps)",
    "evaluation_strategy": "trainer.eval_strategy",
    "no_cuda": "trainer.use_cpu",
    "logging_dir": "nothing: TensorBoard's files stand in the run directory",
    "lr": "trainer.learning_rate",
    "epochs": "trainer.num_train_epochs",
    "num_epochs": "trainer.num_train_epochs",
    # reinforcement learning
    "rl.algorithm": ALGORITHMS,
    "algorithm": ALGORITHMS,
    "kl_coef": "rl.beta",
    "kl_coeff": "rl.beta",
    "clip_range": "rl.epsilon",
    "cliprange": "rl.epsilon",
    "group_size": "rl.num_generations",
    "max_new_tokens": "evaluation.max_new_tokens (in rollouts rl.max_completion_length)",
    "rewards.mode": "rewards.terms='[{name: segment_overlap, weight: 1.0, measure: f1}]'",
    "reward": "rewards.terms='[{name: temporal_iou, weight: 1.0}]'",
}
"""Key, with or without what it stood in → the key to set, maybe with its value or a remark, or `nothing: why`."""

OPTIONS = {"mode": "measure of segment_overlap (precision, recall, f1), or binary and threshold of temporal_iou"}
"""Options of a reward, as other projects call them."""

REWARDS = {
    "iou": "temporal_iou",
    "tiou": "temporal_iou",
    "iou_v2": "timestamp_aware_iou",
    "tgiou": "giou",
    "siou": "soft_iou",
    "twass": "wasserstein with beta: 3",
    "twass1": "wasserstein",
    "ngiou": "ordered_giou",
    "segment_matching": "segment_overlap and ordered_giou (rewards=museg has both)",
}
"""Rewards, as the repositories of the papers call them (Time-R1, TimeLens, TimeLens2, TAR-TVG, MUSEG)."""

VALUES = {
    "selection": {"first": "fixed"},
    "dtype": {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"},
    "attention": {"flash_attn": "flash_attention_2", "flash_attention": "flash_attention_2"},
}
"""Setting, without its group → values that it has elsewhere, and the same here."""

FLAGS: dict[str, str] = {
    "config": "keys on the command line, or a file experiment/NAME.yaml in a folder of yours: "
    "--config-dir FOLDER experiment=NAME",
    "data_config": "data=NAME, a file data/NAME.yaml in a folder of yours (--config-dir FOLDER), or data=jsonl "
    "data.annotation_file=FILE",
    "deepspeed": "deepspeed=zero2 (or zero3, zero2_offload, zero3_offload), or deepspeed.file=FILE",
    "file": "data=jsonl data.annotation_file=FILE",
    "data": "data=jsonl data.annotation_file=FILE",
}
"""`--NAME`, without its dashes → what to write."""


def our_key(key: str) -> str | None:
    """What to set instead of a key that is not there: `trainer.learning_rate` for `optimizer.lr`. None if unknown."""
    # The longest name first: `duration_batching.enabled` says more than `duration_batching`.
    parts = key.split(".")
    tails = [".".join(parts[at:]) for at in range(len(parts))]
    heads = [".".join(parts[:at]) for at in range(len(parts) - 1, 0, -1)]
    return next((FOREIGN_KEYS[name] for name in [*tails, *heads] if name in FOREIGN_KEYS), None)
