"""What a room's settings say about exported graphs and plans."""

from services.shared.graphs.opening import GraphSettings
from services.shared.serving.settings import RoomSettings


def graph_settings(settings: RoomSettings) -> GraphSettings | None:
    """Where the graphs are and on what they run; None where another engine computes."""
    if settings.engine not in ("onnxruntime", "onnxruntime-tensorrt", "tensorrt"):
        return None
    return GraphSettings(
        cache=settings.graph_cache,
        device=settings.device,
        threads=settings.threads,
        tensorrt=settings.engine == "onnxruntime-tensorrt",
        plans=settings.plan_precision if settings.engine == "tensorrt" else None,
    )
