#!/usr/bin/env bash
# npm protobufjs 7.6.6 (which @grpc/proto-loader 0.8.1 depends on): a list of messages inside an option's message literal,
# `option (o) = { rule: [ { id: "a" } ] }`, is refused with "illegal value '{'". protoc and buf read it, as the grammar of the
# language has it (a list literal may hold messages), and so does protobufjs 8.8.1. buf's validate.proto is written that way when
# it is printed from its descriptor, so @grpc/proto-loader reads no proto file that imports it.
#
# Seen: 7.6.6 refuses the list and reads the same options one by one; 8.8.1 reads both.
# What helps: write `option (o).rule = { id: "a" };` once for each message.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true}' > package.json
npm install --ignore-scripts --no-audit --no-fund --loglevel=error p7@npm:protobufjs@7.6.6 p8@npm:protobufjs@8.8.1 >/dev/null

head='syntax = "proto3"; package finding; import "google/protobuf/descriptor.proto";
message Rule { string id = 1; } message Rules { repeated Rule rule = 1; }
extend google.protobuf.MessageOptions { Rules o = 50000; }'
echo "$head message M { option (o) = { rule: [ { id: \"a\" }, { id: \"b\" } ] }; }" > list.proto
echo "$head message M { option (o).rule = { id: \"a\" }; option (o).rule = { id: \"b\" }; }" > single.proto
cat > read.cjs <<'J'
const path = require('node:path');
const [name, file] = process.argv.slice(2);
const protobuf = require(name);
const root = new protobuf.Root();
const own = path.dirname(require.resolve(`${name}/package.json`));
root.resolvePath = (_, target) => (target.startsWith('google/') ? path.join(own, target) : target);
try {
  root.loadSync(file).resolveAll();
  console.log('reads it');
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
expect p7 list.proto "refuses it: illegal value '{'"
expect p7 single.proto "reads it"
expect p8 list.proto "reads it"
expect p8 single.proto "reads it"
exit $status
