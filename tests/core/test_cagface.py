from pathlib import Path

import av
import pytest
import torch
import torch.nn.functional as F

from cagface_core.cagface import CAGFace, CAGFaceConfig, pad_channels_last, stage_parameters


def count(*modules: torch.nn.Module) -> tuple[int, int]:
    weights = sum(p.numel() for m in modules for n, p in m.named_parameters() if "weight" in n)
    return weights, sum(p.numel() for m in modules for n, p in m.named_parameters() if "bias" in n)


@pytest.fixture(scope="module")
def full() -> CAGFace:
    return CAGFace(CAGFaceConfig())


def test_every_row_of_table_1(full: CAGFace):
    up1, up2, stem2 = full.upsampler1, full.upsampler2, full.stem2
    assert count(full.stem1) == (13_824, 256)
    for backbone in (full.backbone1, full.backbone2):
        assert len(backbone.units) == 16
        assert count(backbone.units) == (2 * 9_437_184, 2 * 4_096)
        assert count(backbone.tail) == (589_824, 256)
    assert [count(m) for m in (up1[0], up1[2])] == [(2_359_296, 1_024), (6_912, 3)]
    # the paper prints 587,520 for stem 2b, which is 3 * 3 * 256 * 256 = 589,824
    assert [count(m) for m in stem2] == [(27_648, 256), (589_824, 256)]
    assert [count(up2[i]) for i in (0, 2, 4, 5)] == [
        (9_437_184, 2_048), (9_437_184, 2_048), (13_824, 3), (81, 3),
    ]  # fmt: skip


def test_totals_against_the_paper_with_its_two_slips(full: CAGFace):
    stage1, stage2 = stage_parameters(full)
    stem2a = sum(count(full.stem2[0]))
    assert stage1 + stem2a == 21_881_859  # the paper counts stem 2a in stage 1
    assert stage2 - stem2a == 38_955_095
    assert stage2 - stem2a - 2_304 == 38_952_791  # its stage 2 carries stem 2b's slip


@pytest.mark.parametrize(("height", "width"), [(7, 5), (16, 24), (1, 1)])
def test_shapes(height: int, width: int):
    model = CAGFace(CAGFaceConfig(features=16, units=2))
    sr2, sr4 = model(torch.zeros(2, 6, height, width))
    assert sr2.shape == (2, 3, 2 * height, 2 * width)
    assert sr4.shape == (2, 3, 4 * height, 4 * width)


def test_a_fresh_network_enlarges_better_than_bicubic(demo_clip: Path):
    with av.open(str(demo_clip)) as clip:
        rgb = next(clip.decode(video=0)).to_ndarray(format="rgb24")
    hr = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 127.5 - 1
    lr = F.interpolate(hr, scale_factor=0.25, mode="bicubic", antialias=True)
    block = torch.cat([lr, torch.zeros_like(lr)], dim=1)
    sr4 = CAGFace(CAGFaceConfig(features=16, units=2))(block)[1].detach()
    bicubic = F.interpolate(lr, scale_factor=4, mode="bicubic")
    assert float((bicubic - hr).square().mean() / (sr4 - hr).square().mean()) > 1.03


def test_a_fresh_network_keeps_what_is_flat():
    block = torch.full((1, 6, 5, 7), 0.4)
    for sr in CAGFace(CAGFaceConfig(features=12, units=2))(block):
        torch.testing.assert_close(sr, torch.full_like(sr, 0.4), atol=1e-5, rtol=0)


def test_stage_2_starts_from_stage_1():
    model = CAGFace(CAGFaceConfig(features=12, units=1))
    model.initialise_stage2()
    for a, b in zip(model.backbone1.parameters(), model.backbone2.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a is not b


def test_without_attention_there_are_three_channels():
    assert CAGFace(CAGFaceConfig(12, 1, attention="none"))(torch.zeros(1, 3, 4, 4))[1].shape[1] == 3


@pytest.mark.parametrize("wrong", [{"features": 8}, {"units": 0}, {"attention": "some"}])
def test_impossible_sizes_are_refused(wrong: dict[str, int]):
    with pytest.raises(ValueError, match="features >= 12"):
        CAGFaceConfig(**wrong)


@pytest.mark.parametrize("pixels", [2, 3])
def test_padding_by_looking_up_is_replication_and_stays_channels_last(pixels: int):
    x = torch.rand(2, 5, 7, 4).contiguous(memory_format=torch.channels_last)
    padded = pad_channels_last(x, pixels)
    assert torch.equal(padded, F.pad(x, (pixels,) * 4, mode="replicate"))
    assert padded.is_contiguous(memory_format=torch.channels_last)
