"""The life of a model inside Triton: settings, weights, a checked warm-up, then requests.

A model is ready only after its warm-up gave what it must; one that cannot work ends its server with a message.
"""

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from services.shared.errors import CheckpointError, StepAudioError
from services.shared.serving.epochs import EpochGate
from services.shared.serving.metrics import RoomMetrics
from services.shared.serving.settings import RoomSettings, read_room_settings
from services.shared.telemetry.logs import configure_logs
from services.shared.telemetry.tracing import Traces, open_traces
from services.shared.triton.context import RequestContext
from services.shared.triton.tensors import ModelSpec

_LOG: Final = logging.getLogger(__name__)


class Room(ABC):
    """Base of every room's Triton class; Triton calls `initialize`, then `execute`.

    Attributes:
        spec: the model's door.
        metrics: its metrics.
        traces: where the spans of its requests go.
        epochs: which work is out of date.
    """

    spec: ClassVar[ModelSpec]
    metrics: RoomMetrics
    traces: Traces
    epochs: EpochGate

    def initialize(self, args: dict[str, str]) -> None:
        """Load and warm up.

        Raises:
            StepAudioError: the checkpoint, the settings or what the network gives is not usable.
        """
        configure_logs("INFO")  # until the settings say another level
        if int(np.__version__.split(".")[0]) > 1:
            # Triton's Python process reads NumPy 2's arrays as empty: every answer would be 0 bytes, status OK.
            raise StepAudioError(f"numpy {np.__version__} gives empty answers in this server; install numpy 1.26.4")
        parameters = {
            key: value["string_value"] for key, value in json.loads(args["model_config"])["parameters"].items()
        }
        settings = read_room_settings(parameters, Path(args["model_repository"]))
        configure_logs(settings.log_level)
        self.traces = open_traces(settings.otlp_endpoint, service=self.spec.name)
        self.epochs = EpochGate()
        self.metrics = RoomMetrics(self.spec.name)
        self.load(settings)
        self.warm_up()
        _LOG.info("serving", extra={"model": self.spec.name})

    @abstractmethod
    def load(self, settings: RoomSettings) -> None:
        """Read the weights, and set the threads of this process."""

    @abstractmethod
    def warm_up(self) -> None:
        """Run the network once and check what it gives, with `expect`."""

    def expect(self, holds: bool, what: str) -> None:
        """Fail the warm-up unless something holds.

        Raises:
            CheckpointError: it does not.
        """
        if not holds:
            raise CheckpointError(f"the warm-up of {self.spec.name} gave {what}; download the checkpoint again")

    @contextmanager
    def traced(self, *contexts: RequestContext) -> Iterator[None]:
        """One span for each of these requests that belongs to a trace, around their work."""
        spans = [
            self.traces.begin(self.spec.name, parent=context.traceparent) for context in contexts if context.traceparent
        ]
        failed: BaseException | None = None
        try:
            yield
        except BaseException as error:
            failed = error
            raise
        finally:
            for span in spans:
                span.end(error=failed)

    def finalize(self) -> None:
        """Send the spans that are left; Triton calls it when the model is unloaded."""
        self.traces.close()

    @abstractmethod
    def execute(self, requests: list[Any]) -> Any:  # Triton publishes no types; a coroutine where requests stream
        """Answer requests; an error of one request is that request's answer."""
