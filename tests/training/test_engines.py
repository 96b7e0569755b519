"""Engines: the default one is `DecodingEngine`, and no other is used unless it reads and answers what is trained."""

import copy
import dataclasses
import sys
from dataclasses import replace
from typing import Any

import pytest
import small_vllm
import torch
from peft import LoraConfig, get_peft_model
from rl_runs import build, compose, overrides, window

from vtg.config.schema import RLConfig
from vtg.config.video_settings import VideoConfig
from vtg.data.encoding import encode
from vtg.decoding.adapter_merging import iter_merged_weights, merged_for_decoding
from vtg.decoding.engine import DecodingEngine
from vtg.decoding.prompt_sequence import Prompt
from vtg.decoding.sampling import forward_log_probs, sample
from vtg.decoding.shared_prefix import encode_video
from vtg.decoding.token_choice import Sampling
from vtg.errors import ConfigError, RunError
from vtg.training.rl import engines
from vtg.training.rl.engine_protocol import Completions, Engine, GreedyCompletion
from vtg.training.rl.engines import TransformersEngine, check_parity
from vtg.training.rl.grpo_trainer import VideoGRPOTrainer
from vtg.training.rl.run_rl import grpo_arguments
from vtg.training.rl.vllm_engine import VLLMEngine, unexpanded


@pytest.fixture(scope="module")
def trainer(demo_dir, tmp_path_factory) -> VideoGRPOTrainer:
    """A trainer whose adapter says something, and whose data set keeps clips. Leave it as it is."""
    built = build(overrides(demo_dir, tmp_path_factory.mktemp("run"), "trainer.bf16=false"))
    shift(built.model, seed=1)
    built.prompts.keep_clips = True
    built.model.eval()
    return built


@pytest.fixture(scope="module")
def prompts(trainer) -> dict[str, Prompt]:
    items = [trainer.prompts[index] for index in (0, 5, 9)]
    encoded = trainer.policy.prompts(
        [item.features for item in items], [item.sample.duration_s for item in items], [item.clip for item in items]
    )
    return {f"row {at}": prompt for at, prompt in enumerate(encoded)}


def shift(model: Any, *, seed: int, by: float = 0.1) -> None:
    torch.manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += (by * parameter.std() + 0.005) * torch.randn_like(parameter)


class Elsewhere:
    """A real engine that reads prompts of its own making, with a model of its own."""

    name, own_model = "elsewhere", True

    def __init__(self, engine: Engine, *, model: Any = None, prompt: Any = None) -> None:
        self.engine, self.model, self.prompt = engine, model, prompt or (lambda given: given)

    def sync(self, model: Any, step: int) -> None: ...

    def sample(self, model: Any, prompts: Any, *, n: int) -> Completions:
        return self.engine.sample(self.model or model, prompts, n=n)

    def answer_greedily(self, model: Any, prompt: Prompt) -> GreedyCompletion:
        return self.engine.answer_greedily(self.model or model, self.prompt(prompt))


def parity(trainer: VideoGRPOTrainer, engine: Engine, prompts: dict[str, Prompt], tolerance: float = 0.01) -> Any:
    return check_parity(engine, trainer.model, trainer.policy.completion_log_probs, prompts, tolerance=tolerance)


def test_rollout_key_gib_is_what_keys_may_take_and_changes_no_completion(trainer, prompts, monkeypatch):
    batches = [[*prompts.values()]]

    def sampled(engine: Any) -> tuple[list[list[int]], int]:
        torch.manual_seed(4)
        completions, _ = engine.sample(trainer.model, batches, n=4)
        return completions, engine.decoder(None).peak.bytes

    expected, most = sampled(trainer.engine)
    monkeypatch.setattr(trainer, "rollout_settings", replace(trainer.rollout_settings, key_gib=0.6 * most / 2**30))
    found, less = sampled(engines.ENGINES["transformers"](trainer))
    assert found == expected and less <= 0.6 * most


