"""Recurrent layers keep sequences apart and padding out, where no mask is looked at."""

import functools
import inspect
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pad_sequence
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.models.qwen3_5 import modeling_qwen3_5 as modeling

from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import Features, encode, patch_factor
from vtg.data.layout import Layout
from vtg.data.padding import collate
from vtg.errors import ConfigError
from vtg.models import recurrence
from vtg.models.recurrence import CONVOLUTION, RULE, is_recurrent, kernel_fault, part_sequences
from vtg.tasks.span_task import SpanTask

TASK = SpanTask(TaskConfig())
WIDTH, KERNEL = 8, 4


def encoded(vlm, clip, query: str) -> Features:
    return encode(vlm.processor, TASK.conversation(query, duration_s=9.0, spans=[(1.0, 2.5)]), clip)


@torch.no_grad()
def logits(model: Any, rows: list[Features], side: str = "right") -> list[torch.Tensor]:
    """Of the tokens of each row that are attended to."""
    batch = collate(rows, pad_token_id=0, padding_side=side)
    del batch["labels"]
    found = model(**batch, use_cache=False).logits
    return [one[mask.bool()] for one, mask in zip(found, batch["attention_mask"], strict=True)]


def assert_close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_at_either_side_does_not_reach_the_state(vlm, make_clip, side):
    size = (2 * patch_factor(vlm.processor),) * 2
    rows = [
        encoded(vlm, make_clip([0.0, 0.5, 1.0, 1.5, 2.0, 2.5], size=size, seed=1), "someone sits down, then stands up"),
        encoded(vlm, make_clip([0.0, 0.5], size=size, seed=2), "a"),
        encoded(vlm, replace(make_clip([0.2], size=size, seed=3), pad=5), "a dog"),
    ]
    assert len({len(row["input_ids"]) for row in rows}) == 3
    for one, row in zip(logits(vlm.model, rows, side), rows, strict=True):
        assert_close(one, logits(vlm.model, [row])[0])


def test_padding_frames_amid_a_conversation_leave_its_logits_as_they_are(vlm, make_clip):
    size = (2 * patch_factor(vlm.processor),) * 2
    clip = make_clip([0.2, 0.7], size=size, seed=3)
    wanted = logits(vlm.model, [encoded(vlm, clip, "a dog")])[0]
    padded = encoded(vlm, replace(clip, pad=6), "a dog")
    assert 0 in padded["attention_mask"] and len(padded["input_ids"]) > len(wanted)
    found = logits(vlm.model, [padded, encoded(vlm, make_clip([0.0, 0.5], size=size, seed=2), "a man")])[0]
    assert_close(found, wanted)


def random_inputs(length: int) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """Queries, keys and values (1, L, 2, W), and gates whose state lasts for some tokens."""
    torch.manual_seed(length)
    tensors = [torch.randn(1, length, 2, WIDTH, requires_grad=True) for _ in range(3)]
    gates = {"g": -torch.rand(1, length, 2) / 4, "beta": torch.rand(1, length, 2)}
    return tensors, {name: one.requires_grad_() for name, one in gates.items()}


def paths(parts: list[int], parents: list[int]) -> list[torch.Tensor]:
    """Of each part its tokens, with all before them that it goes on from."""
    found: list[torch.Tensor] = []
    for part, parent in enumerate(parents):
        own = (torch.tensor(parts) == part).nonzero()[:, 0]
        found.append(torch.cat([found[parent], own]) if parent >= 0 else own)
    return found


# A segment of one token with branches of one token, all shorter than the convolution sees; a segment of 70, longer than
# a chunk of the rule; branches of different lengths, and theirs, four deep; tokens in no part; parts whose tokens are
# not adjacent.
PARTS = [0, 4, 5, 5, *[-1] * 3, 9, *[10] * 3, *[1] * 70, *[6] * 7, 7, 7, *[2] * 5, 11, 7, 8, 3, *[12] * 5, 13, 13]
PARENTS = [-1, -1, -1, -1, 0, 0, 1, 1, 1, 4, 9, 7, 11, 11]


@pytest.fixture(scope="module")
def layout(qwen3_5) -> Layout:
    assert is_recurrent(qwen3_5.model)
    return Layout.of_parts(torch.tensor(PARTS), PARENTS)


def test_equally_deep_parts_of_a_segment_are_read_together(layout):
    segments = layout.levels.segments
    assert [[tuple(level.tokens.shape) for level in levels] for levels in segments] == [
        [(1, 1), (2, 2), (1, 1), (1, 3)],
        [(1, 70), (3, 7), (1, 1), (2, 5)],
        [(1, 5)],
        [(1, 1)],
    ]
    assert [level.parents.tolist() for level in segments[1]] == [[0], [0, 0, 0], [1], [0, 0]]
    branches = segments[1][1]
    own = [row[~past].tolist() for row, past in zip(branches.tokens, branches.past, strict=True)]
    assert own == [[at for at, part in enumerate(PARTS) if part == one] for one in (6, 7, 8)]
    for places in (layout.levels.places, layout.windows(KERNEL).places):
        covered = places[places < len(PARTS)].tolist()
        assert sorted(covered) == [at for at, part in enumerate(PARTS) if part >= 0]


