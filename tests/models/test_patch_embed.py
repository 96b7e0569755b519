import copy

import pytest
import torch
from torch import nn

from vtg.models.patch_embed import PatchProjection, project_patches_by_matmul


@pytest.fixture
def towers(vlm) -> tuple[nn.Module, nn.Module]:
    """A vision tower as transformers ships it, and a copy with the matrix product."""
    plain = vlm.model.model.visual
    turned = copy.deepcopy(plain)
    assert project_patches_by_matmul(turned) == 1
    return plain, turned


def test_the_whole_tower_gives_the_same_features(towers):
    plain, turned = towers
    torch.manual_seed(0)
    grid = torch.tensor([[3, 4, 6], [1, 2, 2]])
    weight = plain.patch_embed.proj.weight
    pixels = torch.randn(int(grid.prod(1).sum()), weight[0].numel())
    with torch.no_grad():
        before, after = plain(pixels, grid), turned(pixels, grid)
    assert torch.allclose(before.pooler_output, after.pooler_output, atol=1e-5, rtol=1e-5)
    assert torch.allclose(before.last_hidden_state, after.last_hidden_state, atol=1e-5, rtol=1e-5)


def test_the_projection_is_the_convolution_and_so_are_its_gradients(towers):
    plain, turned = (copy.deepcopy(tower.patch_embed.proj) for tower in towers)
    assert type(plain) is nn.Conv3d and type(turned) is PatchProjection
    patches = torch.randn(5, *plain.weight.shape[1:])
    outs = [module(patches) for module in (plain, turned)]
    assert outs[0].shape == outs[1].shape
    assert torch.allclose(*outs, atol=1e-5)
    for out in outs:
        out.pow(2).sum().backward()
    assert torch.allclose(plain.weight.grad, turned.weight.grad, rtol=1e-4, atol=1e-4)


def test_parameters_keep_their_names_and_values(towers):
    plain, turned = towers
    before, after = plain.state_dict(), turned.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    plain.load_state_dict(after)


def test_turning_twice_turns_nothing_more(towers):
    assert project_patches_by_matmul(towers[1]) == 0


def test_a_bias_is_kept():
    convolution = nn.Conv3d(3, 8, kernel_size=(2, 4, 4), stride=(2, 4, 4))
    patches = torch.randn(3, 3, 2, 4, 4)
    before = convolution(patches)
    project_patches_by_matmul(nn.Sequential(convolution))
    assert torch.allclose(convolution(patches), before, atol=1e-6)


@pytest.mark.parametrize("setting", [{"stride": 1}, {"stride": 2, "padding": 1}])
def test_a_sliding_convolution_is_refused(setting):
    with pytest.raises(ValueError, match=r"a Conv3d with stride .* and kernel \(2, 2, 2\) is no patch embedding"):
        project_patches_by_matmul(nn.Sequential(nn.Conv3d(3, 4, kernel_size=2, **setting)))
