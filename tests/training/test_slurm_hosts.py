import random

import pytest

from petseg.training import slurm_hosts


def variables(nodes, tasks, index, job="7", step="0", **others):
    return {
        "SLURM_STEP_NODELIST": nodes,
        "SLURM_STEP_TASKS_PER_NODE": tasks,
        "SLURM_PROCID": str(index),
        "SLURM_JOB_ID": job,
        "SLURM_STEP_ID": step,
        **others,
    }


def names(nodes, tasks, index=0):
    return [a.split(":")[0] for a in slurm_hosts.hosts_of_step(variables(nodes, tasks, index))[0]]


@pytest.mark.parametrize(("nodes", "tasks", "expected"), [
    ("n7", "1", ["n7"]),
    ("n[7-8]", "2(x2)", ["n7", "n7", "n8", "n8"]),
    ("n[9-10]", "1(x2)", ["n9", "n10"]),  # not in the order of their characters
    ("n10,n9", "1(x2)", ["n10", "n9"]),
    ("gpu[008-010,2],login-1.site", "1(x2),2,1(x2)",
     ["gpu008", "gpu009", "gpu010", "gpu010", "gpu2", "login-1.site"]),
    ("r[1-2]n[09-10]", "1(x4)", ["r1n09", "r1n10", "r2n09", "r2n10"]),
    ("a[1,3]-ib", "1(x2)", ["a1-ib", "a3-ib"]),
])  # fmt: skip
def test_tasks_come_in_the_order_of_slurms_list(nodes, tasks, expected):
    assert names(nodes, tasks) == expected


def test_any_list_of_machines_is_read_back():
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(200):
        parts, expected = [], []
        for part in range(rng.randint(1, 4)):
            prefix, first = f"m{part}x", rng.randint(0, 120)
            last, width = first + rng.randint(0, 12), rng.randint(1, 4)
            width = max(width, len(str(first)))
            parts.append(f"{prefix}[{first:0{width}}-{last:0{width}}]")
            expected += [f"{prefix}{i:0{width}}" for i in range(first, last + 1)]
        assert names(",".join(parts), f"1(x{len(expected)})") == expected


def test_tasks_of_a_machine_and_jobs_that_share_it_have_ports_of_their_own():
    used = set()
    for job in range(100, 105):
        for step in range(4):
            addresses, index = slurm_hosts.hosts_of_step(
                variables("n1", "8", 3, job=str(job), step=str(step))
            )
            assert index == 3 and len(set(addresses)) == 8
            assert used.isdisjoint(addresses)
            used.update(addresses)
    ports = [int(address.split(":")[1]) for address in used]
    assert min(ports) > 1024 and max(ports) < 32768  # where systems begin to give ports themselves


@pytest.mark.parametrize(("changed", "message"), [
    ({"SLURM_STEP_NODELIST": None}, "SLURM_STEP_NODELIST is not set: start every task by srun"),
    ({"SLURM_STEP_NODELIST": "n[1-2"}, "is not a list of machines"),
    ({"SLURM_STEP_NODELIST": "n[1-x]"}, "'x'"),
    ({"SLURM_STEP_NODELIST": "n[1-3]"}, "3 machines, and tasks of 2"),
    ({"SLURM_STEP_TASKS_PER_NODE": "2(2)"}, "is not a list of numbers"),
    ({"SLURM_PROCID": "2"}, "SLURM_PROCID=2, but the step has 2 tasks"),
    ({"SLURMD_NODENAME": "n2"}, "task 0 runs on n2, not on n1: give srun --distribution=block"),
])  # fmt: skip
def test_what_is_wrong_is_said(changed, message):
    given = variables("n[1-2]", "1(x2)", 0, SLURMD_NODENAME="n1") | changed
    given = {name: value for name, value in given.items() if value is not None}
    with pytest.raises(ValueError, match=r".*") as caught:
        slurm_hosts.hosts_of_step(given)
    assert message in str(caught.value) and "\n" not in str(caught.value)
