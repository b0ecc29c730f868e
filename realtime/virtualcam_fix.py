"""Why there is no virtual camera: facts of this system go in, the exact fix comes out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_LOAD = 'sudo modprobe v4l2loopback devices=1 exclusive_caps=1 card_label="CAGFace Live"'
_INSTALL = (
    "install it (Debian, Ubuntu: sudo apt install v4l2loopback-dkms; Fedora with RPM Fusion: sudo "
    "dnf install v4l2loopback; Arch: sudo pacman -S v4l2loopback-dkms)"
)
_OBS_CLASS = r"CLSID\{A3FCE0F5-3493-419F-958A-ABA1250EC20B}"
"""Where OBS registers its virtual camera with DirectShow."""
_MODULE = Path("/sys/module/v4l2loopback")
_EFI_SECURE_BOOT = Path("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c")


@dataclass(frozen=True, slots=True)
class Device:
    """A v4l2loopback device file, and whether this user may write to it."""

    path: str
    writable: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides the fix. Those of other systems keep their defaults; None is not known.

    Attributes:
        system: as `sys.platform` has it.
        wanted: the device that the user named.
        loaded: v4l2loopback is in the kernel.
        installed: modprobe knows it.
        devices: its devices.
        secure_boot: the firmware takes signed code only, so the kernel signed modules only.
        obs_installed: OBS Studio is there.
        obs_registered: its virtual camera is known to the system.
    """

    system: str
    wanted: str | None = None
    loaded: bool = False
    installed: bool | None = None
    devices: tuple[Device, ...] = ()
    secure_boot: bool | None = None
    obs_installed: bool | None = None
    obs_registered: bool | None = None


def fix_for(facts: Facts) -> str:
    """What the user has to do to have a virtual camera, in one line."""
    if facts.system.startswith("linux"):
        return _linux_fix(facts)
    if facts.system == "win32":
        return _windows_fix(facts)
    if facts.system == "darwin":
        return _mac_fix(facts)
    return f"{facts.system} has no known virtual camera"


def collect_facts(wanted: str | None = None) -> Facts:
    """Look at this system; ``wanted`` is the device that the user named. Never raises."""
    if sys.platform.startswith("linux"):
        return Facts(
            sys.platform,
            wanted,
            loaded=_MODULE.exists(),
            installed=_modprobe_knows(),
            devices=_loopback_devices(),
            secure_boot=_secure_boot(),
        )
    if sys.platform == "win32":
        return Facts(
            sys.platform, wanted, obs_installed=_obs_in_windows(), obs_registered=_obs_registered()
        )
    return Facts(
        sys.platform, wanted, obs_installed=Path("/Applications/OBS.app").exists()
    )  # fmt: skip


def hidden_from_browsers() -> bool:
    """Whether v4l2loopback was loaded without exclusive_caps: browsers list none of its cameras."""
    try:
        return "Y" not in (_MODULE / "parameters" / "exclusive_caps").read_text(encoding="ascii")
    except OSError:
        return False


def _linux_fix(facts: Facts) -> str:
    if not facts.loaded:
        signed = (
            "; Secure Boot is on: if that says 'Key was rejected by service', enrol the key that "
            "signed the module (sudo mokutil --import /var/lib/dkms/mok.pub, then restart)"
            if facts.secure_boot
            else ""
        )
        if facts.installed is False:
            return (
                f"its driver v4l2loopback is not installed: {_INSTALL}, then run: {_LOAD}{signed}"
            )
        if facts.installed is None:
            return (
                f"its driver v4l2loopback is not loaded: run: {_LOAD}; or first {_INSTALL}{signed}"
            )
        return f"its driver v4l2loopback is installed but not loaded: run: {_LOAD}{signed}"
    anew = f"sudo modprobe -r v4l2loopback && {_LOAD}"
    if not facts.devices:
        return f"its driver v4l2loopback is loaded without a device: run: {anew}"
    listed = ", ".join(device.path for device in facts.devices)
    chosen = [device for device in facts.devices if facts.wanted in (None, device.path)]
    if not chosen:
        return f"{facts.wanted} is not one; there is {listed}: name that, or none for the first"
    if not any(device.writable for device in chosen):
        locked = " and ".join(device.path for device in chosen)
        return (
            f"no permission to write to {locked}: run: sudo usermod -aG video $USER, then log out "
            "and in again"
        )
    return (
        f"{listed} is held by another program: close what feeds or shows it, or load the driver "
        f"anew: {anew}"
    )


def _windows_fix(facts: Facts) -> str:
    if facts.obs_registered:
        return "OBS's virtual camera is in use: stop it in OBS (Controls, Stop Virtual Camera)"
    if facts.obs_installed:
        return (
            "OBS is installed but its virtual camera is not registered: close OBS and run as "
            r"administrator: C:\Program Files\obs-studio\data\obs-plugins\win-dshow"
            r"\virtualcam-install.bat"
        )
    return (
        "install OBS Studio 26 or newer (winget install OBSProject.OBSStudio), which brings one; "
        "it need not run"
    )


def _mac_fix(facts: Facts) -> str:
    if facts.obs_installed:
        return (
            "start OBS, press Start Virtual Camera once, allow its system extension in System "
            "Settings, stop it and close OBS"
        )
    return (
        "install OBS Studio 30 or newer (brew install --cask obs), press Start Virtual Camera "
        "once, allow its system extension in System Settings, stop it and close OBS"
    )


def _modprobe_knows() -> bool | None:
    # Not on the PATH of ordinary users everywhere, but theirs to ask.
    program = shutil.which("modprobe", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        return None
    try:
        asked = subprocess.run(
            [program, "-n", "-q", "v4l2loopback"],
            capture_output=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return asked.returncode == 0


def _loopback_devices() -> tuple[Device, ...]:
    # Only v4l2loopback's devices have this attribute.
    found = Path("/sys/class/video4linux").glob("video*/max_openers")
    paths = sorted((f"/dev/{attribute.parent.name}" for attribute in found), key=_number)
    return tuple(Device(path, os.access(path, os.W_OK)) for path in paths)


def _number(device: str) -> int:
    digits = device.removeprefix("/dev/video")
    return int(digits) if digits.isdecimal() else 0


def _secure_boot() -> bool | None:
    try:
        return _EFI_SECURE_BOOT.read_bytes()[-1:] == b"\x01"
    except OSError:
        return None


def _obs_in_windows() -> bool:
    folder = Path(os.environ.get("PROGRAMFILES", r"C:\Program Files")) / "obs-studio"
    return folder.exists()


def _obs_registered() -> bool:
    if sys.platform != "win32":
        return False
    import winreg

    try:
        with winreg.OpenKey(winreg.HKEY_CLASSES_ROOT, _OBS_CLASS):
            return True
    except OSError:
        return False
