"""Real records of slow storage operations, sent as OTLP over HTTP at a steady rate.

Every record has another number, in its time, by which a sink knows it. The bodies are made once and
only the numbers are changed, so that to send costs little beside what is measured.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import itertools
import pathlib
import random
import struct
import tempfile
import threading
import time

from doubles import delivery_sink, storage_tier
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData

from otel_oom.bpf.storage_events import StorageRequest
from otel_oom.pipeline.data import Batch
from otel_oom.receivers.storage import devices, encode, requests, workloads
from otel_oom.receivers.storage.config import Config

_MS = 1_000_000
_VDA = 254 << 20
_CONNECTIONS = 10
_AGAIN_S = 0.05
_TIMEOUT_S = 60.0


@dataclasses.dataclass(frozen=True)
class Sent:
    """What was sent, each until it was accepted."""

    records: int
    seconds: float
    refused: int
    """Requests that were refused, and sent again."""

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.records / self.seconds


class Template:
    """An export request of `records` records, whose numbers can be set."""

    def __init__(self, records: int) -> None:
        message = _batch(records).data
        assert isinstance(message, LogsData)
        found = [
            record
            for resource in message.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]
        marks = [0xA5A5_A5A5_0000_0000 + number for number in range(len(found))]
        for record, mark in zip(found, marks, strict=True):
            record.time_unix_nano = mark
        self._body = bytearray(message.SerializeToString())
        self._places = [self._body.index(struct.pack("<Q", mark)) for mark in marks]
        self.records = len(found)
        self.bytes = len(self._body)

    def numbered(self, first: int) -> bytes:
        """The body with the numbers from `first` on."""
        body = self._body.copy()
        for number, place in enumerate(self._places, delivery_sink.FIRST_NS + first):
            struct.pack_into("<Q", body, place, number)
        return bytes(body)


def _batch(records: int) -> Batch:
    """What the receiver `storage` makes of so many slow requests in 16 cgroups."""
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        host = storage_tier.Host(root)
        host.disk("vda", _VDA)
        (root / "proc/self/mountinfo").write_text("29 1 254:1 / / rw - ext4 /dev/vda1 rw\n")
        cgroups = [host.cgroup(f"/kubepods/pod{number}") for number in range(16)]
        known = workloads.Workloads(root)
        reporter = requests.Reporter(root, Config(), known, devices.Devices(root))
        found = []
        for number in range(records):
            start, waited = number * _MS, chance.randrange(_MS)
            times = (start, start + waited, start + waited + chance.randrange(20, 90) * _MS)
            where = (chance.randrange(1 << 31), chance.randrange(1 << 20), _VDA | 1, _VDA)
            raw = StorageRequest(*times, cgroups[number % 16], *where, number % 2, 1, 4096, 0)
            found.append(reporter.report(raw))
        encoder = encode.Encoder(boot_id="boot", version="1", cgroup_path=known.path)
        return encoder.batches([slow for slow in found if slow], 10**18, 10**18)[0]


class Load:
    """Requests at a steady rate, each at its time or as soon as a connection is free."""

    def __init__(self, port: int, template: Template, rate: float) -> None:
        """To `/v1/logs` of a port on loopback, `rate` records a second."""
        self._port, self._template = port, template
        self._interval_s = template.records / rate
        self._numbers = itertools.count()
        self._refused: list[int] = []

    def send(self, records: int) -> Sent:
        """Send so many, and return once the last was accepted."""
        requests_ = records // self._template.records
        start_s = time.monotonic()
        workers = [
            threading.Thread(target=self._work, args=(requests_, start_s))
            for _ in range(_CONNECTIONS)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        seconds = time.monotonic() - start_s
        return Sent(requests_ * self._template.records, seconds, len(self._refused))

    def _work(self, requests_: int, start_s: float) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT_S)
        with contextlib.closing(connection):
            while (number := next(self._numbers)) < requests_:
                body = self._template.numbered(number * self._template.records)
                time.sleep(max(0.0, start_s + number * self._interval_s - time.monotonic()))
                while not _is_accepted(connection, body):
                    self._refused.append(number)
                    time.sleep(_AGAIN_S)


def _is_accepted(connection: http.client.HTTPConnection, body: bytes) -> bool:
    connection.request("POST", "/v1/logs", body, {"Content-Type": "application/x-protobuf"})
    answer = connection.getresponse()
    answer.read()
    return answer.status == http.client.OK
