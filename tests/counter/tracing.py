"""Reads what `strace` saw of a process and accounts for every byte that left it.

Accounting is by construction, not by guess: a batch is decoded to its records and encoded again, a segment is opened
with the service's key and sealed again, and only equal bytes are accounted for. What is left over is a fault.
"""

from __future__ import annotations

import gzip
import json
import re
import struct
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from counter.agent.ledger import LEDGER_FILE, SLOT_BYTES, SLOT_PLACES, Note
from uplink.care import decode_report, encode_report
from uplink.codec import decode_batch, encode_batch
from uplink.messages import SENSOR_ID_PATTERN, CountRecord
from uplink.sealing import FRAME_BYTES, HEADER_BYTES, SealError, SealKeyRing, SegmentHeader, unwrap_segment
from uplink.segment import FIRST_FRAME
from uplink.spoolstate import load_state, save_state

# Everything by which bytes can leave a process, or a name can be made that others see.
CALLS = (
    "write,pwrite64,writev,pwritev,pwritev2,sendto,sendmsg,sendmmsg,sendfile,copy_file_range,splice,tee,vmsplice,"
    "mmap,shmget,shmat,msgsnd,mq_timedsend,process_vm_writev,io_uring_setup,io_submit,memfd_create,add_key,"
    "open,openat,openat2,creat,truncate,ftruncate,fallocate,rename,renameat,renameat2,link,linkat,symlink,symlinkat,"
    "mkdir,mkdirat,mknod,mknodat,setxattr,lsetxattr,fsetxattr,ioctl,execve,execveat,connect,bind,prctl,"
    "sethostname,setdomainname,ptrace"
)
STRACE = [
    "strace",
    "-f",
    "--seccomp-bpf",
    "-qq",
    "-y",
    "-xx",
    "-s",
    "16777216",
    "-e",
    f"trace={CALLS}",
    "-e",
    "signal=none",
]

