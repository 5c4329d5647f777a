#!/bin/sh
# One wheel, built by the Python that is named, under each later Python of this machine: in an
# environment of its own under build/, where only the wheel has the package, the native codec is
# loaded, the codecs are compared, and messages, both roles, the CA and the command line are tested.
# An interpreter that is not there is named.
#
# usage: tools/pythons.sh PYTHON [VERSION...]     3.12 and 3.13 where none is said
#
# Found as python3.12 in PATH, or as the newest 3.12 of pyenv.
set -eu
cd "$(dirname "$0")/.."
unset PYTHONPATH PYSCEP_KERNEL
builder=$1
shift
[ $# -gt 0 ] || set -- 3.12 3.13

# Without what a former build left: setuptools would pack files that are gone since.
rm -rf build/lib build/lib.* build/bdist.* build/wheel
PYSCEP_EXTENSION=require "$builder" -m pip --disable-pip-version-check --quiet wheel --no-deps \
    --no-build-isolation --wheel-dir build/wheel .
wheel=$(ls build/wheel/*.whl)
echo "pythons: $(basename "$wheel"), built by $("$builder" -V)"

find_python() {
    for candidate in "python$1" $(ls -d "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python \
        2>/dev/null | sort -t. -k3 -n -r); do
        # A shim of pyenv is there and runs nothing.
        if "$candidate" -c "import sys, venv, ensurepip
sys.exit('%d.%d' % sys.version_info[:2] != '$1')" >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
}

absent=
for version; do
    python=$(find_python "$version")
    [ -n "$python" ] || { absent="$absent $version"; continue; }
    place=build/python$version
    rm -rf "$place"
    "$python" -m venv "$place"
    own=$PWD/$place/bin/python
    "$own" -m pip --disable-pip-version-check --quiet install --constraint requirements-dev.txt \
        "$wheel[ca,cli,serve,httpx]" starlette pytest pytest-timeout pytest-benchmark hypothesis
    tar -cf - --exclude=__pycache__ tests benchmarks pyproject.toml | tar -xf - -C "$place"
    (
        cd "$place"
        "$own" -c 'import pyscep, pyscep.codec as codec, sys
print("pythons:", sys.version.split()[0], "codec", codec.BACKEND, codec.KERNEL)
assert "site-packages" in pyscep.__file__ and codec.BACKEND == "native"'
        PYSCEP_TWIN_MUTANTS=20000 PYSCEP_BACKEND=native \
            "$own" -m pytest --quiet -p no:cacheprovider -r fE \
            tests/test_twins.py tests/test_codec_*.py tests/test_der.py tests/test_crl.py \
            tests/test_corpus.py tests/test_signed_data.py tests/test_enveloped_data.py \
            tests/test_pkcs10.py tests/test_pki_message.py tests/test_roundtrip.py \
            tests/test_client.py tests/test_server.py tests/test_transport.py \
            tests/test_adapters_*.py tests/test_ca_enrollment.py tests/test_cli_base.py
        PYSCEP_BACKEND=pure "$own" -m pytest --quiet -p no:cacheprovider -r fE \
            tests/test_codec_*.py tests/test_der.py tests/test_roundtrip.py
    )
done
[ -z "$absent" ] || echo "pythons: not on this machine:$absent"
