#!/bin/sh
# Writes gen/, the Python code of the contract, from the descriptor set: protoc of Debian 12 and Ubuntu 24.04 (3.21) cannot
# read the proto files themselves. Needs the packages protobuf-compiler and protobuf-compiler-grpc.
set -eu
cd "$(dirname "$0")"
mkdir -p gen
protoc --descriptor_set_in=../../gen/descriptors/latchkey.binpb \
  --python_out=gen --grpc_python_out=gen --plugin=protoc-gen-grpc_python="$(command -v grpc_python_plugin)" \
  latchkey/v1/auth_service.proto latchkey/v1/revocation_service.proto latchkey/v1/user.proto \
  latchkey/v1/error_reason.proto latchkey/v1/factor.proto latchkey/v1/policy.proto latchkey/v1/rules.proto buf/validate/validate.proto \
  google/rpc/status.proto google/rpc/error_details.proto
