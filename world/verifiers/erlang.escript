#!/usr/bin/env escript
%% Checks access tokens with Debian's erlang-jose; input and output are those of node.mjs, with the JWKS in "jwks".
main(_) ->
    {ok, _} = application:ensure_all_started(jose),
    ok = io:setopts(standard_io, [binary, {encoding, latin1}]),
    Cases = jiffy:decode(all([]), [return_maps]),
    ok = file:write(standard_io, jiffy:encode([check(C) || C <- Cases])).

all(Read) ->
    case file:read(standard_io, 65536) of
        {ok, Data} -> all([Read, Data]);
        eof -> iolist_to_binary(Read)
    end.

check(#{<<"name">> := Name} = C) ->
    try verify(C) of
        ok -> #{name => Name};
        Refused -> #{name => Name, error => iolist_to_binary(io_lib:format("~0p", [Refused]))}
    catch
        Kind:Reason -> #{name => Name, error => iolist_to_binary(io_lib:format("~0p: ~0P", [Kind, Reason, 12]))}
    end.

verify(#{<<"token">> := Token, <<"algorithm">> := Algorithm, <<"issuer">> := Issuer, <<"audience">> := Audience, <<"jwks">> := #{<<"keys">> := Keys}}) ->
    #{<<"kid">> := Kid} = jiffy:decode(jose_jws:peek_protected(Token), [return_maps]),
    [Key] = [K || #{<<"kid">> := Id} = K <- Keys, Id =:= Kid],
    case jose_jwt:verify_strict(jose_jwk:from_map(Key), [Algorithm], Token) of
        {true, {jose_jwt, #{<<"iss">> := Issuer, <<"aud">> := Audience, <<"exp">> := Expires}}, _} ->
            case Expires > os:system_time(second) of true -> ok; false -> expired end;
        {Good, _, _} -> {signature, Good}
    end.
