from pathlib import Path

import pytest
import torch

from cagface_core import checkpoint
from cagface_core.cagface import CAGFace, CAGFaceConfig
from cagface_core.errors import ConfigError
from cagface_core.train import detail
from cagface_core.train.pool import Batch
from tests.core.photo_set import write_photo_set

TINY = CAGFaceConfig(features=12, units=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photo_set(tmp_path_factory.mktemp("data"))


def plan_for(data: Path, out: Path, **options: object) -> detail.DetailTraining:
    torch.manual_seed(5)
    init = out / "init.safetensors"
    out.mkdir(parents=True, exist_ok=True)
    checkpoint.save(init, "sr", TINY, CAGFace(TINY).state_dict(), {"protocol": "webcam"})
    settings: dict[str, object] = {
        "steps": 4, "batch": 2, "patch_px": 16, "check_every": 2, "variants": 1, **options,
    }  # fmt: skip
    return detail.DetailTraining(data, out, init, **settings)  # pyright: ignore[reportArgumentType]


def test_detail_weights_are_webcam_weights_that_went_on(data: Path, tmp_path: Path):
    plan = plan_for(data, tmp_path)
    model, found = checkpoint.load_sr(detail.run(plan))
    assert isinstance(model, CAGFace)
    assert found.facts["protocol"] == "webcam"
    assert found.facts["objective"] == "detail"
    assert found.facts["init"] == checkpoint.load(plan.init).sha256
    assert checkpoint.load_sr(tmp_path / "folded.safetensors")[1].kind == "sr-folded"
    before = checkpoint.load(plan.init).tensors
    assert any(not torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_an_interrupted_training_goes_on_with_its_discriminator(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = checkpoint.load(detail.run(plan_for(data, tmp_path / "whole"))).tensors
    plan = plan_for(data, tmp_path / "broken")
    real, calls = detail.loss_of, list[int]()

    def interrupted(*arguments: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 4:  # after the first saved state
            raise KeyboardInterrupt
        return real(*arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(detail, "loss_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        detail.run(plan)
    monkeypatch.setattr(detail, "loss_of", real)
    resumed = checkpoint.load(detail.run(plan)).tensors
    for name, value in whole.items():
        torch.testing.assert_close(value, resumed[name], rtol=0, atol=1e-6)


def gradient(plan: detail.DetailTraining, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The picture's gradient of one step, from a network that is a picture; and the loss."""
    torch.manual_seed(0)
    lr, hr = torch.rand(2, 3, 8, 8) * 2 - 1, torch.rand(2, 3, 32, 32) * 2 - 1
    maps = torch.zeros(2, 3, 8, 8)
    maps[:, 2, :, :4] = 1  # eyes, nose and mouth fill the left half
    picture = torch.rand(2, 3, 32, 32, requires_grad=True)

    class Picture(torch.nn.Module):
        def forward(self, _block: torch.Tensor) -> torch.Tensor:
            return picture

    outputs = [torch.zeros(2, 3, 16, 16), picture]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detail, "outputs_of", lambda _model, _block: outputs)
        patch.setattr(detail, "hold", lambda sr, lr, _sigma: sr - detail.resize(lr, 32, 32))
        loss = detail.loss_of(
            plan, Picture(), Batch(torch.cat([lr, maps], 1), hr, maps),
            detail.Adversary("cpu", plan.learning_rate, "float32"),
            detail.Features(plan.parser, "cpu"), step,
        )  # fmt: skip
    loss.backward()
    assert picture.grad is not None
    error = picture.detach() - hr
    huber = torch.where(error.abs() < 1, error, error.sign()) / error.numel()
    assert float(loss.detach()) == pytest.approx(
        float(torch.nn.functional.huber_loss(picture.detach(), hr))
        + float(torch.nn.functional.huber_loss(outputs[0], detail.halve(hr))), rel=1e-5
    )  # fmt: skip
    return picture.grad, huber


def test_without_the_other_losses_the_gradient_is_hubers(data: Path, tmp_path: Path):
    plan = plan_for(
        data, tmp_path, feature_share=0.0, adversarial_share=0.0, parts_weight=1.0
    )  # fmt: skip
    found, huber = gradient(plan, step=4)
    torch.testing.assert_close(found, huber)


def test_shares_are_those_of_the_gradients_at_the_picture(data: Path, tmp_path: Path):
    shares = {"feature_share": 0.0, "adversarial_share": 0.7, "parts_weight": 1.0}
    found, huber = gradient(plan_for(data, tmp_path, **shares), step=4)
    rest = (found - huber).flatten(1).norm(dim=1)
    torch.testing.assert_close(rest, 0.7 * huber.flatten(1).norm(dim=1), rtol=1e-4, atol=0)
    early, _ = gradient(plan_for(data, tmp_path, **shares), step=0)
    torch.testing.assert_close(early, huber)  # the discriminator learns before it counts


def test_parts_weigh_more(data: Path, tmp_path: Path):
    shares = {"feature_share": 0.0, "adversarial_share": 0.0, "parts_weight": 3.0}
    found, huber = gradient(plan_for(data, tmp_path, **shares), step=4)
    ratio = (found / huber).mean(dim=(0, 1, 2))
    assert float(ratio[0] / ratio[-1]) == pytest.approx(3, rel=1e-3)
    assert float(ratio.mean()) == pytest.approx(1, rel=1e-3)


def test_the_discriminator_learns_to_tell_real_from_made():
    torch.manual_seed(1)
    adversary = detail.Adversary("cpu", 1e-3, "float32")
    plain = torch.zeros(4, 3, 32, 32)
    for _ in range(30):
        adversary.learn(torch.randn(4, 3, 32, 32), plain, plain)
    with torch.no_grad():
        real, made = (adversary.verdict(x, plain) for x in (torch.randn(4, 3, 32, 32), plain))
        assert float(real.mean()) > float(made.mean()) + 0.5


def test_only_webcam_weights_are_a_start(data: Path, tmp_path: Path):
    plan = plan_for(data, tmp_path)
    checkpoint.save(plan.init, "sr", TINY, CAGFace(TINY).state_dict(), {"protocol": "clean"})
    with pytest.raises(ConfigError, match="webcam weights"):
        detail.run(plan)
    with pytest.raises(ConfigError, match="unknown precision"):
        detail.run(plan_for(data, tmp_path, precision="float8"))
