"""Losses on the times of answers: gradients against finite differences, and least at the truth."""

import shutil
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from vtg.config.loss_settings import LossConfig
from vtg.config.model_settings import ModelConfig
from vtg.config.schema import SFTConfig
from vtg.config.task_settings import TaskConfig
from vtg.data.training_collator import LabelledAnswer
from vtg.demo.tiny_model import TINY_QWEN3_VL
from vtg.errors import ConfigError
from vtg.tasks.answer_forms import CODECS
from vtg.tasks.span_task import SpanTask
from vtg.tasks.time_vocabulary import add_time_tokens
from vtg.training.sft.answer_loss import AnswerLoss, AnswerTokens, expected_times, generalised_iou
from vtg.training.sft.run_sft import check_loss
from vtg.training.sft.time_targets import TimeTargets

FORMS = {
    "seconds": TaskConfig(),
    "relative": TaskConfig(answer="relative"),
    "bins": TaskConfig(answer="bins"),
    "tokens": TaskConfig(answer="tokens", num_bins=40),
}
LOSSES = {
    "cross_entropy": LossConfig(),
    "smoothed": LossConfig(label_smoothing=0.1),
    "soft_time": LossConfig(soft_time=1.0),
    "expected": LossConfig(expected_time_weight=10.0),
    "boundary": LossConfig(boundary_weight=1.0),
    "combined": LossConfig(
        label_smoothing=0.1, soft_time=0.5, expected_time_weight=10.0, boundary_weight=1.0, token_weights="sqrt_length"
    ),
}
ROWS = ((20.0, [(3.2, 7.5)]), (9.5, [(0.0, 9.5)]), (31.7, [(10.0, 12.4), (19.9, 31.0)]))


@cache
def tokenizer(form: str) -> Any:
    """The tiny model's; for `tokens` with an entry for each time."""
    made = AutoTokenizer.from_pretrained(TINY_QWEN3_VL)
    add_time_tokens(made, FORMS[form], path=TINY_QWEN3_VL.name)
    return made


def answer(form: str, duration_s: float, spans: Any) -> LabelledAnswer:
    ids = tokenizer(form)(SpanTask(FORMS[form]).encode(spans, duration_s=duration_s) + "<|im_end|>")["input_ids"]
    return LabelledAnswer(tuple(ids), duration_s)


def prepared(form: str, loss: LossConfig, rows: Any = ROWS) -> tuple[AnswerLoss, AnswerTokens]:
    answers = [answer(form, *row) for row in rows]
    made = AnswerLoss.of(loss, FORMS[form], tokenizer(form))
    weights = [1.0 if loss.token_weights == "mean" else len(one.ids) ** -0.5 for one in answers for _ in one.ids]
    times = None
    if made.reader is not None:
        times = TimeTargets.of(answers, made.reader, sigma_s=loss.soft_time_sigma_s)
    targets = torch.tensor([token for one in answers for token in one.ids])
    return made, AnswerTokens(targets, torch.tensor(weights), times)


