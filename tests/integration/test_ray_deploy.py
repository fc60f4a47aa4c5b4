"""deploy/ray: its files agree with each other and with infoae, and infoae takes the command of its job."""

from __future__ import annotations

import copy
import functools
import importlib
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
import typer
import yaml
from packaging.requirements import Requirement
from packaging.version import Version
from typer.testing import CliRunner

from infoae.cli.app import app
from infoae.cli.classify import classify
from infoae.cli.export import export
from infoae.cluster import connect, placement
from infoae.cluster.placement import Classifiers, Layout
from infoae.config import recipes
from infoae.errors import InfoAEError
from infoae.runs.run import EVALUATION, Run
from infoae.runs.storage import Storage
from infoae.version import __version__
from tests.helpers.kubernetes import problems
from tests.helpers.paths import PROJECT, ROOT

FOLDER = ROOT / "deploy" / "ray"


def documents(name: str) -> list[dict[str, Any]]:
    """Return the documents of a file of deploy/ray."""
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


(RAYJOB,) = documents("rayjob.yaml")
JOB = RAYJOB["spec"]
HEAD = JOB["rayClusterSpec"]["headGroupSpec"]
GPU, CPU = JOB["rayClusterSpec"]["workerGroupSpecs"]
PODS = {"head": HEAD["template"], "gpu": GPU["template"], "cpu": CPU["template"]}
(KUSTOMIZATION,) = documents("kustomization.yaml")
POLICY, HEAD_POLICY = (document["spec"] for document in documents("networkpolicy.yaml"))


def container(pod: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def script() -> str:
    """Return what the entrypoint runs: a file of the ConfigMap that the head has mounted."""
    shell, path = shlex.split(JOB["entrypoint"])
    mounts = {mount["mountPath"]: mount["name"] for mount in container(PODS["head"])["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in PODS["head"]["spec"]["volumes"]}
    (generated,) = KUSTOMIZATION["configMapGenerator"]
    assert shell == "sh"
    assert volumes[mounts[str(Path(path).parent)]]["configMap"]["name"] == generated["name"]
    assert KUSTOMIZATION["generatorOptions"]["disableNameSuffixHash"]
    assert generated["files"] == [Path(path).name]
    return (FOLDER / Path(path).name).read_text()


def commands(verb: str = "train") -> list[list[str]]:
    """Return the job's commands of `verb`; of training, to resume and to start."""
    lines = script().replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))[:2] == ["infoae", verb]]


def value(command: list[str], option: str) -> str:
    return command[command.index(option) + 1]


def test_one_image_and_one_ray_everywhere() -> None:
    (image,) = {container(pod)["image"] for pod in PODS.values()}
    (changed,) = KUSTOMIZATION["images"]
    assert image == f"{changed['name']}:{changed['newTag']}" == f"{changed['newName']}:{changed['newTag']}"
    ray = JOB["rayClusterSpec"]["rayVersion"]
    assert image.endswith(f":{__version__}-ray{ray}")
    dockerfile = (FOLDER / "Dockerfile").read_text()
    assert f"ARG RAY_VERSION={ray}\n" in dockerfile
    assert image in dockerfile
    assert f"=={ray}" in (FOLDER / "cluster.yaml").read_text()
    requirement = next(Requirement(line) for line in PROJECT["dependencies"] if line.startswith("ray["))
    assert requirement.specifier.contains(ray)
    assert Version(ray) >= Version("2.52")  # since when there are tokens


def test_the_schemas_of_kuberay_and_kubernetes_take_all_files() -> None:
    for schemas in ("rayjob-1.5.1.json.gz", "rayjob-1.7.0.json.gz"):
        assert problems(RAYJOB, schemas) == []
    for document in (*documents("networkpolicy.yaml"), *documents("storage.yaml")):
        assert problems(document, "core-1.37.0.json.gz") == []


def test_the_schemas_refuse_what_is_wrong() -> None:
    job, policy = copy.deepcopy(RAYJOB), copy.deepcopy(documents("networkpolicy.yaml")[0])
    groups = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    groups[0]["template"]["spec"]["containers"][0]["imag"] = "x"
    groups[1]["minReplicas"] = "1"
    policy["spec"]["egres"] = []
    assert [problem.split(":")[0] for problem in problems(job, "rayjob-1.7.0.json.gz")] == [
        "$.spec.rayClusterSpec.workerGroupSpecs[0].template.spec.containers[0]",
        "$.spec.rayClusterSpec.workerGroupSpecs[1].minReplicas",
    ]
    assert [problem.split(":")[0] for problem in problems(policy, "core-1.37.0.json.gz")] == ["$.spec"]