def test_compiled_steps_are_refused_where_steps_are_no_graphs(trainer, monkeypatch):
    monkeypatch.setattr(trainer, "rollout_settings", replace(trainer.rollout_settings, compiled_after=4))
    with pytest.raises(ConfigError, match=r"^rollout\.compiled_after = 4: steps of rollouts are no CUDA graphs here"):
        engines.ENGINES["transformers"](trainer)


@pytest.mark.parametrize("shares", [True, False])
def test_the_default_engine_writes_completions_of_all_micro_batches(trainer, prompts, shares):
    assert isinstance(trainer.engine, TransformersEngine) and not trainer.use_vllm
    some, engine = list(prompts.values()), replace(trainer.engine, shares=shares)
    torch.manual_seed(7)
    found, log_probs = engine.sample(trainer.model_wrapped, [some[:2], some[2:]], n=3)
    torch.manual_seed(7)
    seed = int(torch.randint(2**62, ()))
    sampling = Sampling.of(trainer.generation_config)
    assert sampling is not None and sampling.temperature == 1.0
    with merged_for_decoding(trainer.model):  # as the engine does: sums in another order could draw another token
        expected = DecodingEngine(trainer.model, sampling).complete(some, n=3, seed=seed)
    assert found == [one.tokens for group in expected for one in group]
    assert len(found) == 9 and len(set(map(tuple, found))) > 3
    assert log_probs is None


def test_what_the_decoding_engine_does_not_know_is_for_generate(trainer, prompts):
    config = copy.deepcopy(trainer.generation_config)
    config.repetition_penalty = 1.3
    engine = replace(trainer.engine, config=config)
    some, pad = list(prompts.values()), trainer.engine.pad_token_id
    torch.manual_seed(7)
    found, _ = engine.sample(trainer.model_wrapped, [some[:2], some[2:]], n=2)
    torch.manual_seed(7)
    parts = (some[:2], some[2:])
    with merged_for_decoding(trainer.model):
        expected = [row for part in parts for row in sample(trainer.model, part, config, n=2, pad_token_id=pad)]
    assert found == expected


def test_greedy_answers_have_the_log_probs_of_the_forward_that_is_trained(trainer, prompts):
    found = parity(trainer, trainer.engine, prompts, tolerance=1e-3)
    assert found.prompts == 3 and found.tokens >= 9 and found.mean <= found.largest


def test_the_training_forward_is_the_same_whether_prompts_are_shared_or_not(trainer, prompts):
    prompt = prompts["row 1"]
    shared, alone = (
        forward_log_probs(trainer.model, prompt, [40, 41, 42], pad_token_id=0, share=share) for share in (True, False)
    )
    assert shared == pytest.approx(alone, abs=1e-4) and len(shared) == 3


def test_an_engine_with_other_weights_is_refused(trainer, prompts):
    other = copy.deepcopy(trainer.model)
    shift(other, seed=2, by=1.0)
    with pytest.raises(RunError, match=r"does not agree with training about row 0: token \d+ of its greedy") as caught:
        parity(trainer, Elsewhere(trainer.engine, model=other), prompts)
    text = str(caught.value)
    assert "rollout.engine = 'elsewhere'" in text and "nats apart where rollout.parity_tolerance = 0.01" in text
    assert "set rollout.engine=transformers" in text


def test_an_engine_that_sees_another_video_is_refused(trainer, prompts):
    def other_frames(prompt: Prompt) -> Prompt:
        assert prompt.clip is not None
        clip = replace(prompt.clip, frames=prompt.clip.frames[::-1].copy())
        messages = trainer.prompts.task.conversation("x", duration_s=clip.duration_s)
        pixels = encode(trainer.processing_class, messages, clip)
        return replace(prompt, encoded=encode_video(trainer.policy.plain, pixels))

    with pytest.raises(RunError, match="greedy completion"):
        parity(trainer, Elsewhere(trainer.engine, prompt=other_frames), prompts)


