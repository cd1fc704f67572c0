#!/bin/bash
#SBATCH --account=lab42
#SBATCH --job-name=stroem-gpu-cluster-5f3c2a10-0000-5000-8000-000000000002
#SBATCH --time=04:00:00
#SBATCH --output=/scratch/ann/output/slurm-gpu-cluster-%j.log
#SBATCH --error=/scratch/ann/output/slurm-gpu-cluster-%j.log
#SBATCH --constraint=skylake
#SBATCH --gres=gpu:4
#SBATCH --mem=90G
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --partition=gpu
#SBATCH --qos=high
#SBATCH --requeue
#SBATCH --mail-type=FAIL --exclusive

cd /opt/stroem
export STROEM_CONFIG='/home/ann/stroem nodes.yaml'
[ -z "${SLURM_MEM_PER_NODE:-}" ] || unset SLURM_MEM_PER_CPU SLURM_MEM_PER_GPU
exec srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --overlap --cpu-bind=none --kill-on-bad-exit=0 --wait=0 /opt/stroem/bin/python /opt/stroem/manage.py worker --config '/home/ann/stroem nodes.yaml' --job 0199d1b5-0000-7000-8000-000000000001 --allocation 5f3c2a10-0000-5000-8000-000000000002 --scheduler 'gpu cluster' --output-dir /scratch/ann/output --max-parallel-jobs 8
