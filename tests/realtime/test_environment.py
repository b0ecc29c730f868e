"""Whether a broken ``cv2`` is found out."""

from __future__ import annotations

from types import ModuleType

import pytest

from cagface_core import ConfigError
from realtime import environment
from realtime.environment import check_cv2, cv2_problem, installed_opencv


def test_this_environment_is_whole():
    check_cv2()
    assert installed_opencv()


def test_a_gutted_cv2_names_the_repair(monkeypatch):
    monkeypatch.setattr(environment, "import_module", lambda _name: ModuleType("cv2"))
    monkeypatch.setattr(
        environment,
        "version",
        {"opencv-contrib-python": "5.0", "opencv-python": "5.0"}.__getitem__,
    )
    monkeypatch.setattr(environment, "PackageNotFoundError", KeyError)
    with pytest.raises(ConfigError, match="not whole") as caught:
        check_cv2()
    line = str(caught.value)
    assert "pip uninstall -y opencv-contrib-python opencv-python; " in line
    assert line.endswith("pip install --no-deps opencv-contrib-python==5.0")


def test_two_versions_are_a_problem_and_one_is_none():
    import cv2

    two = {"opencv-contrib-python": "5.0.0.93", "opencv-python": "4.13.0.90"}
    assert "two OpenCV versions" in (cv2_problem(cv2, two) or "")
    assert cv2_problem(cv2, dict.fromkeys(two, "5.0.0.93")) is None


def test_a_missing_system_library_names_its_package(monkeypatch):
    def fail(_name):
        raise ImportError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr(environment, "import_module", fail)
    with pytest.raises(ConfigError, match="apt-get install libgl1"):
        check_cv2()
