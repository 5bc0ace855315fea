"""What the images are made of: the rules of their files, which hold before anything is built."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.helm.sets import CHART, ROOM_ENVIRONMENT

pytestmark = pytest.mark.integration

ROOMS = ("tokenizer", "lm", "tts", "vocoder")
SERVICES = ("orchestrator", *ROOMS)
COMPOSE = ("nano", "gpu")


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> str:
    """Each service in turn."""
    name: str = request.param
    return name


def test_hadolint_finds_nothing(service: str) -> None:
    if shutil.which("hadolint") is None:
        pytest.skip("needs stepaudio[k8s]")
    done = subprocess.run(
        ["hadolint", "--no-color", str(_dockerfile(service))], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stdout


def test_no_base_has_a_default_and_none_floats(service: str) -> None:
    stages: set[str] = set()
    for line in _lines(service):
        if not line.startswith("FROM "):
            continue
        base, _, stage = line.removeprefix("FROM ").partition(" AS ")
        assert base == "scratch" or base in stages or "${" in base, line
        stages.add(stage)
    defaults = [line for line in _lines(service) if re.match(r"ARG \w+_IMAGE", line)]
    assert defaults
    assert all(line.endswith("=scratch") for line in defaults)


def test_the_last_stage_runs_as_nobody_without_a_shell(service: str) -> None:
    last = "\n".join(_lines(service)).rpartition("\nFROM ")[2].splitlines()
    assert "USER 10001:10001" in last
    entry = next(line for line in last if line.startswith("ENTRYPOINT"))
    command = json.loads(entry.removeprefix("ENTRYPOINT "))
    assert not command[0].endswith("sh")
    assert not [line for line in last if line.startswith(("RUN", "ADD"))], "what is run once does not end in the image"
    user = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))["runAsUser"]
    assert user == 10001


def test_every_image_says_what_it_is(service: str) -> None:
    text = _dockerfile(service).read_text(encoding="utf-8")
    for label in ("title", "description", "version", "revision", "source", "licenses"):
        assert f"org.opencontainers.image.{label}=" in text


def test_packages_come_by_the_lock_and_by_the_extra_of_the_service(service: str) -> None:
    text = _dockerfile(service).read_text(encoding="utf-8")
    asked = set(re.findall(r'"\.\[([\w,]+)\]"', text))
    wanted = {f"{service},{'tools' if service == 'orchestrator' else 'telemetry'}"}
    if service in ("tokenizer", "vocoder"):
        wanted.add(f"{service},engine,telemetry")  # the image for GPUs makes graphs and plans as well
    assert asked == wanted
    assert service in _project()["optional-dependencies"]
    for command in _installs(service):
        assert "--constraint " in command or "cyclonedx-bom==" in command, command


@pytest.mark.parametrize("room", ["lm", "tts"])
def test_where_vllm_is_its_torch_and_numpy_stay_and_the_rest_is_what_the_room_asks_for(room: str) -> None:
    text = _stage(room, "packages-gpu")
    assert "^(numpy|torch|triton|nvidia-.*)==" in text, "a lock without what the base's vLLM was built against"
    named = set(text.partition("--constraint kept.lock")[2].replace("\\", "").split())
    project = _project()
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["lm"], *extras["telemetry"]]
    assert named == {one.partition("==")[0] for one in needed} - {"numpy", "torch"}


@pytest.mark.parametrize("room", ["tokenizer", "vocoder"])
def test_what_plans_need_on_a_gpu_comes_with_the_build_by_exact_versions(room: str) -> None:
    text = _stage(room, "packages-gpu")
    assert 'ARG GPU_PACKAGES=""' in text
    assert text.index("uninstall --yes onnxruntime") < text.index("--requirement gpu-packages.txt")
    bake = (ROOT / "docker-bake.hcl").read_text(encoding="utf-8")
    assert "GPU_PACKAGES = GPU_PACKAGES" in bake.partition(f'target "{room}"')[2].partition("\ntarget ")[0]
    found = re.search(r'variable "GPU_PACKAGES" {\n  default = "([^"]*)"', bake)
    assert found
    assert {one.partition("==")[0] for one in found[1].split()} == {"onnxruntime-gpu", "tensorrt-cu13"}
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+", one) for one in found[1].split())


def test_vllms_base_is_one_that_has_the_chat_models_architecture() -> None:
    """vLLM 0.15, the first with Step1, is of January 2026."""
    bake = (ROOT / "docker-bake.hcl").read_text(encoding="utf-8")
    found = re.search(r'variable "VLLM_TAG" {\n  default = ".*:(\d\d)\.(\d\d)-vllm-python-py3"', bake)
    assert found
    assert (int(found[1]), int(found[2])) >= (26, 6)


def test_words_of_the_readme_cost_no_build(service: str) -> None:
    """Packages are the largest layer and the longest step: nothing that changes with every sentence is before them."""
    text = _dockerfile(service).read_text(encoding="utf-8")
    assert not re.search(r"^COPY .*README", text, re.MULTILINE)
    assert "!README.md" not in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()


def test_an_image_holds_the_code_of_its_own_service_alone(service: str) -> None:
    copied = set(re.findall(r"^COPY services/(\w+)", _dockerfile(service).read_text(encoding="utf-8"), re.MULTILINE))
    assert copied - {"__init__"} == {"shared", service}


def test_the_entry_of_a_room_takes_the_charts_arguments() -> None:
    for room in ROOMS:
        entry = next(line for line in _lines(room) if line.startswith("ENTRYPOINT"))
        assert json.loads(entry.removeprefix("ENTRYPOINT "))[0].endswith("/tritonserver")


@pytest.mark.parametrize("room", ROOMS)
def test_a_models_python_finds_packages_and_code_without_pythonpath(room: str) -> None:
    """Triton's stub is an isolated Python: of the environment it reads the PATH alone, for its first python3."""
    text = _dockerfile(room).read_text(encoding="utf-8")
    last = text.rpartition("\nFROM ")[2]
    assert "ENV PATH=/opt/venv/bin:${PATH}" in last
    assert "PYTHONPATH" not in last
    assert "COPY --from=server /opt/venv /opt/venv" in last
    inside = [command for command in _installs(room) if "cyclonedx" not in command]
    assert len(inside) >= 3
    assert all("pip --python /opt/venv/bin/python install" in command for command in inside)
    assert "--target /opt" not in text
    assert text.count('echo /opt/stepaudio > "$packages/stepaudio-code.pth"') == 2, "with each kind of base"


