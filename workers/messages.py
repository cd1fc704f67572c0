"""What comes from the broker, as it came: taken out of kombu's hands before it parses or unpacks
anything, since whoever can reach the broker can write anything into its queues."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from queue import Empty
from struct import error as StructError
from typing import Any

from amqp import serialization
from amqp.exceptions import AMQPError

MOST_BYTES = 131_072  # of a message in Redis: its content is in base64 there
Content = tuple[Any, Any, Any]  # content type, headers, body


@dataclass(frozen=True, slots=True)
class Taken:
    """A message of a queue. `acknowledge` comes first; `read` never raises."""

    queue: str
    acknowledge: Callable[[], None]
    read: Callable[[], Content | None]


def divert(consumer: Any, receive: Callable[[Taken], None]) -> None:
    """Hand every message of kombu's `consumer` to `receive`. Before it begins to consume."""
    channel = consumer.channel
    if hasattr(channel, "_brpop_read"):
        channel.handlers["BRPOP"] = partial(_pop, channel, receive)
        # What we take is gone from Redis, so there is nothing to restore but what others planted.
        channel.qos.restore_visible = lambda *_, **__: None
    else:
        decoders: dict[int, Any] = serialization.PROPERTY_CLASSES
        decoders[serialization.Basic.CLASS_ID] = _properties
        consumer._receive_callback = partial(_delivered, receive)


def _pop(channel: Any, receive: Callable[[Taken], None], **options: Any) -> bool:
    """kombu's `_brpop_read`, which would also parse the message."""
    try:
        connection = channel.client.connection
        try:
            popped = channel.client.parse_response(connection, "BRPOP", **options)
        except channel.connection_errors:
            connection.disconnect()  # the next round connects again
            raise
        if not popped:
            raise Empty
        queue = popped[0].decode().rsplit(channel.sep, 1)[0]
        channel._queue_cycle.rotate(queue)
        receive(Taken(queue, lambda: None, partial(_from_redis, popped[1])))
        return True
    finally:
        channel._in_poll = None
        channel._flush_brpop_reauth()


def _from_redis(raw: bytes) -> Content | None:
    if len(raw) > MOST_BYTES:
        return None
    try:
        match json.loads(raw):
            case {"body": str(body), "content-type": kind, "headers": headers}:
                return kind, headers, base64.b64decode(body, validate=True)
    except (ValueError, RecursionError):
        pass
    return None


def _delivered(receive: Callable[[Taken], None], message: Any) -> None:
    info, properties = message.delivery_info, message.properties
    body = message.body.encode() if isinstance(message.body, str) else bytes(message.body)
    content = (properties.get("content_type"), properties.get("application_headers"), body)
    acknowledge = partial(message.channel.basic_ack, info["delivery_tag"])
    receive(Taken(info["routing_key"], acknowledge, lambda: content))


def _properties(buffer: Any, offset: int) -> tuple[dict[str, Any], int]:
    """Properties that cannot be read are none: an error here would cost the connection, and come
    back with the message."""
    try:
        return serialization.decode_properties_basic(buffer, offset)
    except (ValueError, LookupError, TypeError, ArithmeticError, OSError, RecursionError):
        return {}, offset
    except (StructError, AMQPError):
        return {}, offset
