"""How plans are named, by builders and by rooms alike."""

import hashlib
from pathlib import Path
from typing import Final, Literal

from services.shared.graphs.cache import content_key
from services.shared.graphs.plans.port import Device
from services.shared.graphs.spec import GraphSpec

Precision = Literal["float32", "float16", "bfloat16", "float8"]
"""Of a graph's products and what lies between them; sums of many numbers and exponentials stay float32."""

_CODE: Final = ("buckets.py", "keys.py", "precision.py", "scales.py", "store.py")
_KEY_CHARACTERS: Final = 24


def plans_room(room: str) -> str:
    """The room's name in the cache."""
    return f"{room}-plans"


def plan_file(spec: GraphSpec) -> str:
    """The plan's file name."""
    return f"{spec.name}.plan"


def plans_key(graphs_key: str, device: Device, precision: Precision) -> str:
    """What plans are made of: graphs, device, version, precision, and this package's code."""
    here = Path(__file__).parent
    code = content_key(files=(), code=[here / name for name in _CODE])
    parts = (graphs_key, device.device, device.version, precision, code)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_KEY_CHARACTERS]
