import argparse
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from cagface_core import checkpoint
from cagface_core.errors import CagfaceError, ConfigError, InputError, WeightsError
from cagface_core.evaluate.command import configure
from cagface_core.evaluate.methods import (
    bicubic,
    classical,
    find_methods,
    lanczos,
    milliseconds,
    open_opencv,
    open_spandrel,
    opencv_peers,
    our_weights,
    retrained_peers,
)
from cagface_core.evaluate.metrics import psnr
from cagface_core.evaluate.peers import PEERS, PeerConfig
from cagface_core.evaluate.protocols import groups, skin_lightness, spread
from cagface_core.train.photos import downsample4, load_square, read_photos
from tests.core.photo_set import write_photo_set

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory):
    return read_photos(write_photo_set(tmp_path_factory.mktemp("data")), "val")


def test_the_classical_upscales_keep_size_and_place(photos):
    hr = load_square(photos[0], 256)
    lr = downsample4(hr)[:, :48]
    for method in classical():
        output = method.upscale(lr)
        assert output.shape == (256, 192, 3)
        assert output.dtype == np.uint8
        assert psnr(output[:, :160], hr[:, :160]) > 20
        assert method.parameters == 0
    assert psnr(lanczos(lr)[:, :160], hr[:, :160]) > psnr(bicubic(lr)[:, :160], hr[:, :160])


def test_our_weights_tell_what_they_are(photos):
    (method,) = our_weights(["nano-clean"], "cpu")
    facts = checkpoint.load(checkpoint.WEIGHTS_DIR / "nano-clean.safetensors")
    assert method.sha256 == facts.sha256
    assert method.parameters is not None
    assert method.parameters > 100_000
    lr = downsample4(load_square(photos[0], 256))
    assert method.upscale(lr).shape == (256, 256, 3)
    assert milliseconds(method, lr) > 0


def test_retrained_peers_are_found_by_folder(tmp_path: Path):
    torch.manual_seed(0)
    network = PEERS["fsrcnn"].build()
    for folder in ("fsrcnn", "again"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "weights.safetensors"
        checkpoint.save(path, "peer", PeerConfig("fsrcnn"), network.state_dict(), {})
    methods = retrained_peers(tmp_path, CPU)
    assert [method.name for method in methods] == ["again", "fsrcnn"]
    lr = np.random.default_rng(0).integers(0, 256, (16, 12, 3), dtype=np.uint8)
    with torch.inference_mode():
        x = torch.from_numpy(lr.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        y = ((network.eval()(x)[0] + 1) * 127.5).round().clamp(0, 255)
    assert methods[0].upscale(lr).shape == (64, 48, 3)
    assert np.abs(methods[0].upscale(lr) - y.permute(1, 2, 0).numpy()).max() <= 1
    with pytest.raises(InputError, match="cagface train peers"):
        retrained_peers(tmp_path / "fsrcnn", CPU)


def test_opencvs_ready_networks(shared_data: Path):
    methods = opencv_peers(shared_data)
    assert [method.name for method in methods] == ["ESPCN_x4-opencv", "FSRCNN_x4-opencv"]
    hr = load_square(read_photos(shared_data, "val")[0], 256)
    lr = downsample4(hr)
    for method in methods:
        assert abs(psnr(method.upscale(lr), hr) - psnr(bicubic(lr), hr)) < 1.5
        assert method.upscale(lr[:40]).shape == (160, 256, 3)


def test_a_damaged_opencv_network_is_named_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "peers" / "FSRCNN_x4.pb"
    path.parent.mkdir()
    path.write_bytes(b"no network")
    assert opencv_peers(tmp_path) == []
    assert f"left out: OpenCV {cv2.__version__} cannot read {path}" in caplog.text
    with pytest.raises(WeightsError, match=r"OpenCV [\d.]+ cannot read .*FSRCNN_x4\.pb"):
        open_opencv(path)


def test_two_methods_of_one_name_are_refused(tmp_path: Path):
    network = PEERS["srcnn"].build()
    (tmp_path / "bicubic").mkdir()
    path = tmp_path / "bicubic" / "weights.safetensors"
    checkpoint.save(path, "peer", PeerConfig("srcnn"), network.state_dict(), {})
    with pytest.raises(ConfigError, match="two methods are named bicubic"):
        find_methods(tmp_path, (), tmp_path, (), "cpu")


def _spandrel():
    try:
        import spandrel
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"spandrel cannot be loaded: {error}")
    return spandrel


def test_a_peer_without_file_or_package_is_one_clear_error(tmp_path: Path):
    with pytest.raises(WeightsError, match="give --peer NAME=FILE"):
        open_spandrel("x", tmp_path / "none.pth", CPU)
    (tmp_path / "noise.pth").write_bytes(b"no network")
    with pytest.raises(CagfaceError, match=r"needs spandrel|spandrel cannot read") as caught:
        open_spandrel("x", tmp_path / "noise.pth", CPU)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scale", [2, 4])
def test_spandrels_networks_become_methods_of_scale_four(tmp_path: Path, scale: int):
    _spandrel()
    from spandrel.architectures.Compact import Compact

    path = tmp_path / "compact.pth"
    torch.save(Compact(num_feat=8, num_conv=2, upscale=scale).state_dict(), path)
    method = open_spandrel("mine", path, CPU)
    assert method.upscale(np.zeros((16, 12, 3), np.uint8)).shape == (64, 48, 3)
    assert method.name == "mine"
    assert method.parameters is not None
    assert method.parameters > 0


def test_the_options_are_read_and_checked(capsys: pytest.CaptureFixture[str]):
    parser = argparse.ArgumentParser()
    configure(parser)
    given = parser.parse_args(["--data", "d", "--peer", "a=b.pth", "--peer", "c=d=e.pth"])
    assert given.peers == [("a", Path("b.pth")), ("c", Path("d=e.pth"))]
    for wrong in (["--peer", "x"], ["--limit", "0"], ["--protocol", "fancy"]):
        with pytest.raises(SystemExit):
            parser.parse_args(["--data", "d", *wrong])
        assert wrong[1] in capsys.readouterr().err


def test_photos_are_spread_over_the_list(photos):
    assert spread(photos, None) == photos
    assert spread(photos, 9) == photos
    assert [spread([*range(100)], n) for n in (1, 3)] == [[0], [0, 49, 99]]


def test_skin_is_as_light_as_its_pixels():
    labels = np.full((32, 32), 2, np.uint8)
    assert skin_lightness(np.full((32, 32, 3), 255, np.uint8), labels) == pytest.approx(
        100, abs=0.1
    )
    assert skin_lightness(np.full((32, 32, 3), 119, np.uint8), labels) == pytest.approx(50, abs=0.5)
    assert np.isnan(skin_lightness(np.zeros((32, 32, 3), np.uint8), None))
    assert np.isnan(skin_lightness(np.zeros((32, 32, 3), np.uint8), labels * 0))


def test_every_photo_with_skin_is_in_one_skin_group(photos):
    skin = [group for group in groups(photos) if group.name.startswith("skin")]
    for lightness in (0.0, 39.99, 40.0, 59.99, 60.0, 100.0):
        assert sum(group.holds(photos[0], lightness) for group in skin) == 1
    assert not any(group.holds(photos[0], float("nan")) for group in skin)
