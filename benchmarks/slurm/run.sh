#!/usr/bin/env bash
# Runs of ipi-driver in a real Slurm: time limit and requeue, an array over seeds, scancel, two jobs of one folder, a job
# whose time is too short for any step. Starts a slurmctld and a slurmd of its own, for this machine alone, and ends them.
#
#   apt-get install slurm-wlm munge; bash benchmarks/slurm/run.sh        # as root, about 10 minutes
#
# Prints one line for each case and ends with status 1 if one fails.
set -uo pipefail
command -v slurmctld >/dev/null || { echo "no slurmctld: apt-get install slurm-wlm munge"; exit 2; }
place=$(mktemp -d /tmp/slurm-XXXXXX)
chmod 755 "$place"
export SLURM_CONF=$place/slurm.conf
host=$(hostname -s)
mkdir -p "$place/state" "$place/spool" /run/munge
[ -s /etc/munge/munge.key ] || { dd if=/dev/urandom of=/etc/munge/munge.key bs=1024 count=1 status=none; }
chown -R munge: /etc/munge /run/munge /var/lib/munge /var/log/munge; chmod 400 /etc/munge/munge.key
pgrep -x munged >/dev/null || runuser -u munge -- munged
cat >"$SLURM_CONF" <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
StateSaveLocation=$place/state
SlurmdSpoolDir=$place/spool
SlurmctldPidFile=$place/slurmctld.pid
SlurmdPidFile=$place/slurmd.pid
SlurmctldLogFile=$place/slurmctld.log
SlurmdLogFile=$place/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
JobRequeue=1
KillWait=30
OverTimeLimit=0
MpiDefault=none
MinJobAge=3600
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc --all) State=UNKNOWN
PartitionName=low Nodes=$host Default=YES MaxTime=1-0 State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=40
PartitionName=high Nodes=$host MaxTime=1-0 State=UP PriorityTier=9 PreemptMode=OFF
CONF
slurmctld -f "$SLURM_CONF" && slurmd -f "$SLURM_CONF" -N "$host"
finish() {
    scancel -u root 2>/dev/null; sleep 2
    kill "$(cat "$place/slurmd.pid")" "$(cat "$place/slurmctld.pid")" 2>/dev/null
    [ "$failed" -eq 0 ] && rm -rf "$place" || echo "left for inspection: $place"
}
failed=0
trap finish EXIT
for _ in $(seq 60); do sinfo -h -o %T 2>/dev/null | grep -q idle && break; sleep 1; done
sinfo -h -o "node %n: %T, Slurm %v" 2>/dev/null || true

script=$(cd "$(dirname "$0")/../.." && pwd)/inputs/slurm.sh
work=$place/work; mkdir "$work"; cd "$work"
model='anisotropic?l=2&amplitude=0.05'
verdict() { # what, condition
    if eval "$2"; then echo "ok    $1"; else echo "FAIL  $1   ($2)"; failed=1; fi
}
wait_for() { # seconds, condition
    for _ in $(seq "$1"); do eval "$2" 2>/dev/null && return 0; sleep 1; done; return 1
}
state() { scontrol show job "$1" 2>/dev/null | grep -o 'JobState=[A-Z_]*' | head -1 | cut -d= -f2; }
rows() { python3 - "$1" <<'PY'
import sys
steps = [int(float(l.split()[0])) for l in open(sys.argv[1] + "/simulation.out") if not l.startswith("#")]
regular = all(b - a == steps[1] - steps[0] for a, b in zip(steps, steps[1:]))
print(f"{len(steps)} rows to step {steps[-1]},", "regular" if regular else "IRREGULAR")
PY
}

