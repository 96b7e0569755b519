"""The loss that keeps experts evenly used, in the trainers: added right, and nothing where it is off."""

import json
import math

import joint_runs
import pytest
import rl_runs
import torch
from sft_runs import overrides, read
from test_part_rates import trainer_of

from vtg.data.encoding import IGNORE_INDEX
from vtg.models.routing import Routers, token_weights

PACKED = ("batching.packing=true", "batching.share_video=true", "trainer.per_device_train_batch_size=1")
TRAINED = ("model.attention=sdpa", "lora.r=4", "parts.router=full")


@pytest.fixture
def trainer(tiny_dir, demo_dir, tmp_path):
    """Builds a trainer of the mixture of experts."""
    folder = tiny_dir("qwen3_5_moe")

    def built(*words: str):
        out = tmp_path / f"run_{len(list(tmp_path.iterdir()))}"
        made = trainer_of(overrides(demo_dir, out, f"model.path={folder}", *TRAINED, *words))
        made.model.train()
        return made

    return built


def micro_batches(trainer, count: int) -> list[dict]:
    loader = iter(trainer.get_train_dataloader())
    return [next(loader) for _ in range(count)]


def router_gradients(trainer, loss: torch.Tensor) -> torch.Tensor:
    parameters = [one for name, one in trainer.model.named_parameters() if ".gate." in name and one.requires_grad]
    assert len(parameters) == trainer.model.config.text_config.num_hidden_layers
    return torch.cat([one.flatten() for one in torch.autograd.grad(loss, parameters)])


@pytest.mark.parametrize("words", [(), PACKED])
def test_a_step_adds_the_router_losses_of_its_micro_batches_by_their_answer_tokens(trainer, words):
    plain, on = trainer(*words), trainer(*words, "parts.router_loss=0.5")
    batches = micro_batches(plain, 2)
    items = torch.tensor(sum(int((batch["labels"][:, 1:] != IGNORE_INDEX).sum()) for batch in batches))
    routers = Routers(plain.model)
    for batch, same in zip(batches, micro_batches(on, 2), strict=True):
        weights, own = token_weights(batch), int((batch["labels"][:, 1:] != IGNORE_INDEX).sum())
        with routers.recorded() as recorded:
            without = plain.compute_loss(plain.model, batch, num_items_in_batch=items)
        balance = routers.balance(recorded, weights)
        found = on.compute_loss(on.model, same, num_items_in_batch=items)
        torch.testing.assert_close(found, without + 0.5 * balance * own / items, rtol=1e-6, atol=0.0)
        wanted = without + 0.5 * balance * own / items
        mine, theirs = router_gradients(on, found), router_gradients(plain, wanted)
        assert (mine - theirs).norm() <= 1e-4 * theirs.norm()
    on.log({"loss": 1.0})
    assert 0.5 < on.state.log_history[-1]["router_loss"] < 8
    assert not on.router_losses


@pytest.mark.soak
@pytest.mark.distributed
def test_two_ranks_train_and_log_the_mean_that_one_does(tiny_dir, demo_dir, tmp_path):
    """Of the same micro-batches: one after the other on one rank, one on each of two."""
    logs = {}
    for ranks in (2, 1):
        out = tmp_path / str(ranks)
        shape = ("trainer.per_device_train_batch_size=2", f"trainer.gradient_accumulation_steps={2 // ranks}")
        words = (f"model.path={tiny_dir('qwen3_5_moe')}", *TRAINED, "parts.router_loss=0.5", "model.dtype=float32")
        off = ("data.val_file=null", "data.test_file=null", "trainer.use_cpu=true", "trainer.warmup_steps=0")
        jobs = [("sft", overrides(demo_dir, out, *words, *shape, *off, "trainer.max_steps=2"))]
        joint_runs.launch(jobs, processes=ranks, folder=tmp_path)
        lines = [line for line in read(out / "train_log.jsonl") if "router_loss" in line]
        logs[ranks] = [[line[name] for name in ("router_loss", "loss", "grad_norm")] for line in lines]
    assert len(logs[1]) == 2
    for one, two in zip(logs[1], logs[2], strict=True):
        assert two == pytest.approx(one, rel=1e-4)


def test_off_is_bit_for_bit_without_it(trainer):
    found = []
    for words in ((), ("parts.router_loss=0",)):
        made = trainer(*words)
        assert made.routing is None
        loss = made.compute_loss(made.model, micro_batches(made, 1)[0])
        found.append((loss.detach(), router_gradients(made, loss)))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])


def test_gradient_checkpointing_changes_neither_the_loss_nor_what_reaches_the_routers(trainer):
    found = []
    for checkpoints in ("false", "true"):
        made = trainer("parts.router_loss=0.5", f"trainer.gradient_checkpointing={checkpoints}")
        if made.args.gradient_checkpointing:
            made.model.gradient_checkpointing_enable(made.args.gradient_checkpointing_kwargs)
        loss = made.compute_loss(made.model, micro_batches(made, 1)[0])
        found.append((loss.detach(), router_gradients(made, loss)))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-6, atol=0.0)
    assert (found[1][1] - found[0][1]).norm() <= 1e-5 * found[0][1].norm()


def test_grpo_adds_it_too_and_the_same_whether_prompts_are_shared(tiny_dir, demo_dir, tmp_path):
    """Of two prompts about one clip, which shared prompts run once."""
    losses, gradients, folder = {}, {}, tiny_dir("qwen3_5_moe")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f"{json.dumps(row)}\n" for row in read(demo_dir / "train.jsonl")[:2]))
    for name, words in {
        "off": (),
        "shared": ("parts.router_loss=0.5",),
        "repeated": ("parts.router_loss=0.5", "rollout.share_prompt=false"),
    }.items():
        words = (f"model.path={folder}", *TRAINED[1:], "trainer.bf16=false", *words)
        made = rl_runs.build(
            rl_runs.overrides(demo_dir, tmp_path / name, *words, "rl.beta=0.1", f"data.annotation_file={rows}")
        )
        assert (made.policy.routers is not None) == (name != "off")
        torch.manual_seed(0)
        inputs = rl_runs.window(made)[0]
        common = {prompt.common for prompt in inputs["batch"].prompts}
        assert (0 in common) == (name == "repeated") and len(inputs["batch"].prompts) == 2
        loss = made.compute_loss(made.model, dict(inputs))
        losses[name], gradients[name] = float(loss.detach()), router_gradients(made, loss)
    assert all(map(math.isfinite, losses.values())) and losses["shared"] > losses["off"] + 0.1
    assert losses["shared"] == pytest.approx(losses["repeated"], rel=1e-5)
    assert (gradients["shared"] - gradients["repeated"]).norm() <= 1e-4 * gradients["repeated"].norm()
