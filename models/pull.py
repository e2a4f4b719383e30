"""Fetch a published model: resumable, checked, and either whole or not there at all.

The download grows in ``NAME.onnx.part`` and is renamed only when its length and SHA-256 are those of the registry. A
cut download leaves the part, and the next attempt asks the server for the rest.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import requests

from .errors import ModelError
from .optimise import file_sha256
from .registry import ModelEntry, pulled_path

log = logging.getLogger(__name__)

ATTEMPTS = 4
TIMEOUT = (10.0, 30.0)
CHUNK = 1 << 16
RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})

Progress = Callable[[int, int], None]


class _TryAgainError(Exception):
    """Something that may go better the next time; its text says what happened."""


def pull(
    name: str,
    entry: ModelEntry,
    *,
    url: str | None = None,
    progress: Progress = lambda done, total: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """Fetch the published file of ``entry`` into the cache and return its path.

    Args:
        name: name of the model; the file is called after it.
        entry: what the registry says; ``bytes`` and ``sha256`` are binding wherever the file comes from.
        url: a mirror to use instead of the registry's address.
        progress: called with bytes so far and bytes in all.
        sleep: waits between attempts (1, 2, 4 seconds).

    Raises:
        ModelError: the model ships, the server refuses, the network stays down, the disk is full or cannot be
            written, or the file is not the one that the registry names. Nothing half is left under the final name.
    """
    address = url or entry.url
    if not address or not entry.bytes or not entry.sha256:
        raise ModelError(f"model {name!r} ships with headroom; there is nothing to fetch")
    if not address.startswith(("https://", "http://127.0.0.1", "http://localhost")):
        raise ModelError(f"model {name!r}: {address}: only https addresses are fetched")
    target = pulled_path(name)
    try:
        with _part_file(target) as (part, file):
            _check_room(target.parent, entry.bytes - part.stat().st_size)
            _fetch(name, address, entry.bytes, file, progress, sleep)
            found = file_sha256(part)
            if found != entry.sha256:
                part.unlink()
                raise ModelError(
                    f"model {name!r} from {address}: sha256 is {found}, the registry wants {entry.sha256}; nothing "
                    f"was kept. The file there was changed or the connection tampers with it: use a mirror with --url"
                )
            part.replace(target)
    except OSError as error:
        raise _disk_error(target, error) from error
    return target


@contextlib.contextmanager
def _part_file(target: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """The growing file, locked against a second pull of the same model."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with part.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ModelError(f"{part}: another pull is writing it; wait for it to end") from None
        yield part, file


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _disk_error(target: Path, error: OSError) -> ModelError:
    if error.errno == errno.ENOSPC:
        return ModelError(
            f"{target.parent}: no space left on the disk; free some, or set HEADROOM_CACHE to a folder on another one "
            f"(what has arrived is kept and continued)"
        )
    return ModelError(
        f"{target.parent}: cannot write there: {error.strerror or error}; set HEADROOM_CACHE to a folder that can be "
        f"written"
    )


def _fetch(name: str, url: str, total: int, file: BinaryIO, progress: Progress, sleep: Callable[[float], None]) -> None:
    """Fill ``file`` up to ``total`` bytes, in as many attempts as are allowed."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _fetch_rest(name, url, total, file, progress)
        except _TryAgainError as problem:
            file.flush()
            if attempt == ATTEMPTS:
                raise ModelError(
                    f"model {name!r} from {url}: {problem} ({ATTEMPTS} attempts); what has arrived is kept, try "
                    f"again later: headroom models pull {name}"
                ) from problem
            log.info("%s: %s; attempt %d of %d", name, problem, attempt + 1, ATTEMPTS)
            sleep(2.0 ** (attempt - 1))
        else:
            file.flush()
            return


def _fetch_rest(name: str, url: str, total: int, file: BinaryIO, progress: Progress) -> None:
    have = file.seek(0, os.SEEK_END)
    if have > total:
        have = _restart(file)
    if have == total:
        return
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            have = _check_answer(name, url, answer, have, file)
            progress(have, total)
            for chunk in answer.iter_content(CHUNK):
                have += len(chunk)
                if have > total:
                    _restart(file)
                    raise ModelError(f"model {name!r} from {url}: longer than the {total} bytes of the registry")
                file.write(chunk)
                progress(have, total)
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise _TryAgainError(f"the connection failed ({type(error).__name__})") from error
    except requests.RequestException as error:
        raise ModelError(f"model {name!r} from {url}: {type(error).__name__}; check the address") from error
    if have < total:
        raise _TryAgainError(f"the download was cut off at {have} of {total} bytes")


def _check_answer(name: str, url: str, answer: requests.Response, have: int, file: BinaryIO) -> int:
    """How many bytes of the file are already there when the body of this answer begins."""
    status = answer.status_code
    if status == 206 and have:
        begin = answer.headers.get("Content-Range", "").removeprefix("bytes ").split("-")[0]
        return have if begin == str(have) else _restart_and_retry(file)
    if status == 200:  # the server knows no ranges: from the beginning
        return _restart(file) if have else 0
    if status == 416:
        return _restart_and_retry(file)
    if status in RETRY_STATUS:
        raise _TryAgainError(f"the server answered {status} {answer.reason}")
    raise ModelError(
        f"model {name!r} from {url}: the server answered {status} {answer.reason}; use a mirror with --url"
    )


def _restart(file: BinaryIO) -> int:
    file.seek(0)
    file.truncate()
    return 0


def _restart_and_retry(file: BinaryIO) -> int:
    _restart(file)
    raise _TryAgainError("the server's part does not continue ours")
