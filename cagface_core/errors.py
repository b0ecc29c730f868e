"""Every error a user can cause or meet, as one tree.

::

    CagfaceError              one line: what is wrong, what was expected, what to do
    ├── InputError            a file, picture, stream or data set that cannot be read
    ├── OutputError           a place or format that cannot be written
    ├── ConfigError           an option or setting that makes no sense
    ├── WeightsError          a weights file that is missing, damaged or of another network
    └── DeviceError           a camera, virtual camera, screen or GPU that is not there

The command line prints the message after ``error:`` and exits with code 2.
"""

from __future__ import annotations


class CagfaceError(Exception):
    """The root: its message is one line that says what is wrong, expected, and to be done."""


class InputError(CagfaceError):
    """A file, picture, stream or data set cannot be read."""


class OutputError(CagfaceError):
    """A place or format cannot be written."""


class ConfigError(CagfaceError):
    """An option or setting makes no sense."""


class WeightsError(CagfaceError):
    """A weights file is missing, damaged or belongs to another network."""


class DeviceError(CagfaceError):
    """A camera, virtual camera, screen or GPU is not there or refuses to work."""
