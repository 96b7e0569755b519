"""Attention by a layout is that under the mask which says the same; a tower attends within all frames at once."""

import copy
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode

from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import encode, patch_factor
from vtg.data.layout import Layout
from vtg.data.whole_mask import whole_mask
from vtg.models import attention
from vtg.models.attention import attend_in_layouts, segments_by_sdpa, segments_by_varlen
from vtg.models.families import family_of
from vtg.tasks.span_task import SpanTask

FUNCTIONS: dict[str, Any] = {"sdpa": segments_by_sdpa, "varlen": segments_by_varlen}

HEADS, KEY_HEADS, SIZE = 4, 2, 8
MODULE = SimpleNamespace(num_key_value_groups=HEADS // KEY_HEADS, is_causal=True, training=True)

# Two conversations with padding frames amid one, and a clip that three ask about, between them.
SEGMENTS = [0] * 5 + [-1] * 2 + [0] * 3 + [1] * 21 + [2] * 7
BRANCHES = [0] * 10 + [0] * 9 + [1] * 4 + [2] * 5 + [3] * 3 + [0] * 7


def states(length: int, *, seed: int = 0) -> list[torch.Tensor]:
    """Queries, keys and values (1, heads, L, d), and what the output is weighed with (1, L, heads, d)."""
    random = torch.Generator().manual_seed(seed)
    shapes = [(1, heads, length, SIZE) for heads in (HEADS, KEY_HEADS, KEY_HEADS)]
    found = [torch.randn(shape, generator=random).requires_grad_() for shape in shapes]
    return [*found, torch.randn(1, length, HEADS, SIZE, generator=random)]


def masked(given: list[torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
    """The same under a mask of all tokens by all tokens: (1, L, heads, d)."""
    query, key, value = given
    return scaled_dot_product_attention(query, key, value, mask, enable_gqa=True).transpose(1, 2)


def by_layout(kernel: str, given: list[torch.Tensor], layout: Layout) -> torch.Tensor:
    return FUNCTIONS[kernel](MODULE, *given, None, layout=layout)[0]


def with_gradients(out: torch.Tensor, weights: torch.Tensor, given: list[torch.Tensor]) -> list[torch.Tensor]:
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), given)]


def assert_near(found: list[torch.Tensor], wanted: list[torch.Tensor], bound: float) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).norm() <= bound * max(
            1.0, float(other.norm())
        )  # all but 0 where a token sees itself alone


