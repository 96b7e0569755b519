"""Learning rates and weight decays by part, in the optimizer of a real trainer."""

import pytest
from sft_runs import compose, losses, overrides
from transformers import set_seed

from vtg.data.encoding import token_cost
from vtg.data.training_collator import TrainingCollator
from vtg.models.part_table import grouped_parameters
from vtg.training.hf_arguments import training_arguments
from vtg.training.run import TrainingRun
from vtg.training.sft import run_sft
from vtg.training.sft.batches import plan_batches
from vtg.training.sft.planner import batch_budget
from vtg.training.sft.sft_trainer import SFTTrainer
from vtg.training.trainer_parts import TrainerParts


def trainer_of(words) -> SFTTrainer:
    config = compose([*words, "trainer.use_cpu=true", "trainer.report_to=none", "trainer.eval_strategy=no"])
    arguments = training_arguments(config)
    run = TrainingRun(config)
    rows = run.dataset(run.splits.train, training=True)
    set_seed(0)
    budget = batch_budget(config.batching, config.video, token_cost(run.processor))
    more = {"batching": config.batching, "data": config.data, "video": config.video, "report": run.report}
    return SFTTrainer(
        model=run.model_to_train(arguments.learning_rate),
        args=arguments,
        train_dataset=rows,
        data_collator=TrainingCollator(run.processor.tokenizer.pad_token_id, config.batching),  # type: ignore[attr-defined]
        processing_class=run.processor,
        parts=TrainerParts.of(config, report=run.report),
        batches=plan_batches(rows, arguments, budget=budget, **more),
        attention=config.model.attention,
    )


def groups_of(trainer: SFTTrainer) -> dict[tuple[str, float], set[float]]:
    """(part, weight decay) → learning rates."""
    part_of = {id(parameter): part for part, _, parameter in grouped_parameters(trainer.model)}
    found: dict[tuple[str, float], set[float]] = {}
    for group in trainer.create_optimizer().param_groups:
        assert group["params"]
        for parameter in group["params"]:
            found.setdefault((part_of[id(parameter)], group["weight_decay"]), set()).add(group["lr"])
    return found


def test_each_part_has_its_rate_and_decay_and_norms_and_biases_none(demo_dir, tmp_path):
    words = ["lora=none", "parts.projector=full", "parts.vision=full", "parts.vision_lr=1e-6"]
    words += ["parts.projector_lr=2e-5", "parts.projector_weight_decay=0.3", "parts.embedding_lr=3e-5"]
    words += ["trainer.learning_rate=1e-4", "trainer.weight_decay=0.1"]
    found = groups_of(trainer_of(overrides(demo_dir, tmp_path / "run", *words)))
    assert found == {
        ("vision", 0.1): {1e-6},
        ("vision", 0.0): {1e-6},
        ("projector", 0.3): {2e-5},
        ("projector", 0.0): {2e-5},
        ("language", 0.1): {1e-4},
        ("language", 0.0): {1e-4},
        ("embedding", 0.1): {3e-5},
    }


def test_without_rates_of_parts_the_optimizer_is_the_trainers_own(demo_dir, tmp_path):
    trainer = trainer_of(overrides(demo_dir, tmp_path / "run"))
    groups = trainer.create_optimizer().param_groups
    assert len(groups) == 2 and trainer.part_rates == ()
    assert {group["lr"] for group in groups} == {trainer.args.learning_rate}


@pytest.mark.slow
def test_a_run_with_rates_of_parts_resumes_as_it_would_have_gone_on(demo_dir, tmp_path, caplog):
    more = ["parts.projector=full", "parts.projector_lr=1e-5", "parts.projector_weight_decay=0.2", "data.val_file=null"]
    more += ["trainer.eval_strategy=no", "data.test_file=null", "trainer.lr_scheduler_type=constant"]
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    run_sft.train(compose(overrides(demo_dir, whole, *more)))
    run_sft.train(compose(overrides(demo_dir, parted, *more, "trainer.max_steps=2")))
    run_sft.train(compose(overrides(demo_dir, parted, *more)))
    assert losses(parted) == pytest.approx(losses(whole), rel=1e-4)
