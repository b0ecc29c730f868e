"""The pieces of a film go out to the workers of a Ray cluster; finished ones come back, any order.

Where they begin is found here, by reading the film once ahead of the workers. A worker's death
costs the piece it was at, which another makes.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cagface_core import CagfaceError, EnhancerConfig, OutputError
from realtime.ahead import Film, Piece, Stretch, stretches
from realtime.cluster_worker import Hello, PieceWorker, Recruit, versions
from realtime.cued_film import mark_of
from realtime.interrupts import signals_wait
from realtime.journal import Journal
from realtime.mailbox import Cancelled, Finished, FrameQueue
from realtime.options import MakeEnhancer, one_line
from realtime.piece_maker import FilmWork, MadePiece
from realtime.ray_link import ClusterOptions, Crowd, check_cluster, linked
from realtime.run import Watcher
from realtime.stats import Stats

_log = logging.getLogger(__name__)

_TRIES = 3
"""So often a piece is tried, and so many workers in a row may die before one has made any."""

_POLL_S = 0.5
_BLOCK_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class _Task:
    stretch: Stretch
    tries: int = 1


@dataclass(slots=True)
class _Worker:
    """``task`` is what it is at; None while it starts, copies the film or waits."""

    actor: Any
    place: str = ""
    ready: bool = False
    task: _Task | None = None


class ClusterCrew:
    """Workers on a Ray cluster, which is joined when the first film is to be made.

    Args:
        options: which cluster, and how many workers.
        make_enhancer: loads the network, in each worker.
        config: how faces are enhanced; all workers compute by the path that the first one finds.

    Raises:
        ConfigError: Ray is not installed.
        DeviceError: nobody answers at the address.
    """

    def __init__(
        self, options: ClusterOptions, make_enhancer: MakeEnhancer, config: EnhancerConfig
    ) -> None:
        check_cluster(options)
        self._options, self._make_enhancer, self._config = options, make_enhancer, config
        self._stack = ExitStack()
        self._link: tuple[Any, Crowd] | None = None

    def make(
        self, work: FilmWork, film: Film, journal: Journal, stats: Stats,
        on_started: Callable[[str], None], watcher: Watcher,
    ) -> str:  # fmt: skip
        """Put all pieces that are missing into the journal; see `realtime.run_video.Crew`.

        Raises:
            ConfigError: no machine of the cluster has what a worker is to get.
            DeviceError: there is no cluster.
            CagfaceError: a piece failed wherever it was tried.
            OutputError: the journal cannot be written.
        """
        if self._link is None:
            watcher.on_progress("joining the cluster")
            self._link = self._stack.enter_context(linked(self._options))
        ray, crowd = self._link
        recruit = Recruit(
            self._make_enhancer, self._config, work, work.source.stat().st_size, versions(),
            _files_of(self._config), crowd.cpus,
        )  # fmt: skip
        with (
            signals_wait() as let_signals_in,
            _found(film, journal, 2 * crowd.workers) as tasks,
        ):
            shift = _Shift(
                ray, crowd, recruit, journal, stats, on_started, watcher, tasks, let_signals_in
            )
            try:
                return shift.work()
            finally:
                shift.end()

    def close(self) -> None:
        """Leave the cluster; a local one ends."""
        self._stack.close()


@dataclass(slots=True)
class _Shift:
    """The work on one film, from the first worker's start to the last one's end."""

    ray: Any
    crowd: Crowd
    recruit: Recruit
    journal: Journal
    stats: Stats
    on_started: Callable[[str], None]
    watcher: Watcher
    tasks: FrameQueue[_Task]
    let_signals_in: Callable[[], None]
    running: dict[Any, _Worker] = field(default_factory=dict[Any, _Worker])
    """Each busy worker, by what is waited for."""
    idle: list[_Worker] = field(default_factory=list[_Worker])
    again: deque[_Task] = field(default_factory=deque[_Task])
    path: str = ""
    description: str = ""
    stillborn: int = 0
    made: int = 0
    done: bool = False
    film: list[Any] = field(default_factory=list[Any])
    """The film in Ray's store, once a worker needed it."""
    told: set[str] = field(default_factory=set[str])

    def work(self) -> str:
        """Until all pieces are there; give who enhanced them."""
        self.watcher.on_progress("waiting for a worker")
        self._hire(1)
        while True:
            self._send_out()
            if self.done and not self.again and not any(w.task for w in self.running.values()):
                return self.description
            self.let_signals_in()
            ready, _ = self.ray.wait(list(self.running), timeout=_POLL_S)
            for reference in ready:
                self._returned(reference, self.running.pop(reference))

    def end(self) -> None:
        """Let all workers go."""
        ray = self.ray
        idle = [worker.actor.close.remote() for worker in self.idle]
        if idle:
            ray.wait(idle, num_returns=len(idle), timeout=5)
        for worker in (*self.idle, *self.running.values()):
            ray.kill(worker.actor)

    def _hire(self, count: int) -> None:
        ray, crowd = self.ray, self.crowd
        worker_class = ray.remote(num_cpus=crowd.cpus, num_gpus=crowd.gpus)(PieceWorker)
        recruit = ray.put(self.recruit)
        asked = self.recruit.config.device
        device = asked if ":" in asked else self.path or asked  # cuda:1 is a path's second GPU
        if device == "auto" and not crowd.gpus:
            device = "cpu"  # GPUs of that machine are not its own
        for _ in range(count):
            worker = _Worker(worker_class.remote())
            self.running[worker.actor.hello.remote(recruit, device)] = worker

    def _send_out(self) -> None:
        """Give each idle worker a piece, as long as there are any."""
        while self.idle and (task := self._next()) is not None:
            worker = self.idle.pop()
            worker.task = task
            self.running[worker.actor.make.remote(task.stretch)] = worker

    def _next(self) -> _Task | None:
        if self.again:
            return self.again.popleft()
        if not self.done:
            try:
                return self.tasks.get(self.let_signals_in)
            except Finished:
                self.done = True
        return None

    def _returned(self, reference: Any, worker: _Worker) -> None:
        """Take what a worker has done, or how it failed."""
        ray = self.ray
        try:
            value = ray.get(reference)
        except ray.exceptions.RayActorError:
            self._call_the_roll()
            self._failed(worker, CagfaceError("its process ended in mid-work"))
        except ray.exceptions.RayTaskError as error:
            ray.kill(worker.actor)
            cause = error.cause
            said = cause if isinstance(cause, CagfaceError) else CagfaceError(str(cause))
            if not self.path:
                raise said from error  # the first worker tells what would fail on all
            self._failed(worker, said)
        else:
            if isinstance(value, Hello):
                self._welcome(worker, value)
            elif worker.task is not None:
                self._keep(worker.task, *value)
            if worker.ready:
                worker.task = None
                self.idle.append(worker)
            self._tell()

    def _welcome(self, worker: _Worker, hello: Hello) -> None:
        worker.place = hello.place
        if not self.path:
            self.path, self.description = hello.path, hello.description
            self.stats.start()
            self.on_started(f"{hello.description}, on {self.crowd.workers} workers")
            self._hire(self.crowd.workers - 1)
        if hello.needs_film:
            self._send_film(worker)
        worker.ready = True

    def _send_film(self, worker: _Worker) -> None:
        """Let a worker have a copy of the film, which goes into Ray's store once."""
        ray = self.ray
        if not self.film:
            with self.recruit.work.source.open("rb") as file:
                while block := file.read(_BLOCK_BYTES):
                    self.film.append(ray.put(block))
        for block in self.film:
            worker.actor.take_film.remote(block)

    def _keep(self, task: _Task, made: MadePiece, warnings: list[str]) -> None:
        """Put a finished piece into the journal. Raises `OutputError` when the disk is full."""
        for line in warnings:
            if line not in self.told:
                self.told.add(line)
                _log.warning("%s", line)
        try:
            self.journal.unfinished().write_bytes(made.data)
            self.journal.done(made.done, made.note)
        except OSError as error:
            raise OutputError(
                f"{self.journal.folder.parent}: a piece cannot be kept ({error.strerror}); what "
                "was made is kept, run the same command again"
            ) from error
        self.stats.join(made.stats)
        self.made += 1
        self.stillborn = 0
        self.watcher.on_delivered(self.stats)

    def _failed(self, worker: _Worker, error: CagfaceError) -> None:
        """Put its piece up again, and another worker in its place, but not for ever."""
        task = worker.task
        if task is None:
            self.stillborn += not worker.ready
            if self.stillborn >= _TRIES:
                raise error
        elif task.tries >= _TRIES:
            stretch = task.stretch
            raise CagfaceError(
                f"the piece of frames {stretch.piece.start} to {stretch.end - 1} failed "
                f"{_TRIES} times ({one_line(error)}); what was made is kept, run the same command "
                "again, or without --cluster"
            ) from error
        else:
            self.again.append(_Task(task.stretch, task.tries + 1))
        _log.warning("a worker is replaced (%s): %s", worker.place or "new", one_line(error))
        self._hire(1)

    def _call_the_roll(self) -> None:
        """Where one died, its whole machine may be gone: no piece is to be tried on the dead."""
        for worker in self.idle:
            self.running[worker.actor.here.remote()] = worker
        self.idle = []

    def _tell(self) -> None:
        there = len(self.idle) + sum(worker.ready for worker in self.running.values())
        self.watcher.on_progress(f"{there} of {self.crowd.workers} workers, {self.made} pieces")


