"""Command line, profile and settings file in; the value of every option, and where it is from, out.

A value on the command line beats the profile's, that the settings file's, that the default. The
keys of the file are the long options themselves, so there is no second list of them: whatever a
command's parser knows can be set, and is checked by the same types and choices.
"""

from __future__ import annotations

import argparse
import difflib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from cagface_core import ConfigError
from realtime.settings_file import SettingsFile, Table, find_settings_file, read_settings_file

DEFAULT = "default"
COMMAND_LINE = "command line"

_OWN = ("config", "profile", "help", "version", "debug")
"""Options that say where settings come from, or nothing about the work; they are no settings."""

_NO = "no_"


@dataclass(frozen=True, slots=True)
class Setting:
    """The value of one option, where it is from, and how it was written there, for people."""

    value: Any
    origin: str
    written: str | None = None


def add_settings_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --profile and --config."""
    group = parser.add_argument_group("settings")
    group.add_argument("--profile", metavar="NAME", help="a profile of the settings file")
    group.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="the settings file (default: $CAGFACE_CONFIG, or what `cagface config --path` tells)",
    )


def options_of(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """The options of a parser that the settings file may set, hidden ones not: key -> option."""
    found: dict[str, argparse.Action] = {}
    # argparse has no public way to list what was added.
    for action in cast("list[argparse.Action]", cast(Any, parser)._actions):
        long = [word for word in action.option_strings if word.startswith("--")]
        if action.help is argparse.SUPPRESS:
            continue
        if long and (key := long[0].removeprefix("--").replace("-", "_")) not in _OWN:
            found[key] = action
    return found


def parse_with_settings(
    parser: argparse.ArgumentParser,
    argv: Sequence[str],
    section: str,
    sections: Iterable[str],
    options: argparse.ArgumentParser | None = None,
) -> argparse.Namespace:
    """Parse a command line on top of the settings file.

    Args:
        parser: of the whole line.
        argv: the line's words.
        section: the command's own section of the file.
        sections: every section that the file may have.
        options: the parser that holds the command's options, where it is not ``parser`` itself.

    Raises:
        ConfigError: the file cannot be read, or does not say what can be understood.
        SystemExit: argparse's own, for --help and a line that it does not take.
    """
    options = options or parser
    if {"-h", "--help", "--version"} & set(argv):  # a broken file keeps nobody from reading
        return parser.parse_args(argv)
    file, profile = _asked(argv)
    held = read_settings_file(find_settings_file(file), sections)
    return _parse(parser, options, argv, layers_of(held, section, profile, options))


def layers_of(
    held: SettingsFile | None, section: str, profile: str | None, parser: argparse.ArgumentParser
) -> list[dict[str, Setting]]:
    """The file's own layer and the profile's, checked against the options of ``parser``.

    Raises:
        ConfigError: an unknown key or profile, or a value that the option does not take.
    """
    if held is None:
        if profile is not None:
            raise ConfigError(
                f"no profile {profile!r}: there is no settings file; make one with "
                "`cagface config --init`"
            )
        return []
    options = options_of(parser)
    tables = [table for table in (held.table(section),) if table is not None]
    if profile is not None:
        tables += [table for table in (held.profile(profile, section),) if table is not None]
    return [_read_table(held, table, options) for table in tables]


def merged(
    parser: argparse.ArgumentParser, layers: Sequence[Mapping[str, Setting]]
) -> dict[str, Setting]:
    """Every option's value: the defaults, then one layer over the other.

    A layer that sets ``name`` takes back ``no_name`` of the layers below, and the other way round.
    """
    options = options_of(parser)
    result = {key: Setting(_default(action), DEFAULT) for key, action in options.items()}
    for layer in layers:
        for key, setting in layer.items():
            opposite = key.removeprefix(_NO) if key.startswith(_NO) else _NO + key
            if opposite in options and opposite not in layer and setting.value:
                result[opposite] = Setting(_default(options[opposite]), setting.origin)
            result[key] = setting
    return result


def _asked(argv: Sequence[str]) -> tuple[Path | None, str | None]:
    """What the command line says of file and profile, before all else is read."""
    early = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    add_settings_arguments(early)
    try:
        found, _ = early.parse_known_args(argv)
    except argparse.ArgumentError:
        return None, None  # the whole parser will say so, with the right usage
    return found.config, found.profile


def _parse(
    parser: argparse.ArgumentParser,
    options_parser: argparse.ArgumentParser,
    argv: Sequence[str],
    layers: Sequence[Mapping[str, Setting]],
) -> argparse.Namespace:
    """Parse with all defaults held back, so that what was given stands out; then put them in."""
    options = options_of(options_parser)
    configured = {key for layer in layers for key in layer}
    for key in configured:
        _add_opposite(options_parser, key, options)
    defaults = {key: action.default for key, action in options.items()}
    required = {key: action.required for key, action in options.items()}
    for key, action in options.items():
        action.default = argparse.SUPPRESS
        action.required = action.required and key not in configured
    try:
        arguments = parser.parse_args(argv)
    finally:
        for key, action in options.items():
            action.default, action.required = defaults[key], required[key]
    given = {
        key: Setting(getattr(arguments, action.dest), COMMAND_LINE)
        for key, action in options.items()
        if hasattr(arguments, action.dest)
    }
    for key, setting in merged(options_parser, [*layers, given]).items():
        setattr(arguments, options[key].dest, setting.value)
    return arguments


def _add_opposite(
    parser: argparse.ArgumentParser, key: str, options: Mapping[str, argparse.Action]
) -> None:
    """Let the command line take back a flag that the file sets: --no-preview, --audio."""
    opposite = key.removeprefix(_NO) if key.startswith(_NO) else _NO + key
    if is_flag(options[key]) and opposite not in options:
        parser.add_argument(
            "--" + opposite.replace("_", "-"),
            dest=options[key].dest,
            action="store_false",
            default=argparse.SUPPRESS,
            help=argparse.SUPPRESS,
        )


def is_flag(action: argparse.Action) -> bool:
    """Whether an option takes no value: it is there or not."""
    return action.nargs == 0


def takes_several(action: argparse.Action) -> bool:
    """Whether an option takes a list, or is given several times."""
    appends = isinstance(action, cast("type", cast(Any, argparse)._AppendAction))
    return appends or action.nargs in ("*", "+") or isinstance(action.nargs, int)


def _default(action: argparse.Action) -> Any:
    """An option's default, converted as argparse does: text is, anything else is used as it is."""
    if isinstance(action.default, str) and callable(action.type):
        return action.type(action.default)
    return action.default