# 1 an array of two seeds
a=$(sbatch --parsable --job-name=seeds --array=1-2 --time=10 --cpus-per-task=1 "$script" gas-nve --model "$model" --steps 300)
wait_for 300 '[ "$(state ${a}_1)" = COMPLETED ] && [ "$(state ${a}_2)" = COMPLETED ]'
verdict "array over seeds: two folders, two seeds" '[ -s runs/seeds-1/summary.json ] && [ -s runs/seeds-2/summary.json ] && ! cmp -s runs/seeds-1/simulation.out runs/seeds-2/simulation.out'
# 2 scancel
c=$(sbatch --parsable --job-name=cancelled --time=30 --cpus-per-task=1 "$script" gas-nve --model "$model" --steps 1000000)
wait_for 120 '[ "$(grep -vc "^#" runs/cancelled/simulation.out 2>/dev/null)" -gt 5 ]'
scancel --batch --signal=TERM "$c"
wait_for 60 '[ "$(state $c)" != RUNNING ]'
verdict "scancel: RESTART and summary, not requeued ($(state "$c"))" '[ -s runs/cancelled/RESTART ] && [ -s runs/cancelled/summary.json ] && [ "$(state $c)" != PENDING ]'
# 3 two jobs of one name, each on a processor of its own
b1=$(sbatch --parsable --job-name=same --time=30 --cpus-per-task=1 "$script" gas-nve --model "$model" --steps 1000000)
wait_for 120 '[ "$(grep -vc "^#" runs/same/simulation.out 2>/dev/null)" -gt 5 ]'
b2=$(sbatch --parsable --job-name=same --time=30 --cpus-per-task=1 "$script" gas-nve --model "$model" --steps 1000000)
wait_for 90 '[ "$(state $b2)" = FAILED ]'
verdict "second job in one folder is refused, the first goes on" '[ "$(state $b2)" = FAILED ] && [ "$(state $b1)" = RUNNING ]'
# 4 preemption by a partition of higher priority
p=$(sbatch --parsable --partition=high --job-name=urgent --time=2 --cpus-per-task="$(nproc --all)" --wrap "sleep 5")
wait_for 120 '[ "$(state $p)" = COMPLETED ]'
wait_for 300 '[ "$(state $b1)" = RUNNING ] && grep -q "step" runs/same/i-pi.log'
verdict "preempted, requeued, goes on ($(rows runs/same))" 'rows runs/same | grep -q " regular" && [ "$(state $b1)" = RUNNING ]'
scancel "$b1"
# 5 time limit of one minute, signal 25 s before: the job stops itself, requeues, and ends after several jobs
j=$(sbatch --parsable --job-name=limit --time=1 --signal=B:USR1@25 --cpus-per-task=1 "$script" gas-nve --model "$model" --steps 15000 --seed 3)
# 6 no progress: the time is over before the model is loaded, in every job
export IPI_DRIVER_MAX_REQUEUES=1
cat >slow.py <<'PY'
import time
from ase.calculators.emt import EMT
time.sleep(90)  # longer than the job may run
class Slow(EMT):
    """A model that takes long to load."""
PY
n=$(sbatch --parsable --job-name=short --time=1 --signal=B:USR1@30 --cpus-per-task=1 "$script" gas-nve --model ase:slow.Slow --steps 100)
wait_for 500 '[ "$(state $n)" = FAILED ]'
verdict "no progress in two jobs: not put back into the queue" '[ "$(state $n)" = FAILED ] && grep -q "no step was done" short-*.log'
unset IPI_DRIVER_MAX_REQUEUES
# 7 a farm over seeds and averages
echo 'cpus: 1' >cluster.yaml
ipi-driver submit gas-nve --cluster cluster.yaml --seeds 1-2 --average none T --model "$model" --steps 200 --output farm >farm.log && f=$(grep -o 'job [0-9]*' farm.log | cut -d' ' -f2)
wait_for 400 '[ "$(ls farm/*/summary.json 2>/dev/null | wc -l)" -eq 4 ]'
verdict "farm of two seeds and two averages: four members finished" '[ "$(grep -l "\"finished\": true" farm/*/summary.json | wc -l)" -eq 4 ]'
wait_for 1500 '[ "$(state $j)" = COMPLETED ]'
verdict "time limit: $(grep -c 'continues in the next job' limit-*.log) times requeued, $(rows runs/limit)" 'rows runs/limit | grep -q "to step 15000, regular"'
exit "$failed"
