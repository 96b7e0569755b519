"""Tokens are drawn from the distribution that `generate` draws from."""

import pytest
import torch
from transformers import GenerationConfig

from vtg.decoding.token_choice import Sampling, TokenChoice, uniforms

VOCABULARY = 12


def choice(**given) -> TokenChoice:
    sampling = Sampling(max_new_tokens=4, ends=(1,), **given)
    return TokenChoice(sampling, vocabulary=VOCABULARY, columns=None, device=torch.device("cpu"))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"temperature": 0.5},
        {"top_k": 3},
        {"top_p": 0.6},
        {"min_p": 0.2},
        {"temperature": 1.5, "top_k": 6, "top_p": 0.8, "suppressed": (2, 7)},
    ],
)
def test_draws_have_the_frequencies_that_generate_would_sample_with(given):
    logits = torch.randn(1, VOCABULARY, generator=torch.Generator().manual_seed(0)) * 2
    count = 20_000
    given = {"temperature": 1.0} | given
    draws = torch.from_numpy(uniforms(3, 0, rows=count, count=1))[:, 0]
    written = torch.zeros(count, dtype=torch.int64)
    tokens, log_probs = choice(**given)(logits.expand(count, -1), uniforms=draws, written=written, allowed=written)
    # As transformers' generation documents each of them.
    scores = logits[0].clone()
    scores[list(given.get("suppressed", ()))] = -torch.inf
    probabilities = (scores / given["temperature"]).softmax(-1)
    if "top_k" in given:
        probabilities[probabilities < probabilities.topk(given["top_k"]).values[-1]] = 0
        probabilities /= probabilities.sum()
    if "top_p" in given:
        ordered, at = probabilities.sort(descending=True)
        probabilities[at[ordered.cumsum(0) - ordered >= given["top_p"]]] = 0
        probabilities /= probabilities.sum()
    if "min_p" in given:
        probabilities[probabilities < given["min_p"] * probabilities.max()] = 0
        probabilities /= probabilities.sum()
    seen = torch.bincount(tokens, minlength=VOCABULARY) / count
    torch.testing.assert_close(seen, probabilities, rtol=0, atol=0.015)
    assert not seen[probabilities == 0].any()
    torch.testing.assert_close(log_probs.exp().float(), probabilities[tokens], rtol=1e-4, atol=1e-6)


def test_the_ends_of_what_is_drawn_are_tokens_that_may_be_written():
    logits = torch.zeros(2, VOCABULARY)
    logits[:, [0, VOCABULARY - 1]] = -torch.inf
    ends = torch.tensor([5e-324, 1.0], dtype=torch.float64)
    zeros = torch.zeros(2, dtype=torch.int64)
    tokens, _ = choice(temperature=1.0)(logits, uniforms=ends, written=zeros, allowed=zeros)
    assert tokens.tolist() == [1, VOCABULARY - 2]


def test_a_config_that_asks_for_more_than_is_known_is_for_generate():
    plain = {"max_new_tokens": 9, "eos_token_id": [3, 4], "pad_token_id": 0, "disable_compile": True}
    assert Sampling.of(GenerationConfig(**plain)) == Sampling(max_new_tokens=9, ends=(3, 4))
    drawn = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "top_k": 0, "min_p": None, "repetition_penalty": 1.0}
    expected = Sampling(max_new_tokens=9, ends=(3, 4), temperature=0.7, top_p=0.9, suppressed=(5,))
    assert Sampling.of(GenerationConfig(**plain, **drawn, suppress_tokens=[5])) == expected
    for more in (
        {"repetition_penalty": 1.2},
        {"num_beams": 2},
        {"no_repeat_ngram_size": 3},
        {"cache_implementation": "static"},
        {"typical_p": 0.5},
        {"stop_strings": ["x"]},
        {"max_time": 3.0},
    ):
        assert Sampling.of(GenerationConfig(**plain, **more)) is None, more


def test_what_a_row_draws_does_not_depend_on_the_rows_drawn_with_it():
    together = uniforms(7, 3, rows=5, count=6)
    assert together.shape == (5, 6) and (together > 0).all() and (together <= 1).all()
    for at, row in enumerate(together, start=3):
        assert (uniforms(7, at, rows=1, count=6) == row).all()
    assert len(set(together.flatten())) == together.size
    assert not (uniforms(8, 3, rows=5, count=6) == together).any()
