# Checks access tokens with Debian's libcrypt-jwt-perl and libmojo-jwt-perl; input and output are those of node.mjs.
use strict;
use warnings;
use Crypt::JWT qw(decode_jwt);
use HTTP::Tiny;
use JSON::PP;
use Mojo::JWT;

sub keys_of { decode_json(HTTP::Tiny->new->get($_[0]{jwksUri})->{content}) }

my %verifiers = (
    'libcrypt-jwt-perl' => sub {
        my $c = shift;
        decode_jwt(
            token => $c->{token}, kid_keys => keys_of($c), accepted_alg => $c->{algorithm}, verify_iss => $c->{issuer}, verify_aud => $c->{audience},
            verify_exp => 1
        );
    },
    'libmojo-jwt-perl' => sub {
        my $c = shift;
        my $jwt = Mojo::JWT->new->add_jwkset(keys_of($c));
        my $claims = $jwt->decode($c->{token});
        die "another algorithm\n" if $jwt->algorithm ne $c->{algorithm};
        die "another issuer\n" if $claims->{iss} ne $c->{issuer};
        die "another audience\n" if $claims->{aud} ne $c->{audience};
    },
);

my @results;
for my $c (@{ decode_json(do { local $/; <STDIN> }) }) {
    my $ok = eval { $verifiers{ $c->{name} }->($c); 1 };
    my $said = $@ || 'refused';
    push @results, $ok ? { name => $c->{name} } : { name => $c->{name}, error => (split /\n/, $said)[0] };
}
print encode_json(\@results);
