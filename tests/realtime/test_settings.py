"""The settings file below the command line: what beats what, and what is refused where."""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
from pathlib import Path

import pytest

from cagface_core import ConfigError, OutputError
from realtime import settings_file
from realtime.cli import LIVE, SECTIONS, live, main, section_parser
from realtime.config_report import example, write_example
from realtime.settings import layers_of, merged, options_of, parse_with_settings
from realtime.settings_file import default_file, find_settings_file, read_settings_file
from tests.realtime.helpers import PlainEnhancer

GOOD = """\
[live]
preset = "nano"
size = "800x600"
webcam = 3            # a number is as good as text
preview = true
no_virtual_camera = true
max_faces = 2

[video]
no_audio = true

[profiles.meeting.live]
strength = 0.5
preset = "small"
virtual_camera = "OBS"

[profiles.quiet.video]
crf = 30
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Write a settings file that the commands then find."""

    def write(text: str) -> Path:
        file = tmp_path / "config.toml"
        file.write_text(text, encoding="utf-8")
        monkeypatch.setenv("CAGFACE_CONFIG", str(file))
        return file

    return write


def parse(*words: str, section: str = LIVE) -> argparse.Namespace:
    return parse_with_settings(section_parser(section), words, section, SECTIONS)


def test_the_file_beats_the_defaults(config):
    config(GOOD)
    found = parse()
    assert (found.preset, found.size, found.webcam) == ("nano", (800, 600), "3")
    assert (found.preview, found.no_virtual_camera, found.max_faces) == (True, True, 2)
    assert (found.strength, found.compare, found.fps, found.default_scale) == (1.0, False, None, 2)


def test_the_profile_beats_the_file_and_the_command_line_both(config):
    config(GOOD)
    found = parse("--profile", "meeting", "--preset", "pico")
    assert (found.preset, found.strength, found.max_faces) == ("pico", 0.5, 2)


def test_the_command_line_takes_flags_back(config):
    config(GOOD)
    assert parse("--no-preview").preview is False
    assert parse("--no-preview", "--preview").preview is True
    assert parse("IN", "OUT", "--audio", section="video").no_audio is False
    with pytest.raises(SystemExit):
        parse("--no-compare")  # nothing to take back


def test_a_higher_layer_takes_back_the_opposite_of_a_lower_one(config):
    config(GOOD)
    assert parse().virtual_camera is None
    found = parse("--profile", "meeting")
    assert (found.virtual_camera, found.no_virtual_camera) == ("OBS", False)
    found = parse("--profile", "meeting", "--no-virtual-camera")
    assert (found.virtual_camera, found.no_virtual_camera) == (None, True)
    found = parse("--virtual-camera", "Unity")
    assert (found.virtual_camera, found.no_virtual_camera) == ("Unity", False)


def test_without_a_file_all_is_as_argparse_has_it(monkeypatch):
    monkeypatch.setenv("CAGFACE_CONFIG", os.devnull)
    words = ["--preset", "nano", "--size", "64x48"]
    alone = vars(section_parser(LIVE).parse_args(words))
    assert vars(parse(*words)) == alone


def test_the_file_gives_what_is_required(config):
    config(
        '[eval]\ndata = "photos"\nweights = ["a", "b"]\nprotocol = ["patch"]\npeer = ["x=y.pth"]\n'
    )
    found = parse(section="eval")
    assert (found.data, found.weights, found.protocol) == (Path("photos"), ["a", "b"], ["patch"])
    assert found.peers == [("x", Path("y.pth"))]
    assert parse("--peer", "z=w.pth", section="eval").peers == [("z", Path("w.pth"))]
    config("")
    with pytest.raises(SystemExit):
        parse(section="eval")


