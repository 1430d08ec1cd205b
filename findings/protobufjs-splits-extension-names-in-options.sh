#!/usr/bin/env bash
# npm protobufjs 7.6.6 and 8.8.1: an extension with a package, within the value of an option, has two spellings in the language,
# `(o).(pkg.known) = true` and `(o) = { [pkg.known]: true }`. protoc reads both and means the same. 7.6.6 refuses the second
# ("illegal name '['"). Of the first, 7.6.6 and 8.8.1 split the name at its dot, brackets and all: parsedOptions of the
# field has `(o)` → `(pkg` → `known)`, which no lookup by the extension's name finds, and nothing is reported.
#
# What helps: the first spelling, which both read without an error, where programs do not read the option's value.
# Rules of protovalidate that a project predefines are such extensions.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true}' > package.json
npm install --ignore-scripts --no-audit --no-fund --loglevel=error p7@npm:protobufjs@7.6.6 p8@npm:protobufjs@8.8.1 >/dev/null

cat > rules.proto <<'P'
syntax = "proto2"; package finding; import "google/protobuf/descriptor.proto";
message Rules { optional uint32 min = 1; extensions 1000 to max; }
extend google.protobuf.FieldOptions { optional Rules o = 50000; }
extend Rules { optional bool known = 1001; }
P
head='syntax = "proto3"; package finding; import "rules.proto";'
echo "$head message M { string a = 1 [(o).(finding.known) = true]; }" > path.proto
echo "$head message M { string a = 1 [(o) = { min: 1 [finding.known]: true }]; }" > literal.proto
if command -v protoc >/dev/null; then
  for file in path.proto literal.proto; do protoc -o /dev/null "$file"; echo "protoc $file: reads it"; done
fi
cat > read.cjs <<'J'
const path = require('node:path');
const [name, file] = process.argv.slice(2);
const protobuf = require(name);
const root = new protobuf.Root();
const own = path.dirname(require.resolve(`${name}/package.json`));
root.resolvePath = (_, target) => (target.startsWith('google/') ? path.join(own, target) : target);
try {
  root.loadSync(file).resolveAll();
  console.log(`reads ${JSON.stringify(root.lookupType('finding.M').fields.a.parsedOptions)}`);
} catch (err) {
  console.log(`refuses it: ${err.message.replace(/ \(.*/, '')}`);
}
J
status=0
expect() { # PACKAGE FILE WORDS
  seen=$(node read.cjs "$1" "$2")
  echo "$1 $2: $seen"
  if [ "$seen" != "$3" ]; then echo "changed: expected \"$3\"" >&2; status=1; fi
}
expect p7 path.proto 'reads [{"(o)":{"(finding":{"known)":true}}}]'
expect p8 path.proto 'reads [{"(o)":{"(finding":{"known)":true}}}]'
expect p7 literal.proto "refuses it: illegal name '['"
expect p8 literal.proto 'reads [{"(o)":{"min":1,"[finding.known]":true}}]'
exit $status