def random_logits(form: str, tokens: AnswerTokens, seed: int = 0) -> torch.Tensor:
    size = len(tokens.targets), len(tokenizer(form))
    return torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_is_that_of_finite_differences(form, loss):
    made, tokens = prepared(form, LOSSES[loss])
    tokens = AnswerTokens(tokens.targets, tokens.weights.double(), tokens.times)
    logits = random_logits(form, tokens).requires_grad_()

    def total(at: torch.Tensor) -> torch.Tensor:
        return torch.stack(list(made(at, tokens, label_smoothing=LOSSES[loss].label_smoothing).values())).sum()

    (gradient,) = torch.autograd.grad(total(logits), logits)
    draw = torch.Generator().manual_seed(1)
    for _ in range(4):
        way = torch.randn(logits.shape, dtype=torch.float64, generator=draw)
        with torch.no_grad():
            difference = (total(logits + 1e-5 * way) - total(logits - 1e-5 * way)) / 2e-5
        assert float((gradient * way).sum()) == pytest.approx(float(difference), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("form", FORMS)
def test_soft_time_is_the_cross_entropy_with_the_soft_target_over_the_whole_vocabulary(form):
    made, tokens = prepared(form, LossConfig(soft_time=0.7))
    logits = random_logits(form, tokens)
    times = tokens.times
    assert times is not None
    target = torch.nn.functional.one_hot(tokens.targets, logits.shape[1]).double()
    soft = torch.zeros(len(times.rows), logits.shape[1], dtype=torch.float64)
    soft.scatter_add_(1, times.candidates, times.shares.double())
    target[times.rows] = 0.3 * target[times.rows] + 0.7 * soft
    assert torch.allclose(target.sum(1), torch.ones(len(target), dtype=torch.float64))
    for smoothing in (0.0, 0.1):
        smoothed = (1 - smoothing) * target + smoothing / logits.shape[1]
        wanted = -(smoothed * logits.log_softmax(1)).sum()
        terms = made(logits, tokens, label_smoothing=smoothing)
        assert terms.keys() == {"cross_entropy", "soft_time"}
        assert float(sum(terms.values())) == pytest.approx(float(wanted), rel=1e-6)


def sure_of(form: str, rows: Any, tokens: AnswerTokens) -> torch.Tensor:
    """Logits of a model that is nearly sure of another answer, which is written in as many tokens."""
    other = [token for row in rows for token in answer(form, *row).ids]
    assert len(other) == len(tokens.targets)
    return 20.0 * torch.nn.functional.one_hot(torch.tensor(other), len(tokenizer(form))).double()


@pytest.mark.parametrize("term", ["soft_time", "expected_time", "boundary"])
@pytest.mark.parametrize("form", ["bins", "tokens", "relative"])
def test_a_time_further_from_the_truth_costs_more_and_the_truth_least(form, term):
    """Of the last digit, or of the temporal token: the start moves away from 20 %, either way."""
    key = {"soft_time": "soft_time"}.get(term, f"{term}_weight")
    made, tokens = prepared(form, LossConfig(soft_time_sigma_s=4.0, **{key: 1.0}), [(100.0, [(25.0, 60.0)])])
    step = 2.5 if form == "tokens" else 1.0
    costs = {}
    for away in range(-4, 5):
        start_s = 25.0 + away * step
        with torch.no_grad():
            terms = made(sure_of(form, [(100.0, [(start_s, 60.0)])], tokens), tokens)
        costs[away] = float(terms[term])
    for side in (range(5), range(0, -5, -1)):
        assert all(costs[near] < costs[far] for near, far in pairwise(side)), costs


@pytest.mark.parametrize("form", FORMS)
def test_where_the_model_is_sure_of_the_truth_expected_times_are_the_true_ones(form):
    _, tokens = prepared(form, LossConfig(expected_time_weight=1.0))
    times = tokens.times
    assert times is not None
    logits = 1e3 * torch.nn.functional.one_hot(tokens.targets, len(tokenizer(form))).double()
    found = expected_times(logits[times.rows[:, None], times.candidates], times)
    torch.testing.assert_close(found, times.true.double(), rtol=1e-5, atol=1e-6)
    lengths = [duration for duration, spans in ROWS for _ in spans for _ in range(2)]
    step = {"seconds": 0.1, "relative": 0.0317, "bins": 0.317, "tokens": 31.7 / 40}[form]
    wanted = [bound for _, spans in ROWS for span in spans for bound in span]
    assert (found * torch.tensor(lengths, dtype=torch.float64)).tolist() == pytest.approx(wanted, abs=step)


def test_a_models_expected_digits_are_its_expected_time():
    """12.3 in 20 s: half sure of 1 and half of 2 in front is 5 s more than sure of 1."""
    made, tokens = prepared("seconds", LossConfig(expected_time_weight=1.0), [(20.0, [(12.3, 15.0)])])
    times = tokens.times
    assert times is not None and made.reader is not None
    logits = 1e3 * torch.nn.functional.one_hot(tokens.targets, len(tokenizer("seconds"))).double()
    logits[0, made.reader.digits[2]] = 1e3
    found = expected_times(logits[times.rows[:, None], times.candidates], times)
    assert (20 * found).tolist() == pytest.approx([17.3, 15.0], abs=1e-4)


def test_generalised_iou_is_iou_where_moments_meet_and_under_zero_by_the_gap_where_not():
    true = torch.tensor([[2.0, 4.0]] * 5)
    expected = torch.tensor([[2.0, 4.0], [3.0, 5.0], [6.0, 8.0], [0.0, 1.0], [4.0, 3.0]])
    found = generalised_iou(expected, true).tolist()
    assert found == pytest.approx([1.0, 1 / 3, -2 / 6, -1 / 4, -1 / 2])


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_costs_what_its_answers_cost_one_by_one(form):
    made, tokens = prepared(form, LOSSES["combined"])
    logits = random_logits(form, tokens)
    alone, at = 0.0, 0
    for row in ROWS:
        made, one = prepared(form, LOSSES["combined"], [row])
        alone += float(sum(made(logits[at : at + len(one.targets)], one).values()))
        at += len(one.targets)
    assert float(sum(made(logits, tokens).values())) == pytest.approx(alone, rel=1e-6)


def test_answers_without_times_and_no_answers_at_all_have_terms_of_zero():
    made = AnswerLoss.of(LOSSES["combined"], FORMS["seconds"], tokenizer("seconds"))
    assert made.reader is not None
    for text in ("no such moment", ""):
        ids = tuple(tokenizer("seconds")(text)["input_ids"])
        times = TimeTargets.of([LabelledAnswer(ids, 10.0)] if ids else [], made.reader, sigma_s=1.0)
        logits = torch.randn(len(ids), len(tokenizer("seconds")), requires_grad=True)
        terms = made(logits, AnswerTokens(torch.tensor(ids, dtype=torch.int64), torch.ones(len(ids)), times))
        assert [float(terms[name].detach()) for name in ("soft_time", "expected_time", "boundary")] == [0.0] * 3
        sum(terms.values()).backward()  # type: ignore[union-attr]
        assert logits.grad is not None and logits.grad.isfinite().all()


def test_a_tokenizer_that_joins_digits_is_refused_by_the_setting_that_needs_them_before_weights_load(tmp_path):
    shutil.copytree(TINY_QWEN3_VL, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    (tmp_path / "model" / "model.safetensors").touch()  # which nothing may read
    joins = AutoTokenizer.from_pretrained(TINY_QWEN3_VL)
    joins.add_tokens(["10"])
    joins.save_pretrained(tmp_path / "model")
    with pytest.raises(ConfigError) as error:
        check_loss(SFTConfig(model=ModelConfig(path=str(tmp_path / "model")), loss=LossConfig(boundary_weight=1.0)))
    assert str(error.value) == (
        "loss.boundary_weight = 1.0 needs an answer's times as tokens of single digits, and this model's tokenizer "
        "writes '1.5 to 10.2 seconds, 61.7 to 123.4 seconds' otherwise; set loss=cross_entropy, or take another model"
    )


def test_a_form_of_answer_whose_times_are_not_known_is_refused(monkeypatch):
    class Words:
        templates = ("{query}",)

        @classmethod
        def from_config(cls, config):
            return cls()

    monkeypatch.setitem(CODECS, "words", Words)
    with pytest.raises(ConfigError) as error:
        AnswerLoss.of(LossConfig(soft_time=0.5), TaskConfig(answer="words"), tokenizer("seconds"))
    assert str(error.value) == (
        "loss.soft_time = 0.5 needs to know which times an answer can name, and of task.answer = 'words' that is not "
        "known; set task=seconds, relative, bins or tokens, or loss=cross_entropy"
    )


def test_temporal_tokens_that_a_tokenizer_lacks_are_missed_by_name():
    with pytest.raises(ConfigError, match="the tokenizer has no token <0>; load it with task=tokens"):
        AnswerLoss.of(LossConfig(soft_time=0.5), FORMS["tokens"], tokenizer("seconds"))
