"""Settings go in; what ``cagface config`` shows and writes comes out."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from rich.table import Table
from rich.text import Text

from cagface_core import OutputError
from realtime.settings import DEFAULT, Setting, is_flag, options_of, takes_several

_HEAD = """\
# Settings of CAGFace Live. A line that begins with # does nothing: remove the # to set it.
#
# What the command line says beats a profile, a profile beats the sections, they beat the defaults.
# Keys are the long options with _ for -. A flag is true or false; on the command line,
# --no-NAME takes back what is set here. `cagface config` shows what holds, and why.

# A profile is used with --profile NAME and says what it changes:
#
# [profiles.meeting.live]
# strength = 0.7
# max_faces = 1
"""


def settings_table(sections: Mapping[str, Mapping[str, Setting]]) -> Table:
    """Section, key, value and origin, one row each; what was set stands out."""
    table = Table()
    for heading in ("section", "key", "value", "from"):
        table.add_column(heading, overflow="fold")
    for section, settings in sections.items():
        for index, (key, setting) in enumerate(settings.items()):
            style = "dim" if setting.origin == DEFAULT else "bold"
            words = ("" if index else section, key, shown(setting), setting.origin)
            table.add_row(*(Text(word) for word in words), style=style)
        table.add_section()
    return table


def settings_json(sections: Mapping[str, Mapping[str, Setting]]) -> dict[str, Any]:
    """The same as plain values."""
    return {
        section: {
            key: {"value": _plain(setting.value), "from": setting.origin}
            for key, setting in settings.items()
        }
        for section, settings in sections.items()
    }


def shown(setting: Setting) -> str:
    """A value for people, as it was written where it was."""
    value = setting.value
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    if setting.written is not None and not isinstance(value, list):
        return setting.written
    if isinstance(value, list | tuple):
        return ", ".join(map(str, cast("list[object]", value))) or "not set"
    return str(value)


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in cast("list[object]", value)]
    return str(value)


def example(parsers: Mapping[str, argparse.ArgumentParser]) -> str:
    """A settings file in which every option stands, with its help, and none is set."""
    parts = [_HEAD]
    for section, parser in parsers.items():
        parts.append(f"\n[{section}]\n")
        for key, action in options_of(parser).items():
            told = (action.help or "").replace("%%", "%")
            parts.append(f"# {told}\n" if told else "")
            parts.append(f"# {key} = {_example_value(key, action)}\n")
    return "".join(parts)


def _example_value(key: str, action: argparse.Action) -> str:
    """The default as TOML; where there is none, a word that says what belongs there."""
    value = action.default
    if is_flag(action):
        return "true"
    if value is None:
        metavar = action.metavar if isinstance(action.metavar, str) else key.upper()
        value = next(iter(action.choices)) if action.choices else metavar
        value = [value] if takes_several(action) else value
    if isinstance(value, list | tuple):
        items = [_plain(item) for item in cast("list[object]", value)]
        return json.dumps(items if takes_several(action) else ",".join(map(str, items)))
    return json.dumps(_plain(value))


def write_example(file: Path, text: str) -> None:
    """Write a new file, and its folder.

    Raises:
        OutputError: it exists already, or cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(exist_ok=False)
        try:
            file.write_text(text, encoding="utf-8")
        except OSError:
            file.unlink()
            raise
    except FileExistsError as error:
        raise OutputError(
            f"{file} exists and is kept; edit it, or name another: --config FILE"
        ) from error
    except OSError as error:
        raise OutputError(
            f"{file} cannot be written ({error.strerror}); name another with --config FILE"
        ) from error
