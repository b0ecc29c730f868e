import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cagface_core import checkpoint
from cagface_core.errors import ConfigError, InputError, OutputError, WeightsError
from cagface_core.evaluate.peer_networks import EDSR, FSRCNN, SRCNN, SRFBN, RRDBNet, SRResNet
from cagface_core.evaluate.peers import PEERS, PeerConfig, build_peer, load_peer
from cagface_core.train import peers as peers_training
from cagface_core.train.peers import PeersTraining, run
from tests.core.photo_set import write_photo_set

FAST = {"batch": 2, "patch_px": 16, "steps": 4, "check_every": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photo_set(tmp_path_factory.mktemp("data"))


def count(model: nn.Module, *, slopes_and_biases: bool = True) -> int:
    """Count parameters; the papers of SRCNN and FSRCNN leave slopes and biases out."""
    return sum(p.numel() for p in model.parameters() if slopes_and_biases or p.ndim == 4)


def test_parameters_are_as_many_as_the_papers_print():
    # SRCNN, on filter sizes (luminance): 57,184 for 9-5-5, 24,416 for 9-3-5, 8,032 for 9-1-5
    printed = {5: 57_184, 3: 24_416, 1: 8_032}
    for middle, weights in printed.items():
        assert count(SRCNN(1, middle), slopes_and_biases=False) == weights
    # FSRCNN, on its settings (luminance): 12,464 for (56, 12, 4) and 3,937 for FSRCNN-s (32, 5, 1)
    assert count(FSRCNN(1), slopes_and_biases=False) == 12_464
    assert count(FSRCNN(1, 32, 5, 1), slopes_and_biases=False) == 3_937
    # on RGB, ours have three channels in the first and the last layer
    assert count(build_peer("srcnn"), slopes_and_biases=False) == 57_184 + 2 * 64 * 81 + 2 * 32 * 25
    assert count(build_peer("fsrcnn"), slopes_and_biases=False) == 12_464 + 2 * 56 * (25 + 81)
    # EDSR, Table 1: 1.5 M, for the baseline and for SRResNet alike; SRFBN-S: 483 K
    assert round(count(EDSR()) / 1e6, 1) == 1.5
    assert round(count(SRResNet()) / 1e6, 1) == 1.5
    assert round(count(SRFBN()) / 1e3) == 483
    with torch.device("meta"):
        full = RRDBNet(64, 23, 32)  # ESRGAN's: 16.7 M, as it is commonly counted
    assert round(count(full) / 1e6, 1) == 16.7
    assert count(RRDBNet()) < 1e6


@pytest.mark.parametrize("name", PEERS)
def test_a_fresh_peer_is_a_plain_upscaler(name: str):
    torch.manual_seed(0)
    smooth = F.interpolate(torch.rand(2, 3, 5, 4) * 1.6 - 0.8, size=(20, 16), mode="bilinear")
    model = build_peer(name).eval()
    with torch.no_grad():
        sr = model(smooth)
    assert sr.shape == (2, 3, 80, 64)
    plain = [
        F.interpolate(smooth, scale_factor=4, mode=mode)[..., 8:-8, 8:-8]
        for mode in ("nearest", "bilinear", "bicubic")
    ]
    errors = [float((sr[..., 8:-8, 8:-8] - other).abs().max()) for other in plain]
    assert min(errors) < 1e-5


@pytest.mark.parametrize("name", PEERS)
def test_every_parameter_is_trained(name: str):
    torch.manual_seed(0)
    model, lr, hr = build_peer(name), torch.rand(1, 3, 4, 4) * 2 - 1, torch.rand(1, 3, 16, 16)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(4):  # a layer behind one that starts at zero has its turn a step later
        optimiser.zero_grad()
        F.mse_loss(model(lr), hr).backward()
        optimiser.step()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_feedback_gives_a_picture_an_iteration_and_the_last_counts():
    torch.manual_seed(0)
    model, lr = SRFBN(), torch.rand(1, 3, 8, 8)
    nn.init.normal_(model.reconstruct[-1].weight)
    with torch.no_grad():
        pictures, last = model.pictures(lr), model(lr)
    assert len(pictures) == 4
    assert torch.equal(pictures[-1], last)
    assert all((pictures[k] - pictures[k + 1]).abs().max() > 1e-2 for k in range(3))


def test_batch_norm_is_evaluated_with_running_statistics():
    torch.manual_seed(0)
    model = SRResNet(8, 2)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    nn.init.ones_(norms[-1].weight)
    for _ in range(30):
        model(torch.rand(4, 3, 8, 8))
    one, other = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        model.eval()
        torch.testing.assert_close(model(torch.cat([one, other]))[:1], model(one))
        model.train()
        assert (model(torch.cat([one, other]))[:1] - model(one)).abs().max() > 1e-3


def test_one_command_trains_them_all(data: Path, tmp_path: Path):
    plan = PeersTraining(data, tmp_path, **{**FAST, "steps": 1})
    assert run(plan) == tmp_path
    for name in PEERS:
        model, found = load_peer(tmp_path / name / "weights.safetensors")
        assert not model.training
        assert found.config == {"name": name}
        assert (found.facts["steps"], found.facts["batch"]) == (1, 2)
        with torch.no_grad():
            assert model(torch.zeros(1, 3, 12, 8)).shape == (1, 3, 48, 32)


def test_an_adversarial_peer_goes_on_from_its_network(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("srresnet", "srgan"):
        monkeypatch.setitem(PEERS, name, replace(PEERS[name], build=lambda: SRResNet(8, 2)))
    run(PeersTraining(data, tmp_path, "srgan", **FAST))
    before, after = (
        load_peer(tmp_path / name / "weights.safetensors")[0] for name in ("srresnet", "srgan")
    )
    lr = torch.rand(1, 3, 12, 12) * 2 - 1
    with torch.no_grad():
        change = float((after(lr) - before(lr)).abs().mean())
        assert 1e-4 < change < 0.2 * float(before(lr).abs().mean())  # the same network, moved
    log = (tmp_path / "srgan" / "log.csv").read_text()
    assert "minus_parser_distance" in log
    assert torch.load(tmp_path / "srgan" / "state.pt")["companion"]["network"]


def test_training_lowers_the_loss(data: Path, tmp_path: Path):
    run(PeersTraining(data, tmp_path, "fsrcnn", **{**FAST, "steps": 80, "check_every": 40}))
    with (tmp_path / "fsrcnn" / "log.csv").open() as file:
        first, last = csv.DictReader(file)
    assert float(last["loss"]) < 0.9 * float(first["loss"])
    assert float(last["gain_db"]) > float(first["gain_db"])


def test_an_interrupted_training_goes_on_and_the_finished_are_kept(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    names = "fsrcnn, srresnet"  # one of them with batch statistics
    tiny = replace(PEERS["srresnet"], build=lambda: SRResNet(8, 2))
    monkeypatch.setitem(PEERS, "srresnet", tiny)
    run(PeersTraining(data, tmp_path / "whole", names, **FAST))
    plan = PeersTraining(data, tmp_path / "broken", names, **FAST)
    real, calls = peers_training.loss_of, []

    def interrupted(*arguments: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 4 + 4:  # in the second, after its first saved state
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(peers_training, "loss_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(plan)
    finished = tmp_path / "broken" / "fsrcnn" / "weights.safetensors"
    written = finished.stat().st_mtime_ns
    assert not (tmp_path / "broken" / "srresnet" / "weights.safetensors").exists()
    run(plan)
    assert len(calls) == 4 + 4 + 2
    assert finished.stat().st_mtime_ns == written
    for name in ("fsrcnn", "srresnet"):
        file = Path(name) / "weights.safetensors"
        for key, value in load_peer(tmp_path / "whole" / file)[1].tensors.items():
            again = load_peer(tmp_path / "broken" / file)[1].tensors[key]
            torch.testing.assert_close(again, value, rtol=0, atol=1e-6)


def test_peers_see_the_same_batches_and_no_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = write_photo_set(tmp_path / "data")
    shutil.rmtree(data / "parsing_pseudo")
    seen: list[torch.Tensor] = []
    real: Callable[..., torch.Tensor] = peers_training.loss_of

    def watched(plan: PeersTraining, model: nn.Module, batch: peers_training.Batch):
        assert batch.block.shape[1] == 3
        seen.append(batch.block)
        return real(plan, model, batch)

    monkeypatch.setattr(peers_training, "loss_of", watched)
    run(PeersTraining(data, tmp_path / "out", "fsrcnn,srcnn", **FAST))
    assert len(seen) == 8
    for mine, other in zip(seen[:4], seen[4:], strict=True):
        assert torch.equal(mine, other)
    assert not torch.equal(seen[0], seen[1])


def test_wrong_plans_are_refused(data: Path, tmp_path: Path):
    plan = PeersTraining(data, tmp_path / "out", "fsrcnn", **FAST)
    for wrong, message in (
        ({"only": "fsrcnn,fsrgan"}, "unknown peer 'fsrgan'"),
        ({"protocol": "dirty"}, "unknown protocol 'dirty'"),
        ({"precision": "int8"}, "unknown precision 'int8'"),
    ):
        with pytest.raises(ConfigError, match=message):
            run(replace(plan, **wrong))
    assert not plan.out.exists()
    with pytest.raises(InputError, match="no photo set"):
        run(replace(plan, data=tmp_path))
    run(plan)
    with pytest.raises(ConfigError, match="another budget"):
        run(replace(plan, steps=5))
    run(replace(plan, learning_rate=1e-4))  # the rate is each network's own; it is finished
    assert load_peer(plan.out / "fsrcnn" / "weights.safetensors")[1].facts["steps"] == 4
    (plan.out / "budget.json").write_text("{")
    with pytest.raises(OutputError, match="cannot use"):
        run(plan)


def test_other_weights_are_no_peers(tmp_path: Path):
    path = tmp_path / "weights.safetensors"
    state = build_peer("fsrcnn").state_dict()
    checkpoint.save(path, "peer", PeerConfig("fsrgan"), state, {})
    with pytest.raises(WeightsError, match="unknown peer 'fsrgan'"):
        load_peer(path)
    checkpoint.save(path, "peer", PeerConfig("srcnn"), state, {})
    with pytest.raises(WeightsError, match="does not fit"):
        load_peer(path)
    with pytest.raises(WeightsError, match="expected a 'peer'"):
        load_peer(checkpoint.WEIGHTS_DIR / "parser.safetensors")
    with pytest.raises(ConfigError, match="unknown peer"):
        build_peer("fsrgan")
