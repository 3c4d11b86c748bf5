import json
import socket
import threading

import pytest
from testing.clusters import free_ports
from testing.waiting import wait_until

from petseg.errors import UserError
from petseg.training import distribution, rendezvous


def tf_config(monkeypatch, content):
    text = content if isinstance(content, str) else json.dumps(content)
    monkeypatch.setenv("TF_CONFIG", text)


@pytest.mark.parametrize(("content", "message"), [
    ("{not json", "TF_CONFIG is not what TensorFlow expects"),
    ("[]", "TF_CONFIG is not what TensorFlow expects"),
])  # fmt: skip
def test_a_damaged_tf_config_is_one_line_under_auto(monkeypatch, content, message):
    tf_config(monkeypatch, content)
    with pytest.raises(UserError, match=message) as caught:
        distribution.make_strategy("auto", "tf_config", 0, 8)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("cluster", "content", "message"), [
    ("tf_config", {}, "names no workers"),
    ("tf_config",
     {"cluster": {"worker": ["h:1", "h:2"]}, "task": {"type": "worker", "index": 2}},
     "there is no worker 2"),
    ("tf_config",
     {"cluster": {"worker": ["nowhere", "h:2"]}, "task": {"type": "worker", "index": 0}},
     "'nowhere' is not HOST:PORT"),
    ("slurm", {}, "cluster=slurm"),
    ("kubernetes", {}, "cluster=kubernetes"),
])  # fmt: skip
def test_a_cluster_that_is_not_described_is_one_line(monkeypatch, cluster, content, message):
    tf_config(monkeypatch, content)
    with pytest.raises(UserError, match=message) as caught:
        distribution.make_strategy("multi_worker", cluster, 0, 8)
    assert "\n" not in str(caught.value)


def test_a_port_that_is_taken_is_one_line(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        workers = [f"127.0.0.1:{port}", "127.0.0.1:1"]
        task = {"type": "worker", "index": 0}
        tf_config(monkeypatch, {"cluster": {"worker": workers}, "task": task})
        with pytest.raises(UserError, match=f"host 0, 127.0.0.1:{port}: .*in use"):
            distribution.make_strategy("multi_worker", "tf_config", 0, 8)


def test_slurms_variables_name_the_hosts(monkeypatch):
    for name, value in {
        "SLURM_PROCID": "2", "SLURM_STEP_NODELIST": "n[9-10]", "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
        "SLURM_JOB_ID": "1", "SLURM_STEP_ID": "0",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    resolver = distribution._make_resolver("slurm")
    hosts = ["n9:10160", "n9:10161", "n10:10160", "n10:10161"]
    assert distribution._hosts(resolver) == (hosts, 2)


def test_a_chief_comes_before_the_workers(monkeypatch):
    cluster = {"chief": ["a:1"], "worker": ["b:1", "c:1"], "evaluator": ["d:1"]}
    for task, index in ((("chief", 0), 0), (("worker", 0), 1), (("worker", 1), 2)):
        tf_config(monkeypatch, {"cluster": cluster, "task": {"type": task[0], "index": task[1]}})
        resolver = distribution._make_resolver("tf_config")
        assert distribution._hosts(resolver) == (["a:1", "b:1", "c:1"], index)


@pytest.mark.parametrize("name", ["auto", "multi_worker"])
@pytest.mark.parametrize("task", ["evaluator", "ps"])
@pytest.mark.parametrize("workers", [["b:1"], []])
def test_a_task_that_would_not_train_is_refused_before_it_waits(monkeypatch, name, task, workers):
    def wait(addresses, index):
        pytest.fail(f"{task} takes the place of host {index}")

    monkeypatch.setattr(rendezvous, "wait_for_all", wait)
    cluster = {"chief": ["a:1"], "worker": workers, task: ["d:1"]}
    tf_config(monkeypatch, {"cluster": cluster, "task": {"type": task, "index": 0}})
    with pytest.raises(UserError, match=f"'{task}'.* chief and worker") as caught:
        distribution.make_strategy(name, "tf_config", 0, 8)
    assert "\n" not in str(caught.value)


def test_hosts_wait_for_each_other_and_name_who_is_missing(capfd):
    addresses = [f"127.0.0.1:{port}" for port in free_ports(3)]
    over, met = threading.Event(), []

    def join(index):
        rendezvous.wait_for_all(addresses, index)
        with socket.create_server(("127.0.0.1", int(addresses[index].split(":")[1]))):
            met.append(index)
            over.wait(90)  # as TensorFlow's server does

    threads = [threading.Thread(target=join, args=(index,), daemon=True) for index in range(3)]
    threads[0].start()
    threads[1].start()
    threads[0].join(timeout=3)
    assert threads[0].is_alive() and threads[1].is_alive()
    printed = capfd.readouterr().err
    assert "waiting for " in printed and addresses[2] in printed
    threads[2].start()
    wait_until(lambda: len(met) == 3, "meeting of three")
    over.set()
    for thread in threads:
        thread.join(timeout=20)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ("host", "listens_there", "listens_elsewhere"),
    [
        ("127.0.0.1", "127.0.0.1", False),
        ("localhost", "127.0.0.1", False),
        (socket.gethostname(), "127.0.0.1", True),  # may be 127.0.1.1 on the host itself
        ("192.0.2.1", "127.0.0.1", True),  # a router's
    ],
)
def test_a_host_listens_only_at_the_address_that_it_is_given(
    host, listens_there, listens_elsewhere
):
    ports = free_ports(2)
    addresses = [f"{host}:{ports[0]}", f"127.0.0.1:{ports[1]}"]
    waiting = threading.Thread(target=rendezvous.wait_for_all, args=(addresses, 0), daemon=True)
    waiting.start()
    wait_until(lambda: rendezvous._is_reachable(f"{listens_there}:{ports[0]}"), "a listening host")
    assert rendezvous._is_reachable(f"127.0.0.2:{ports[0]}") == listens_elsewhere
    with socket.create_server(("127.0.0.1", ports[1])):
        waiting.join(300)
    assert not waiting.is_alive()


def test_a_batch_that_cannot_be_shared_names_ones_that_can():
    with pytest.raises(UserError, match=r"1 replicas of 4 microbatches; use 8 or 12"):
        distribution.make_strategy("one_device", "tf_config", 0, 10, 4)
