"""What a browser asks for comes in here as JSON; one change of the controls comes out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from realtime.controls import Controls, Settings

_INTERVAL_S = 0.05
_MOST_FACES = 64

Strength = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]


def _scale(value: int) -> int:  # Literal[1, 2, 4] would take true for 1
    if value not in (1, 2, 4):
        raise ValueError("expected 1, 2 or 4")
    return value


FaceId = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]


class _Strict(BaseModel):
    """No unknown names, no value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class SettingsChange(_Strict):
    """Some of the settings; those that are left out stay as they are.

    The defaults below are never used: only what was sent is taken over, and null is no value.

    Attributes:
        faces: by a face's id (as a string, for JSON), its own strength; null is the common one
            again. Faces that are not named keep theirs.
    """

    enhance: bool = True
    freeze: bool = False
    governor: bool = True
    strength: Strength = 1.0
    scale: Annotated[int, AfterValidator(_scale)] = 2
    preset: Annotated[str, Field(max_length=40)] = ""
    max_faces: Annotated[int, Field(ge=0, le=_MOST_FACES)] = 8
    faces: Annotated[dict[FaceId, Strength | None], Field(max_length=_MOST_FACES)] = {}

    @model_validator(mode="after")
    def _not_empty(self) -> SettingsChange:
        if not self.model_fields_set:
            raise ValueError("nothing to change; expected at least one setting")
        return self


class RecordChange(_Strict):
    """Recording on or off."""

    on: bool


class Changes:
    """Merges what comes within one interval into one change, however many browsers send it.

    A first change is made at once, those of the next 50 ms together at their end; whoever sent
    one is answered when it is made. So nothing piles up, and the newest value always wins.
    """

    def __init__(self, controls: Controls, interval_s: float = _INTERVAL_S) -> None:
        self._controls = controls
        self._interval_s = interval_s
        self._pending: dict[str, Any] = {}
        self._faces: dict[int, float | None] = {}
        self._next_s = 0.0
        self._work: asyncio.Task[Settings] | None = None

    async def make(self, change: SettingsChange) -> Settings:
        """Make a change, in the server's event loop.

        Raises:
            ConfigError: what was asked for is not possible.
        """
        wanted = change.model_dump(exclude_unset=True)
        self._faces |= {int(face): value for face, value in wanted.pop("faces", {}).items()}
        self._pending |= wanted
        if self._work is None:
            self._work = asyncio.create_task(self._make_pending())
        return await asyncio.shield(self._work)

    async def _make_pending(self) -> Settings:
        await asyncio.sleep(max(0.0, self._next_s - time.monotonic()))
        self._next_s = time.monotonic() + self._interval_s
        pending, faces = self._pending, self._faces
        self._pending, self._faces, self._work = {}, {}, None
        if faces:
            pending["strength_of"] = _merged(self._controls.settings.tuning.strength_of, faces)
        return self._controls.change(**pending)


def _merged(before: Mapping[int, float], faces: Mapping[int, float | None]) -> dict[int, float]:
    """Own strengths after a change; the oldest are forgotten, for faces come and go for days."""
    kept = {face: value for face, value in before.items() if face not in faces}
    merged = kept | {face: value for face, value in faces.items() if value is not None}
    return dict(list(merged.items())[-_MOST_FACES:])
