"""Which picture a browser gets that asks for one."""

from __future__ import annotations

import asyncio
import threading

from cagface_core import Enhanced, Frame
from realtime.monitor import Monitor
from realtime.panel import pictures
from tests.realtime.helpers import picture


def test_who_asks_while_an_older_picture_is_encoded_gets_the_newest(monkeypatch):
    monitor, encoding, go_on = Monitor(), threading.Event(), threading.Event()
    pack = pictures.pack

    def slow(shown, max_width_px):
        encoding.set()
        assert go_on.wait(10)
        return pack(shown, max_width_px)

    monkeypatch.setattr(pictures, "pack", slow)

    def show() -> None:
        rgb = picture(0, 32, 16)
        monitor.show(Frame(rgb), Enhanced(rgb), Frame(rgb))

    async def ask() -> list[int]:
        made = pictures.Pictures(monitor, max_hz=1000)
        show()
        first = asyncio.ensure_future(made.newer(0))
        await asyncio.to_thread(encoding.wait, 10)
        show()
        second = asyncio.ensure_future(made.newer(0))
        await asyncio.sleep(0)
        go_on.set()
        numbers = [(await first).number, (await second).number, (await made.newer(1)).number]
        await made.close()
        return numbers

    assert asyncio.run(ask()) == [1, 2, 2]