def test_an_engine_whose_processor_reads_other_times_is_refused(trainer, prompts):
    def slowly(prompt: Prompt) -> Prompt:
        assert prompt.clip is not None
        clip = replace(prompt.clip, timestamps_s=prompt.clip.timestamps_s * 0.5)
        messages = trainer.prompts.task.conversation("a red square", duration_s=clip.duration_s)
        return Prompt(encode(trainer.processing_class, messages, clip))

    with pytest.raises(RunError, match=r"row 0: token \d+ of its prompt is \d+ for the engine and \d+ for training \("):
        parity(trainer, Elsewhere(trainer.engine, prompt=slowly), prompts)


def test_a_log_prob_that_is_no_number_is_refused(trainer, prompts):
    def broken(prompt: Prompt, completion: list[int]) -> list[float]:
        return [float("nan")] * len(completion)

    with pytest.raises(RunError, match="nan for training"):
        check_parity(trainer.engine, trainer.model, broken, prompts, tolerance=0.05)


def test_the_check_before_training_runs_where_the_engine_has_a_model_of_its_own(trainer, caplog):
    trainer.check_engine()  # nothing to compare
    right = trainer.engine
    try:
        trainer.engine = Elsewhere(right)
        with caplog.at_level("INFO", logger="vtg"):
            trainer.check_engine()
        assert "agrees with training: the token ids of 4 prompts are the same" in caplog.text
        other = copy.deepcopy(trainer.model)
        shift(other, seed=2, by=1.0)
        trainer.engine = Elsewhere(right, model=other)
        with pytest.raises(RunError, match=r"about .*train\.jsonl:1"):
            trainer.check_engine()
    finally:
        trainer.engine = right


class Scored(Elsewhere):
    """An engine that knows the log-probs of what it sampled, all of them `by` too low."""

    def __init__(self, trainer: VideoGRPOTrainer, *, by: float) -> None:
        super().__init__(trainer.engine)
        self.trainer, self.by = trainer, by

    def sample(self, model: Any, prompts: Any, *, n: int) -> Completions:
        rows, _ = self.engine.sample(model, prompts, n=n)
        flat = [prompt for batch in prompts for prompt in batch for _ in range(n)]
        scores = [self.trainer.policy.completion_log_probs(prompt, row) for prompt, row in zip(flat, rows, strict=True)]
        return rows, [[score - self.by for score in row] for row in scores]


@pytest.mark.parametrize("mode", ["sequence_truncate", "token_truncate"])
def test_log_probs_of_an_engine_correct_the_loss_as_trl_does_for_vllm(demo_dir, tmp_path, mode):
    by = 0.01
    more = ("curriculum.zero_variance=resample", f"++rl.vllm_importance_sampling_mode={mode}", "rl.loss_type=dapo")
    trainer = build(overrides(demo_dir, tmp_path, "trainer.bf16=false", *more))
    shift(trainer.model, seed=1)
    trainer.engine, trainer.use_vllm = Scored(trainer, by=by), True
    trainer.model.eval()  # whose dropout would differ from that of the log-probs
    trainer.model.training = True
    torch.manual_seed(3)
    (inputs,) = window(trainer)
    mask, ratio = inputs["completion_mask"].float(), inputs["importance_sampling_ratio"]
    lengths = mask.sum(1, keepdim=True)
    whole = mode.startswith("sequence")
    expected = (by * lengths).exp() if whole else torch.full_like(ratio, by).exp()
    carries_loss = (lengths > 0) if whole else mask.bool()
    assert ratio.shape == expected.shape and carries_loss.any()
    torch.testing.assert_close(ratio[carries_loss], expected[carries_loss], atol=2e-3, rtol=0)
    inputs["advantages"] = torch.ones_like(inputs["advantages"])
    corrected = trainer._compute_loss(trainer.model, dict(inputs)).detach()
    plain = trainer._compute_loss(
        trainer.model, inputs | {"importance_sampling_ratio": torch.ones_like(ratio)}
    ).detach()
    factor = (expected * lengths).sum() / lengths.sum() if whole else expected[0, 0]
    torch.testing.assert_close(corrected / plain, factor, atol=2e-3, rtol=0)
    assert any("sampling_logp_difference" in name for name in trainer._metrics["train"])