def test_a_convolution_reads_what_is_before_a_part_also_across_short_ones(layout):
    windows = layout.windows(KERNEL)
    assert layout.windows(KERNEL) is windows
    tokens = windows.tokens.index_fill(0, windows.empty, -1)
    found = [one.tolist() for one in tokens.split([KERNEL - 1 + length for length in layout.lengths])]
    for one, path in zip(found, paths(PARTS, PARENTS), strict=True):
        assert one == ([-1] * (KERNEL - 1) + path.tolist())[-len(one) :]


def compared(found: torch.Tensor, alone: list[tuple[torch.Tensor, torch.Tensor]], inputs: list[torch.Tensor]) -> None:
    """`found` (L, …) at the tokens of each row is what the row alone gave, and so are the gradients of the inputs."""
    weights = torch.linspace(-1, 1, found.numel()).view_as(found)
    loss = torch.zeros(())
    counted = torch.zeros(len(found), dtype=torch.bool)
    for indices, one in alone:
        assert (found[indices] - one).abs().max() < 2e-6
        new = ~counted[indices]  # a prefix counts once, however many branches begin with it
        loss = loss + (one * weights[indices])[new].sum()
        counted[indices] = True
    assert not found[~counted].any()
    ours = torch.autograd.grad((found * weights)[counted].sum(), inputs)
    for mine, theirs in zip(ours, torch.autograd.grad(loss, inputs), strict=True):
        assert theirs.norm() > 0
        assert (mine - theirs).norm() < 1e-5 * theirs.norm()


MORE: dict[str, Any] = {"use_qk_l2norm_in_kernel": True, "output_final_state": False, "initial_state": None}


def assert_the_state_goes_on(parts: list[int], parents: list[int], layout: Layout) -> None:
    tensors, gates = random_inputs(len(parts))
    rule = getattr(modeling, RULE)

    def run_alone(indices: torch.Tensor) -> torch.Tensor:
        own = {name: one[:, indices] for name, one in gates.items()}
        return rule(*(one[:, indices] for one in tensors), **own, **MORE)[0][0]

    found, state = rule(*tensors, **gates, **MORE, layout=layout)
    assert state is None
    alone = [(indices, run_alone(indices)) for indices in paths(parts, parents)]
    compared(found[0], alone, [*tensors, *gates.values()])


def assert_the_convolution_sees_the_end(parts: list[int], parents: list[int], layout: Layout) -> None:
    torch.manual_seed(0)
    states = torch.randn(1, WIDTH, len(parts), requires_grad=True)
    weight = torch.randn(WIDTH, KERNEL, requires_grad=True)
    convolve = getattr(modeling, CONVOLUTION)
    found = convolve(states, weight, None, activation="silu", layout=layout)
    assert found.shape == states.shape
    alone = [
        (indices, convolve(states[..., indices], weight, None, activation="silu")[0].T)
        for indices in paths(parts, parents)
    ]
    compared(found[0].T, alone, [states, weight])


def test_the_state_of_a_part_is_what_its_branches_go_on_from(layout):
    assert_the_state_goes_on(PARTS, PARENTS, layout)
    tensors, gates = random_inputs(len(PARTS))
    found, unparted = (getattr(modeling, RULE)(*tensors, **gates, **MORE, layout=one)[0] for one in (layout, None))
    assert (unparted[0, -1] - found[0, -1]).abs().max() > 0.01  # as it would be in silence


def test_the_convolution_of_a_branch_sees_the_end_of_what_is_before_it_and_no_other(layout):
    assert_the_convolution_sees_the_end(PARTS, PARENTS, layout)


@pytest.mark.usefixtures("layout")
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_any_tree_of_parts_is_read_as_its_paths_alone(data):
    segments = data.draw(st.integers(1, 3))
    parents = [-1] * segments
    while len(parents) < segments + 6 and data.draw(st.booleans()):
        parents.append(data.draw(st.integers(0, len(parents) - 1)))
    sizes = st.sampled_from([1, 1, 2, 3, 5, 66])
    lengths = data.draw(st.lists(sizes, min_size=len(parents), max_size=len(parents)))
    lengths[0] += 1  # of single tokens, no decay has a gradient
    parts = [part for part, length in enumerate(lengths) for _ in range(length)] + [-1] * data.draw(st.integers(0, 2))
    if data.draw(st.booleans()):
        data.draw(st.randoms(use_true_random=False)).shuffle(parts)
    layout = Layout.of_parts(torch.tensor(parts), parents)
    assert_the_state_goes_on(parts, parents, layout)
    assert_the_convolution_sees_the_end(parts, parents, layout)


