"""Completions as a sequence holds them can be read back from it; what several begin with stands there once."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from vtg.decoding.completion_tree import CompletionTree

LAST, PADDING = 9, 7

# Of three tokens, so that many begin alike, and some are the same or the beginning of others.
COMPLETIONS = st.lists(st.lists(st.integers(0, 2), max_size=6), min_size=1, max_size=7)


def tree_of(completions: list[list[int]], *, shared: bool) -> CompletionTree:
    length = max(1, *map(len, completions))
    padded = torch.tensor([one + [PADDING] * (length - len(one)) for one in completions])
    return CompletionTree.of(torch.tensor([LAST]), padded, list(map(len, completions)), shared=shared)


def seen_from(tree: CompletionTree, place: int) -> list[int]:
    """The tokens on the way from the prompt to this one of the T."""
    parts = [part for part, length in enumerate(tree.lengths) for _ in range(length)]
    first = place
    while first and parts[first - 1] == parts[place]:
        first -= 1
    parent = tree.parents[parts[place]]
    before = [] if parent < 0 else seen_from(tree, len(parts) - 1 - parts[::-1].index(parent))
    return before + tree.ids[first : place + 1].tolist()


@given(completions=COMPLETIONS, shared=st.booleans())
def test_every_token_is_predicted_from_the_last_of_the_prompt_and_those_before_it(completions, shared):
    tree = tree_of(completions, shared=shared)
    assert sum(tree.lengths) == len(tree.ids) == len(tree.depths) and all(tree.lengths)
    assert all(parent < part for part, parent in enumerate(tree.parents))
    for completion, places in zip(completions, tree.places.tolist(), strict=True):
        for at in range(len(completion)):
            seen = seen_from(tree, places[at])
            assert seen == [LAST, *completion[:at]] and tree.depths[places[at]] == at


@given(completions=COMPLETIONS)
def test_what_several_begin_with_stands_once(completions):
    tree = tree_of(completions, shared=True)
    beginnings = {tuple(one[:length]) for one in completions for length in range(len(one))}
    assert len(tree.ids) == len(beginnings)
    # No two branches of a part begin with the same token, so that it is one part as long as there is no other.
    starts = [sum(tree.lengths[:part]) for part in range(len(tree.lengths))]
    first = [(parent, int(tree.ids[start])) for parent, start in zip(tree.parents, starts, strict=True)]
    assert len(set(first)) == len(first)


@given(completions=COMPLETIONS)
def test_without_sharing_each_is_a_part_of_its_own_without_its_padding(completions):
    tree = tree_of(completions, shared=False)
    assert tree.lengths == tuple(len(one) for one in completions if one)
    assert set(tree.parents) <= {-1}


def test_parts_stand_right_behind_what_they_go_on_from():
    completions = [[0, 1, 2, 2], [0, 1, 1], [0, 1, 2, 0], [2, 2]]
    tree = tree_of(completions, shared=True)
    assert tree.ids.tolist() == [LAST, 0, 1, 2, 2]
    assert tree.lengths == (1, 2, 1, 1) and tree.parents == (-1, 0, 1, 0)
    assert tree.places[:, :2].tolist() == [[0, 1], [0, 1], [0, 1], [0, 4]]
    alone = tree_of(completions, shared=False)
    assert alone.ids.tolist() == [LAST, 0, 1, 2, LAST, 0, 1, LAST, 0, 1, 2, LAST, 2]
