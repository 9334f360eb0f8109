#!/bin/sh
# Damaged directories, for SECONDS (30): controls first, then random cases. SEED (1) draws others.
set -eu
cd "$(dirname "$0")/../../.."
SEED=${SEED:-1} KEEP=${KEEP:-${BUILD:-build}} exec "${BUILD:-build}/lab/wreck"
