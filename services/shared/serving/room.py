"""The life of a model inside Triton: settings, weights, a checked warm-up, then requests.

A model is ready only after its warm-up gave what it must; one that cannot work ends its server with a message.
"""

import json
import logging
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from services.shared.errors import CheckpointError, StepAudioError
from services.shared.serving.epochs import EpochGate
from services.shared.serving.metrics import RoomMetrics
from services.shared.serving.settings import RoomSettings, read_room_settings
from services.shared.triton.tensors import ModelSpec


class Room(ABC):
    """Base of every room's Triton class; Triton calls `initialize`, then `execute`.

    Attributes:
        spec: the model's door.
        metrics: its metrics.
        epochs: which work is out of date.
    """

    spec: ClassVar[ModelSpec]
    metrics: RoomMetrics
    epochs: EpochGate

    def initialize(self, args: dict[str, str]) -> None:
        """Load and warm up.

        Raises:
            StepAudioError: the checkpoint, the settings or what the network gives is not usable.
        """
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
        if int(np.__version__.split(".")[0]) > 1:
            # Triton's Python process reads NumPy 2's arrays as empty: every answer would be 0 bytes, status OK.
            raise StepAudioError(f"numpy {np.__version__} gives empty answers in this server; install numpy 1.26.4")
        parameters = {
            key: value["string_value"] for key, value in json.loads(args["model_config"])["parameters"].items()
        }
        settings = read_room_settings(parameters, Path(args["model_repository"]))
        self.epochs = EpochGate()
        self.metrics = RoomMetrics(self.spec.name)
        self.load(settings)
        self.warm_up()

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

    @abstractmethod
    def execute(self, requests: list[Any]) -> Any:  # Triton publishes no types; a coroutine where requests stream
        """Answer requests; an error of one request is that request's answer."""
