"""Images as inputs, for models that accept images."""

from __future__ import annotations

import base64
import hashlib
import io
from functools import cached_property
from pathlib import Path
from typing import Any

# the first bytes of each file format that endpoints accept
_KINDS = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
)


class Image:
    """An image: a path, a URL (`https:` or `data:`), the bytes of a file, or a PIL image.

    Files and bytes are sent with the request; a URL is fetched by the endpoint.

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
                return
            path = Path(source).expanduser()
            if not path.is_file():
                raise ValueError(f"there is no image file {str(source)!r}")
            with path.open("rb") as file:
                _kind(file.read(12), str(source))
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
        """The value as an `Image`."""
        return value if isinstance(value, Image) else cls(value)

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
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    found = next((kind for begins, kind in _KINDS if data.startswith(begins)), None)
    if found is None:
        raise ValueError(f"cannot use {what} as an image: not PNG, JPEG, GIF, WebP or BMP")
    return found
