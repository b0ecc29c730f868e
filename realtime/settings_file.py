"""The settings file: where it is, its sections and profiles, and on which line a key stands."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from platformdirs import user_config_path

from cagface_core import ConfigError

VARIABLE = "CAGFACE_CONFIG"
_PROFILES = "profiles"


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the file: ``path`` is ("live",) or ("profiles", "meeting", "live")."""

    path: tuple[str, ...]
    values: dict[str, Any]

    @property
    def name(self) -> str:
        """As the file's heading has it."""
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """A settings file as read; its sections are known ones, their keys not looked at yet."""

    file: Path
    text: str
    sections: dict[str, dict[str, Any]]
    profiles: dict[str, dict[str, dict[str, Any]]]

    def table(self, section: str) -> Table | None:
        """A command's own table; None where the file has none."""
        values = self.sections.get(section)
        return None if values is None else Table((section,), values)

    def profile(self, name: str, section: str) -> Table | None:
        """A profile's table for a command; None where it says nothing of it.

        Raises:
            ConfigError: there is no profile of that name.
        """
        if name not in self.profiles:
            known = ", ".join(self.profiles) or "none"
            raise ConfigError(f"{self.file}: no profile {name!r}; it has: {known}")
        values = self.profiles[name].get(section)
        return None if values is None else Table((_PROFILES, name, section), values)

    def used_sections(self) -> set[str]:
        """The sections that the file says anything of, in a profile or without."""
        return {*self.sections, *(name for tables in self.profiles.values() for name in tables)}

    def place(self, path: Sequence[str], key: str | None = None) -> str:
        """``FILE:LINE`` of a table or of a key in it; the file alone where it is written inline."""
        line = _line_of(self.text, tuple(path), key)
        return str(self.file) if line is None else f"{self.file}:{line}"


def default_file() -> Path:
    """Where this user's programs keep their settings on this system."""
    return user_config_path("cagface-live", appauthor=False) / "config.toml"


def find_settings_file(asked: Path | None) -> Path | None:
    """The file to read: the one asked for, or $CAGFACE_CONFIG, or the usual one if it exists."""
    if asked is not None:
        return asked
    if named := os.environ.get(VARIABLE):
        return Path(named)
    usual = default_file()
    return usual if usual.exists() else None


def read_settings_file(file: Path | None, sections: Iterable[str]) -> SettingsFile | None:
    """Read the file; None for no file.

    Raises:
        ConfigError: it cannot be read, is no TOML, or has a section that is not in ``sections``.
    """
    if file is None:
        return None
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"the settings file {file} cannot be read ({reason}); name another with --config or "
            f"{VARIABLE}, or write one with `cagface config --init`"
        ) from error
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not valid TOML: {error}{_hint(text, error)}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from error
    held = SettingsFile(file, text, {}, {})
    known = (*sections, _PROFILES)
    for name, values in content.items():
        if name == _PROFILES:
            continue
        held.sections[name] = _section(held, (name,), values, known)
    profiles = _tables(held, (_PROFILES,), content.get(_PROFILES, {}))
    for profile, tables in profiles.items():
        path = (_PROFILES, profile)
        held.profiles[profile] = {
            name: _section(held, (*path, name), values, known[:-1])
            for name, values in _tables(held, path, tables).items()
        }
    return held


def _hint(text: str, error: tomllib.TOMLDecodeError) -> str:
    """The usual mistake, text without quotes, which TOML's own message does not name."""
    number = re.search(r"at line (\d+)", str(error))
    line = text.splitlines()[int(number[1]) - 1] if number else ""
    bare = re.match(r"[^=#]*=\s*(?!true\b|false\b)[A-Za-z~/.]", line)
    return '; text needs "quotes"' if bare else ""


def _section(
    held: SettingsFile, path: tuple[str, ...], values: object, known: Sequence[str]
) -> dict[str, Any]:
    """One command's table, or why it is none."""
    name = path[-1]
    if name in known:
        return _tables(held, path, values)
    if not isinstance(values, dict):
        where = held.place(path[:-1], name)
        raise ConfigError(
            f"{where}: {name!r} stands in no section; put it below a heading such as "
            f"[{'.'.join((*path[:-1], known[0]))}]"
        )
    close = difflib.get_close_matches(name, known, 1)
    hint = (
        f"did you mean [{'.'.join((*path[:-1], close[0]))}]?"
        if close
        else (f"expected one of {', '.join(known)}")
    )
    raise ConfigError(f"{held.place(path)}: unknown section [{'.'.join(path)}]; {hint}")


def _tables(held: SettingsFile, path: tuple[str, ...], values: object) -> dict[str, Any]:
    if not isinstance(values, dict):
        where = held.place(path[:-1], path[-1])
        raise ConfigError(f"{where}: expected a section [{'.'.join(path)}] with keys below it")
    return cast("dict[str, Any]", values)


def _line_of(text: str, path: tuple[str, ...], key: str | None) -> int | None:
    """The line of a heading, or of a key below it: tomllib tells none."""
    here: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if heading := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
            here = tuple(part.strip(" \t\"'") for part in heading[1].split("."))
            if key is None and here == path:
                return number
        elif key is not None and here == path:
            word = re.match(r"\s*[\"']?([\w-]+)[\"']?\s*[=.]", line)
            if word and word[1] == key:
                return number
    return None
