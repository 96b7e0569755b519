"""What a harness asks: each clip is seen and read once, answers are those of questions asked alone, errors are told."""

import pytest
import torch

from vtg.data.encoding import encode
from vtg.errors import SampleError
from vtg.evaluation.ask_settings import ask_settings
from vtg.evaluation.generate import generate
from vtg.evaluation.grounder import Grounder
from vtg.harness.clip_answers import ClipQuestion, clip_answers
from vtg.video.video_window import VideoWindow


@pytest.fixture(scope="module")
def grounder() -> Grounder:
    return Grounder(ask_settings("tiny").settings, device="cpu")


@torch.no_grad()
def test_questions_about_a_clip_are_answered_as_alone_with_the_clip_read_once(grounder: Grounder, write_mp4) -> None:
    one, other = (write_mp4([0, 500, 1000, 1500], seed=seed) for seed in (1, 2))
    asked = [(one, "when?", 8), (other, "who is it?", 8), ("none.mp4", "when?", 8), (one, "what, and where?", 8)]
    questions = [ClipQuestion(VideoWindow(path), text, length) for path, text, length in [*asked, (one, "when?", 4)]]
    skipped, read, seen = list[tuple[int, SampleError]](), list[int](), list[int]()
    inner = grounder.model.model
    hooks = [
        inner.visual.register_forward_hook(lambda *args: seen.append(1)),
        inner.language_model.register_forward_pre_hook(
            lambda module, args, kwargs: read.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
        ),
    ]
    try:
        answers = clip_answers(grounder, questions, batch_size=2, skipped=lambda *told: skipped.append(told))
        found = dict(answers)
    finally:
        for hook in hooks:
            hook.remove()
    assert sorted(found) == [0, 1, 3, 4] and [at for at, _ in skipped] == [2] and "none.mp4" in str(skipped[0][1])
    own = [questions[at] for at in sorted(found)]
    features = [
        encode(
            grounder.processor,
            question.conversation,
            grounder.clip(question.window),
            tokens_per_second=grounder.tokens_per_second,
        )
        for question in own
    ]
    # One engine writes answers of 8 tokens: it has both clips once. Another those of 4.
    common = int(features[0]["mm_token_type_ids"].nonzero()[-1]) + 1
    assert len(seen) == 3
    assert sum(one for one in read if one > 1) == sum(len(one["input_ids"]) - 1 for one in features) - common
    for at, question, prompt in zip(sorted(found), own, features, strict=True):
        alone = generate(grounder.model, grounder.processor, [prompt], max_new_tokens=question.max_new_tokens)
        assert [found[at]] == alone and found[at]


def test_what_is_told_of_a_skipped_question_may_end_it_all(grounder: Grounder, write_mp4) -> None:
    def refuse(at: int, error: SampleError) -> None:
        raise RuntimeError(f"{at}: {error}")

    questions = [ClipQuestion(VideoWindow(path), "when?", 4) for path in ("a none.mp4", write_mp4([0, 500]))]
    with pytest.raises(RuntimeError, match=r"0: .*a none\.mp4"):
        list(clip_answers(grounder, questions, batch_size=2, skipped=refuse))
