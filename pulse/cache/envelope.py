"""What is stored under a key: a value with its times, as msgpack."""

import math
import time
from typing import Any

import msgspec
from cachelib.serializers import BaseSerializer

# 0xc1 never begins a msgpack document, so a foreign value under our key is told apart; the second byte is the format.
MAGIC = b"\xc1\x01"


class Envelope(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A sealed value; `stored_at` and `fresh_until` are epoch seconds, `version` is what it was computed for."""

    stored_at: float
    fresh_until: float
    payload: msgspec.Raw
    version: float = 0.0

    def is_fresh(self, now: float) -> bool:
        """Whether the value's ttl has not passed at `now` (epoch seconds)."""
        return now < self.fresh_until

    def open(self) -> Any:
        """The value, decoded anew for each caller, so that no two share a mutable object.

        Raises: DecodeError, which only a value damaged in Redis can.
        """
        return _decode_value(self.payload)


_decode_value = msgspec.msgpack.Decoder().decode

# A payload is only skipped over when its envelope is decoded; damage inside it shows when it is opened.
DAMAGED = (msgspec.MsgspecError, ValueError, RecursionError)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Envelope).decode


def seal(value: Any, ttl_s: float, version: float = 0.0) -> Envelope:
    """Encode a value and stamp it.

    What msgpack has no type for comes back as the nearest plain one: a tuple as a list, a struct or dataclass as a
    dict, a UUID or Decimal as text.

    Raises: TypeError for a value that can't be encoded.
    """
    now = time.time()
    try:
        payload = _encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise TypeError(f"a cached value must be plain data, bytes or a msgspec struct: {error}") from error
    return Envelope(now, now + ttl_s, msgspec.Raw(payload), version)


class EnvelopeSerializer(BaseSerializer):
    """Flask-Caching's serializer for both sides.

    Its own default is pickle, which runs code of whoever can write to a shared Redis; msgpack only yields data.
    """

    def dumps(self, value: Envelope, protocol: int = 0) -> bytes:
        """The envelope's bytes."""
        return MAGIC + _encode(value)

    def loads(self, bvalue: bytes | None) -> Envelope | None:
        """The envelope, or None for nothing, another program's value, or one that is damaged."""
        if bvalue is None or bvalue[:2] != MAGIC:
            return None
        try:
            envelope = _decode(memoryview(bvalue)[2:])
        except DAMAGED:
            return None
        return envelope if math.isfinite(envelope.fresh_until) else None