_LINE = re.compile(r"(?P<pid>\d+) +(?P<name>\w+)\((?P<args>.*)\) += (?P<result>-?\d+|0x[0-9a-f]+|\?)(?P<rest>.*)")
_UNFINISHED = re.compile(r"(?P<pid>\d+) +(?P<begin>\w+\(.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"(?P<pid>\d+) +<\.\.\. \w+ resumed>(?P<end>.*)$")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_PLACE = re.compile(r"-?\w+<((?:\\x[0-9a-f]{2})*)>")
_WRITES = {"write", "writev", "pwrite64", "pwritev", "pwritev2", "sendto", "sendmsg", "sendmmsg"}
_OPENS = {"open", "openat", "openat2", "creat"}
_NAMES = {"rename", "renameat", "renameat2", "mkdir", "mkdirat", "truncate"}
_HARMLESS_IOCTLS = ("TCGETS", "FIONBIO", "FIOCLEX", "FIONREAD", "TIOCGWINSZ")


@dataclass(frozen=True)
class Call:
    """One system call that returned, its strings as bytes."""

    pid: int
    name: str
    args: str
    result: int

    @property
    def strings(self) -> list[bytes]:
        return [_bytes(found[1]) for found in _STRING.finditer(self.args)]

    @property
    def cut(self) -> bool:
        return any(found[2] for found in _STRING.finditer(self.args))

    @property
    def place(self) -> str:
        """What the first descriptor is: a path, ``socket:[n]``, ``pipe:[n]``."""
        found = _PLACE.match(self.args)
        return _bytes(found[1]).decode("utf-8", "backslashreplace") if found else ""


def calls(trace: Path) -> Iterator[Call]:
    """The calls of a trace in the order of their ends. One that never ended is taken as having done its work."""
    begun: dict[str, str] = {}
    with trace.open(encoding="ascii", errors="replace") as lines:
        for raw in lines:
            line = raw.rstrip("\n")
            if found := _UNFINISHED.match(line):
                begun[found["pid"]] = found["begin"]
                continue
            if found := _RESUMED.match(line):
                line = f"{found['pid']} {begun.pop(found['pid'], '?(')}{found['end']}"
            if found := _LINE.match(line):
                result = found["result"]
                yield Call(int(found["pid"]), found["name"], found["args"], 0 if result == "?" else int(result, 0))


@dataclass
class Account:
    """What left a traced sensor.

    Attributes:
        state: the sensor's state folder, the only place that it may write to.
        port: of the service on loopback.
        log_lines: patterns of the lines that a sensor logs.
        faults: everything that is not accounted for.
        sizes: accounted bytes by kind.
        records: every record that was written to the spool or sent.
    """

    state: Path
    port: int
    keys: SealKeyRing
    log_lines: Sequence[re.Pattern[str]]
    faults: list[str] = field(default_factory=list)
    sizes: Counter[str] = field(default_factory=Counter)
    spooled: list[CountRecord] = field(default_factory=list)
    sent: list[CountRecord] = field(default_factory=list)
    raw: bytearray = field(default_factory=bytearray)
    _files: dict[str, list[tuple[int | None, bytes]]] = field(default_factory=lambda: defaultdict(list))
    _streams: dict[str, bytearray] = field(default_factory=lambda: defaultdict(bytearray))
    _logs: bytearray = field(default_factory=bytearray)
    _programs: int = 0

    def take(self, trace: Path) -> None:
        """Go through a whole trace, then through what it adds up to."""
        for call in calls(trace):
            if call.result >= 0 or (call.name == "connect" and "EINPROGRESS" not in call.args):
                self._call(call)
        for path, writes in list(self._files.items()):
            self._file(Path(path.partition("?")[0]), writes)
        for stream in self._streams.values():
            self._http(bytes(stream))
        for line in self._logs.decode("utf-8", "backslashreplace").splitlines():
            if not any(pattern.fullmatch(line) for pattern in self.log_lines):
                self._fault("log", line[:120])
        self.sizes["log"] += len(self._logs)

    # -- call by call

    def _call(self, call: Call) -> None:
        if call.cut:
            self._fault(call.name, "longer than the trace keeps")
        if call.name in _WRITES:
            self._write(call)
        elif call.name == "mmap":
            if "MAP_SHARED" in call.args and "PROT_WRITE" in call.args and call.args.split(", ")[4] != "-1":
                self._fault("mmap", "a file is mapped to be written to")
        elif call.name in _OPENS:
            self._open(call)
        elif call.name in _NAMES:
            self._names(call)
        elif call.name == "ioctl":
            request = call.args.split(", ")[1]
            if not request.startswith(_HARMLESS_IOCTLS):
                self._fault("ioctl", request)
        elif call.name == "execve":
            self._programs += 1
            if self._programs > 2 or b"python" not in call.strings[0]:
                self._fault("execve", call.strings[0].decode())
        elif call.name in ("connect", "bind"):
            self._address(call)
        elif call.name == "prctl":
            if "PR_SET_NAME" in call.args and not re.fullmatch(rb"[\w .:-]{0,15}", call.strings[0]):
                self._fault("prctl", "a thread's name")
        else:
            self._fault(call.name, "must not be called")

    def _write(self, call: Call) -> None:
        data = b"".join(call.strings)
        if call.name in ("write", "writev", "sendto", "pwrite64"):
            data = data[: call.result]
        self.raw += data
        place = call.place
        if place.startswith("socket:"):
            self._streams[place] += data
        elif call.args.startswith(("1<", "2<")):
            self._logs += data
        elif place.startswith(("anon_inode:[eventfd]", "pipe:")) and len(data) <= 8:
            self.sizes["wake-ups"] += len(data)
        elif place.startswith(f"{self.state}/"):
            offset = int(call.args.rsplit(", ", 1)[1]) if call.name == "pwrite64" else None
            self._files[place].append((offset, data))
        else:
            self._fault(call.name, f"to {place}")

    def _open(self, call: Call) -> None:
        writes = any(flag in call.args for flag in ("O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND"))
        if not writes and call.name != "creat":
            return
        path = call.strings[-1].decode("utf-8", "backslashreplace")
        if path != "/dev/null":
            self._name(call.name, path)

    def _names(self, call: Call) -> None:
        for name in call.strings:
            self._name(call.name, name.decode("utf-8", "backslashreplace"))
        if call.name.startswith("rename"):
            source, target = (name.decode() for name in call.strings)
            if target in self._files:
                self._files[f"{target}?{call.pid}-{len(self._files)}"] = self._files.pop(
                    target
                )  # what was there counts
            self._files[target] = self._files.pop(source, [])

    def _name(self, call: str, path: str) -> None:
        """A name is data too: those that a sensor gives are known."""
        known = (
            r"(spool(/\d{10}\.segment|/(\.?state\.json(\.[0-9a-f]{12})?|\.?lock))?"
            r"|\.?((selftest|care)\.json|reported\.state)(\.[0-9a-f]{1,12})?|agent\.sock)?"
        )
        inside = path.removeprefix(str(self.state)).lstrip("/")
        if not path.startswith(str(self.state)) or not re.fullmatch(known, inside):
            self._fault(call, f"of {path[:120]}")

    def _address(self, call: Call) -> None:
        if "AF_INET" in call.args:
            port = int(re.findall(r"port=htons\((\d+)\)", call.args)[0])
            if port != (self.port if call.name == "connect" else 0):
                self._fault(call.name, f"port {port}")
        elif "AF_UNIX" in call.args and call.name == "bind":
            if not re.fullmatch(rb"/proc/self/fd/\d+/agent\.sock", call.strings[0]):
                self._fault("bind", "an unknown socket")
        elif "AF_NETLINK" not in call.args:
            self._fault(call.name, call.args[:120])

    # -- what it adds up to

    def _file(self, path: Path, writes: list[tuple[int | None, bytes]]) -> None:
        if path.name.lstrip(".").startswith(LEDGER_FILE):
            # Its slots are written over in turns: every single write must be a note, or the zeros it began as.
            if all(_is_note(part) for _, part in writes):
                self.sizes["state"] += sum(len(part) for _, part in writes)
            else:
                self._fault("file", f"{path.name}: what is no note of the ledger")
            return
        data = bytearray()
        for offset, part in writes:
            at = len(data) if offset is None else offset
            data.extend(bytes(max(0, at + len(part) - len(data))))
            data[at : at + len(part)] = part
        for offset, part in writes:  # nothing was written that was written over later, but zeros
            kept = data[offset or 0 :]
            if offset is not None and any(was and was != now for was, now in zip(part, kept, strict=False)):
                self._fault("file", f"{path.name}: bytes were written and hidden again")
        kind = self._file_kind(path, bytes(data))
        if kind is None:
            self._fault("file", f"{path.name}: {len(data)} bytes that are no record, state or log")
        else:
            self.sizes[kind] += sum(len(part) for _, part in writes)

    def _file_kind(self, path: Path, data: bytes) -> str | None:
        name = path.name.lstrip(".")
        try:
            if name.endswith(".segment"):
                return "spool" if self._segment(data) else None
            if name.startswith("state.json"):
                with tempfile.TemporaryDirectory() as folder:
                    (Path(folder) / "state.json").write_bytes(data)
                    save_state(Path(folder), load_state(Path(folder)))
                    return "state" if (Path(folder) / "state.json").read_bytes() == data else None
            if name.startswith("selftest.json"):
                # CPU, version of the runtime, threads and digests of the model files; the faster of them.
                known = re.compile(r"[\w() .@-]{3,60} \| [\d.]+ \| \d+ threads \| [0-9a-f]{64} \| [0-9a-f]{64}")
                pairs = json.loads(data).items()
                return "state" if all(known.fullmatch(key) and value in key for key, value in pairs) else None
        except (ValueError, KeyError, TypeError, AttributeError, SealError, struct.error):
            return None
        return "state" if not data and name == "lock" else None

    def _segment(self, data: bytes) -> bool:
        """Headers, then frames that open to records, then zeros; sealed again they are the same bytes."""
        header = SegmentHeader.decode(data[:HEADER_BYTES])
        if data[:FIRST_FRAME] != header.encode() * 2:
            return False
        cipher = unwrap_segment(self.keys, header)
        frames = [data[at : at + FRAME_BYTES] for at in range(FIRST_FRAME, len(data), FRAME_BYTES)]
        while frames and not frames[-1].strip(b"\0"):
            frames.pop()
        for number, frame in enumerate(frames):
            record = cipher.open(frame)
            if cipher.seal(number, record) != frame:
                return False
            self.spooled.append(record)
        return True

    def _http(self, stream: bytes) -> None:
        while stream:
            if _is_netlink(stream):
                self.sizes["name service"] += len(stream)
                return
            head, separator, rest = stream.partition(b"\r\n\r\n")
            length = re.search(rb"\r\nContent-Length: (\d+)(\r\n|$)", head)
            if not separator or length is None or not self._head(head):
                self._fault("network", f"{len(stream)} bytes that are no request of a sensor")
                return
            body, stream = rest[: int(length[1])], rest[int(length[1]) :]
            self.sizes["request heads"] += len(head) + 4
            if head.startswith(b"POST /v1/care "):
                self._care(body)
                continue
            try:
                records = decode_batch(body, "gzip", None).records
            except Exception as error:
                self._fault("network", f"a body of {len(body)} bytes that is no batch: {error}")
                continue
            if encode_batch(records) != body:
                self._fault("network", f"a body of {len(body)} bytes that is more than its records")
                continue
            self.sent += records
            self.sizes["records"] += len(body)

    def _care(self, body: bytes) -> None:
        """A report to remote care is an allow-list: read and written again it is the same bytes."""
        try:
            same = encode_report(decode_report(body)) == body
        except ValueError:
            same = False
        if same:
            self.sizes["state reports"] += len(body)
        else:
            self._fault("network", f"a body of {len(body)} bytes that is no report of the sensor's state")

    def _head(self, head: bytes) -> bool:
        first, *lines = head.decode("latin-1").split("\r\n")
        known = {
            "host": rf"127\.0\.0\.1:{self.port}",
            "user-agent": "headroom",
            "accept": r"application/json",
            "accept-encoding": "identity",
            "connection": "keep-alive",
            "content-type": "application/json",
            "content-encoding": "gzip",
            "content-length": r"\d{1,7}",
            "authorization": r"Headroom-HMAC-SHA256 sensor=[a-z0-9-]+,generation=\d+,time=\d+,"
            r"nonce=[0-9a-f]{32},signature=[0-9a-f]{64}",
        }
        pairs = [line.partition(": ") for line in lines]
        right = all(re.fullmatch(known.get(name.lower(), "(?!)"), value) for name, _, value in pairs)
        paths = ("POST /v1/counts HTTP/1.1", "POST /v1/care HTTP/1.1")
        return first in paths and right and len(pairs) == len({name for name, _, _ in pairs})

    def _fault(self, kind: str, what: str) -> None:
        self.faults.append(f"{kind}: {what}")


def holds_pictures(data: bytes, samples: Sequence[bytes]) -> list[str]:
    """Signs of a picture in bytes: pieces of known frames, or the heads of picture formats; gzip parts are opened."""
    opened = [data]
    for found in re.finditer(rb"\x1f\x8b\x08", data):
        try:
            opened.append(gzip.decompress(data[found.start() :]))
        except (OSError, EOFError):
            continue
        except Exception:
            continue
    heads = {
        "JPEG": b"\xff\xd8\xff\xe0",
        "PNG": b"\x89PNG\r\n",
        "WebP": b"WEBPVP8",
        "GIF": b"GIF89a",
        "MP4": b"ftypisom",
    }
    found_heads = [name for name, head in heads.items() if any(head in part for part in opened)]
    pieces = sum(any(sample in part for part in opened) for sample in samples)
    return found_heads + ([f"{pieces} pieces of frames"] if pieces else [])


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _is_note(written: bytes) -> bool:
    """What the ledger of intervals may write: one slot with one note, or the zeros it began as."""
    note = Note.decode(written)
    if note is None:
        return not written.strip(b"\0") and len(written) <= SLOT_PLACES[-1] + SLOT_BYTES
    numbers = [value for value in (note.turn, note.reported, note.next, note.taken) if value is not None]
    return re.fullmatch(SENSOR_ID_PATTERN, note.sensor) is not None and all(type(n) is int for n in numbers)


def _is_netlink(stream: bytes) -> bool:
    """glibc's question for this machine's addresses."""
    return len(stream) == 20 and stream[:4] == (20).to_bytes(4, "little")
