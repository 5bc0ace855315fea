"""`python -m helm.containers`: build the images, run the nano pods of the rendered chart, hold one spoken conversation.

    roots ── bases ── five images ── chart ── pods ── probes, inferences ── question, reply ── all down
    (kept)            (kept)                                                reply.wav, result.json

Works in one folder, where the roots and the images are kept for the next run. Needs root, control groups of version 1,
and the machine's own way to packages of Debian and Python.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from helm.containers import packages, roots
from helm.containers.engine import Engine, EngineError
from helm.containers.images import build_images
from helm.containers.pods import Pods, render
from services.local.settings import ROOT

_FOLDER: Final = ROOT / "out" / "containers"
_QUESTION: Final = ROOT / "benchmarks" / "data" / "nano_questions" / "wav" / "heldout_16.wav"
_CONVERSATION_S: Final = 300


def main() -> int:
    """Run it all.

    Returns:
        0 where a reply was heard.
    """
    parser = argparse.ArgumentParser(prog="python -m helm.containers", description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=_FOLDER, help="where roots, images and results are kept")
    parser.add_argument("--question", type=Path, default=_QUESTION, help="the recording that is asked")
    chosen = parser.parse_args()
    folder: Path = chosen.folder.resolve()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends as an error does: everything is taken down
    try:
        result = _run(folder, chosen.question.resolve())
    except (EngineError, subprocess.SubprocessError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    say(f"results: {folder / 'result.json'}, reply: {folder / 'reply.wav'}")
    return 0


def _run(folder: Path, question: Path) -> dict[str, Any]:
    started_s = time.monotonic()
    resources = render()
    pods = Pods(resources, folder / "play")
    kept = folder / "roots"
    bases = (roots.PYTHON, roots.redis(pods.store_image))
    for root in (roots.TOOLS, *bases):
        say(f"root {root.name}: {'made' if roots.make(root, kept) else 'kept'}")
    pip = packages.read_pip_settings(folder / "pip")
    seen = {ROOT: "/src", kept: "/roots", pods.folder: "/play", pip.folder: packages.PLACE}
    seen |= {one: str(one) for one in pip.local}
    roots_s = time.monotonic() - started_s
    with Engine(roots.TOOLS.path(kept), seen=seen, log=folder / "engine.log") as engine:
        images = build_images(engine, pods.images, pip, bases=bases, logs=folder)
        for image in images:
            say(f"image {image['image']}: {image['size_mb']} MB, {image['build_s']} s")
        with pods.playing(engine):
            ready = pods.wait(engine)
            for line in ready:
                say(f"ready {line}")
            state = pods.state(engine)
            asked_s = time.monotonic()
            talk = [str(Path(sys.executable).with_name("stepaudio")), "talk", str(question)]
            talk += ["--server", pods.api(engine), "--output", str(folder / "reply.wav")]
            events = engine.beside(*talk, timeout_s=_CONVERSATION_S, environment={"STEPAUDIO_TOKEN": pods.token})
            say(events.rstrip())
            conversation_s = time.monotonic() - asked_s
            state_after = pods.state(engine)
        stops = pods.stops
    return {
        "roots_s": round(roots_s, 1),
        "images": images,
        "ready": ready,
        "containers": state,
        "containers_after": state_after,
        "conversation_s": round(conversation_s, 1),
        "events": events.splitlines(),
        "stops": stops,
        "unused_kinds": pods.plan.unused_kinds,
        "unused_fields": pods.plan.unused_fields,
        "whole_s": round(time.monotonic() - started_s, 1),
    }


def say(text: str) -> None:
    """A line for whoever watches."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
