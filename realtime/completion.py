"""The command lines' parsers in, the completion script of a shell out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import shtab

SHELLS = ("bash", "zsh", "fish")

_HOW = {
    "bash": "# To use it: cagface completion bash > ~/.cagface-completion.bash, "
    "and in ~/.bashrc:\n"
    "#   source ~/.cagface-completion.bash\n",
    "zsh": "# To use it: cagface completion zsh > ~/.cagface-completion.zsh, and in ~/.zshrc, "
    "after compinit:\n"
    '#   eval "$(<~/.cagface-completion.zsh)"\n',
    "fish": "# To use it: cagface completion fish > ~/.config/fish/conf.d/cagface.fish\n",
}

_FOLDERS = ("DIR", "FOLDER")


def completion_script(parsers: Sequence[argparse.ArgumentParser], shell: str) -> str:
    """One script that completes every program given.

    Args:
        parsers: one for each program, whole; their options that take files get marked so.
        shell: one of `SHELLS`.
    """
    for parser in parsers:
        _mark_files(parser)
    scripts = [shtab.complete(parser, shell) for parser in parsers]
    return _HOW[shell] + "\n" + "\n".join(scripts)


def _mark_files(parser: argparse.ArgumentParser) -> None:
    """Tell shtab, by its own attribute ``complete``, which words are paths."""
    for action in cast("list[argparse.Action]", cast(Any, parser)._actions):
        if isinstance(action.choices, dict):
            for subparser in cast("dict[str, argparse.ArgumentParser]", action.choices).values():
                _mark_files(subparser)
        elif action.type is Path or action.dest in ("webcam", "weights"):
            folder = action.metavar in _FOLDERS
            cast(Any, action).complete = shtab.DIRECTORY if folder else shtab.FILE
