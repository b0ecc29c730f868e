"""Completion as the shells themselves answer it."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from realtime.cli import main

SUBCOMMANDS = {"video", "image", "train", "eval", "bench", "doctor", "devices", "config"}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """The script of every shell, in a file."""
    from contextlib import redirect_stdout
    from io import StringIO

    found = {}
    for shell in ("bash", "zsh", "fish"):
        text = StringIO()
        with redirect_stdout(text):
            assert main(["completion", shell]) == 0
        found[shell] = tmp_path_factory.mktemp("completion") / f"cagface.{shell}"
        found[shell].write_text(text.getvalue(), encoding="utf-8")
    return found


def ask(shell: str, program: str, *words: str) -> str:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    options = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    done = subprocess.run(
        [shell, *options, "-c", program, shell, *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
rule=$(complete -p "$1"); [[ $rule =~ -F\\ ([^ ]+) ]]
"${BASH_REMATCH[1]}" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}" 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("line", "wanted", "unwanted"),
    [
        (["cagface", ""], SUBCOMMANDS, {"--scale"}),
        (["cagface", "do"], {"doctor"}, {"video"}),
        (["cagface", "video", "--str"], {"--strength"}, {"--preset"}),
        (["cagface", "video", "--scale", ""], {"1", "2", "4"}, {"--scale"}),
        (["cagface", "train", ""], {"sr", "parser"}, {"video"}),
        (["cagface", "completion", ""], {"bash", "zsh", "fish"}, set()),
        (["cagface-live", "--we"], {"--webcam", "--weights"}, {"--scale"}),
        (["cagface-live", "--pro"], {"--profile"}, set()),
    ],
)
def test_bash_completes(scripts, line, wanted, unwanted):
    found = set(ask("bash", BASH, str(scripts["bash"]), *line).split())
    assert wanted <= found
    assert not unwanted & found


def test_bash_completes_files(scripts, tmp_path):
    (tmp_path / "clip.mp4").touch()
    line = ["cagface", "config", "--config", str(tmp_path / "cl")]
    assert ask("bash", BASH, str(scripts["bash"]), *line).split() == [str(tmp_path / "clip.mp4")]


def test_fish_completes(scripts):
    program = 'source "$argv[2]"; complete -C "$argv[3]"'

    def found(line: str) -> set[str]:
        answer = ask("fish", program, str(scripts["fish"]), line)
        return {word.split("\t")[0] for word in answer.splitlines()}

    assert found("cagface ") >= SUBCOMMANDS
    assert found("cagface video --sca") == {"--scale"}
    assert "--webcam" in found("cagface-live --we")


ZSH = """
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PROMPT='>' ; autoload -U compinit; compinit -u -D; LISTMAX=1000"
zpty -w shell "eval \\"\\$(<$1)\\"; print READY"
zpty -r -m shell text '*READY*READY*'
zpty -w -n shell "$2"$'\\t\\t'
zpty -r -m shell text "*$3*" && print FOUND  # waits for it; the caller's patience ends it
zpty -d shell
"""


@pytest.mark.parametrize(
    ("line", "wanted"), [("cagface do", "doctor"), ("cagface video --stre", "--strength")]
)
def test_zsh_completes(scripts, line, wanted):
    assert "FOUND" in ask("zsh", ZSH, str(scripts["zsh"]), line, wanted)


def test_an_unknown_shell_is_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["completion", "csh"])
    assert caught.value.code == 2
    assert "bash" in capsys.readouterr().err