@contextmanager
def _found(film: Film, journal: Journal, ahead: int) -> Generator[FrameQueue[_Task]]:
    """The pieces that are missing, found in a thread of its own, at most ``ahead`` before use."""
    queue: FrameQueue[_Task] = FrameQueue(ahead)

    def find() -> None:
        error: BaseException | None = None
        try:
            for stretch in _missing(film, journal, lambda: queue.wait_cancelled(0)):
                queue.put(_Task(stretch))
        except Cancelled:
            pass
        except BaseException as caught:  # noqa: BLE001  handed to the consumer, who raises it
            error = caught
        finally:
            queue.finish(error)

    thread = threading.Thread(target=find, name="find pieces", daemon=True)
    with ExitStack() as stack:
        thread.start()
        stack.callback(thread.join)
        stack.callback(queue.cancel)
        yield queue


def _missing(film: Film, journal: Journal, stop: Callable[[], bool]) -> Iterator[Stretch]:
    begin = journal.next or Piece()
    kept = {piece.start for piece in journal.pieces}
    for stretch in stretches(film, begin, mark_of, stop=stop):
        if stretch.piece.start not in kept and not journal.has(stretch.piece.start):
            yield stretch


def _files_of(config: EnhancerConfig) -> dict[str, bytes]:
    """The user's own weights, which other machines may not have."""
    names = [config.weights] if Path(config.weights).is_file() else []
    names += [str(config.parser)] if config.parser is not None else []
    return {name: Path(name).read_bytes() for name in names}
