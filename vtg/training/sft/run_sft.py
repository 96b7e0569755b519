"""Supervised fine-tuning: from checked settings to the table of base and tuned scores."""

import logging

from peft import PeftModel
from transformers import set_seed

from vtg.config.schema import SFTConfig
from vtg.data.encoding import token_cost
from vtg.data.training_collator import TrainingCollator
from vtg.logs import start_logging
from vtg.memory.checkpointing import settle_checkpointing
from vtg.models.checkpoint import Settings, read_settings, resolve_checkpoint
from vtg.models.checkpoint_settings import differences
from vtg.models.compiled_layers import compile_layers
from vtg.models.loading import load_processor
from vtg.tasks.span_task import SpanTask
from vtg.tasks.time_vocabulary import add_time_tokens
from vtg.training.hf_arguments import training_arguments
from vtg.training.model_check import check_model
from vtg.training.run import TrainingRun
from vtg.training.sft.answer_loss import TIME_TERMS, AnswerLoss
from vtg.training.sft.batches import plan_batches
from vtg.training.sft.planner import batch_budget
from vtg.training.sft.sft_trainer import SFTTrainer
from vtg.training.trainer_parts import TrainerParts

log = logging.getLogger(__name__)


def train(config: SFTConfig) -> None:
    """One run of `train_sft.py`.

    Raises:
        ConfigError: for settings found wrong before any model loads.
        TooManyBadRows: when more than `data.max_bad_share` of the rows cannot be used.
    """
    start_logging()
    check_model(config)
    check_loss(config)
    settle_checkpointing(config, time_tokens=len(SpanTask(config.task).tokens()))
    arguments = training_arguments(config)
    _warn_of_other_settings(Settings(config.model, config.video, config.task))
    run = TrainingRun(config)
    train_set = run.dataset(run.splits.train, training=True)
    batches = plan_batches(
        train_set,
        arguments,
        batching=config.batching,
        data=config.data,
        budget=batch_budget(config.batching, config.video, token_cost(run.processor)),
        video=config.video,
        report=run.report,
        mixture=run.splits.mixture,
    )
    # After reading and planning, so that no number they may draw changes the weights of LoRA.
    set_seed(config.seed)
    continued = isinstance(run.model, PeftModel)
    model = run.model_to_train(arguments.learning_rate)
    if config.trainer.get("torch_compile"):
        compile_layers(model)
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=train_set,
        eval_dataset=run.validation,
        data_collator=TrainingCollator(
            run.processor.tokenizer.pad_token_id,  # type: ignore[attr-defined]
            config.batching,
            parts_clips=train_set.towers is not None,
        ),
        processing_class=run.processor,
        parts=TrainerParts.of(config, report=run.report),
        batches=batches,
        attention=config.model.attention,
    )
    run.train_and_test(trainer, continued=continued)


def check_loss(config: SFTConfig) -> None:
    """Raises ConfigError for a loss on times that the model's tokenizer cannot tell apart, before weights load."""
    if any(getattr(config.loss, key) for key in TIME_TERMS):
        tokenizer = load_processor(config.model.path).tokenizer  # type: ignore[attr-defined]
        add_time_tokens(tokenizer, config.task, path=config.model.path)
        AnswerLoss.of(config.loss, config.task, tokenizer)


def _warn_of_other_settings(settings: Settings) -> None:
    """Warns of settings that differ from those that the starting checkpoint was trained with."""
    path = settings.model.path
    trained = read_settings(resolve_checkpoint(path))
    if trained is not None:
        for difference in differences(trained, settings):
            log.warning("%s of %s", difference, path)
