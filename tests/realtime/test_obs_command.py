"""``cagface obs``: installed whole or not at all, examined, and removed as it came."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import tomllib
from contextlib import closing
from pathlib import Path

import pytest

from cagface_core import ConfigError
from realtime import obs_compile, obs_plugin, obs_status
from realtime.cli import main
from realtime.doctor import examine
from realtime.obs_compile import digest, library_path, shipped_library, source_folder
from realtime.obs_files import data_folder, own_token
from realtime.obs_plugin import Obs, flatpak_folder, plugin_folder
from realtime.obs_status import doctor_finding, obs_checks

FIND_OBS = obs_plugin.find_obs

pytestmark = pytest.mark.skipif(sys.platform == "darwin", reason="the bundle is not installed")

needs_cmake = pytest.mark.skipif(
    not (shutil.which("cmake") and (shutil.which("cc") or shutil.which("gcc"))),
    reason="needs cmake and a C compiler",
)

CMAKE = """cmake_minimum_required(VERSION 3.16)
project(small LANGUAGES C)
add_library(cagface-enhance MODULE src/plugin.c)
set_target_properties(cagface-enhance PROPERTIES PREFIX "")
install(TARGETS cagface-enhance LIBRARY DESTINATION bin/64bit)
install(DIRECTORY data DESTINATION .)
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A user of their own, with a command, no OBS, and no engine that runs."""
    for name, folder in {
        "HOME": "home", "XDG_DATA_HOME": "data", "XDG_CONFIG_HOME": "config",
        "LOCALAPPDATA": "data", "PROGRAMDATA": "config",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, str(tmp_path / folder))
    (tmp_path / "home").mkdir()
    command = tmp_path / "venv" / "bin" / "cagface"
    command.parent.mkdir(parents=True)
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(command)])
    for module in (obs_plugin, obs_status):
        monkeypatch.setattr(module, "find_obs", lambda: Obs(Path("/usr/bin/obs"), "32.0.1"))
    return tmp_path


@pytest.fixture
def source(home, monkeypatch):
    """Sources as small as they can be, of which a built library is shipped."""
    folder = home / "plugins"
    for name, text in {
        "CMakeLists.txt": CMAKE, "src/plugin.c": "int obs_module_load(void) { return 1; }\n",
        "data/locale/en-US.ini": 'Name="CAGFace"\n', "data/face.effect": "effect\n",
    }.items():  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    library = home / "shipped" / library_path().name
    library.parent.mkdir()
    library.write_bytes(b"\x7fELF built elsewhere")
    monkeypatch.setattr(obs_plugin, "source_folder", lambda: folder)
    monkeypatch.setattr(obs_status, "source_folder", lambda: folder)
    monkeypatch.setattr(obs_plugin, "shipped_library", lambda: library)
    return folder


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


INSTALLED = [
    library_path().as_posix(), "data/face.effect", "data/locale/en-US.ini", "installed.json",
]  # fmt: skip


def status(capsys, *words):
    capsys.readouterr()
    code = main(["obs", "status", "--json", *words])
    return code, json.loads(capsys.readouterr().out)


def the_line(capsys):
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def test_a_shipped_library_is_installed_and_all_of_it_goes_again(home, source, capsys):
    assert main(["obs", "install"]) == 0
    assert f"installed in {plugin_folder()}" in capsys.readouterr().err
    assert plugin_folder() == home / "config/obs-studio/plugins/cagface-enhance"
    assert files(plugin_folder()) == INSTALLED
    assert (plugin_folder() / library_path()).read_bytes() == b"\x7fELF built elsewhere"
    assert files(data_folder()) == ["obs-engine"]
    assert (data_folder() / "obs-engine").read_text() == f"{home}/venv/bin/cagface\n"
    assert [path.name for path in plugin_folder().parent.iterdir()] == ["cagface-enhance"]
    assert main(["obs", "uninstall"]) == 0
    assert "removed" in capsys.readouterr().err
    assert files(home / "config") == files(home / "data") == []
    assert list(plugin_folder().parent.iterdir()) == []
    assert main(["obs", "uninstall"]) == 0
    assert "nothing is installed" in capsys.readouterr().err


@needs_cmake
def test_it_is_built_where_that_is_asked_for(source):
    assert main(["obs", "install", "--build"]) == 0
    assert files(plugin_folder()) == INSTALLED
    assert (plugin_folder() / library_path()).stat().st_size > 1000


def test_the_filter_itself_is_built(repository, monkeypatch, capsys):
    if not (repository / "plugins/obs/CMakeLists.txt").is_file():
        pytest.skip("the filter's sources are not here")
    libobs = ["pkg-config", "--exists", "libobs"]
    if not all(map(shutil.which, ("cmake", "pkg-config"))) or subprocess.run(libobs).returncode:
        pytest.skip("needs cmake, pkg-config and libobs' headers")
    assert main(["obs", "install", "--build"]) == 0
    assert {"data/locale/en-US.ini", library_path().as_posix()} <= set(files(plugin_folder()))
    code, told = status(capsys)
    assert (code, told["plugin"]["status"]) == (0, "pass")


def test_what_an_install_left_that_was_killed_goes(source):
    left, begun = (plugin_folder().parent / f".cagface-enhance-{name}" for name in ("old", "new"))
    for folder in (left, begun):
        (folder / "work").mkdir(parents=True)
    os.utime(left, (0, 0))
    assert main(["obs", "install"]) == 0
    assert {p.name for p in plugin_folder().parent.iterdir()} == {"cagface-enhance", begun.name}


def test_installing_again_replaces_what_was_there(source):
    assert main(["obs", "install"]) == 0
    (source / "data/face.effect").rename(source / "data/new.effect")
    (source / "data/locale/en-US.ini").write_text("changed")
    assert main(["obs", "install"]) == 0
    assert "data/new.effect" in files(plugin_folder())
    assert "data/face.effect" not in files(plugin_folder())
    assert (plugin_folder() / "data/locale/en-US.ini").read_text() == "changed"
    assert [path.name for path in plugin_folder().parent.iterdir()] == ["cagface-enhance"]


@needs_cmake
@pytest.mark.parametrize("before", [False, True])
def test_a_build_that_fails_leaves_everything_as_it_was(source, capsys, before):
    if before:
        assert main(["obs", "install"]) == 0
    there = files(plugin_folder().parent) if before else []
    (source / "src/plugin.c").write_text("int obs_module_load(void) { return nothing; }\n")
    capsys.readouterr()
    assert main(["obs", "install", "--build"]) == 2
    line = the_line(capsys)
    assert "cannot be built" in line
    assert "nothing" in line, "the compiler's own words"
    if plugin_folder().parent.exists():
        assert files(plugin_folder().parent) == there
    assert (data_folder() / "obs-engine").exists() == before


def test_a_swap_that_fails_puts_the_old_one_back(source, monkeypatch, capsys):
    assert main(["obs", "install"]) == 0
    rename = Path.rename

    def fail(path, target):
        if path.name == "new":
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    capsys.readouterr()
    assert main(["obs", "install"]) == 2
    assert "close OBS Studio" in the_line(capsys)
    assert files(plugin_folder()) == INSTALLED
    assert [path.name for path in plugin_folder().parent.iterdir()] == ["cagface-enhance"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["cmake"], "which is not here; on Debian and Ubuntu: sudo apt-get install"),
        (["libobs"], "the headers of libobs are missing; on Debian"),
        (["compiler"], "there is no C compiler, or no make; on Debian"),
        (["other"], "CMake Error: it rains; on Debian"),
    ],
)
def test_what_is_missing_is_named(source, home, monkeypatch, capsys, words, line):
    told = {
        "libobs": "Package 'libobs', required by 'virtual:world', not found",
        "compiler": "CMake Error: CMAKE_C_COMPILER not set, after EnableLanguage",
        "other": "-- Looking\nCMake Error: it rains",
    }
    programs = home / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    if words[0] in told:
        cmake = programs / "cmake"
        cmake.write_text(f'#!/bin/sh\necho "{told[words[0]]}"\nexit 1\n')
        cmake.chmod(0o755)
    assert main(["obs", "install", "--build"]) == 2
    assert line in the_line(capsys)
    assert not plugin_folder().exists()


def test_what_others_have_put_there_stays(source, capsys):
    plugin_folder().mkdir(parents=True)
    (plugin_folder() / "mine.txt").touch()
    for word, line in (("install", "move it away"), ("uninstall", "remove it by hand")):
        assert main(["obs", word]) == 2
        assert line in the_line(capsys)
    assert files(plugin_folder()) == ["mine.txt"]
    (plugin_folder() / "mine.txt").unlink()
    plugin_folder().rmdir()
    assert main(["obs", "install"]) == 0
    (plugin_folder() / "data/mine.ini").touch()
    assert main(["obs", "uninstall"]) == 0
    assert files(plugin_folder()) == ["data/mine.ini"]
    assert "holds other files" in capsys.readouterr().err


def test_a_flatpak_alone_cannot_take_it(home, source, monkeypatch, capsys):
    flatpak = home / "home/.var/app/com.obsproject.Studio"
    flatpak.mkdir(parents=True)
    assert flatpak_folder() == flatpak
    for module in (obs_plugin, obs_status):
        monkeypatch.setattr(module, "find_obs", lambda: None)
    assert main(["obs", "install"]) == 2
    assert "OBS Studio is here as a Flatpak" in the_line(capsys)
    _, told = status(capsys)
    assert told["OBS Studio"]["status"] == "warn"
    assert "Flatpak" in told["OBS Studio"]["found"]
    assert not plugin_folder().exists()


def test_without_the_command_the_filter_could_start_no_engine(home, source, monkeypatch, capsys):
    (home / "venv/bin/cagface").unlink()
    monkeypatch.setattr(obs_plugin.sysconfig, "get_path", lambda _name: str(home))
    monkeypatch.setenv("PATH", str(home))
    assert main(["obs", "install"]) == 2
    assert "pip install cagface-live" in the_line(capsys)
    assert not plugin_folder().exists()


def test_status_tells_each_part(source, capsys):
    code, told = status(capsys)
    assert code == 0
    assert not told["ready"]
    assert told["plugin"] == {
        "name": "plugin", "status": "warn", "found": "not installed", "fix": "cagface obs install",
    }  # fmt: skip
    assert "32.0.1" in told["OBS Studio"]["found"]
    assert main(["obs", "install"]) == 0
    assert status(capsys)[1]["ready"]
    (source / "src/plugin.c").write_text("int newer;\n")
    assert "of another version" in status(capsys)[1]["plugin"]["found"]
    (plugin_folder() / "data/face.effect").unlink()
    code, told = status(capsys)
    assert code == 2
    assert told["plugin"]["found"].endswith("missing or changed: data/face.effect")
    assert main(["obs", "status"]) == 2
    assert "plugin: cagface obs install" in capsys.readouterr().out


def test_status_tells_of_a_command_that_has_gone(home, source, capsys):
    assert main(["obs", "install"]) == 0
    (home / "venv/bin/cagface").unlink()
    code, told = status(capsys)
    assert code == 2
    assert "which is not there" in told["command"]["found"]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_status_tells_of_a_token_that_others_can_read(source, capsys):
    own_token()
    (data_folder() / "obs-token").chmod(0o644)
    code, told = status(capsys)
    assert code == 2
    assert "can be read by others" in told["token"]["found"]
    assert told["token"]["fix"].startswith("remove it")


def test_status_tells_of_what_else_listens(source, capsys):
    own_token()
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]

        def answer():
            connection, _ = other.accept()
            with closing(connection):
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + b" " * 200)

        thread = threading.Thread(target=answer)
        thread.start()
        _, told = status(capsys, "--address", f"127.0.0.1:{port}")
        thread.join()
    assert told["engine"]["status"] == "warn"
    assert "no engine of this version" in told["engine"]["found"]
    _, told = status(capsys, "--address", f"127.0.0.1:{port}")
    assert told["engine"]["found"] == f"does not run at 127.0.0.1:{port}; the filter starts it"


def test_the_doctor_has_one_line_that_never_fails(home, source):
    checks = obs_checks(("127.0.0.1", 9))
    finding = doctor_finding(examine(checks))
    assert (finding.status, finding.fix) == (
        "pass", "for the filter in OBS Studio: cagface obs install",
    )  # fmt: skip
    assert main(["obs", "install"]) == 0
    assert doctor_finding(examine(checks)).status == "pass"
    (plugin_folder() / library_path()).unlink()
    finding = doctor_finding(examine(checks))
    assert (finding.status, finding.fix) == ("warn", "cagface obs install")


def test_where_each_system_has_its_plugins():
    home, name = Path("/home/me"), "cagface-enhance"
    usual = home / ".config/obs-studio/plugins" / name
    assert plugin_folder({}, "linux", home) == usual
    assert plugin_folder({"XDG_CONFIG_HOME": "relative"}, "linux", home) == usual
    other = plugin_folder({"XDG_CONFIG_HOME": "/c"}, "linux", home)
    assert other == Path("/c/obs-studio/plugins") / name
    windows = plugin_folder({"PROGRAMDATA": "/ProgramData"}, "win32", home)
    assert windows == Path("/ProgramData/obs-studio/plugins") / name
    with pytest.raises(ConfigError, match=r"put cagface-enhance\.plugin into"):
        plugin_folder({}, "darwin", home)
    assert library_path("linux") == Path("bin/64bit/cagface-enhance.so")
    assert library_path("win32") == Path("bin/64bit/cagface-enhance.dll")


def test_sources_and_libraries_are_found_in_a_checkout_and_in_a_wheel(tmp_path):
    package = tmp_path / "realtime"
    with pytest.raises(ConfigError, match="install the package again"):
        source_folder(package)
    for folder in ("realtime/obs_plugin_source", "plugins/obs"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "CMakeLists.txt").touch()
        assert source_folder(package) == tmp_path / folder
    assert shipped_library(package) is None
    system = f"{obs_compile.platform.system()}-{obs_compile.platform.machine()}".lower()
    library = package / "obs_build" / system / library_path().name
    library.parent.mkdir(parents=True)
    library.touch()
    assert shipped_library(package) == library


def test_a_change_of_any_source_is_another_version(source):
    first = digest(source)
    assert digest(source) == first
    (source / "build").mkdir()
    (source / "build/left.o").touch()
    assert digest(source) == first
    (source / "data/face.effect").write_text("another")
    assert digest(source) != first


@pytest.mark.skipif(os.name != "posix", reason="a shell script for a program")
@pytest.mark.parametrize(
    ("script", "number"),
    [
        ("echo 'info: something'; echo 'OBS Studio - 31.0.2 (linux)'", "31.0.2 (linux)"),
        ("exit 1", "of unknown version"),
    ],
)
def test_obs_tells_its_version(home, monkeypatch, script, number):
    monkeypatch.setattr(obs_plugin, "find_obs", FIND_OBS)
    monkeypatch.setenv("PATH", f"{home}")
    assert obs_plugin.find_obs() is None
    program = home / "obs"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    assert obs_plugin.find_obs() == Obs(program, number)


def test_a_wheel_holds_the_sources_where_they_are_looked_for(repository, tmp_path):
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    (held,) = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"].items()
    assert held[0] == "plugins/obs"
    (tmp_path / held[1]).mkdir(parents=True)
    (tmp_path / held[1] / "CMakeLists.txt").touch()
    assert source_folder(tmp_path / "realtime") == tmp_path / held[1]