def test_the_home_folder_is_written_as_in_a_shell(config, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("USERPROFILE", "/home/somebody")
    config('[live]\nparser = "~/mine.safetensors"\nweights = "~/own.safetensors"\n')
    assert parse().parser == Path("/home/somebody/mine.safetensors")
    assert parse().weights == "/home/somebody/own.safetensors"


BAD = {
    "a key": (
        "[live]\nstrenght = 1\n",
        ":2: unknown key 'strenght' in [live]; did you mean 'strength'",
    ),
    "a dash": (
        "[live]\nmax-faces = 1\n",
        ":2: unknown key 'max-faces' in [live]; did you mean 'max_faces'",
    ),
    "nothing near": ("[live]\nqqq = 1\n", "expected one of webcam, size"),
    "a section": ("\n\n[lve]\nscale = 1\n", ":3: unknown section [lve]; did you mean [live]?"),
    "a train section": ("[train]\n", ":1: unknown section [train]"),
    "no section": ("scale = 1\n", ":1: 'scale' stands in no section"),
    "a section that is none": ("live = 1\n", ":1: expected a section [live]"),
    "a choice": ("[live]\nscale = 3\n", ":2: scale = 3: expected one of 1, 2, 4"),
    "a range": ("[live]\nstrength = 2\n", ":2: strength = 2: '2' is not a number from 0 to 1"),
    "a word for a number": ('[live]\nfps = "fast"\n', ':2: fps = "fast": expected a number'),
    "a fraction": (
        "[live]\nmax_faces = 1.5\n",
        ":2: max_faces = 1.5: '1.5' is not a whole number of at least 1",
    ),
    "a word for a flag": ('[live]\npreview = "yes"\n', "expected true or false"),
    "a flag for a word": ("[live]\npreset = true\n", "preset = true: expected text or a number"),
    "a list": ("[live]\npreset = [1]\n", "expected text or a number"),
    "a size": ('[live]\nsize = "big"\n', ":2: size = \"big\": 'big' is not a size"),
    "no end": ("[live]\nscale = [2\n", "Unclosed array (at end of document)"),
    "no quotes": ("[live]\npreset = nano\n", '; text needs "quotes"'),
    "a profile's key": ("[profiles.a.live]\nx = 1\n", ":2: unknown key 'x' in [profiles.a.live]"),
    "a profile's section": ("[profiles.a.lives]\n", ":1: unknown section [profiles.a.lives]"),
    "a profile without": ("[profiles.a]\nscale = 2\n", ":2: 'scale' stands in no section"),
    "an inline table": ("live = {x = 1}\n", "unknown key 'x' in [live]"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_in_the_file_is_one_line(config, case, capfd):
    text, message = BAD[case]
    file = config(text)
    assert live(["--profile", "a"] if "profiles" in text else []) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert str(file) in line
    assert message in line
    assert main(["config"]) == 2  # which also looks at profiles that nobody asked for
    assert message in capfd.readouterr().err


def test_files_that_are_not_there(tmp_path, monkeypatch, capfd):
    missing = str(tmp_path / "none.toml")
    assert live(["--config", missing]) == 2
    assert "No such file" in capfd.readouterr().err
    monkeypatch.setenv("CAGFACE_CONFIG", missing)
    assert live([]) == 2
    assert missing in capfd.readouterr().err
    monkeypatch.setenv("CAGFACE_CONFIG", "")
    monkeypatch.setattr(settings_file, "default_file", lambda: Path(missing))
    assert find_settings_file(None) is None
    with pytest.raises(ConfigError, match="no profile 'x': there is no settings file"):
        parse("--profile", "x")


def test_an_unknown_profile_names_those_there_are(config, capfd):
    config(GOOD)
    assert live(["--profile", "party"]) == 2
    assert "no profile 'party'; it has: meeting, quiet" in capfd.readouterr().err


def test_a_broken_file_keeps_nobody_from_the_help(config, capsys):
    config("nonsense")
    with pytest.raises(SystemExit) as caught:
        live(["--help"])
    assert caught.value.code == 0
    assert "--profile" in capsys.readouterr().out


def test_a_file_with_a_byte_order_mark(tmp_path):
    file = tmp_path / "notepad.toml"
    file.write_bytes(b"\xef\xbb\xbf[live]\r\nscale = 4\r\n")
    held = read_settings_file(file, SECTIONS)
    assert held is not None
    assert held.sections == {"live": {"scale": 4}}
    assert held.place(("live",), "scale") == f"{file}:2"


def test_the_video_command_uses_it(config, tmp_path):
    from tests.realtime.helpers import Clip

    clip = Clip().write(tmp_path / "in.mp4")
    config("[video]\nscale = 4\nmax_faces = 3\n[profiles.half.video]\nstrength = 0.5\n")
    asked = []

    def make(options):
        asked.append(options)
        return PlainEnhancer(options.scale)

    words = ["video", str(clip), str(tmp_path / "out.mp4"), "--profile", "half"]
    assert main(words, make_enhancer=make) == 0
    (options,) = asked
    assert (options.scale, options.max_faces, options.strength) == (4, 3, 0.5)


def test_config_shows_where_values_come_from(config, capsys):
    file = config(GOOD)
    assert main(["config", "live", "--profile", "meeting", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["file"], told["profile"]) == (str(file), "meeting")
    assert told["profiles"] == ["meeting", "quiet"]
    found = told["sections"]["live"]
    assert set(told["sections"]) == {"live"}
    assert found["preset"] == {"value": "small", "from": f"{file}:14"}
    assert found["max_faces"] == {"value": 2, "from": f"{file}:7"}
    assert found["scale"] == {"value": None, "from": "default"}
    assert set(found) == set(options_of(section_parser(LIVE)))
    assert main(["config"]) == 0
    shown = capsys.readouterr().out
    assert "800x600" in shown
    assert f"settings file: {file}" in shown
    assert main(["config", "--path"]) == 0
    assert capsys.readouterr().out == f"{file}\n"
    assert main(["config", "lve"]) == 2


@pytest.mark.parametrize("section", SECTIONS)
def test_every_line_of_the_example_is_taken_once_its_hash_is_gone(section, config):
    """But for words that stand for a value, as FILE does: of those, one or several, as it must."""
    parser = section_parser(section)
    options = options_of(parser)
    text = example({section: parser})
    lines = [line[2:] for line in text.splitlines() if re.match(r"# [a-z_]+ = ", line)]
    found = {line.partition(" = ")[0]: line for line in lines}
    assert options.keys() <= found.keys()
    for key, action in options.items():
        held = read_settings_file(config(f"[{section}]\n{found[key]}\n"), SECTIONS)
        refused = ""
        try:
            layers_of(held, section, None, parser)
        except ConfigError as error:
            refused = str(error)
        assert not refused or action.default is None
        assert "several" not in refused


def test_init_writes_an_example_once(tmp_path, capfd, monkeypatch):
    file = tmp_path / "new" / "config.toml"
    monkeypatch.setenv("CAGFACE_CONFIG", str(file))
    assert main(["config", "--init"]) == 0
    text = file.read_text(encoding="utf-8")
    held = read_settings_file(file, SECTIONS)
    assert held is not None
    assert held.sections == {"live": {}, "video": {}, "image": {}}
    assert "# preset = " in text
    capfd.readouterr()
    file.write_text(text + "# mine\n", encoding="utf-8")
    assert main(["config", "--init"]) == 2
    assert "exists and is kept" in capfd.readouterr().err
    assert file.read_text(encoding="utf-8").endswith("# mine\n")
    assert main(["config", "--init", "--config", str(file / "below" / "it.toml")]) == 2
    assert "cannot be written" in capfd.readouterr().err


def test_an_example_that_cannot_be_written_is_not_in_the_way_of_the_next(tmp_path, monkeypatch):
    def full(_path: Path, text: str, **_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    file = tmp_path / "config.toml"
    with monkeypatch.context() as within:
        within.setattr(Path, "write_text", full)
        with pytest.raises(OutputError, match="No space left"):
            write_example(file, "x")
    assert not file.exists()
    write_example(file, "x")
    assert file.read_text() == "x"


def test_every_option_of_the_example_can_be_set(tmp_path):
    """With its # taken away each line is TOML, and its key is known."""
    import tomllib

    parser = section_parser(LIVE)
    text = example({LIVE: parser})
    lines = [line.removeprefix("# ") for line in text.split("[live]")[-1].splitlines()]
    keys = [line for line in lines if line.partition(" = ")[0] in options_of(parser)]
    assert set(tomllib.loads("\n".join(keys))) == set(options_of(parser))


def test_the_usual_file_is_the_users_own(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_file().name == "config.toml"
    assert default_file().parent.name == "cagface-live"


def test_merged_defaults_are_converted(config):
    parser = argparse.ArgumentParser()
    parser.add_argument("--many", type=int, default="7")
    assert merged(parser, [])["many"].value == 7