@pytest.fixture
def with_vllm(trainer, monkeypatch):
    """The trainer with the engine `vllm`, whose vLLM is that of `small_vllm`."""
    monkeypatch.setitem(sys.modules, "vllm", small_vllm)
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")  # the engine sets them: put back after the test
    monkeypatch.setattr(trainer, "engine", engines.ENGINES["vllm"](trainer))
    monkeypatch.setattr(trainer, "_check_after", None)
    monkeypatch.setattr(trainer, "_current_batches", [])  # a rollout of no prompt samples nothing
    monkeypatch.setattr(trainer.state, "global_step", 0)
    before = copy.deepcopy(trainer.model.state_dict())
    yield trainer
    trainer.model.load_state_dict(before)


def test_vllm_agrees_with_training_before_and_after_an_update_of_the_tower_as_its_caches_are_emptied(with_vllm, caplog):
    trainer, calls = with_vllm, with_vllm.engine._llm.calls
    synced = ["reload_weights", "reset_prefix_cache", "reset_encoder_cache"]
    with caplog.at_level("INFO", logger="vtg"):
        trainer.check_engine()
        assert calls == [*synced, *["generate"] * 4]
        calls.clear()
        trainer._generate_single_turn()  # the first rollout: the same weights
        assert calls == ["generate"]
        calls.clear()
        torch.manual_seed(2)
        for parameter in trainer.policy.plain.model.visual.parameters():
            parameter.data += parameter.std().nan_to_num() * torch.randn_like(parameter)
        trainer.state.global_step = 1
        trainer._generate_single_turn()
        assert calls == [*synced, *["generate"] * 5]
        calls.clear()
        trainer.state.global_step = 2
        trainer._generate_single_turn()
        assert calls == [*synced, "generate"]  # compared once after an update, not at each
    assert caplog.text.count("rollout.engine = vllm agrees with training") == 2


