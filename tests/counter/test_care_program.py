"""Remote care with the whole program: `headroom sensor run` takes a configuration, and stays locked."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from counter.agent.schedule import DAYS
from counter.care import CARE_FILE
from uplink.care import CARE_PATH, CareOrder, CareReport, RemoteConfig, RemoteHours, VersionedConfig, decode_report
from uplink.identity import Identity, save_sensor_key
from uplink.keyfiles import encode_key
from uplink.signing import ANSWER_HEADER, parse_authorization, sign_answer, verify_request
from uplink.testing import ReferenceService, serving
from uplink.transport import Reply


class CaringService(ReferenceService):
    """A service that also takes reports, and gives one order."""

    def __init__(self, order: CareOrder) -> None:
        super().__init__()
        self.order = order
        self.reports: list[CareReport] = []

    def handle(self, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        if path != CARE_PATH:
            return super().handle(path, headers, body)
        claim = parse_authorization(headers["authorization"])
        key = self.keys.sensor_key(claim.sensor_id)
        verify_request(
            key, claim, method="POST", path=path, body=body, now=time.time(), content_type=headers["content-type"]
        )
        assert key is not None
        self.reports.append(decode_report(body))
        answer = self.order.model_dump_json().encode()
        return Reply(200, {ANSWER_HEADER: sign_answer(key, claim, status=200, body=answer, now=time.time())}, answer)


CLIP = Path(__file__).resolve().parents[1] / "clips/door-overhead-rendered.mp4"


@contextmanager
def program(folder: Path, service: CaringService, settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """`headroom sensor run` as installed, enrolled with this service; ended in order."""
    config, state = folder / "sensor.toml", folder / "state"
    config.write_text(f'{settings}\n[[camera]]\nsource = "{CLIP}"\nmodel = "headroom-person"\n')
    state.mkdir(exist_ok=True)
    with serving(service) as url, (folder / "log").open("w") as log:
        seal = encode_key(service.seal_keys.public_key)
        Identity(sensor_id="hall-3", service_url=url, service_seal_key=seal).save(state)
        key = service.keys.sensor_key("hall-3")
        assert key is not None
        save_sensor_key(state, key)
        command = [sys.executable, "-m", "headroom", "sensor", "run", "--state", str(state), "--config", str(config)]
        sensor = subprocess.Popen(command, cwd=CLIP.parents[2], stderr=log)
        try:
            yield sensor
            sensor.terminate()
            assert sensor.wait(timeout=20) == 0, (folder / "log").read_text()
        finally:
            sensor.kill()
            sensor.wait()


def until(condition: Callable[[], object], sensor: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not condition() and sensor.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert condition()


def test_the_whole_program_takes_a_configuration_without_letting_go_of_its_locks(tmp_path: Path) -> None:
    """One process, locked once, begins anew with the rate it was given."""
    service = CaringService(CareOrder(config=VersionedConfig(version=1, config=RemoteConfig(fps=3.0))))
    with program(tmp_path, service, "") as sensor:
        until(lambda: len(service.reports) >= 2, sensor)
        memory = json.loads((tmp_path / "state" / CARE_FILE).read_text())
    first, second = service.reports[:2]
    assert (first.trying_version, second.trying_version) == (None, 1)
    assert memory["starts"] == 1
    assert len(second.locks) == len(first.locks) > 5
    assert {lock.name: lock.holds for lock in second.locks} == {lock.name: lock.holds for lock in first.locks}
    text = (tmp_path / "log").read_text()
    assert text.count("counting: hall-3") == 2
    assert "configuration 1 is on trial" in text


def test_with_remote_care_off_only_counts_leave_and_only_the_file_holds(tmp_path: Path) -> None:
    service = CaringService(CareOrder(config=VersionedConfig(version=2, config=RemoteConfig(fps=3.0))))
    state = tmp_path / "state"
    state.mkdir()
    closed = RemoteConfig(hours=RemoteHours.model_validate(dict.fromkeys(DAYS, ())))
    kept = {"kept": VersionedConfig(version=1, config=closed).model_dump(mode="json", exclude_none=True)}
    (state / CARE_FILE).write_text(json.dumps(kept))
    always = "".join(f'{day} = ["00:00-24:00"]\n' for day in DAYS)
    with program(tmp_path, service, f'interval = 1\ncare.enabled = false\n[hours]\nzone = "UTC"\n{always}') as sensor:
        until(lambda: len(service.stored) >= 2, sensor)
        told = subprocess.run(
            [sys.executable, "-m", "headroom", "sensor", "status", "--state", str(state)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert "remote care: off" in told.stdout
    assert service.reports == []
    assert json.loads((state / CARE_FILE).read_text()) == kept
    assert (tmp_path / "log").read_text().count("remote care is off") == 1
