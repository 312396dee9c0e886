#!/bin/bash
# Two machines train together: `sbatch cluster/slurm.sh --data CORPUS --epochs 20`, from the
# root of the project, on a file system that all of them have. The first keeps the state and
# publishes. Ended by the time limit or by a fault, the same command goes on.
#SBATCH --job-name=train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --output=train-%j.log

port=$((20000 + SLURM_JOB_ID % 10000))
export WORKERS=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed "s/.*/\"&:$port\"/" | paste -sd,)
srun --kill-on-bad-exit=1 bash -c '
  task="{\"type\": \"worker\", \"index\": $SLURM_PROCID}"
  export TF_CONFIG="{\"cluster\": {\"worker\": [$WORKERS]}, \"task\": $task}"
  exec python -m app.train sentiment --strategy multiworker "$@"
' train "$@"
