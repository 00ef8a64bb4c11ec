"""Answers as the cache keeps them: encoded, gzipped, with their ETag, so that one that is kept is sent untouched."""

import gzip
import hashlib
from typing import Any

from flask import Response, request

from pulse.cache import Entry
from pulse.web import near
from pulse.web.http import COMPRESSED_FROM_BYTES, encode_data

# An ETag and a body, which is gzip where it is long; as a list when it comes from the cache.
Kept = tuple[str, bytes] | list[Any]

# Ends the keys of such answers: services of another release may share the Redis.
KEPT_FORM = "gz"

_GZIP = b"\x1f\x8b"


def keep(data: Any) -> tuple[str, bytes]:
    """Encode and gzip a successful answer: 25 kB take 0.7 ms and become a fifth."""
    body = encode_data(data)
    etag = hashlib.blake2b(body, digest_size=12).hexdigest()
    return etag, gzip.compress(body, 6, mtime=0) if len(body) > COMPRESSED_FROM_BYTES else body


def answer_kept(entry: Entry, *, max_age_s: int, namespace: str) -> Response:
    """Answer with what the cache holds of a report, or 304 to who holds it already."""
    kept: Kept = entry.value
    etag, body = kept
    near.offer(request.environ, str(request.url_rule), entry, namespace)
    packed = body.startswith(_GZIP)
    gzipped = packed and request.accept_encodings["gzip"] > 0
    headers = {
        "Cache-Control": f"private, max-age={max_age_s}",
        "X-Cache": entry.state,
        "Vary": "X-API-Key, Authorization, Cookie" + (", Accept-Encoding" if packed else ""),
        "ETag": f'W/"{etag}"' if gzipped else f'"{etag}"',  # weak: the same content in other bytes
    }
    if request.if_none_match.contains_weak(etag):
        return Response(status=304, headers=headers)
    if gzipped:
        headers["Content-Encoding"] = "gzip"
    elif packed:
        body = gzip.decompress(body)
    return Response(body, headers=headers, mimetype="application/json")
