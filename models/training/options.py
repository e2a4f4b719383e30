"""Options that several commands of training share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
HELP = {"help_option_names": ["-h", "--help"]}


def data(holds: str) -> Any:
    """``--data``: the folder of footage, teachers and CC0 assets; ``holds`` says which parts are read."""
    return click.option(
        "--data",
        envvar="HEADROOM_DATA",
        required=True,
        type=FOLDER,
        help=f"Folder with {holds}; default: $HEADROOM_DATA.",
    )


held_out = click.option(
    "--held-out",
    "shards",
    required=True,
    type=FOLDER,
    help="Rendered shards of a seed that training has not seen.",
)
checkpoint = click.option(
    "--checkpoint", required=True, type=FILE, help="last.pt of training, or the small .npz that ships."
)
without = click.option(
    "--without", multiple=True, help="A panorama of backgrounds/ to leave out (training leaves out 'lab'); repeatable."
)
