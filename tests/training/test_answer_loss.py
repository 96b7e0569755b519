"""Losses on answer tokens: weights, and sums that do not depend on how answers are batched."""

from typing import Any

import pytest
import torch
from sft_runs import overrides, read, run, run_on_two
from test_family_runs import of_model
from test_part_rates import trainer_of
from torch.nn.functional import cross_entropy

from vtg.config.data_settings import BatchingConfig
from vtg.data.encoding import IGNORE_INDEX
from vtg.data.training_collator import TrainingCollator
from vtg.training.sft.answer_loss import answer_weights


def test_a_token_weighs_one_or_by_the_length_of_its_own_answer():
    labels = torch.tensor([[IGNORE_INDEX, 5, 6, 7, 8, IGNORE_INDEX, 9], [3, IGNORE_INDEX, IGNORE_INDEX, 4, 4, 4, 4]])
    assert answer_weights(labels, "mean").tolist() == [[0, 1, 1, 1, 1, 0, 1], [1, 0, 0, 1, 1, 1, 1]]
    assert answer_weights(labels, "sqrt_length").tolist() == [[0, 0.5, 0.5, 0.5, 0.5, 0, 1], [1, 0, 0, *[0.5] * 4]]
    assert not answer_weights(torch.full((2, 3), IGNORE_INDEX), "sqrt_length").any()


def gradient_of(trainer, loss: torch.Tensor) -> torch.Tensor:
    trained = [one for one in trainer.model.parameters() if one.requires_grad]
    return torch.cat([one.flatten() for one in torch.autograd.grad(loss, trained)])


def micro_batches(trainer, count: int) -> list[dict]:
    loader = iter(trainer.get_train_dataloader())
    return [next(loader) for _ in range(count)]


@pytest.fixture(scope="module", params=["task=bins", "task=tokens"])
def combined(request, demo_dir, tmp_path_factory):
    words = (
        request.param,
        "task.num_bins=40",
        "loss=combined",
        "loss.token_weights=sqrt_length",
        "loss.label_smoothing=0.1",
    )
    trainer: Any = trainer_of(overrides(demo_dir, tmp_path_factory.mktemp("run"), *words))
    trainer.model.eval()
    return trainer


def collated(trainer: Any, rows: list[int], **batching: bool) -> dict:
    return TrainingCollator(0, BatchingConfig(**batching))([trainer.train_dataset[row] for row in rows])


def test_packed_and_shared_batches_have_the_loss_and_gradient_of_padded_ones(combined):
    videos = [sample.video for sample in combined.train_dataset.samples]
    shared = next(video for video in videos if videos.count(video) > 1)
    rows = [*[at for at, video in enumerate(videos) if video == shared][:2], videos.index(shared) - 1]
    found = []
    for form in ({}, {"packing": True}, {"packing": True, "share_video": True}):
        batch = collated(combined, rows, **form)
        assert bool((batch.get("branches", torch.zeros(1)) > 0).any()) == ("share_video" in form)
        loss = combined.compute_loss(combined.model, batch)
        found.append((loss.detach(), gradient_of(combined, loss)))
    for loss, gradient in found[1:]:
        torch.testing.assert_close(loss, found[0][0], rtol=1e-5, atol=0.0)
        assert (gradient - found[0][1]).norm() <= 1e-4 * found[0][1].norm()


def test_a_stand_in_has_a_loss_of_zero_and_a_gradient_of_zeros(combined):
    loss = combined.compute_loss(combined.model, collated(combined, [~0]))
    assert float(loss.detach()) == 0.0 and not gradient_of(combined, loss).any()


