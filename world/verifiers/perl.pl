# Checks access tokens with Debian's libcrypt-jwt-perl; in and out as in node.mjs.
use strict;
use warnings;
use Crypt::JWT qw(decode_jwt);
use HTTP::Tiny;
use JSON::PP;

my @results;
for my $c (@{ decode_json(do { local $/; <STDIN> }) }) {
    my $ok = eval {
        my $keys = decode_json(HTTP::Tiny->new->get($c->{jwksUri})->{content});
        decode_jwt(token => $c->{token}, kid_keys => $keys, accepted_alg => $c->{algorithm}, verify_iss => $c->{issuer}, verify_aud => $c->{audience}, verify_exp => 1);
        1;
    };
    my $said = $@ || 'refused';
    push @results, $ok ? { name => $c->{name} } : { name => $c->{name}, error => (split /\n/, $said)[0] };
}
print encode_json(\@results);
