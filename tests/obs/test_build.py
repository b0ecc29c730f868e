"""What the filter is built of: translations, formatting, Windows, and what its host must have."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.obs.processes import SOURCES, missing

LOCALES = sorted((SOURCES / "data" / "locale").glob("*.ini"))
C_FILES = sorted(p for p in (SOURCES / "src").glob("*.[ch]") if p.name != "wire.h")


def texts(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [re.fullmatch(r'([\w.]+)="([^"\\]+)"', line) for line in lines]
    assert None not in found, lines[found.index(None)]
    pairs = [(match[1], match[2]) for match in found]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def test_four_languages_at_least():
    assert {"en-US", "de-DE", "es-ES", "fr-FR"} <= {path.stem for path in LOCALES}


@pytest.mark.parametrize("path", LOCALES, ids=lambda path: path.stem)
def test_each_translation_is_whole(path):
    english, here = texts(SOURCES / "data/locale/en-US.ini"), texts(path)
    assert here.keys() == english.keys()
    for name, text in here.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", english[name]))
        commands = re.findall(r"cagface (?:serve|obs install)", english[name])
        assert all(command in text for command in commands)


def test_every_text_is_used_and_every_used_text_is_there():
    code = "".join(path.read_text() for path in C_FILES)
    used = set(re.findall(r'(?:TEXT|obs_module_text)\("([\w.]+)"\)', code))
    used |= set(re.findall(r'"(Status\.\w+)"', code))
    used |= {f"Preset.{name}" for name in ("auto", "pico", "nano", "small")}
    assert used == texts(SOURCES / "data/locale/en-US.ini").keys()


def test_the_code_is_formatted():
    if reason := missing("clang-format", headers=False):
        pytest.skip(reason)
    style = f"--style=file:{SOURCES / '.clang-format'}"
    files = [*C_FILES, Path(__file__).with_name("link_program.c")]
    done = subprocess.run(
        ["clang-format", style, "--dry-run", "-Werror", *files], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_files_are_short():
    lengths = {path.name: len(path.read_text().splitlines()) for path in C_FILES}
    assert {name: count for name, count in lengths.items() if count >= 400} == {}


def test_obs_itself_brings_libobs(plugin):
    """Linked, the filter would load in one major version of OBS only."""
    library = plugin / "bin" / "64bit" / "cagface-enhance.so"
    told = subprocess.run(
        ["readelf", "--dynamic", library], capture_output=True, text=True, check=True
    ).stdout
    assert re.findall(r"NEEDED.*\[(.*?)\.so", told) in (["libc"], ["libpthread", "libc"])
    assert {path.name for path in plugin.iterdir()} == {"bin", "data"}
    assert (plugin / "data" / "enhance.effect").is_file()


def test_the_windows_library_links(tmp_path):
    """Built, never run: there is no Windows here."""
    compiler = "x86_64-w64-mingw32-gcc"
    if reason := missing("cmake", compiler, "pkg-config"):
        pytest.skip(reason)
    if not Path("/usr/include/simde").is_dir():
        pytest.skip("not installed: libsimde-dev")
    toolchain = SOURCES / "windows" / "mingw-w64.cmake"
    for words in (
        [
            "cmake", "-S", SOURCES, "-B", tmp_path, "-DLIBOBS_INCLUDE_DIR=/usr/include/obs",
            f"-DCMAKE_TOOLCHAIN_FILE={toolchain}", "-DCMAKE_C_FLAGS=-Werror",
            "-DCMAKE_BUILD_TYPE=Debug",
        ],
        ["cmake", "--build", tmp_path, "--parallel", "2"],
    ):  # fmt: skip
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    told = subprocess.run(
        ["x86_64-w64-mingw32-objdump", "-p", tmp_path / "cagface-enhance.dll"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    exported = set(re.findall(r"\[ *\d+\] (\w+)$", told[told.index("[Ordinal/Name") :], re.M))
    assert {"obs_module_load", "obs_module_ver", "obs_module_set_pointer"} <= exported
    needed = set(re.findall(r"DLL Name: (\S+)", told))
    assert needed == {"KERNEL32.dll", "WS2_32.dll", "msvcrt.dll", "obs.dll"}


def test_the_list_of_what_windows_takes_is_right(plugin):
    """The same names as the Linux build takes from its host, no more and no less."""
    if shutil.which("nm") is None:
        pytest.skip("not installed: nm")
    library = plugin / "bin" / "64bit" / "cagface-enhance.so"
    told = subprocess.run(
        ["nm", "-D", "--undefined-only", library], capture_output=True, text=True, check=True
    ).stdout
    taken = set(re.findall(r" U (\w+)$", told, re.M)) - {"environ"}
    listed = (SOURCES / "windows" / "obs.def").read_text().split("EXPORTS")[1].split()
    assert taken == set(listed)
