from __future__ import annotations

from .blob_rows import Blob, BlobRows

__all__ = ["Blob", "BlobRows"]
