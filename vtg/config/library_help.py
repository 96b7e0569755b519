"""One line on each setting of transformers and TRL that conf/ sets; what others mean stands in their documentation."""

from vtg.config.derived import CHECKPOINTING

TRAINER_HELP = {
    "num_train_epochs": "passes over the training samples, unless max_steps is set",
    "max_steps": "optimizer steps; -1: as many as num_train_epochs takes",
    "per_device_train_batch_size": "samples of a batch on each GPU with batching=fixed; in RL prompts",
    "gradient_accumulation_steps": "batches of each GPU in an optimizer step",
    "gradient_checkpointing": "which activations are computed again in the backward pass: slower, in less memory; "
    + " | ".join(f"{name}: {meaning}" for name, meaning in CHECKPOINTING.items()),
    "torch_compile": "decoder layers are compiled for training: the first step waits for it, the others are faster",
    "learning_rate": "the highest of the schedule",
    "lr_scheduler_type": "how the learning rate falls: cosine, linear, constant_with_warmup, ...",
    "lr_scheduler_kwargs": "what the schedule takes besides, such as min_lr_rate: the share of the rate it ends at",
    "warmup_steps": "optimizer steps until the learning rate is reached; below 1: a share of all steps",
    "weight_decay": "share of the weights taken off them, times the learning rate, in an optimizer step",
    "max_grad_norm": "a longer gradient is scaled down to this; 0: none is",
    "logging_steps": "optimizer steps between lines of the log",
    "eval_strategy": "when the validation rows are answered: no | steps: every eval_steps | epoch",
    "eval_steps": "optimizer steps between validations; below 1: a share of all steps",
    "save_strategy": "when a checkpoint is saved: no | steps: every save_steps | epoch",
    "save_steps": "optimizer steps between checkpoints; below 1: a share of all steps",
    "save_total_limit": "checkpoints that are kept, the best among them",
    "dataloader_num_workers": "processes that read clips for each GPU; 0: none",
    "report_to": "where the log goes besides train_log.jsonl: tensorboard, wandb, ..., or none",
    "optim": "the optimizer",
}
"""TrainingArguments of transformers."""

RL_HELP = {
    "num_generations": "completions of each prompt: G",
    "max_completion_length": "tokens of a completion",
    "temperature": "of sampling; higher is more varied",
    "top_p": "tokens are drawn from the most likely that have this share of the probability",
    "top_k": "tokens are drawn from so many of the most likely; 0: from all",
    "beta": "weight of the KL to the model that training started from; 0: none, and no reference model",
    "num_iterations": "optimizer steps on the same completions",
    "epsilon": "clip range of the probability ratio",
    "epsilon_high": "upper clip range of the probability ratio; epsilon where it is not set",
    "loss_type": "how the losses of tokens are averaged: grpo | dr_grpo | dapo | bnpo | ...",
    "scale_rewards": "what advantages are divided by: group: its standard deviation | batch | none",
    "importance_sampling_level": "a probability ratio for each token, or one for the sequence",
    "steps_per_generation": "batches that completions are sampled for at once; gradient_accumulation_steps if not set",
    "mask_truncated_completions": "completions without an end carry no loss",
}
"""GRPOConfig of TRL."""
