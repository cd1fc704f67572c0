"""Says what came into a stream of Redis or Valkey. An entry that is safe with Stroem is
acknowledged there.

Speaks the protocol itself, so that it needs nothing but Python; `pip install redis` does this
better.
"""

import json
import os
import socket
import sys
from contextlib import suppress

GROUP, CONSUMER = "stroem", "stroem"  # only one is alive, so it finds what its predecessor had


class Wrong(Exception):
    pass


class Redis:
    def __init__(self, address):
        if address.startswith("unix:"):
            line = socket.socket(socket.AF_UNIX)
            line.connect(address.removeprefix("unix:"))
        else:
            host, _, port = address.partition(":")
            line = socket.create_connection((host, int(port or 6379)))
        self.file = line.makefile("rwb")

    def ask(self, *words):
        self.file.write(b"*%d\r\n" % len(words))
        for word in map(str, words):
            self.file.write(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()))
        self.file.flush()
        return self.answer()

    def answer(self):
        line = self.file.readline()
        if not line:
            sys.exit("the server closed the connection")
        kind, text = line[:1], line[1:-2].decode()
        if kind == b"-":
            raise Wrong(text)
        if kind == b"$":
            return None if text == "-1" else self.file.read(int(text) + 2)[:-2].decode()
        if kind == b"*":
            return None if text == "-1" else [self.answer() for _ in range(int(text))]
        return text


redis, stream = Redis(os.environ["REDIS"]), os.environ["STREAM"]
with suppress(Wrong):  # it is there
    redis.ask("XGROUP", "CREATE", stream, GROUP, "0", "MKSTREAM")
start = "0"  # first what was read before and never acknowledged, then what is new
while True:
    words = ("XREADGROUP", "GROUP", GROUP, CONSUMER, "COUNT", 100, "BLOCK", 5000)
    found = redis.ask(*words, "STREAMS", stream, start)
    entries = found[0][1] if found else []
    if not entries:
        start = ">"
    for number, fields in entries:
        event = dict(zip(fields[::2], fields[1::2], strict=True))
        event["_event"] = {"id": number, "reply": True}
        print("OUTPUT:", json.dumps(event), flush=True)
        answer = sys.stdin.readline()
        if not answer.startswith("ok "):
            sys.exit(f"entry {number} was not taken: {answer.strip() or 'no answer'}")
        redis.ask("XACK", stream, GROUP, number)
