"""A chat endpoint that is not the bottleneck: a bare protocol, each answer after a fixed delay.

    python benchmarks/server.py DELAY_MS [faults]

prints its port on one line. An answer names the row of its request (`row-17` in the last
message), so that a client can be checked; `GET /stats` tells how many requests came, how many
of them were open at once, and starts counting anew. With `faults` 4 % of the rows meet a 429, 2 %
a 500 and 2 % a stall of 30 s, each on their first four attempts.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import Counter
from typing import Any

ROW = re.compile(rb"row-(\d+)(?!.*row-\d)", re.DOTALL)
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
LABELS = ("positive", "neutral", "negative")


def label_of(number: int) -> str:
    return LABELS[number % 3]


def answer_to(body: bytes) -> bytes:
    found = ROW.search(body)
    number = int(found.group(1)) if found else 0
    content = json.dumps({"sentiment": label_of(number), "reason": f"because of row-{number}"})
    return json.dumps(
        {
            "id": f"chatcmpl-{number}",
            "object": "chat.completion",
            "created": 1,
            "model": "mock",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "logprobs": None,
                    "message": {"role": "assistant", "content": content, "refusal": None},
                }
            ],
            "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
        }
    ).encode()


def fault_of(number: int, attempt: int) -> int:
    """The HTTP status a faulty row's attempt ends in, 0 for a stall, else 200."""
    if attempt > 4:
        return 200
    kinds = {3: 429, 28: 429, 7: 500, 11: 0}
    return kinds.get(number % 50, 200)


class Stats:
    requests = open = most = 0


class Chat(asyncio.Protocol):
    delay_s = 0.05
    faults: Counter[int] | None = None  # attempts by row

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, _, rest = self.buffer.partition(b"\r\n\r\n")
            found = LENGTH.search(head)
            length = int(found.group(1)) if found else 0
            if b"100-continue" in head:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if len(rest) < length:
                return
            body, self.buffer = rest[:length], rest[length:]
            if head.startswith(b"GET"):
                self._write(json.dumps(self.report()).encode())
                continue
            self._take(body)

    def report(self) -> dict[str, Any]:
        told = {"requests": Stats.requests, "most": Stats.most}
        Stats.requests = Stats.most = 0
        return told

    def _take(self, body: bytes) -> None:
        Stats.requests += 1
        Stats.open += 1
        Stats.most = max(Stats.most, Stats.open)
        status = self._status(body)
        delay_s = self.delay_s if status else 30.0
        asyncio.get_running_loop().call_later(delay_s, self._answer, body, status)

    def _status(self, body: bytes) -> int:
        found = ROW.search(body)
        if self.faults is None or found is None:
            return 200
        number = int(found.group(1))
        self.faults[number] += 1
        return fault_of(number, self.faults[number])

    def _answer(self, body: bytes, status: int) -> None:
        Stats.open -= 1
        if status in (200, 0):
            self._write(answer_to(body))
        else:
            self._write(b'{"error": {"message": "a fault"}}', status)

    def _write(self, body: bytes, status: int = 200) -> None:
        if not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
                % (status, len(body))
                + body
            )


async def main(delay_ms: float) -> None:
    Chat.delay_s = delay_ms / 1e3
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Chat, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        import uvloop

        loops = uvloop.new_event_loop
    except ImportError:
        loops = asyncio.new_event_loop
    with asyncio.Runner(loop_factory=loops) as runner:
        Chat.faults = Counter() if sys.argv[2:] == ["faults"] else None
        runner.run(main(float(sys.argv[1])))
