"""The store's scripts: who the primary is after every kind of start, by a redis-cli that says what it is told."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helm.sets import CHART

pytestmark = pytest.mark.integration

SCRIPTS = CHART / "files" / "redis"
DOMAIN = "release-redis.voice.svc"
HOSTS = [f"release-redis-{number}.{DOMAIN}" for number in range(3)]

REDIS_CLI = """#!/bin/sh
# Answers what the file named by host and port holds; refuses where there is none.
while [ $# -gt 0 ]; do
  case $1 in
    -h) host=$2; shift 2 ;;
    -p) port=$2; shift 2 ;;
    --cacert) shift 2 ;;
    --*) shift ;;
    *) break ;;
  esac
done
echo "$host $port $*" >> "$ANSWERS/asked"
cat "$ANSWERS/$host.$port" 2>/dev/null || exit 1
"""


class Pod:
    """One pod's folders, with the scripts' paths moved there."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder
        self.number = number
        for name in ("opt", "run", "data", "bin", "answers"):
            (folder / name).mkdir()
        moved = {
            "/opt/stepaudio/redis": folder / "opt",
            "/run/redis": folder / "run",
            "/data/": f"{folder / 'data'}/",
        }
        for script in SCRIPTS.iterdir():
            text = script.read_text(encoding="utf-8")
            for there, here in moved.items():
                text = text.replace(there, str(here))
            (folder / "opt" / script.name).write_text(text, encoding="utf-8")
        self._program("redis-cli", REDIS_CLI)
        self._program("getent", "#!/bin/sh\nexit 0\n")
        for name in ("redis-server", "redis-sentinel"):
            self._program(name, '#!/bin/sh\ncp "$1" "$1.started"\n')

    def sentinel_says(self, host: str, primary: str) -> None:
        """What a Sentinel answers."""
        (self.folder / "answers" / f"{host}.26379").write_text(f"{primary}\n6379\n", encoding="utf-8")

    def start(self, script: str, **environment: str) -> str:
        """Run a script; give the configuration that its server was started with."""
        self.run(script, **environment)
        (started,) = self.folder.rglob("*.started")
        return started.read_text(encoding="utf-8")

    def run(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a script."""
        given = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "ANSWERS": str(self.folder / "answers"),
            "POD_NAME": f"release-redis-{self.number}",
            "DOMAIN": DOMAIN,
            "REPLICAS": "3",
            "TLS": "true",
            "REDIS_PASSWORD": "0123abcd",
            "DOWN_AFTER_MS": "3000",
        }
        command = ["/bin/sh", str(self.folder / "opt" / script)]
        return subprocess.run(command, env=given | environment, capture_output=True, text=True, timeout=20, check=True)

    def _program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)


def _pod(tmp_path: Path, number: int) -> Pod:
    return Pod(tmp_path, number)


def test_at_the_very_first_start_the_first_server_is_the_primary(tmp_path: Path) -> None:
    text = _pod(tmp_path, 0).start("start-server.sh")
    assert "replicaof" not in text
    assert f"replica-announce-ip {HOSTS[0]}" in text


def test_at_the_very_first_start_the_others_follow_the_first(tmp_path: Path) -> None:
    assert f"replicaof {HOSTS[0]} 6379" in _pod(tmp_path, 2).start("start-server.sh")


def test_a_server_that_comes_back_follows_whom_the_sentinels_elected(tmp_path: Path) -> None:
    pod = _pod(tmp_path, 0)
    pod.sentinel_says(HOSTS[2], HOSTS[1])
    assert f"replicaof {HOSTS[1]} 6379" in pod.start("start-server.sh")


def test_after_an_outage_of_all_the_last_primary_is_known_from_the_volume(tmp_path: Path) -> None:
    pod = _pod(tmp_path, 0)
    (tmp_path / "data" / "sentinel.conf").write_text(f"sentinel monitor stepaudio {HOSTS[2]} 6379 2\n")
    assert f"replicaof {HOSTS[2]} 6379" in pod.start("start-server.sh")


def test_one_server_alone_follows_nobody(tmp_path: Path) -> None:
    text = _pod(tmp_path, 0).start("start-server.sh", REPLICAS="1", TLS="false")
    assert "replicaof" not in text
    assert "\nport 6379\n" in text
    assert "tls-port" not in text


def test_with_tls_no_plain_port_is_open(tmp_path: Path) -> None:
    text = _pod(tmp_path, 0).start("start-server.sh")
    assert "\nport 0\n" in text
    assert "\ntls-port 6379\n" in text


def test_the_configuration_with_the_password_is_for_its_owner_alone(tmp_path: Path) -> None:
    pod = _pod(tmp_path, 0)
    assert "requirepass 0123abcd" in pod.start("start-server.sh")
    assert (tmp_path / "run" / "redis.conf").stat().st_mode & 0o077 == 0


def test_a_sentinel_keeps_what_it_learnt_and_takes_the_new_password(tmp_path: Path) -> None:
    pod = _pod(tmp_path, 1)
    (tmp_path / "data" / "sentinel.conf").write_text(
        f"port 0\nrequirepass old\nsentinel auth-pass stepaudio old\nsentinel monitor stepaudio {HOSTS[2]} 6379 2\n"
        f"user default on sanitize-payload #old ~* &* +@all\n"
        f"sentinel myid abc\nsentinel current-epoch 4\nsentinel known-replica stepaudio {HOSTS[0]} 6379\n"
    )
    lines = pod.start("start-sentinel.sh").splitlines()
    assert lines.count(f"sentinel monitor stepaudio {HOSTS[2]} 6379 2") == 1
    assert "sentinel myid abc" in lines
    assert "sentinel current-epoch 4" in lines
    assert lines.count("requirepass 0123abcd") == 1
    assert "sentinel auth-pass stepaudio 0123abcd" in lines
    assert not any("old" in line for line in lines)


def test_a_sentinel_names_itself_and_its_primary_by_host_name(tmp_path: Path) -> None:
    lines = _pod(tmp_path, 1).start("start-sentinel.sh").splitlines()
    assert f"sentinel monitor stepaudio {HOSTS[0]} 6379 2" in lines
    assert lines.index("sentinel resolve-hostnames yes") < lines.index(f"sentinel monitor stepaudio {HOSTS[0]} 6379 2")
    assert f"sentinel announce-ip {HOSTS[1]}" in lines


def test_a_primary_that_ends_hands_over_first(tmp_path: Path) -> None:
    pod = _pod(tmp_path, 1)
    (tmp_path / "answers" / f"{HOSTS[1]}.6379").write_text("slave\n")
    pod.run("stop-server.sh")
    assert "failover" not in (tmp_path / "answers" / "asked").read_text()
    (tmp_path / "answers" / f"{HOSTS[1]}.6379").write_text("master\n")
    pod.run("stop-server.sh")  # no Sentinel answers: it ends all the same
    assert f"{HOSTS[1]} 26379 sentinel failover stepaudio" in (tmp_path / "answers" / "asked").read_text()


@pytest.mark.parametrize("script", sorted(path.name for path in SCRIPTS.glob("*.sh")))
def test_shellcheck_finds_nothing(script: str) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("needs stepaudio[k8s]")
    command = ["shellcheck", "--exclude=SC1091", str(SCRIPTS / script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout
