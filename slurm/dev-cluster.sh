#!/usr/bin/env bash
# A real one-machine Slurm to try things on: dev-cluster.sh up|down
#   eval "$(slurm/dev-cluster.sh up)"      two simulated nodes; sets SLURM_CONF, which all commands read
# Nothing outside DEV_CLUSTER is written, and no service of the machine is touched.
# Needs  apt-get install -y slurm-wlm munge  and works for root and for any other user.
set -euo pipefail
state=${DEV_CLUSTER:-/tmp/understudy-slurm-$(id -u)}
nodes=${DEV_CLUSTER_NODES:-2}
port=${DEV_CLUSTER_PORT:-16817}
export SLURM_CONF=$state/slurm.conf

conf() {
  local user host memory cpus
  user=$(id -un) host=$(hostname -s) cpus=$(env -u OMP_NUM_THREADS nproc)
  memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
  cat <<END
ClusterName=dev
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$state/munge.socket
CredType=cred/munge
StateSaveLocation=$state/ctld
SlurmdSpoolDir=$state/spool/%n
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd-%n.pid
SlurmctldLogFile=$state/slurmctld.log
SlurmdLogFile=$state/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
SwitchType=switch/none
MpiDefault=none
ReturnToService=1
# a preempted job is warned with the signal it asked for, has GraceTime to save, and is requeued
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
KillWait=5
MaxArraySize=101
DefMemPerCPU=256
GresTypes=gpu
AccountingStorageType=accounting_storage/none
END
  for n in $(seq "$nodes"); do
    echo "NodeName=n$n NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + n)) CPUs=$cpus" \
      "RealMemory=$memory Gres=gpu:4"
  done
  echo "PartitionName=main Nodes=n[1-$nodes] Default=YES PriorityTier=10"
  echo "PartitionName=low Nodes=n[1-$nodes] PriorityTier=1 GraceTime=30"
  echo "${DEV_CLUSTER_MORE:-}"
}

up() {
  mkdir -p "$state"/{ctld,spool}
  chmod 755 "$state"
  [ -s "$state/munge.key" ] || (umask 077 && head -c 1024 /dev/urandom >"$state/munge.key")
  # counted only: the scheduler hands out four devices per node, and they are no GPUs
  printf 'Name=gpu File=/dev/%s\n' null zero full random >"$state/gres.conf"
  printf 'CgroupAutomount=no\n' >"$state/cgroup.conf"
  conf >"$state/slurm.conf"
  PATH=$PATH:/usr/sbin
  munge -n --socket="$state/munge.socket" >/dev/null 2>&1 ||
    munged --force --key-file="$state/munge.key" --socket="$state/munge.socket" \
      --pid-file="$state/munged.pid" --log-file="$state/munged.log" --seed-file="$state/munged.seed"
  scontrol ping >/dev/null 2>&1 || slurmctld
  for n in $(seq "$nodes"); do
    mkdir -p "$state/spool/n$n"
    kill -0 "$(cat "$state/slurmd-n$n.pid" 2>/dev/null || echo none)" 2>/dev/null || slurmd -N "n$n"
  done
  for _ in $(seq 100); do
    [ "$(sinfo -h -p main -t idle,mix,alloc -o %D 2>/dev/null)" = "$nodes" ] && break
    sleep 0.1
  done
  sinfo -p main -t idle,mix,alloc >&2
  printf 'export SLURM_CONF=%q\n' "$SLURM_CONF"
}

down() {
  scancel --me 2>/dev/null && sleep 1
  for file in "$state"/slurmd-*.pid "$state/slurmctld.pid" "$state/munged.pid"; do
    if pid=$(cat "$file" 2>/dev/null) && kill "$pid" 2>/dev/null; then
      for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    fi
  done
  rm -rf "$state"
}

case ${1:-} in
up | down) "$1" ;;
*) echo "usage: dev-cluster.sh up|down" >&2 && exit 2 ;;
esac
