"""A replica without Ray: `python -m services.orchestrator`, until SIGTERM or SIGINT. A composition root.

It runs on uvloop, as Ray's workers do.
"""

import asyncio
import logging
import signal
import sys
from typing import Final

import uvloop

from services.orchestrator.config import read_settings
from services.orchestrator.replica import Replica, settle_memory
from services.shared.errors import StepAudioError
from services.shared.telemetry.logs import configure_logs

_LOG: Final = logging.getLogger("services.orchestrator")


async def _run() -> None:
    settings = read_settings()
    configure_logs(settings.log_level, file=settings.log_file)
    asked_to_stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, asked_to_stop.set)
    async with Replica(settings) as replica:
        settle_memory()
        await asked_to_stop.wait()
        await replica.drain(settings.drain_grace_s)


def main() -> int:
    """Run one replica; 1 if it cannot start."""
    configure_logs("INFO")  # until the settings say otherwise
    try:
        uvloop.run(_run())
    except StepAudioError as error:
        _LOG.critical("cannot start", extra={"reason": str(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
