"""A stream of any length takes no more memory than a short one."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from cagface_core import EnhancerConfig, FaceEnhancer, Frame, checkpoint
from cagface_core.cagface import CAGFace, CAGFaceConfig
from cagface_core.types import Detection

STATM = Path("/proc/self/statm")
FRAMES = 10_000


class Wandering:
    """A detector that sees one face moving about; the real ones have tests of their own."""

    def __init__(self) -> None:
        self.looks = 0

    def detect(self, rgb: object, *_: object, **__: object) -> list[Detection]:
        self.looks += 1
        x = 16 + 3 * np.sin(self.looks / 20)
        return [Detection(float(x), 20.0, 36.0, 36.0, 0.9)]

    def close(self) -> None:
        """Nothing to release."""


def resident_mib() -> float:
    return int(STATM.read_text().split()[1]) * 4096 / 2**20


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Such small work is slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.skipif(not STATM.exists(), reason="reads resident memory as Linux tells it")
@pytest.mark.parametrize("on_device", [False, True])
def test_memory_is_flat_over_ten_thousand_frames(tmp_path: Path, on_device: bool):
    weights = tmp_path / "tiny.safetensors"
    config = CAGFaceConfig(16, 1)
    checkpoint.save(weights, "sr", config, CAGFace(config).state_dict(), {"protocol": "webcam"})
    picture = np.random.default_rng(0).integers(0, 200, (72, 80, 3), dtype=np.uint8)
    pictures = [picture + np.uint8(k) for k in range(7)]
    frames = FRAMES if not on_device else FRAMES // 10
    options = EnhancerConfig(scale=1, weights=str(weights), device="cpu-float32")
    with closing(FaceEnhancer(options)) as enhancer:
        enhancer.detector.close()
        enhancer.detector = Wandering()  # pyright: ignore[reportAttributeAccessIssue]
        if on_device:
            enhancer.on_device = True
        state = enhancer.new_state()
        enhanced, used_mib = 0, []
        for index in range(frames):
            frame = Frame(pictures[index % 7], round(index * 1e6 / 300))  # few parses: cheap
            enhanced += len(enhancer.enhance(frame, state).outcomes)
            if index % (frames // 10) == frames // 10 - 1:
                used_mib.append(resident_mib())
    assert enhanced > 0.9 * frames
    assert used_mib[-1] - used_mib[1] < 8, used_mib
