"""The sender: one table from answer to action, waits, clocks, live before backlog, and the command."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from email.utils import formatdate
from pathlib import Path

import pytest
from click.testing import CliRunner

from uplink.backoff import MAX_RETRY_AFTER, Backoff, http_date, retry_after
from uplink.cli import send
from uplink.identity import Identity, load_sensor_key, save_sensor_key
from uplink.keyfiles import encode_key
from uplink.keys import SensorKey
from uplink.messages import CountRecord
from uplink.sender import ASIDE_SECONDS, Result, Sender
from uplink.signing import ANSWER_HEADER, parse_authorization, sign_answer
from uplink.spool import SPOOL_FOLDER, Spool
from uplink.testing import LoopbackTransport, ReferenceService, serving
from uplink.transport import Reply, RequestsTransport, TransportError

SENSOR = "hall-3"
Make = Callable[..., CountRecord]
Opener = Callable[..., Spool]


class Scripted:
    """Answers with what the test says, signed or not; after that, as the service does."""

    def __init__(self, service: ReferenceService, *script: object) -> None:
        self._service = service
        self._inner = LoopbackTransport(service)
        self.script = list(script)
        self.bodies: list[int] = []

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        self.bodies.append(len(body))
        if not self.script:
            return self._inner.post(url, body, headers)
        answer = self.script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            return answer(body, headers)
        return answer

    def signed(self, status: int, content: bytes = b"", **more: str) -> Callable[[bytes, Mapping[str, str]], Reply]:
        """An answer of the service itself."""

        def answer(body: bytes, headers: Mapping[str, str]) -> Reply:
            claim = parse_authorization(headers["Authorization"])
            key = self._service.keys.sensor_key(claim.sensor_id, claim.generation)
            proof = sign_answer(key, claim, status=status, body=content, now=self._service._clock())
            return Reply(status, {**more, ANSWER_HEADER.lower(): proof}, content)

        return answer


@pytest.fixture
def spool(open_spool: Opener) -> Spool:
    spool = open_spool()
    yield spool
    spool.close()


@pytest.fixture
def link(service: ReferenceService) -> Scripted:
    return Scripted(service)


@pytest.fixture
def sender(spool: Spool, service: ReferenceService, link: Scripted, clock) -> Sender:
    key = service.keys.sensor_key(SENSOR)
    return Sender(spool, "http://x", key, link, clock=clock, backoff=Backoff(rng=random.Random(3)))


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (200, Result.LATER),
        (201, Result.CONFIGURATION),
        (301, Result.CONFIGURATION),
        (307, Result.CONFIGURATION),
        (400, Result.AGAIN),
        (401, Result.CONFIGURATION),
        (403, Result.CONFIGURATION),
        (404, Result.CONFIGURATION),
        (405, Result.CONFIGURATION),
        (408, Result.LATER),
        (409, Result.CONFIGURATION),
        (413, Result.AGAIN),
        (415, Result.CONFIGURATION),
        (422, Result.AGAIN),
        (429, Result.LATER),
        (500, Result.LATER),
        (502, Result.LATER),
        (503, Result.LATER),
        (599, Result.LATER),
    ],
)
def test_no_unsigned_answer_makes_the_spool_forget(
    status: int, result: Result, sender: Sender, spool: Spool, link: Scripted, record: Make, service: ReferenceService
) -> None:
    spool.append([record(0), record(1)])
    forged = b'{"new":2,"duplicate":0,"conflicting":0,"rejected":[]}'
    link.script = [Reply(status, {}, forged)]
    assert sender.step().result is result
    assert len(spool) == 2
    for _ in range(5):
        sender.step()
    assert len(spool) == 0
    assert len(service.stored) == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b"{}",
        b'{"new":1,"duplicate":0,"conflicting":0}',
        b'{"new":3,"duplicate":0,"conflicting":0}',
        b'{"new":-1,"duplicate":3,"conflicting":0}',
        b'{"new":1,"duplicate":0,"conflicting":0,"rejected":[{"index":4000,"reason":"x"}]}',
    ],
)
def test_a_signed_answer_that_does_not_add_up_is_no_answer(
    content: bytes, sender: Sender, spool: Spool, link: Scripted, record: Make
) -> None:
    spool.append([record(0), record(1)])
    link.script = [link.signed(200, content)]
    assert sender.step().result is Result.LATER
    assert len(spool) == 2


def test_the_link_that_is_down_is_waited_for(sender: Sender, spool: Spool, link: Scripted, record: Make, clock) -> None:
    spool.append([record(0)])
    link.script = [TransportError("no answer")] * 12
    waits = []
    while (step := sender.step()).result is Result.LATER:
        waits.append(step.wait)
    assert step.result is Result.SENT
    assert all(0 <= wait <= min(300, 2**n) for n, wait in enumerate(waits))
    assert max(waits) > 60
    assert len(set(waits)) == 12  # jitter
    assert sender.step().result is Result.IDLE


def test_full_jitter_spreads_evenly_and_never_overflows() -> None:
    backoff = Backoff(base=1, cap=60, rng=random.Random(1))
    waits = [backoff.after_failure() for _ in range(3_000)]
    assert max(waits) <= 60
    assert 28 < sum(waits[10:]) / len(waits[10:]) < 32


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("-5", 0.0),
        ("999999999999", MAX_RETRY_AFTER),
        (formatdate(1_790_000_090, usegmt=True), 90.0),
        (formatdate(1_780_000_000, usegmt=True), 0.0),
        ("soon", 0.0),
        ("1e9", 0.0),
        ("²", 0.0),
        ("Sun, 99 Nov 99999 99:99:99 GMT", 0.0),
        ("", 0.0),
        (None, 0.0),
    ],
)
def test_retry_after_in_seconds_and_as_a_date(value: str | None, seconds: float) -> None:
    assert retry_after(value, 1_790_000_000) == seconds


def test_what_the_service_asks_for_is_kept(sender: Sender, spool: Spool, link: Scripted, record: Make) -> None:
    spool.append([record(0)])
    date = formatdate(1_000_000_000, usegmt=True)  # the service's date: the sensor's own clock is years away
    until = formatdate(1_000_000_200, usegmt=True)
    link.script = [Reply(429, {"retry-after": "30"}), Reply(503, {"retry-after": until, "date": date})]
    assert 30 <= sender.step().wait <= 31
    assert 200 <= sender.step().wait <= 202
    assert http_date(date) == 1_000_000_000


@pytest.mark.parametrize("jump", [-3e8, -86_400.0, -400.0, 400.0, 86_400.0, 3e8])
def test_a_wrong_clock_is_found_reported_and_borne(
    jump: float, service: ReferenceService, spool: Spool, record: Make, clock, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = type(clock)(clock.wall + jump)
    sender = Sender(spool, "http://x", service.keys.sensor_key(SENSOR), LoopbackTransport(service), clock=wrong)
    spool.append([record(0)])
    assert sender.step().result is Result.AGAIN  # 401, signed: now the sensor knows the time
    assert sender.step().result is Result.SENT
    assert sender.status.clock_skew == pytest.approx(-jump, abs=1)
    assert "clock" in caplog.text
    wrong.wall -= jump  # somebody sets it right
    spool.append([record(1)])
    assert sender.drain().result is Result.IDLE
    assert sender.status.clock_skew == pytest.approx(0, abs=1)


def test_nobody_but_the_service_can_set_the_sensors_offset(
    sender: Sender, spool: Spool, link: Scripted, record: Make
) -> None:
    spool.append([record(0)])
    link.script = [Reply(401, {"date": formatdate(5_000_000_000, usegmt=True)})]
    assert sender.step().result is Result.CONFIGURATION
    assert sender._offset == 0
    assert sender.status.clock_skew > 1e9  # shown to people
    assert sender.step().result is Result.SENT


def test_live_counts_are_not_behind_a_weeks_backlog(
    open_spool: Opener, service: ReferenceService, record: Make, clock
) -> None:
    with open_spool() as spool:
        spool.append([record(minute) for minute in range(10_080)])
    with open_spool(max_records=20_000) as spool:
        sender = Sender(spool, "http://x", service.keys.sensor_key(SENSOR), LoopbackTransport(service), clock=clock)
        minute, steps = 20_000, 0
        while len(spool):
            spool.append([record(minute)])  # a live count between any two batches
            sender.step()
            sender.step()
            steps += 1
            assert (SENSOR, record(minute).start) in service.stored, "live starves"
            minute += 1
        assert steps <= 12, "the backlog starves"


def test_a_batch_that_is_too_large_is_halved_until_it_fits(
    sender: Sender, spool: Spool, link: Scripted, record: Make, service: ReferenceService
) -> None:
    spool.append([record(minute) for minute in range(1_000)])
    inner = link._inner

    class Narrow:
        def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
            return Reply(413) if len(body) > 1_500 else inner.post(url, body, headers)

    sender._transport = Narrow()
    assert sender.drain(attempts=1).result is Result.IDLE
    assert len(service.stored) == 1_000
    assert sender.status.failures < 40


def test_a_poison_record_is_rejected_by_its_place_and_never_sent_again(
    sender: Sender, spool: Spool, link: Scripted, record: Make, service: ReferenceService
) -> None:
    poison = {record(3).start, record(7).start}
    service.rejects = lambda each: "sour" if each.start in poison else None
    spool.append([record(minute) for minute in range(10)])
    assert sender.step().result is Result.SENT
    assert sender.step().result is Result.IDLE
    assert len(service.stored) == 8
    counters = spool.status().counters
    assert (counters.delivered, counters.rejected, counters.lost) == (8, 2, 2)


def test_a_record_that_breaks_the_whole_batch_is_put_aside_and_tried_again_later(
    sender: Sender, spool: Spool, link: Scripted, record: Make, service: ReferenceService, clock
) -> None:
    inner, broken = link._inner, [True]

    class Choking:
        def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
            before = dict(service.stored)
            reply = inner.post(url, body, headers)
            if broken[0] and (SENSOR, record(5).start) in service.stored and (SENSOR, record(5).start) not in before:
                service.stored = before
                return Reply(400)
            return reply

    sender._transport = Choking()
    spool.append([record(minute) for minute in range(300)])
    assert sender.drain(attempts=1).result is Result.IDLE
    assert (len(service.stored), len(spool), sender.status.put_aside) == (299, 1, 1)
    broken[0] = False
    assert sender.step().result is Result.IDLE
    clock.steady += ASIDE_SECONDS + 1
    assert sender.step().result is Result.SENT
    assert len(spool) == 0


def test_records_sealed_to_a_lost_key_wait_and_do_not_block_the_others(
    open_spool: Opener, service: ReferenceService, record: Make, clock
) -> None:
    with open_spool() as spool:
        spool.append([record(minute) for minute in range(5)])
    lost, service.seal_keys = service.seal_keys, type(service.seal_keys).create()
    with open_spool() as spool:
        spool.append([record(9)])
        sender = Sender(spool, "http://x", service.keys.sensor_key(SENSOR), LoopbackTransport(service), clock=clock)
        assert sender.drain().result is Result.IDLE
        assert (len(spool), len(service.stored)) == (5, 1)
        service.seal_keys = lost  # somebody puts the key back
        clock.steady += ASIDE_SECONDS + 1
        assert sender.drain().result is Result.IDLE
        assert (len(spool), len(service.stored)) == (0, 6)


def test_forged_frames_are_rejected_and_never_stored(
    open_spool: Opener, service: ReferenceService, record: Make, clock, fast_folder: Path
) -> None:
    """A spool that somebody has changed so that the checksums fit."""
    import zlib

    with open_spool() as spool:
        spool.append([record(minute) for minute in range(4)])
    (segment,) = (fast_folder / "spool").glob("*.segment")
    data = bytearray(segment.read_bytes())
    data[512 + 64 + 20] ^= 1
    data[512 + 124 : 512 + 128] = zlib.crc32(data[512 + 64 : 512 + 124]).to_bytes(4, "little")
    segment.write_bytes(data)
    with open_spool() as spool:
        sender = Sender(spool, "http://x", service.keys.sensor_key(SENSOR), LoopbackTransport(service), clock=clock)
        assert sender.drain().result is Result.IDLE
        assert (len(service.stored), spool.status().counters.rejected) == (3, 1)


def test_a_newer_key_is_kept_on_the_disk_before_it_is_used(
    spool: Spool, service: ReferenceService, record: Make, clock, tmp_path: Path
) -> None:
    first = service.keys.sensor_key(SENSOR)
    save_sensor_key(tmp_path, first)
    service.keys = service.keys.rotated()
    sender = Sender(
        spool,
        "http://x",
        first,
        LoopbackTransport(service),
        clock=clock,
        on_new_key=lambda key: save_sensor_key(tmp_path, key),
    )
    spool.append([record(0)])
    assert sender.step().result is Result.SENT
    assert load_sensor_key(tmp_path, SENSOR) == service.keys.sensor_key(SENSOR, 2)
    service.keys = service.keys.without(1)  # the overlap ends
    spool.append([record(1)])
    assert sender.step().result is Result.SENT


def test_a_revoked_key_is_a_matter_for_people(spool: Spool, service: ReferenceService, record: Make, clock) -> None:
    key = service.keys.sensor_key(SENSOR)
    service.keys = service.keys.rotated().without(1)
    sender = Sender(spool, "http://x", key, LoopbackTransport(service), clock=clock)
    spool.append([record(0)])
    step = sender.step()
    assert step.result is Result.CONFIGURATION
    assert step.wait >= 60
    assert len(spool) == 1


# -- real HTTP --------------------------------------------------------------------------------------------------


def test_over_real_http_and_through_a_redirect_that_is_not_followed(
    spool: Spool, service: ReferenceService, record: Make, clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with serving(service) as url:
        sender = Sender(spool, url, service.keys.sensor_key(SENSOR), RequestsTransport(), clock=clock)
        spool.append([record(minute) for minute in range(1_500)])
        assert sender.drain().result is Result.IDLE
        assert len(service.stored) == 1_500
        monkeypatch.setattr(service, "handle", lambda *_: Reply(302, {"Location": "http://127.0.0.1:1/"}))
        spool.append([record(2_000)])
        assert sender.step().result is Result.CONFIGURATION
        monkeypatch.setattr(service, "handle", lambda *_: Reply(200, {}, b"x" * 2_000_000))
        assert "longer than" in sender.step().reason
    assert "refused or broke" in sender.step().reason


# -- headroom sensor send ---------------------------------------------------------------------------------------


@pytest.fixture
def enrolled(fast_folder: Path, service: ReferenceService) -> Callable[[str], Path]:
    def enrol(url: str) -> Path:
        Identity(sensor_id=SENSOR, service_url=url, service_seal_key=encode_key(service.seal_keys.public_key)).save(
            fast_folder
        )
        save_sensor_key(fast_folder, service.keys.sensor_key(SENSOR))
        return fast_folder

    return enrol


def test_the_command_drains_once(
    enrolled: Callable[[str], Path], open_spool: Opener, service: ReferenceService, record: Make, clock
) -> None:
    import time

    service._clock = time.time
    with serving(service) as url:
        state = enrolled(url)
        with open_spool() as spool:
            spool.append([record(minute) for minute in range(30)])
        result = CliRunner().invoke(send, ["--state", str(state), "--json"])
        assert result.exit_code == 0, result.output
        document = json.loads(result.output)
        assert (document["sent"], document["waiting"], document["result"]) == (30, 0, "idle")
        result = CliRunner().invoke(send, [], env={"HEADROOM_STATE": str(state)})
        assert "0 records sent" in result.output


def test_the_command_delivers_for_every_camera_of_a_board(
    enrolled: Callable[[str], Path], open_spool: Opener, service: ReferenceService, record: Make, clock
) -> None:
    import time

    service._clock = time.time
    with serving(service) as url:
        state = enrolled(url)
        folder, name = state / "rear", "rear"
        seal = encode_key(service.seal_keys.public_key)
        rear = Identity(sensor_id=name, service_url=url, service_seal_key=seal, board=SENSOR)
        rear.save(folder)
        save_sensor_key(folder, SensorKey(name, 1, b"\x01" * 32))  # it will be refused; the others must not suffer
        with open_spool() as spool:
            spool.append([record(minute) for minute in range(3)])
        with Spool(folder / SPOOL_FOLDER, name, rear.seal_public_key) as spool:
            spool.append([record(minute).model_copy(update={"sensor_id": name}) for minute in range(2)])
        result = CliRunner().invoke(send, ["--state", str(state), "--json", "--attempts", "1"])
        assert result.exit_code == 1, result.output
        document = json.loads(result.output)
        assert (document["sent"], document["waiting"], document["result"]) == (3, 2, "configuration")
        assert {name: one["waiting"] for name, one in document["sensors"].items()} == {SENSOR: 0, "rear": 2}
        key = service.keys.sensor_key(name)
        assert key is not None
        save_sensor_key(folder, key)
        result = CliRunner().invoke(send, ["--state", str(state)])
        assert result.exit_code == 0, result.output
        assert f"{SENSOR}: 0 records sent" in result.output
        assert "rear: 2 records sent" in result.output
    assert {sensor for sensor, _ in service.stored} == {SENSOR, "rear"}


def test_the_command_ends_with_1_when_something_remains(
    enrolled: Callable[[str], Path], open_spool: Opener, record: Make
) -> None:
    state = enrolled("http://127.0.0.1:1")
    with open_spool() as spool:
        spool.append([record(0)])
        busy = CliRunner().invoke(send, ["--state", str(state)])
        assert busy.exit_code == 1
        assert "another process" in busy.output
    result = CliRunner().invoke(send, ["--state", str(state), "--json", "--attempts", "1"])
    assert result.exit_code == 1
    assert json.loads(result.output)["waiting"] == 1
    assert "refused" in json.loads(result.output)["reason"]


def test_the_command_of_a_sensor_that_is_not_enrolled_ends_with_2(tmp_path: Path) -> None:
    result = CliRunner().invoke(send, ["--state", str(tmp_path)])
    assert result.exit_code == 2
    assert "headroom sensor enrol" in result.output
