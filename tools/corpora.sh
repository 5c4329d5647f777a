#!/bin/sh
# Fetch what other projects test their ASN.1 and X.509 with, as far as PyPI and Debian carry it:
# packages from PyPI, and the test data in the sources of Debian packages. For `make twins-corpora`.
# Nothing of it belongs in this repository: each has its own licence.
#
# usage: tools/corpora.sh DIRECTORY     environment: PYTHON
#
# What can't be had is named. Debian's sources need apt-get and the repositories that the machine
# uses for packages; the machine's own lists and settings stay as they are.
set -eu
mkdir -p "$1"
cd "$1"
directory=$PWD
python=${PYTHON:-python3}

missing() {
    echo "corpora: not to be had here: $1"
}

vectors=$("$python" -c 'import importlib.metadata as m; print(m.version("cryptography"))')
for package in "cryptography_vectors==$vectors" asn1crypto_tests==1.5.1; do
    folder=${package%%=*}
    [ ! -d "$folder" ] || continue
    mkdir -p download
    if "$python" -m pip --disable-pip-version-check --quiet download --no-deps \
        --only-binary :all: --dest download "$package"; then
        "$python" -m zipfile -e download/"$folder"-*.whl "$folder"
    else
        missing "$package of PyPI"
    fi
done

# The same repositories as for packages, but for sources, in lists of our own.
apt() {
    apt-get -qq -o Dir::Etc::SourceParts="$directory/apt/parts" -o Dir::Etc::SourceList=/dev/null \
        -o Dir::State::Lists="$directory/apt/lists" -o APT::Sandbox::User=root "$@"
}
sources() {
    mkdir -p apt/parts apt/lists/partial
    for list in /etc/apt/sources.list.d/*.sources; do
        sed 's/^Types:.*/Types: deb-src/' "$list" >"apt/parts/$(basename "$list")"
    done
    for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ ! -f "$list" ] || sed -n 's/^deb /deb-src /p' "$list" >"apt/parts/$(basename "$list")"
    done 2>/dev/null
    apt update
}

# debian PACKAGE PATTERN...: the files of its source that fit.
debian() {
    package=$1
    shift
    [ ! -d "$package" ] || return 0
    [ -d apt ] || sources || :
    rm -rf "download/$package"
    mkdir -p "download/$package"
    (cd "download/$package" && apt source --download-only --tar-only "$package" >/dev/null 2>&1) || :
    archive=$(ls "download/$package"/*.orig.tar.?z* 2>/dev/null | grep -v '\.asc$' || :)
    [ -n "$archive" ] || { missing "the source of Debian's $package"; return 0; }
    mkdir "$package.part"
    tar -xf "$archive" -C "$package.part" --strip-components=1 --wildcards "$@"
    mv "$package.part" "$package"
    basename "$archive" .orig >"$package/FROM"
}

if command -v apt-get >/dev/null; then
    debian openssl '*/test/*'
    debian gnutls28 '*/tests/*' '*/fuzz/*'
    debian mbedtls '*/tests/data_files/*' '*/programs/fuzz/corpuses/*'
    debian android-platform-external-boringssl '*/wycheproof_testvectors/*' '*/crypto/pkcs7/*' \
        '*/crypto/x509/*'
    debian nss '*/nss/tests/*' '*/wycheproof/source_vectors/*'
    debian botan '*/src/tests/data/*'
else
    missing "Debian's sources, without apt-get"
fi
rm -rf download
for folder in */; do
    [ "$folder" = apt/ ] || echo "corpora: ${folder%/}: $(find "$folder" -type f | wc -l) files"
done