def _read_table(
    held: SettingsFile, table: Table, options: Mapping[str, argparse.Action]
) -> dict[str, Setting]:
    """Check one table of the file, key by key."""
    layer: dict[str, Setting] = {}
    for key, value in table.values.items():
        where = held.place(table.path, key)
        if key not in options:
            raise ConfigError(
                f"{where}: unknown key {key!r} in [{table.name}]; {near(key, options)}"
            )
        try:
            layer[key] = Setting(_convert(options[key], value), where, str(value))
        except (argparse.ArgumentTypeError, TypeError, ValueError) as error:
            raise ConfigError(f"{where}: {key} = {_toml(value)}: {error}") from error
    return layer


def near(word: str, known: Iterable[str]) -> str:
    """What may have been meant instead of ``word``; all that is known where nothing is near."""
    known = list(known)
    if close := difflib.get_close_matches(word, known, 1):
        return f"did you mean {close[0]!r}?"
    return f"expected one of {', '.join(known)}"


def _convert(action: argparse.Action, value: Any) -> Any:
    """A value of the file as the command line would have made it of words."""
    if is_flag(action):
        if not isinstance(value, bool):
            raise ValueError("expected true or false")
        return value
    if takes_several(action):
        if not isinstance(value, list):
            raise ValueError("expected several values in [brackets]")
        return [_convert_one(action, item) for item in cast("list[Any]", value)]
    return _convert_one(action, value)


def _convert_one(action: argparse.Action, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("expected text or a number")
    text = str(value)
    if text.startswith("~/"):  # as the shell does it on the command line
        text = os.path.expanduser(text)  # noqa: PTH111  a Path would drop a trailing slash
    convert = cast("Callable[[str], Any]", action.type or str)
    try:
        result = convert(text)
    except ValueError as error:
        if convert in (int, float) or "invalid literal" in str(error) or "convert" in str(error):
            raise ValueError("expected a number") from error
        raise
    if action.choices is not None and result not in action.choices:
        raise ValueError(f"expected one of {', '.join(map(str, action.choices))}")
    return result


def _toml(value: object) -> str:
    """A value as the file writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
