// Package authverify checks Latchkey's access tokens inside other Go services: signature, claims and
// revocations, in process, without a call for each request.
//
// A [Verifier] fetches the issuer's keys and follows its revocations over one gRPC stream.
// [Verifier.UnaryInterceptor], [Verifier.StreamInterceptor] and [Verifier.Middleware] put it before gRPC and
// HTTP handlers, [ClaimsFrom] tells them who calls; package authverifytest is an issuer for tests.
//
// # What is promised
//
// While the stream runs, a revocation is known some milliseconds after Latchkey has it, and from then on
// every token that it reaches is refused. If no proof that all revocations are known has come for
// [Config.MaxStaleness], tokens are refused (or accepted, with [Config.FailOpen]) until one comes. So after a
// revocation its tokens are accepted for MaxStaleness at most, plus 3 s if the network delays data on its
// way: a stream is given up when its heartbeat is 3 s late. Latchkey itself promises more: its ValidateToken
// refuses the token as soon as the revoking call returns.
//
// # How tokens are read
//
// Nothing of a token's claims is read before its signature holds, and anything ambiguous is refused: a member
// named twice, bytes after the object, a second spelling of the same token. Signature checks are those of
// golang-jwt; its parser is not used, for it reads claims first, lets the last of two members of one name
// win, and matches names without regard to case.
package authverify
