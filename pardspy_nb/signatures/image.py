"""Images as inputs, for models that accept images."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..core.image_sources import current_image_sources
from ..core.loopback import is_public

_KINDS = {"PNG": "png", "JPEG": "jpeg", "GIF": "gif", "BMP": "bmp", "WEBP": "webp"}
_MOST_BYTES = 50_000_000  # of a file; endpoints take 20 MB at most


class Image:
    """An image: a path, a URL (`http:`, `https:` or `data:`), the bytes of a file, or a PIL image.

    Files and bytes are sent with the request; a URL is fetched by the endpoint. A path or a URL
    that stands in a row as text is used only as the options `image_root` and `image_hosts` allow.

    Args:
        source: as above.
        detail: `"low"`, `"high"` or `"auto"`, for endpoints that have this setting.

    Raises:
        ValueError: the source is not an image, its file does not exist, or its bytes are not PNG,
            JPEG, GIF, WebP or BMP.
    """

    def __init__(self, source: Any, *, detail: str | None = None) -> None:
        self.detail = detail
        self.source = source
        if isinstance(source, str | Path):
            if self._is_url:
                if (data := _data_of(str(source))) is not None:
                    _kind(data, "the data: URL")
                return
            path = Path(source).expanduser()
            if not path.is_file():
                raise ValueError(f"there is no image file {str(source)!r}")
            if path.stat().st_size > _MOST_BYTES:
                raise ValueError(f"{str(source)!r} has more than {_MOST_BYTES:,} bytes")
            _kind(path.read_bytes(), str(source))
        elif isinstance(source, bytes):
            _kind(source, "these bytes")
        elif not callable(getattr(source, "save", None)):
            raise ValueError(
                f"a {type(source).__name__} is not an image: pass a path, a URL, the "
                "bytes of a file, or a PIL image"
            )

    @property
    def _is_url(self) -> bool:
        return str(self.source).startswith(("http://", "https://", "data:"))

    @property
    def data(self) -> bytes | None:
        """The file's bytes; None for a URL."""
        if isinstance(self.source, str | Path):
            return None if self._is_url else Path(self.source).expanduser().read_bytes()
        if isinstance(self.source, bytes):
            return self.source
        file = io.BytesIO()
        self.source.save(file, format="PNG")
        return file.getvalue()

    @property
    def url(self) -> str:
        """The URL that is sent: the given one, or a `data:` URL with the file's bytes."""
        data = self.data
        if data is None:
            return str(self.source)
        kind = _kind(data, "the image")
        return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"

    @cached_property
    def digest(self) -> str:
        """The hash that identifies the image: over its data or its URL, and over `detail`."""
        data = self.data
        digest = hashlib.sha256(str(self.source).encode() if data is None else data)
        if self.detail is not None:
            digest.update(f"\0{self.detail}".encode())
        return digest.hexdigest()

    @property
    def part(self) -> dict[str, Any]:
        """The image as a part of a chat message."""
        detail = {} if self.detail is None else {"detail": self.detail}
        return {"type": "image_url", "image_url": {"url": self.url, **detail}}

    @classmethod
    def of(cls, value: Any) -> Image:
        """A value of a row as an `Image`. ValueError if it is none, or may not be used."""
        if isinstance(value, Image):
            return value
        if isinstance(value, str | Path):
            _check_source(str(value))
        return cls(value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        written = core_schema.plain_serializer_function_ser_schema(repr)
        return core_schema.no_info_plain_validator_function(cls.of, serialization=written)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Image) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        shown = self.source if isinstance(self.source, str | Path) else f"sha256 {self.digest[:12]}"
        return f"Image({str(shown)[:80]})"

    def _repr_html_(self) -> str:
        from html import escape

        return f'<img src="{escape(self.url)}" style="max-width:240px;max-height:240px">'


def _kind(data: bytes, what: str) -> str:
    """The format of an image file, which Pillow verifies: other files may begin like one."""
    import PIL.Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of very large images, which are not unpacked here
            with PIL.Image.open(io.BytesIO(data), formats=list(_KINDS)) as image:
                kind = _KINDS[str(image.format)]
                image.verify()
    except Exception:  # Pillow raises errors of many kinds for broken files
        raise ValueError(
            f"cannot use {what[:200]} as an image: not PNG, JPEG, GIF, WebP or BMP, or broken"
        ) from None
    return kind


def _check_source(source: str) -> None:
    """Refuse a path or a URL that stands in a row and may not be used. ValueError."""
    root, hosts = current_image_sources()
    if source.startswith("data:"):
        return
    if source.startswith(("http://", "https://")):
        host = urlsplit(source).hostname or ""
        if host not in hosts and not is_public(host):
            raise ValueError(
                f"the host {host!r} is not public: image_hosts={[host]!r} allows it, if the "
                "endpoint may fetch from there"
            )
        return
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", source):
        raise ValueError("a URL of an image begins with http://, https:// or data:")
    folder = (root or Path.cwd()).resolve()
    if not Path(source).expanduser().resolve().is_relative_to(folder):
        raise ValueError(
            f"the file is not below {str(folder)!r}: image_root= names the folder of the images"
        )


def _data_of(url: str) -> bytes | None:
    """The bytes in a `data:` URL, None for another URL. ValueError if it is no image's."""
    if not url.startswith("data:"):
        return None
    head, _, body = url.partition(",")
    if not head.startswith("data:image/") or not head.endswith(";base64"):
        raise ValueError("a data: URL of an image begins with data:image/…;base64,")
    try:
        return base64.b64decode(body, validate=True)
    except ValueError:
        raise ValueError("the data: URL is not valid base64") from None
