"""The manifests of deploy/kubernetes: their parts fit each other, and petseg."""

import pytest
import tensorflow as tf
import yaml
from testing.clusters import free_ports
from testing.command_processes import ROOT
from testing.commands import assert_one_line_error, run_module

from petseg.errors import UserError
from petseg.input_pipeline import service
from petseg.training import kubernetes_hosts

FOLDER = ROOT / "deploy" / "kubernetes"
DOCUMENTS = [
    document
    for path in sorted(FOLDER.glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]


def named(kind, name):
    (found,) = (d for d in DOCUMENTS if (d["kind"], d["metadata"]["name"]) == (kind, name))
    return found


def pods():
    return [d["spec"]["template"] for d in DOCUMENTS if d["kind"] in ("Job", "Deployment")]


JOB = named("Job", "petseg-train")
CONTAINER = JOB["spec"]["template"]["spec"]["containers"][0]


def test_the_pods_of_the_job_find_each_other():
    spec = JOB["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] > 1  # all hosts at the same time
    headless = named("Service", spec["template"]["spec"]["subdomain"])["spec"]
    assert headless["clusterIP"] == "None" and headless["publishNotReadyAddresses"] is True
    assert headless["selector"] == {"batch.kubernetes.io/job-name": "petseg-train"}
    assert CONTAINER["ports"][0]["containerPort"] == kubernetes_hosts.PORT
    assert not {"hostname", "hostNetwork"} & set(spec["template"]["spec"])


def test_the_pods_may_read_their_job_and_nothing_else():
    account = JOB["spec"]["template"]["spec"]["serviceAccountName"]
    binding = named("RoleBinding", account)
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account}]
    role = named("Role", binding["roleRef"]["name"])
    assert role["rules"] == [
        {"apiGroups": ["batch"], "resources": ["jobs"], "resourceNames": ["petseg-train"],
         "verbs": ["get"]}
    ]  # fmt: skip
    assert named("ServiceAccount", account)
    for name in ("petseg-data-dispatcher", "petseg-data-worker"):
        pod = named("Deployment", name)["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False


def test_what_is_tried_again_follows_from_petsegs_statuses():
    spec = JOB["spec"]
    by_action = {}
    for rule in spec["podFailurePolicy"]["rules"]:
        by_action.setdefault(rule["action"], []).extend(
            rule.get("onExitCodes", {}).get("values", ())
        )
    assert by_action == {"FailJob": [UserError.exit_status], "Ignore": [128 + 15]}
    assert spec["template"]["spec"]["restartPolicy"] == "Never"  # what the policy needs
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] >= 60


def test_no_pod_runs_as_root_and_all_mount_what_there_is():
    claim = named("PersistentVolumeClaim", "petseg")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert len(pods()) == 3
    for template in pods():
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        assert volumes["work"]["persistentVolumeClaim"]["claimName"] == "petseg"
        for container in spec["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)


@pytest.mark.parametrize("name", ["petseg-data-dispatcher", "petseg-data-worker"])
def test_a_deployment_selects_its_own_pods(name):
    spec = named("Deployment", name)["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()


def test_policies_and_services_select_pods_that_there_are():
    labels = [template.get("metadata", {}).get("labels", {}) for template in pods()]
    labels.append({"batch.kubernetes.io/job-name": "petseg-train"})  # Kubernetes' own
    selectors = [d["spec"]["selector"] for d in DOCUMENTS if d["kind"] == "Service"]
    for policy in (d for d in DOCUMENTS if d["kind"] == "NetworkPolicy"):
        selectors.append(policy["spec"]["podSelector"]["matchLabels"])
        (rule,) = policy["spec"]["ingress"]
        selectors += [source["podSelector"]["matchLabels"] for source in rule["from"]]
    assert len(selectors) == 7
    for selector in selectors:
        assert any(selector.items() <= of_pod.items() for of_pod in labels), selector


def test_the_command_of_the_job_is_one_that_petseg_takes(tmp_path):
    program, *arguments = CONTAINER["command"]
    assert program == "petseg-train"
    outside = {"JOB_COMPLETION_INDEX": "", "KUBERNETES_SERVICE_HOST": ""}
    there = f"--config.data.dir={tmp_path}"
    done = run_module("-m", "petseg.train", *arguments, there, **outside)
    assert_one_line_error(done, 2, "config.devices.cluster=kubernetes")


def start(name, replaced):
    """Starts the server of a deployment in this process, with other addresses."""
    (container,) = named("Deployment", name)["spec"]["template"]["spec"]["containers"]
    python, flag, code = container["command"]
    assert (python, flag) == ("python", "-c")
    for old, new in replaced.items():
        assert old in code
        code = code.replace(old, new)
    scope = {}
    exec(code.rstrip().removesuffix("server.join()"), scope)
    return scope["server"]


def test_the_data_service_of_the_manifest_serves(monkeypatch):
    (port,) = named("Service", "petseg-data")["spec"]["ports"]
    address = f"petseg-data:{port['port']}"
    assert port["targetPort"] == 5050
    dispatcher_port, worker_port = map(str, free_ports(2))
    monkeypatch.setenv("POD_IP", "localhost")
    dispatcher = start("petseg-data-dispatcher", {"5050": dispatcher_port})
    here = f"localhost:{dispatcher_port}"
    worker = start("petseg-data-worker", {address: here, "5051": worker_port})
    service.check_reachable(f"grpc://{here}")
    numbers = tf.data.Dataset.range(10).apply(
        tf.data.experimental.service.distribute("distributed_epoch", f"grpc://{here}")
    )
    assert sorted(numbers.as_numpy_iterator()) == list(range(10))
    del worker, dispatcher
