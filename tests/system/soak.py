#!/usr/bin/env python3
"""The soak test, short: see tests/programs/soak.c. SECONDS: 60 (`make soak`: 600); SEED: a new one each time."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

root = pathlib.Path(__file__).resolve().parent.parent.parent
program = root / os.environ.get("BUILD", "build") / "programs" / "soak"
seed = os.environ.get("SEED") or str(time.time_ns() % 1000000)
scratch = tempfile.mkdtemp(prefix="spool-soak-")
done = subprocess.run([program, "--dir", scratch + "/spool", "--seconds", os.environ.get("SECONDS", "60"), "--seed", seed])
if done.returncode in (0, 1):
    shutil.rmtree(scratch)
else:
    print(f"the spool is left in {scratch}")
    print("RESULT 0 1")
sys.exit(done.returncode)
