"""What one stream remembers from frame to frame; made by the enhancer, emptied by ``reset``."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

from cagface_core.attention_cache import AttentionCache
from cagface_core.cuts import CutDetector
from cagface_core.device_steady import DeviceSteadier
from cagface_core.engine import Parsing
from cagface_core.fade import Fader
from cagface_core.looks import Looks
from cagface_core.motion import Follower
from cagface_core.steady import Steadier
from cagface_core.track import Tracker
from cagface_core.types import Crop, Detection, Face, Image


@dataclass(frozen=True, slots=True)
class Asked:
    """A face whose components are being found: what was asked, and when."""

    face: Face
    crop: Crop
    picture: Image
    time_s: float
    parsing: Parsing


@dataclass(slots=True)
class State:
    """What one stream remembers: looks, tracks, heatmaps, faces as shown, crop sizes."""

    looks: Looks
    tracker: Tracker = field(default_factory=Tracker)
    follower: Follower = field(default_factory=Follower)
    attention: AttentionCache = field(default_factory=AttentionCache)
    steadier: Steadier = field(default_factory=Steadier)
    device_steadier: DeviceSteadier = field(default_factory=DeviceSteadier)
    fader: Fader = field(default_factory=Fader)
    parsing: dict[int, Asked] = field(default_factory=dict[int, "Asked"])
    cuts: CutDetector = field(default_factory=CutDetector)
    looking: Future[list[Detection]] | None = None
    """What the detector finds in the frame of :attr:`looked_s`, if no frame has needed it yet."""
    looked_s: float = 0.0
    faces: tuple[Face, ...] = ()
    crop_sizes: dict[int, int] = field(default_factory=dict[int, int])

    def reset(self) -> None:
        """Forget everything: the next frame is the first of a stream."""
        self.cuts.reset()
        self.forget_faces()

    def forget_faces(self) -> None:
        """Forget the faces, as after a cut or a change of size; identities go on counting."""
        self.looks.reset()
        self.looking = None
        self.tracker.reset()
        self.follower.clear()
        self.attention.clear()
        # Frames that are begun go on with theirs.
        self.steadier, self.device_steadier = Steadier(), DeviceSteadier()
        self.fader.clear()
        self.parsing.clear()
        self.faces = ()
        self.crop_sizes.clear()
