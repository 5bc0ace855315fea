"""The chat model as a Triton model: ids in, ids out."""

from services.shared.paths import CHAT_FOLDER
from services.shared.serving.generation import GenerationRoom
from services.shared.triton.specs import STEP1_CHAT


class ChatRoom(GenerationRoom):
    """Step-Audio-Chat."""

    spec = STEP1_CHAT
    folder = CHAT_FOLDER
