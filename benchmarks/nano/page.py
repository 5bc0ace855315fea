"""A folder to look at and listen to: index.html with every clip, its spectrogram and what was heard, and the tables.

Decides: what stands on the page. Refuses to know: how anything was made. Pictures are written without a drawing
library: PNG is a header, deflated rows and checksums.
"""

import html
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.nano.asking import Outcome
from benchmarks.nano.judges import RATE_HZ
from services.shared.audio.files import write_wav

_FFT: Final = 512
_HOP: Final = 128
_FLOOR_DB: Final = -80.0
_ANCHORS: Final = np.array(  # dark blue, teal, green, yellow: lightness grows evenly
    [(13, 8, 60), (35, 70, 130), (33, 145, 140), (94, 201, 98), (253, 231, 37)], np.float64
)
_STYLE: Final = """
body { font: 15px sans-serif; margin: 2em auto; max-width: 75em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 }
td, th { border: 1px solid #ccc; padding: .3em .6em; text-align: left }
article { border-top: 1px solid #ccc; padding: .8em 0 } article.wrong h4 { color: #a00 }
h4 { margin: 0 0 .3em } p { margin: .2em 0 } img { display: block; height: 96px; margin: .3em 0 }
small { color: #666 }
"""


def write_page(folder: Path, outcomes: Sequence[Outcome], title: str, table: str) -> Path:
    """Write index.html, clips/ and pictures/ below `folder`; return the page's path."""
    for name in ("clips", "pictures"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    parts = list(dict.fromkeys((one.part, one.group) for one in outcomes if one.samples is not None or one.replied))
    sections = []
    for part, group in parts:
        members = [one for one in outcomes if (one.part, one.group) == (part, group)]
        articles = "\n".join(_article(folder, one) for one in members)
        sections.append(f"<details><summary><b>{_text(part)}</b>: {_text(group)}</summary>\n{articles}\n</details>")
    body = "\n".join([f"<h1>{_text(title)}</h1>", _html_table(table), *sections])
    page = folder / "index.html"
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{_text(title)}</title><style>{_STYLE}</style>'
    page.write_text(f"{head}\n{body}\n</html>\n", encoding="utf-8")
    return page


def _article(folder: Path, one: Outcome) -> str:
    said = {"own transcript": one.heard, "reply": one.replied, **one.judged, "fault": one.fault or None}
    lines = [f"<p><small>{_text(name)}</small> {_text(text)}</p>" for name, text in said.items() if text is not None]
    lines += [f"<p><small>wanted</small> {_text(' | '.join(one.wanted))}</p>"] if one.wanted else []
    if one.samples is not None and len(one.samples) >= _FFT:
        stem = "".join(c if c.isalnum() else "_" for c in f"{one.part}_{one.group}_{one.name}")
        write_wav(folder / "clips" / f"{stem}.wav", one.samples, RATE_HZ)
        (folder / "pictures" / f"{stem}.png").write_bytes(png(spectrogram(one.samples)))
        lines.append(f'<img src="pictures/{stem}.png" alt=""><audio controls preload="none" src="clips/{stem}.wav">')
        lines.append("</audio>")
    kind = ' class="wrong"' if one.right is False or one.fault else ""
    return f"<article{kind}><h4>{_text(one.name)} {_text(one.text)}</h4>{''.join(lines)}</article>"


def spectrogram(samples: NDArray[np.float32]) -> NDArray[np.uint8]:
    """[H, W, 3] picture of the magnitudes from 0 to 8 kHz, low frequencies at the bottom, 80 dB deep."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, _FFT)[::_HOP] * np.hanning(_FFT)
    power = np.abs(np.fft.rfft(frames)).T ** 2  # [257, T]
    level = 10 * np.log10(power / max(float(power.max()), 1e-12) + 1e-12)
    height = (level.clip(_FLOOR_DB, 0.0) / -_FLOOR_DB + 1.0)[::-2]
    places = np.linspace(0, 1, len(_ANCHORS))
    return np.stack([np.interp(height, places, _ANCHORS[:, c]) for c in range(3)], axis=2).astype(np.uint8)


def png(picture: NDArray[np.uint8]) -> bytes:
    """[H, W, 3] as a PNG file."""
    height, width, _ = picture.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), picture.reshape(height, -1)], axis=1)  # 0: no filter

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(rows.tobytes(), 6)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def _html_table(markdown: str) -> str:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines()]
    cells = ["".join(f"<td>{_text(cell)}</td>" for cell in row) for row in rows if not set(row[0]) <= set("-")]
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"


def _text(text: str) -> str:
    return html.escape(text)
