from __future__ import annotations

from .layout import blob_key, check_path
from .sigv4 import Credentials, presign
from .store import BlobStore
from .stored import StoredBlob

__all__ = ["BlobStore", "Credentials", "StoredBlob", "blob_key", "check_path", "presign"]
