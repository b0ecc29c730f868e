import torch

from cagface_core.attention import MAP_PX, component_maps, gaussian_pool, heatmaps, make_block
from cagface_core.bisenet import COMPONENTS, BiSeNet, BiSeNetConfig


def test_pooling_smooths_and_keeps_the_sum():
    maps = torch.zeros(1, 3, 21, 21)
    maps[:, :, 10, 10] = 1
    pooled = gaussian_pool(maps)
    torch.testing.assert_close(pooled.sum(dim=(2, 3)), torch.ones(1, 3))
    assert 0.1 < pooled[0, 0, 10, 10] < 0.2
    torch.testing.assert_close(gaussian_pool(torch.ones(1, 3, 9, 9)), torch.ones(1, 3, 9, 9))


def test_heatmaps_are_soft_class_probabilities_by_component():
    logits = torch.zeros(1, 8, 4, 4)
    logits[:, 1] = 2.0  # hair
    maps = heatmaps(logits, COMPONENTS)
    share = torch.tensor(2.0).exp() / (torch.tensor(2.0).exp() + 7)
    assert maps.shape == (1, 3, MAP_PX, MAP_PX)
    torch.testing.assert_close(maps[:, 0], share.expand(1, MAP_PX, MAP_PX))
    torch.testing.assert_close(maps[:, 2], (5 * (1 - share) / 7).expand(1, MAP_PX, MAP_PX))


def test_the_block_is_luminance_times_heatmap_normalised():
    lr = torch.tensor([1.0, -1.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    maps = torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    block = make_block(lr, maps)
    luminance = 0.299 * 1 + 0.114 * 0.5
    expected = torch.tensor([1.0, -1.0, 0.0, 2 * luminance - 1, luminance - 1, -1.0])
    torch.testing.assert_close(block[0, :, 0, 0], expected)


def test_the_block_without_luminance_or_without_maps():
    lr, maps = torch.rand(2, 3, 4, 5) * 2 - 1, torch.rand(2, 3, 4, 5)
    assert torch.equal(make_block(lr, maps, "none"), lr)
    for attention in ("maps", "twice", "gate"):
        assert torch.equal(make_block(lr, maps, attention), torch.cat([lr, maps * 2 - 1], 1))


def test_bisenet_labels_at_a_quarter_for_any_crop():
    torch.manual_seed(0)
    parser = BiSeNet(BiSeNetConfig(width=0.5)).eval()
    assert parser(torch.zeros(2, 3, 64, 96)).shape == (2, 8, 16, 24)
    with torch.no_grad():
        for side in (8, 64, 200, 300):
            maps = component_maps(parser, torch.rand(1, 3, side, side) * 2 - 1)
            assert maps.shape == (1, 3, MAP_PX, MAP_PX)
            assert maps.min() >= 0
            assert maps.sum(dim=1).max() <= 1.0001


def test_bisenet_learns_to_tell_two_halves_apart():
    torch.manual_seed(0)
    parser = BiSeNet(BiSeNetConfig(classes=2, width=0.5))
    picture = torch.rand(4, 3, 64, 64) * 0.2
    picture[..., 32:] += 0.5
    labels = (torch.arange(16) >= 8).long().expand(4, 16, 16)
    optimiser = torch.optim.Adam(parser.parameters(), 1e-2)
    losses = []
    for _ in range(25):
        loss = torch.nn.functional.cross_entropy(parser(picture), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
