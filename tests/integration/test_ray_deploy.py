"""deploy/ray: its files agree with each other and with infoae, and infoae takes the command of its job."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version
from typer.testing import CliRunner

from infoae.cli.app import app
from infoae.config import recipes
from infoae.errors import InfoAEError
from infoae.runs.run import Run
from infoae.runs.storage import Storage
from infoae.version import __version__
from tests.helpers.paths import PROJECT, ROOT

FOLDER = ROOT / "deploy" / "ray"


def documents(name: str) -> dict[str, Any]:
    """Return the documents of a file of deploy/ray by kind."""
    return {document["kind"]: document for document in yaml.safe_load_all((FOLDER / name).read_text())}


JOB = documents("rayjob.yaml")["RayJob"]["spec"]
HEAD = JOB["rayClusterSpec"]["headGroupSpec"]
(WORKERS,) = JOB["rayClusterSpec"]["workerGroupSpecs"]
PODS = {"head": HEAD["template"], "worker": WORKERS["template"]}


def container(pod: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def commands() -> list[list[str]]:
    """Return the commands of the job: to resume and to start."""
    shell, option, script = shlex.split(JOB["entrypoint"])
    assert (shell, option) == ("sh", "-c")
    return [shlex.split(command) for command in re.findall(r"exec (infoae [^;]+);", script)]


def value(command: list[str], option: str) -> str:
    return command[command.index(option) + 1]


def test_one_image_and_one_ray_everywhere() -> None:
    image = {container(pod)["image"] for pod in PODS.values()}.pop()
    assert all(container(pod)["image"] == image for pod in PODS.values())
    ray = JOB["rayClusterSpec"]["rayVersion"]
    assert image.endswith(f":{__version__}-ray{ray}")
    dockerfile = (FOLDER / "Dockerfile").read_text()
    assert f"ARG RAY_VERSION={ray}\n" in dockerfile
    assert image in dockerfile
    assert f"=={ray}" in (FOLDER / "cluster.yaml").read_text()
    requirement = next(Requirement(line) for line in PROJECT["dependencies"] if line.startswith("ray["))
    assert requirement.specifier.contains(ray)
    assert Version(ray) >= Version("2.52")  # since when there are tokens


def test_as_many_workers_as_the_command_asks_for() -> None:
    resume, start = commands()
    gpus = container(WORKERS["template"])["resources"]["limits"]["nvidia.com/gpu"]
    for command in (resume, start):
        assert int(value(command, "--nodes")) == WORKERS["replicas"] == WORKERS["minReplicas"] == WORKERS["maxReplicas"]
        assert value(command, "--workers-per-node") == gpus
    assert HEAD["rayStartParams"]["num-cpus"] == "0"
    assert "nvidia.com/gpu" not in container(HEAD["template"])["resources"]["limits"]


def test_all_pods_see_the_runs_and_share_no_more_than_they_need() -> None:
    claim = documents("storage.yaml")["PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    policy = documents("rayjob.yaml")["NetworkPolicy"]["spec"]
    dockerfile = (FOLDER / "Dockerfile").read_text()
    for pod in PODS.values():
        only = container(pod)
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in only["volumeMounts"]}
        for command in commands():
            shared = mounts[value(command, "--runs")]
            assert shared["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert mounts["/dev/shm"]["emptyDir"]["medium"] == "Memory"  # noqa: S108
        assert only["resources"]["requests"] == only["resources"]["limits"]
        assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in only["env"]
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        assert f"USER {pod['spec']['securityContext']['runAsUser']}\n" in dockerfile
        assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert JOB["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert JOB["shutdownAfterJobFinishes"]
    assert JOB["ttlSecondsAfterFinished"] > 0


@pytest.fixture
def entrypoint(tmp_path: Path) -> Callable[[], str]:
    """Return a function that runs the job's command as Ray does, its runs below tmp_path; what it says on stderr."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"

    def run() -> str:
        command = shlex.join(shlex.split(JOB["entrypoint"])).replace("/runs", str(tmp_path))
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": address}
        done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 1, done.stderr
        return done.stderr

    return run


