"""Static files: compressed once, addressed by version, never changed under a browser that holds them.

The version is a folder of the address (`/static/~3f2a9c1d/js/dashboard.js`), not a query, so that a module's relative
imports carry it too and every file of one version can be kept for ever.
"""

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path

from flask import Response, request

from pulse.errors import NotFound

FOREVER = "public, max-age=31536000, immutable"
REVALIDATE = "no-cache"

_TYPES = {".js": "text/javascript", ".svg": "image/svg+xml", ".css": "text/css", ".csv": "text/csv"}
_WORTH_COMPRESSING_BYTES = 400


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it is sent; `compressed` is None where gzip gains nothing."""

    body: bytes
    compressed: bytes | None
    content_type: str
    etag: str


def make_asset(body: bytes, name: str) -> Asset:
    """Compress and fingerprint `body`; the type follows from the suffix of `name`."""
    kind = _TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    if kind.startswith("text/") or kind.endswith("+xml"):
        kind += "; charset=utf-8"
    squeezed = gzip.compress(body, 9, mtime=0) if len(body) >= _WORTH_COMPRESSING_BYTES else None
    return Asset(body, squeezed, kind, hashlib.sha256(body).hexdigest()[:20])


def send_asset(asset: Asset, cache_control: str) -> Response:
    """Answer with the asset, gzipped for who takes it, or with 304 for who has it."""
    response = Response(asset.body, content_type=asset.content_type)
    etag = asset.etag
    if asset.compressed is not None:
        response.vary.add("Accept-Encoding")
        if request.accept_encodings["gzip"] > 0:
            response.set_data(asset.compressed)
            response.content_encoding = "gzip"
            etag += "-gzip"  # each encoding is a representation of its own
    response.set_etag(etag)
    response.headers["Cache-Control"] = cache_control
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.make_conditional(request)
    return response


class Assets:
    """The files of one folder, read when first asked for and again when they change.

    Holds at most the folder's files in memory, each plain and gzipped (about 150 KB in all).
    """

    def __init__(self, folder: Path, *, immutable: bool) -> None:
        self._folder = folder.resolve()
        self._immutable = immutable
        self._held: dict[str, tuple[int, Asset]] = {}
        self.version = self._fingerprint()

    def url(self, name: str) -> str:
        """The address of a file in this version."""
        return f"/static/~{self.version}/{name}"

    def send(self, name: str, version: str | None = None) -> Response:
        """Answer with a file of the folder. Raises NotFound for any other name."""
        current = self._immutable and version == self.version
        return send_asset(self._load(name), FOREVER if current else REVALIDATE)

    def _load(self, name: str) -> Asset:
        path = self._folder if "\0" in name else (self._folder / name).resolve()
        if not path.is_relative_to(self._folder) or not path.is_file():
            raise NotFound("There is no such file.")
        changed_at_ns = path.stat().st_mtime_ns
        held = self._held.get(name)
        if held is None or held[0] != changed_at_ns:
            held = changed_at_ns, make_asset(path.read_bytes(), name)
            self._held[name] = held
        return held[1]

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for path in sorted(path for path in self._folder.rglob("*") if path.is_file()):
            digest.update(path.relative_to(self._folder).as_posix().encode() + b"\0" + path.read_bytes())
        return digest.hexdigest()[:8]


def strip_comment_lines(source: str) -> str:
    """Drop indentation, empty lines and lines that hold only a `//` comment."""
    lines = (line.strip() for line in source.splitlines())
    return "".join(f"{line}\n" for line in lines if line and not line.startswith("//"))


def chart_version() -> str:
    """The version of the package that ships Chart.js."""
    return metadata.version("chartkick")


def load_chart() -> Asset:
    """Chart.js with its date adapter, out of the installed chartkick package (MIT); 60 ms to compress, once."""
    bundle = resources.files("chartkick").joinpath("django", "static", "chartkick", "Chart.bundle.js")
    return make_asset(bundle.read_bytes(), "chart.js")
