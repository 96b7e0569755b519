"""The loss of supervised fine-tuning is what transformers' own would be, on the answer's tokens."""

import pytest
import torch
from sft_runs import compose, overrides
from transformers import set_seed
from transformers.trainer_pt_utils import LabelSmoother

from vtg.data.encoding import IGNORE_INDEX, token_cost
from vtg.data.training_collator import TrainingCollator
from vtg.models.adapting import prepare_training
from vtg.training.hf_arguments import training_arguments
from vtg.training.run import TrainingRun
from vtg.training.sft.batches import plan_batches
from vtg.training.sft.planner import batch_budget
from vtg.training.sft.sft_trainer import SFTTrainer
from vtg.training.trainer_parts import TrainerParts


@pytest.fixture(scope="module")
def trainer(demo_dir, tmp_path_factory) -> SFTTrainer:
    words = overrides(demo_dir, tmp_path_factory.mktemp("run"), "trainer.use_cpu=true", "trainer.report_to=none")
    config = compose(words)
    arguments = training_arguments(config)
    run = TrainingRun(config)
    rows = run.dataset(run.splits.train, training=True)
    set_seed(0)
    return SFTTrainer(
        model=prepare_training(run.model, config.parts, config.lora),
        args=arguments,
        train_dataset=rows,
        eval_dataset=run.validation,
        data_collator=TrainingCollator(run.processor.tokenizer.pad_token_id, config.batching),  # type: ignore[attr-defined]
        processing_class=run.processor,
        parts=TrainerParts.of(config, report=run.report),
        batches=plan_batches(
            rows,
            arguments,
            batching=config.batching,
            data=config.data,
            video=config.video,
            budget=batch_budget(config.batching, config.video, token_cost(run.processor)),
            report=run.report,
        ),
        attention=config.model.attention,
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_label_smoothing_is_that_of_transformers(trainer, smoothing):
    trainer.model.eval()
    batch = next(iter(trainer.get_train_dataloader()))
    inputs = {key: value for key, value in batch.items() if key not in ("skipped", "rows", "counts", "answers")}
    labels = inputs.pop("labels")
    with torch.no_grad():
        logits = trainer.model(**inputs, use_cache=False).logits.float()
        wanted = LabelSmoother(epsilon=smoothing)({"logits": logits}, labels, shift_labels=True)
        trainer.args.label_smoothing_factor = smoothing
        found = trainer.compute_loss(trainer.model, batch)
    assert (labels != IGNORE_INDEX).sum() > 10
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)