@pytest.mark.parametrize("kernel", FUNCTIONS)
@given(
    runs=st.lists(st.tuples(st.integers(-1, 2), st.integers(0, 2), st.integers(1, 9)), min_size=1, max_size=9),
    both_ways=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_a_layout_says_what_the_mask_says(kernel, runs, both_ways):
    count = 1 + max(run[0] for run in runs)
    # Each begins with what all of it sees; pieces of others, and padding, may come between.
    runs = [(segment, 0, 1) for segment in range(max(count, 1))] + sorted(runs, key=lambda run: run[1])
    segments, branches = (torch.tensor([run[at] for run in runs for _ in range(run[2])]) for at in range(2))
    branches[segments < 0] = 0
    # Vision tokens are in no branch.
    vision = (torch.arange(len(segments)) % 3 > 0) & (branches == 0) & (segments >= 0) if both_ways else None
    *given, weights = states(len(segments), seed=len(segments))
    weights[:, segments < 0] = 0  # nobody's tokens make nothing that counts
    mask = whole_mask(segments, branches, dtype=torch.float32, both_ways=vision)
    wanted = with_gradients(masked(given, mask), weights, given)
    found = with_gradients(by_layout(kernel, given, Layout.of(segments, branches, vision)), weights, given)
    attended = segments >= 0
    found[0], wanted[0] = found[0][:, attended], wanted[0][:, attended]
    assert_near(found, wanted, 1e-5)


def tree_mask(parts: list[int], parents: list[int]) -> torch.Tensor:
    """(1, 1, L, L) of parts with parts to go on from, token by token."""
    mask = torch.full((len(parts), len(parts)), -torch.inf)
    for query, part in enumerate(parts):
        seen = {part}
        while part >= 0 and (part := parents[part]) >= 0:
            seen.add(part)
        for key in range(query + 1):
            if key == query or (parts[key] in seen and parts[key] >= 0):
                mask[query, key] = 0
    return mask[None, None]


@pytest.mark.parametrize("kernel", FUNCTIONS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_branches_have_branches(kernel, data):
    segments = data.draw(st.integers(1, 3))
    parents = [-1] * segments
    while len(parents) < segments + 5 and data.draw(st.booleans()):
        parents.append(data.draw(st.integers(0, len(parents) - 1)))
    lengths = data.draw(st.lists(st.integers(1, 6), min_size=len(parents), max_size=len(parents)))
    parts = [part for part, length in enumerate(lengths) for _ in range(length)]
    # Padding may lie amid a segment.
    parts = [-1] * data.draw(st.integers(0, 2)) + parts if data.draw(st.booleans()) else parts
    *given, weights = states(len(parts), seed=len(parts))
    attended = torch.tensor(parts) >= 0
    weights[:, ~attended] = 0
    wanted = with_gradients(masked(given, tree_mask(parts, parents)), weights, given)
    layout = Layout.of_parts(torch.tensor(parts), parents)
    assert layout.lengths == tuple(lengths) and layout.segments == tuple(lengths[:segments])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(attention, "GATHERED_KEYS", data.draw(st.sampled_from([1, 20, 2**17])))
        patched.setattr(attention, "KEPT_BYTES", data.draw(st.sampled_from([0, 2**20])))
        found = with_gradients(by_layout(kernel, given, layout), weights, given)
    found[0], wanted[0] = found[0][:, attended], wanted[0][:, attended]
    assert_near(found, wanted, 1e-5)


@pytest.mark.parametrize("kernel", FUNCTIONS)
def test_questions_about_a_clip_keep_no_copies_of_its_keys_for_the_backward_pass(kernel, monkeypatch):
    """What is kept is of all tokens once, however many questions there are."""
    monkeypatch.setattr(attention, "KEPT_BYTES", 0)
    kept = {}
    for questions in (2, 12):
        parts = [0] * 400 + [1 + at for at in range(questions) for _ in range(5)]
        parts += [1 + questions + at for at in range(2 * questions) for _ in range(4)]
        parents = [-1, *[0] * questions, *(1 + at // 2 for at in range(2 * questions))]
        *given, _ = states(len(parts))
        layout, seen = Layout.of_parts(torch.tensor(parts), parents), {}

        def note(tensor: torch.Tensor, seen: dict[int, int] = seen) -> torch.Tensor:
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            out = by_layout(kernel, given, layout)
        kept[questions] = sum(seen.values()) / len(parts)
        assert out.shape[1] == len(parts)
    assert kept[12] < 2 * kept[2]


@pytest.mark.parametrize(("kept_bytes", "again"), [(0, 2), (2**20, 0)])
def test_attention_of_small_chunks_is_not_computed_again_in_the_backward_pass(monkeypatch, kept_bytes, again):
    monkeypatch.setattr(attention, "KEPT_BYTES", kept_bytes)
    parts = [0] * 40 + [1] * 5 + [2] * 5 + [3] * 4 + [4] * 4
    *given, weights = states(len(parts))
    layout, calls = Layout.of_parts(torch.tensor(parts), [-1, 0, 0, 1, 2]), Calls()
    assert sum(len(chunk.before) > 1 for chunk in layout.chunks) == 2
    out = by_layout("sdpa", given, layout)
    with calls:
        (out * weights).sum().backward()
    assert calls.count["attention"] == again


def test_a_layout_knows_its_segments_and_where_they_stand():
    layout = Layout.of(torch.tensor(SEGMENTS), torch.tensor(BRANCHES))
    assert layout.segments == (8, 9, 7) and layout.lengths == (8, 9, 7, 4, 5, 3) and layout.nobodys == 2
    assert layout.parents == (-1, -1, -1, 1, 1, 1)
    assert layout.order is not None and layout.order[:8].tolist() == [0, 1, 2, 3, 4, 7, 8, 9]
    (gather,) = layout.key_gathers(39)
    assert (
        gather.own == slice(26, 38)
        and gather.bounds.queries.tolist() == [0, 4, 9, 12]
        and gather.bounds.keys.tolist() == [0, 13, 27, 39]
    )
    assert gather.keys[:13].tolist() == [*range(8, 17), *range(26, 30)]
    assert [one.own for one in layout.key_gathers(26)] == [slice(26, 30), slice(30, 38)]
    assert [len(one.keys) for one in layout.key_gathers(5)] == [13, 14, 12]
    plain = Layout.of(torch.tensor([0, 0, 1, 1, 1]), torch.zeros(5, dtype=torch.int64))
    assert plain.order is None and not plain.chunks and plain.head_bounds.queries.tolist() == [0, 2, 5]


class Calls(TorchDispatchMode):
    """Counts calls of attention kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count["attention"] += "scaled_dot_product" in str(func) and "backward" not in str(func)
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def test_a_tower_attends_within_all_frames_of_a_size_at_once(vlm, make_clip):
    """As it did frame by frame; the windows of Qwen2.5-VL have at most four sizes."""
    model, factor = copy.deepcopy(vlm.model), patch_factor(vlm.processor)
    attend_in_layouts(model, "sdpa")
    clip = make_clip([0.5 * at for at in range(12)], size=(5 * factor, 6 * factor), seed=1)
    features = encode(vlm.processor, SpanTask(TaskConfig()).conversation("a dog", duration_s=9.0), clip)
    inputs = {name: features[name] for name in family_of(model.config).vision_inputs}
    made, calls = [], []
    for one in (vlm.model, model):
        with Calls() as counted:
            made.append(torch.cat(list(one.model.get_video_features(*inputs.values()).pooler_output)))
        calls.append(counted.count["attention"])
    assert (made[0] - made[1]).abs().max() <= 1e-5 * made[0].abs().max()
    layers = model.config.vision_config.depth
    windows = hasattr(model.config.vision_config, "fullatt_block_indexes")
    assert calls[1] <= (4 if windows else 1) * layers and calls[0] >= 6 * layers


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kernel", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_gpu_a_layout_is_as_near_to_float32_as_the_mask_is(kernel, dtype):
    """At sizes of a published model: a long clip that eight ask about, and two shorter ones."""
    lengths = [(0, 0, 3000), *((0, at, 40 + at) for at in range(1, 9)), (1, 0, 777), (2, 0, 1)]
    segments, branches = (torch.tensor([run[at] for run in lengths for _ in range(run[2])]) for at in range(2))
    random = torch.Generator().manual_seed(0)
    shapes = [(1, heads, len(segments), 128) for heads in (8, 2, 2)]
    exact = [torch.randn(shape, generator=random).bfloat16().double().requires_grad_() for shape in shapes]
    weights = torch.randn(1, len(segments), 8, 128, generator=random).bfloat16()
    mask = whole_mask(segments, branches, dtype=torch.float64)
    wanted = with_gradients(masked(exact, mask), weights.double(), exact)
    cast: Any = [one.detach().to("cuda", dtype).requires_grad_() for one in exact]
    on_gpu = weights.to("cuda", dtype)
    plain = with_gradients(masked(cast, mask.to("cuda", dtype)), on_gpu, cast)
    module = SimpleNamespace(num_key_value_groups=4, is_causal=True, training=True)
    layout = Layout.of(segments.cuda(), branches.cuda())
    found = with_gradients(FUNCTIONS[kernel](module, *cast, None, layout=layout)[0], on_gpu, cast)
    for one, other, right in zip(found, plain, wanted, strict=True):
        ours, theirs = (float((part.cpu().double() - right).norm() / right.norm()) for part in (one, other))
        assert ours <= 2 * theirs + 1e-6, (ours, theirs)


@pytest.mark.parametrize("kernel", FUNCTIONS)
def test_another_layout_is_no_new_compilation(kernel):
    """Layers that are compiled for any length stay so: attention by a layout is left out of the program."""
    programs: list[Any] = []

    def backend(program: Any, inputs: Any) -> Any:
        programs.append(program)
        return program.forward

    module = torch.nn.Module()
    module.num_key_value_groups, module.is_causal = HEADS // KEY_HEADS, True

    def layer(given: list[torch.Tensor], layout: Layout) -> torch.Tensor:
        query, key, value = (2 * one for one in given)
        return 3 * FUNCTIONS[kernel](module, query, key, value, None, layout=layout)[0]

    compiled, counts = torch.compile(layer, dynamic=True, backend=backend), []
    for lengths in ((5, 9), (7, 4, 20), (3, 11), (2, 2, 6, 9), (8, 3, 3, 3, 12)):
        segments = torch.tensor([at for at, length in enumerate(lengths) for _ in range(length)])
        branches = torch.tensor([0] * (len(segments) - 2) + [1] * 2)
        *given, _ = states(len(segments))
        assert torch.equal(compiled(given, Layout.of(segments, branches)), layer(given, Layout.of(segments, branches)))
        counts.append(len(programs))
    assert counts == [counts[0]] * 5 and counts[0]
