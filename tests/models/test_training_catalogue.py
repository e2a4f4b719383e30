"""Modelled furniture and people: libraries are read as they say, models have their size, and rooms hold them."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("numba", reason="the renderer needs numba (extra 'training')")

from models.training.render import CAST, Studio
from models.training.scenes.catalogue import Catalogue, read_entries
from models.training.scenes.furniture import Stock
from models.training.scenes.layouts import compose
from models.training.scenes.mesh import Builder
from models.training.scenes.picture import render
from models.training.scenes.poses import Pose

ENTRY = """
id#{n}=x
name#{n}={name}
model#{n}=/{path}
width#{n}={width}
depth#{n}={depth}
height#{n}={height}
doorOrWindow#{n}={door}
{more}
"""

# two faces coloured by their material, a triangle by a picture (corners as v/vt), and a face of glass
BLOCK = """
mtllib block.mtl
v 0 0 0
v 2 0 0
v 2 1 0
v 0 1 0
v 0 0 4
v 2 0 4
v 2 1 4
v 0 1 4
vt 0.25 0.25
vt 0.30 0.25
vt 0.30 0.30
usemtl plain
f 1 2 3 4
f -4 -3 -2 -1
usemtl painted
f 1/1 2/2 6/3
usemtl glass
f 3 4 8 7
"""
MATERIALS = """
newmtl plain
Kd 1 0 0
newmtl painted
map_Kd picture.png
newmtl glass
Kd 0 0 1
d 0.1
"""


def entry(n: int, name: str, path: str, size: tuple[float, float, float], door: bool = False, more: str = "") -> str:
    return ENTRY.format(
        n=n, name=name, path=path, width=size[0], height=size[1], depth=size[2], door=str(door).lower(), more=more
    )


def library(path: Path, properties: str, folders: tuple[str, ...]) -> Path:
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[4:] = (0, 255, 0)  # the lower half, where v is small, is green
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("PluginFurnitureCatalog.properties", properties)
        for folder in folders:
            file.writestr(f"{folder}/block.obj", BLOCK)
            file.writestr(f"{folder}/block.mtl", MATERIALS)
            file.writestr(f"{folder}/picture.png", cv2.imencode(".png", picture)[1].tobytes())
    return path


@pytest.fixture
def things(tmp_path: Path) -> Catalogue:
    text = (
        entry(1, "Chair", "a/block.obj", (45, 90, 50))
        + entry(2, "Plant", "a/block.obj", (40, 120, 40), more="modelRotation#2=0 0 1 0 1 0 -1 0 0")
        + entry(3, "Cup", "a/block.obj", (8, 10, 8))
        + entry(4, "Front door", "a/block.obj", (90, 210, 10), door=True)
        + entry(5, "Mannequin male", "a/block.obj", (50, 180, 40))
        + entry(6, "Wall lamp", "a/block.obj", (30, 40, 20), more="elevation#6=180")
        + entry(7, "Car", "a/block.obj", (180, 150, 420))
    )
    people = entry(1, "Male", "reallusion/male01/block.obj", (50, 180, 40)) + entry(
        2, "Sitting male", "reallusion/sitMale01/block.obj", (50, 130, 90)
    )
    return Catalogue([
        library(tmp_path / "things.sh3f", text, ("a",)),
        library(tmp_path / "people.sh3f", people, ("reallusion/male01", "reallusion/sitMale01")),
    ])  # fmt: skip


def test_models_are_sorted_by_their_use(things: Catalogue) -> None:
    assert [e.name for e in things.chairs] == ["Chair"]
    assert [e.name for e in things.floor] == ["Chair", "Plant"]
    assert [e.name for e in things.table] == ["Cup"]
    assert [e.name for e in things.large] == ["Car"]
    assert [e.name for e in things.standing] == ["Male"]
    assert [e.name for e in things.sitting] == ["Sitting male"]


def test_a_model_has_the_size_that_the_library_says_and_stands_on_the_floor(things: Catalogue) -> None:
    model = things.model(things.chairs[0])
    assert model is not None
    low, high = model.vertices.min(0), model.vertices.max(0)
    assert np.allclose(high - low, [0.45, 0.9, 0.5], atol=1e-5)
    assert np.allclose([low[0] + high[0], low[1], low[2] + high[2]], 0, atol=1e-5)


def test_colours_come_from_materials_and_pictures_and_glass_is_left_out(things: Catalogue) -> None:
    model = things.model(things.chairs[0])
    assert model is not None
    assert len(model.triangles) == 2 + 2 + 1  # two faces of two triangles, one painted triangle, no glass
    colours = model.parts[model.part_of][:, :3]
    assert (colours[:4, 0] > 0.7).all()
    assert (colours[:4, 1:] < 0.02).all()
    assert colours[4, 1] > 0.7
    assert colours[4, 0] < 0.02


def test_a_model_is_turned_before_it_is_measured(things: Catalogue) -> None:
    model = things.model(next(e for e in things.floor if e.name == "Plant"))
    assert model is not None
    assert np.allclose(np.ptp(model.vertices, axis=0), [0.4, 1.2, 0.4], atol=1e-5)


def test_a_model_that_is_too_fine_is_not_drawn(things: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.training.scenes.catalogue.MOST_TRIANGLES", 3)
    assert things.model(things.chairs[0]) is None
    builder = Builder()
    stock = Stock(np.random.default_rng(1), builder, 1, things)
    assert not stock.modelled(things.chairs[0], (0, 0, 0), 0.0)
    stock.chair(0, 0, 0.0)  # one of ours instead
    assert builder.count


def test_a_figure_sits_as_high_as_the_seat(things: Catalogue) -> None:
    figure = things.figure(things.sitting[0])
    assert figure is not None
    low, high = figure.posed(Pose(seat=0.45)), figure.posed(Pose(seat=0.54))
    assert np.allclose(high[:, 1], low[:, 1] * 1.2, atol=1e-5)
    assert figure.head_vertices.any()


@pytest.mark.parametrize("content", [b"", b"not a zip"])
def test_a_file_that_is_no_library_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.sh3f"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.sh3f.*furniture library"):
        read_entries(path)


@pytest.mark.footage
def test_rooms_hold_what_the_catalogue_has(things: Catalogue, data_folder: Path) -> None:
    """Some people are figures and are labelled like all others; the same seed gives the same bytes, with them too."""
    libraries = [e.library for e in (things.chairs[0], things.standing[0])]
    studio, again = (Studio(data_folder, 1, (192, 128), "lobby", 1.0, catalogue=libraries) for _ in range(2))
    pictures = [studio.picture(k) for k in range(6)]
    assert any(picture.people for picture in pictures)
    scenes = (compose(np.random.default_rng(k), (192, 128), studio.backdrops, CAST, "lobby") for k in range(40))
    alone = next(
        replace(scene, people=[who])
        for scene in scenes
        for who in scene.people
        if who.character < 0 and render(replace(scene, people=[who]), studio.cast, studio.backdrops, 1.0).people
    )
    (person,) = render(alone, studio.cast, studio.backdrops, 1.0).people
    assert 0 <= person.box[0] < person.box[2] <= 192
    assert 0 <= person.box[1] < person.box[3] <= 128
    assert pictures[3].image.tobytes() == again.picture(3).image.tobytes()
    plain = Studio(data_folder, 1, (192, 128), "lobby", 1.0)
    assert pictures[3].image.tobytes() != plain.picture(3).image.tobytes()


@pytest.mark.footage
def test_a_panorama_can_be_kept_out(data_folder: Path) -> None:
    assert "lab" not in Studio(data_folder, 1, without=("lab",)).backdrops.names
    assert "lab" in Studio(data_folder, 1).backdrops.names
