"""The demo as it runs: store, service, counter, and the simulated day going on."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from analytics.demo.campus import ORGANISATION, SimulatedTerm, build
from analytics.demo.check import Answer, check_pages
from analytics.demo.sensor import Counted, DemoSensor, Footage, FootageError
from analytics.runtime import Service, open_store
from analytics.service_keys import load_or_create
from analytics.settings import ServiceSettings
from analytics.store.base import Store
from uplink.keyfiles import make_private_folder

logger = logging.getLogger(__name__)

FEED_EVERY_S = 20.0
PLAY_EVERY_S = 300.0


class DemoError(Exception):
    """The demo cannot run; the message says why."""


@dataclass
class Options:
    """What the demo was asked for.

    Attributes:
        folder: the demo's own; ``service`` and ``sensor`` in it are made anew.
        once: open every page and end.
    """

    folder: Path
    rooms: int
    weeks: int
    port: int
    once: bool
    footage: Footage | None


@dataclass
class Told:
    """What the caller wants to hear of, as it happens."""

    step: Callable[[str], None] = lambda _: None
    room: Callable[[], None] = lambda: None
    listening: Callable[[str, str], None] = lambda _url, _link: None
    counted: Callable[[Counted | FootageError], None] = lambda _: None
    checked: Callable[[list[Answer]], None] = lambda _: None


@dataclass
class Demo:
    """One run."""

    options: Options
    told: Told
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    def run(self) -> None:
        """Until Ctrl-C, or with ``once`` until every page has answered.

        Raises:
            DemoError, CheckError, ListenError, StoreError, KeyFileError, OSError: with the reason.
        """
        settings = ServiceSettings(
            data=_fresh_folder(self.options.folder, "service"),
            port=self.options.port or _free_port(),
            organisation=ORGANISATION,
        )
        _fresh_folder(self.options.folder, "sensor")
        keys = load_or_create(settings.data, settings.keys)
        with open_store(settings, keys) as store:
            self.told.step(f"simulating {self.options.weeks} weeks of {self.options.rooms} rooms")
            term = build(store, self.clock(), self.options.rooms, self.options.weeks, self.told.room)
            self.told.step("starting the service")
            asyncio.run(self._serve(Service(settings, keys, store), store, term))

    async def _serve(self, service: Service, store: Store, term: SimulatedTerm) -> None:
        up: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(service.run(lambda urls: up.set_result(urls[0])))
        visiting = asyncio.create_task(self._visit(service, store, term, up))
        try:
            await asyncio.wait({serving, visiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            service.stop()
            visiting.cancel()
            ends = await asyncio.gather(serving, visiting, return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException) and not isinstance(end, asyncio.CancelledError):
                raise end

    async def _visit(self, service: Service, store: Store, term: SimulatedTerm, up: asyncio.Future[str]) -> None:
        url = await up
        link = f"{url}/invitation/{service.services.portal.people.first_link(ORGANISATION).secret}"
        self.told.listening(url, link)
        sensor = await self._first_play(service, store, url)
        if self.options.once:
            self.told.step("opening every page")
            self.told.checked(await asyncio.to_thread(check_pages, link))
            return
        await self._live(store, term, sensor)

    async def _first_play(self, service: Service, store: Store, url: str) -> DemoSensor | None:
        if self.options.footage is None:
            return None
        sensor = DemoSensor(self.options.folder / "sensor", url)
        self.told.step(f"counting {self.options.footage.video.name}")
        try:
            await sensor.enrol(service.services.enrolment, store)
            self.told.counted(await sensor.count(self.options.footage, self.clock()))
        except FootageError as error:
            self.told.counted(error)
            return None
        return sensor

    async def _live(self, store: Store, term: SimulatedTerm, sensor: DemoSensor | None) -> None:
        """The simulated day goes on, and the footage is counted again and again, until the demo is stopped."""
        played = self.clock()
        while True:
            await asyncio.sleep(FEED_EVERY_S)
            now = self.clock()
            due = term.due(now)
            if due:
                await asyncio.to_thread(store.ingest_slots, ORGANISATION, due, now)
            if sensor and self.options.footage and (now - played).total_seconds() >= PLAY_EVERY_S:
                played = now
                try:
                    await sensor.count(self.options.footage, now)
                except FootageError as error:
                    logger.warning("the footage was not counted this time: %s", error)


def _fresh_folder(folder: Path, name: str) -> Path:
    """An empty folder of the demo; one that is somebody else's is left alone. Raises DemoError."""
    made = folder.absolute() / name
    marker = made.with_name(f".{name}-of-a-demo")  # beside it: keys are only made in an empty folder
    if made.exists():
        if not marker.is_file():
            raise DemoError(f"{made} is not from a demo and stays as it is; choose another --folder")
        shutil.rmtree(made)
    make_private_folder(made)
    marker.touch()
    return made


def _free_port() -> int:
    """The sensor is told the address when it enrols, so that it must be known before the service listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
