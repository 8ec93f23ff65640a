#!/bin/bash
# Training on two nodes of four GPUs each.   sbatch examples/slurm.sh recipes/mambair-igconv-plus.yaml
# In the run file: device: cuda, and accumulate a multiple of the eight processes. Sent again after a time limit, the
# run goes on where it stopped: SLURM's signal lets the step end and a checkpoint be written.
#SBATCH --job-name=polyres
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue

set -euo pipefail
run=${1:?give a run file}
output=$(sed -n 's/^output: *//p' "$run")
resume=()
if compgen -G "$output/step-*.ckpt" > /dev/null; then resume=(--resume); fi

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun torchrun --nnodes "$SLURM_NNODES" --nproc-per-node 4 \
  --rdzv-backend c10d --rdzv-endpoint "$head:29500" --rdzv-id "$SLURM_JOB_ID" \
  -m polyres train "$run" "${resume[@]}"
