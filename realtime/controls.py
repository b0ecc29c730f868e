"""What the user of a live run may turn while it goes on: window, panel and keys write it here."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from cagface_core import ConfigError, Tuning

_TUNING_NAMES = frozenset(field.name for field in fields(Tuning))


@dataclass(frozen=True, slots=True)
class Settings:
    """All that may be turned.

    Attributes:
        tuning: what the user asks of the enhancer; a governor may give less.
        enhance: False shows the plain upscale.
        freeze: True goes on showing the same picture.
        governor: False keeps to ``tuning`` whatever it costs.
    """

    tuning: Tuning
    enhance: bool = True
    freeze: bool = False
    governor: bool = True


class Controls:
    """The settings of one run. Any thread may read and change them."""

    def __init__(self, settings: Settings, presets: Sequence[str]) -> None:
        """Start with ``settings``; ``presets`` are those that may be chosen."""
        self._lock = threading.Lock()
        self._settings = settings
        self.presets = tuple(presets)

    @property
    def settings(self) -> Settings:
        """As they are now; immutable."""
        return self._settings

    def change(self, **changes: Any) -> Settings:
        """Change some, by the names of `Settings` or of `cagface_core.Tuning`; all or none.

        Raises:
            ConfigError: an unknown name, or a value out of range. Nothing is changed.
        """
        with self._lock:
            tuned = {name: value for name, value in changes.items() if name in _TUNING_NAMES}
            switched = {name: value for name, value in changes.items() if name not in tuned}
            for name, value in switched.items():
                if name not in ("enhance", "freeze", "governor"):
                    raise ConfigError(f"there is no setting {name!r}")
                if not isinstance(value, bool):
                    raise ConfigError(f"{name} is {value!r}; expected true or false")
            if tuned.get("preset", self.presets[0]) not in self.presets:
                raise ConfigError(
                    f"unknown preset {tuned['preset']!r}; expected one of {', '.join(self.presets)}"
                )
            try:
                tuning = replace(self._settings.tuning, **tuned)
            except TypeError as error:  # a value of another type could not be compared
                raise ConfigError(f"a setting has a value of the wrong kind: {error}") from error
            self._settings = replace(self._settings, tuning=tuning, **switched)
            return self._settings