@pytest.mark.soak
def test_square_root_weights_are_those_of_every_answer_over_all_micro_batches(demo_dir, tmp_path):
    """Each answer's summed cross-entropy over the root of its length, over the sum of the roots of all lengths."""
    words = overrides(demo_dir, tmp_path / "run", "loss.token_weights=sqrt_length", "task=bins")
    trainer = trainer_of([*words, "trainer.per_device_train_batch_size=3", "batching=fixed"])
    trainer.model.eval()
    _, items = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), 2, torch.device("cpu"))
    losses, roots, found = [], [], 0.0
    for batch in micro_batches(trainer, 2):
        inputs = {key: value for key, value in batch.items() if torch.is_tensor(value)}
        labels = inputs.pop("labels")
        with torch.no_grad():
            logits = trainer.model(**inputs, use_cache=False).logits
            for row, answer in zip(logits[:, :-1], labels[:, 1:], strict=True):
                kept = answer != IGNORE_INDEX
                roots.append(float(kept.sum()) ** 0.5)
                losses.append(float(cross_entropy(row[kept], answer[kept], reduction="sum")) / roots[-1])
            found += float(trainer.compute_loss(trainer.model, batch, num_items_in_batch=items))
    assert len(set(roots)) > 1  # answers of several lengths, or this would hold for any weights
    assert found == pytest.approx(sum(losses) / sum(roots), rel=1e-5)


def test_the_terms_that_are_logged_are_means_over_updates_and_sum_to_the_loss(demo_dir, tmp_path):
    accumulates = ("batching=fixed", "trainer.per_device_train_batch_size=2", "trainer.gradient_accumulation_steps=2")
    words = ("loss=combined", *accumulates, "trainer.logging_steps=2", "trainer.save_strategy=no")
    trainer = trainer_of(overrides(demo_dir, tmp_path / "run", *words))
    trainer.train()
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(entries) == 2
    for entry in entries:
        terms = {key: value for key, value in entry.items() if key.startswith("loss/")}
        assert terms.keys() == {"loss/cross_entropy", "loss/soft_time", "loss/expected_time", "loss/boundary"}
        assert all(value > 0 for value in terms.values())
        assert sum(terms.values()) == pytest.approx(entry["loss"], rel=1e-4)


@pytest.mark.soak
@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl_moe", "qwen3_5", "molmo2"])
def test_every_family_learns_from_the_times_of_its_answers(family, tiny_dir, demo_dir, tmp_path):
    words = ["lora=none", "loss=combined", "task=tokens", "task.num_bins=20", "batching=fixed"]
    trainer: Any = trainer_of(overrides(demo_dir, tmp_path / "run", *of_model(tiny_dir(family)), *words))
    (batch,) = micro_batches(trainer, 1)
    gradient = gradient_of(trainer, trainer.compute_loss(trainer.model, batch))
    assert float(trainer.loss_terms["boundary"]) > 0
    assert gradient.isfinite().all() and gradient.any()


@pytest.mark.soak
def test_two_ranks_have_the_loss_and_gradient_of_one_that_accumulates_their_batches(demo_dir, tmp_path):
    rows = (demo_dir / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "rows.jsonl").write_text("".join(rows[:8]), encoding="utf-8")
    changed = ("loss=combined", "loss.token_weights=sqrt_length", "lora.dropout=0", "batching=fixed")
    steps = ("trainer.max_steps=1", "trainer.per_device_train_batch_size=2", "trainer.eval_strategy=no")
    words = (f"data.annotation_file={tmp_path / 'rows.jsonl'}", *changed, *steps, "trainer.save_strategy=no")
    first = []
    for name, starts, accumulated in (("one", run, 4), ("two", run_on_two, 2)):
        more = (*words, f"trainer.gradient_accumulation_steps={accumulated}", "++trainer.use_cpu=true")
        done = starts(*overrides(demo_dir, tmp_path / name, *more))
        assert done.returncode == 0, done.stderr
        first.append(read(tmp_path / name / "train_log.jsonl")[0])
    for key in ("loss", "grad_norm", "loss/cross_entropy", "loss/soft_time", "loss/expected_time", "loss/boundary"):
        assert first[1][key] == pytest.approx(first[0][key], rel=1e-5), key
