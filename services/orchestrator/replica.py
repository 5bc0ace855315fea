"""One replica, put together: the composition root behind Ray Serve (app.py) and behind a plain process (__main__.py).

    settings ─> telemetry ─> rooms, store, voice activity ─> sessions ─> the gRPC server
    drain    health says NOT_SERVING, clients are told to go and have the grace for it, then everything closes

A replica is up before the rooms are: a room that is away is an error of the calls that need it, and no reason to start
the replica anew.
"""

import asyncio
import contextlib
import importlib.metadata
import random
import secrets
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self

import numpy as np
from prometheus_client import CollectorRegistry, start_http_server

from services.orchestrator.adapters.redis.connect import connect
from services.orchestrator.adapters.redis.lifetime import SessionTimes
from services.orchestrator.adapters.redis.sessions import RedisSessionStore
from services.orchestrator.adapters.redis.voices import RedisVoiceStore
from services.orchestrator.adapters.silero import SileroDetector
from services.orchestrator.adapters.telemetry import MeasuredSessionStore, TelemetryObserver
from services.orchestrator.adapters.triton.checkpoint import read_checkpoint
from services.orchestrator.adapters.triton.connect import RoomAddresses, connect_rooms
from services.orchestrator.config import OrchestratorSettings, read_tenants
from services.orchestrator.ports.hearing import FRAME_SAMPLES, VoiceActivityDetector
