"""Files that hold secrets: mode 0600 in a folder of mode 0700, written whole or not at all, refused otherwise.

systemd credentials come first: where ``$CREDENTIALS_DIRECTORY`` holds a file of the asked name, that one is read.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from pathlib import Path

MAX_SECRET_BYTES = 64 * 1024


class KeyFileError(Exception):
    """A key file is missing, open to others, or not a key. The text names the file and what to do; never the key."""


def write_atomic(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write `data` to a temporary name, sync, rename, sync the folder. The folder is made with mode 0700.

    The file has its final mode from its first byte on: there is no moment in which others may open it.
    """
    make_private_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        try:
            os.fchmod(descriptor, mode)  # umask may have taken bits away
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def make_private_folder(folder: Path) -> None:
    """Make `folder` with mode 0700. One that exists keeps its mode."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename or a new file in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_secret(path: Path) -> bytes:
    """The content of a secret file, with the white space around it removed.

    Raises:
        KeyFileError: no such file, a link, not ours, readable by group or others, too large, or in a folder
            in which others may exchange it.
    """
    return _read(path, forbidden=0o077).strip()


def find_secret(name: str, folder: Path, credential: str | None = None) -> bytes:
    """The secret `name`: from systemd's credentials when there, otherwise from `folder`.

    `credential` is its name among the credentials, where that is another one.

    systemd gives credentials to the service's user by an access list, which shows as group bits: there, and only
    there, those are allowed. Root may read a secret of the user whose folder it lies in: an installed sensor has a user
    of its own, and root looks after it.
    """
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if credentials:
        candidate = Path(credentials) / (credential or name)
        if candidate.is_file():
            return _read(candidate, forbidden=0o037).strip()
    return _read(folder / name, forbidden=0o077, of_folder=True).strip()


def _read(path: Path, forbidden: int, *, of_folder: bool = False) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise KeyFileError(f"{path}: there is no such key file") from None
    except OSError as error:
        raise KeyFileError(
            f"{path}: {error.strerror} (a key file must be a plain file that this user may read)"
        ) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KeyFileError(f"{path}: not a plain file")
        mode = stat.S_IMODE(status.st_mode)
        if mode & forbidden:
            raise KeyFileError(f"{path}: mode {mode:04o} opens the key to others; run: chmod 600 {path}")
        parent = path.parent.stat()
        owners = {0, os.geteuid()} | ({parent.st_uid} if of_folder and os.geteuid() == 0 else set())
        if status.st_uid not in owners:
            raise KeyFileError(
                f"{path}: owned by user {status.st_uid}, not by this user or root; run: chown {os.geteuid()} {path}"
            )
        if stat.S_IMODE(parent.st_mode) & 0o022 and not parent.st_mode & stat.S_ISVTX:
            raise KeyFileError(f"{path.parent}: others may exchange files in this folder; run: chmod 700 {path.parent}")
        if status.st_size > MAX_SECRET_BYTES:
            raise KeyFileError(f"{path}: {status.st_size} bytes is no key file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_SECRET_BYTES + 1)
    finally:
        os.close(descriptor)


def decode_key(text: str | bytes, what: str) -> bytes:
    """32 bytes from standard base64, as WireGuard writes keys. The error never repeats the text.

    Raises:
        KeyFileError: not base64, not 32 bytes, or all zero.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise KeyFileError(f"{what}: not base64") from None
    if len(raw) != 32:
        raise KeyFileError(f"{what}: {len(raw)} bytes where a key has 32")
    if not any(raw):
        raise KeyFileError(f"{what}: all zero")
    return raw


def encode_key(raw: bytes) -> str:
    """Standard base64 of a 32-byte key."""
    return base64.b64encode(raw).decode("ascii")
