#!/usr/bin/env bash
# mod_auth_openidc 2.4.12.3 (Debian 12, libapache2-mod-auth-openidc): httpd does not start when the URL of a JWKS or of an
# endpoint is http, loopback included, while the URL of a metadata document that names those may be http. So a sample that
# works against an issuer on this machine fails at the start as soon as its JWKS is named by itself.
#
# Seen: OIDCOAuthVerifyJwksUri http://127.0.0.1:8080/… is refused, OIDCOAuthServerMetadataURL of the same host is taken.
# What helps: serve the JWKS over https and name the authority with OIDCCABundlePath.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
chmod 755 "$dir"
cd "$dir"
apt-get -q download libapache2-mod-auth-openidc=2.4.12.3-2+deb12u5 \
  apache2-bin libapr1 libaprutil1 libcjose0 libhiredis0.14 libjansson4 libpcre2-8-0 >/dev/null 2>&1
for package in *.deb; do dpkg-deb -x "$package" root; done
lib=$(dirname "$(find "$dir/root" -name 'libcjose.so*' | head -n 1)")
modules=$dir/root/usr/lib/apache2/modules

# said prints what the check of a configuration with one more line ends with.
said() {
  cat > httpd.conf <<C
LoadModule mpm_event_module $modules/mod_mpm_event.so
LoadModule authn_core_module $modules/mod_authn_core.so
LoadModule authz_core_module $modules/mod_authz_core.so
LoadModule auth_openidc_module $modules/mod_auth_openidc.so
ServerName localhost
Listen 127.0.0.1:8999
ErrorLog /dev/stderr
$1
C
  LD_LIBRARY_PATH=$lib root/usr/sbin/apache2 -d "$dir" -f "$dir/httpd.conf" -t 2>&1 | tail -n 1
}

jwks=$(said 'OIDCOAuthVerifyJwksUri http://127.0.0.1:8080/.well-known/jwks.json' || true)
metadata=$(said 'OIDCOAuthServerMetadataURL http://127.0.0.1:8080/.well-known/oauth-authorization-server' || true)
echo "JWKS: $jwks"
echo "metadata: $metadata"
[[ $jwks == *'cannot be parsed as a "https" URL'* && $metadata == 'Syntax OK' ]] || { echo "the behaviour has changed" >&2; exit 1; }
