"""The ResNet-18 parser: the face-parsing layout by name and shape, and what it answers."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cagface_core import checkpoint
from cagface_core.attention import MAP_PX, component_maps, heatmaps
from cagface_core.bisenet import CLASSES, COMPONENTS, BiSeNet, BiSeNetConfig
from cagface_core.cagface import CAGFace, CAGFaceConfig
from cagface_core.engine import Engine
from cagface_core.errors import WeightsError
from cagface_core.resnet18 import CLASS_IDS, FACE_PARSING_CLASSES, FaceParsing


def _norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    shapes = {f"{name}.{k}": (channels,) for k in ("weight", "bias", "running_mean", "running_var")}
    return {**shapes, f"{name}.num_batches_tracked": ()}


def _conv_bn(name: str, into: int, out: int, kernel: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.conv.weight": (out, into, kernel, kernel), **_norm(f"{name}.bn", out)}


def _layout() -> dict[str, tuple[int, ...]]:
    """Names and shapes of ``79999_iter.pth``, written down without the network."""
    net = "cp.resnet"
    shapes = {f"{net}.conv1.weight": (64, 3, 7, 7), **_norm(f"{net}.bn1", 64)}
    into = 64
    for stage, out in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            here = f"{net}.layer{stage}.{block}"
            shapes[f"{here}.conv1.weight"] = (out, into, 3, 3)
            shapes[f"{here}.conv2.weight"] = (out, out, 3, 3)
            shapes |= _norm(f"{here}.bn1", out) | _norm(f"{here}.bn2", out)
            if into != out:
                shapes[f"{here}.downsample.0.weight"] = (out, into, 1, 1)
                shapes |= _norm(f"{here}.downsample.1", out)
            into = out
    for name, channels in (("cp.arm16", 256), ("cp.arm32", 512)):
        shapes |= _conv_bn(f"{name}.conv", channels, 128, 3) | _norm(f"{name}.bn_atten", 128)
        shapes[f"{name}.conv_atten.weight"] = (128, 128, 1, 1)
    shapes |= _conv_bn("cp.conv_head32", 128, 128, 3) | _conv_bn("cp.conv_head16", 128, 128, 3)
    shapes |= _conv_bn("cp.conv_avg", 512, 128, 1) | _conv_bn("ffm.convblk", 256, 256, 1)
    shapes |= {"ffm.conv1.weight": (64, 256, 1, 1), "ffm.conv2.weight": (256, 64, 1, 1)}
    for name, channels, middle in (("", 256, 256), ("16", 128, 64), ("32", 128, 64)):
        shapes |= _conv_bn(f"conv_out{name}.conv", channels, middle, 3)
        shapes[f"conv_out{name}.conv_out.weight"] = (19, middle, 1, 1)
    return shapes


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised file of the layout."""
    torch.manual_seed(0)
    tensors = {}
    for name, shape in _layout().items():
        if name.endswith("num_batches_tracked"):
            tensors[name] = torch.tensor(80_000)
        elif len(shape) == 4:
            tensors[name] = torch.randn(shape) / np.sqrt(np.prod(shape[1:]))
        else:
            tensors[name] = torch.rand(shape) * 0.2 + (0.0 if name.endswith("mean") else 0.8)
    path = tmp_path_factory.mktemp("weights") / "79999_iter.pth"
    torch.save(tensors, path)
    return path


@pytest.fixture(scope="module")
def parser(file: Path) -> FaceParsing:
    loaded, _ = checkpoint.load_parser(file)
    assert isinstance(loaded, FaceParsing)
    return loaded


def test_names_and_shapes_are_those_of_the_layout():
    model = FaceParsing()
    assert {name: tuple(t.shape) for name, t in model.state_dict().items()} == _layout()
    assert sum(p.numel() for p in model.parameters()) == 13_300_416