def test_vllm_that_keeps_what_the_tower_made_before_an_update_is_refused(with_vllm, monkeypatch):
    trainer, llm = with_vllm, with_vllm.engine._llm
    trainer.check_engine()
    monkeypatch.setattr(llm, "reset_encoder_cache", lambda: None)
    torch.manual_seed(2)
    for parameter in trainer.policy.plain.model.visual.parameters():
        parameter.data += parameter.std().nan_to_num() * torch.randn_like(parameter)
    trainer.state.global_step = 1
    with pytest.raises(RunError, match=r"rollout.engine = 'vllm' does not agree with training about .*train\.jsonl:1"):
        trainer.check_engine()
    monkeypatch.setattr(llm, "reset_prefix_cache", lambda: False)
    trainer.state.global_step = 2
    with pytest.raises(RunError, match=r"vLLM kept the keys and values of the weights before \(reset_prefix_cache\)"):
        trainer._generate_single_turn()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merged_weights_are_those_of_the_merged_model_and_leave_it_as_it_was(qwen3_vl, dtype):
    torch.manual_seed(4)
    plain = copy.deepcopy(qwen3_vl.model).to(dtype)
    linear = r".*language_model.*(q|k|v|o|up|down|gate)_proj|.*visual.*(qkv|linear_fc1)"
    config = LoraConfig(r=4, target_modules=linear, init_lora_weights=False, use_dora=dtype == torch.float32)
    model = get_peft_model(plain, config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = dict(iter_merged_weights(model))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    merged = model.merge_and_unload()  # type: ignore[operator]
    expected = dict(merged.named_parameters(remove_duplicate=False))
    assert found.keys() == expected.keys() and "lm_head.weight" in found
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_prompt_is_handed_over_as_it_was_before_its_video_was_spelled_out(qwen3_vl, trainer):
    processor = qwen3_vl.processor
    for index in (0, 3):
        sample_ = trainer.prompts.samples[index]
        messages = trainer.prompts.task.conversation(sample_.query, duration_s=sample_.duration_s)
        features = encode(processor, messages, trainer.prompts.clip(sample_))
        text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        expected = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert unexpanded(processor, features["input_ids"].tolist()) == expected


def test_clips_are_kept_where_they_are_asked_for(trainer):
    item = trainer.prompts[2]
    assert len(item.clip.frames) == len(item.clip.timestamps_s)
    trainer.prompts.keep_clips = False
    try:
        assert trainer.prompts[2].clip is None
    finally:
        trainer.prompts.keep_clips = True


def check(config: RLConfig) -> None:
    arguments, path = grpo_arguments(config), config.model.path
    engines.check(
        config.rollout.engine,
        arguments,
        given=config.rl,
        pads=config.video.pad,
        answer=config.task.answer,
        model_path=path,
    )


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["rl.vllm_mode=server"], "rl.vllm_mode = 'server': vLLM's server .* set rl.vllm_mode=colocate, or"),
        (["rl.vllm_tensor_parallel_size=2"], "rl.vllm_tensor_parallel_size = 2: every process has a whole vLLM"),
        (["rl.vllm_model_impl=transformers"], "set rl.vllm_model_impl=vllm"),
        (["video.pad=true"], "vLLM cannot mask the padding frames of video.pad; set video.pad=false"),
        (["task=tokens"], "without the temporal tokens that task=tokens adds; set rollout.engine=transformers, or"),
        (["rl.loss_type=vespo"], "set rl.vllm_importance_sampling_mode=token_truncate or token_mask"),
        (["rollout.engine=transformers", "rl.vllm_mode=server"], "rl.vllm_mode is set, but rollout.engine = 'transf"),
    ],
)
def test_what_vllm_cannot_do_is_said_before_anything_loads(demo_dir, tmp_path, words, text):
    config = compose(overrides(demo_dir, tmp_path, "rollout.engine=vllm", *words))
    with pytest.raises(ConfigError, match=text):
        check(config)


def test_vllm_that_is_not_there_and_a_gpu_that_is_not_there_are_named(demo_dir, tmp_path, monkeypatch):
    config = compose(overrides(demo_dir, tmp_path / "run", "rollout.engine=vllm"))
    if engines.importlib.util.find_spec("vllm") is None:
        with pytest.raises(
            ConfigError, match=r"vllm is not installed; pip install 'vtg\[vllm\]', or set rollout.engine"
        ):
            check(config)
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match=r"vLLM needs a CUDA GPU and there is none here; set rollout.engine="):
            check(config)


def test_the_default_engine_needs_nothing(demo_dir, tmp_path):
    config = compose(overrides(demo_dir, tmp_path))
    check(config)
    assert dataclasses.asdict(config.rollout)["engine"] == "transformers"


@pytest.mark.parametrize(
    ("name", "obstacle"),
    [
        ("qwen2_5_vl", "Qwen2.5-VL is told the time by position ids, which vLLM makes of an average frame rate"),
        ("qwen3_5", "Qwen3.5 has recurrent layers, with which vLLM was not tried"),
    ],
)
def test_vllm_is_refused_for_a_family_that_it_does_not_read_as_training_does(name, obstacle, request):
    nothing: Any = None
    processor, folder = request.getfixturevalue(name).processor, request.getfixturevalue(f"{name}_dir")

    def engine() -> None:
        VLLMEngine(
            nothing,
            accelerator=nothing,
            args=nothing,
            processor=processor,
            video=VideoConfig(),
            stop_ids=[],
            max_length=1,
        )

    def before_weights_load() -> None:
        engines.check("vllm", nothing, given=(), pads=False, answer="seconds", model_path=str(folder))

    for refuse in (engine, before_weights_load):
        with pytest.raises(ConfigError) as error:
            refuse()
        assert str(error.value) == (
            f"rollout.engine = 'vllm': {obstacle}; use a Qwen3-VL model, or rollout.engine=transformers"
        )
