"""``python -m models.training.train``: learn from shards, in two stages, going on from any checkpoint.

Stage ``stable`` keeps the rate constant, for as long as there is time; stage ``decay`` starts from a stable checkpoint
and lets the rate fall to nothing, which is what gives a model worth shipping. A stable run can go on afterwards.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Generator
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import options
from .data.augment import Example
from .data.mix import Mix, shards_in, twice
from .data.shards import Shards
from .distil import Copies
from .loss import detection_loss
from .matching import Matcher, letterbox
from .net import MEAN, SCALE, Detector, Size, cost, decode
from .teacher import Seen, Yolox

U8 = NDArray[np.uint8]

SIZES = {
    "tiny": [(192, 128), (256, 160), (256, 160)],
    "small": [(256, 160), (320, 192)],
    "mixed": [(256, 160), (320, 192), (320, 192), (416, 256)],
    "large": [(320, 192), (416, 256), (416, 256)],
    "full": [(416, 256)],
    "ship": [(320, 192), (416, 256), (416, 256), (512, 320)],
    "both": [(416, 256), (416, 256), (640, 384)],
}


class Average:
    """Moving average of the weights: what is evaluated and exported."""

    def __init__(self, net: Detector, decay: float = 0.998) -> None:
        self.net, self.decay, self.steps = deepcopy(net).eval(), decay, 0

    @torch.no_grad()
    def update(self, net: Detector) -> None:
        self.steps += 1
        keep = min(self.decay, self.steps / (self.steps + 20))
        mine, new = ([t for t in n.state_dict().values() if t.dtype.is_floating_point] for n in (self.net, net))
        torch._foreach_lerp_(mine, new, 1 - keep)


@dataclass(frozen=True)
class Batch:
    """Pictures ``[B, H, W, 3]``, people, boxes to leave out, and what the teacher sees."""

    images: U8
    people: list[Tensor]
    ignore: list[Tensor]
    seen: list[Seen]


class Prepare:
    """From examples to a batch, with the teacher's view of it."""

    def __init__(self, teacher: Yolox | None) -> None:
        self.teacher = teacher

    def __call__(self, batch: list[Example]) -> Batch:
        images = np.stack([e.image for e in batch])
        people = [torch.from_numpy(np.ascontiguousarray(e.boxes, np.float32)) for e in batch]
        ignore = [torch.from_numpy(np.ascontiguousarray(e.ignore, np.float32)) for e in batch]
        return Batch(images, people, ignore, self.teacher(images) if self.teacher else [])


def half_precision(device: torch.device) -> torch.autocast:
    """bfloat16 where it is fast: on a GPU, and on processors with AVX-512 (without it, seven to nine times slower)."""
    fast = device.type != "cpu" or "AVX512" in torch.backends.cpu.get_cpu_capability()
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)


def to_tensor(images: U8, device: torch.device) -> Tensor:
    """Pictures ``[B, 3, H, W]``, normalised."""
    x = (torch.from_numpy(images).permute(0, 3, 1, 2).float() - MEAN) * SCALE
    return x.to(device).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def average_precision(
    net: Detector, shards: Shards, count: int, size: tuple[int, int] = (416, 256)
) -> dict[str, float]:
    """AP at IoU 0.5 and by top-centre point, on held-out renderings."""
    matcher = Matcher()
    device = next(net.parameters()).device
    for k in range(min(count, len(shards))):
        sample = shards[k]
        image, scale, left, top = letterbox(sample.image, size)
        x = ((torch.from_numpy(image).permute(2, 0, 1)[None].float() - MEAN) * SCALE).to(device)
        with half_precision(device):
            maps = net(x)
        logits, boxes, _, _ = decode(maps)
        score, index = logits[0].sigmoid().topk(200)
        found = torch.cat([boxes[0][index], score[:, None]], 1).cpu().numpy()
        found[:, :4] = (found[:, :4] - [left, top, left, top]) / scale
        labels = sample.labels
        good = (labels[:, 9] >= 0.22) & ((labels[:, 3:5] - labels[:, 1:3]).min(1) * scale >= 5)
        matcher.add(found, labels[good, 1:5], labels[~good, 1:5])
    return matcher.summary()


def load(path: Path) -> dict[str, Any]:
    """A checkpoint of this program, or the small ``.npz`` that ships (weights alone)."""
    if path.suffix != ".npz":
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    with np.load(path) as file:
        everything = {n: torch.from_numpy(file[n].astype(np.float32)) for n in file.files}
    weights = {n: v for n, v in everything.items() if not n.startswith("copies.")}
    copies = {n.removeprefix("copies."): v for n, v in everything.items() if n.startswith("copies.")}
    return {
        **({"copies": copies} if copies else {}),
        "net": weights,
        "average": weights,
        "average_steps": 1000,
        "seen": 10**6,
        "iteration": 0,
    }


def save(path: Path, state: dict[str, Any]) -> None:
    temporary = path.with_suffix(".part")
    torch.save(state, temporary)
    os.replace(temporary, path)


@click.command(context_settings=options.HELP)
@click.option(
    "--shards",
    required=True,
    type=options.FOLDER,
    help="Folder of rendered shards; new ones are taken up as they appear.",
)
@click.option(
    "--real",
    default=None,
    type=options.FOLDER,
    help="Folder of shards of real frames (python -m models.training.label).",
)
@click.option(
    "--held-out",
    default=None,
    type=options.FOLDER,
    help="Folder of rendered shards for the curve.",
)
@click.option(
    "--teacher",
    default=None,
    type=options.FILE,
    help="YOLOX-Nano as ONNX (yolox_nano_416.onnx), to learn from what it sees beside the labels.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for checkpoints and log.jsonl.")
