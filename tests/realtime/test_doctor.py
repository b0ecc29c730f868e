"""The doctor: each check on made-up facts, the whole on this machine."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from platformdirs import user_cache_path

from cagface_core import ConfigError, WeightsError, path_choice
from realtime import doctor_checks as checks
from realtime.cli import main
from realtime.devices import Device
from realtime.doctor import Finding, examine, findings_json, findings_table, fixes, verdict
from realtime.self_test import SelfTest, run_self_test
from tests.realtime.helpers import PlainEnhancer, picture

FAST = SelfTest(640, 480, 2, 29.9, 30, 0, 1.0, 21.0, 38.0)
CAMERA = Device("/dev/video0", "HD Webcam")
LOOPBACK = Device("/dev/video2", "CAGFace Live", virtual=True, captures=False, takes_output=True)


@pytest.mark.parametrize(
    ("found", "largest", "status"),
    [((3, 11), 2**63 - 1, "pass"), ((3, 14), 2**63 - 1, "pass"), ((3, 15), 2**63 - 1, "fail"),
     ((3, 10), 2**63 - 1, "fail"), ((3, 12), 2**31 - 1, "fail")],
)  # fmt: skip
def test_python(found, largest, status):
    finding = checks.check_python(found, largest)
    assert finding.status == status
    assert bool(finding.fix) == (status == "fail")


def test_torch_and_a_gpu_that_it_does_not_use(tmp_path):
    assert checks.torch_finding("2.13", ["processor"], gpu_unused=False).status == "pass"
    finding = checks.torch_finding("2.13", ["processor"], gpu_unused=True)
    assert finding.status == "warn"
    assert "pytorch.org" in finding.fix
    (tmp_path / "driver/nvidia").mkdir(parents=True)
    (tmp_path / "driver/nvidia/version").touch()
    assert checks.nvidia_gpu_present(tmp_path)


def test_opencv_without_windows_and_without_itself(monkeypatch):
    assert checks.opencv_finding("5.0", "QT").status == "pass"
    assert "--preview" in checks.opencv_finding("5.0", "").found

    def gutted():
        raise ConfigError("cv2 is not whole; repair it with: pip install it")

    monkeypatch.setattr(checks, "check_cv2", gutted)
    (finding,) = examine([("opencv", checks.check_opencv)])
    assert finding == Finding(
        "opencv", "fail", "cv2 is not whole", "repair it with: pip install it"
    )


@pytest.mark.parametrize(
    ("error", "fix"),
    [(ImportError("No module named 'mediapipe'"), "pip install"),
     (OSError("libEGL.so.1: cannot open shared object file"), "apt-get install libgl1")],
)  # fmt: skip
def test_mediapipe_that_does_not_load(monkeypatch, error, fix):
    def fail(_name):
        raise error

    monkeypatch.setattr(checks, "import_module", fail)
    finding = checks.check_mediapipe()
    assert finding.status == "fail"
    assert fix in finding.fix
    assert checks.check_virtual_camera([]).status == "fail"


def test_encoders():
    assert checks.av_finding("18", ["libx264"], ["h264_nvenc"]).status == "pass"
    assert checks.av_finding("18", ["ffv1"], []).status == "warn"
    assert checks.av_finding("18", [], []).status == "fail"


def test_libraries():
    def load(name):
        if "EGL" in name:
            raise OSError

    finding = checks.check_libraries(load, "linux")
    assert (finding.status, finding.found) == ("fail", "missing: libEGL.so.1")
    assert "libegl1" in finding.fix
    assert checks.check_libraries(load, "win32").status == "pass"


@pytest.mark.parametrize(
    ("environment", "system", "status", "words"),
    [({"DISPLAY": ":0"}, "linux", "pass", ":0"), ({}, "linux", "warn", "none"),
     ({"DISPLAY": ":9"}, "linux", "warn", "DISPLAY=:9 does not answer"),
     ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", "warn", "XWayland"), ({}, "darwin", "pass", "")],
)  # fmt: skip
def test_screen(environment, system, status, words):
    finding = checks.check_screen(environment, system, lambda display: display == ":0")
    assert finding.status == status
    assert words in finding.found


def test_cameras():
    assert checks.check_cameras([CAMERA, LOOPBACK], "plug in").status == "pass"
    assert checks.check_cameras([LOOPBACK], "plug in") == Finding(
        "camera", "warn", "none", "plug in"
    )
    busy = checks.check_cameras([replace(CAMERA, used_by=("zoom",))], "")
    assert (busy.status, "zoom" in busy.found) == ("warn", True)
    shy = checks.check_cameras([replace(CAMERA, problem="no permission: do this")], "")
    assert (shy.status, shy.fix) == ("fail", "no permission: do this")


def test_the_virtual_camera_on_linux(tmp_path):
    def check(devices=()):
        return checks.check_virtual_camera(devices, "linux", tmp_path, "6.1")

    assert "apt-get install v4l2loopback-dkms" in check().fix
    module = tmp_path / "lib/modules/6.1/updates/dkms/v4l2loopback.ko.xz"
    module.parent.mkdir(parents=True)
    module.touch()
    assert "not loaded" in check().found
    assert check().fix.startswith("sudo modprobe v4l2loopback")
    parameters = tmp_path / "sys/module/v4l2loopback/parameters"
    parameters.mkdir(parents=True)
    assert "no device is free" in check().found
    (parameters / "exclusive_caps").write_text("N,N,N\n")
    assert "Chrome" in check([LOOPBACK]).found
    (parameters / "exclusive_caps").write_text("Y,N,N\n")
    assert check([LOOPBACK]).status == "pass"


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_the_virtual_camera_elsewhere(system):
    assert "OBS" in checks.check_virtual_camera([], system).fix
    assert checks.check_virtual_camera([LOOPBACK], system).status == "pass"


def test_the_digests_are_those_of_the_shipped_files(repository):
    """If this fails after a change of weights: see the head of realtime/doctor_checks.py."""
    package = repository / "cagface_core"
    lines = (package / "weights/SHA256SUMS").read_text(encoding="utf-8").splitlines()
    files = [*package.glob("weights/*.safetensors"), *package.glob("models/*.tflite")]
    found = {f"{f.parent.name}/{f.name}": hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    assert {name: digest for digest, name in (line.split("  ") for line in lines)} == found
    assert checks.check_weights().status == "pass"


def test_damaged_and_missing_weights(tmp_path):
    assert "SHA256SUMS is missing" in checks.check_weights(tmp_path).found
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/a.safetensors").write_bytes(b"damaged")
    digest = hashlib.sha256(b"whole").hexdigest()
    (tmp_path / "weights/SHA256SUMS").write_text(
        f"{digest}  weights/a.safetensors\n{digest}  models/b.tflite\n"
    )
    finding = checks.check_weights(tmp_path)
    assert finding.status == "fail"
    assert finding.found == "weights/a.safetensors is damaged; models/b.tflite is missing"
    (tmp_path / "models").mkdir()
    for name in ("weights/a.safetensors", "models/b.tflite"):
        (tmp_path / name).write_bytes(b"whole")
    assert checks.check_weights(tmp_path).status == "pass"


def test_disk(tmp_path):
    assert checks.check_disk(tmp_path, 2 << 30).status == "pass"
    assert checks.check_disk(tmp_path, 1 << 20).status == "warn"
    (tmp_path / "file").touch()  # root can write everywhere, but in no file
    assert "cannot be written" in checks.check_disk(tmp_path / "file", 2 << 30).found


def test_cache(tmp_path):
    assert checks.check_cache(tmp_path / "new" / "cagface-live").status == "pass"
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    assert "measures anew" in checks.check_cache(tmp_path / "file" / "below").found


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS may name it by XDG_CACHE_HOME as well")
def test_the_cache_is_where_measurements_are_kept():
    file = path_choice._cache_file()
    assert file == user_cache_path() / "cagface-live" / "paths.json"


def test_extras():
    finding = checks.check_extras(lambda name: name == "openvino")
    assert (finding.status, finding.found) == ("pass", "installed: openvino")
    assert finding.fix.endswith("'cagface-live[panel,eval,peers]'")
    assert checks.check_extras(lambda _name: True).fix == ""


def test_every_extra_is_one_of_the_package(repository):
    import tomllib

    text = (repository / "pyproject.toml").read_text(encoding="utf-8")
    extras = set(tomllib.loads(text)["project"]["optional-dependencies"])
    assert set(checks._EXTRAS) - {"panel"} <= extras


def test_what_the_figures_mean():
    assert checks.speed_finding(FAST, 4.0).status == "pass"
    slow = checks.speed_finding(replace(FAST, fps=9.0), 4.0)
    assert slow.status == "warn"
    assert "load 4.0" in slow.found
    assert "load" not in checks.speed_finding(replace(FAST, fps=9.0), 0.1).found


def test_the_self_test_measures_a_live_run():
    frames = [picture(index, 64, 48) for index in range(3)]
    test = run_self_test(frames, lambda: PlainEnhancer(2), 2, seconds=0.3)
    assert (test.width, test.height, test.scale, test.asked_hz) == (64, 48, 2, 30)
    assert test.faces_per_frame == 1.0
    assert 0 < test.latency_p50_ms <= test.latency_p95_ms


def test_a_self_test_that_fails_is_a_finding():
    frames = [picture(0, 64, 48)]
    broken = PlainEnhancer(2, fail_at=lambda _index: True)
    found = examine([("self-test", lambda: run_self_test(frames, lambda: broken, 2, 0.1))])
    assert found[0].status == "fail"
    assert "could not be enhanced" in found[0].found
    assert "cagface bench" in found[0].fix


def test_a_check_that_trips_stops_no_other():
    def trips():
        raise ZeroDivisionError

    said = []
    good = Finding("b", "pass", "fine")
    found = examine([("a", trips), ("b", lambda: good)], said.append)
    assert [finding.status for finding in found] == ["fail", "pass"]
    assert found[0].found == "ZeroDivisionError"
    assert said == ["a", "b"]


def test_the_verdict():
    good = Finding("a", "pass", "fine")
    assert verdict([good], FAST) == (
        "ready; a live call at 640x480 should run at about 30 fps, 21 ms behind the camera"
    )
    assert verdict([good, Finding("b", "warn", "", "")], None).startswith("ready, but for: b")
    assert verdict([good, Finding("c", "fail", "", "")], FAST) == "not ready: mend c first"


def test_the_whole_on_this_machine(capsys):
    code = main(["doctor", "--json"], make_enhancer=lambda o: PlainEnhancer(o.scale))
    told = json.loads(capsys.readouterr().out)
    assert code == (2 if told["failed"] else 0)
    by_name = {check["name"]: check for check in told["checks"]}
    for name in ("python", "torch", "opencv", "mediapipe", "video files", "weights", "network"):
        assert by_name[name]["status"] == "pass", by_name[name]
    assert told["self_test"]["width"] == 640
    assert all(check["fix"] for check in told["checks"] if check["status"] != "pass")


def test_quick_and_weights_that_do_not_load(capsys):
    def broken(_options):
        raise WeightsError("pico.safetensors is damaged; install it again")

    assert main(["doctor", "--quick"], make_enhancer=broken) == 2
    shown = capsys.readouterr().out
    assert "not ready: mend network first" in shown
    assert "self-test" not in shown


def test_a_settings_file_that_stops_a_command_is_no_ready_machine(capsys, tmp_path, monkeypatch):
    file = tmp_path / "bad.toml"
    monkeypatch.setenv("CAGFACE_CONFIG", str(file))
    for text in ("[live]\nscale = 3\n", "[profiles.a.video]\nnonsense = 1\n", "[live"):
        file.write_text(text)
        assert main(["doctor", "--quick"], make_enhancer=lambda o: PlainEnhancer(o.scale)) == 2
        shown = capsys.readouterr().out
        assert "settings: change the file" in shown
        assert "not ready: mend settings first" in shown
    file.write_text("[live]\nscale = 2\n")
    main(["doctor", "--quick"], make_enhancer=lambda o: PlainEnhancer(o.scale))
    assert "settings:" not in capsys.readouterr().out


def test_the_table_takes_any_text_and_no_fix_is_broken(capsys):
    from rich.console import Console

    finding = Finding("a", "warn", "[b] x", "pip install 'y[z]' " + 20 * "and more ")
    Console(width=100).print(findings_table([finding]))
    assert "[b] x" in capsys.readouterr().out
    assert fixes([finding, Finding("b", "pass", "fine")]) == [f"a: {finding.fix}"]
    assert findings_json([], None)["failed"] is False


def test_a_folder_named_by_a_path_is_shown_whole(tmp_path: Path):
    assert str(tmp_path) in checks.check_disk(tmp_path, 2 << 30).found


@pytest.mark.parametrize("missing", ["cv2", "av", "mediapipe"])
def test_what_it_is_to_report_does_not_keep_it_from_starting(missing, repository):
    program = f"""
import sys
sys.modules[{missing!r}] = None
from realtime import devices_report, doctor_checks, setup_commands
from realtime.doctor import examine
checks = [doctor_checks.check_opencv, doctor_checks.check_av, doctor_checks.check_mediapipe]
print(*(f.status for f in examine([(check.__name__, check) for check in checks])))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, check=True
    )
    assert "fail" in done.stdout.split()
