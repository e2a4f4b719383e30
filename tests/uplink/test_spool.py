"""The spool at rest: bounds, order, what it forgets and when, and what a thief finds."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from uplink.codec import JSON_TYPE, BatchError, decode_batch
from uplink.messages import BatchAnswer, CountRecord, Health
from uplink.sealing import (
    FRAME_BYTES,
    SEALED_TYPE,
    FrameCipher,
    SealError,
    SealKeyRing,
    SegmentSealer,
    encode_sealed_batch,
    open_sealed_batch,
)
from uplink.segment import EXTENT_BYTES, FIRST_FRAME, MAX_FRAMES
from uplink.spool import Spool, SpoolBatch, SpoolBusyError, SpoolError, SpoolSettings, read_status
from uplink.testing import ReferenceService

SENSOR = "hall-3"
Make = Callable[..., CountRecord]
Opener = Callable[..., Spool]


def minutes_of(batch: SpoolBatch | None, service: ReferenceService, record: Make) -> list[int]:
    """Which of the test's records a batch holds, in order."""
    assert batch is not None
    if batch.content_type == SEALED_TYPE:
        decoded = open_sealed_batch(service.seal_keys, batch.body, SENSOR)
    else:
        decoded = decode_batch(batch.body, batch.content_encoding, SENSOR)
    assert not decoded.rejected
    assert len(decoded.records) == len(batch)
    return [int((each.start - record(0).start).total_seconds()) // 60 for each in decoded.records]


def all_new(batch: SpoolBatch) -> BatchAnswer:
    return BatchAnswer(new=len(batch), duplicate=0, conflicting=0)


def test_records_come_back_as_json_in_this_process_and_sealed_in_the_next(
    open_spool: Opener, service: ReferenceService, record: Make
) -> None:
    with open_spool() as spool:
        assert spool.append([record(minute) for minute in range(5)])
        batch = spool.next_batch()
        assert batch.content_type == JSON_TYPE
        assert minutes_of(batch, service, record) == [0, 1, 2, 3, 4]
    with open_spool() as spool:
        batch = spool.next_batch()
        assert batch.content_type == SEALED_TYPE
        assert minutes_of(batch, service, record) == [0, 1, 2, 3, 4]
        spool.append([record(5)])
        assert minutes_of(spool.next_batch(), service, record) == [0, 1, 2, 3, 4]
        assert minutes_of(spool.next_batch(newest=True), service, record) == [5]
        assert minutes_of(spool.next_batch(2), service, record) == [0, 1]
        assert minutes_of(spool.next_batch(2, skip={0, 2}), service, record) == [1, 3]


def test_a_record_of_every_kind_survives_sealing_exactly(record: Make) -> None:
    ring = SealKeyRing.create()
    sealer = SegmentSealer(SENSOR, ring.public_key)
    base = record(0)
    kinds = [
        base,
        base.model_copy(update={"present": None, "present_max": None, "coverage": 0.0}),
        base.model_copy(update={"present": 0, "present_max": 0, "coverage": 1 / 3}),
        base.model_copy(update={"present": 100_000, "present_max": 100_000, "entered": 100_000, "left": 100_000}),
        base.model_copy(update={"health": frozenset(set(Health) - {Health.OK})}),
        base.model_copy(update={"seconds": 3600}),
    ]
    frames = [sealer.seal(kind) for kind in kinds]
    assert [sealer.open(frame) for frame in frames] == kinds
    assert {len(frame) for frame in frames} == {FRAME_BYTES}


def test_only_an_answer_that_adds_up_makes_it_forget(open_spool: Opener, record: Make) -> None:
    with open_spool() as spool:
        spool.append([record(0), record(1)])
        batch = spool.next_batch()
        for answer in (
            BatchAnswer(new=1, duplicate=0, conflicting=0),
            BatchAnswer(new=1, duplicate=1, conflicting=1),
            BatchAnswer(new=0, duplicate=0, conflicting=0),
        ):
            with pytest.raises(ValueError, match="speaks of"):
                spool.acknowledge(batch, answer)
        assert len(spool) == 2
        spool.acknowledge(batch, all_new(batch))
        spool.acknowledge(batch, all_new(batch))  # the same answer again
        assert len(spool) == 0
        assert spool.status().counters.delivered == 2


def test_what_was_acknowledged_is_remembered_over_a_restart(
    open_spool: Opener, service: ReferenceService, record: Make
) -> None:
    with open_spool() as spool:
        spool.append([record(minute) for minute in range(10)])
        batch = spool.next_batch(4)
        spool.acknowledge(batch, all_new(batch))
    with open_spool() as spool:
        assert minutes_of(spool.next_batch(), service, record) == [4, 5, 6, 7, 8, 9]
        assert spool.status().counters.appended == 10


def test_an_empty_spool_leaves_no_segments_behind(open_spool: Opener, record: Make, fast_folder: Path) -> None:
    for _ in range(3):
        with open_spool() as spool:
            spool.append([record(0)])
            batch = spool.next_batch()
            spool.acknowledge(batch, all_new(batch))
    assert not list((fast_folder / "spool").glob("*.segment"))


def test_the_oldest_go_first_and_are_counted(
    open_spool: Opener, service: ReferenceService, record: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with open_spool(max_records=100) as spool, caplog.at_level(logging.ERROR):
        for minute in range(130):
            spool.append([record(minute)])
        assert minutes_of(spool.next_batch(), service, record) == list(range(30, 130))
        assert spool.status().counters.dropped == 30
    assert "lost" in caplog.text
    with open_spool(max_records=50) as spool:  # a smaller bound at the next start
        assert minutes_of(spool.next_batch(), service, record) == list(range(80, 130))
        counters = spool.status().counters
        assert (counters.dropped, counters.lost, counters.appended) == (80, 80, 130)


def test_what_is_on_its_way_is_not_dropped(open_spool: Opener, service: ReferenceService, record: Make) -> None:
    with open_spool(max_records=10) as spool:
        spool.append([record(minute) for minute in range(10)])
        batch = spool.next_batch(4)
        spool.append([record(minute) for minute in range(10, 13)])
        spool.acknowledge(batch, all_new(batch))
        assert spool.status().counters.dropped == 3
        assert spool.status().counters.delivered == 4
        assert minutes_of(spool.next_batch(), service, record) == [7, 8, 9, 10, 11, 12]


def test_the_bound_in_bytes_drops_whole_old_segments(
    open_spool: Opener, service: ReferenceService, record: Make
) -> None:
    for life in range(12):
        with open_spool(max_bytes=40_960) as spool:
            spool.append([record(life * 10 + minute) for minute in range(10)])
            assert spool.status().bytes_on_disk <= 40_960 + EXTENT_BYTES
    with open_spool(max_bytes=40_960) as spool:
        counters = spool.status().counters
        assert counters.dropped > 0
        assert counters.dropped % 10 == 0
        assert len(spool) + counters.dropped == 120
        assert minutes_of(spool.next_batch(), service, record)[-1] == 119


def test_segments_roll_over_when_they_are_full(open_spool: Opener, service: ReferenceService, record: Make) -> None:
    total = 2 * MAX_FRAMES + 10
    with open_spool() as spool:
        assert spool.append([record(minute) for minute in range(total)])
        assert spool.status().segments == 3
        seen: list[int] = []
        while (batch := spool.next_batch()) is not None:
            seen += minutes_of(batch, service, record)
            spool.acknowledge(batch, all_new(batch))
        assert seen == list(range(total))
        assert spool.status().segments == 1


def test_group_commit_writes_when_the_group_is_full_or_at_a_flush(open_spool: Opener, record: Make) -> None:
    with open_spool(commit_records=5) as spool:
        assert [spool.append([record(minute)]) for minute in range(5)] == [False] * 4 + [True]
        assert not spool.append([record(5)])
        assert spool.flush()
    with open_spool() as spool:
        assert len(spool) == 6


def test_one_process_at_a_time(open_spool: Opener, fast_folder: Path) -> None:
    with open_spool(), pytest.raises(SpoolBusyError, match="another process"):
        open_spool()
    open_spool().close()


def test_a_fork_never_writes_with_its_parents_key(open_spool: Opener, record: Make) -> None:
    with open_spool() as spool:
        spool.append([record(0)])
        child = os.fork()
        if child == 0:
            try:
                spool.append([record(1)])
            except SpoolError:
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="file/spool"):
        Spool(tmp_path / "file" / "spool", SENSOR, SealKeyRing.create().public_key)


def test_records_of_another_sensor_do_not_get_in(open_spool: Opener, record: Make) -> None:
    with open_spool() as spool, pytest.raises(ValueError, match="hall-4"):
        spool.append([record(0), record(1, "hall-4")])
    assert len(spool) == 0


def test_a_record_made_past_its_checks_is_refused_and_blocks_nothing(open_spool: Opener, record: Make) -> None:
    with open_spool() as spool:
        for change in ({"present": 1 << 40}, {"health": frozenset({"tired"})}, {"entered": -1}):
            with pytest.raises(ValueError):
                spool.append([record(0), record(1).model_copy(update=change)])
        assert spool.append([record(2)])
        assert len(spool) == 1


def test_settings_have_bounds() -> None:
    with pytest.raises(ValueError, match="max_records"):
        SpoolSettings(max_records=0)


def test_a_segment_that_cannot_be_read_now_is_kept(
    open_spool: Opener, record: Make, fast_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_spool() as spool:
        spool.append([record(0)])
    real = Path.open

    def fail(self: Path, *args: object, **kwargs: object) -> object:
        if self.suffix == ".segment":
            raise OSError(5, "Input/output error")
        return real(self, *args, **kwargs)  # type: ignore[call-overload]

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", fail)
        with open_spool() as spool:
            assert (len(spool), spool.status().unreadable) == (0, 1)
            assert spool.append([record(1)])
            assert spool.next_batch() is None  # and no endless loop
    with open_spool() as spool:
        assert len(spool) == 2
        assert spool.status().counters.damaged == 0


def test_the_status_can_be_read_while_another_process_writes(
    open_spool: Opener, record: Make, fast_folder: Path
) -> None:
    folder = fast_folder / "spool"
    assert read_status(folder).waiting == 0
    with open_spool(save_every=1) as spool:
        spool.append([record(minute) for minute in range(6)])
        batch = spool.next_batch(2)
        spool.acknowledge(batch, all_new(batch))
        seen = read_status(folder)
        assert (seen.waiting, seen.segments, seen.counters.delivered) == (4, 1, 2)


# -- a thief ----------------------------------------------------------------------------------------------------


def test_a_stolen_spool_holds_nothing_that_can_be_read(
    open_spool: Opener, service: ReferenceService, fast_folder: Path, record: Make
) -> None:
    """Everything of the sensor's disk, without the service's private key."""
    with open_spool() as spool:
        spool.append([record(minute) for minute in range(200)])
        batch = spool.next_batch(50)
        spool.acknowledge(batch, all_new(batch))
    files = {path.name: path.read_bytes() for path in (fast_folder / "spool").iterdir()}
    everything = b"".join(files.values())
    for minute in range(200):
        start = int(record(minute).start.timestamp())
        assert start.to_bytes(8, "little") not in everything
        assert str(start).encode() not in everything
        assert record(minute).start.isoformat()[:16].encode() not in everything
    assert b"present" not in everything
    with pytest.raises(BatchError) as caught, open_spool() as spool:
        open_sealed_batch(SealKeyRing.create(), spool.next_batch().body)
    assert caught.value.status == 409
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in (fast_folder / "spool").iterdir())


def test_frames_look_the_same_for_an_empty_and_a_full_room(open_spool: Opener, record: Make, fast_folder: Path) -> None:
    """Equal records give different frames of equal length: neither content nor size tells how many there were."""
    with open_spool() as spool:
        spool.append([record(0)] * 50)
    (segment,) = (fast_folder / "spool").glob("*.segment")
    data = segment.read_bytes()[FIRST_FRAME:]
    frames = [data[at + 4 : at + 60] for at in range(0, 50 * FRAME_BYTES, FRAME_BYTES)]
    assert len(set(frames)) == 50


def test_no_key_ever_serves_two_lives(open_spool: Opener, record: Make, fast_folder: Path) -> None:
    """A restored disk image: the same spool is continued twice; header keys and frames differ."""
    seen = set()
    for _ in range(2):
        with open_spool() as spool:
            spool.append([record(0)])
        (segment,) = (fast_folder / "spool").glob("*.segment")
        data = segment.read_bytes()
        seen.add((data[8:24], data[32:64], data[FIRST_FRAME + 4 : FIRST_FRAME + 60]))
        segment.unlink()
    assert all(len(set(column)) == 2 for column in zip(*seen, strict=True))


def test_a_frame_opens_only_in_its_place_and_segment(record: Make) -> None:
    ring = SealKeyRing.create()
    one, two = SegmentSealer(SENSOR, ring.public_key), SegmentSealer(SENSOR, ring.public_key)
    frame = one.seal(record(0))
    with pytest.raises(SealError):
        two.open(frame)
    with pytest.raises(ValueError, match="hall-4"):
        one.seal(record(0, "hall-4"))
    key = bytes(range(32))  # even under one key, which no two segments ever share
    frame = FrameCipher(key, one.header).seal(0, record(0))
    assert FrameCipher(key, one.header).open(frame) == record(0)
    for other in (two.header, replace(one.header, sensor_id="hall-4")):
        with pytest.raises(SealError):
            FrameCipher(key, other).open(frame)


def test_older_seal_keys_open_until_they_are_taken_out(
    open_spool: Opener, service: ReferenceService, record: Make
) -> None:
    with open_spool() as spool:
        spool.append([record(0)])
    with open_spool() as spool:
        body = spool.next_batch().body
    rotated = service.seal_keys.rotated()
    assert rotated.public_key != service.seal_keys.public_key
    assert open_sealed_batch(rotated, body, SENSOR).records == [record(0)]


def test_frames_of_another_sensor_are_rejected_by_their_places(record: Make) -> None:
    """Anyone can seal to a public key: only what the signer itself sealed is taken."""
    ring = SealKeyRing.create()
    own, foreign = SegmentSealer(SENSOR, ring.public_key), SegmentSealer("hall-4", ring.public_key)
    sections = [
        (foreign.header, [foreign.seal(record(0, "hall-4")), foreign.seal(record(1, "hall-4"))]),
        (own.header, [own.seal(record(2))]),
    ]
    decoded = open_sealed_batch(ring, encode_sealed_batch(sections), SENSOR)
    assert (decoded.records, decoded.indexes) == ([record(2)], [2])
    assert [each.index for each in decoded.rejected] == [0, 1]
