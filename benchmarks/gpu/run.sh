#!/usr/bin/env bash
# Everything that needs a GPU, in one run of at most 8 minutes; writes one file.
#
#   benchmarks/gpu/run.sh                                  # on a GPU: benchmarks/gpu/results.md
#   benchmarks/gpu/run.sh cpu /tmp/rehearsal.md "1 2"      # rehearsal without one, with small sizes
#
# Needs torch with CUDA; metatrain, metatomic-torch and pet-kokkos (with its CUDA build) take part where installed.
set -uo pipefail
device=${1:-cuda}
output=${2:-benchmarks/gpu/results.md}
molecules=${3:-"1 64 512"}
cd "$(dirname "$0")/../.."
largest=${molecules##* }

part() { # part SECONDS TITLE COMMAND...: its output under a title, whatever happens in it
  local limit=$1 title=$2
  shift 2
  printf '\n## %s\n\n' "$title" >> "$output"
  timeout "$limit" "$@" >> "$output" 2>&1 || printf '\n(ended with status %s)\n' "$?" >> "$output"
}

printf '# GPU results\n\n' > "$output"
if [ "$device" = cuda ]; then
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv >> "$output" 2>&1
fi
python -c 'import torch; print("torch", torch.__version__)' >> "$output"

part 60 "Tests" python -m pytest -q -m gpu tests/networks
engines=(python -W ignore benchmarks/engines.py --device "$device" --seconds 4 --molecules $molecules)
part 110 "Engines, float32" "${engines[@]}" --average-up-to "$largest"
if [ "$device" = cuda ]; then
  IPI_DRIVER_KERNELS=off part 90 "Engines, float32, separate operations" "${engines[@]}" --average-up-to "$largest"
  part 60 "Engines, TF32" "${engines[@]}" --average-up-to 1 --tf32
fi
part 100 "Memory, error of TF32, share of the matrix products" \
  python -W ignore benchmarks/gpu/report.py --device "$device" --molecules $molecules
printf '\n(%s s in all)\n' "$SECONDS" >> "$output"
echo "written: $output"