def test_a_file_of_the_layout_loads_and_is_used_as_it_is(file: Path, parser: FaceParsing):
    tensors = torch.load(file, weights_only=True)
    assert not parser.training
    for name, tensor in parser.state_dict().items():
        assert torch.equal(tensor, tensors[name]), name
    legacy = file.with_name("legacy.pth")  # as PyTorch wrote it when that file was made
    torch.save(tensors, legacy, _use_new_zipfile_serialization=False)
    first, second = (checkpoint.load_parser(path)[1] for path in (file, legacy))
    assert first.sha256 == second.sha256
    assert first.kind == "parser"


def test_every_class_of_the_layout_has_one_place():
    assert len(CLASS_IDS) == len(CLASSES)
    assert sorted(i for ids in CLASS_IDS for i in ids) == list(range(FACE_PARSING_CLASSES))
    assert [CLASS_IDS[k] for (k, *_) in COMPONENTS[:2]] == [(17,), (1,)]


@torch.no_grad()
def test_its_answer_sums_the_classes_of_a_512_px_picture(parser: FaceParsing):
    picture = torch.rand(2, 3, 96, 64) * 2 - 1
    logits, all19 = parser(picture), parser.all_classes(picture)
    assert logits.shape == (2, 8, 24, 16)
    assert all19.shape == (2, 19, 24, 16)
    probabilities = all19.softmax(1)
    for k, ids in enumerate(CLASS_IDS):
        expected = probabilities[:, list(ids)].sum(1)
        torch.testing.assert_close(logits.softmax(1)[:, k], expected)
    assert float(probabilities.std()) > 0.01
    # the layout's own input: twice the size, ImageNet's mean and deviation
    large = F.interpolate((picture + 1) / 2, size=(192, 128), mode="bilinear", align_corners=False)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normal = (large - mean[:, None, None]) / std[:, None, None]
    x8, context = parser.cp(normal)
    assert x8.shape == (2, 128, 24, 16)
    torch.testing.assert_close(parser.conv_out(parser.ffm(x8, context)), all19)


@torch.no_grad()
def test_it_stands_in_for_the_shipped_parser(file: Path, parser: FaceParsing, tmp_path: Path):
    config = CAGFaceConfig(12, 1)
    weights = tmp_path / "sr.safetensors"
    checkpoint.save(weights, "sr", config, CAGFace(config).state_dict(), {"protocol": "clean"})
    engine = Engine(weights, "cpu", file)
    face = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    (maps,) = engine.parse([face])
    assert maps.shape == (1, 3, MAP_PX, MAP_PX)
    signed = torch.from_numpy(face).permute(2, 0, 1)[None].float() / 127.5 - 1
    torch.testing.assert_close(maps, component_maps(parser, signed), rtol=1e-4, atol=1e-5)
    picture = F.interpolate(signed, size=(256, 256), mode="bilinear", antialias=True)
    torch.testing.assert_close(maps, heatmaps(parser(picture), COMPONENTS), rtol=1e-4, atol=1e-5)
    assert engine.upscale(face).shape == (192, 192, 3)


def test_other_files_are_refused_in_one_line(file: Path, tmp_path: Path):
    tensors = torch.load(file, weights_only=True)
    del tensors["cp.arm16.conv.conv.weight"]
    torch.save(tensors, tmp_path / "short.pth")
    torch.save(BiSeNet(BiSeNetConfig(width=0.5)).state_dict(), tmp_path / "ours.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    torch.save({"cp": Path("x")}, tmp_path / "objects.pth")
    (tmp_path / "text.pth").write_text("not weights")
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "cut.pth").write_bytes(file.read_bytes()[:1_000_000])
    for name, words in {
        "short.pth": "is not of the 19-class.*cp.arm16.conv.conv.weight",
        "ours.pth": "is not of the 19-class face-parsing layout",
        "list.pth": "is not of the 19-class face-parsing layout",
        "objects.pth": "is not a PyTorch file of tensors",
        "text.pth": "is not a PyTorch file of tensors",
        "empty.pth": "is not a PyTorch file of tensors",
        "cut.pth": "is not a PyTorch file of tensors",
        "absent.pth": "no weights file at",
    }.items():
        with pytest.raises(WeightsError, match=words) as caught:
            checkpoint.load_parser(tmp_path / name)
        assert "\n" not in str(caught.value), name
