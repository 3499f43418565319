"""Work that goes on in the event loop for as long as a context lasts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def background(work: Callable[[], Coroutine[Any, Any, None]], *, wanted: bool = True) -> AsyncIterator[None]:
    """Run `work` beside the context, if that is `wanted`; it is cancelled, and has ended, when the context ends."""
    task = asyncio.create_task(work()) if wanted else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.result()