class Waits(TorchDispatchMode):
    """Names the operations for which the CPU would wait for a GPU: those that look at a number, or at how many."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        looks = name in {"nonzero", "_local_scalar_dense", "masked_select", "is_nonzero", "equal"} or "unique" in name
        # A choice by booleans is made by `nonzero` within the operation.
        chosen = args[1] if name in {"index", "index_put", "index_put_", "_index_put_impl_"} else ()
        if looks or any(one is not None and one.dtype == torch.bool for one in chosen):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def test_no_layer_waits_for_a_gpu(layout):
    with Waits() as waits:
        values = torch.ones(3)
        assert values[values > 0].sum().item() == 3
    assert set(waits.found) == {"index", "_local_scalar_dense"}
    assert layout.levels and layout.windows(KERNEL)  # made once, by the first layer
    tensors, gates = random_inputs(len(PARTS))
    states, weight = (torch.randn(*size, requires_grad=True) for size in ((1, WIDTH, len(PARTS)), (WIDTH, KERNEL)))
    with Waits() as waits:
        made, _ = getattr(modeling, RULE)(*tensors, **gates, **MORE, layout=layout)
        convolved = getattr(modeling, CONVOLUTION)(states, weight, None, activation="silu", layout=layout)
        (made.sum() + convolved.sum()).backward()
    assert states.grad is not None and not waits.found


def test_padding_amid_a_row_is_read_before_its_first_token(qwen3_5):
    lengths, tokens = [3, 9, 6], 12
    masks = pad_sequence([torch.ones(length) for length in lengths], batch_first=True, padding_value=0)
    masks = torch.stack([torch.cat([row, torch.zeros(tokens - len(row))])[torch.randperm(tokens)] for row in masks])
    order = masks.argsort(dim=1, stable=True)
    torch.manual_seed(1)
    parts = [torch.randn(3, tokens, 2, WIDTH) for _ in range(3)]
    gates = {"g": -torch.rand(3, tokens, 2), "beta": torch.rand(3, tokens, 2)}
    parts[1] = parts[1] * masks[..., None, None]  # no key, and no value, as where hidden states are zero
    parts[2] = parts[2] * masks[..., None, None]
    found, states = getattr(modeling, RULE)(*parts, **gates, token_order=order, output_final_state=True)
    for row, mask in enumerate(masks.bool()):
        own = {name: one[row : row + 1, mask] for name, one in gates.items()}
        wanted, state = getattr(modeling, RULE)(
            *(one[row : row + 1, mask] for one in parts), **own, output_final_state=True
        )
        assert (found[row, mask] - wanted[0]).abs().max() < 1e-5
        assert (states[row] - state[0]).abs().max() < 1e-5


def test_other_families_stay_as_they_are_and_a_second_call_changes_nothing(qwen3_5, qwen3_vl):
    assert not is_recurrent(qwen3_vl.model)
    hooks = dict(qwen3_5.model.model.language_model._forward_pre_hooks)
    functions = [getattr(modeling, name) for name in (CONVOLUTION, RULE)]
    for vlm in (qwen3_5, qwen3_vl):
        part_sequences(vlm.model)
    assert qwen3_5.model.model.language_model._forward_pre_hooks == hooks and len(hooks) == 1
    assert [getattr(modeling, name) for name in (CONVOLUTION, RULE)] == functions
    assert not qwen3_vl.model.model.language_model._forward_pre_hooks


def test_layers_that_are_made_otherwise_are_named_with_what_to_install(qwen3_5, monkeypatch):
    fresh = type(qwen3_5.model)(qwen3_5.model.config)
    monkeypatch.delattr(modeling, RULE)
    told = rf"^transformers \S+: its Qwen3\.5 has no {RULE} as vtg needs it to keep sequences apart; install "
    with pytest.raises(ConfigError, match=told):
        part_sequences(fresh)


def test_the_layers_still_look_their_functions_up_where_they_are_wrapped():
    source = inspect.getsource(modeling.Qwen3_5GatedDeltaNet.forward)
    assert f"{CONVOLUTION}(" in source and f"{RULE}(" in source and source.count("**kwargs,") >= 2


@pytest.mark.parametrize(
    ("capability", "triton", "has_tilelang", "can"),
    [
        ((9, 0), "3.6.0", False, False),  # as seen with torch 2.11 on an H200
        ((9, 0), "3.6.0", True, True),
        ((9, 0), "3.3.1", False, True),
        ((9, 0), "3.7.1", False, True),
        ((8, 0), "3.6.0", False, True),
        ((10, 0), "3.6.0", False, True),
    ],
)
def test_kernels_are_refused_where_their_gradients_would_be_wrong(capability, triton, has_tilelang, can):
    fault = kernel_fault(capability, triton, has_tilelang=has_tilelang)
    assert (fault is None) == can
    assert can or "Triton 3.6.0 on a Hopper GPU: 3.7.1 or later is needed, or pip install tilelang" in fault


def test_a_kernel_of_the_gpu_is_not_called_on_a_cpu(monkeypatch, qwen3_5):
    """transformers takes flash-linear-attention's kernel wherever the package is installed."""
    reference = inspect.unwrap(getattr(modeling, RULE))

    @functools.wraps(reference)
    def kernel(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a kernel was called on the CPU")

    monkeypatch.setattr(modeling, RULE, recurrence._parted_rule(kernel))
    ids = torch.tensor([[1, 2, 3]])
    assert qwen3_5.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.isfinite().all()
