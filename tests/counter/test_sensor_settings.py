"""sensor.toml: every error names file, field and value; what init writes is read back."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from counter.agent.schedule import Hours, HoursException
from counter.agent.settings import (
    CameraSettings,
    HealthSettings,
    SensorSettings,
    SettingsError,
    WorkSettings,
    load_settings,
    parse_settings,
)
from counter.agent.template import render

CAMERA = '[[camera]]\nsource = "/dev/video0"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["sensor.toml", "camera is missing", "[[camera]]"]),
        ("interval = 7\n" + CAMERA, ["sensor.toml: interval = 7", "divide an hour"]),
        ("interval = 0\n" + CAMERA, ["interval = 0", "greater than or equal to 1"]),
        ("intervall = 60\n" + CAMERA, ["intervall = 60", "did you mean interval"]),
        (CAMERA + "fps = 200.0", ["camera[0].fps = 200.0", "less than or equal to 60"]),
        (CAMERA + "fsp = 5", ["camera[0].fsp = 5", "did you mean fps"]),
        (CAMERA + 'sensor_id = "Hall 3"', ["camera[0].sensor_id = Hall 3", "small letters, digits and hyphens"]),
        (CAMERA + 'scene = "none.toml"', ["camera[0].scene = none.toml", "there is no such file"]),
        (
            CAMERA + '[[camera.scene.lines]]\nname="d"\nstart=[0,2]\nend=[1,1]',
            ["camera[0].scene.lines[0].start[1] = 2"],
        ),
        (CAMERA + CAMERA, ["camera[0].sensor_id is missing"]),
        (2 * (CAMERA + 'sensor_id = "a"\n'), ["camera[1].sensor_id", "given twice"]),
        (CAMERA + '[hours]\nzone = "Mars"', ["hours.zone = Mars", "no such time zone"]),
        (CAMERA + '[hours]\nmon = ["7-22"]', ["hours.mon[0] = 7-22", "HH:MM-HH:MM"]),
        (CAMERA + "[hours]\nmonday = []", ["hours.monday", "did you mean mon"]),
        (CAMERA + "[work]\nwarm = 90.0", ["work", "hot 85 must be above warm 90"]),
        (CAMERA + "[health]\nblocked = 2.0", ["health.blocked = 2.0"]),
        ("camera = 3", ["camera = 3"]),
        ('[camera]\nsource = "/dev/video0"\n', ["two brackets", "[[camera]]"]),
        ("[[camera]]\nsource = /dev/video0\n", ["line 2", "a text stands in quotes"]),
        ("[[camera]]\nsource = 0\n", ["camera[0].source = 0", "in quotes"]),
        ('[[camera]]\nsource = ""\n', ['camera[0].source = ""', "must not be empty"]),
        (CAMERA + 'model = ""', ['camera[0].model = ""', "must not be empty"]),
        (CAMERA + 'size = "1280x720"', ["camera[0].size = 1280x720", "[1280, 720]"]),
        (CAMERA + "scene = 3", ["camera[0].scene = 3", "scene.toml"]),
        (CAMERA + "interval = 30", ["camera[0].interval = 30", "above the first table"]),
        ("fps = 5.0\n" + CAMERA, ["fps = 5.0", "below [[camera]]"]),
        (
            '[[camera]]\nsource = "0"\nsensor_id = "a"\n' + CAMERA + 'sensor_id = "b"\n',
            ["camera[1].source", "/dev/video0 is given twice"],
        ),
        ("".join(f'[[camera]]\nsource = "{i}"\nsensor_id = "a{i}"\n' for i in range(17)), ["camera", "16 at most"]),
        (CAMERA + '[hours]\nzone = "Europe/Amsterdm"', ["hours.zone", "did you mean Europe/Amsterdam"]),
        (CAMERA + '[hours]\nmon = "07:00-22:00"', ["hours.mon = 07:00-22:00", '["07:00-22:00"]']),
        (CAMERA + "[hours.exceptions]\nfirst = 2026-12-24", ["hours.exceptions", "[[hours.exceptions]]"]),
        (CAMERA + '[[hours.exceptions]]\nfirst = "24-12-2026"', ["exceptions[0].first", "without quotes"]),
        ("[[camera]\n", ["not valid TOML"]),
    ],
)
def test_errors_name_file_field_and_value(text: str, words: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings(text)
    for word in words:
        assert word in str(caught.value)


def test_a_password_in_an_address_is_in_no_error_and_no_name() -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings(f'[[camera]]\nsource = "rtsp://admin:hunter2@192.0.2.1/{"x" * 2000}"')
    assert "hunter2" not in str(caught.value)
    with pytest.raises(SettingsError) as caught:  # nor where the field's name is wrong
        parse_settings('[[camera]]\nsourse = "rtsp://admin:hunter2@192.0.2.1/"\nsource = "0"')
    assert "hunter2" not in str(caught.value)
    camera = parse_settings('[[camera]]\nsource = "rtsp://admin:hunter2@192.0.2.1/live?token=hunter2"').camera[0]
    assert camera.name == "rtsp://192.0.2.1/live"


def test_scenes_by_file_and_inline_and_rates_by_mode(tmp_path: Path) -> None:
    (tmp_path / "room.toml").write_text('mode = "room"\n')
    (tmp_path / "clip.mp4").write_bytes(b"")
    (tmp_path / "sensor.toml").write_text(
        '[[camera]]\nsensor_id = "a"\nsource = "clip.mp4"\nscene = "room.toml"\n'
        '[[camera]]\nsensor_id = "b"\nsource = "0"\nfps = 3.0\n'
        '[[camera.scene.lines]]\nname = "door"\nstart = [0.0, 0.5]\nend = [1.0, 0.5]\n'
    )
    room, door = load_settings(tmp_path / "sensor.toml").camera
    assert room.scene.mode == "room"
    assert room.source == str(tmp_path / "clip.mp4")
    assert (room.most_fps, room.least_idle_fps) == (2.0, 1.0)
    assert door.scene.lines[0].name == "door"
    assert (door.most_fps, door.least_idle_fps) == (3.0, 3.0)


def test_what_init_writes_is_read_back_and_its_comments_are_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "door.toml").write_text('mode = "door"\n')
    text = render("/dev/video0", "Europe/Berlin", "door.toml")
    assert max(len(line) for line in text.splitlines()) <= 120
    written = parse_settings(text, folder=tmp_path)
    assert written.hours.zone == "Europe/Berlin"
    # Every commented default, made active, is valid and changes nothing but what has no default.
    active = "\n".join(
        line[2:] if line.startswith("# ") and " = " in line and line[2:].split(" = ")[0].isidentifier() else line
        for line in text.splitlines()
        if not line.startswith(("# [[", "# first", "# last", "# windows"))
    )
    again = parse_settings(active, folder=tmp_path)
    assert (again.health, again.work, again.hours) == (written.health, written.work, written.hours)


@pytest.mark.parametrize("model", [SensorSettings, CameraSettings, HealthSettings, WorkSettings, Hours, HoursException])
def test_every_field_has_a_title(model: type[BaseModel]) -> None:
    assert all(info.title for info in model.model_fields.values())
