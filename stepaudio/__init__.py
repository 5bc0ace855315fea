"""The client of the public API: conversations, the services beside them, players and sources, and a command line.

    Conversation    one session with the agent, over as many streams as it takes
    Client          speech, voices and sessions, call by call
    Server          address, TLS and credentials, for both
    WavPlayer, Loudspeaker, Microphone       where replies go, where speech comes from
    tool            makes a function of the application one that the agent may call
    ApiError        what a call fails with

Messages are the API's own, from `protos.gen.stepaudio.v1`. The guide is docs/api.md.
"""

from stepaudio.client import Client
from stepaudio.conversation import Conversation, Event
from stepaudio.devices import Loudspeaker
from stepaudio.errors import ApiError, ClientError, ConversationEndedError, DeviceError
from stepaudio.formats import pcm16
from stepaudio.players import Player, WavPlayer
from stepaudio.retry import Retry
from stepaudio.server import Server, Tls
from stepaudio.sources import Microphone
from stepaudio.timeline import Timeline
from stepaudio.tools import ClientTool, tool

__all__ = [
    "ApiError",
    "Client",
    "ClientError",
    "ClientTool",
    "Conversation",
    "ConversationEndedError",
    "DeviceError",
    "Event",
    "Loudspeaker",
    "Microphone",
    "Player",
    "Retry",
    "Server",
    "Timeline",
    "Tls",
    "WavPlayer",
    "pcm16",
    "tool",
]
