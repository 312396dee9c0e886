#!/bin/bash
# Trains a task on two machines: `sbatch cluster/slurm.sh TASK --data CORPUS --epochs 20`, from the
# root of the project, on a file system that all machines share. The first machine keeps the state
# and publishes. After the time limit or a failure, the same command continues the training.
#SBATCH --job-name=train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --output=train-%j.log

if [ $# -eq 0 ] || [ "${1#-}" != "$1" ]; then
  echo "usage: sbatch cluster/slurm.sh TASK [flags of app.train]" >&2
  exit 2
fi
task_name=$1
shift
port=$((20000 + SLURM_JOB_ID % 10000))
export WORKERS=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed "s/.*/\"&:$port\"/" | paste -sd,)
srun --kill-on-bad-exit=1 bash -c '
  task="{\"type\": \"worker\", \"index\": $SLURM_PROCID}"
  export TF_CONFIG="{\"cluster\": {\"worker\": [$WORKERS]}, \"task\": $task}"
  exec python -m app.train "$@"
' train "$task_name" --strategy multiworker "$@"
