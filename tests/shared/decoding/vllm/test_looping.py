"""The engine's own loop: it runs elsewhere, and ends with all that ran on it."""

import asyncio
import threading
from concurrent.futures import CancelledError

import pytest

from services.shared.decoding.vllm.looping import LoopThread

pytestmark = pytest.mark.unit


async def where() -> str:
    return threading.current_thread().name


async def forever() -> None:
    await asyncio.Event().wait()


def test_jobs_run_on_the_loops_own_thread() -> None:
    loop = LoopThread("elsewhere")
    assert loop.submit(where()).result() == "elsewhere"
    loop.close()


def test_closing_cancels_what_still_runs() -> None:
    loop = LoopThread("elsewhere")
    running = loop.submit(forever())
    loop.close()
    with pytest.raises(CancelledError):
        running.result()
    assert "elsewhere" not in [thread.name for thread in threading.enumerate()]


def test_a_closed_loop_takes_no_job() -> None:
    loop = LoopThread("elsewhere")
    loop.close()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.submit(where())
