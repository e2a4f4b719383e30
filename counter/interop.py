"""Between Headroom and the tools of the field: ``supervision.Detections`` and MOTChallenge folders."""

from __future__ import annotations

import configparser
import importlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from counter.outputs import StagedFile
from counter.types import Detections, Track

PERSON = 0
"""Class id of a person in COCO order, as most detectors give it."""


class InteropError(ValueError):
    """Foreign data that cannot be used: names file, line, field and value."""


def to_supervision(people: Detections | Sequence[Track]) -> Any:
    """Detections or tracks as ``supervision.Detections``.

    Args:
        people: detections, or tracks: their ids become ``tracker_id``. Hidden tracks are included; filter them by
            ``data["hidden"]``.

    Returns:
        ``supervision.Detections`` with ``xyxy`` [N, 4] float32, ``confidence`` [N] float32, ``class_id`` [N] zeros.

    Raises:
        InteropError: the package ``supervision`` is not installed.
    """
    try:
        sv = importlib.import_module("supervision")
    except ModuleNotFoundError:
        raise InteropError("supervision is not installed: pip install supervision") from None
    if isinstance(people, Detections):
        count = len(people)
        return sv.Detections(
            xyxy=people.boxes.astype(np.float32),
            confidence=people.scores.astype(np.float32),
            class_id=np.full(count, PERSON, int),
        )
    tracks = list(people)
    return sv.Detections(
        xyxy=np.array([t.box for t in tracks], np.float32).reshape(-1, 4),
        confidence=np.array([t.score for t in tracks], np.float32),
        class_id=np.full(len(tracks), PERSON, int),
        tracker_id=np.array([t.id for t in tracks], int),
        data={"hidden": np.array([t.hidden for t in tracks], bool)},
    )


def from_supervision(detections: Any, *, person: int | None = PERSON) -> Detections:
    """``supervision.Detections`` (or anything with its attributes) as :class:`Detections`.

    Args:
        detections: has ``xyxy`` [N, 4] and, where known, ``confidence`` [N] and ``class_id`` [N]. Missing confidence
            counts as 1; missing class ids mean that everything is a person.
        person: the class id to keep; None keeps all.

    Raises:
        InteropError: names the attribute whose shape or values do not fit.
    """
    boxes = np.asarray(detections.xyxy, np.float32)
    if boxes.size == 0:
        return Detections.empty()
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InteropError(f"xyxy: expected shape [N, 4], got {list(boxes.shape)}")
    count = len(boxes)
    scores = _column(detections, "confidence", count, np.ones(count, np.float32)).astype(np.float32)
    classes = _column(detections, "class_id", count, None)
    if not np.isfinite(boxes).all():
        raise InteropError("xyxy: holds values that are not finite")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise InteropError(f"confidence: must lie from 0 to 1, got {scores.min():g} to {scores.max():g}")
    if person is not None and classes is not None:
        keep = classes == person
        boxes, scores = boxes[keep], scores[keep]
    return Detections(boxes, scores)


def _column(detections: Any, name: str, count: int, default: Any) -> Any:
    value = getattr(detections, name, None)
    if value is None:
        return default
    column = np.asarray(value)
    if column.shape != (count,):
        raise InteropError(f"{name}: expected shape [{count}], got {list(column.shape)}")
    return column


@dataclass(frozen=True, slots=True)
class MotRow:
    """One box of a MOTChallenge text file.

    Attributes:
        frame: from 1.
        id: track or person; -1 in a detection file.
        left, top, width, height: pixels, the corner counted from 0 here, from 1 in the file.
        score: confidence; in a truth file 0 means "ignore this box".
        category: class (1 = pedestrian) in truth files, else None.
        visibility: visible share, 0 to 1, in truth files, else None.
    """

    frame: int
    id: int
    left: float
    top: float
    width: float
    height: float
    score: float = 1.0
    category: int | None = None
    visibility: float | None = None


