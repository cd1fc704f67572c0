#!/bin/bash
#SBATCH --account=lab42
#SBATCH --job-name=stroem-gpu-cluster-5f3c2a10-0000-5000-8000-000000000002
#SBATCH --time=01:00:00
#SBATCH --output=/scratch/ann/output/slurm-gpu-cluster-%j.log
#SBATCH --error=/scratch/ann/output/slurm-gpu-cluster-%j.log

cd /opt/stroem
export STROEM_CONFIG=/etc/w.yaml
stroem_setup() {
module load gcc
export OMP_NUM_THREADS=4
}
export -f stroem_setup
[ -z "${SLURM_MEM_PER_NODE:-}" ] || unset SLURM_MEM_PER_CPU SLURM_MEM_PER_GPU
exec srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --overlap --cpu-bind=none --kill-on-bad-exit=0 --wait=0 bash -c 'set -eE; trap '"'"'echo "the setup of Slurm scheduler gpu-cluster failed ($?): $BASH_COMMAND" >&2'"'"' ERR; stroem_setup; trap - ERR; set +eE; unset -f stroem_setup; cd /opt/stroem; exec "$@"' bash /opt/stroem/bin/python /opt/stroem/manage.py worker --config /etc/w.yaml --job 0199d1b5-0000-7000-8000-000000000001 --allocation 5f3c2a10-0000-5000-8000-000000000002 --scheduler 'gpu cluster' --output-dir /scratch/ann/output --pass-env 'OMP_*' --pass-env LD_LIBRARY_PATH
