"""The commands: `python -m services.local up | down | status | address | run COMMAND`."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from services.local.processes import session_memory_bytes
from services.local.readiness import probe
from services.local.record import birth_ticks, check_nothing_runs, read_record
from services.local.settings import LocalSettings, read_local_settings
from services.local.system import LocalSystem
from services.shared.errors import DeadlineExceededError, RoomUnavailableError, StepAudioError
from services.shared.triton import POOLS

app = typer.Typer(help="The whole system on this machine.", no_args_is_help=True, add_completion=False)

_POLL_S: Final = 0.2
_STOP_TIMEOUT_S: Final = 30.0
_PROBE_TIMEOUT_S: Final = 10.0


@app.command()
def up(
    detach: Annotated[bool, typer.Option(help="Return once it is ready, and leave it running.")] = False,
    pool: Annotated[
        list[str] | None, typer.Option(help="Start only the rooms of this pool; may be given several times.")
    ] = None,
) -> None:
    """Start the system; in the foreground it runs until Ctrl-C."""
    pools = tuple(pool or ())
    try:
        settings = read_local_settings()
        if detach:
            _start_detached(settings, pools)
        else:
            asyncio.run(_run(LocalSystem(settings, notify=typer.echo, pools=pools or POOLS, rooms_only=bool(pools))))
    except* StepAudioError as errors:
        for error in _flat(errors):
            typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


@app.command()
def down() -> None:
    """Stop the system that runs from the run folder."""
    record = read_record(read_local_settings().run_folder)
    if record is None:
        typer.echo("nothing runs")
        return
    os.kill(record.pid, signal.SIGTERM)
    deadline_s = time.monotonic() + _STOP_TIMEOUT_S
    while birth_ticks(record.pid) == record.born:
        if time.monotonic() > deadline_s:
            os.kill(record.pid, signal.SIGKILL)  # the kernel then ends the servers
        time.sleep(_POLL_S)
    typer.echo("stopped")


@app.command()
def status() -> None:
    """Ask every part for an answer, and show what it uses."""
    record = read_record(read_local_settings().run_folder)
    if record is None:
        typer.echo("nothing runs")
        raise typer.Exit(1)
    healthy, total_mib = record.ready, 0.0
    for server in record.servers:
        try:
            asyncio.run(probe(server.name, server.address, timeout_s=_PROBE_TIMEOUT_S))
            state = "works"
        except StepAudioError as error:
            state, healthy = f"fails: {error}", False
        memory_mib = session_memory_bytes(server.pid) / 2**20
        total_mib += memory_mib
        typer.echo(f"{server.name:12} {server.address:16} pid {server.pid:<8} {memory_mib:5.0f} MiB  {state}")
    typer.echo(f"{'together':12} {'':16} {'':12} {total_mib:5.0f} MiB")
    raise typer.Exit(0 if healthy else 1)


@app.command()
def address() -> None:
    """Print where callers speak to the system that runs, and nothing else."""
    record = read_record(read_local_settings().run_folder)
    if record is None or record.api_address is None or not record.ready:
        typer.echo("no system for callers runs, or it is not ready; start it with `up`", err=True)
        raise typer.Exit(1)
    typer.echo(record.api_address)


@app.command(context_settings={"ignore_unknown_options": True})
def run(command: Annotated[list[str], typer.Argument(help="What to run, with its arguments.")]) -> None:
    """Run a command against the system: one that runs already, or one that is started for it and stopped again.

    The command finds the system's address in STEPAUDIO_SERVER; its exit code is this one's.
    """
    settings = read_local_settings()
    record = read_record(settings.run_folder)
    started = record is None
    try:
        if started:
            _start_detached(settings, ())
            record = read_record(settings.run_folder)
        if record is None or record.api_address is None:
            raise RoomUnavailableError("the system that runs here takes no callers; stop it first")
        environment = {**os.environ, "STEPAUDIO_SERVER": record.api_address}
        code = subprocess.run(command, env=environment, check=False).returncode
    except (StepAudioError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        code = 1
    finally:
        if started:
            down()
    raise typer.Exit(code)


async def _run(system: LocalSystem) -> None:
    """Run the system until a signal, or until it cannot be started."""
    asked_to_stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, asked_to_stop.set)
    try:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(_start_and_watch(system))
            await asyncio.wait({running, group.create_task(asked_to_stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
            running.cancel()
    finally:
        typer.echo("stopping")
        system.stop()


async def _start_and_watch(system: LocalSystem) -> None:
    started_s = time.monotonic()
    await system.start()
    typer.echo(f"ready after {time.monotonic() - started_s:.1f} s")
    await system.watch()


def _start_detached(settings: LocalSettings, pools: tuple[str, ...]) -> None:
    """Run `up` in a process of its own and show what it says until it is ready."""
    check_nothing_runs(settings.run_folder)  # before the log of what runs is opened anew
    settings.run_folder.mkdir(parents=True, exist_ok=True)
    log = settings.run_folder / "launcher.log"
    with log.open("wb") as output:
        launcher = subprocess.Popen(
            [sys.executable, "-m", "services.local", "up", *(f"--pool={pool}" for pool in pools)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _follow_until_ready(launcher, log, settings)
    except BaseException:  # Ctrl-C among them: what never became ready is not left running
        launcher.terminate()
        launcher.wait()
        raise


def _follow_until_ready(launcher: subprocess.Popen[bytes], log: Path, settings: LocalSettings) -> None:
    deadline_s = time.monotonic() + settings.ready_timeout_s
    with log.open(encoding="utf-8") as said:
        while True:
            record = read_record(settings.run_folder)
            is_ready = record is not None and record.ready and record.pid == launcher.pid
            has_ended = launcher.poll() is not None
            typer.echo(said.read(), nl=False)
            if is_ready:
                return
            if has_ended:
                raise RoomUnavailableError(f"the system did not start; {log} tells why")
            if time.monotonic() > deadline_s:
                raise DeadlineExceededError(
                    f"the system was not ready after {settings.ready_timeout_s:.0f} s; see {log}"
                )
            time.sleep(_POLL_S)


def _flat(errors: BaseExceptionGroup[StepAudioError]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in errors.exceptions:
        found += _flat(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


if __name__ == "__main__":
    app()
