#!/bin/bash
#SBATCH --account=lab42
#SBATCH --job-name=stroem-small-5f3c2a10-0000-5000-8000-000000000002
#SBATCH --time=01:00:00
#SBATCH --output=/scratch/ann/output/slurm-small-%j.log
#SBATCH --error=/scratch/ann/output/slurm-small-%j.log

cd /opt/stroem
export STROEM_CONFIG=/etc/stroem/nodes.yaml
exec /opt/stroem/bin/python /opt/stroem/manage.py worker --config /etc/stroem/nodes.yaml --job 0199d1b5-0000-7000-8000-000000000001 --allocation 5f3c2a10-0000-5000-8000-000000000002 --scheduler small --output-dir /scratch/ann/output