def test_infoae_takes_the_command_and_finds_no_cluster(
    entrypoint: Callable[[], str], finished_run: Run, tmp_path: Path
) -> None:
    assert re.fullmatch(r"error: no Ray cluster at .*refused.*; 4 nodes needed: .*\n", entrypoint())
    stopped = tmp_path / value(commands()[1], "--name")
    assert not stopped.exists()

    shutil.copytree(finished_run.path, stopped)
    settings = [f"train.epochs={finished_run.config().train.epochs + 1}"]
    longer = recipes.parse((stopped / "config.yaml").read_text(), "test", settings)
    (stopped / "config.yaml").write_text(recipes.dump(longer))
    assert re.fullmatch(r"error: no Ray cluster at .*refused.*; 4 nodes needed: .*\n", entrypoint())
    assert list(Run(stopped).metrics()) == list(finished_run.metrics())


def test_on_object_storage_a_new_head_resumes_and_takes_no_stored_name(
    finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The README's entrypoint, each command of it as far as the missing cluster."""
    (block,) = re.findall(
        r"^  entrypoint: >-\n.*?(?=^```)", (FOLDER / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    _, _, script = shlex.split(yaml.safe_load(block)["entrypoint"])
    store, runs = tmp_path / "store", tmp_path / "head"
    script = script.replace("s3://BUCKET/infoae", str(store)).replace("/home/infoae/runs", str(runs))
    assignment, commands = script.split(";")
    common = shlex.split(assignment)[0].removeprefix("common=")
    resume, start = (
        shlex.split(command.replace("$common", common).replace("exec ", "")) for command in commands.split("||")
    )
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")

    def error(command: list[str]) -> str:
        raised = CliRunner().invoke(app, command[1:]).exception
        assert isinstance(raised, InfoAEError)
        return str(raised)

    assert "no run 'mnist-4'" in error(resume)  # and so it is started
    assert "no Ray cluster" in error(start)
    settings = [f"train.epochs={finished_run.config().train.epochs + 1}"]
    longer = recipes.parse((finished_run.path / "config.yaml").read_text(), "test", settings)
    stopped = Run(Path(shutil.copytree(finished_run.path, tmp_path / "mnist-4")))
    stopped.write_config(longer)
    Storage(str(store)).push(stopped)
    assert "no Ray cluster" in error(resume)
    shutil.rmtree(runs)  # on another new head
    assert "'mnist-4' exists in" in error(start)
    assert len(list((store / "mnist-4" / "checkpoints").iterdir())) == len(list(stopped.checkpoints.iterdir()))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray and its jsonschema
def test_ray_up_takes_the_cluster() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    cluster = yaml.safe_load((FOLDER / "cluster.yaml").read_text())
    validate_config(prepare_config(cluster))
    machines = [cluster["provider"]["head_ip"], *cluster["provider"]["worker_ips"]]
    assert len(set(machines)) == WORKERS["replicas"]
    assert cluster["max_workers"] == len(machines) - 1
    for role in ("head", "worker"):
        start = cluster[f"{role}_start_ray_commands"][-1]
        assert "RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0" in start


@pytest.mark.parametrize("name", ["docs/distributed.md", "deploy/ray/README.md"])
def test_commands_and_links_of_the_documents_are_good(name: str) -> None:
    text = (ROOT / name).read_text()
    found = [line.partition("#")[0].split()[1:] for line in re.findall(r"^infoae train.*", text, re.MULTILINE)]
    assert found
    for arguments in found:
        result = CliRunner().invoke(app, [*arguments, "--dry-run"])
        assert result.exit_code == 0, (arguments, result.output)
    for link, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", text):
        target = (ROOT / name).parent / link if link else ROOT / name
        assert target.exists(), link
        headings = re.findall(r"^#+ (.*)", target.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in [heading.lower().replace(" ", "-") for heading in headings], anchor