@click.option(
    "--resume",
    default=None,
    type=options.FILE,
    help="Checkpoint to go on from; default: OUT/last.pt when it is there.",
)
@click.option("--stage", default="stable", show_default=True, type=click.Choice(["stable", "decay"]))
@click.option("--iterations", default=20000, show_default=True, type=click.IntRange(1))
@click.option("--batch", default=16, show_default=True, type=click.IntRange(1))
@click.option("--sizes", default="mixed", show_default=True, type=click.Choice(list(SIZES)))
@click.option("--rate", default=1.5e-3, show_default=True, help="Learning rate (AdamW).")
@click.option("--real-share", default=0.25, show_default=True, type=click.FloatRange(0, 1))
@click.option("--mosaic-share", default=0.25, show_default=True, type=click.FloatRange(0, 1))
@click.option(
    "--again", is_flag=True, help="Learn from every batch a second time, later: where making batches costs much."
)
@click.option("--seed", default=1, show_default=True)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto: a GPU where there is one.")
@click.option("--threads", default=2, show_default=True, type=click.IntRange(1))
@click.option(
    "--save-every", default=150, show_default=True, type=click.IntRange(1), help="Iterations between checkpoints."
)
@click.option(
    "--check-every",
    default=600,
    show_default=True,
    type=click.IntRange(1),
    help="Iterations between points of the curve.",
)
def main(
    shards: Path, real: Path | None, held_out: Path | None, teacher: Path | None, out: Path, resume: Path | None,
    stage: str, iterations: int, batch: int, sizes: str, rate: float, real_share: float, mosaic_share: float,
    again: bool, seed: int, device: str, threads: int, save_every: int, check_every: int,
) -> None:  # fmt: skip
    """Train the detector.

    \b
    Example: python -m models.training.train --shards runs/shards --real runs/real --out runs/a
             python -m models.training.train --shards runs/shards --real runs/real --out runs/a-final \\
                 --resume runs/a/last.pt --stage decay --sizes full --iterations 2000
    """
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    last = out / "last.pt"
    start_from = last if last.exists() else resume
    torch.manual_seed(seed)
    where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    net = Detector(Size()).to(where, memory_format=torch.channels_last)
    average = Average(net, 0.998 if stage == "stable" else 0.99)  # a falling rate averages by itself
    copies = Copies(Size().neck).to(where, memory_format=torch.channels_last) if teacher else None
    learning = [*net.parameters(), *(copies.parameters() if copies else ())]
    groups = [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": 0.02},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99), fused=True)
    done, seen = 0, 0
    if start_from is not None:
        state = load(start_from)
        net.load_state_dict(state["net"])
        average.net.load_state_dict(state["average"])
        average.steps = int(state["average_steps"])
        seen = int(state["seen"])
        if copies is not None and "copies" in state:
            copies.load_state_dict(state["copies"])
        if "optimiser" in state and ("copies" in state) == (copies is not None):
            optimiser.load_state_dict(state["optimiser"])
        if start_from == last:
            done = int(state["iteration"])
    held = Shards(shards_in(held_out)) if held_out else None
    known = shards_in(shards)
    real_shards = Shards(shards_in(real), decoded=True) if real else None
    mix = Mix(Shards(known, decoded=True), real_shards, seed * 1000 + done, real_share, mosaic_share)
    parameters, multiply_adds = cost(net)
    log = out / "log.jsonl"

    def note(record: dict[str, Any]) -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        click.echo(json.dumps(record))

    note(
        {
            "start": done,
            "seen": seen,
            "shards": len(known),
            "pictures": len(mix.rendered),
            "real": len(real_shards or ()),
            "size": asdict(Size()),
            "parameters": parameters,
            "multiply_adds": multiply_adds,
            "stage": stage,
            "seed": seed,
        }
    )
    net.train()
    prepare = Prepare(Yolox(teacher) if teacher else None)

    def batches() -> Generator[Batch, None, None]:
        made = mix.batches(batch, SIZES[sizes], prepare)
        return twice(made) if again else made

    source = batches()
    sums: dict[str, float] = {}
    began, counted = time.process_time(), 0
    for iteration in range(done + 1, iterations + 1):
        if stage == "decay":
            lr = rate * max(0.5 * (1 + math.cos(math.pi * iteration / iterations)), 0.01)
        else:
            lr = rate * min(1.0, (iteration + seen / batch) / 300)
        for group in optimiser.param_groups:
            group["lr"] = lr
        examples = next(source)
        with half_precision(where):
            features = net.features(to_tensor(examples.images, where))
            maps = net.predict(features)
        loss, parts = detection_loss([m.float() for m in maps], examples.people, examples.ignore)
        if copies is not None:
            with half_precision(where):
                further, more = copies.loss(features, examples.seen)
            loss, parts = loss + further, parts | more
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(learning, 10.0)
        if torch.isfinite(norm):
            optimiser.step()
        average.update(net)
        seen += batch
        counted += 1
        for key, value in parts.items():
            sums[key] = sums.get(key, 0.0) + value
        if iteration % 20 == 0:
            note({"iteration": iteration, "seen": seen, **{k: round(v / counted, 4) for k, v in sums.items()},
                  "rate": round(lr, 6), "cpu_s": round(time.process_time() - began, 1)})  # fmt: skip
            sums, counted = {}, 0
        if iteration % save_every == 0 or iteration == iterations:
            save(last, {"net": net.state_dict(), "average": average.net.state_dict(), "average_steps": average.steps,
                        "optimiser": optimiser.state_dict(), "iteration": iteration, "seen": seen,
                        **({"copies": copies.state_dict()} if copies else {})})  # fmt: skip
            now = shards_in(shards)
            if len(now) > len(known):
                source.close()
                known = now
                mix = Mix(Shards(known, decoded=True), real_shards, seed * 1000 + iteration, real_share, mosaic_share)
                source = batches()
        if held is not None and (iteration % check_every == 0 or iteration == iterations):
            note({"iteration": iteration, "seen": seen, "held_out": average_precision(average.net, held, 150)})
    source.close()


if __name__ == "__main__":
    main()
