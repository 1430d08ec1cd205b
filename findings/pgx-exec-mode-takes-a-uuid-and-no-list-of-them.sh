#!/usr/bin/env bash
# github.com/jackc/pgx/v5 v5.12.0 with github.com/google/uuid v1.6.0: the URL parameter default_query_exec_mode, which
# poolers make people set, decides which Go types a query takes. In the modes exec and simple_protocol one uuid.UUID goes
# (by its Value method) and []uuid.UUID does not ("unable to encode … into text format for unknown type (OID 0)"), though
# the statement says $1::uuid[]. The two other modes ask the server for the type and take both. So queries that were
# tested without a pooler fail behind one, those with = ANY($1) only.
#
# Seen: cache_statement and describe_exec take both; exec and simple_protocol take one, not the list.
# What helps: conn.TypeMap().RegisterDefaultPgType([]uuid.UUID{}, "_uuid") when a connection is made.
# Needs PostgreSQL's server (Debian's package postgresql), which it installs as root where it is missing.
set -euo pipefail
find_bin() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1; }
if [ -z "$(find_bin)" ]; then
  apt-get update -q >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends postgresql >/dev/null
fi
bin=$(find_bin)
dir=$(mktemp -d)
as=()
if [ "$(id -u)" -eq 0 ]; then # PostgreSQL refuses to run as root
  chown postgres "$dir"
  as=(runuser -u postgres --)
fi
trap '(cd /; "${as[@]}" "$bin/pg_ctl" -D "$dir/data" -m immediate stop >/dev/null; rm -rf "$dir")' EXIT
cd "$dir"
"${as[@]}" "$bin/initdb" -D "$dir/data" -A trust -U postgres >/dev/null
"${as[@]}" "$bin/pg_ctl" -D "$dir/data" -l "$dir/log" -o "-k $dir -c listen_addresses=" -w start >/dev/null
mkdir main && cd main
cat > go.mod <<'M'
module finding
go 1.26
require github.com/google/uuid v1.6.0
require github.com/jackc/pgx/v5 v5.12.0
M
cat > main.go <<'M'
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

func main() {
	ctx := context.Background()
	id := uuid.MustParse("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
	for _, mode := range []string{"cache_statement", "describe_exec", "exec", "simple_protocol"} {
		conn, err := pgx.Connect(ctx, os.Args[1]+"&default_query_exec_mode="+mode)
		if err != nil {
			panic(err)
		}
		var text string
		one := conn.QueryRow(ctx, "SELECT $1::uuid::text", id).Scan(&text) == nil
		list := conn.QueryRow(ctx, "SELECT ($1::uuid[])[1]::text", []uuid.UUID{id}).Scan(&text) == nil
		fmt.Printf("%s: one %v, list %v\n", mode, one, list)
		conn.Close(ctx)
	}
}
M
export GOFLAGS=-mod=mod
go mod tidy >/dev/null 2>&1
seen=$(go run . "postgres://postgres@/postgres?host=$dir")
echo "$seen"
want='cache_statement: one true, list true
describe_exec: one true, list true
exec: one true, list false
simple_protocol: one true, list false'
[ "$seen" = "$want" ] || { echo "this has changed; it was:"; echo "$want"; exit 1; }
