"""Where count records go: CSV, JSON lines, Parquet. A file appears whole when the run has succeeded, or not at all."""

from __future__ import annotations

import csv
import importlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from uplink.messages import CountRecord

COLUMNS = ("sensor_id", "start", "seconds", "present", "present_max", "entered", "left", "coverage", "health")


class OutputError(ValueError):
    """A file that cannot be written: field, value and what to do."""

    def __init__(self, field: str, value: object, reason: str) -> None:
        super().__init__(f"{field} {str(value)!r}: {reason}")
        self.field = field


class RecordSink(Protocol):
    """Takes finished records, in order of time. ``headroom count`` writes to any number of them.

    A sink that sends (a spool) makes each record durable in ``write``; one that writes a file makes it appear in
    ``commit``. Exactly one of ``commit`` and ``abort`` is called at the end.
    """

    def write(self, record: CountRecord) -> None: ...
    def commit(self) -> None: ...
    def abort(self) -> None: ...


class StagedFile:
    """A path to write to that takes the real name only on :meth:`commit`.

    Raises:
        OutputError: the folder is not there or may not be written to: found out now, not after an hour of counting.
    """

    def __init__(self, path: str | Path, field: str = "--out") -> None:
        self.target = Path(path)
        self._field = field
        if self.target.is_dir():
            raise OutputError(field, path, "is a folder; name a file in it")
        # The suffix stays last: video writers choose their container by it.
        self.temporary = self.target.with_name(f".{self.target.stem}.{os.getpid()}.part{self.target.suffix}")
        try:
            self.temporary.touch()
        except FileNotFoundError:
            raise OutputError(field, path, f"there is no folder {str(self.target.parent)!r}; create it first") from None
        except OSError as error:
            raise OutputError(field, path, f"cannot be written: {error.strerror}") from error

    def commit(self) -> None:
        try:
            self.temporary.replace(self.target)
        except OSError as error:
            self.abort()
            raise OutputError(self._field, self.target, f"cannot be written: {error.strerror}") from error

    def abort(self) -> None:
        self.temporary.unlink(missing_ok=True)


def record_row(record: CountRecord) -> dict[str, Any]:
    """One record as plain values in the order of :data:`COLUMNS`. Unknown is None, never 0."""
    return {
        "sensor_id": record.sensor_id,
        "start": record.start.isoformat().replace("+00:00", "Z"),
        "seconds": record.seconds,
        "present": record.present,
        "present_max": record.present_max,
        "entered": record.entered,
        "left": record.left,
        "coverage": round(record.coverage, 4),
        "health": " ".join(sorted(record.health)),
    }


class CsvSink:
    """Comma separated, one header line, UTF-8, ``\\n``; an empty field is unknown."""

    def __init__(self, path: str | Path) -> None:
        self._staged = StagedFile(path)
        self._file: IO[str] = self._staged.temporary.open("w", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(self._file, COLUMNS, lineterminator="\n")
        self._writer.writeheader()

    def write(self, record: CountRecord) -> None:
        self._writer.writerow(record_row(record))

    def commit(self) -> None:
        _finish(self._file, self._staged)

    def abort(self) -> None:
        self._file.close()
        self._staged.abort()


class JsonLinesSink:
    """One JSON object a line, in the form of the wire contract: ``health`` is a list, unknown is null."""

    def __init__(self, path: str | Path) -> None:
        self._staged = StagedFile(path)
        self._file: IO[str] = self._staged.temporary.open("w", encoding="utf-8")

    def write(self, record: CountRecord) -> None:
        row = record_row(record) | {"health": sorted(record.health)}
        self._file.write(json.dumps(row, separators=(",", ":")) + "\n")

    def commit(self) -> None:
        _finish(self._file, self._staged)

    def abort(self) -> None:
        self._file.close()
        self._staged.abort()


class ParquetSink:
    """Parquet with typed columns (needs pyarrow). Records are kept until the end: 40 bytes each."""

    def __init__(self, path: str | Path) -> None:
        try:
            self._arrow = importlib.import_module("pyarrow")
            self._parquet = importlib.import_module("pyarrow.parquet")
        except ModuleNotFoundError:
            raise OutputError(
                "--out", path, "Parquet needs the package pyarrow: pip install 'headroom[bench]', or write .csv"
            ) from None
        self._staged = StagedFile(path)
        self._records: list[CountRecord] = []

    def write(self, record: CountRecord) -> None:
        self._records.append(record)

    def commit(self) -> None:
        pa = self._arrow
        integers = {"seconds", "present", "present_max", "entered", "left"}
        types = {"start": pa.timestamp("us", tz="UTC"), "coverage": pa.float64()} | dict.fromkeys(integers, pa.int32())
        schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
        rows = [record_row(r) | {"start": r.start} for r in self._records]
        try:
            self._parquet.write_table(pa.Table.from_pylist(rows, schema=schema), str(self._staged.temporary))
        except OSError as error:
            self.abort()
            raise OutputError("--out", self._staged.target, f"cannot be written: {error}") from error
        self._staged.commit()

    def abort(self) -> None:
        self._staged.abort()


def _finish(file: IO[str], staged: StagedFile) -> None:
    try:
        file.close()  # flushes: a full disk shows here
    except OSError as error:
        staged.abort()
        raise OutputError("--out", staged.target, f"cannot be written: {error.strerror}") from error
    staged.commit()


SINKS: dict[str, Callable[[str | Path], RecordSink]] = {
    ".csv": CsvSink,
    ".jsonl": JsonLinesSink,
    ".parquet": ParquetSink,
}


def open_sink(path: str | Path) -> RecordSink:
    """The sink for a file name, by its suffix.

    Raises:
        OutputError: unknown suffix, or the file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SINKS:
        raise OutputError("--out", path, f"the name must end in {', '.join(SINKS)}")
    return SINKS[suffix](path)


class Sinks:
    """Several sinks as one; when one fails to commit the rest is still aborted."""

    def __init__(self, sinks: Sequence[RecordSink]) -> None:
        self._open = list(sinks)

    def write(self, record: CountRecord) -> None:
        for sink in self._open:
            sink.write(record)

    def commit(self) -> None:
        while self._open:
            self._open[0].commit()
            self._open.pop(0)

    def abort(self) -> None:
        while self._open:
            self._open.pop().abort()
