"""``headroom sensor validate``."""

from __future__ import annotations

import ipaddress
import json
import time
from pathlib import Path

import click
from rich.console import Console

from counter.validation.collect import CollectError, Collector
from counter.validation.data import DataError, Window, load_window, save_window
from counter.validation.language import LANGUAGES, Language
from counter.validation.pages import as_html, as_table
from counter.validation.presence import NEAR_SECONDS, compare
from counter.validation.report import Findings, as_json
from counter.validation.server import TallyPage
from counter.validation.statistics import (
    DEFAULT_ALPHA,
    DEFAULT_INTERVAL,
    DEFAULT_MARGIN,
    DEFAULT_TOLERANCE,
    Verdict,
    evaluate,
)
from uplink.identity import state_folder
from uplink.keyfiles import write_atomic

_LOOK_SECONDS = 2.0
_PATIENCE_SECONDS = 90.0


@click.command(
    epilog="""\b
Examples:
  headroom sensor validate --listen 192.0.2.20:8180 --minutes 30 --html report.html
  headroom sensor validate --listen 192.0.2.20:8180 --margin 3 --save hall-3.json
  headroom sensor validate --from hall-3.json --tolerance 1.5 --json | jq .verdict
  headroom sensor validate --from hall-3.json --language nl --html rapport.html

Exit code 0: the bias was shown to lie inside the margin. 3: it was not (not passed, or too short to tell)."""
)
@click.option("--minutes", type=click.FloatRange(1, 720), default=30.0, show_default=True, help="Length of the window.")
@click.option(
    "--listen",
    metavar="ADDRESS:PORT",
    default="127.0.0.1:0",
    show_default=True,
    help="Where the tally page is served: the sensor's address in your network. By default this machine alone.",
)
@click.option("--sensor", "sensor_id", metavar="ID", help="Which sensor, where the board has several.")
@click.option(
    "--state",
    envvar="HEADROOM_STATE",
    show_envvar=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The running sensor's state folder. Default: /var/lib/headroom for root, ~/.local/state/headroom otherwise.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 60),
    default=DEFAULT_TOLERANCE,
    show_default=True,
    help="Seconds that a tap and an event may lie apart. Wider forgives slow thumbs, and mixes people up.",
)
@click.option(
    "--margin",
    type=click.FloatRange(0, 100, min_open=True, max_open=True),
    default=DEFAULT_MARGIN * 100,
    show_default=True,
    help="Bias agreed to be harmless, in percent. Smaller needs a longer window.",
)
@click.option(
    "--alpha",
    type=click.FloatRange(0, 0.5, min_open=True, max_open=True),
    default=DEFAULT_ALPHA,
    show_default=True,
    help="Risk of passing a sensor whose bias lies outside.",
)
@click.option(
    "--interval",
    type=click.FloatRange(10, 3600),
    default=DEFAULT_INTERVAL,
    show_default=True,
    help="Seconds of an interval for WAPE and bias.",
)
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="Keep both lists of events in this file.")
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Evaluate a saved window again.",
)
@click.option(
    "--html", "page", type=click.Path(dir_okay=False, path_type=Path), help="Write the report as an HTML page."
)
@click.option(
    "--language", type=click.Choice(LANGUAGES), default="en", show_default=True, help="Of the report: English or Dutch."
)
@click.option("--json", "as_document", is_flag=True, help="Print one JSON document on stdout.")
def validate(
    minutes: float,
    listen: str,
    sensor_id: str | None,
    state: Path | None,
    tolerance: float,
    margin: float,
    alpha: float,
    interval: float,
    save: Path | None,
    source: Path | None,
    page: Path | None,
    language: str,
    as_document: bool,
) -> None:
    """Compare the running sensor with a person who counts by hand.

    A person opens the printed address on a phone, stands where everybody who passes can be seen, and taps once for each
    person; or counts who is there, now and then, and types the number; or both. The page shows nothing of what the
    sensor counts. The report gives precision and recall of the events, WAPE per interval, the error in people present,
    and the signed biases with a test of equivalence: in words, whether the sensor passed.
    """
    for name, path in (("--save", save), ("--html", page)):
        if path is not None and not path.absolute().parent.is_dir():
            raise click.BadParameter(f"there is no folder {str(path.parent)!r}; create it first", param_hint=name)
    if source is not None:
        try:
            window = load_window(source)
        except DataError as error:
            raise click.BadParameter(str(error), param_hint="--from") from None
    else:
        window = _hold(minutes, listen, sensor_id, state_folder(state), tolerance)
    if save is not None:
        _write(lambda: save_window(window, save), save)
        # Kept before it is judged: half an hour of somebody's attention must not be lost to a typing error.
    result = evaluate(
        window.hand,
        window.sensor,
        window.start,
        window.end,
        tolerance=tolerance,
        interval=interval,
        margin=margin / 100,
        alpha=alpha,
    )
    presence = compare(window.hand_present, window.sensor_present, window.start, window.end, margin / 100, alpha)
    found = Findings(window.sensor_id, result, presence, window.coverage)
    _report(found, Language(language), page, as_document)
    if found.verdict is not Verdict.PASSED:
        raise SystemExit(3)


