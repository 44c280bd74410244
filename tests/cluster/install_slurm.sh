#!/usr/bin/env bash
# Installs Slurm and munge with apt, for the trial on this machine (`make trial-slurm`). Starts no service and
# changes none that is there: the tests start daemons of their own in a folder of their own.
set -euo pipefail
die() { printf 'error: %s\n' "$@" >&2; exit 2; }

needed='munged slurmctld slurmd sbatch squeue scontrol'
missing() { for tool in $needed; do PATH="$PATH:/usr/sbin" command -v "$tool" >/dev/null || printf '%s ' "$tool"; done; }

[ "$(id -u)" = 0 ] || die 'Slurm is tried as root only: its daemons start the jobs.' 'Run: sudo make trial-slurm'
[ -n "$(missing)" ] || exit 0
command -v apt-get >/dev/null || die "Missing here: $(missing)" "Install Slurm and munge with the system's package manager."
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then # Debian's way to say that a package must start no service
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
  trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends slurm-wlm munge >/dev/null
[ -z "$(missing)" ] || die "Still missing after the installation of slurm-wlm and munge: $(missing)"
