#!/bin/sh
# Damaged directories, for SECONDS (30): controls first, then random cases. SEED repeats a run.
set -eu
cd "$(dirname "$0")/../../.."
KEEP=${KEEP:-${BUILD:-build}} exec "${BUILD:-build}/lab/wreck"
