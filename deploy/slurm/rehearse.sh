#!/bin/bash
# A Slurm of two machines, on one: to try train.sbatch where there is no cluster.
#
#   sudo apt-get install slurmctld slurmd slurm-client munge
#   sudo ./rehearse.sh up DIR       DIR is new; then, in that shell: export SLURM_CONF=DIR/slurm.conf
#   sudo ./rehearse.sh down DIR
#
# The machines n9 and n10 are network namespaces, each with an address, a name and a slurmd of
# its own. (In the order of characters n10 comes before n9, in that of Slurm after it.)
set -euo pipefail
action=$1
dir=$(realpath -m "$2")
nodes=(n9 n10)

up() {
    mkdir "$dir" "$dir"/{state,spool,pid,munge}
    chmod 755 "$dir"
    printf '127.0.0.1 localhost\n10.77.0.1 controller\n10.77.0.9 n9\n10.77.0.10 n10\n' > "$dir/hosts"
    # Containers may have no control groups that Slurm's default could use.
    echo CgroupPlugin=cgroup/v1 > "$dir/cgroup.conf"
    ip link add petseg0 type bridge
    ip address add 10.77.0.1/24 dev petseg0
    ip link set petseg0 up
    for node in "${nodes[@]}"; do
        number=${node#n}
        mkdir "$dir/spool/$node"
        ip netns add "$node"
        ip link add "petseg$number" type veth peer name eth0 netns "$node"
        ip link set "petseg$number" master petseg0 up
        ip -n "$node" address add "10.77.0.$number/24" dev eth0
        ip -n "$node" link set eth0 up
        ip -n "$node" link set lo up
    done
    cat > "$dir/slurm.conf" <<CONF
ClusterName=rehearsal
SlurmctldHost=controller(10.77.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/pid/slurmctld
SlurmdPidFile=$dir/pid/%n
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/%n.log
ReturnToService=2
KillWait=30
# As many processors as asked for; the machine's own are shared.
SlurmdParameters=config_overrides
NodeName=n9 NodeAddr=10.77.0.9 CPUs=4
NodeName=n10 NodeAddr=10.77.0.10 CPUs=4
PartitionName=all Nodes=ALL Default=YES OverTimeLimit=0
CONF
    dd if=/dev/urandom of="$dir/munge/key" bs=128 count=1 status=none
    chmod 400 "$dir/munge/key"
    munged --force --key-file="$dir/munge/key" --socket="$dir/munge/socket" \
        --pid-file="$dir/pid/munged" --log-file="$dir/munge/log" --seed-file="$dir/munge/seed"
    unshare --uts bash -c "hostname controller; exec slurmctld -f $dir/slurm.conf"
    for node in "${nodes[@]}"; do
        nsenter --net="/run/netns/$node" unshare --uts --mount bash -c "
            hostname $node
            mount --bind $dir/hosts /etc/hosts
            exec slurmd -N $node -f $dir/slurm.conf"
    done
    SLURM_CONF=$dir/slurm.conf sinfo
}

down() {
    for name in n9 n10 slurmctld munged; do
        [[ -f $dir/pid/$name ]] || continue
        pid=$(cat "$dir/pid/$name")
        kill "$pid" || true
        while kill -0 "$pid" 2> /dev/null; do sleep 0.2; done
    done
    for node in "${nodes[@]}"; do
        ip netns delete "$node" || true
    done
    ip link delete petseg0
}

"$action"