@pytest.mark.parametrize("room", ROOMS)
def test_no_library_is_looked_for_in_the_working_folder(room: str) -> None:
    (line,) = (line for line in _lines(room) if "LD_LIBRARY_PATH=" in line)
    assert line.strip() == "LD_LIBRARY_PATH=/opt/server/libraries:/usr/local/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"


def test_every_image_of_the_chart_is_baked() -> None:
    bake = (ROOT / "docker-bake.hcl").read_text(encoding="utf-8")
    for service in SERVICES:
        assert f'target "{service}"' in bake
        assert f'dockerfile = "services/{service}/Dockerfile"' in bake
    assert not re.search(r"sha256:[0-9a-f]{64}", bake), "digests are given by whoever builds"


@pytest.mark.parametrize("name", COMPOSE)
def test_a_compose_file_sets_what_the_settings_read(name: str) -> None:
    services = _compose(name)["services"]
    assert services.keys() == {*SERVICES, "redis"}
    for room in ROOMS:
        told = {key for key in services[room]["environment"] if key.startswith("STEPAUDIO_")}
        assert told - {"STEPAUDIO_TENSOR_PARALLEL"} == ROOM_ENVIRONMENT
    config = pytest.importorskip("services.orchestrator.config")
    fields = {f"STEPAUDIO_{field.upper()}" for field in config.OrchestratorSettings.model_fields}
    assert {key for key in services["orchestrator"]["environment"] if key.startswith("STEPAUDIO_")} <= fields


def test_the_chat_model_is_spread_over_the_gpus_that_it_is_given() -> None:
    services = _compose("gpu")["services"]
    given = {room: services[room]["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"] for room in ROOMS}
    assert sum(map(len, given.values())) == len(set().union(*given.values())), "no GPU is given twice"
    for room in ROOMS:
        environment = services[room]["environment"]
        assert int(environment.get("STEPAUDIO_TENSOR_PARALLEL", "1")) == len(given[room])
        assert (environment["STEPAUDIO_ENGINE"] == "vllm") is (room in ("lm", "tts"))


@pytest.mark.parametrize("name", COMPOSE)
def test_a_compose_file_closes_what_need_not_be_open(name: str) -> None:
    compose = _compose(name)
    assert compose["networks"]["rooms"]["internal"] is True
    for service, one in compose["services"].items():
        assert one["read_only"] is True
        assert one["cap_drop"] == ["ALL"]
        assert one["user"] in ("10001:10001", "999:999")
        assert ("ports" in one) is (service == "orchestrator")
        assert "no-new-privileges:true" in one["security_opt"]
    if name == "nano":
        assert compose["services"]["orchestrator"]["ports"] == ["127.0.0.1:8443:8443"]


def _dockerfile(service: str) -> Path:
    return ROOT / "services" / service / "Dockerfile"


def _installs(service: str) -> list[str]:
    """Every command that installs packages."""
    text = " ".join(line for line in _lines(service) if not line.startswith("#")).replace("\\ ", "")
    commands = re.split(r"&&|;| RUN ", text)
    return [command for command in commands if re.search(r"\bpip\b.* install ", command)]


def _stage(service: str, name: str) -> str:
    """One stage of a Dockerfile, comments left out."""
    text = _dockerfile(service).read_text(encoding="utf-8").partition(f" AS {name}\n")[2].partition("\nFROM ")[0]
    return "\n".join(line for line in text.splitlines() if not line.startswith("#"))


def _project() -> dict[str, Any]:
    loaded: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return loaded


def _lines(service: str) -> list[str]:
    return _dockerfile(service).read_text(encoding="utf-8").splitlines()


def _compose(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "compose" / f"{name}.yaml").read_text(encoding="utf-8"))
    return loaded
