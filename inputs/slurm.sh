#!/bin/bash
# One simulation as a Slurm job that continues itself: two minutes before its time is over the job asks the run to
# stop, which writes a RESTART, and puts itself back into the queue until the run has reached its last step.
#
#   sbatch --job-name=water slurm.sh liquid-nvt --structure init-512.xyz --steps 200000
#
# The words after slurm.sh are those of `ipi-driver run` (without --output and --resume). The run folder is runs/ and
# the name of the job, or of the input where --job-name is not given. A job goes on with the run that is in its folder if
# that was begun with the same words, but for --steps and where the model runs; another input, structure, seed or average
# is refused: give such jobs names of their own. A set, such as ice or with --structures DIR, goes on with the cells that
# are not finished. It also works without Slurm: bash slurm.sh gas-nvt
#
# An array runs one seed in each task, in runs/NAME-TASK:   sbatch --array=1-5 --job-name=water slurm.sh liquid-nvt
# A GPU:                                                    sbatch --gres=gpu:1 slurm.sh liquid-nvt --device cuda
# Where jobs must not requeue, submit several copies:       sbatch --dependency=singleton --job-name=water slurm.sh ...
# with IPI_DRIVER_REQUEUE=no in the environment; each goes on where the one before has stopped.
# `ipi-driver submit` writes and submits arrays over seeds and averages.

# no --job-name here: all inputs would share its folder
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log

# --- adapt to the machine: where ipi-driver is installed -----------------------------------------------------------
# module load python cuda
# source "$HOME/venv/bin/activate"
# --------------------------------------------------------------------------------------------------------------------

if [ $# -lt 1 ]; then
    echo "usage: sbatch slurm.sh INPUT [options of ipi-driver run]" >&2
    exit 2
fi
input=$1
shift
name=${SLURM_JOB_NAME-}
case $name in
'' | *.sh | sbatch | bash | interactive) # what Slurm calls a job without --job-name
    name=$(basename "${input%/input.xml}")
    ;;
esac
options=("$@")
if [ -n "${SLURM_ARRAY_TASK_ID-}" ] && [ -z "${IPI_DRIVER_RUN_FOLDER-}" ]; then
    name=$name-$SLURM_ARRAY_TASK_ID
    [[ " $* " == *" --seed"* ]] || options+=(--seed "$SLURM_ARRAY_TASK_ID")
fi
folder=${IPI_DRIVER_RUN_FOLDER:-runs/$name}

# i-PI computes next to nothing: the cores are the model's
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}

# begins the run, or goes on with it; what was begun with another input, seed, structure, ... is refused
ipi-driver run "$input" --output "$folder" --continue "${options[@]}" &
run=$!

# USR1: out of time. TERM: cancelled, and not to come back. Either way the run writes its RESTART first, while bash,
# whose `wait` a signal ends, waits again.
out_of_time=
trap 'out_of_time=yes; kill -TERM "$run" 2>/dev/null' USR1
trap 'out_of_time=; kill -TERM "$run" 2>/dev/null' TERM INT
wait "$run"
while kill -0 "$run" 2>/dev/null; do wait "$run"; done
wait "$run"
status=$?

if [ "$status" -eq 130 ] && [ -n "$out_of_time" ]; then
    # a job whose start alone takes all its time would requeue for ever: count those in which no step was done
    before=none count=0
    [ ! -e "$folder/.requeued" ] || read -r before count <"$folder/.requeued"
    steps=$(cat "$folder"/RESTART "$folder"/*/RESTART 2>/dev/null | grep -o "<step>[^<]*" | cksum)
    steps=${steps// /-}
    if [ "$steps" = "$before" ]; then count=$((count + 1)); else count=0; fi
    echo "$steps $count" >"$folder/.requeued"
    if [ "$count" -ge "${IPI_DRIVER_MAX_REQUEUES:-3}" ]; then
        echo "out of time, and no step was done in the last $count jobs: $folder is not put back into the queue." \
            "Give the job more time, then submit it again" >&2
        exit 1
    fi
    if [ "${IPI_DRIVER_REQUEUE:-yes}" = no ]; then
        echo "out of time; $folder continues in the next job of this name"
    else
        echo "out of time; $folder continues in the next job"
        scontrol requeue "$SLURM_JOB_ID"
    fi
fi
exit "$status"
