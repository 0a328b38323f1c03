"""A chat endpoint that is not the bottleneck: a bare protocol, each answer after a fixed delay.

    python benchmarks/server.py DELAY_MS

prints its port on one line. An answer names the row of its request (`row-17` in the last
message), so that a client can be checked; `GET /stats` tells how many requests came, how many
of them were open at once, and starts counting anew.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys

ROW = re.compile(rb"row-(\d+)(?!.*row-\d)", re.DOTALL)
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
LABELS = ("positive", "neutral", "negative")


def label_of(number: int) -> str:
    return LABELS[number % 3]


def answer_to(body: bytes) -> bytes:
    found = ROW.search(body)
    number = int(found.group(1)) if found else 0
    content = json.dumps({"sentiment": label_of(number), "reason": f"because of row-{number}"})
    return json.dumps({
        "id": f"chatcmpl-{number}", "object": "chat.completion", "created": 1, "model": "mock",
        "choices": [{"index": 0, "finish_reason": "stop", "logprobs": None,
                     "message": {"role": "assistant", "content": content, "refusal": None}}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }).encode()  # fmt: skip


class Stats:
    requests = open = most = 0


class Chat(asyncio.Protocol):
    delay_s = 0.05

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
                self._write(json.dumps({"requests": Stats.requests, "most": Stats.most}).encode())
                Stats.requests = Stats.most = 0
                continue
            Stats.requests += 1
            Stats.open += 1
            Stats.most = max(Stats.most, Stats.open)
            asyncio.get_running_loop().call_later(self.delay_s, self._answer, body)

    def _answer(self, body: bytes) -> None:
        Stats.open -= 1
        self._write(answer_to(body))

    def _write(self, body: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
                % len(body) + body
            )  # fmt: skip


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
        runner.run(main(float(sys.argv[1])))