def read_mot(path: str | Path) -> list[MotRow]:
    """Read a ``gt.txt``, ``det.txt`` or tracker result (https://motchallenge.net/instructions).

    Raises:
        InteropError: file, line, field and value.
    """
    rows = []
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InteropError(f"{path}: cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            rows.append(_mot_row(line.split(","), f"{path}:{number}"))
    return rows


def _mot_row(parts: Sequence[str], where: str) -> MotRow:
    if len(parts) < 6:
        raise InteropError(f"{where}: {len(parts)} values; expected frame,id,left,top,width,height[,score,...]")
    names = ("frame", "id", "left", "top", "width", "height", "score", "class", "visibility")
    numbers: list[float] = []
    for name, part in zip(names, parts, strict=False):
        try:
            number = float(part)
        except ValueError:
            number = float("nan")
        if not np.isfinite(number):
            raise InteropError(f"{where}: {name} {part.strip()!r} is not a number")
        numbers.append(number)
    frame, track = numbers[0], numbers[1]
    if frame < 1 or frame != int(frame) or track != int(track):
        raise InteropError(
            f"{where}: frame {parts[0].strip()!r} and id {parts[1].strip()!r} must be whole, frame from 1"
        )
    truth = len(numbers) == 9 and len(parts) == 9  # results and detections have ten columns, x y z = -1
    return MotRow(
        int(frame),
        int(track),
        numbers[2] - 1,
        numbers[3] - 1,
        numbers[4],
        numbers[5],
        numbers[6] if len(numbers) > 6 else 1.0,
        int(numbers[7]) if truth else None,
        numbers[8] if truth else None,
    )


def write_mot(path: str | Path, rows: Iterable[MotRow]) -> None:
    """Write rows in the form that evaluation tools read: ten columns, or nine where the rows are truth."""
    staged = StagedFile(path, "MOTChallenge file")
    try:
        with staged.temporary.open("w", encoding="utf-8", newline="\n") as file:
            for r in rows:
                box = ",".join(_short(v) for v in (r.left + 1, r.top + 1, r.width, r.height))
                if r.category is None:
                    tail = f"{_short(r.score)},-1,-1,-1"
                else:
                    tail = f"{_short(r.score)},{r.category},{_short(1.0 if r.visibility is None else r.visibility)}"
                file.write(f"{r.frame},{r.id},{box},{tail}\n")
    except BaseException:
        staged.abort()
        raise
    staged.commit()


def _short(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".")


def mot_rows(frame: int, people: Detections | Sequence[Track]) -> list[MotRow]:
    """The detections (id -1) or visible tracks of frame ``frame`` (from 1) as rows."""
    if isinstance(people, Detections):
        found = [(-1, tuple(map(float, b)), float(s)) for b, s in zip(people.boxes, people.scores, strict=True)]
    else:
        found = [(t.id, t.box, t.score) for t in people if not t.hidden]
    return [MotRow(frame, i, b[0], b[1], b[2] - b[0], b[3] - b[1], s) for i, b, s in found]


def mot_detections(rows: Iterable[MotRow]) -> Mapping[int, Detections]:
    """Rows of a detection file per frame."""
    grouped: dict[int, list[MotRow]] = defaultdict(list)
    for row in rows:
        grouped[row.frame].append(row)
    return {
        frame: Detections(
            np.array([[r.left, r.top, r.left + r.width, r.top + r.height] for r in group], np.float32),
            np.array([r.score for r in group], np.float32),
        )
        for frame, group in grouped.items()
    }


@dataclass(frozen=True, slots=True)
class SequenceInfo:
    """``seqinfo.ini`` of a MOTChallenge sequence."""

    name: str
    frame_rate: float
    length: int
    width: int
    height: int
    image_folder: str = "img1"
    image_suffix: str = ".jpg"


def read_seqinfo(folder: str | Path) -> SequenceInfo:
    """Read ``seqinfo.ini`` of a sequence folder.

    Raises:
        InteropError: file and field.
    """
    file = Path(folder) / "seqinfo.ini"
    parser = configparser.ConfigParser()
    try:
        if not parser.read(file, encoding="utf-8"):
            raise InteropError(f"{file}: there is no such file")
        s = parser["Sequence"]
        return SequenceInfo(
            s["name"],
            float(s["frameRate"]),
            int(s["seqLength"]),
            int(s["imWidth"]),
            int(s["imHeight"]),
            s.get("imDir", "img1"),
            s.get("imExt", ".jpg"),
        )
    except (configparser.Error, KeyError, ValueError) as error:
        if isinstance(error, InteropError):
            raise
        raise InteropError(f"{file}: [Sequence] is incomplete or unreadable: {error}") from error


def write_seqinfo(folder: str | Path, info: SequenceInfo) -> None:
    """Write ``seqinfo.ini`` into a folder, which is made where it is missing."""
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    rate = int(info.frame_rate) if info.frame_rate == int(info.frame_rate) else info.frame_rate
    (root / "seqinfo.ini").write_text(
        f"[Sequence]\nname={info.name}\nimDir={info.image_folder}\nframeRate={rate}\nseqLength={info.length}\n"
        f"imWidth={info.width}\nimHeight={info.height}\nimExt={info.image_suffix}\n",
        encoding="utf-8",
    )
