"""From the spool to the service: at least once on the wire, exactly once in the store.

One round of `Sender.step` posts one batch. Live counts come first: the newest records go out before the backlog, in
turns, so that a week's backlog neither delays today's rooms nor is starved by them.

========  =====================================================================================================
status    what the sender does
========  =====================================================================================================
200       with a valid signature and a count for each record: the spool forgets them. Otherwise as 5xx
409       sealed to a key that the service does not hold: the batch is put aside for an hour, not lost
400 413   the batch is halved; a single record that is still refused is put aside for an hour
422       (422 too: the service is older than the sensor)
429       wait, at least as long as ``Retry-After`` says
401       a signed one tells the service's time: sign again with it. Otherwise configuration, as 403
403 404   configuration: a person must look; tried again slowly
3xx ...   all other 3xx and 4xx: configuration
408 5xx   wait and try again, as when no answer comes at all
========  =====================================================================================================
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from pydantic import ValidationError

from uplink.backoff import Backoff, http_date, retry_after
from uplink.clock import Clock, SystemClock
from uplink.keyfiles import KeyFileError
from uplink.keys import SensorKey, unwrap_next_key
from uplink.messages import MAX_RECORDS_PER_BATCH, BatchAnswer
from uplink.signing import (
    ANSWER_HEADER,
    NEXT_KEY_HEADER,
    RequestSignature,
    SignatureError,
    sign_request,
    verify_answer,
)
from uplink.spool import Spool, SpoolBatch
from uplink.transport import Reply, Transport, TransportError

COUNTS_PATH = "/v1/counts"
LIVE_RECORDS = 60
ASIDE_SECONDS = 3_600.0
QUICK_TRIES = 24
SKEW_REPORTED = 30.0
_LOG = logging.getLogger(__name__)


class Result(StrEnum):
    """How one step ended."""

    IDLE = "idle"  # nothing waits
    SENT = "sent"  # the service answered for a batch
    AGAIN = "again"  # something was learned: try again at once
    LATER = "later"  # link or service is down or busy: try again after `Step.wait`
    CONFIGURATION = "configuration"  # a person must look; `Step.wait` is long


@dataclass(frozen=True, slots=True)
class Step:
    """What one round did."""

    result: Result
    records: int = 0
    wait: float = 0.0
    reason: str = ""


@dataclass(slots=True)
class SenderStatus:
    """For people and monitors. Moments are by the monotonic clock."""

    last_success: float | None = None
    last_error: str = ""
    batches: int = 0
    records: int = 0
    bytes_sent: int = 0
    failures: int = 0
    put_aside: int = 0
    clock_skew: float | None = None  # the service's clock less ours, seconds


class Sender:
    """Drains one spool to one service.

    Args:
        service_url: scheme, host and port.
        key: the sensor's key; `on_new_key` is told when the service hands over its next one.
    """

    def __init__(
        self,
        spool: Spool,
        service_url: str,
        key: SensorKey,
        transport: Transport,
        *,
        clock: Clock | None = None,
        backoff: Backoff | None = None,
        on_new_key: Callable[[SensorKey], None] | None = None,
    ) -> None:
        self._spool = spool
        self._url = service_url.rstrip("/") + COUNTS_PATH
        self._key = key
        self._transport = transport
        self._clock = clock or SystemClock()
        self._backoff = backoff or Backoff()
        self._on_new_key = on_new_key
        self._offset = 0.0  # the service's clock less ours, as proven by a signed answer
        self._limit = MAX_RECORDS_PER_BATCH
        self._aside: set[int] = set()
        self._aside_since = 0.0
        self._quick = 0  # rounds in a row that asked to be tried again at once
        self._live_next = True
        self.status = SenderStatus()

    def step(self) -> Step:
        """Post one batch and act on the answer. Never raises for what the network or the service does."""
        batch = self._choose()
        if batch is None:
            return Step(Result.IDLE)
        claim = sign_request(
            self._key,
            method="POST",
            path=COUNTS_PATH,
            body=batch.body,
            now=self._clock.time() + self._offset,
            content_type=batch.content_type,
            content_encoding=batch.content_encoding,
        )
        headers = {"Authorization": claim.header(), "Content-Type": batch.content_type, "Accept": "application/json"}
        if batch.content_encoding:
            headers["Content-Encoding"] = batch.content_encoding
        self.status.bytes_sent += len(batch.body)
        try:
            reply = self._transport.post(self._url, batch.body, headers)
        except TransportError as error:
            return self._later(str(error))
        return self._act(batch, claim, reply)

    def drain(self, *, attempts: int = 3) -> Step:
        """Send until nothing waits or `attempts` rounds in a row failed. Returns the last step."""
        failed = 0
        while True:
            step = self.step()
            if step.result is Result.SENT:
                failed = 0
            elif step.result is Result.IDLE or step.result is Result.CONFIGURATION:
                return step
            elif step.wait > 0.0 or step.result is Result.LATER:
                failed += 1
                if failed >= attempts:
                    return step
                self._clock.sleep(step.wait)

    def run(self, stop: threading.Event, *, idle_seconds: float = 1.0) -> None:
        """Send for ever, until `stop` is set. For a thread of the sensor's agent."""
        while not stop.is_set():
            step = self.step()
            if step.result is Result.IDLE:
                stop.wait(idle_seconds)
            elif step.wait > 0:
                stop.wait(step.wait)

    # -- what to send -------------------------------------------------------------------------------------------

    def _choose(self) -> SpoolBatch | None:
        """The newest records and the oldest in turns; a short queue is one batch anyway."""
        if self._aside and self._clock.monotonic() - self._aside_since > ASIDE_SECONDS:
            self._aside.clear()
            self.status.put_aside = 0
        backlog = len(self._spool) > min(self._limit, LIVE_RECORDS)
        newest, self._live_next = backlog and self._live_next, not self._live_next
        limit = min(self._limit, LIVE_RECORDS) if newest else self._limit
        return self._spool.next_batch(limit, newest=newest, skip=self._aside)

    # -- what the answer means ----------------------------------------------------------------------------------

    def _act(self, batch: SpoolBatch, claim: RequestSignature, reply: Reply) -> Step:
        proven = self._learn_time(claim, reply)
        self._learn_key(reply)
        status = reply.status
        if status == 200:
            return self._acknowledge(batch, reply) if proven else self._later("the answer is not signed by the service")
        detail = f"the service answered {status}"
        if status == 401 and proven:
            return self._again(f"{detail}: clocks differ by {self._offset:+.0f} s")
        if status == 409 and proven:
            return self._put_aside(batch, f"{detail}: it does not hold the key that these records are sealed to")
        if status in (400, 413, 422):
            return self._halve(batch, detail)
        if status == 429 or status == 408 or status >= 500:
            served = http_date(reply.headers.get("date")) or self._clock.time() + self._offset
            return self._later(detail, retry_after(reply.headers.get("retry-after"), served))
        return self._configuration(f"{detail}: check enrolment, address and version of sensor and service")

    def _acknowledge(self, batch: SpoolBatch, reply: Reply) -> Step:
        try:
            answer = BatchAnswer.model_validate_json(reply.body)
            self._spool.acknowledge(batch, answer)
        except (ValidationError, ValueError):
            return self._later("the answer does not speak of the records that were sent")
        self._backoff.reset()
        self._quick = 0
        if len(batch) >= self._limit:  # grow slowly: a proxy's small bound would refuse every other batch otherwise
            self._limit = min(MAX_RECORDS_PER_BATCH, self._limit + max(1, self._limit // 8))
        self.status.last_success = self._clock.monotonic()
        self.status.last_error = ""
        self.status.batches += 1
        self.status.records += len(batch)
        return Step(Result.SENT, len(batch))

    def _halve(self, batch: SpoolBatch, detail: str) -> Step:
        if len(batch) == 1:
            return self._put_aside(batch, detail)
        self._limit = max(1, len(batch) // 2)
        return self._again(detail)

    def _put_aside(self, batch: SpoolBatch, detail: str) -> Step:
        if not self._aside:
            _LOG.error("records are put aside for an hour: %s", detail)
        self._aside.update(batch.tickets)
        self._aside_since = self._clock.monotonic()
        self.status.put_aside = len(self._aside)
        return self._again(detail)

    def _again(self, reason: str) -> Step:
        """At once, as often as halving a batch needs; if that does not help, with back-off."""
        self.status.last_error = reason
        self.status.failures += 1
        self._quick += 1
        wait = 0.0 if self._quick <= QUICK_TRIES else self._backoff.after_failure()
        return Step(Result.AGAIN, wait=wait, reason=reason)

    def _later(self, reason: str, at_least: float = 0.0) -> Step:
        if self.status.last_error != reason:
            _LOG.warning("counts wait: %s", reason)
        self.status.last_error = reason
        self.status.failures += 1
        return Step(Result.LATER, wait=self._backoff.after_failure(at_least), reason=reason)

    def _configuration(self, reason: str) -> Step:
        if self.status.last_error != reason:
            _LOG.error("counts wait: %s", reason)
        self.status.last_error = reason
        self.status.failures += 1
        self._backoff.failures = max(self._backoff.failures, 6)
        return Step(Result.CONFIGURATION, wait=self._backoff.after_failure(60.0), reason=reason)

    def _learn_time(self, claim: RequestSignature, reply: Reply) -> bool:
        """Whether the service itself answered this very request. If so, believe its clock."""
        now = self._clock.time()
        try:
            served = verify_answer(
                self._key, claim, reply.headers.get(ANSWER_HEADER.lower()), status=reply.status, body=reply.body
            )
        except SignatureError:
            shown = http_date(reply.headers.get("date"))
            if shown is not None:
                self._report_skew(shown + 0.5 - now)  # for people only: nobody has proven it
            return False
        skew = served + 0.5 - now  # the service sends whole seconds
        self._offset = skew if abs(skew) > 1.5 else 0.0
        self._report_skew(skew)
        return True

    def _report_skew(self, skew: float) -> None:
        before = self.status.clock_skew
        self.status.clock_skew = skew
        if abs(skew) > SKEW_REPORTED and (before is None or abs(before) <= SKEW_REPORTED):
            _LOG.error("this sensor's clock is %+.0f s from the service's: its counts bear wrong times", -skew)

    def _learn_key(self, reply: Reply) -> None:
        sealed = reply.headers.get(NEXT_KEY_HEADER.lower())
        if sealed is None:
            return
        try:
            key = unwrap_next_key(self._key, sealed)
        except KeyFileError as error:
            _LOG.warning("the service handed over a key that does not open: %s", error)
            return
        try:
            if self._on_new_key is not None:
                self._on_new_key(key)  # first to the disk: a key that is only in RAM is gone with the power
        except OSError as error:
            _LOG.warning("the next key cannot be written (%s); the present one stays in use", error.strerror)
            return
        self._key = key
        _LOG.info("this sensor signs with key generation %d from now on", key.generation)