def test_kustomize_finds_all_that_it_names() -> None:
    assert {"rayjob.yaml", "networkpolicy.yaml"} == set(KUSTOMIZATION["resources"])  # deleting them keeps the volume
    assert all((FOLDER / name).is_file() for name in KUSTOMIZATION["resources"])
    assert all((FOLDER / name).is_file() for each in KUSTOMIZATION["configMapGenerator"] for name in each["files"])


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_builds_what_the_files_say(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "ray")
    kustomization = folder / "kustomization.yaml"
    kustomization.write_text(kustomization.read_text().replace("newName: registry.example.com", "newName: mine"))
    built = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=True, timeout=60)
    config, *policies, job = yaml.safe_load_all(built.stdout)
    assert config["data"] == {"job.sh": script()}
    assert policies == documents("networkpolicy.yaml")
    text = yaml.safe_dump(RAYJOB).replace("registry.example.com/infoae", "mine/infoae")
    assert job == yaml.safe_load(text)
    assert problems(config, "core-1.37.0.json.gz") == []


def test_what_infoae_asks_of_ray_is_what_the_groups_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own reading of the job says which nodes there are; infoae's, who trains and who classifies on them."""
    from ray._private.state import state
    from ray.autoscaler._private.kuberay import autoscaling_config

    messages: Any = importlib.import_module("ray.core.generated.autoscaler_pb2")  # whose names are made at run time
    cluster = {"metadata": {"name": "x", "namespace": "y"}, "spec": copy.deepcopy(JOB["rayClusterSpec"])}
    kinds = autoscaling_config._derive_autoscaling_config_from_ray_cr(cluster)["available_node_types"]
    started = ["headgroup"] + [group["groupName"] for group in (GPU, CPU) for _ in range(group["replicas"])]
    nodes = [
        {
            "NodeID": str(number),
            "Resources": kinds[name]["resources"],
            "Labels": kinds[name]["labels"] | {"ray.io/node-group": name},
        }
        for number, name in enumerate(started)
    ]
    config = messages.ClusterConfig(
        node_group_configs=[
            messages.NodeGroupConfig(name=name, resources=kind["resources"], max_count=kind["max_workers"])
            for name, kind in kinds.items()
        ]
    )
    monkeypatch.setattr(placement, "_nodes", lambda: nodes)
    monkeypatch.setattr(placement, "_available", lambda: {node["NodeID"]: node["Resources"] for node in nodes})
    monkeypatch.setattr(state, "get_cluster_config", lambda: config)

    for command in commands():
        asked = connect.request(value(command, "--nodes"), int(value(command, "--workers-per-node")), None)
        assert (asked.min_nodes, asked.max_nodes) == (GPU["minReplicas"], GPU["maxReplicas"]) == (2, 8)
        assert placement.layout(asked, "cuda") == Layout(2, 8, 1, cpus_per_worker=4, use_gpu=True)
    assert value(commands()[1], "--device") == "cuda"  # or it would train on the others while GPU nodes are missing
    assert placement.classifiers("auto") == Classifiers(4 * CPU["maxReplicas"], {"infoae/classify": "true"})
    # Without the label, on all nodes, as many as there may be.
    monkeypatch.setattr(placement, "_nodes", lambda: [node | {"Labels": {}} for node in nodes])
    assert placement.classifiers("auto") == Classifiers(4 * (CPU["maxReplicas"] + GPU["maxReplicas"]), {})
    monkeypatch.setattr(state, "get_cluster_config", lambda: None)
    assert placement.classifiers("auto") == Classifiers(4 * 3, {})


def test_gpu_nodes_are_for_gpus_alone() -> None:
    kept_off = {"key": "nvidia.com/gpu.present", "operator": "NotIn", "values": ["true"]}
    for name, pod in PODS.items():
        limits = container(pod)["resources"]["limits"]
        if name == "gpu":
            assert limits["nvidia.com/gpu"] == "1"
            assert [each["key"] for each in pod["spec"]["tolerations"]] == ["nvidia.com/gpu"]
        else:
            assert "nvidia.com/gpu" not in limits
            assert "tolerations" not in pod["spec"]
            node = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            assert node == {"nodeSelectorTerms": [{"matchExpressions": [kept_off]}]}
    assert HEAD["rayStartParams"]["num-cpus"] == "0"
    assert JOB["rayClusterSpec"]["enableInTreeAutoscaling"]
    assert JOB["rayClusterSpec"]["autoscalerOptions"]["version"] == "v2"  # V1 does not know labels
    assert CPU["minReplicas"] >= 1  # one whose label is seen


