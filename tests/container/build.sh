#!/usr/bin/env bash
# Builds the Containerfile and tries its image: `make trial-container`. Root on Debian or Ubuntu; needs podman,
# mmdebstrap and git, the network, a quiet machine, a quarter of an hour, and 4 GB in TMPDIR, removed at the end.
# No registry of images is asked: the base is made of Debian's packages.
#
# PROFILE=FILE adds a turn under a seccomp profile of Docker's, in which user name spaces are refused.
set -euo pipefail
cd "$(dirname "$0")/../.."
# A view of the file system of its own: mounts end with it, and crun refuses control groups in two versions at once.
if [ -z "${OWN_VIEW:-}" ]; then OWN_VIEW=yes exec unshare --mount bash tests/container/build.sh; fi
umount /sys/fs/cgroup/unified 2>/dev/null || true
campaign=$(du -s data/measurements/*/ 2>/dev/null | sort -n | head -n 1 | cut -f 2 | xargs -r basename)
[ -n "$campaign" ] || { echo "error: no campaign in data/measurements; run: make import ARCHIVE=FILE" >&2; exit 2; }
for tool in podman mmdebstrap git; do
  command -v "$tool" >/dev/null || { echo "error: no $tool here; run: apt-get install podman mmdebstrap git" >&2; exit 2; }
done

folder=$(mktemp -d "${TMPDIR:-/var/tmp}/trial-container.XXXXXX")
base=localhost/base image=localhost/llm-runtime-energy
# Limits that root may set without the right to raise them.
contained=(run --rm --network none --cgroups disabled --ulimit nofile=1024:1024 --ulimit nproc=4096:4096)
podman=(podman --root "$folder/storage" --runroot "$folder/run" --cgroup-manager cgroupfs)
clean() {
  "${podman[@]}" rm -af >/dev/null 2>&1 || true
  findmnt -rno TARGET | { grep -F "$folder/" || true; } | sort -r | xargs -r umount
  rm -rf "$folder"
}
trap clean EXIT

# Certificates and pip's settings of this machine: without them a build behind its proxy or mirror reaches nothing.
own=/usr/local/share/ca-certificates trust=() settings=()
if compgen -G "$own/*.crt" >/dev/null; then
  trust=("--customize-hook=copy-in $own $(dirname "$own")" '--customize-hook=chroot "$1" update-ca-certificates')
fi
if [ -e /etc/pip.conf ]; then settings=(--volume /etc/pip.conf:/etc/pip.conf:ro); fi

echo "== base of Debian's packages"
mmdebstrap --quiet --variant=minbase --include=ca-certificates "${trust[@]}" bookworm "$folder/base.tar"
"${podman[@]}" import --quiet "$folder/base.tar" "$base" >/dev/null
rm "$folder/base.tar"

echo "== image of the Containerfile"
"${podman[@]}" build --quiet --isolation chroot --network host "${settings[@]}" --build-arg BASE="$base" -t "$image" .
"${podman[@]}" images --format '{{.Repository}} {{.Size}}' "$image"
held=$("${podman[@]}" "${contained[@]}" --entrypoint find "$image" /study -maxdepth 1 -printf '%f\n')
for name in .git .venv .venvs resources tests; do
  if grep -qxF -- "$name" <<<"$held"; then echo "error: the image holds $name, which .dockerignore leaves out" >&2; exit 1; fi
done

run() { "${podman[@]}" "${contained[@]}" --volume "$folder/results:/study/results" "$@"; }
python() { # flags of podman, then --, then what Python is given; the tests are no part of the image
  local flags=()
  while [ "$1" != -- ]; do flags+=("$1"); shift; done
  run --volume "$PWD/tests:/study/tests:ro" --env PYTHONPATH=workflow/scripts --env PYTHONDONTWRITEBYTECODE=1 \
    --entrypoint .venv-review/bin/python "${flags[@]}" "$image" -P "${@:2}"
}
install -d -m 777 "$folder/results" "$folder/outside"

echo "== the same review inside and outside"
run "$image" review CAMPAIGN="$campaign" >"$folder/inside.log" 2>&1 || { tail -n 40 "$folder/inside.log"; exit 1; }
git ls-files -coz --exclude-standard | tar --null --ignore-failed-read -T - -c | tar -x -C "$folder/outside"
make -C "$folder/outside" review CAMPAIGN="$campaign" >"$folder/outside.log" 2>&1 || { tail -n 40 "$folder/outside.log"; exit 1; }
diff -rq "$folder/outside/results/archive/$campaign" "$folder/results/archive/$campaign"
echo "review: $(find "$folder/results/archive/$campaign" -type f | wc -l) files, the same bytes"

grading() { # flags of podman
  python "$@" -- tests/container/trial.py facts
  python "$@" -- tests/container/trial.py samples results/samples.jsonl
  run "$@" "$image" grade SAMPLES=results/samples.jsonl OUT=results/verdicts.jsonl
  python "$@" -- tests/container/trial.py verdicts results/verdicts.jsonl
  for layers in bubblewrap alone; do
    python "$@" -- tests/hostile_run.py "$layers" >"$folder/results/hostile.json"
    python "$@" -- tests/container/trial.py hostile results/hostile.json
  done
}
echo "== grading, as podman confines a container"
grading
echo "== grading, as a user of any number"
chmod -R a+rwX "$folder/results"
grading --user 54321:54321
if [ -n "${PROFILE:-}" ]; then
  echo "== grading, with the profile $PROFILE"
  chmod -R a+rwX "$folder/results"
  grading --security-opt seccomp="$PROFILE"
fi
