"""The table of room times that ends a run."""

from collections.abc import Sequence

from rich.table import Table

from services.offline.timing import RoomTime


def time_table(times: Sequence[RoomTime], loading: Sequence[RoomTime]) -> Table:
    """Lay out the time of each room, against the audio it handled, and of loading them all."""
    table = Table(box=None, pad_edge=False)
    table.add_column("room")
    for column in ("wall s", "CPU s", "audio s", "RTF"):
        table.add_column(column, justify="right")
    for time in times:
        audio = f"{time.audio_s:.2f}" if time.audio_s else ""
        rtf = f"{time.rtf:.3f}" if time.rtf is not None else ""
        table.add_row(time.room, f"{time.wall_s:.2f}", f"{time.cpu_s:.2f}", audio, rtf)
    wall_s, cpu_s = sum(time.wall_s for time in loading), sum(time.cpu_s for time in loading)
    table.add_row("loading", f"{wall_s:.2f}", f"{cpu_s:.2f}")
    return table
