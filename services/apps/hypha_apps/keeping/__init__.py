"""What goes on by itself: whoever died is replaced, whatever nobody uses is stopped."""

from __future__ import annotations
