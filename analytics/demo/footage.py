"""The real clip of the demo: from a folder of footage, from an earlier download, or from its public address."""

from __future__ import annotations

import hashlib
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

CLIPS = Path(__file__).with_name("clips.toml")
DEFAULT_CLIP = "one-by-one"
DATA_VARIABLE = "HEADROOM_DATA"
_TIMEOUT = (10, 30)


class ClipError(Exception):
    """A clip cannot be had; the message says why."""


@dataclass(frozen=True)
class Clip:
    """One entry of ``clips.toml``.

    Attributes:
        truth: what a person counted, in words.
        scene: path of the scene file; empty where ``lines`` say it.
        lines: door lines as ``headroom count --line`` takes them.
    """

    name: str
    file: str
    url: str
    bytes: int
    sha256: str
    licence: str
    attribution: str
    truth: str
    scene: str = ""
    lines: tuple[str, ...] = ()


def read_clips(path: Path = CLIPS) -> dict[str, Clip]:
    """The clips that the demo knows, by name."""
    entries: list[dict[str, Any]] = tomllib.loads(path.read_text(encoding="utf-8"))["clips"]
    for entry in entries:
        if entry.get("scene"):
            entry["scene"] = str(path.parent / entry["scene"])
    return {entry["name"]: Clip(**entry) for entry in entries}


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_clip(clip: Clip, folder: Path, data: str | None) -> Path:
    """The clip from the data folder, from an earlier download, or from its public address.

    Args:
        folder: where downloads are kept.
        data: value of HEADROOM_DATA.

    Raises:
        ClipError: it is in none of these places.
    """
    if data:
        local = Path(data) / "footage" / clip.file
        if local.is_file() and sha256_of(local) == clip.sha256:
            return local
    kept = folder / clip.file
    if kept.is_file() and sha256_of(kept) == clip.sha256:
        return kept
    return download(clip, kept)


def download(clip: Clip, target: Path) -> Path:
    """Fetch a clip; nothing but exactly the named file is ever kept.

    Raises:
        ClipError: no answer, a refusal, or another file than the one named.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    digest, size = hashlib.sha256(), 0
    try:
        with requests.get(clip.url, stream=True, timeout=_TIMEOUT) as answer, part.open("wb") as file:
            if answer.status_code != 200:
                raise ClipError(f"{clip.url} answered {answer.status_code} {answer.reason}")
            for chunk in answer.iter_content(1 << 16):
                size += len(chunk)
                if size > clip.bytes:
                    raise ClipError(f"{clip.url} is longer than the {clip.bytes} bytes it should have")
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != clip.sha256:
            raise ClipError(f"{clip.url} is not the clip it should be: {size} bytes, sha256 {digest.hexdigest()}")
        part.replace(target)
    except requests.RequestException as error:
        raise ClipError(f"{clip.url} could not be fetched ({type(error).__name__})") from error
    except OSError as error:
        raise ClipError(f"{target} could not be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    return target