def test_the_network_lets_through_what_is_needed_and_no_more() -> None:
    for policy, pods in ((POLICY, PODS.values()), (HEAD_POLICY, [PODS["head"]])):
        wanted = policy["podSelector"]["matchLabels"].items() - {("ray.io/node-type", "head")}
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        for pod in pods:
            assert wanted <= pod["metadata"]["labels"].items()
    own = {"podSelector": POLICY["podSelector"]}
    assert POLICY["ingress"] == [{"from": [own]}]
    assert [{"to": [own]}] == [rule for rule in POLICY["egress"] if "ports" not in rule]
    opened = {
        port["port"] for policy in (POLICY, HEAD_POLICY) for rule in policy["egress"] for port in rule.get("ports", [])
    }
    assert opened == {53, 443, 6443}
    assert "from" in HEAD_POLICY["ingress"][0]
    assert HEAD_POLICY["ingress"][0]["ports"] == [{"protocol": "TCP", "port": 8265}]
    submitter = HEAD_POLICY["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    assert submitter == {"ray.io/originated-from-cr-name": RAYJOB["metadata"]["name"]}
    assert HEAD_POLICY["podSelector"]["matchLabels"]["ray.io/node-type"] == "head"


def test_all_pods_see_the_runs_and_may_do_no_more_than_they_need() -> None:
    (claim,) = documents("storage.yaml")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    dockerfile = (FOLDER / "Dockerfile").read_text()
    for name, pod in PODS.items():
        only = container(pod)
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in only["volumeMounts"]}
        for command in commands():
            shared = mounts[value(command, "--runs")]
            assert shared["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert mounts["/dev/shm"]["emptyDir"]["medium"] == "Memory"  # noqa: S108
        assert only["resources"]["requests"] == only["resources"]["limits"]
        assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in only["env"]
        assert only["securityContext"] == JOB["rayClusterSpec"]["autoscalerOptions"]["securityContext"]
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        assert f"USER {pod['spec']['securityContext']['runAsUser']}\n" in dockerfile
        # The autoscaler beside the head asks the API server, with the operator's account; workers ask nobody.
        assert pod["spec"].get("automountServiceAccountToken") is (None if name == "head" else False)
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
        command = script().replace("/runs", str(tmp_path))
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": address}
        done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 1, done.stderr
        return done.stderr

    return run


@pytest.mark.slow
def test_infoae_takes_the_command_and_finds_no_cluster(
    entrypoint: Callable[[], str], finished_run: Run, tmp_path: Path
) -> None:
    assert re.fullmatch(r"error: no Ray cluster at .*refused.*; 2 nodes needed: .*\n", entrypoint())
    stopped = tmp_path / value(commands()[1], "--name")
    assert not stopped.exists()

    shutil.copytree(finished_run.path, stopped)
    (stopped / EVALUATION).unlink()
    settings = [f"train.epochs={finished_run.config().train.epochs + 1}"]
    longer = recipes.parse((stopped / "config.yaml").read_text(), "test", settings)
    (stopped / "config.yaml").write_text(recipes.dump(longer))
    assert re.fullmatch(r"error: no Ray cluster at .*refused.*; 2 nodes needed: .*\n", entrypoint())
    assert list(Run(stopped).metrics()) == list(finished_run.metrics())


@pytest.mark.parametrize(("verb", "command"), [("export", export), ("classify", classify)])
def test_infoae_takes_what_follows_training(verb: str, command: Callable[..., None]) -> None:
    """All options are there and of the right kind; what the command would then do is not done."""
    called = []
    app = typer.Typer()

    @functools.wraps(command)
    def instead(**options: Any) -> None:
        called.append(options)

    app.command()(instead)
    ((_, _, *arguments),) = commands(verb)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert len(called) == 1
    run = Path(value(commands()[1], "--runs")) / value(commands()[1], "--name")
    if verb == "classify":
        assert called[0]["ray"]
        assert called[0]["model"] == run / "bundle"  # where export writes it
    else:
        assert called[0]["runs"] / called[0]["run"] == run
        assert called[0]["out"] is None


def test_what_is_done_is_not_done_again(finished_run: Run, tmp_path: Path) -> None:
    shutil.copytree(finished_run.path, tmp_path / "mnist")
    (tmp_path / "mnist" / "bundle").mkdir()
    (tmp_path / "mnist" / EVALUATION).touch()
    command = script().replace("/runs", str(tmp_path))
    subprocess.run(["sh", "-c", command], env={"PATH": ""}, executable="/bin/sh", check=True, timeout=60)


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

    assert "no run 'mnist'" in error(resume)  # and so it is started
    assert "no Ray cluster" in error(start)
    settings = [f"train.epochs={finished_run.config().train.epochs + 1}"]
    longer = recipes.parse((finished_run.path / "config.yaml").read_text(), "test", settings)
    stopped = Run(Path(shutil.copytree(finished_run.path, tmp_path / "mnist")))
    stopped.write_config(longer)
    Storage(str(store)).push(stopped)
    assert "no Ray cluster" in error(resume)
    shutil.rmtree(runs)  # on another new head
    assert "'mnist' exists in" in error(start)
    assert len(list((store / "mnist" / "checkpoints").iterdir())) == len(list(stopped.checkpoints.iterdir()))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray and its jsonschema
def test_ray_up_takes_the_cluster() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    cluster = yaml.safe_load((FOLDER / "cluster.yaml").read_text())
    validate_config(prepare_config(cluster))
    machines = [cluster["provider"]["head_ip"], *cluster["provider"]["worker_ips"]]
    assert GPU["minReplicas"] <= len(set(machines)) <= GPU["maxReplicas"]
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
