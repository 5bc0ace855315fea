"""What may run functions: a file of the operator's, and one runner over all that it names.

    {"http_endpoints": {"weather": {"url": "https://tools.example/weather", "tenants": ["acme"],
                                    "headers": {"authorization": {"environment": "WEATHER_TOKEN"}}}},
     "mcp_servers":    {"office":  {"url": "http://office-mcp:8000/mcp"}}}

A caller gives a name and arguments, never an address: what is asked for goes to a URL of this file or nowhere, no
redirect is followed out of it and no proxy of the environment is used. Secrets stand in the environment, and the file
names their variables.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.orchestrator.conversation.options import ToolExecutor
from services.orchestrator.ports.tools import ToolAnswer, ToolRequest
from services.shared.errors import InvalidOptionError

_LOG: Final = logging.getLogger(__name__)
_UNREACHABLE: Final = "the function cannot be reached now"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)  # headers may be secrets


class FromEnvironment(_Strict):
    """A value that stands in a variable of the environment."""

    environment: str = Field(min_length=1)


class Registered(_Strict):
    """One place that runs functions.

    Attributes:
        url: where it is.
        tenants: that may use it; none named is all.
        headers: sent with each call; secrets by the names of their variables.
        max_result_bytes: of one answer.
        max_calls: at once, of this replica; more wait within their time.
    """

    url: str = Field(pattern=r"^https?://[^\s@]+$", max_length=2048)
    tenants: tuple[str, ...] = ()
    headers: Mapping[str, str | FromEnvironment] = Field(default_factory=dict)
    max_result_bytes: int = Field(default=65_536, ge=1, le=1_048_576)
    max_calls: int = Field(default=32, ge=1, le=1_000)

    def header_values(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The headers with their secrets. Raises KeyError for a variable that is not set."""
        return {
            name: environment[value.environment] if isinstance(value, FromEnvironment) else value
            for name, value in self.headers.items()
        }


class Registry(_Strict):
    """The whole file."""

    http_endpoints: Mapping[str, Registered] = Field(default_factory=dict)
    mcp_servers: Mapping[str, Registered] = Field(default_factory=dict)


class Place(Protocol):
    """What runs functions."""

    async def call(self, request: ToolRequest) -> ToolAnswer:
        """Run one. May raise anything."""

    async def close(self) -> None:
        """Let go of connections."""


def read_registry(path: Path) -> Registry:
    """Read the file.

    Raises:
        InvalidOptionError: it cannot be read, or is not as `Registry` says.
    """
    try:
        registry = Registry.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InvalidOptionError(f"STEPAUDIO_TOOLS: {path} cannot be read: {error}", field="STEPAUDIO_TOOLS") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        message = f"STEPAUDIO_TOOLS: {path}: {where}: {first['msg']}"
        raise InvalidOptionError(message, field="STEPAUDIO_TOOLS") from error
    return registry


class RegisteredTools:
    """See `ToolRunner`.

    Args:
        registry: what may run functions.
        places: one for each entry of it.
    """

    def __init__(self, registry: Registry, places: Mapping[tuple[ToolExecutor, str], Place]) -> None:
        self._tenants = {
            (executor, name): frozenset(registered.tenants)
            for executor, part in (
                (ToolExecutor.HTTP_ENDPOINT, registry.http_endpoints),
                (ToolExecutor.MCP_SERVER, registry.mcp_servers),
            )
            for name, registered in part.items()
        }
        self._places = places

    def has(self, tenant: str, executor: ToolExecutor, name: str) -> bool:
        """Whether something is registered under this name that a tenant may use."""
        tenants = self._tenants.get((executor, name))
        return tenants is not None and (not tenants or tenant in tenants)

    async def run(self, request: ToolRequest) -> ToolAnswer:
        """Run a function and wait for its answer."""
        executor, name = request.tool.executor, request.tool.registered_as
        if not self.has(request.tenant, executor, name):  # a session outlives a change of the file
            return ToolAnswer("there is no such function any more", is_error=True)
        try:
            return await self._places[executor, name].call(request)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong in a place is an answer for the model
            _LOG.warning("a function failed", extra={"place": name, "error": type(error).__name__}, exc_info=error)
            return ToolAnswer(_UNREACHABLE, is_error=True)

    async def close(self) -> None:
        """Let go of every connection."""
        for place in self._places.values():
            await place.close()


def open_tools(registry: Registry, environment: Mapping[str, str]) -> RegisteredTools:
    """Make what runs the functions of a registry; nothing is sent yet.

    Args:
        registry: what may run functions.
        environment: where its secrets stand.

    Raises:
        InvalidOptionError: a variable is not set, or the packages for it are not installed.
    """
    places: dict[tuple[ToolExecutor, str], Place] = {}
    try:
        from services.orchestrator.adapters.tools.http import HttpEndpoint
        from services.orchestrator.adapters.tools.mcp import McpServer

        for name, registered in registry.http_endpoints.items():
            headers = registered.header_values(environment)
            places[ToolExecutor.HTTP_ENDPOINT, name] = HttpEndpoint(registered, headers)
        for name, registered in registry.mcp_servers.items():
            headers = registered.header_values(environment)
            places[ToolExecutor.MCP_SERVER, name] = McpServer(registered, headers)
    except KeyError as error:
        raise InvalidOptionError(
            f"STEPAUDIO_TOOLS: {name} needs the variable {error}, which is not set", field="STEPAUDIO_TOOLS"
        ) from error
    except ImportError as error:
        raise InvalidOptionError(f"STEPAUDIO_TOOLS needs stepaudio[tools]: {error}", field="STEPAUDIO_TOOLS") from error
    return RegisteredTools(registry, places)