def _report(found: Findings, language: Language, page: Path | None, as_document: bool) -> None:
    if page is not None:
        _write(lambda: write_atomic(page, as_html(found, language).encode(), 0o644), page)
    if as_document:
        click.echo(json.dumps(as_json(found, language)))
    else:
        Console(highlight=False).print(as_table(found, language))


def _write(write: object, path: Path) -> None:
    assert callable(write)
    try:
        write()
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from None


def _hold(minutes: float, listen: str, sensor_id: str | None, state: Path, tolerance: float) -> Window:
    """Hold one window: serve the page, ask the agent, and put both lists together."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    host, port = _address(listen)
    try:
        collector = Collector(state, sensor_id)
    except CollectError as error:
        raise click.ClickException(str(error)) from None
    if not collector.look(counts=False):
        console.print(
            f"[yellow]{collector.sensor_id} does not count at this moment; headroom sensor status says why[/]"
        )
    try:
        page = TallyPage(host, port, name=collector.sensor_id, clock=time.time)
    except OSError as error:
        raise click.BadParameter(f"{listen} cannot be listened on: {error.strerror}", param_hint="--listen") from None
    page.seconds = minutes * 60
    try:
        console.print(f"Open on the phone: [bold]{page.url}[/]\nIt works on one device. Ctrl-C ends.")
        while not page.begun.wait(_LOOK_SECONDS):
            collector.look(counts=False)
        console.print(f"Counting for {minutes:g} min; the phone can finish earlier.")
        start, end = _watch(page, collector)
    except KeyboardInterrupt:
        if page.window is None:
            raise click.ClickException("nobody began to count") from None
        start, end = page.window[0], min(page.window[1], time.time())
    finally:
        page.close()
    collector.look(counts=False)
    if end - start < 1.0:
        raise click.ClickException("the window was over before it had begun; nothing can be said")
    events = collector.events(start - tolerance, end + tolerance)
    heads = page.tally.heads()
    near = [look for look in collector.present(start, end) if any(abs(look.t - one.t) <= NEAR_SECONDS for one in heads)]
    hand = tuple(page.tally.events())
    return Window(collector.sensor_id, start, end, hand, tuple(events), collector.coverage, tuple(heads), tuple(near))


def _watch(page: TallyPage, collector: Collector) -> tuple[float, float]:
    """Until the phone says that it has sent everything, or has been silent for too long after the end."""
    assert page.window is not None
    while not page.done.wait(_LOOK_SECONDS):
        now = time.time()
        if now < page.window[1]:
            collector.look()
        elif now > page.window[1] + _PATIENCE_SECONDS:
            break
    time.sleep(_LOOK_SECONDS)  # a person who is on the line settles on the other side within a second or so
    return page.window


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
        number = int(port)
        if not 0 <= number <= 65535:
            raise ValueError
    except ValueError:
        raise click.BadParameter(
            f"{listen!r} is not ADDRESS:PORT, e.g. 192.0.2.20:8180", param_hint="--listen"
        ) from None
    if address.is_unspecified or address.version == 6:
        raise click.BadParameter(
            f"{listen!r}: name the sensor's own IPv4 address in your network, not every address", param_hint="--listen"
        )
    return str(address), number
