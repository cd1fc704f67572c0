#!/bin/bash
#SBATCH --account=lab42
#SBATCH --job-name=stroem-small-5f3c2a10-0000-5000-8000-000000000002
#SBATCH --time=01:00:00
#SBATCH --output=/scratch/ann/output/slurm-small-%j.log
#SBATCH --error=/scratch/ann/output/slurm-small-%j.log

cd /opt/stroem
export STROEM_CONFIG=/etc/w.yaml
stroem_setup() {
module load gcc
export OMP_NUM_THREADS=4
}
set -eE; trap 'echo "the setup of Slurm scheduler small failed ($?): $BASH_COMMAND" >&2' ERR
stroem_setup
trap - ERR; set +eE; unset -f stroem_setup
cd /opt/stroem
exec /opt/stroem/bin/python /opt/stroem/manage.py worker --config /etc/w.yaml --job 0199d1b5-0000-7000-8000-000000000001 --allocation 5f3c2a10-0000-5000-8000-000000000002 --scheduler small --output-dir /scratch/ann/output --pass-env 'OMP_*' --pass-env LD_LIBRARY_PATH
