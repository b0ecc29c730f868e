import pytest
import torch

from cagface_core.cagface import CAGFace, CAGFaceConfig
from cagface_core.fold import collapsed_forward, fold


def random_network(features: int, units: int, attention: str = "paper") -> CAGFace:
    torch.manual_seed(features + units)
    model = CAGFace(CAGFaceConfig(features, units, attention))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.4 / features**0.5 / 3)
    return model


@pytest.mark.parametrize(
    ("features", "units", "height", "width"),
    [(12, 1, 5, 3), (16, 4, 17, 23), (32, 8, 31, 8), (64, 2, 9, 40), (32, 3, 1, 1)],
)
def test_folded_equals_unfolded_borders_included(
    features: int, units: int, height: int, width: int
):
    model = random_network(features, units)
    block = torch.rand(2, 6, height, width) * 2 - 1
    with torch.no_grad():
        _, unfolded = model(block)
        folded = fold(model)(block)
    assert unfolded.std() > 0.05  # a network that does something
    assert (folded - unfolded).abs().max() < 1e-5 * max(1.0, unfolded.abs().max().item())


@pytest.mark.parametrize("attention", ["none", "maps", "twice", "gate"])
def test_every_form_of_attention_folds(attention: str):
    model = random_network(12, 2, attention)
    block = torch.rand(1, model.config.in_channels, 6, 11) * 2 - 1
    with torch.no_grad():
        sr2, sr4 = model(block)
        folded = fold(model)(block)
        collapsed = collapsed_forward(model, block)
        without = model(torch.cat([block[:, :3], -block[:, 3:]], dim=1))[1]
    assert (folded - sr4).abs().max() < 1e-5 * max(1.0, sr4.abs().max().item())
    torch.testing.assert_close(collapsed, (sr2, sr4), atol=1e-5, rtol=1e-5)
    assert (attention == "none") == torch.equal(without, sr4)


def test_collapsing_in_training_gives_the_same_outputs_and_gradients():
    model = random_network(16, 2).double()
    block = torch.rand(1, 6, 7, 9, dtype=torch.float64) * 2 - 1
    gradients = []
    outputs = []
    for forward in (model.__call__, lambda x: collapsed_forward(model, x)):
        model.zero_grad()
        sr2, sr4 = forward(block)
        (sr2.square().mean() + sr4.square().mean()).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
        outputs.append((sr2.detach(), sr4.detach()))
    torch.testing.assert_close(outputs[0], outputs[1])
    for plain, collapsed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, collapsed)


def test_the_fold_is_a_copy_and_smaller():
    model = random_network(32, 2)
    folded = fold(model)
    block = torch.rand(1, 6, 8, 8)
    before = folded(block)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(folded(block), before)
    parameters = [sum(p.numel() for p in m.parameters()) for m in (folded, model)]
    assert parameters[0] < 0.5 * parameters[1]
